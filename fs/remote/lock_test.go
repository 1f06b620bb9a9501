package remote

import (
	"context"
	"errors"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsup"
)

func lockReq(h fs.Handle, open, lock string, wait bool) *fs.LockRequest {
	return &fs.LockRequest{
		File: h, OpenOwner: fs.Owner{Client: "client", Owner: open}, LockOwner: fs.Owner{Client: "client", Owner: lock},
		Range: fs.Range{First: 0, Last: 9}, Type: fs.WriteLock, Wait: wait,
	}
}

func TestLocksOfTwoEndClientsConflict(t *testing.T) {
	r := newRig(t, newFake(), nil)
	ctx := context.Background()
	h := r.open("o1", "f").File
	r.open("o2", "f")
	r.must(r.Lock(ctx, alice, lockReq(h, "o1", "l1", false)))
	err := r.Lock(ctx, alice, lockReq(h, "o2", "l2", false))
	var d *fs.DeniedError
	if !errors.As(err, &d) || d.Owner != (fs.Owner{Client: "client", Owner: "l1"}) || d.Type != fs.WriteLock || d.Range.Last != 9 {
		t.Fatalf("got %v", err)
	}
	l2 := fs.Owner{Client: "client", Owner: "l2"}
	r.wants(r.TestLock(ctx, alice, l2, h, fs.Range{First: 5, Last: 5}, fs.ReadLock), fs.Denied)
	r.must(r.Unlock(ctx, alice, fs.Owner{Client: "client", Owner: "l1"}, h, fs.Range{First: 0, Last: 9}))
	r.must(r.TestLock(ctx, alice, l2, h, fs.Range{First: 5, Last: 5}, fs.ReadLock))
	r.must(r.Lock(ctx, alice, lockReq(h, "o2", "l2", false)))
	r.must(r.ReleaseLockOwner(ctx, fs.Owner{Client: "client", Owner: "l1"}, h))
	if _, _, locks := r.owners.count(); locks != 1 {
		t.Errorf("%d lock-owners are known", locks)
	}
	r.wants(r.Lock(ctx, alice, lockReq(h, "nobody", "l3", false)), fs.BadStateid)
}

func (r *rig) hears(owner string) {
	r.t.Helper()
	if got := <-r.l.available; got.Owner != owner {
		r.t.Fatalf("%v may have the lock, want %s", got, owner)
	}
}

// polled advances the clock to the next question and waits until it was asked.
func (r *rig) polled(d time.Duration) {
	r.t.Helper()
	before := r.stats.polls.Load()
	r.clock.Advance(d)
	for r.stats.polls.Load() == before || r.clock.Pending() == 0 && r.waiters.count() > 0 {
		select {
		case <-time.After(time.Millisecond):
		case <-r.t.Context().Done():
			r.t.Fatal("the origin was not asked")
		}
	}
}

func TestADeniedLockIsWatched(t *testing.T) {
	f := newFake()
	r := newRig(t, f, nil)
	ctx := context.Background()
	h := r.open("o1", "f").File
	r.open("o2", "f")
	r.must(r.Lock(ctx, alice, lockReq(h, "o1", "l1", false)))
	r.wants(r.Lock(ctx, alice, lockReq(h, "o2", "l2", false)), fs.Denied)
	if r.waiters.count() != 0 || r.clock.Pending() != 0 {
		t.Error("something runs although nobody waits")
	}
	r.wants(r.Lock(ctx, alice, lockReq(h, "o2", "l2", true)), fs.Denied)
	r.wants(r.Lock(ctx, alice, lockReq(h, "o2", "l2", true)), fs.Denied)
	if r.waiters.count() != 1 || r.clock.Pending() != 1 {
		t.Fatalf("%d waiters, %d timers after the same request twice", r.waiters.count(), r.clock.Pending())
	}
	// Exactly to the next question each time: one that is set while the clock moves on would be due too.
	for every := pollFirst; every < 2*pollMax; every *= 2 {
		r.polled(min(every, pollMax))
	}
	if n := r.stats.polls.Load(); n != 6 {
		t.Errorf("asked %d times in half a minute", n)
	}
	r.must(r.Unlock(ctx, alice, fs.Owner{Client: "client", Owner: "l1"}, h, fs.Range{First: 0, Last: 9}))
	r.clock.Advance(pollMax)
	r.hears("l2")
	if r.waiters.count() != 0 || r.clock.Pending() != 0 {
		t.Error("the waiter is still watched")
	}
	// It did not take the lock: that is the caller's.
	r.must(r.Lock(ctx, alice, lockReq(h, "o2", "l2", true)))
	if r.waiters.count() != 0 {
		t.Error("a granted request waits")
	}
}

