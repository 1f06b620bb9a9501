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

// A holder is a lock-owner on one file. What it holds is kept here, and shown to the programs of
// this host by OFD locks on a descriptor of its own: with one descriptor per holder the kernel judges
// between holders, and between them and local programs, as we do.
//
// The kernel's offsets end at 2^63-1. What is beyond is kept here only; no local program can ask for
// it.
type holder struct {
	set   fs.RangeSet           // guarded by fileState.mu
	under map[fs.Owner]struct{} // guarded by fileState.mu; opens under which it locked, empty for none (NLM)
	fd    int                   // changed in the turn; -1 while nothing is held
	write bool                  // fd may carry write locks
	files *files
}

func (h *holder) closeFD() {
	if h.fd >= 0 {
		closeFD(h.fd)
		h.files.locks.Add(-1)
		h.fd = -1
	}
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
	for other, h := range f.locks {
		if other == owner {
			continue
		}
		if l, ok := h.set.Conflict(r, t); ok {
			return &fs.DeniedError{Range: l.Range, Type: l.Type, Owner: other}
		}
	}
	return nil
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
	if h == nil {
		h = &holder{fd: -1, under: make(map[fs.Owner]struct{}), files: &b.files}
	}
	if err := b.lockFD(f, h, held, write, req.Type); err != nil {
		return nil, nil, err
	}
	for tries := 0; ; tries++ {
		err = setKernel(h.fd, req.Range, req.Type)
		if err == nil || !isErrno(err, syscall.EAGAIN, syscall.EACCES) {
			break
		}
		// Unlocked between the two calls: try again, but not for ever.
		var e error
		if denied, e = testKernel(h.fd, req.Range, req.Type); e != nil || denied != nil || tries == 3 {
			break
		}
	}
	if err != nil {
		if len(held) == 0 {
			h.closeFD()
		}
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
	h.set = held.With(req.Range, req.Type)
	if !req.OpenOwner.IsZero() {
		h.under[req.OpenOwner] = struct{}{}
	}
	f.locks[req.LockOwner] = h
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

// lockFD sees to it that the holder has a descriptor that can carry the lock.
func (b *Backend) lockFD(f *fileState, h *holder, held fs.RangeSet, write bool, t fs.LockType) error {
	if h.fd >= 0 && (h.write || t == fs.ReadLock) {
		return nil
	}
	if b.files.locks.Add(1) > b.files.maxLockFiles() {
		b.files.locks.Add(-1)
		return fs.E("", fs.Delay, fmt.Errorf("more than %d lock owners", b.files.maxLockFiles()))
	}
	fd, err := b.openForLock(f.h, write)
	if err != nil {
		b.files.locks.Add(-1)
		return err
	}
	// The old descriptor was open for reading only, so all it holds is shared, and can be held twice
	// for a moment: nothing is let go in between.
	if h.fd >= 0 {
		for _, l := range held {
			if err := setKernel(fd, l.Range, l.Type); err != nil {
				closeFD(fd)
				b.files.locks.Add(-1)
				return err
			}
		}
		h.closeFD()
	}
	h.fd, h.write = fd, write
	return nil
}

// openForLock opens the file anew: OFD locks belong to the open file description. In the table the
// handle may not lead to it any more, but then it is open.
func (b *Backend) openForLock(h fs.Handle, write bool) (int, error) {
	if f := b.files.cached(h, write); f != nil {
		defer b.files.release(f)
		flags := unix.O_RDONLY
		if write {
			flags = unix.O_RDWR
		}
		return b.reopen(f.fd, flags)
	}
	return b.files.open(h, write)
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
	if h == nil || h.fd < 0 {
		return nil
	}
	if err := setKernel(h.fd, r, fs.NoLock); err != nil {
		return failure(op, err)
	}
	f.mu.Lock()
	h.set = h.set.With(r, fs.NoLock)
	if len(h.set) == 0 {
		h.closeFD()
	}
	freed := f.takeWaits(r, &b.polls)
	f.mu.Unlock()
	b.announce(file, freed)
	return nil
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
	h := f.locks[owner]
	f.mu.Unlock()
	if denied != nil {
		return denied, nil
	}
	if h != nil && h.fd >= 0 {
		return testKernel(h.fd, r, t)
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
	return nil
}

// ReclaimComplete is of fs.Backend: a local disk keeps nothing that could be reclaimed.
func (b *Backend) ReclaimComplete(ctx context.Context) error { return nil }
