package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"holdfast/fs/remote"
	"holdfast/internal/config"
)

// Exit bits of mount(8).
const (
	mountUsage  = 1
	mountSystem = 2
	mountFailed = 32
)

func newMount(g *globals) *cobra.Command {
	var options, kind string
	var daemon, sloppy, fake, noMtab, verbose bool
	c := &cobra.Command{
		Use:   "mount ORIGIN:/PATH DIR",
		Short: "Mount an NFS server for local applications, without re-export",
		Long: `Mount an NFS server for local applications, without re-export. There is no fence: the first open
or lock ends recovery (RECLAIM_COMPLETE), so an NFS server started on it later has no grace.

As /sbin/mount.holdfast it is a helper of mount(8): mount -t holdfast filer:/proj /mnt -o nconnect=4
Exit codes are those of mount(8): 1 usage, 2 system, 32 mount failed.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			settings := func() (*config.Config, error) { return mountSettings(g, args[0], args[1], options) }
			if fake {
				_, err := settings()
				return mountExit(err)
			}
			if daemon {
				return mountExit(detach(settings))
			}
			return failed(mountExit(runMount(cmd.Context(), settings)))
		},
	}
	f := c.Flags()
	f.StringVarP(&options, "options", "o", "", "nfs(5) options, as vers=4.2,nconnect=4,port=2049,soft,actimeo=3")
	f.BoolVarP(&daemon, "daemon", "d", false, "go to the background; returns when it is mounted or has failed")
	f.BoolVarP(&sloppy, "sloppy", "s", false, "for mount(8); has no effect")
	f.BoolVarP(&fake, "fake", "f", false, "for mount(8): do everything but mount")
	f.BoolVarP(&noMtab, "no-mtab", "n", false, "for mount(8); has no effect")
	f.BoolVarP(&verbose, "verbose", "v", false, "for mount(8); has no effect")
	f.StringVarP(&kind, "types", "t", "", "for mount(8); has no effect")
	return c
}

func mountSettings(g *globals, origin, dir, options string) (*config.Config, error) {
	cfg, err := g.load()
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := addOrigins(cfg, []string{origin}, options); err != nil {
		return nil, withExit(exitUsage, err)
	}
	cfg.Exports, cfg.ExportsFile = nil, ""
	cfg.Mounts = []config.Mount{{Origin: cfg.Origins[0].Name, Dir: dir, AllowOther: true}}
	if cfg.Sources["instance"] == "" && cfg.StateDir == "" {
		// each mount point is an instance of its own
		cfg.Instance = "mount" + strings.ReplaceAll(dir, "/", "-")
	}
	return cfg, nil
}

// mountExit turns exit codes into those of mount(8).
func mountExit(err error) error {
	var exit *exitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.code == exitUsage:
		return withExit(mountUsage, exit.err)
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.ENOMEM):
		return withExit(mountSystem, err)
	}
	return withExit(mountFailed, err)
}

func runMount(ctx context.Context, settings func() (*config.Config, error)) (err error) {
	in, ctx, err := newInstance(ctx, "mount", settings)
	if err != nil {
		return err
	}
	cfg := in.cfg
	defer func() { err = errors.Join(err, in.close()) }()
	c := &client{in: in, origins: map[string]*remote.Remote{}}
	in.client = c
	in.setPhase("connecting")
	defer func() { err = errors.Join(err, c.shutdown()) }()
	if err := c.connect(ctx, false); err != nil {
		return err
	}
	// without a fence the backend must be there before the mount is seen
	if _, err := c.localMounts(ctx); err != nil {
		return err
	}
	in.setPhase("serving")
	if err := ready("mounted on " + cfg.Mounts[0].Dir); err != nil {
		in.log.Warn("cannot tell the starter", "err", err)
	}
	gone := make(chan struct{})
	go func() {
		for _, m := range c.mounts {
			<-m.Done()
		}
		close(gone)
	}()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-hup: // nothing that a mount has can be reloaded
		case <-gone: // umount(8)
			return nil
		case <-ctx.Done():
			in.setPhase("stopping")
			return nil
		}
	}
}

func newUmount(*globals) *cobra.Command {
	var lazy bool
	c := &cobra.Command{
		Use: "umount DIR", Short: "Unmount a local mount", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			flags := 0
			if lazy {
				flags = syscall.MNT_DETACH
			}
			if err := syscall.Unmount(args[0], flags); err != nil {
				hint := ""
				if errors.Is(err, syscall.EBUSY) {
					hint = "; somebody uses it: fuser -m shows who, -l detaches it anyway"
				}
				return fmt.Errorf("umount %s: %w%s", args[0], err, hint)
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&lazy, "lazy", "l", false, "detach now, clean up when nobody uses it")
	return c
}
