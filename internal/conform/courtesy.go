package conform

import (
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/plain"
)

// Clients that stay away for longer than their lease: RFC 8881 8.3 and 8.4.2. A server may be courteous
// and keep their state while nobody wants it, and must not be more than that.
var courtesyTests = []Test{
	{Name: "lease/kept", Section: "8.3", Slow: true, About: "a client that renews keeps its lock for longer than a lease", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		f, fb := a.open("", "a", both, none), b.open("", "b", both, none)
		id := a.lock(f, nfs4.WRITE_LT, 0, 10)
		t.wait(beyond(t.report.Lease), a, b)
		if !a.alive(id) {
			t.fail("the lock is gone")
		}
		b.denied(fb, 0, 10, true)
	}},
	{Name: "courtesy/yields", Section: "8.4.3", Slow: true, About: "what a client holds that stays away yields to the first who wants it, and the client is told", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		f, fb := a.open("", "a", both, none), b.open("", "b", both, none)
		id := a.lock(f, nfs4.WRITE_LT, 0, 10)
		a.Cut()
		t.wait(beyond(t.report.Lease), b)
		for deadline := time.Now().Add(beyond(t.report.Lease)); ; t.wait(time.Second, b) {
			_, err := b.tryLock(fb, "b", nfs4.WRITE_LT, 0, 10, false)
			if t.want(err, "LOCK of what a client has that stayed away", nfs4.NFS4_OK, nfs4.NFS4ERR_DENIED) == nfs4.NFS4_OK {
				break
			}
			if time.Now().After(deadline) {
				t.fail("it is still denied after more than two leases")
			}
		}
		t.ok(a.Dial(t.ctx), "connecting")
		_, err := a.Do(t.ctx, false, &nfs4.PutfhArgs{FH: f.fh}, &nfs4.WriteArgs{Stateid: id, Stable: nfs4.FILE_SYNC4, Data: []byte("x")})
		t.refused(err, "WRITE under the lock that another has now")
	}},
	{Name: "courtesy/return", Section: "8.4.2", Slow: true, About: "a client that stayed away and comes back has its lock, or is told that it has not", run: func(t *T) {
		a, b := t.client("a"), t.client("b")
		f, fb := a.open("", "a", both, none), b.open("", "b", both, none)
		id := a.lock(f, nfs4.WRITE_LT, 0, 10)
		a.Cut()
		t.wait(beyond(t.report.Lease), b)
		t.ok(a.Dial(t.ctx), "connecting")
		kept, err := a.Alive(t.ctx, id)
		if s, answered := plain.StatusOf(err); !answered {
			t.fail("TEST_STATEID: %v", err)
		} else if s != nfs4.NFS4_OK {
			kept = false // the session went: this tells it too
		}
		b.denied(fb, 0, 10, kept)
	}},
	{Name: "retain/absence", Section: "draft", Slow: true, About: "what is retained outlives the lease, and is there for a client that restarted meanwhile", run: func(t *T) {
		a, b := t.retaining("a"), t.client("b")
		f, fb := a.open("", "a", both, none), b.open("", "b", both, none)
		a.lock(f, nfs4.WRITE_LT, 0, 10)
		a.Cut()
		t.wait(beyond(t.report.Lease), b)
		b.denied(fb, 0, 10, true)
		a.restart()
		a.reclaim(f, nfs4.WRITE_LT, 0, 10)
		a.complete()
		b.denied(fb, 0, 10, true)
	}},
	{Name: "retain/cap", Section: "seed; draft", Slow: true, About: "what is never reclaimed yields when its time is over", run: func(t *T) {
		a, b, _, fb := t.held(nfs4.OPEN4_SHARE_DENY_NONE)
		want := nfs4.Bits(nfs4.FATTR4_RETAIN_RECLAIM_CAP)
		list, err := b.do(&nfs4.PutrootfhArgs{}, &nfs4.GetattrArgs{Request: want})
		t.ok(err, "GETATTR")
		limit := time.Duration(list[1].(*nfs4.GetattrRes).Attrs.RetainReclaimCap) * time.Second
		if limit > 4*t.report.Lease {
			t.skip("the reclaim cap of %v is too long to wait for", limit)
		}
		t.wait(limit+t.report.Lease/4+2*time.Second, a, b)
		b.lock(fb, nfs4.WRITE_LT, 0, 10)
	}},
}

// beyond is a time that is longer than a lease.
func beyond(lease time.Duration) time.Duration { return lease + lease/4 + 2*time.Second }
