package nfsdown

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

func fsOwner(client, owner string) fs.Owner { return fs.Owner{Client: client, Owner: owner} }

// back is what a client does when it finds that the server restarted: BADSESSION, then the same owner and verifier.
func (p *peer) back() *peer {
	p.t.Helper()
	p.connect()
	if st, _ := p.must(p.sequence()); st != nfs4.NFS4ERR_BADSESSION {
		p.t.Fatalf("SEQUENCE after the restart: %v", st)
	}
	return p.exchange()
}

func reclaimOpen(owner string, access, deny uint32) *nfs4.OpenArgs {
	return &nfs4.OpenArgs{ShareAccess: access, ShareDeny: deny, Owner: nfs4.StateOwner{Owner: owner}, Claim: nfs4.OpenClaim{Type: nfs4.CLAIM_PREVIOUS}}
}

func reclaimLock(open nfs4.Stateid, owner string, t nfs4.LockType, off, length uint64) *nfs4.LockArgs {
	a := lockArgs(open, owner, t, off, length)
	a.Reclaim = true
	return a
}

// I2, I3: what was held is reclaimed from the journal on disk, and nothing else.
func TestReclaimAfterRestart(t *testing.T) {
	w := newDurableWorld(t, nil)
	p, q := w.client("alice"), w.client("bob")
	fh, sid := p.open("o", "f")
	p.lock(fh, sid, "l", nfs4.WRITE_LT, 0, 10)
	qfh, qsid := q.open("qo", "g")
	q.lock(qfh, qsid, "ql", nfs4.WRITE_LT, 0, 10)
	var calls atomic.Int32
	w.reboot(func(_ context.Context, op string) error {
		if op == "Reclaim" || op == "ReclaimLock" {
			calls.Add(1)
		}
		return nil
	})
	if w.srv.Phase() != state.GraceActive {
		t.Fatalf("phase %v", w.srv.Phase())
	}
	if w.fs.Completes() != 0 {
		t.Fatal("ReclaimComplete before grace ended (I5)")
	}
	p.back()
	// Nothing but reclaims before RECLAIM_COMPLETE.
	p.fails(nfs4.NFS4ERR_GRACE, putroot, openArgs("o", "f", 3, 0))
	// What the journal does not know is refused, and the backend is not asked.
	p.fails(nfs4.NFS4ERR_RECLAIM_BAD, put(fh), reclaimOpen("other", 3, 0))
	p.fails(nfs4.NFS4ERR_RECLAIM_BAD, put(qfh), reclaimOpen("qo", 3, 0))
	if n := calls.Load(); n != 0 {
		t.Errorf("the backend was asked %d times", n)
	}
	open := last[*nfs4.OpenRes](p.ok(put(fh), reclaimOpen("o", 3, 0))).Stateid
	p.fails(nfs4.NFS4ERR_RECLAIM_BAD, put(fh), reclaimLock(open, "l", nfs4.WRITE_LT, 5, 10))
	p.ok(put(fh), reclaimLock(open, "l", nfs4.WRITE_LT, 0, 10))
	if held := w.fs.Held(fsOwner("alice", "l"), backendHandle(t, fh)); len(held) != 1 {
		t.Errorf("the backend holds %v", held)
	}
	p.ok(&nfs4.ReclaimCompleteArgs{})
	p.fails(nfs4.NFS4ERR_COMPLETE_ALREADY, &nfs4.ReclaimCompleteArgs{})
	p.fails(nfs4.NFS4ERR_NO_GRACE, put(fh), reclaimOpen("o", 3, 0))
	if w.srv.Phase() != state.GraceActive {
		t.Errorf("bob has not been here, and grace is %v", w.srv.Phase())
	}
	q.back()
	qopen := last[*nfs4.OpenRes](q.ok(put(qfh), reclaimOpen("qo", 3, 0))).Stateid
	q.ok(put(qfh), reclaimLock(qopen, "ql", nfs4.WRITE_LT, 0, 10))
	q.ok(&nfs4.ReclaimCompleteArgs{})
	// All are complete: grace ends at once, with one ReclaimComplete.
	eventually(t, "grace is over", func() bool { return w.srv.Phase() == state.GraceOver })
	if n := w.fs.Completes(); n != 1 {
		t.Errorf("ReclaimComplete %d times", n)
	}
	p.open("o", "h")
}

// DESIGN 3.7: what nobody reclaims is lost when time is over, and named.
func TestGraceEndsByTime(t *testing.T) {
	w := newDurableWorld(t, nil)
	p := w.client("alice")
	fh, sid := p.open("o", "f")
	p.lock(fh, sid, "l", nfs4.WRITE_LT, 0, 10)
	w.reboot(nil)
	w.clock.Advance(2 * time.Minute)
	eventually(t, "grace is over", func() bool { return w.srv.Phase() == state.GraceOver })
	if n := w.fs.Completes(); n != 1 {
		t.Errorf("ReclaimComplete %d times", n)
	}
	if lost := w.srv.Status().Grace.Lost; len(lost) != 2 {
		t.Errorf("lost: %+v", lost)
	}
	seen := map[string]int{}
	for e, err := range w.jr.Events(1, nil) {
		if err != nil {
			t.Fatal(err)
		}
		seen[e.Type+" "+e.Result]++
	}
	if seen["lost not reclaimed"] != 2 || seen["grace begin"] != 1 || seen["grace ended"] != 1 || seen["boot "] != 2 {
		t.Errorf("events: %v", seen)
	}
	p.back()
	p.fails(nfs4.NFS4ERR_NO_GRACE, put(fh), reclaimOpen("o", 3, 0))
	// After another restart it is not reclaimable either.
	p.ok(&nfs4.ReclaimCompleteArgs{})
	w.reboot(nil)
	if w.srv.Phase() == state.GraceActive && w.srv.Status().Grace.Remaining > 0 {
		t.Errorf("void records came back: %+v", w.srv.Status().Grace)
	}
}

