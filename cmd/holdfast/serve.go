package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast/fs"
	"holdfast/fs/fuse"
	"holdfast/fs/remote"
	"holdfast/fs/remote/diskcache"
	"holdfast/internal/config"
	"holdfast/internal/crash"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

func newServe(g *globals) *cobra.Command {
	var exports []string
	var mountDir, options string
	var daemon bool
	c := &cobra.Command{
		Use:   "serve [ORIGIN:/PATH...]",
		Short: "Re-export an NFS server, with locks that survive reboots",
		Long: `Re-export an NFS server. End clients mount this host; opens and locks are forwarded to the
origin, and a journal of them lets clients reclaim after this host was killed and started again.
With --mount local applications see the same files; they are fenced until re-export begins.

  holdfast serve filer:/proj --export '/proj 10.0.0.0/8(rw)' --mount /mnt/proj`,
		RunE: func(cmd *cobra.Command, args []string) error {
			settings := func() (*config.Config, error) { return serveSettings(g, args, options, mountDir, exports) }
			if daemon {
				return detach(settings)
			}
			return failed(runServe(cmd.Context(), settings))
		},
	}
	f := c.Flags()
	f.StringArrayVar(&exports, "export", nil, "whom to export to, as in exports(5): '/proj 10.0.0.0/8(rw)'; repeatable")
	f.StringVar(&mountDir, "mount", "", "also mount it here for local applications")
	f.StringVarP(&options, "options", "o", "", "how to mount the origin: nfs(5) options, as vers=4.2,nconnect=4,port=2049")
	f.BoolVarP(&daemon, "daemon", "d", false, "go to the background; returns when service has begun or failed")
	return c
}

// serveSettings is file, environment and flags, with what serve's own flags and arguments add.
func serveSettings(g *globals, args []string, options, mountDir string, exports []string) (*config.Config, error) {
	cfg, err := g.load()
	if err != nil {
		return nil, err
	}
	if err := addOrigins(cfg, args, options); err != nil {
		return nil, withExit(exitUsage, err)
	}
	if len(exports) > 0 {
		cfg.Exports = exports
	}
	if mountDir != "" {
		if len(cfg.Origins) != 1 {
			return nil, withExit(exitUsage, fmt.Errorf("--mount needs exactly one origin; use mounts: in the file"))
		}
		dir, err := filepath.Abs(mountDir)
		if err != nil {
			return nil, err
		}
		cfg.Mounts = []config.Mount{{Origin: cfg.Origins[0].Name, Dir: dir, AllowOther: true}}
	}
	if len(cfg.Exports) == 0 && cfg.ExportsFile == "" {
		for _, o := range cfg.Origins {
			cfg.Exports = append(cfg.Exports, o.Path+" *(rw,root_squash,insecure)")
		}
	}
	return cfg, nil
}

// addOrigins puts the origins of the command line in place of the file's.
func addOrigins(cfg *config.Config, args []string, options string) error {
	if len(args) == 0 {
		return nil
	}
	cfg.Origins = nil
	for _, a := range args {
		o, err := config.ParseOrigin(a)
		if err != nil {
			return err
		}
		o.Options = options
		cfg.Origins = append(cfg.Origins, o)
	}
	return nil
}

// A client is the upstream side of serve and mount: the origins and the local mounts.
type client struct {
	in      *instance
	origins map[string]*remote.Remote // by name
	fence   *fuse.Fence
	store   *diskcache.Store // nil without a data cache
	mounts  []*fuse.Mounted

	mu      sync.Mutex
	remotes []*remote.Remote // guarded by mu; in the order of the settings
}

// localMounts mounts for local applications, before the origins are asked anything: fenced if
// there is a fence.
func (c *client) localMounts(ctx context.Context) (map[string][]*later, error) {
	var incarnation [8]byte
	if _, err := rand.Read(incarnation[:]); err != nil {
		return nil, err
	}
	backends := map[string][]*later{}
	for _, m := range c.in.cfg.Mounts {
		if err := os.MkdirAll(m.Dir, 0o755); err != nil && !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		keep, err := c.kernelKeeps(m.Origin)
		if err != nil {
			return nil, withExit(exitUsage, err)
		}
		b := &later{}
		if r := c.origins[m.Origin]; r != nil {
			b.set(r)
		}
		mnt, err := fuse.Mount(ctx, fuse.Config{
			Dir: m.Dir, Backend: b, Fence: c.fence, Incarnation: incarnation, AllowOther: m.AllowOther,
			AttrTimeout: keep, EntryTimeout: keep,
			FSName: "holdfast:" + m.Origin, Logger: c.in.log,
		})
		if err != nil {
			return nil, fmt.Errorf("mount on %s: %w", m.Dir, err)
		}
		c.mounts = append(c.mounts, mnt)
		backends[m.Origin] = append(backends[m.Origin], b)
	}
	return backends, nil
}

