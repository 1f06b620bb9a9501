package fuse

import (
	"context"
	"math"
	"sync"

	"holdfast/fs"
)

// ownerKey is what the kernel calls an owner of locks on one file: a table of open files (POSIX), or
// an open file (OFD, flock). flock has a bit of its own because the kernel uses the same number for
// the OFD locks and the flock of an open file. Numbers are used again after their holder is gone.
type ownerKey struct {
	flock bool
	id    uint64
}

// A lockOwner is such an owner while it may hold something: from its first lock on the file until a
// close drops it. The name that the backend knows is new for each, so that a late release of an old
// one cannot drop what a new one with the same key has locked.
type lockOwner struct {
	node  *node
	key   ownerKey
	owner fs.Owner
	pid   uint32        // the first process to lock; 0 if unknown
	turn  chan struct{} // holds one token while the backend is asked on behalf of the owner
	gone  chan struct{} // closed when the backend holds nothing of it any more

	// Guarded by node.locks.mu.
	retired bool // dropped by a close: no new locks
	held    fs.RangeSet
	lost    fs.RangeSet // lost upstream, and not unlocked by the holder since
	files   map[*file]struct{}
}

// nodeLocks is the owners of one file.
type nodeLocks struct {
	mu       sync.Mutex
	owners   map[ownerKey]*lockOwner
	retiring map[*lockOwner]struct{} // retired, and not gone yet
}

// lockOwnerOf finds or makes the owner that locks through f, and remembers that it did: a Flush may
// name another owner than the one that locked (fork), and then Release is what drops it.
func (s *server) lockOwnerOf(f *file, key ownerKey, pid uint32) *lockOwner {
	l := &f.node.locks
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.owners[key]
	if o == nil {
		kind := byte('p')
		if key.flock {
			kind = 'f'
		}
		o = &lockOwner{
			node: f.node, key: key, owner: s.newOwner(kind), pid: pid,
			turn: make(chan struct{}, 1), gone: make(chan struct{}), files: make(map[*file]struct{}),
		}
		if l.owners == nil {
			l.owners = make(map[ownerKey]*lockOwner)
		}
		l.owners[key] = o
		s.mu.Lock()
		s.owners[o.owner] = o
		s.mu.Unlock()
	}
	if _, ok := o.files[f]; !ok {
		o.files[f] = struct{}{}
		if o.lost != nil {
			f.losses.Add(1)
		}
	}
	return o
}

// find finds an owner that has locked.
func (l *nodeLocks) find(key ownerKey) *lockOwner {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owners[key]
}

// releasing returns the owners whose locks are on their way out.
func (l *nodeLocks) releasing() []*lockOwner {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*lockOwner
	for o := range l.retiring {
		out = append(out, o)
	}
	return out
}

// inTheWay returns the owners of this host that hold, or are giving back, what excludes a lock.
func (l *nodeLocks) inTheWay(key ownerKey, rng fs.Range, typ fs.LockType) []*lockOwner {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*lockOwner
	for o := range l.retiring {
		out = append(out, o)
	}
	for k, o := range l.owners {
		if _, conflict := o.held.Conflict(rng, typ); conflict && k != key {
			out = append(out, o)
		}
	}
	return out
}

// retire takes o out, so that nobody locks with it any more. The caller holds l.mu, and calls
// releaseOwner after.
func (l *nodeLocks) retire(o *lockOwner) {
	o.retired = true
	delete(l.owners, o.key)
	if l.retiring == nil {
		l.retiring = make(map[*lockOwner]struct{})
	}
	l.retiring[o] = struct{}{}
	o.setLost(nil)
	o.files = nil
}

// setLost changes what is lost, and which files are broken by it. l.mu is held.
func (o *lockOwner) setLost(lost fs.RangeSet) {
	was, is := o.lost != nil, lost != nil
	o.lost = lost
	if was == is {
		return
	}
	change := int32(1)
	if was {
		change = -1
	}
	for f := range o.files {
		f.losses.Add(change)
	}
}

// dropOwner drops all locks of an owner on a file: what close(2) does for POSIX locks.
func (s *server) dropOwner(ctx context.Context, n *node, key ownerKey) {
	l := &n.locks
	l.mu.Lock()
	o := l.owners[key]
	if o != nil {
		l.retire(o)
	}
	l.mu.Unlock()
	if o != nil {
		s.releaseOwner(ctx, o)
	}
}

// retireFile retires all owners that locked through f: at its last close none of them can hold
// anything, or unlock it.
func (s *server) retireFile(f *file) []*lockOwner {
	l := &f.node.locks
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*lockOwner
	for _, o := range l.owners {
		if _, ok := o.files[f]; ok {
			l.retire(o)
			out = append(out, o)
		}
	}
	return out
}

// releaseOwner gives back all that a retired owner held.
func (s *server) releaseOwner(ctx context.Context, o *lockOwner) {
	select {
	case o.turn <- struct{}{}: // stays: nobody comes after
	case <-ctx.Done():
	}
	err := retry(ctx, func() error {
		return s.backend.Unlock(ctx, fs.Root, o.owner, o.node.handle, fs.Range{First: 0, Last: math.MaxUint64})
	})
	if err == nil {
		err = retry(ctx, func() error { return s.backend.ReleaseLockOwner(ctx, o.owner, o.node.handle) })
	}
	if code := fs.CodeOf(err); err != nil && code != fs.BadStateid {
		// The close of the open drops them too.
		s.log.Warn("locks were not given back at close", "owner", o.owner.String(), "err", err)
	}
	s.mu.Lock()
	delete(s.owners, o.owner)
	s.mu.Unlock()
	o.node.locks.mu.Lock()
	delete(o.node.locks.retiring, o)
	o.held = nil
	o.node.locks.mu.Unlock()
	close(o.gone)
	s.wakeWaiters(o.node.handle, fs.Owner{})
}

// A lockWaiter is a blocked lock request.
type lockWaiter struct {
	owner fs.Owner
	wake  chan struct{} // has room for one
}

func (s *server) addWaiter(h fs.Handle, owner fs.Owner) *lockWaiter {
	w := &lockWaiter{owner: owner, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiters[h] == nil {
		s.waiters[h] = make(map[*lockWaiter]struct{})
	}
	s.waiters[h][w] = struct{}{}
	return w
}

func (s *server) dropWaiter(h fs.Handle, w *lockWaiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiters[h], w)
	if len(s.waiters[h]) == 0 {
		delete(s.waiters, h)
	}
}

// wakeWaiters lets the waiters of an owner on a file try again; of all owners if it is the zero Owner
// or not known here.
func (s *server) wakeWaiters(h fs.Handle, owner fs.Owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wake := func(w *lockWaiter) {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	found := false
	for w := range s.waiters[h] {
		if w.owner == owner {
			wake(w)
			found = true
		}
	}
	if !found {
		for w := range s.waiters[h] {
			wake(w)
		}
	}
}
