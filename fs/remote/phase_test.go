package remote

import (
	"context"
	"testing"
	"testing/synctest"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

func openReq(owner string, dir fs.Handle, name string) *fs.OpenRequest {
	return &fs.OpenRequest{Owner: fs.Owner{Client: "client", Owner: owner}, Access: fs.ShareBoth, Dir: dir, Name: name, Create: fs.Unchecked}
}

func TestReclaimCompleteWaitsForReexport(t *testing.T) {
	r := newRig(t, newFake(), nil)
	ctx := context.Background()
	_, err := r.Open(ctx, alice, openReq("o", r.root(), "f"))
	r.must(err)
	if r.f.dones != 0 {
		t.Error("an open of an end client sent RECLAIM_COMPLETE: what was not reclaimed yet is lost")
	}
	r.must(r.ReclaimComplete(ctx))
	r.must(r.ReclaimComplete(ctx))
	if r.f.dones != 1 {
		t.Errorf("RECLAIM_COMPLETE was sent %d times (I5)", r.f.dones)
	}
}

func TestFirstOpenWithoutReexportSendsReclaimComplete(t *testing.T) {
	f := newFake()
	r := newRig(t, f, func(c *Config) { c.Reexport = false })
	ctx := context.Background()
	seen := -1
	f.fail = func(op nfs4.OpNum) nfs4.Status {
		if op == nfs4.OP_OPEN {
			seen = f.dones
		}
		return nfs4.NFS4_OK
	}
	res, err := r.Open(ctx, alice, openReq("o", r.root(), "f"))
	r.must(err)
	if seen != 1 {
		t.Errorf("RECLAIM_COMPLETE was sent %d times before the first open, want 1 (I5)", seen)
	}
	// A re-export that starts now is too late.
	_, err = r.Open(ctx, alice, &fs.OpenRequest{Owner: fs.Owner{Client: "c"}, Access: fs.ShareRead, File: res.File, Reclaim: true})
	r.wants(err, fs.NoGrace)
	_, err = r.Open(ctx, alice, openReq("o2", r.root(), "f"))
	r.must(err)
	if f.dones != 1 {
		t.Errorf("RECLAIM_COMPLETE was sent %d times", f.dones)
	}
}

func TestAReclaimIsAReclaimOrNothing(t *testing.T) {
	f := newFake()
	file := f.add(f.root, "f", nfs4.NF4REG)
	r := newRig(t, f, nil)
	ctx := context.Background()
	h, _, err := r.Lookup(ctx, alice, r.root(), "f")
	r.must(err)
	owner := fs.Owner{Client: "c", Owner: "o"}
	locker := fs.Owner{Client: "c", Owner: "l"}
	up, lup := r.openUp(owner), r.lockUp(locker, file.fh)
	f.heldOp = map[fakeKey]uint32{{up, file.fh}: 1}
	f.held = map[fakeKey]fs.RangeSet{{lup, file.fh}: {{Range: fs.Range{First: 0, Last: 9}, Type: fs.WriteLock}}}

	req := &fs.OpenRequest{Owner: owner, Access: fs.ShareBoth, File: h, Reclaim: true}
	_, err = r.Open(ctx, alice, req)
	r.wants(err, fs.ReclaimBad) // more than was held
	if len(f.opens) != 0 {
		t.Fatal("a refused reclaim became an ordinary open")
	}
	req.Access = fs.ShareRead
	_, err = r.Open(ctx, alice, req)
	r.must(err)
	lock := &fs.LockRequest{File: h, OpenOwner: owner, LockOwner: locker, Range: fs.Range{First: 5, Last: 10}, Type: fs.WriteLock, Reclaim: true, Wait: true}
	r.wants(r.Lock(ctx, alice, lock), fs.ReclaimBad) // I3
	if len(f.locks[fakeKey{lup, file.fh}]) != 0 || r.waiters.count() != 0 {
		t.Fatal("a refused reclaim became an ordinary lock")
	}
	lock.Range.Last = 9
	r.must(r.Lock(ctx, alice, lock))

	r.must(r.ReclaimComplete(ctx))
	n := r.requests(func() { _, err = r.Open(ctx, alice, req) })
	r.wants(err, fs.NoGrace)
	r.wants(r.Lock(ctx, alice, lock), fs.NoGrace)
	if n != 0 {
		t.Error("a reclaim went upstream after RECLAIM_COMPLETE")
	}
	if got := r.Status().Reclaims; got.Opens != 1 || got.Locks != 1 || got.Refused != 2 {
		t.Errorf("counted %+v", got)
	}
}

func TestReclaimCompleteWaitsForReclaimsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		p := &phase{phase: PhaseRecovering, send: func(context.Context) error { sent++; return nil }}
		leave, err := p.enterReclaim("LOCK")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 2)
		for range 2 {
			go func() { done <- p.complete(context.Background()) }()
		}
		synctest.Wait()
		if sent != 0 {
			t.Error("RECLAIM_COMPLETE overtook a reclaim (I5)")
		}
		if _, err := p.enterReclaim("LOCK"); fs.CodeOf(err) != fs.NoGrace {
			t.Errorf("a reclaim slipped in: %v", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := p.complete(ctx); fs.CodeOf(err) != fs.Interrupted {
			t.Errorf("a caller that went away got %v", err)
		}
		leave()
		synctest.Wait()
		if first, second := <-done, <-done; first != nil || second != nil || sent != 1 || p.now() != PhaseRunning {
			t.Errorf("sent %d times, phase %s", sent, p.now())
		}
	})
}

func TestAFailedReclaimCompleteLetsNoReclaimPass(t *testing.T) {
	f := newFake()
	r := newRig(t, f, nil)
	bad := true
	f.fail = func(op nfs4.OpNum) nfs4.Status {
		if op == nfs4.OP_RECLAIM_COMPLETE && bad {
			return nfs4.NFS4ERR_DELAY
		}
		return nfs4.NFS4_OK
	}
	ctx := context.Background()
	r.wants(r.ReclaimComplete(ctx), fs.Delay)
	_, err := r.enter(ctx, "OPEN", true)
	r.wants(err, fs.NoGrace)
	bad = false
	r.must(r.ReclaimComplete(ctx))
	if f.dones != 1 {
		t.Errorf("sent %d times", f.dones)
	}
}

func TestAnotherServerScopeLosesEverything(t *testing.T) {
	f := newFake()
	r := newRig(t, f, nil)
	r.phase.lost = errScope
	_, err := r.enter(context.Background(), "OPEN", true)
	r.wants(err, fs.NoGrace)
	if r.Status().Lost == "" {
		t.Error("the status does not say so")
	}
}
