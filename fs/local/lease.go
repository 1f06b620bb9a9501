//go:build linux

package local

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

var (
	_ fs.Delegator = (*Backend)(nil)

	errNoLease   = errors.New("a program of this host could change the file unseen")
	errRestarted = errors.New("a program of this host may have changed the file while this server was down")
)

// leases is kernel leases on files that are delegated for reading: fcntl(2), F_SETLEASE. A program of this host
// that opens such a file for writing waits until we give the lease up, at most for
// /proc/sys/fs/lease-break-time; we are told by SIGIO and recall the delegation. Renames, removals and changes of
// the mode by such programs break no lease. For a write delegation there is nothing like it: such a lease needs
// that nobody has the file open, and those of us are several.
type leases struct {
	b     *Backend
	count atomic.Int64
	mu    sync.Mutex
	// +checklocks:mu
	m map[fs.Handle]*lease
	// +checklocks:mu
	signals chan os.Signal // nil until the first lease
}

type lease struct {
	fd     int
	owners map[fs.Owner]struct{} // whose opens it goes with
}

// Delegates is of fs.Delegator.
func (b *Backend) Delegates(_ fs.Handle, write bool) bool {
	switch b.cfg.Delegate {
	case DelegateExclusive:
		return true
	case DelegateLeases:
		return !write
	}
	return false
}

// Delegate is of fs.Delegator.
func (b *Backend) Delegate(ctx context.Context, owner fs.Owner, h fs.Handle, write, reclaim bool) error {
	const op = "OPEN"
	switch {
	case !b.Delegates(h, write):
		return fs.E(op, fs.NotSupp, errNoLease)
	case b.cfg.Delegate == DelegateExclusive:
		return nil
	case reclaim:
		return fs.E(op, fs.NoGrace, errRestarted)
	}
	if err := b.begin(ctx); err != nil {
		return failure(op, err)
	}
	defer b.leave()
	if _, err := b.check(h); err != nil {
		return failure(op, err)
	}
	b.files.yield(h)
	return failure(op, b.leases.take(owner, h))
}

// take sets a lease, or joins the one that is there. EAGAIN: somebody has the file open for writing.
func (l *leases) take(owner fs.Owner, h fs.Handle) error {
	fd, err := l.b.files.open(h, false)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if have := l.m[h]; have != nil {
		closeFD(fd)
		have.owners[owner] = struct{}{}
		return nil
	}
	if l.signals == nil { // before there is anything to be told of: SIGIO ends a process that does not expect it
		l.signals = make(chan os.Signal, 1)
		signal.Notify(l.signals, syscall.SIGIO)
		go l.watch(l.signals)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		closeFD(fd)
		return err
	}
	l.m[h] = &lease{fd: fd, owners: map[fs.Owner]struct{}{owner: {}}}
	l.count.Add(1)
	return nil
}

// watch recalls what a program waits for. One signal may stand for several leases.
func (l *leases) watch(signals <-chan os.Signal) {
	for range signals {
		for _, h := range l.broken() {
			l.b.recall(h)
		}
	}
}

// broken lists the files whose leases the kernel wants back.
func (l *leases) broken() (list []fs.Handle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for h, x := range l.m {
		if t, err := unix.FcntlInt(uintptr(x.fd), unix.F_GETLEASE, 0); err != nil || t != unix.F_RDLCK {
			list = append(list, h)
		}
	}
	return list
}

// end gives the lease of an open back that is closed.
func (l *leases) end(owner fs.Owner, h fs.Handle) {
	if l.count.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if x := l.m[h]; x != nil {
		if delete(x.owners, owner); len(x.owners) == 0 {
			l.drop(h, x)
		}
	}
}

// drop gives a lease back.
//
// +checklocks:l.mu
func (l *leases) drop(h fs.Handle, x *lease) {
	delete(l.m, h)
	l.count.Add(-1)
	closeFD(x.fd) // a lease goes with its descriptor
}

// yield gives the lease of a file back because this server itself is about to open it for writing: the server has
// recalled what is in the way of that. What is not has no promise any more.
func (l *leases) yield(h fs.Handle) {
	if l.count.Load() == 0 {
		return
	}
	l.mu.Lock()
	x := l.m[h]
	if x != nil {
		l.drop(h, x)
	}
	l.mu.Unlock()
	if x != nil {
		l.b.recall(h)
	}
}

// close gives all back.
func (l *leases) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for h, x := range l.m {
		l.drop(h, x)
	}
	if l.signals != nil {
		signal.Stop(l.signals)
		close(l.signals)
		l.signals = nil
	}
}

// recall asks for the delegations of a file back.
func (b *Backend) recall(h fs.Handle) {
	b.listenMu.RLock()
	listeners := b.listeners
	b.listenMu.RUnlock()
	for _, l := range listeners {
		if r, ok := l.(fs.Recaller); ok {
			r.Recall(h, true)
		}
	}
}

// yield closes the descriptor for writing of a file that nobody has open: no lease can be had beside it.
func (c *files) yield(h fs.Handle) {
	c.mu.Lock()
	key := fileKey{h, true}
	f := c.m[key]
	if f == nil || f.refs > 0 || c.holds[key] > 0 {
		c.mu.Unlock()
		return
	}
	c.take(f)
	f.refs++
	c.mu.Unlock()
	c.retire(f)
}
