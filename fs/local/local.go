//go:build linux

package local

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/fs"
	"holdfast/internal/clock"
)

// A Backend exports a directory. Lock order: states.mu, then fileState.mu; all others are alone.
type Backend struct {
	cfg   Config
	log   *slog.Logger
	clock clock.Clock
	id    *identity
	key   macKey
	// before are the keys of what was exported before in this one's stead: their handles are Stale.
	before []macKey
	fsid   fs.FSID
	root   int // O_PATH, of the exported directory in a mount of our own where that can be had
	mount  int // the same open for reading, for open_by_handle_at
	proc   int // /proc/self/fd
	how    fsKind
	table  *table // nil where the kernel's handles serve

	rootHandle fs.Handle
	change     *changer
	files      files
	states     states
	dirs       dirSync
	polls      polls
	leases     leases
	verifier   atomic.Uint64

	listenMu  sync.RWMutex
	listeners []fs.Listener // guarded by listenMu

	callMu sync.Mutex
	calls  int           // guarded by callMu; running
	closed chan struct{} // guarded by callMu; nil until Close, closed when calls is 0
}

var (
	_ fs.Backend = (*Backend)(nil)
	_ fs.Xattrs  = (*Backend)(nil)
	_ fs.Sparse  = (*Backend)(nil)
	_ fs.Copier  = (*Backend)(nil)
	_ fs.Cloner  = (*Backend)(nil)
)

// New exports cfg.Dir. It fails with Perm if the process may not act for other users and
// cfg.Unprivileged is not set, with NotDir if Dir is none, and with Inval if StateDir is below Dir.
//
// It changes two things of the whole process: the umask becomes 0, since it must not bend the modes
// that clients ask for, and the limit of descriptors is raised as far as is allowed.
func New(ctx context.Context, cfg Config) (fs.Backend, error) {
	b, err := open(ctx, cfg)
	if err != nil {
		return nil, failure("export "+cfg.Dir, err)
	}
	return b, nil
}

func open(ctx context.Context, cfg Config) (_ *Backend, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b := &Backend{cfg: cfg, log: cfg.Logger, clock: cfg.Clock, root: -1, mount: -1, proc: -1}
	if b.log == nil {
		b.log = slog.Default()
	}
	if b.clock == nil {
		b.clock = clock.Real
	}
	if b.id, err = newIdentity(); err != nil {
		if b.id == nil || !cfg.Unprivileged {
			return nil, fs.E("", fs.Perm, err)
		}
		b.log.Warn("everything is done as the user of the daemon, whoever asks", "dir", cfg.Dir, "uid", b.id.uid)
	}
	if err := apart(cfg.Dir, cfg.StateDir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.closeFDs()
		}
	}()
	if b.proc, err = unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("/proc must be mounted: %w", err)
	}
	if err := b.openRoot(); err != nil {
		return nil, err
	}
	b.how = kindOf(b.mount)
	if err := b.loadKey(cfg.StateDir); err != nil {
		return nil, err
	}
	fine, gran := probeCtime(b.mount, b.how)
	if b.change, err = newChanger(filepath.Join(cfg.StateDir, "change"), realClocks(), fine, b.how.foreign, gran); err != nil {
		return nil, err
	}
	if err := b.chooseHandles(); err != nil {
		return nil, err
	}
	if err := b.newVerifier(); err != nil {
		return nil, err
	}
	b.files.init(b, cfg.MaxFiles)
	b.states.m = make(map[fs.Handle]*fileState)
	b.leases.b, b.leases.m = b, make(map[fs.Handle]*lease)
	b.dirs.m = make(map[fs.Handle]*dirFlusher)
	unix.Umask(0)
	return b, nil
}

// apart makes sure that no client can reach the key of the handles.
func apart(dir, state string) error {
	if dir == "" || state == "" {
		return fs.E("", fs.Inval, errors.New("the directory and the state directory must be set"))
	}
	d, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if d, err = filepath.EvalSymlinks(d); err != nil {
		return err
	}
	s, err := filepath.Abs(state)
	if err != nil {
		return err
	}
	// The state directory may not be there yet: resolve as much of it as is.
	rest := ""
	for {
		if r, err := filepath.EvalSymlinks(s); err == nil {
			s = filepath.Join(r, rest)
			break
		} else if !errors.Is(err, os.ErrNotExist) || s == "/" {
			return err
		}
		s, rest = filepath.Dir(s), filepath.Join(filepath.Base(s), rest)
	}
	if s == d || strings.HasPrefix(s, strings.TrimSuffix(d, "/")+"/") {
		return fs.E("", fs.Inval, fmt.Errorf("the state directory %s is inside of the exported directory %s: clients would read its secrets; put it elsewhere", s, d))
	}
	return nil
}

