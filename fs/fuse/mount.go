package fuse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"holdfast/fs"
)

const (
	maxWrite         = 1 << 20 // bytes of one READ or WRITE; the kernel takes no more
	maxBackground    = 64      // readahead and asynchronous requests at once
	defaultReadAhead = 1024    // KiB
	// goodbyeTime bounds the giving back of opens and locks after the kernel is gone.
	goodbyeTime = 10 * time.Second
)

// ErrBusy means that applications use the mount, so that it was not unmounted.
var ErrBusy = errors.New("the mount is in use")

// Config says what to mount, and where.
type Config struct {
	Dir     string // an existing directory
	Backend fs.Backend
	// Fence keeps applications out until it is opened. With a nil Fence no NFS server runs on this
	// mount: then ReclaimComplete is sent before the first open or lock (invariant I5).
	Fence *Fence
	// Incarnation tells the owners of this mount from those of any other, before and after it:
	// random bytes.
	Incarnation [8]byte
	// AllowOther lets other users than that of the daemon in.
	AllowOther bool
	// FSName is what df and mountinfo show as device, for instance origin:/path. Empty: holdfast.
	FSName string
	// AttrTimeout and EntryTimeout bound how long the kernel uses attributes and entries without
	// asking; zero means that it always asks. The backend's Changed cuts them short. EntryTimeout
	// counts only in directories that everybody may pass.
	AttrTimeout, EntryTimeout time.Duration
	ReadOnly                  bool
	// KeepsOpen says that the backend keeps removed files as long as they are open. Else they are
	// renamed to .nfs* until their last close.
	KeepsOpen bool
	// ReadAhead is in KiB; zero means 1024, negative leaves the kernel's value.
	ReadAhead int
	Logger    *slog.Logger // nil: none
	Debug     bool         // log each request
}

// A Mounted is a mounted file system.
type Mounted struct {
	s      *server
	kernel *gofuse.Server
	point  string // as in mountinfo
	device string // major:minor
	cancel context.CancelFunc
	done   chan struct{} // closed when all is given back
	once   sync.Mutex    // one unmount at a time
}

