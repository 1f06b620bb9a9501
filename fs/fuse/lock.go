package fuse

import (
	"errors"
	"math"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// How long a blocked lock waits before it asks again: news may be lost on the way, and some origins
// send none.
const (
	firstPoll      = 100 * time.Millisecond
	lastPoll       = time.Second
	lastPollNotify = 5 * time.Second // where LockAvailable is promised
)

// offsetMax is the kernel's "to the end of the file", OFFSET_MAX.
const offsetMax = math.MaxInt64

// rangeOf translates a range of the kernel, which names first and last byte.
func rangeOf(lk *gofuse.FileLock) (fs.Range, error) {
	if lk.End < lk.Start {
		return fs.Range{}, syscall.EINVAL
	}
	if lk.End >= offsetMax {
		return fs.Range{First: lk.Start, Last: math.MaxUint64}, nil
	}
	return fs.Range{First: lk.Start, Last: lk.End}, nil
}

func lockTypeOf(typ uint32) (fs.LockType, error) {
	switch typ {
	case unix.F_RDLCK:
		return fs.ReadLock, nil
	case unix.F_WRLCK:
		return fs.WriteLock, nil
	case unix.F_UNLCK:
		return fs.NoLock, nil
	}
	return fs.NoLock, syscall.EINVAL
}

func keyOf(in *gofuse.LkIn) ownerKey {
	return ownerKey{flock: in.LkFlags&gofuse.LK_FLOCK != 0, id: in.Owner}
}

// GetLk is F_GETLK: who would be in the way.
func (s *server) GetLk(intr <-chan struct{}, in *gofuse.LkIn, out *gofuse.LkOut) gofuse.Status {
	return s.underway(intr, &in.InHeader, in.Fh, func(r *request, f *file) error {
		rng, err := rangeOf(&in.Lk)
		if err != nil {
			return err
		}
		typ, err := lockTypeOf(in.Lk.Typ)
		if err != nil || typ == fs.NoLock {
			return syscall.EINVAL
		}
		if err := s.completeReclaim(r); err != nil {
			return err
		}
		var owner fs.Owner
		if o := f.node.locks.find(keyOf(in)); o != nil {
			owner = o.owner
		} else {
			owner = s.newOwner('t') // holds nothing
		}
		err = r.again(r.intr, func() error { return s.backend.TestLock(r, f.cred, owner, f.node.handle, rng, typ) })
		var denied *fs.DeniedError
		switch {
		case err == nil:
			out.Lk = gofuse.FileLock{Typ: unix.F_UNLCK}
			return nil
		case errors.As(err, &denied):
			out.Lk = gofuse.FileLock{
				Start: min(denied.Range.First, offsetMax), End: min(denied.Range.Last, offsetMax),
				Typ: unix.F_WRLCK, Pid: s.pidOf(denied.Owner),
			}
			if denied.Type == fs.ReadLock {
				out.Lk.Typ = unix.F_RDLCK
			}
			return nil
		case fs.CodeOf(err) == fs.Denied: // by somebody unknown
			out.Lk = gofuse.FileLock{Start: in.Lk.Start, End: in.Lk.End, Typ: unix.F_WRLCK}
			return nil
		}
		return err
	})
}

// pidOf is the process that holds a lock, 0 if it is not one of this host.
func (s *server) pidOf(owner fs.Owner) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.owners[owner]; o != nil {
		return o.pid
	}
	return 0
}

// SetLk is F_SETLK, F_OFD_SETLK and flock with LOCK_NB, and every unlock.
func (s *server) SetLk(intr <-chan struct{}, in *gofuse.LkIn) gofuse.Status {
	return s.setLock(intr, in, false)
}

// SetLkw is F_SETLKW, F_OFD_SETLKW and flock: it waits, and ends with EINTR at a signal.
func (s *server) SetLkw(intr <-chan struct{}, in *gofuse.LkIn) gofuse.Status {
	return s.setLock(intr, in, true)
}

func (s *server) setLock(intr <-chan struct{}, in *gofuse.LkIn, wait bool) gofuse.Status {
	return s.underway(intr, &in.InHeader, in.Fh, func(r *request, f *file) error {
		rng, err := rangeOf(&in.Lk)
		if err != nil {
			return err
		}
		typ, err := lockTypeOf(in.Lk.Typ)
		if err != nil {
			return err
		}
		if typ == fs.NoLock {
			return s.unlock(r, f, keyOf(in), rng)
		}
		if f.revoked.Load() {
			return f.broken()
		}
		if err := s.completeReclaim(r); err != nil {
			return err
		}
		if wait {
			err = s.lockWait(r, f, in, rng, typ)
		} else {
			err = s.lockNow(r, f, in, rng, typ)
		}
		if err == nil {
			s.refresh(r, f.node)
		}
		return err
	})
}

// How long a try waits for a lock of this host that is in the way: its file may be closed already,
// which the kernel answers before we have heard of it. POSIX locks have no such gap, but OFD locks
// cannot be told from them.
const (
	closeGapFlock = 10 * time.Millisecond
	closeGapOther = 2 * time.Millisecond
)

// lockNow tries once, and once more when what was in the way on this host is gone.
func (s *server) lockNow(r *request, f *file, in *gofuse.LkIn, rng fs.Range, typ fs.LockType) error {
	var gap *time.Timer
	for {
		leaving := f.node.locks.releasing()
		err := s.tryLock(r, f, in, rng, typ, false)
		if fs.CodeOf(err) != fs.Denied {
			return err
		}
		if gap == nil {
			gap = time.NewTimer(closeGapOther)
			if in.LkFlags&gofuse.LK_FLOCK != 0 {
				gap.Reset(closeGapFlock)
			}
			defer gap.Stop()
		}
		if len(leaving) == 0 {
			leaving = f.node.locks.inTheWay(keyOf(in), rng, typ)
		}
		if len(leaving) == 0 {
			return err
		}
		for _, o := range leaving {
			leaves := gap.C
			if o.isRetired() {
				leaves = nil // it takes as long as it takes
			}
			select {
			case <-o.gone:
			case <-leaves:
				return err
			case <-r.intr:
				return err
			case <-r.Done():
				return err
			}
		}
	}
}

