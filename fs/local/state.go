//go:build linux

package local

import (
	"context"
	"fmt"
	"sync"

	"holdfast/fs"
)

// states is who has what open and locked. It knows nothing of leases, sessions and reclaim: those
// who call do.
type states struct {
	mu sync.Mutex
	m  map[fs.Handle]*fileState // guarded by mu
}

// A fileState is the opens and locks of one file. What changes it takes its turn first, and holds
// mu only to look and to write: so system calls are made in the turn and not under mu, and I/O need
// not wait for the turn.
type fileState struct {
	h     fs.Handle
	users int           // guarded by states.mu; calls that have a pointer to it
	turn  chan struct{} // of length 1

	lockFD *file // carries the kernel's locks; in use while there are locks, else nil; changed in the turn

	mu    sync.Mutex
	opens map[fs.Owner]*openState // guarded by mu
	modes modes                   // guarded by mu; of all opens
	union union                   // guarded by mu; of all that locks hold
	locks map[fs.Owner]*holder    // guarded by mu
	waits []*wait                 // guarded by mu; first come, first served
}

// openState is an open of one owner.
type openState struct {
	access, deny fs.Share             // guarded by fileState.mu
	lockers      map[*holder]struct{} // guarded by fileState.mu; owners that locked under it
	kept         fileKey              // the descriptor that is held for it; changed in the turn
}

// modes counts opens by each bit of their modes, so that who conflicts with nobody need not look at all.
type modes struct{ access, deny [2]int }

// add counts n more opens of these modes, or -n fewer.
func (m *modes) add(n int, access, deny fs.Share) {
	for i := range m.access {
		m.access[i] += n * int(access>>i&1)
		m.deny[i] += n * int(deny>>i&1)
	}
}

// clash tells whether an open among those counted forbids access or is forbidden by deny.
func (m *modes) clash(access, deny fs.Share) bool {
	for i := range m.access {
		if access>>i&1 != 0 && m.deny[i] > 0 || deny>>i&1 != 0 && m.access[i] > 0 {
			return true
		}
	}
	return false
}

// setModes gives the open these modes. f.mu is held.
func (f *fileState) setModes(o *openState, access, deny fs.Share) {
	f.modes.add(-1, o.access, o.deny)
	o.access, o.deny = access, deny
	f.modes.add(1, access, deny)
}

// use gives the state of a file; done must follow.
func (s *states) use(h fs.Handle) *fileState {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.m[h]
	if f == nil {
		f = &fileState{h: h, turn: make(chan struct{}, 1), opens: make(map[fs.Owner]*openState), locks: make(map[fs.Owner]*holder)}
		s.m[h] = f
	}
	f.users++
	return f
}

// peek is use for a state that has something in it, else nil, and then no done.
func (s *states) peek(h fs.Handle) *fileState {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.m[h]
	if f != nil {
		f.users++
	}
	return f
}

func (s *states) done(f *fileState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.users--; f.users > 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.opens) == 0 && len(f.locks) == 0 && len(f.waits) == 0 {
		delete(s.m, f.h)
	}
}

// take waits for the turn.
func (f *fileState) take(ctx context.Context) error {
	select {
	case f.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fileState) give() { <-f.turn }

// turn is use and take together; the returned function ends both.
func (s *states) turn(ctx context.Context, h fs.Handle) (*fileState, func(), error) {
	f := s.use(h)
	if err := f.take(ctx); err != nil {
		s.done(f)
		return nil, nil, err
	}
	return f, func() { f.give(); s.done(f) }, nil
}

// isOpen tells whether somebody has the file open.
func (s *states) isOpen(h fs.Handle) bool {
	f := s.peek(h)
	if f == nil {
		return false
	}
	defer s.done(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.opens) > 0 || len(f.locks) > 0
}

// judge decides whether the opens allow I/O: BadStateid if the owner has none, OpenMode if it does
// not go so far, Locked if another's deny mode forbids anonymous I/O. ask tells that permission must be
// asked for: for anonymous I/O, and for reading under an open for writing only, which RFC 8881 18.22.4
// leaves to us.
func (s *states) judge(io fs.IORef, write bool) (ask bool, err error) {
	f := s.peek(io.Handle)
	if f == nil {
		if io.Open.IsZero() && io.Lock.IsZero() {
			return true, nil
		}
		return false, fs.E("", fs.BadStateid, errNoOpen)
	}
	defer s.done(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	want := fs.ShareRead
	if write {
		want = fs.ShareWrite
	}
	var have fs.Share
	switch {
	case !io.Open.IsZero():
		o := f.opens[io.Open]
		if o == nil {
			return false, fs.E("", fs.BadStateid, errNoOpen)
		}
		have = o.access
	case !io.Lock.IsZero():
		h := f.locks[io.Lock]
		if h == nil {
			return false, fs.E("", fs.BadStateid, errNoOpen)
		}
		for owner := range h.under {
			if o := f.opens[owner]; o != nil {
				have |= o.access
			}
		}
	default:
		if f.modes.clash(want, 0) {
			return false, fs.E("", fs.Locked, errDenied)
		}
		return true, nil
	}
	switch {
	case have&want != 0:
		return false, nil
	case write:
		return false, fs.E("", fs.OpenMode, errOpenMode)
	}
	return true, nil
}

// conflict looks for an open of another owner that forbids access or is forbidden by deny. f.mu is
// held.
func (f *fileState) conflict(owner fs.Owner, access, deny fs.Share) error {
	others := f.modes
	if o := f.opens[owner]; o != nil {
		others.add(-1, o.access, o.deny)
	}
	if !others.clash(access, deny) {
		return nil
	}
	for other, o := range f.opens {
		if other != owner && (o.deny&access != 0 || o.access&deny != 0) {
			return fs.E("", fs.ShareDenied, fmt.Errorf("open by %v", other))
		}
	}
	return nil
}

// close gives the descriptors of locks back, and forgets everything. No call runs any more.
func (s *states) close(c *files) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.m {
		if f.lockFD != nil {
			c.release(f.lockFD)
		}
	}
	s.m = make(map[fs.Handle]*fileState)
}
