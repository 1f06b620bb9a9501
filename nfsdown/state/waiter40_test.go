package state

import (
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// RFC 7530 9.4: who waits polls, and can be told nothing. A range is kept for one that asked lately, not for one that
// asks no more.
func TestWaiterThatStopsAsking40(t *testing.T) {
	for _, c := range []struct {
		asks bool // in the end once more
		want error
	}{{true, nfs4.NFS4ERR_DENIED}, {false, nil}} {
		w := newWorld(t, Config{Lease: 90 * time.Second, WaiterHold: 5 * time.Second})
		p := w.peer40("alice")
		p.must(p.connect())
		for _, o := range []string{"o1", "o2", "o3"} {
			p.must(p.open(o, "f", fs.ShareBoth, 0, false))
		}
		wait := func() error {
			return p.request(func() error {
				plan, err := p.planLock(t.Context(), p.lockRequest("o2", "x2", "f", ten, fs.WriteLock, true, false))
				if err != nil {
					return err
				}
				return p.doLock(plan)
			})
		}
		p.must(p.lock("o1", "x1", "f", ten, fs.WriteLock, false))
		wants(t, "the waiter", wait(), nfs4.NFS4ERR_DENIED)
		for range 3 { // it renews its lease, and asks or does not
			w.now = w.now.Add(45 * time.Second)
			p.must(p.request(func() error { return nil }))
			if c.asks {
				wants(t, "the waiter again", wait(), nfs4.NFS4ERR_DENIED)
			}
		}
		p.must(p.request(func() error {
			u, err := w.srv.PrepareUnlock(t.Context(), p.c, p.locks[owned("x1", "f")], "f", ten)
			if err != nil {
				return err
			}
			_, eff, err := u.Settle(w.backend.Unlock(t.Context(), fs.Root, u.Owner, "f", ten))
			w.run(eff)
			return err
		}))
		wants(t, "a third one", p.lock("o3", "x3", "f", ten, fs.WriteLock, false), c.want)
	}
}