// lockWait tries until the lock is held, a signal comes, or something else fails. It tries when the
// backend or a local unlock says that it may be free now, and now and then.
func (s *server) lockWait(r *request, f *file, in *gofuse.LkIn, rng fs.Range, typ fs.LockType) error {
	o := s.lockOwnerOf(f, keyOf(in), in.Lk.Pid)
	w := s.addWaiter(f.node.handle, o.owner)
	queued := false
	leave := func() {
		s.dropWaiter(f.node.handle, w)
		if queued {
			s.backend.CancelWait(w.owner, f.node.handle, rng)
		}
	}
	defer func() { leave() }()
	last := lastPoll
	if f.notifies {
		last = lastPollNotify
	}
	for poll := firstPoll; ; poll = min(2*poll, last) {
		err := s.tryLock(r, f, in, rng, typ, true)
		if err == nil {
			queued = false
			return nil
		}
		if fs.CodeOf(err) != fs.Denied {
			return err
		}
		queued = true
		if in.LkFlags&gofuse.LK_FLOCK != 0 && o.holds(rng) {
			// flock(2): a conversion gives up the old lock, or two who hold a shared one would wait
			// for each other.
			if err := s.unlock(r, f, keyOf(in), rng); err != nil {
				return err
			}
		}
		timer := time.NewTimer(poll)
		select {
		case <-w.wake:
		case <-timer.C:
		case <-r.intr:
			err = fs.E("LOCK", fs.Interrupted, nil)
		case <-r.Done():
			err = fs.E("LOCK", fs.Interrupted, nil)
		}
		timer.Stop()
		if fs.CodeOf(err) == fs.Interrupted {
			return err
		}
		if o.isRetired() {
			// Another thread has closed the file: the kernel will find out, and unlock.
			leave()
			queued = false
			o = s.lockOwnerOf(f, keyOf(in), in.Lk.Pid)
			w = s.addWaiter(f.node.handle, o.owner)
		}
	}
}

func (o *lockOwner) isRetired() bool {
	o.node.locks.mu.Lock()
	defer o.node.locks.mu.Unlock()
	return o.retired
}

// holds tells whether the owner holds a byte of a range.
func (o *lockOwner) holds(r fs.Range) bool {
	o.node.locks.mu.Lock()
	defer o.node.locks.mu.Unlock()
	return o.held.Overlaps(r)
}

// take waits for the owner's turn at the backend: lock, unlock and close of one owner come one after
// another.
func (o *lockOwner) take(r *request) error {
	select {
	case o.turn <- struct{}{}:
		return nil
	case <-r.intr:
	case <-r.Done():
	}
	return fs.E("LOCK", fs.Interrupted, nil)
}

// tryLock asks the backend once; Grace and Delay are waited out.
func (s *server) tryLock(r *request, f *file, in *gofuse.LkIn, rng fs.Range, typ fs.LockType, wait bool) error {
	return r.again(r.intr, func() error {
		var o *lockOwner
		for {
			o = s.lockOwnerOf(f, keyOf(in), in.Lk.Pid)
			if err := o.take(r); err != nil {
				return err
			}
			if !o.isRetired() {
				break
			}
			<-o.turn
		}
		defer func() { <-o.turn }()
		l := &f.node.locks
		l.mu.Lock()
		lost := o.lost != nil
		l.mu.Unlock()
		if lost {
			return fs.E("LOCK", fs.IO, errRevoked) // until the holder has unlocked
		}
		err := s.backend.Lock(r, f.cred, &fs.LockRequest{
			File: f.node.handle, OpenOwner: f.owner, LockOwner: o.owner, Range: rng, Type: typ, Wait: wait,
		})
		if err == nil {
			l.mu.Lock()
			o.held = o.held.With(rng, typ)
			l.mu.Unlock()
		}
		return err
	})
}

// unlock gives back a range of an owner. What was lost is unlocked here only.
func (s *server) unlock(r *request, f *file, key ownerKey, rng fs.Range) error {
	o := f.node.locks.find(key)
	if o == nil {
		return nil
	}
	if err := o.take(r); err != nil {
		return err
	}
	defer func() { <-o.turn }()
	err := r.again(nil, func() error { return s.backend.Unlock(r, f.cred, o.owner, f.node.handle, rng) })
	l := &f.node.locks
	l.mu.Lock()
	if o.lost != nil || f.revoked.Load() {
		o.setLost(o.lost.With(rng, fs.NoLock))
		switch fs.CodeOf(err) {
		case fs.BadStateid, fs.OldStateid, fs.Expired, fs.AdminRevoked:
			err = nil
		}
	}
	freed := err == nil && o.held.Overlaps(rng)
	if err == nil {
		o.held = o.held.With(rng, fs.NoLock)
	}
	l.mu.Unlock()
	if freed {
		s.wakeWaiters(f.node.handle, fs.Owner{})
	}
	return err
}

// refresh drops what the kernel has of a file when a lock on it is granted: the holder must see what
// the last holder wrote, on whichever host that was. It returns when the kernel has done it; that may
// wait for reads of the file, never for this request.
func (s *server) refresh(r *request, n *node) {
	n.pages.drop()
	done := s.inval.now(n)
	select {
	case <-done:
	case <-r.intr:
	case <-r.Done():
	}
}