// Mount mounts and begins to serve. ctx bounds only this call; its values go to the backend. A mount that
// a dead daemon left on Dir is taken away first; one of a live daemon is ErrMounted.
func Mount(ctx context.Context, cfg Config) (*Mounted, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	point, err := realPath(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("mount point: %w", err)
	}
	cleaned, err := cleanStale(point)
	if cleaned > 0 {
		log.Info("a dead mount was taken away", "dir", point, "mounts", cleaned)
	}
	if err != nil {
		return nil, err
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := newServer(base, &cfg, log)
	cfg.Backend.Subscribe(listener{s})
	kernel, err := gofuse.NewServer(s, point, options(&cfg, log))
	if err != nil {
		cancel()
		return nil, fmt.Errorf("mount %s: %w", point, err)
	}
	m := &Mounted{s: s, kernel: kernel, point: point, cancel: cancel, done: make(chan struct{})}
	if top, err := topMount(point); err == nil && top != nil && top.typ == fsType {
		m.device = top.device
	}
	if s.conn, err = adoptDevice(m.device); err != nil {
		log.Warn("/dev/fuse stays open in programs that are started", "err", err)
	}
	if os.Geteuid() == 0 && cfg.ReadAhead >= 0 && m.device != "" {
		kib := cfg.ReadAhead
		if kib == 0 {
			kib = defaultReadAhead
		}
		if err := raiseReadAhead(m.device, kib); err != nil {
			log.Info("read-ahead stays as it is", "err", err)
		}
	}
	s.inval.mu.Lock()
	s.inval.kernel = kernel
	s.inval.mu.Unlock()
	for range notifiers {
		s.background.Add(1)
		go func() {
			defer s.background.Done()
			s.inval.run(base)
		}()
	}
	go m.serve()
	return m, nil
}

func newServer(ctx context.Context, cfg *Config, log *slog.Logger) *server {
	s := &server{
		RawFileSystem: gofuse.NewDefaultRawFileSystem(),
		backend:       cfg.Backend,
		fence:         cfg.Fence,
		client:        fs.LocalClient + string(cfg.Incarnation[:]),
		attrTimeout:   cfg.AttrTimeout,
		entryTimeout:  cfg.EntryTimeout,
		hides:         !cfg.KeepsOpen,
		tag:           fmt.Sprintf("%x", cfg.Incarnation[:4]),
		log:           log,
		quit:          make(chan struct{}),
		table:         newTable(),
		reclaim:       reclaimGate{turn: make(chan struct{}, 1)},
		files:         make(map[uint64]*file),
		owners:        make(map[fs.Owner]*lockOwner),
		waiters:       make(map[fs.Handle]map[*lockWaiter]struct{}),
	}
	s.ctx = fs.From(ctx, s)
	s.xattrs, _ = cfg.Backend.(fs.Xattrs)
	s.sparse, _ = cfg.Backend.(fs.Sparse)
	s.copier, _ = cfg.Backend.(fs.Copier)
	s.creds.machine, _ = os.Hostname()
	s.inval = newInvalidator(s)
	return s
}

// options are go-fuse's. No writeback cache: the kernel would write after a lock was lost. No splice:
// it fails at 1 MiB and gains nothing.
func options(cfg *Config, log *slog.Logger) *gofuse.MountOptions {
	name := cfg.FSName
	if name == "" {
		name = subtype
	}
	level := slog.LevelWarn
	if cfg.Debug {
		level = slog.LevelDebug
	}
	o := &gofuse.MountOptions{
		AllowOther:    cfg.AllowOther,
		FsName:        name,
		Name:          subtype,
		MaxWrite:      maxWrite,
		MaxReadAhead:  maxWrite,
		MaxBackground: maxBackground,
		EnableLocks:   true,
		DisableSplice: true,
		Debug:         cfg.Debug,
		Logger:        slog.NewLogLogger(log.Handler(), level),
		ExtraCapabilities: gofuse.CAP_ATOMIC_O_TRUNC | gofuse.CAP_DONT_MASK | gofuse.CAP_HANDLE_KILLPRIV_V2 | gofuse.CAP_READDIRPLUS_AUTO |
			gofuse.CAP_DIRECT_IO_ALLOW_MMAP,
		DirectMountFlags: unix.MS_NOSUID | unix.MS_NODEV,
	}
	if cfg.ReadOnly {
		o.DirectMountFlags |= unix.MS_RDONLY
	}
	if os.Geteuid() == 0 {
		o.DirectMountStrict = true
	} else if cfg.ReadOnly {
		o.Options = append(o.Options, "ro")
	}
	return o
}

// serve runs until the kernel is gone, and gives everything back.
func (m *Mounted) serve() {
	defer close(m.done)
	m.kernel.Serve()
	m.s.stop()
	m.s.mu.Lock()
	left := make([]*file, 0, len(m.s.files))
	for _, f := range m.s.files {
		left = append(left, f)
	}
	clear(m.s.files)
	m.s.mu.Unlock()
	for _, f := range left {
		m.s.release(f)
	}
	timer := time.AfterFunc(goodbyeTime, m.cancel)
	m.s.calls.Wait()
	timer.Stop()
	m.cancel()
	m.s.background.Wait()
	if m.s.conn != nil {
		m.s.conn.Close()
	}
}

// stop ends the waits at the fence.
func (s *server) stop() { s.quitOnce.Do(func() { close(s.quit) }) }

// Wait returns when the mount has ended, by Unmount or from outside, and all opens and locks are given
// back, or with the cause when ctx ends.
func (m *Mounted) Wait(ctx context.Context) error {
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Done is closed when the mount has ended.
func (m *Mounted) Done() <-chan struct{} { return m.done }

// Unmount ends the mount if no application uses it, else it is ErrBusy and goes on. While the fence is
// closed nobody can be using it, only wait, so then it always ends. It returns when all is given back.
func (m *Mounted) Unmount() error {
	if m.s.fence.Closed() {
		return m.ForceUnmount()
	}
	return m.unmount(0)
}

// ForceUnmount ends the mount now. Applications get ENOTCONN from what they have open, and what they
// wrote through mappings and did not sync is lost.
func (m *Mounted) ForceUnmount() error {
	m.s.stop()
	return m.unmount(unix.MNT_FORCE | unix.MNT_DETACH)
}

func (m *Mounted) unmount(flags int) error {
	m.once.Lock()
	defer m.once.Unlock()
	select {
	case <-m.done:
		return nil
	default:
	}
	if top, err := topMount(m.point); err == nil && top != nil && m.device != "" && top.device != m.device {
		return fmt.Errorf("unmount %s: another file system is mounted over it", m.point)
	}
	err := unix.Unmount(m.point, flags|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EPERM) && os.Geteuid() != 0 {
		err = m.kernel.Unmount() // by fusermount
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("unmount %s: %w", m.point, ErrBusy)
	case errors.Is(err, unix.EINVAL):
		// It was unmounted from outside; with umount -l it lives on until the last file is closed.
		if flags&unix.MNT_FORCE == 0 {
			timer := time.NewTimer(goodbyeTime)
			defer timer.Stop()
			select {
			case <-m.done:
				return nil
			case <-timer.C:
				return fmt.Errorf("unmount %s: it is detached, but files are open: %w", m.point, ErrBusy)
			}
		}
		if err := abortConnection(m.device); err != nil {
			m.s.log.Debug("connection not aborted", "err", err)
		}
	case err != nil:
		return fmt.Errorf("unmount %s: %w", m.point, err)
	}
	<-m.done
	return nil
}

// Status is a snapshot for people.
type Status struct {
	Dir           string
	Fenced        bool
	Waiting       int // requests at the fence
	Nodes         int // files that the kernel knows
	Opens         int
	LockOwners    int
	BlockedLocks  int
	Invalidations uint64 // sent to the kernel
}

// Status tells how the mount is.
func (m *Mounted) Status() Status {
	st := Status{Dir: m.point, Fenced: m.s.fence.Closed(), Waiting: m.s.fence.Waiting()}
	st.Nodes, st.Opens = m.s.table.size()
	m.s.mu.Lock()
	st.LockOwners = len(m.s.owners)
	for _, w := range m.s.waiters {
		st.BlockedLocks += len(w)
	}
	m.s.mu.Unlock()
	m.s.inval.mu.Lock()
	st.Invalidations = m.s.inval.sent
	m.s.inval.mu.Unlock()
	return st
}
