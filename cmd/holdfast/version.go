package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set at build time with -ldflags "-X main.version=...".
var version = "development"

type versionInfo struct {
	Schema  int    `json:"schema"`
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	Badger  string `json:"badger,omitempty"`
	GoFuse  string `json:"go_fuse,omitempty"`
}

func readVersion() versionInfo {
	v := versionInfo{Schema: 1, Version: version, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value
		}
	}
	for _, d := range info.Deps {
		switch d.Path {
		case "github.com/dgraph-io/badger/v4":
			v.Badger = d.Version
		case "github.com/hanwen/go-fuse/v2":
			v.GoFuse = d.Version
		}
	}
	return v
}

func newVersion(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
			if g.json {
				return printJSON(v)
			}
			_, err := fmt.Printf("holdfast %s %s, %s, badger %s, go-fuse %s\n", v.Version, v.Commit, v.Go, v.Badger, v.GoFuse)
			return err
		},
	}
}
