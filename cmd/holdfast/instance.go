package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/control"
	"holdfast/internal/nfs4"
	"holdfast/journal"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

// An instance is what serve, mount and origin have in common: settings, journal, control socket.
type instance struct {
	role    string
	cfg     *config.Config
	log     *slog.Logger
	level   slog.LevelVar
	started time.Time
	journal *journal.Journal
	report  *journal.Report
	control *control.Server
	phase   atomic.Pointer[string]
	server  *nfsdown.Server // nil for mount, and before service begins
	client  *client         // nil for origin
	// fresh reads the settings again, as the command that started the instance did.
	fresh func() (*config.Config, error)
	// exports gives the exports of settings, with this instance's backends.
	exports func(*config.Config) ([]nfsdown.Export, error)
	stop    context.CancelFunc

	endOnce sync.Once
	endBy   time.Time // when a clean stop is to be over; set by endOnce
}

// setPhase says what the instance does: fenced, connecting, grace, serving, degraded, stopping.
func (in *instance) setPhase(p string) {
	in.phase.Store(&p)
	in.log.Info("phase", "phase", p)
	notifyStatus(p)
}

// newInstance opens the journal and the control socket. ctx ends the instance.
func newInstance(ctx context.Context, role string, fresh func() (*config.Config, error)) (*instance, context.Context, error) {
	cfg, err := fresh()
	if err != nil {
		return nil, nil, err
	}
	if err := cfg.Validate(role); err != nil {
		return nil, nil, withExit(exitUsage, err)
	}
	in := &instance{role: role, cfg: cfg, fresh: fresh, started: time.Now()}
	log, err := newLogger(cfg, &in.level)
	if err != nil {
		return nil, nil, err
	}
	in.log = log
	if os.Geteuid() != 0 {
		return nil, nil, withExit(exitUsage, fmt.Errorf("%s must run as root: it acts for many users", role))
	}
	raiseFileLimit(log)
	ctx, in.stop = context.WithCancel(ctx)
	in.setPhase("starting")
	if err := os.MkdirAll(cfg.Dir(), 0o700); err != nil {
		return nil, nil, err
	}
	in.journal, in.report, err = journal.Open(filepath.Join(cfg.Dir(), "journal"), journal.Options{Logger: log})
	if err != nil {
		var used *journal.InUseError
		if errors.As(err, &used) {
			err = fmt.Errorf("%w; another instance runs on it: stop it, or give this one --instance or --state-dir", err)
		}
		return nil, nil, withExit(exitJournal, err)
	}
	if !in.report.Complete {
		log.Error("the journal is not complete: reclaims that it does not know are left to the origin", "report", in.report.Text())
	}
	in.control, err = control.Listen(cfg.SocketPath())
	if err != nil {
		return nil, nil, errors.Join(err, in.journal.Close())
	}
	in.register()
	go func() {
		if err := in.control.Serve(); err != nil {
			log.Error("control socket", "err", err)
		}
	}()
	go func() {
		select {
		case <-in.journal.Failed():
			log.Error("the journal failed: no state can be granted any more; stopping so that a restart can recover", "err", in.journal.Err())
			in.stop()
		case <-ctx.Done():
		}
	}()
	return in, ctx, nil
}

// close ends what newInstance began.
func (in *instance) close() error {
	return errors.Join(in.control.Close(), in.journal.Close())
}

// raiseFileLimit asks for as many descriptors as root may have: each open file of a client is one.
func raiseFileLimit(log *slog.Logger) {
	var l syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	if err == nil && l.Cur < l.Max {
		l.Cur = l.Max
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	}
	if err != nil {
		log.Warn("cannot raise the limit of open files", "err", err)
	}
}

// exports turns the settings' exports into the server's, with a backend for each path.
func exportsOf(cfg *config.Config, backend func(path string) (nfsdown.Export, error)) ([]nfsdown.Export, error) {
	all, err := cfg.ExportList()
	if err != nil {
		return nil, withExit(exitUsage, err)
	}
	var list []nfsdown.Export
	for _, e := range all {
		var x nfsdown.Export
		if len(e.Refer) == 0 { // a referral has no files here
			if x, err = backend(e.Path); err != nil {
				return nil, err
			}
		}
		describe(&x, e)
		list = append(list, x)
	}
	return list, nil
}

// describe makes an export of the server what the settings say.
func describe(x *nfsdown.Export, e *config.Export) {
	x.Path, x.ID = e.Path, e.FSID
	for _, l := range e.Refer {
		x.Refer = append(x.Refer, nfsdown.Location{Path: l.Path, Servers: l.Hosts})
	}
	for _, l := range e.Replicas {
		x.Replicas = append(x.Replicas, nfsdown.Location{Path: l.Path, Servers: l.Hosts})
	}
	for _, c := range e.Clients {
		a := nfsdown.Access{RW: c.ReadWrite, SecurePort: !c.Insecure, AnonUID: c.AnonUID, AnonGID: c.AnonGID, AnonRoot: true}
		switch c.Squash {
		case "none":
			a.Squash = nfsdown.NoRootSquash
		case "all":
			a.Squash = nfsdown.AllSquash
		}
		if c.Sec != "" {
			flavors := strings.Split(c.Sec, ":")
			a.NoSys, a.NoNone = !slices.Contains(flavors, "sys"), !slices.Contains(flavors, "none")
		}
		x.Clients = append(x.Clients, nfsdown.ClientRule{Pattern: c.Pattern, Access: a})
	}
}

// stateConfig is the settings of leases, grace and retention, for a server of this instance.
func (in *instance) stateConfig() (state.Config, error) {
	id, err := serverID(in.cfg.Dir())
	if err != nil {
		return state.Config{}, err
	}
	c := state.Config{
		Lease: in.cfg.Lease.Std(), Grace: in.cfg.Grace.Std(),
		AbsenceLimit: in.cfg.Hold.Std(), ReclaimCap: in.cfg.Hold.Std(),
		ReclaimsOnly: in.cfg.InGrace.Value == "reclaims",
	}
	c.Delegations = in.delegates()
	c.Restore = in.cfg.Restart.Value != "grace"
	switch in.cfg.Retain.Value {
	case "always":
		c.Retain = state.RetainAlways
	case "never":
		c.Retain = state.RetainNever
	default:
		c.Retain = state.RetainNegotiated
	}
	c.ImplID = &nfs4.ImplID{Domain: "holdfast", Name: "Holdfast " + version}
	c.ServerOwner = nfs4.ServerOwner{MajorID: id}
	c.ServerScope = id
	return c, nil
}

// listen opens the NFS port.
func (in *instance) listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", in.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for NFS clients: %w; is another NFS server running? see --listen", err)
	}
	return ln, nil
}
