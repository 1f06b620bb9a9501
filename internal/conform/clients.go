package conform

import (
	"holdfast/internal/nfs4"
	"holdfast/internal/plain"
)

// Clients that come back, and sessions: RFC 8881 sections 2.10, 18.35 and 18.36.
var clientTests = []Test{
	{Name: "client/same", Section: "18.35.4", About: "a client that comes back with its verifier has its client ID and its locks", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		f := a.open("", "a", both, none)
		id := a.lock(f, nfs4.WRITE_LT, 0, 10)
		if !a.comeBack() {
			t.fail("the same owner and verifier got another client ID")
		}
		if !a.alive(id) {
			t.fail("the stateid of the lock is dead")
		}
		b.denied(b.open("", "b", both, none), 0, 10, true)
	}},
	{Name: "client/announced", Section: "18.35.4", About: "a new verifier alone takes nothing away: only CREATE_SESSION does", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		f := a.open("", "a", both, none)
		id := a.lock(f, nfs4.WRITE_LT, 0, 10)
		v, err := plain.NewVerifier()
		t.ok(err, "drawing a verifier")
		stranger := *a.Client
		stranger.Verf = v
		t.ok(stranger.Dial(t.ctx), "connecting")
		defer stranger.Cut()
		_, err = stranger.ExchangeID(t.ctx, false)
		t.ok(err, "EXCHANGE_ID")
		if stranger.ID == a.ID {
			t.fail("another verifier got the same client ID")
		}
		if !a.alive(id) {
			t.fail("the stateid of the lock is dead before CREATE_SESSION")
		}
		b.denied(b.open("", "b", both, none), 0, 10, true)
	}},
	{Name: "client/restart", Section: "18.35.4", About: "CREATE_SESSION with a new verifier ends the old session and stateids", run: func(t *T) {
		a := t.client("a")
		f := a.open("", "a", both, none)
		id := a.lock(f, nfs4.WRITE_LT, 0, 10)
		old := *a.Client
		a.restart()
		for what, s := range map[string]nfs4.Stateid{"open": f.id, "lock": id} {
			if a.alive(s) {
				t.fail("the stateid of the %s outlived its client", what)
			}
		}
		t.ok(old.Dial(t.ctx), "connecting")
		defer old.Cut()
		_, err := old.Do(t.ctx, true, &nfs4.PutrootfhArgs{})
		t.want(err, "a request in the session of before", nfs4.NFS4ERR_BADSESSION, nfs4.NFS4ERR_DEADSESSION)
	}},
	{Name: "client/never-both", Section: "8.4.2.1", About: "after a restart of a client its lock is either held for it or gone, and never given to two", run: func(t *T) {
		a, b := t.newcomer("a", true), t.client("b")
		a.complete()
		f := a.open("", "a", both, none)
		a.lock(f, nfs4.WRITE_LT, 0, 10)
		fb := b.open("", "b", both, none)
		a.restart()
		b.hasty = true
		_, err := b.tryLock(fb, "b", nfs4.WRITE_LT, 0, 10, false)
		rival := t.want(err, "LOCK by another client", nfs4.NFS4_OK, nfs4.NFS4ERR_DENIED, nfs4.NFS4ERR_GRACE)
		_, err = a.tryReclaim(f, nfs4.WRITE_LT, 0, 10)
		mine := t.want(err, "the reclaim", nfs4.NFS4_OK, nfs4.NFS4ERR_NO_GRACE, nfs4.NFS4ERR_RECLAIM_BAD, nfs4.NFS4ERR_RECLAIM_CONFLICT)
		if rival == nfs4.NFS4_OK && mine == nfs4.NFS4_OK {
			t.fail("both clients have the same exclusive lock")
		}
		a.complete()
		if b.hasty = false; mine == nfs4.NFS4_OK {
			b.denied(fb, 0, 10, true)
		}
	}},
	{Name: "session/replay", Section: "2.10.6.1", About: "a request that is sent again is not done again: it gets its answer of before", run: func(t *T) {
		a := t.client("a")
		a.open("-gone", "a", both, none)
		again := []nfs4.Args{&nfs4.SequenceArgs{SessionID: a.Session, SequenceID: a.Slot, CacheThis: true},
			&nfs4.PutfhArgs{FH: t.dir}, &nfs4.RemoveArgs{Name: t.name + "-gone"}}
		for _, what := range []string{"REMOVE", "the same again"} {
			_, err := a.Call(t.ctx, again)
			t.ok(err, what)
		}
		a.Slot++
		_, err := a.do(&nfs4.PutfhArgs{FH: t.dir}, &nfs4.RemoveArgs{Name: t.name + "-gone"})
		t.want(err, "REMOVE as a request of its own", nfs4.NFS4ERR_NOENT)
	}},
	{Name: "session/order", Section: "2.10.6.1", About: "a request from the future of its slot is refused", run: func(t *T) {
		a := t.client("a")
		_, err := a.Call(t.ctx, []nfs4.Args{&nfs4.SequenceArgs{SessionID: a.Session, SequenceID: a.Slot + 1}, &nfs4.PutrootfhArgs{}})
		t.want(err, "SEQUENCE with a number that is too high", nfs4.NFS4ERR_SEQ_MISORDERED)
	}},
	{Name: "session/create-replay", Section: "18.36.4", About: "CREATE_SESSION that is sent again gives the session of before", run: func(t *T) {
		a := t.client("a")
		_, err := a.CreateSession(t.ctx)
		t.ok(err, "CREATE_SESSION")
		first := a.Session
		a.NextCS--
		_, err = a.CreateSession(t.ctx)
		t.ok(err, "CREATE_SESSION again")
		if a.Session != first {
			t.fail("the same request made another session")
		}
		a.NextCS += 2
		_, err = a.CreateSession(t.ctx)
		a.NextCS -= 2
		t.want(err, "CREATE_SESSION with a number that is too high", nfs4.NFS4ERR_SEQ_MISORDERED)
	}},
}

