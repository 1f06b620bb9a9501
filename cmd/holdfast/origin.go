package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"holdfast/fs/local"
	"holdfast/internal/config"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

func newOrigin(g *globals) *cobra.Command {
	var exports []string
	var daemon bool
	c := &cobra.Command{
		Use:   "origin DIR",
		Short: "Serve a local directory, as an original server that is friendly to re-exports",
		Long: `Serve a local directory by NFS 3, 4.1 and 4.2. When a client that was rebooted comes back, its locks
are held for it until it has reclaimed them (--retain), and nobody else gets them meanwhile: this is
what a re-export server needs to survive its own reboots.

  holdfast origin /srv/data --export '/data *(rw)' --lease 90s`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			settings := func() (*config.Config, error) { return originSettings(g, exports) }
			if daemon {
				return detach(settings)
			}
			return failed(runOrigin(cmd.Context(), settings, args[0]))
		},
	}
	c.Flags().StringArrayVar(&exports, "export", nil, "path and clients, as in exports(5): '/data *(rw)'")
	c.Flags().BoolVarP(&daemon, "daemon", "d", false, "go to the background; returns when service has begun or failed")
	return c
}

func originSettings(g *globals, exports []string) (*config.Config, error) {
	cfg, err := g.load()
	if err != nil {
		return nil, err
	}
	if len(exports) > 0 {
		cfg.Exports = exports
	}
	if len(cfg.Exports) == 0 && cfg.ExportsFile == "" {
		cfg.Exports = []string{"/ *(rw,root_squash,insecure)"}
	}
	return cfg, oneDirectory(cfg)
}

// oneDirectory refuses exports of more than one path, besides referrals.
func oneDirectory(cfg *config.Config) error {
	list, err := cfg.ExportList()
	if err != nil {
		return withExit(exitUsage, err)
	}
	n := 0
	for _, e := range list {
		if len(e.Refer) == 0 {
			n++
		}
	}
	if n != 1 {
		return withExit(exitUsage, fmt.Errorf("origin serves one directory, so it takes one path to export, besides referrals; here are %d", n))
	}
	return nil
}

func runOrigin(ctx context.Context, settings func() (*config.Config, error), dir string) (err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return withExit(exitUsage, fmt.Errorf("%s is not a directory that can be served: %w", dir, errors.Join(err)))
	}
	in, ctx, err := newInstance(ctx, "origin", settings)
	if err != nil {
		return err
	}
	cfg := in.cfg
	defer func() { err = errors.Join(err, in.close()) }()
	b, err := local.New(ctx, local.Config{Dir: dir, StateDir: filepath.Join(cfg.Dir(), "local"), Logger: in.log,
		Delegate: delegateLocal[cfg.Delegate.Value]})
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := in.ending()
		defer cancel()
		err = errors.Join(err, b.Close(stop))
	}()
	st, err := in.stateConfig()
	if err != nil {
		return err
	}
	st.CourtesyLimit = cfg.Courtesy.Std()
	st.UnknownReclaim = state.UnknownRefuse
	in.exports = func(cfg *config.Config) ([]nfsdown.Export, error) {
		return exportsOf(cfg, func(string) (nfsdown.Export, error) { return nfsdown.Export{Backend: b}, nil })
	}
	exports, err := in.exports(cfg)
	if err != nil {
		return err
	}
	srv, err := nfsdown.New(nfsdown.Config{Exports: exports, Journal: in.journal, State: st, Logger: in.log, MaxConns: cfg.MaxConns,
		IDDomain: cfg.IDDomain, ManageGIDs: cfg.ManageGIDs.Value == "on"})
	if err != nil {
		return err
	}
	if err := in.addPrograms(srv); err != nil {
		return err
	}
	in.server = srv
	return in.serve(ctx, srv, func() {})
}