// openRoot opens the exported directory, in a private copy of its mount if that is allowed: there
// the mounts below it do not exist, and what they cover is seen, in lookups as in listings.
func (b *Backend) openRoot() error {
	const dirFlags = unix.O_DIRECTORY | unix.O_CLOEXEC
	var err error
	b.root, err = unix.OpenTree(unix.AT_FDCWD, b.cfg.Dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		b.log.Debug("mounts below the export show as XDEV", "dir", b.cfg.Dir, "err", err)
		if b.root, err = unix.Open(b.cfg.Dir, unix.O_PATH|dirFlags, 0); err != nil {
			return err
		}
	}
	b.mount, err = unix.Openat(b.root, ".", unix.O_RDONLY|dirFlags, 0)
	return err
}

// chooseHandles settles whether handles are the kernel's or the table's.
func (b *Backend) chooseHandles() error {
	why := errors.New("it is configured")
	if !b.cfg.HandleTable {
		why = b.tryKernelHandles()
	}
	if why != nil {
		var err error
		b.log.Info("handles come from a table", "dir", b.cfg.Dir, "because", why.Error())
		st, err := raw(b.root)
		if err != nil {
			return err
		}
		if b.table, err = openTable(filepath.Join(b.cfg.StateDir, "handles"), identOf(&st), b.log); err != nil {
			return err
		}
		b.rootHandle = b.tableHandle(rootID)
		return nil
	}
	var err error
	b.rootHandle, _, err = b.handleOf(b.root, nil, "", "")
	return err
}

// tryKernelHandles says why the kernel's handles cannot be used here, or nil.
func (b *Backend) tryKernelHandles() error {
	if b.how.volatileHandles {
		return errors.New("handles of this file system do not outlive a restart of it")
	}
	var kh kernelHandle
	if err := nameToHandle(b.root, &kh); err != nil {
		return fmt.Errorf("name_to_handle_at: %w", err)
	}
	if _, _, err := b.kernelHandle(&kh); err != nil {
		return err
	}
	fd, err := openByHandle(b.mount, &kh, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open_by_handle_at: %w", err)
	}
	closeFD(fd)
	return nil
}

// loadKey reads the secret of the export, or makes it, and derives the key of the handles and the fsid from it
// and from what is exported (see place): so both are the same after every restart, though device numbers may
// change, and others where another file system took the place of the exported one.
func (b *Backend) loadKey(dir string) error {
	path := filepath.Join(dir, "handle.key")
	p, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		p = make([]byte, 16)
		if _, err := rand.Read(p); err != nil {
			return err
		}
		err = writeDurably(path, p)
	}
	if err != nil {
		return err
	}
	if len(p) != 16 {
		return fmt.Errorf("%s has %d bytes, not 16: it is damaged, and the handles of all clients with it", path, len(p))
	}
	// Zero with the handle table, which tells by itself what is not the same file any more, and for overlays, whose
	// handles name the layers' file systems.
	var now place
	if !b.cfg.HandleTable && !b.how.volatileHandles && !b.how.copiesUp {
		if now, err = placeOf(b.mount); err != nil {
			return err
		}
	}
	before, err := loadPlaces(filepath.Join(dir, "handle.places"), now)
	if err != nil {
		return err
	}
	if len(before) > 0 {
		b.log.Warn("this is not the only directory, or file system, that was exported with this state; handles of the others are stale", "dir", b.cfg.Dir, "others", len(before))
	}
	for _, x := range before {
		b.before = append(b.before, keyAt(p, x))
	}
	b.key = keyAt(p, now)
	b.fsid = fs.FSID{Major: b.key.mac([]byte("fsid major")), Minor: b.key.mac([]byte("fsid minor"))}
	return nil
}

// newVerifier is called at the start, and whenever unstable writes may have been lost: clients then
// send again what they have not committed, RFC 8881 18.3.4.
func (b *Backend) newVerifier() error {
	var p [8]byte
	if _, err := rand.Read(p[:]); err != nil {
		return err
	}
	b.verifier.Store(binary.BigEndian.Uint64(p[:]))
	return nil
}

func (b *Backend) writeVerifier() (v fs.WriteVerifier) {
	binary.BigEndian.PutUint64(v[:], b.verifier.Load())
	return v
}

var errClosed = errors.New("the export is closed")

