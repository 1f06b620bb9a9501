package remote

import (
	"context"
	"errors"
	"math"
	"sync/atomic"

	"holdfast/fs"
	"holdfast/internal/broken"
	"holdfast/nfsup"
)

// Lock takes a byte range: LOCK, RFC 8881 18.10. With Wait it is READW_LT or WRITEW_LT, and a denied
// request is announced when it may succeed: by the origin's CB_NOTIFY_LOCK, or by asking.
//
// With Reclaim it is a LOCK with reclaim under a reclaimed open, or nothing.
func (r *Remote) Lock(ctx context.Context, cred *fs.Cred, req *fs.LockRequest) error {
	leave, err := r.enter(ctx, "LOCK", req.Reclaim)
	if err != nil {
		return err
	}
	defer leave()
	if req.Type != fs.ReadLock && req.Type != fs.WriteLock {
		return fs.E("LOCK", fs.Inval, nil)
	}
	if unspeakable(req.Range) {
		return fs.E("LOCK", fs.BadRange, nil)
	}
	fh, err := r.resolve(ctx, req.File)
	if err != nil {
		return err
	}
	openUp := r.openUp(req.OpenOwner)
	lockUp := r.lockUp(req.LockOwner, fh)
	r.owners.begin(lockUp, req.LockOwner)
	defer r.owners.end(lockUp)
	wait := req.Wait && !req.Reclaim // a reclaim never waits (18.10.3)
	var w *waiter
	if wait {
		w = r.waiters.add(lockUp, req, fh, cred)
	}
	args := nfsup.LockArgs{
		FH:        fh,
		OpenOwner: openUp,
		LockOwner: lockUp,
		Range:     nfsup.Range(req.Range),
		Write:     req.Type == fs.WriteLock,
		Wait:      wait,
		Reclaim:   req.Reclaim,
	}
	err = r.up.Lock(ctx, r.upCred(cred), &args)
	if broken.ReclaimAsLock && req.Reclaim && err != nil {
		args.Reclaim = false
		_ = r.up.ReclaimComplete(ctx)
		err = r.up.Lock(ctx, r.upCred(cred), &args)
	}
	if req.Reclaim {
		r.countReclaim(err, &r.stats.reclaimedLocks)
	}
	if err == nil {
		r.owners.locked(lockUp, openUp, req.File)
		r.dataLocked(req.OpenOwner, req.File)
	}
	var denied *nfsup.DeniedError
	isDenied := errors.As(err, &denied)
	if w != nil {
		if isDenied {
			r.waiters.denied(w, r.owners.mayNotify(openUp, req.File))
		} else {
			r.waiters.remove(w)
		}
	}
	if isDenied {
		return r.denied(denied)
	}
	return r.refusedReclaim(req.Reclaim, r.fail("LOCK", err, req.File))
}

// unspeakable tells that LOCK cannot say the range: bytes 0 to 2^64-2, whose length is the one that means
// "to the end" (RFC 8881 18.10.3).
func unspeakable(r fs.Range) bool { return r == fs.Range{First: 0, Last: math.MaxUint64 - 1} }

// countReclaim counts the origin's answer to a reclaim.
func (r *Remote) countReclaim(err error, granted *atomic.Uint64) {
	if err == nil {
		granted.Add(1)
		return
	}
	switch fs.CodeOf(toFS("", err)) {
	case fs.NoGrace, fs.ReclaimBad, fs.ReclaimConflict:
		r.stats.refusedReclaims.Add(1)
	}
}

// refusedReclaim makes ReclaimBad of NoGrace where other reclaims can succeed. NoGrace would say that the
// origin takes none, and the server would end grace for all of its clients; but here one stateid, or one of
// several upstream clients, is lost.
func (r *Remote) refusedReclaim(reclaim bool, err error) error {
	if reclaim && r.resumed.Load() && fs.CodeOf(err) == fs.NoGrace {
		return fs.E("", fs.ReclaimBad, err)
	}
	return err
}

// denied converts the holder of the lock that stands in the way.
func (r *Remote) denied(d *nfsup.DeniedError) error {
	t := fs.ReadLock
	if d.Write {
		t = fs.WriteLock
	}
	return &fs.DeniedError{Range: fs.Range(d.Range), Type: t, Owner: r.owners.holder(d)}
}

// Unlock gives a byte range back: LOCKU, RFC 8881 18.12.
func (r *Remote) Unlock(ctx context.Context, cred *fs.Cred, lock fs.Owner, file fs.Handle, rng fs.Range) error {
	fh, err := r.resolve(ctx, file)
	if err != nil {
		return err
	}
	up := r.lockUp(lock, fh)
	if unspeakable(rng) {
		if err := r.up.Unlock(ctx, up, fh, nfsup.Range{First: 0, Last: 0}); err != nil && !errors.Is(err, nfsup.ErrNoState) {
			return r.fail("LOCKU", err, file)
		}
		rng.First = 1
	}
	err = r.up.Unlock(ctx, up, fh, nfsup.Range(rng))
	if errors.Is(err, nfsup.ErrNoState) {
		return nil
	}
	return r.fail("LOCKU", err, file)
}

// TestLock asks whether a lock would be denied: LOCKT, RFC 8881 18.11.
func (r *Remote) TestLock(ctx context.Context, cred *fs.Cred, owner fs.Owner, file fs.Handle, rng fs.Range, t fs.LockType) error {
	if unspeakable(rng) {
		return fs.E("LOCKT", fs.BadRange, nil)
	}
	fh, err := r.resolve(ctx, file)
	if err != nil {
		return err
	}
	up := r.lockUp(owner, fh)
	err = r.up.TestLock(ctx, r.upCred(cred), up, fh, nfsup.Range(rng), t == fs.WriteLock)
	var denied *nfsup.DeniedError
	if errors.As(err, &denied) {
		return r.denied(denied)
	}
	return r.fail("LOCKT", err, file)
}

// ReleaseLockOwner forgets a lock-owner that holds nothing on the file: FREE_STATEID, RFC 8881 18.38.
func (r *Remote) ReleaseLockOwner(ctx context.Context, lock fs.Owner, file fs.Handle) error {
	fh, err := r.resolve(ctx, file)
	if err != nil {
		return err
	}
	up := r.lockUp(lock, fh)
	err = r.up.FreeLockOwner(ctx, up, fh)
	if err == nil || errors.Is(err, nfsup.ErrNoState) {
		r.owners.unlocked(up, file)
		return nil
	}
	return r.fail("FREE_STATEID", err, file)
}

// CancelWait takes a denied request out of the queue. The origin's own queue forgets it by itself: a
// place in it is only a hint (RFC 8881 9.6).
func (r *Remote) CancelWait(owner fs.Owner, file fs.Handle, rng fs.Range) {
	r.waiters.cancel(owner, file, rng)
}
