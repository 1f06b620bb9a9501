//go:build linux

package local

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// files keeps regular files open for I/O: one descriptor per file for reading, one for reading and
// writing, whoever uses them. They are opened by the daemon; whether the end user may is asked before
// each use that is not under an open. Descriptors of opens are kept until the open ends, those of
// anonymous I/O for idleTime, since an open descriptor keeps a deleted file on disk and a program from
// being run.
//
// When there are too many, the least recently used goes, even one of an open: the file can be
// opened again by its handle. Not if the file has no name any more: then it would be gone.
type files struct {
	b   *Backend
	max int

	mu    sync.Mutex
	m     map[fileKey]*file // guarded by mu
	holds map[fileKey]int   // guarded by mu; opens that want this file kept
	lru   *list.List        // guarded by mu; of *file, all that are in m, the last used first
	timer stopper           // guarded by mu; pending sweep, or nil
	ended bool              // guarded by mu
	locks atomic.Int64      // files with locks
}

type stopper interface{ Stop() bool }

type fileKey struct {
	h     fs.Handle
	write bool
}

// A file is an open descriptor.
type file struct {
	key fileKey
	fd  int
	// dirty tells that something was written that no fsync through this descriptor has covered.
	dirty atomic.Bool
	flush flusher

	refs int           // guarded by files.mu; calls that use fd now
	used time.Time     // guarded by files.mu
	elem *list.Element // guarded by files.mu; nil if it was taken out of the cache
}

// idleTime is how long the descriptor of a file that nobody has open is kept.
const idleTime = 5 * time.Second

func (c *files) init(b *Backend, limit int) {
	all := raiseFiles()
	if limit <= 0 {
		limit = all / 2
	}
	c.b, c.max = b, max(min(limit, all-all/4), 4)
	c.m, c.holds, c.lru = make(map[fileKey]*file), make(map[fileKey]int), list.New()
}

// maxLockFiles bounds the files with locks: the descriptor that carries the locks of one cannot be closed.
func (c *files) maxLockFiles() int64 { return int64(c.max)/2 + 1 }

// get returns the file open for reading, or for reading and writing; release must follow. It asks
// for no permission.
func (c *files) get(h fs.Handle, write bool) (*file, error) {
	if f := c.cached(h, write); f != nil {
		return f, nil
	}
	fd, err := c.open(h, write)
	if err != nil {
		return nil, err
	}
	return c.insert(fileKey{h, write}, fd), nil
}

// cached returns the file if it is open already. Who only reads takes the other one if need be.
func (c *files) cached(h fs.Handle, write bool) *file {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.m[fileKey{h, write}]
	if f == nil && !write {
		f = c.m[fileKey{h, true}]
	}
	if f != nil {
		f.refs++
		c.lru.MoveToFront(f.elem)
	}
	return f
}

// held returns the file if an open keeps it open, else nil: to look at it is then no reason to keep it.
func (c *files) held(h fs.Handle) *file {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, write := range [...]bool{false, true} {
		key := fileKey{h, write}
		if f := c.m[key]; f != nil && c.holds[key] > 0 {
			f.refs++
			return f
		}
	}
	return nil
}

// peek returns any open descriptor of the file, or nil.
func (c *files) peek(h fs.Handle) *file { return c.cached(h, false) }

// open opens a regular file by its handle, as the daemon, making room if need be.
func (c *files) open(h fs.Handle, write bool) (int, error) {
	c.trim(c.max - 1)
	n, err := c.b.node(h)
	if err != nil {
		return -1, err
	}
	defer n.close()
	st, err := raw(n.fd)
	if err != nil {
		return -1, err
	}
	return c.openAt(n, &st, write)
}

// openAt is open for who has the file as a node already, and knows what it is.
func (c *files) openAt(n node, st *unix.Statx_t, write bool) (int, error) {
	if err := regular(st); err != nil {
		return -1, err
	}
	flags := unix.O_RDONLY
	if write {
		c.b.leases.yield(n.h)
		flags = unix.O_RDWR
	}
	fd, err := c.b.reopen(n.fd, flags)
	if isErrno(err, syscall.EMFILE, syscall.ENFILE) {
		c.trim(c.max / 2)
		fd, err = c.b.reopen(n.fd, flags)
	}
	if err != nil || c.b.table == nil || !write || !c.b.how.copiesUp {
		return fd, err
	}
	// The file may have become another one by being opened for writing.
	if now, err := raw(n.fd); err == nil && identOf(&now) != identOf(st) {
		if err := c.b.table.changed(tableID(n.h), identOf(&now)); err != nil {
			closeFD(fd)
			return -1, err
		}
	}
	return fd, nil
}

// insert puts an open descriptor into the cache, or closes it if another is there already.
func (c *files) insert(key fileKey, fd int) *file {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.m[key]; f != nil {
		closeFD(fd)
		f.refs++
		return f
	}
	f := &file{key: key, fd: fd, refs: 1}
	f.elem = c.lru.PushFront(f)
	c.m[key] = f
	return f
}