func TestCancelWait(t *testing.T) {
	r := newRig(t, newFake(), nil)
	ctx := context.Background()
	h := r.open("o1", "f").File
	r.open("o2", "f")
	r.must(r.Lock(ctx, alice, lockReq(h, "o1", "l1", false)))
	r.wants(r.Lock(ctx, alice, lockReq(h, "o2", "l2", true)), fs.Denied)
	r.CancelWait(fs.Owner{Client: "client", Owner: "l2"}, h, fs.Range{First: 0, Last: 9})
	if r.waiters.count() != 0 || r.clock.Pending() != 0 {
		t.Error("a cancelled waiter is still watched")
	}
}

func TestCallbackOfTheOrigin(t *testing.T) {
	f := newFake()
	f.notify = true
	r := newRig(t, f, nil)
	ctx := context.Background()
	h := r.open("o1", "f").File
	r.open("o2", "f")
	r.must(r.Lock(ctx, alice, lockReq(h, "o1", "l1", false)))
	r.wants(r.Lock(ctx, alice, lockReq(h, "o2", "l2", true)), fs.Denied)
	r.clock.Advance(pollMax)
	if n := r.stats.polls.Load(); n != 0 {
		t.Errorf("asked %d times although the origin promised to call", n)
	}
	up := r.lockUp(fs.Owner{Client: "client", Owner: "l2"}, mustFH2(r, h))
	ev := r.events(0)
	ev.LockAvailable("other file", up)
	ev.LockAvailable(mustFH2(r, h), UpOwner{9})
	if r.waiters.count() != 1 {
		t.Fatal("a callback for another woke it")
	}
	ev.LockAvailable(mustFH2(r, h), up)
	r.hears("l2")

	// A callback that overtakes the answer is not lost.
	f.fail = func(op nfs4.OpNum) nfs4.Status {
		if op == nfs4.OP_LOCK {
			r.waiters.notify(up, mustFH2(r, h))
			f.fail = nil
		}
		return nfs4.NFS4_OK
	}
	r.wants(r.Lock(ctx, alice, lockReq(h, "o2", "l2", true)), fs.Denied)
	r.must(r.Unlock(ctx, alice, fs.Owner{Client: "client", Owner: "l1"}, h, fs.Range{First: 0, Last: 9}))
	r.clock.Advance(0)
	r.hears("l2")
}

func TestRevokedStateIsToldToItsOwner(t *testing.T) {
	r := newRig(t, newFake(), nil)
	ctx := context.Background()
	h := r.open("o1", "f").File
	r.must(r.Lock(ctx, alice, lockReq(h, "o1", "l1", false)))
	ev := r.events(0)
	open := r.openUp(fs.Owner{Client: "client", Owner: "o1"})
	lock := r.lockUp(fs.Owner{Client: "client", Owner: "l1"}, mustFH2(r, h))
	fh := mustFH2(r, h)
	ev.Revoked(nfsup.Revocation{Kind: nfsup.KindLock, OpenOwner: open, LockOwner: lock, FH: fh, Why: nfs4.NFS4ERR_NO_GRACE,
		Ranges: nfsup.RangeSet{{Range: nfsup.Range{First: 0, Last: 9}, Write: true}}})
	ev.Revoked(nfsup.Revocation{Kind: nfsup.KindOpen, OpenOwner: open, FH: fh, Why: nfs4.NFS4ERR_EXPIRED})
	ev.Revoked(nfsup.Revocation{Kind: nfsup.KindOpen, OpenOwner: UpOwner{7}, FH: fh, Why: nfs4.NFS4ERR_EXPIRED})
	if len(r.l.revoked) != 2 || r.l.revoked[0] != "l1" || r.l.revoked[1] != "o1" {
		t.Errorf("told %q", r.l.revoked)
	}
	if n, _, _ := r.owners.count(); n != 0 {
		t.Errorf("%d owners are still known", n)
	}
	if s := r.Status().Reclaims; s.RevokedLocks != 1 || s.RevokedOpens != 2 {
		t.Errorf("counted %+v", s)
	}
}

func TestGraceAndDelayOfTheOriginComeThrough(t *testing.T) {
	f := newFake()
	r := newRig(t, f, nil)
	ctx := context.Background()
	h := r.open("o", "f").File
	for s, want := range map[nfs4.Status]fs.Code{nfs4.NFS4ERR_GRACE: fs.Grace, nfs4.NFS4ERR_DELAY: fs.Delay, nfs4.NFS4ERR_SHARE_DENIED: fs.ShareDenied} {
		f.fail = func(op nfs4.OpNum) nfs4.Status {
			if op == nfs4.OP_OPEN || op == nfs4.OP_LOCK {
				return s
			}
			return nfs4.NFS4_OK
		}
		_, err := r.Open(ctx, alice, openReq("o2", r.root(), "f"))
		r.wants(err, want)
		r.wants(r.Lock(ctx, alice, lockReq(h, "o", "l", true)), want)
		if r.waiters.count() != 0 {
			t.Error("a request that was not denied is watched")
		}
	}
}