// enter is called at the begin of all that uses descriptors, and leave at its end, so that Close
// takes none away from under them.
func (b *Backend) enter() error {
	b.callMu.Lock()
	defer b.callMu.Unlock()
	if b.closed != nil {
		return fs.E("", fs.Delay, errClosed)
	}
	b.calls++
	return nil
}

func (b *Backend) leave() {
	b.callMu.Lock()
	defer b.callMu.Unlock()
	if b.calls--; b.calls == 0 && b.closed != nil {
		close(b.closed)
	}
}

// begin is the head of every operation.
func (b *Backend) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.enter()
}

// Close ends the backend: new calls fail with Delay, and when the last of those that run has ended,
// opens and locks are given up. It returns Interrupted if ctx ends first; then nothing was given up,
// and Close may be called again.
func (b *Backend) Close(ctx context.Context) error {
	b.callMu.Lock()
	if b.closed == nil {
		b.closed = make(chan struct{})
		if b.calls == 0 {
			close(b.closed)
		}
	}
	idle := b.closed
	b.callMu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
		return failure("CLOSE", ctx.Err())
	}
	b.callMu.Lock()
	defer b.callMu.Unlock()
	if b.proc < 0 {
		return nil
	}
	b.polls.stop()
	b.leases.close()
	b.states.close(&b.files)
	err := errors.Join(b.files.close(), b.change.close())
	if b.table != nil {
		err = errors.Join(err, b.table.close())
	}
	b.closeFDs()
	if err != nil {
		return fs.E("CLOSE", fs.IO, err)
	}
	return nil
}

func (b *Backend) closeFDs() {
	for _, fd := range []*int{&b.root, &b.mount, &b.proc} {
		if *fd >= 0 {
			closeFD(*fd)
			*fd = -1
		}
	}
}

// Subscribe is of fs.Backend. This backend announces locks; it does not watch for changes by
// programs of this host, and never revokes.
func (b *Backend) Subscribe(l fs.Listener) {
	b.listenMu.Lock()
	defer b.listenMu.Unlock()
	b.listeners = append(b.listeners, l)
}

func (b *Backend) announce(file fs.Handle, waits []*wait) {
	if len(waits) == 0 {
		return
	}
	b.listenMu.RLock()
	listeners := b.listeners
	b.listenMu.RUnlock()
	for _, w := range waits {
		for _, l := range listeners {
			l.LockAvailable(file, w.owner, w.r)
		}
	}
}

func itoa(fd int) string { return strconv.Itoa(fd) }

// fsKind is what the type of a file system tells.
type fsKind struct {
	fineTimes       bool   // it can stamp every change of files and directories alike with a time of its own
	foreign         bool   // its times are made on another host
	volatileHandles bool   // its handles die with the server behind it
	copiesUp        bool   // a file becomes another at its first write
	maxLink         uint32 // links to one file
}

func kindOf(fd int) fsKind {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return fsKind{foreign: true, volatileHandles: true, maxLink: 127}
	}
	const smb2, ceph, v9fs = 0xfe534d42, 0x00c36400, 0x01021997
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC:
		return fsKind{fineTimes: true, maxLink: 65000}
	case unix.XFS_SUPER_MAGIC:
		return fsKind{fineTimes: true, maxLink: 1<<31 - 1}
	case unix.TMPFS_MAGIC:
		return fsKind{maxLink: 1<<31 - 1}
	case unix.BTRFS_SUPER_MAGIC:
		return fsKind{fineTimes: true, maxLink: 65535}
	case unix.OVERLAYFS_SUPER_MAGIC:
		return fsKind{copiesUp: true, maxLink: 65000}
	case unix.NFS_SUPER_MAGIC, ceph:
		return fsKind{foreign: true, maxLink: 255}
	case unix.FUSE_SUPER_MAGIC, v9fs, smb2, unix.SMB_SUPER_MAGIC, 0xff534d42:
		return fsKind{foreign: true, volatileHandles: true, maxLink: 255}
	}
	return fsKind{maxLink: 127}
}

// raiseFiles lifts the limit of open descriptors and returns it.
func raiseFiles() int {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 1024
	}
	const enough = 1 << 20
	want := unix.Rlimit{Cur: max(lim.Max, enough), Max: max(lim.Max, enough)}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &want) == nil {
		return int(min(want.Cur, enough))
	}
	// Beyond fs.nr_open, or without CAP_SYS_RESOURCE.
	lim.Cur = lim.Max
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &lim) == nil {
		return int(min(lim.Cur, enough))
	}
	return int(min(lim.Cur, enough))
}

// isErrno tells whether a system call failed with one of these.
func isErrno(err error, nos ...syscall.Errno) bool {
	for _, no := range nos {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}
