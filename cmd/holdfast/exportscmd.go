package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/config"
)

func newExports(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "exports", Short: "List the exports, load them again, or ask what a client would get"}
	c.AddCommand(&cobra.Command{
		Use: "list", Short: "List the exports of the configuration with all options spelled out", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := g.load()
			if err != nil {
				return err
			}
			all, err := cfg.ExportList()
			if err != nil {
				return withExit(exitUsage, err)
			}
			var rows []string
			for _, e := range all {
				for _, c := range e.Clients {
					rows = append(rows, row(e.Path, c.Pattern, strings.Join(exportOptions(e, &c), ",")))
				}
			}
			if g.json {
				return printJSON(map[string]any{"schema": 1, "items": all})
			}
			return table(row("PATH", "CLIENT", "OPTIONS"), rows)
		},
	}, &cobra.Command{
		Use: "reload", Short: "Let the running instance take its exports from the file again", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.dial()
			if err != nil {
				return err
			}
			var answer struct {
				Restart []string `json:"restart_needed_for"`
			}
			if err := client.Post(cmd.Context(), "/v1/reload", nil, &answer); err != nil {
				return err
			}
			if !g.quiet {
				fmt.Println("reloaded")
				for _, n := range answer.Restart {
					fmt.Println("needs a restart:", n)
				}
			}
			return nil
		},
	}, newExportsTest(g))
	return c
}

func exportOptions(e *config.Export, c *config.ExportClient) []string {
	pick := func(b bool, yes, no string) string {
		if b {
			return yes
		}
		return no
	}
	squash := map[string]string{"root": "root_squash", "none": "no_root_squash", "all": "all_squash"}[c.Squash]
	out := []string{pick(c.ReadWrite, "rw", "ro"), "sync", pick(c.Insecure, "insecure", "secure"), squash,
		fmt.Sprintf("anonuid=%d", c.AnonUID), fmt.Sprintf("anongid=%d", c.AnonGID), "sec=" + pick(c.Sec == "", "sys:none", c.Sec)}
	if e.FSID != 0 {
		out = append(out, fmt.Sprintf("fsid=%d", e.FSID))
	}
	for _, l := range []struct {
		key  string
		list []config.Location
	}{{"refer", e.Refer}, {"replicas", e.Replicas}} {
		if len(l.list) > 0 {
			out = append(out, l.key+"="+locations(l.list))
		}
	}
	return out
}

// locations writes locations as refer= has them.
func locations(list []config.Location) string {
	var out []string
	for _, l := range list {
		hosts := make([]string, len(l.Hosts))
		for i, h := range l.Hosts {
			if hosts[i] = h; strings.Contains(h, ":") {
				hosts[i] = "[" + h + "]"
			}
		}
		out = append(out, l.Path+"@"+strings.Join(hosts, "+"))
	}
	return strings.Join(out, ":")
}