// release ends a use.
func (c *files) release(f *file) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.refs--
	f.used = c.b.clock.Now()
	switch {
	case f.elem == nil && f.refs == 0:
		closeFD(f.fd)
	case f.elem != nil && f.refs == 0 && c.holds[f.key] == 0:
		c.schedule()
	}
}

// hold keeps the file open until unhold: an open of an owner. f is in use by the caller.
func (c *files) hold(f *file) fileKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holds[f.key]++
	return f.key
}

// unhold ends an open. A file that nobody else has open is closed at once, for the sake of programs
// on this host; unless data in it is not on disk, then the sweep takes it.
func (c *files) unhold(key fileKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holds[key]--; c.holds[key] > 0 {
		return
	}
	delete(c.holds, key)
	f := c.m[key]
	switch {
	case f == nil || f.refs > 0:
	case f.dirty.Load():
		f.used = c.b.clock.Now()
		c.schedule()
	default:
		c.take(f)
		closeFD(f.fd)
	}
}

// forget closes the file's descriptors if nobody has it open: it was deleted.
func (c *files) forget(h fs.Handle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, write := range [...]bool{false, true} {
		key := fileKey{h, write}
		if f := c.m[key]; f != nil && c.holds[key] == 0 {
			c.take(f)
			if f.refs == 0 {
				closeFD(f.fd)
			}
		}
	}
}

// take removes f from the cache; who uses it last closes it. c.mu is held.
func (c *files) take(f *file) {
	c.lru.Remove(f.elem)
	f.elem = nil
	delete(c.m, f.key)
}

// schedule sets the timer of the sweep. c.mu is held.
func (c *files) schedule() {
	if c.timer == nil && !c.ended {
		c.timer = c.b.clock.AfterFunc(idleTime, c.sweep)
	}
}

// sweep closes what was idle for idleTime.
func (c *files) sweep() {
	if c.b.enter() != nil {
		return
	}
	defer c.b.leave()
	now := c.b.clock.Now()
	var old []*file
	c.mu.Lock()
	c.timer = nil
	more := false
	for _, f := range c.m {
		switch {
		case f.refs > 0 || c.holds[f.key] > 0:
		case now.Sub(f.used) >= idleTime:
			c.take(f)
			f.refs++
			old = append(old, f)
		default:
			more = true
		}
	}
	if more {
		c.schedule()
	}
	c.mu.Unlock()
	for _, f := range old {
		c.retire(f)
	}
}

// trim closes the least recently used until there are at most n.
func (c *files) trim(n int) {
	c.mu.Lock()
	var old []*file
	for e := c.lru.Back(); e != nil && len(c.m) > n; {
		f := e.Value.(*file)
		e = e.Prev()
		if f.refs > 0 {
			continue
		}
		if c.holds[f.key] > 0 {
			// In the table a handle does not find a file that programs of this host moved.
			if c.b.table != nil {
				continue
			}
			if st, err := raw(f.fd); err != nil || st.Nlink == 0 {
				continue
			}
		}
		c.take(f)
		f.refs++
		old = append(old, f)
	}
	c.mu.Unlock()
	for _, f := range old {
		c.retire(f)
	}
}

// retire closes a file that was taken out of the cache, after its data is safe or known to be lost.
func (c *files) retire(f *file) {
	if f.dirty.Load() {
		if err := c.b.fsync(context.Background(), f, false); err != nil { // the data has no deadline
			c.b.log.Error("unstable writes were lost; clients will send them again", "err", err)
		}
	}
	c.release(f)
}

// close closes everything. No call runs any more.
func (c *files) close() error {
	c.mu.Lock()
	c.ended = true
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	var all []*file
	for _, f := range c.m {
		all = append(all, f)
	}
	c.m, c.holds = make(map[fileKey]*file), make(map[fileKey]int)
	c.lru.Init()
	c.mu.Unlock()
	var errs []error
	for _, f := range all {
		if f.dirty.Load() {
			errs = append(errs, unix.Fdatasync(f.fd))
		}
		closeFD(f.fd)
	}
	return errors.Join(errs...)
}

// fsync makes what was written to f durable. If it cannot, the write verifier changes, since the
// kernel may have dropped the data and will not say so twice (I7).
//
// It does not end early with ctx: the caller's hold on f is what keeps the descriptor open meanwhile.
func (b *Backend) fsync(ctx context.Context, f *file, full bool) error {
	return f.flush.do(context.WithoutCancel(ctx), full, func(full bool) error {
		f.dirty.Store(false)
		var err error
		if full {
			err = unix.Fsync(f.fd)
		} else {
			err = unix.Fdatasync(f.fd)
		}
		if err == nil {
			return nil
		}
		f.dirty.Store(true)
		return errors.Join(fmt.Errorf("fsync: %w", err), b.newVerifier())
	})
}