// DESIGN 3.8: an origin that takes no reclaims ends grace; the refused reclaim is not turned into a lock.
func TestNoGraceFromTheOrigin(t *testing.T) {
	w := newDurableWorld(t, nil)
	p := w.client("alice")
	fh, sid := p.open("o", "f")
	p.lock(fh, sid, "l", nfs4.WRITE_LT, 0, 10)
	w.reboot(func(_ context.Context, op string) error {
		if op == "Reclaim" || op == "ReclaimLock" {
			return fs.E("OPEN", fs.NoGrace, nil)
		}
		return nil
	})
	p.back()
	p.fails(nfs4.NFS4ERR_NO_GRACE, put(fh), reclaimOpen("o", 3, 0))
	eventually(t, "grace is over", func() bool { return w.srv.Phase() == state.GraceOver })
	if w.fs.Opens() != 0 || w.fs.Completes() != 1 {
		t.Errorf("%d opens, %d times ReclaimComplete", w.fs.Opens(), w.fs.Completes())
	}
	p.fails(nfs4.NFS4ERR_NO_GRACE, put(fh), reclaimOpen("o", 3, 0))
}

// DESIGN 3: an intact and empty journal means nothing to reclaim.
func TestNothingToReclaim(t *testing.T) {
	w := newDurableWorld(t, nil)
	if w.srv.Phase() != state.GraceNone {
		t.Errorf("phase %v", w.srv.Phase())
	}
	eventually(t, "the backend is told", func() bool { return w.fs.Completes() == 1 })
	p := w.client("alice")
	p.open("o", "f")
}

// RFC 8881 8.4.3: after its lease ended a client cannot reclaim.
func TestExpiredClientCannotReclaim(t *testing.T) {
	w := newDurableWorld(t, nil)
	p := w.client("alice")
	fh, sid := p.open("o", "f")
	p.lock(fh, sid, "l", nfs4.WRITE_LT, 0, 10)
	w.clock.Advance(5 * time.Minute)
	eventually(t, "its state is released", func() bool { return w.fs.Opens() == 0 })
	w.reboot(nil)
	p.back()
	st, _ := p.do(put(fh), reclaimOpen("o", 3, 0))
	if st != nfs4.NFS4ERR_NO_GRACE && st != nfs4.NFS4ERR_RECLAIM_BAD {
		t.Errorf("reclaim after expiry: %v", st)
	}
}

// The journal before the answer: a grant that is not durable is not given.
func TestNoGrantWithoutJournal(t *testing.T) {
	w := newDurableWorld(t, nil)
	p := w.client("alice")
	fh, sid := p.open("o", "f")
	if err := w.jr.Close(); err != nil {
		t.Fatal(err)
	}
	st, _ := p.do(put(fh), lockArgs(sid, "l", nfs4.WRITE_LT, 0, 10))
	if st == nfs4.NFS4_OK {
		t.Fatal("a lock was granted without a journal")
	}
	eventually(t, "the backend's lock is given back", func() bool { return len(w.fs.Held(fsOwner("alice", "l"), backendHandle(t, fh))) == 0 })
}

// DESIGN 5: a client that restarts can reclaim at a friendly server; its old stateids are dead.
func TestClientRestart(t *testing.T) {
	w := newDurableWorld(t, func(c *Config) { c.State.Retain = state.RetainAlways })
	p, q := w.client("alice"), w.client("bob")
	fh, sid := p.open("o", "f")
	p.lock(fh, sid, "l", nfs4.WRITE_LT, 0, 10)
	_, qsid := q.open("qo", "f")
	p2 := w.dial("alice")
	p2.verf = 2
	p2.exchange()
	q.fails(nfs4.NFS4ERR_DENIED, put(fh), lockArgs(qsid, "ql", nfs4.WRITE_LT, 0, 10))
	p2.fails(nfs4.NFS4ERR_BAD_STATEID, put(fh), &nfs4.CloseArgs{OpenStateid: sid})
	open := last[*nfs4.OpenRes](p2.ok(put(fh), reclaimOpen("o", 3, 0))).Stateid
	p2.ok(put(fh), reclaimLock(open, "l", nfs4.WRITE_LT, 0, 10))
	p2.ok(&nfs4.ReclaimCompleteArgs{})
	q.fails(nfs4.NFS4ERR_DENIED, put(fh), lockArgs(qsid, "ql", nfs4.WRITE_LT, 0, 10))
	// Without a reclaim it goes when the next incarnation is complete.
	p3 := w.dial("alice")
	p3.verf = 3
	p3.exchange()
	p3.ok(&nfs4.ReclaimCompleteArgs{})
	eventually(t, "the lock is free", func() bool {
		st, _ := q.do(put(fh), lockArgs(qsid, "ql", nfs4.WRITE_LT, 0, 10))
		return st == nfs4.NFS4_OK
	})
}