// RECLAIM_COMPLETE: RFC 8881 section 18.51.
var completeTests = []Test{
	{Name: "complete/twice", Section: "18.51.3", About: "RECLAIM_COMPLETE is for once", run: func(t *T) {
		a := t.client("a")
		t.want(a.tryComplete(), "RECLAIM_COMPLETE again", nfs4.NFS4ERR_COMPLETE_ALREADY)
	}},
	{Name: "complete/before", Section: "18.51.3", About: "a client that has not sent RECLAIM_COMPLETE gets no new open", run: func(t *T) {
		t.client("other").open("", "o", both, none)
		a := t.newcomer("a", false)
		a.hasty = true
		_, err := a.tryOpen("", "a", both, none)
		t.want(err, "OPEN before RECLAIM_COMPLETE", nfs4.NFS4ERR_GRACE)
		a.complete()
		a.hasty = false
		a.open("", "a", both, none)
	}},
	{Name: "complete/late", Section: "18.51.3", About: "RECLAIM_COMPLETE that comes late is as good as any", run: func(t *T) {
		a, b := t.newcomer("a", false), t.client("b")
		f := b.open("", "b", both, none)
		b.lock(f, nfs4.WRITE_LT, 0, 10)
		a.ping()
		a.complete()
		a.denied(a.open("", "a", both, none), 0, 10, true)
	}},
	{Name: "complete/nothing", Section: "8.4.2.1", About: "a client that never was can reclaim nothing", run: func(t *T) {
		f := t.client("other").open("", "o", both, none)
		a := t.newcomer("a", false)
		_, err := a.reclaimOpen(f.fh, "a", both, none)
		t.want(err, "OPEN as a reclaim", nfs4.NFS4ERR_NO_GRACE, nfs4.NFS4ERR_RECLAIM_BAD)
	}},
}
