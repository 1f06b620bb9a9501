//go:build linux

package local

import (
	"context"
	"errors"
	"fmt"
	"math"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// A holder is a lock-owner on one file. Who may lock what is decided here, between our own owners, by
// the union of all that they hold. The kernel is shown that union, by OFD locks of one descriptor for
// the whole file, the one that I/O uses too: so the number of owners costs no descriptors, and what the
// kernel refuses is in the hands of a program of this host.
//
// The kernel's offsets end at 2^63-1. What is beyond is kept here only; no local program can ask for
// it.
type holder struct {
	owner fs.Owner              // immutable
	set   fs.RangeSet           // guarded by fileState.mu
	under map[fs.Owner]struct{} // guarded by fileState.mu; opens under which it locked, empty for none (NLM)
}

// flock is the kernel's form of a range. ok is false if the kernel cannot know it.
func flock(r fs.Range, t fs.LockType) (fl unix.Flock_t, ok bool) {
	if r.First > math.MaxInt64 {
		return fl, false
	}
	fl.Type = unix.F_UNLCK
	switch t {
	case fs.ReadLock:
		fl.Type = unix.F_RDLCK
	case fs.WriteLock:
		fl.Type = unix.F_WRLCK
	}
	fl.Whence = 0 // from the start
	fl.Start = int64(r.First)
	if r.Last < math.MaxInt64 {
		fl.Len = int64(r.Last-r.First) + 1
	}
	return fl, true
}

// rangeOf is the range of the kernel's lock.
func rangeOf(fl *unix.Flock_t) fs.Range {
	r := fs.Range{First: uint64(fl.Start), Last: math.MaxUint64}
	if fl.Len > 0 {
		r.Last = uint64(fl.Start) + uint64(fl.Len) - 1
	}
	return r
}

// setKernel sets a lock of the descriptor. The call does not wait.
func setKernel(fd int, r fs.Range, t fs.LockType) error {
	fl, ok := flock(r, t)
	if !ok {
		return nil
	}
	for {
		err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &fl)
		if err != syscall.EINTR {
			return err
		}
	}
}

// testKernel gives a lock that a lock through the descriptor would conflict with, or nil. The owner
// is nobody: a program of this host.
func testKernel(fd int, r fs.Range, t fs.LockType) (*fs.DeniedError, error) {
	fl, ok := flock(r, t)
	if !ok {
		return nil, nil
	}
	for {
		err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &fl)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || fl.Type == unix.F_UNLCK {
			return nil, err
		}
		d := &fs.DeniedError{Range: rangeOf(&fl), Type: fs.ReadLock}
		if fl.Type == unix.F_WRLCK {
			d.Type = fs.WriteLock
		}
		return d, nil
	}
}

// denied looks for a lock of another owner. f.mu is held.
func (f *fileState) denied(owner fs.Owner, r fs.Range, t fs.LockType) *fs.DeniedError {
	var held fs.RangeSet
	h := f.locks[owner]
	if h != nil {
		held = h.set
	}
	p, ok := f.union.conflict(h, held, r, t)
	if !ok {
		return nil
	}
	if w := p.writer; w != nil {
		l, _ := w.set.Conflict(r, t)
		return &fs.DeniedError{Range: l.Range, Type: l.Type, Owner: w.owner}
	}
	for other, o := range f.locks {
		if other == owner {
			continue
		}
		if l, ok := o.set.Conflict(r, t); ok {
			return &fs.DeniedError{Range: l.Range, Type: l.Type, Owner: other}
		}
	}
	return &fs.DeniedError{Range: p.Range, Type: fs.ReadLock} // not reached: the readers are among f.locks
}

var errBadLock = errors.New("not a lock")

func checkLock(owner fs.Owner, r fs.Range, t fs.LockType) error {
	if r.First > r.Last || (t != fs.ReadLock && t != fs.WriteLock) || owner.IsZero() {
		return fs.E("", fs.Inval, errBadLock)
	}
	return nil
}

// Lock is of fs.Backend. A reclaim is taken as any other lock, since there is nobody else to ask:
// whoever calls has judged it. It fails with ReclaimConflict where another would be denied.
//
// With a zero OpenOwner the lock is under no open, as those of NLM are, and permission for I/O is
// asked instead.
func (b *Backend) Lock(ctx context.Context, cred *fs.Cred, req *fs.LockRequest) error {
	const op = "LOCK"
	if err := b.begin(ctx); err != nil {
		return failure(op, err)
	}
	defer b.leave()
	if err := checkLock(req.LockOwner, req.Range, req.Type); err != nil {
		return failure(op, err)
	}
	if _, err := b.check(req.File); err != nil {
		return failure(op, err)
	}
	f, done, err := b.states.turn(ctx, req.File)
	if err != nil {
		return failure(op, err)
	}
	defer done()
	denied, freed, err := b.lock(cred, f, req)
	b.announce(f.h, freed)
	switch {
	case err != nil:
		return failure(op, err)
	case denied == nil:
		return nil
	case req.Reclaim:
		return fs.E(op, fs.ReclaimConflict, denied)
	case req.Wait:
		b.await(f, req, denied)
	}
	return denied
}