// immutableKeep is how long the kernel may use what it knows of an immutable tree without asking us. Changes by
// us, and any that we hear of, cut it short.
const immutableKeep = time.Hour

// kernelKeeps is how long the kernel may use attributes and names of an origin without asking.
func (c *client) kernelKeeps(origin string) (time.Duration, error) {
	for i := range c.in.cfg.Origins {
		if o := &c.in.cfg.Origins[i]; o.Name == origin {
			opt, err := o.ParseOptions()
			if err != nil {
				return 0, err
			}
			if c.consistency(opt) == remote.Immutable {
				return immutableKeep, nil
			}
		}
	}
	return 0, nil
}

// connect mounts the origins. An origin that does not answer is tried again for ever, because a
// cache host may well boot before its filer; but one that refuses is an error.
func (c *client) connect(ctx context.Context, reexport bool) error {
	if err := c.openCache(); err != nil {
		return err
	}
	clients := 1 // without re-export all applications are of one host
	if reexport {
		clients = c.in.cfg.Clients
	}
	for i := range c.in.cfg.Origins {
		o := &c.in.cfg.Origins[i]
		opt, err := o.ParseOptions()
		if err != nil {
			return withExit(exitUsage, err)
		}
		cfg := remote.Config{
			Domain: c.in.cfg.IDDomain,
			Name:   o.Name, Server: o.Addr(opt), Path: o.Path, Minor: opt.Minor, NConnect: opt.NConnect,
			Journal: c.in.journal, Recovery: remote.Recovery(c.in.cfg.Recovery.Value), Reexport: reexport, Retain: true,
			Clients: clients, Dead: c.dead, Delegations: delegatePolicy[c.in.cfg.Delegs.Value],
			Consistency: c.consistency(opt), RelaxedAge: c.in.cfg.RelaxedAge.Std(), Times: attrTimes(opt),
			MetaDir: c.treeDir(), CacheEntries: c.in.cfg.CacheEntries,
			Store: c.store, Away: remote.Away(cmp.Or(opt.Away, c.in.cfg.OriginAway.Value)),
			Soft: !opt.Hard, SoftTime: opt.Timeout, Logger: c.in.log,
		}
		// Never long: an origin that comes back has a grace period, and all that is held there is reclaimed in it.
		for wait := 250 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
			try, stop := context.WithTimeout(ctx, time.Minute)
			r, err := remote.Mount(try, cfg)
			stop()
			if err == nil {
				c.origins[o.Name] = r
				c.mu.Lock()
				c.remotes = append(c.remotes, r)
				c.mu.Unlock()
				break
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if errors.Is(err, remote.ErrNoResume) {
				return withExit(exitUsage, err)
			}
			if errors.Is(err, remote.ErrOldJournal) {
				return withExit(exitJournal, err)
			}
			if code := fs.CodeOf(err); code == fs.NoEnt || code == fs.Access || code == fs.NotDir || !opt.Hard {
				return withExit(exitUnreachable, err)
			}
			c.in.log.Warn("the origin does not answer; trying again", "origin", o.Name, "addr", cfg.Server, "in", wait, "err", err)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// consistency is the mode of an origin: its own, or that of all.
func (c *client) consistency(opt config.Options) remote.Consistency {
	return remote.Consistency(cmp.Or(opt.Consistency, c.in.cfg.Consistency.Value))
}

// attrTimes are the ages that the options give; zero leaves them to the mode.
func attrTimes(opt config.Options) remote.AttrTimes {
	if !opt.Ages {
		return remote.AttrTimes{}
	}
	of := func(d time.Duration) time.Duration {
		if d == 0 {
			return -1 // none
		}
		return d
	}
	return remote.AttrTimes{RegMin: of(opt.AcRegMin), RegMax: of(opt.AcRegMax), DirMin: of(opt.AcDirMin), DirMax: of(opt.AcDirMax)}
}

// dead ends an instance that may not speak to an origin in its own name any more: another one does.
func (c *client) dead(error) { c.in.stop() }

// close unmounts and gives everything back upstream, except after the journal failed: that is a crash, and
// end clients reclaim when we are back.
func (c *client) close(ctx context.Context) error {
	var errs []error
	for _, m := range c.mounts {
		err := m.Unmount()
		if errors.Is(err, fuse.ErrBusy) {
			// whoever still uses it gets errors from now on, and not a hang
			c.in.log.Warn("the mount is in use; detaching it", "dir", c.in.cfg.Mounts)
			err = m.ForceUnmount()
		}
		errs = append(errs, err)
	}
	for _, r := range c.connected() {
		if c.in.journal.Err() != nil {
			// What is held is in the journal, up to what failed; the origin keeps it for the next boot.
			r.Abandon()
			continue
		}
		errs = append(errs, r.Close(ctx))
	}
	if c.store != nil {
		errs = append(errs, c.store.Close())
	}
	return errors.Join(errs...)
}

func fenceMode(cfg *config.Config) fuse.FenceMode {
	if cfg.Fence.Value == "eagain" {
		return fuse.FenceEAGAIN
	}
	return fuse.FenceBlock
}

// runServe is the whole life of a re-export server: DESIGN 3, in its order.
func runServe(ctx context.Context, settings func() (*config.Config, error)) (err error) {
	in, ctx, err := newInstance(ctx, "serve", settings)
	if err != nil {
		return err
	}
	cfg := in.cfg
	defer func() { err = errors.Join(err, in.close()) }()
	calm := hurry()
	defer calm()
	c := &client{in: in, origins: map[string]*remote.Remote{}, fence: fuse.NewFence(fenceMode(cfg))}
	in.client = c

	in.setPhase("fenced")
	backends, err := c.localMounts(ctx)
	defer func() { err = errors.Join(err, c.shutdown()) }()
	if err != nil {
		return err
	}
	crash.Pause("serve.fenced")
	if err := c.connect(ctx, true); err != nil {
		return err
	}
	for name, list := range backends {
		for _, b := range list {
			b.set(c.origins[name])
		}
	}
	st, err := in.stateConfig()
	if err != nil {
		return err
	}
	st.UnknownReclaim = state.UnknownForward
	in.exports = c.exports
	exports, err := c.exports(cfg)
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
	return in.serve(ctx, srv, func() {
		c.fence.Open()
		go func() {
			for srv.AwaitRestore(ctx) != nil && ctx.Err() == nil { // it has patience, and we have more
			}
			calm()
		}()
	})
}

// hurry lets the heap grow to a multiple before garbage is collected, until calm is called. While a server loads its
// journal and asks for all that its clients had, nearly all that it allocates stays, and they wait. Whoever
// sets GOGC knows better.
func hurry() (calm func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	usual := debug.SetGCPercent(400)
	return sync.OnceFunc(func() { debug.SetGCPercent(usual) })
}

// exports gives the server's exports; the path of an export is that of an origin.
func (c *client) exports(cfg *config.Config) ([]nfsdown.Export, error) {
	return exportsOf(cfg, func(path string) (nfsdown.Export, error) {
		for _, o := range c.in.cfg.Origins {
			if o.Path == path {
				opt, err := o.ParseOptions()
				return nfsdown.Export{Backend: c.origins[o.Name], ReadOnly: opt.ReadOnly}, err
			}
		}
		return nfsdown.Export{}, withExit(exitUsage, fmt.Errorf("export %s: no origin has this path", path))
	})
}

// shutdownTime bounds a clean stop, all of it: what was not given back by then is left to the lease. drainTime is
// the part of it that requests have which are being served, as those that wait for an origin out of reach.
const (
	shutdownTime = 25 * time.Second
	drainTime    = 15 * time.Second
)

// ending is the context of a clean stop. Its time runs from the first call.
func (in *instance) ending() (context.Context, context.CancelFunc) {
	in.endOnce.Do(func() { in.endBy = time.Now().Add(shutdownTime) })
	return context.WithDeadline(context.Background(), in.endBy)
}

func (c *client) shutdown() error {
	ctx, stop := c.in.ending()
	defer stop()
	return c.close(ctx)
}

// serve runs the NFS server until ctx ends. begun is called when it takes requests.
func (in *instance) serve(ctx context.Context, srv *nfsdown.Server, begun func()) error {
	ln, err := in.listen(ctx)
	if err != nil {
		return err
	}
	end, err := in.announce(ctx, srv, ln)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	defer end()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ln) }()
	begun()
	in.setPhase("serving")
	if err := ready("serving on " + ln.Addr().String()); err != nil {
		in.log.Warn("cannot tell the starter", "err", err)
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-hup:
			// the log tells if it failed; the exports in force stay
			_, _ = in.reloadNow(ctx)
		case err := <-done:
			return err
		case <-ctx.Done():
			in.setPhase("stopping")
			all, cancelAll := in.ending()
			defer cancelAll()
			stop, cancel := context.WithTimeout(all, drainTime)
			defer cancel()
			err := srv.Shutdown(stop)
			if ended := <-done; !errors.Is(ended, nfsdown.ErrStopped) {
				err = errors.Join(err, ended)
			}
			return err
		}
	}
}