// lock takes the lock in the file's turn. freed are waiters whom a downgrade lets in.
func (b *Backend) lock(cred *fs.Cred, f *fileState, req *fs.LockRequest) (denied *fs.DeniedError, freed []*wait, err error) {
	write, err := b.mayLock(cred, f, req)
	if err != nil {
		return nil, nil, err
	}
	f.mu.Lock()
	denied = f.denied(req.LockOwner, req.Range, req.Type)
	h := f.locks[req.LockOwner]
	var held fs.RangeSet
	if h != nil {
		held = h.set
	}
	f.mu.Unlock()
	if denied != nil {
		return denied, nil, nil
	}
	if err := b.lockFile(f, write, req.Type); err != nil {
		return nil, nil, err
	}
	// The union over the range becomes what is asked for, whatever it was: one call, which the kernel
	// obeys wholly or not at all.
	for tries := 0; ; tries++ {
		err = setKernel(f.lockFD.fd, req.Range, req.Type)
		if err == nil || !isErrno(err, syscall.EAGAIN, syscall.EACCES) {
			break
		}
		// Unlocked between the two calls: try again, but not for ever.
		var e error
		if denied, e = testKernel(f.lockFD.fd, req.Range, req.Type); e != nil || denied != nil || tries == 3 {
			break
		}
	}
	if err != nil {
		b.endLocks(f)
		if !isErrno(err, syscall.EAGAIN, syscall.EACCES) {
			return nil, nil, err
		}
		if denied == nil {
			denied = &fs.DeniedError{Range: req.Range, Type: fs.WriteLock}
		}
		return denied, nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if h == nil {
		h = &holder{owner: req.LockOwner, under: make(map[fs.Owner]struct{})}
		f.locks[req.LockOwner] = h
	}
	f.union = f.union.set(h, held, req.Range, req.Type)
	h.set = held.With(req.Range, req.Type)
	if o := f.opens[req.OpenOwner]; o != nil {
		h.under[req.OpenOwner] = struct{}{}
		if o.lockers == nil {
			o.lockers = make(map[*holder]struct{})
		}
		o.lockers[h] = struct{}{}
	}
	f.dropWaits(req.LockOwner, req.Range, &b.polls)
	if req.Type == fs.ReadLock && held.Overlaps(req.Range) {
		freed = f.takeWaits(req.Range, &b.polls)
	}
	return nil, freed, nil
}

// mayLock asks whether the open allows the lock (RFC 8881 18.10.3: OpenMode), and tells whether the
// descriptor may be open for writing.
func (b *Backend) mayLock(cred *fs.Cred, f *fileState, req *fs.LockRequest) (write bool, err error) {
	if !req.OpenOwner.IsZero() {
		f.mu.Lock()
		defer f.mu.Unlock()
		o := f.opens[req.OpenOwner]
		switch {
		case o == nil:
			return false, fs.E("", fs.BadStateid, errNoOpen)
		case req.Type == fs.WriteLock && o.access&fs.ShareWrite == 0, req.Type == fs.ReadLock && o.access&fs.ShareRead == 0:
			return false, fs.E("", fs.OpenMode, errOpenMode)
		}
		return o.access&fs.ShareWrite != 0, nil
	}
	write = req.Type == fs.WriteLock
	file, err := b.files.get(f.h, write)
	if err != nil {
		return false, err
	}
	defer b.files.release(file)
	return write, b.mayIO(cred, f.h, file.fd, write)
}

// lockFile sees to it that the file has a descriptor that can carry the lock, in the turn. write says
// that it may be open for writing.
func (b *Backend) lockFile(f *fileState, write bool, t fs.LockType) error {
	old := f.lockFD
	if old != nil && (old.key.write || t == fs.ReadLock) {
		return nil
	}
	if old == nil && b.files.locks.Add(1) > b.files.maxLockFiles() {
		b.files.locks.Add(-1)
		return fs.E("", fs.Delay, fmt.Errorf("more than %d files with locks", b.files.maxLockFiles()))
	}
	file := b.files.cached(f.h, true)
	if file == nil {
		var err error
		if file, err = b.files.get(f.h, write); err != nil {
			if old == nil {
				b.files.locks.Add(-1)
			}
			return err
		}
	}
	if old != nil {
		// It was open for reading only, so all it holds is shared, and can be held twice for a moment:
		// nothing is let go in between.
		f.mu.Lock()
		all := f.union.kernel(allBytes)
		f.mu.Unlock()
		for _, l := range all {
			if l.Type == fs.NoLock {
				continue
			}
			if err := setKernel(file.fd, l.Range, l.Type); err != nil {
				b.unlockFile(file)
				return err
			}
		}
		b.unlockFile(old)
	}
	f.lockFD = file
	return nil
}

// allBytes is the whole file. To unlock it the kernel needs no memory, so it cannot fail.
var allBytes = fs.Range{Last: math.MaxUint64}

// unlockFile takes all locks from a descriptor, which may live on for I/O, and gives it back.
func (b *Backend) unlockFile(file *file) {
	if err := setKernel(file.fd, allBytes, fs.NoLock); err != nil {
		b.log.Error("the kernel does not unlock a file", "err", err)
	}
	b.files.release(file)
}

// endLocks gives the descriptor of locks back if nothing is locked any more, in the turn.
func (b *Backend) endLocks(f *fileState) {
	f.mu.Lock()
	over := f.lockFD != nil && len(f.union) == 0
	f.mu.Unlock()
	if over {
		b.unlockFile(f.lockFD)
		b.files.locks.Add(-1)
		f.lockFD = nil
	}
}

// unlock takes r from the owner, here and in the kernel, in the turn. Where the kernel wants memory for
// that and has none, what it did not unlock stays the owner's, and the error says so.
func (b *Backend) unlock(f *fileState, h *holder, r fs.Range) (freed []*wait, err error) {
	f.mu.Lock()
	runs := f.union.alone(h.set, r)
	f.mu.Unlock()
	done := r
	for _, run := range runs {
		if err = setKernel(f.lockFD.fd, run, fs.NoLock); err != nil {
			if run.First == r.First {
				return nil, err
			}
			done.Last = run.First - 1
			break
		}
	}
	f.mu.Lock()
	f.union = f.union.set(h, h.set, done, fs.NoLock)
	h.set = h.set.With(done, fs.NoLock)
	freed = f.takeWaits(done, &b.polls)
	f.mu.Unlock()
	b.endLocks(f)
	return freed, err
}

// Unlock is of fs.Backend.
func (b *Backend) Unlock(ctx context.Context, cred *fs.Cred, owner fs.Owner, file fs.Handle, r fs.Range) error {
	const op = "LOCKU"
	if err := b.begin(ctx); err != nil {
		return failure(op, err)
	}
	defer b.leave()
	if err := checkLock(owner, r, fs.ReadLock); err != nil {
		return failure(op, err)
	}
	if _, err := b.check(file); err != nil {
		return failure(op, err)
	}
	f, done, err := b.states.turn(ctx, file)
	if err != nil {
		return failure(op, err)
	}
	defer done()
	f.mu.Lock()
	h := f.locks[owner]
	f.mu.Unlock()
	if h == nil {
		return nil
	}
	freed, err := b.unlock(f, h, r)
	b.announce(file, freed)
	return failure(op, err)
}

// TestLock is of fs.Backend.
func (b *Backend) TestLock(ctx context.Context, cred *fs.Cred, owner fs.Owner, file fs.Handle, r fs.Range, t fs.LockType) error {
	const op = "LOCKT"
	if err := b.begin(ctx); err != nil {
		return failure(op, err)
	}
	defer b.leave()
	if err := checkLock(owner, r, t); err != nil {
		return failure(op, err)
	}
	if _, err := b.check(file); err != nil {
		return failure(op, err)
	}
	f, done, err := b.states.turn(ctx, file)
	if err != nil {
		return failure(op, err)
	}
	defer done()
	denied, err := b.test(f, owner, r, t)
	if err != nil {
		return failure(op, err)
	}
	if denied != nil {
		return denied
	}
	return nil
}

// test looks for a conflict, in the turn.
func (b *Backend) test(f *fileState, owner fs.Owner, r fs.Range, t fs.LockType) (*fs.DeniedError, error) {
	f.mu.Lock()
	denied := f.denied(owner, r, t)
	f.mu.Unlock()
	if denied != nil {
		return denied, nil
	}
	if f.lockFD != nil {
		return testKernel(f.lockFD.fd, r, t)
	}
	// Nothing of ours conflicts, so what the kernel finds is another program's.
	file, err := b.files.get(f.h, false)
	if err != nil {
		return nil, err
	}
	defer b.files.release(file)
	return testKernel(file.fd, r, t)
}

// ReleaseLockOwner is of fs.Backend: LocksHeld if it holds something.
func (b *Backend) ReleaseLockOwner(ctx context.Context, owner fs.Owner, file fs.Handle) error {
	const op = "FREE_STATEID"
	if err := b.begin(ctx); err != nil {
		return failure(op, err)
	}
	defer b.leave()
	if _, err := b.check(file); err != nil {
		return failure(op, err)
	}
	f, done, err := b.states.turn(ctx, file)
	if err != nil {
		return failure(op, err)
	}
	defer done()
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.locks[owner]
	if h == nil {
		return nil
	}
	if len(h.set) > 0 {
		return fs.E(op, fs.LocksHeld, fmt.Errorf("%d ranges", len(h.set)))
	}
	delete(f.locks, owner)
	for o := range h.under {
		if o := f.opens[o]; o != nil {
			delete(o.lockers, h)
		}
	}
	return nil
}

// ReclaimComplete is of fs.Backend: a local disk keeps nothing that could be reclaimed.
func (b *Backend) ReclaimComplete(ctx context.Context) error { return nil }
