package nfsup

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"holdfast/internal/nfs4"
)

// Many reclaims go in few requests, and one that is refused costs no other; what is left out may be asked for
// alone, and the tables then have what the server has.
func TestReclaimMany(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.grace = true
		c := dial(func(cfg *Config) { cfg.DelayReclaimComplete = true })
		ctx := t.Context()
		const opens, ranges = 70, 5
		var list []*BulkReclaim
		for i := range opens {
			fh := nfs4.FH(fmt.Sprint("f", i))
			x := &BulkReclaim{Open: *openFH(fh, i, 3, 0)}
			x.Open.Reclaim = true
			for n := range ranges {
				l := lockOf(fh, i, 1000+i, uint64(n)*20, uint64(n)*20+9)
				l.Reclaim = true
				x.Locks = append(x.Locks, *l)
			}
			// A second lock-owner under the same open.
			l := lockOf(fh, i, 2000+i, 1000, 1009)
			l.Reclaim = true
			x.Locks = append(x.Locks, *l)
			list = append(list, x)
		}
		refusedOpen, refusedLock := owner(7), owner(1009)
		s.before = func(a nfs4.Args) nfs4.Status {
			switch a := a.(type) {
			case *nfs4.OpenArgs:
				if a.Owner.Owner == string(refusedOpen[:]) {
					return nfs4.NFS4ERR_RECLAIM_BAD
				}
			case *nfs4.LockArgs:
				if !a.Reclaim {
					t.Error("a reclaim was sent as an ordinary lock (I3)")
				}
				if a.Locker.NewLockOwner && a.Locker.LockOwner.Owner == string(refusedLock[:]) && a.Offset == 0 {
					return nfs4.NFS4ERR_RECLAIM_CONFLICT
				}
			}
			return nfs4.NFS4_OK
		}
		before := s.count(nfs4.OP_SEQUENCE)
		must(t, c.ReclaimMany(ctx, root, list))
		if n := s.count(nfs4.OP_SEQUENCE) - before; n > 30 {
			t.Errorf("%d requests for %d opens and %d locks", n, opens, opens*(ranges+1))
		}
		for i, x := range list {
			if x.Opened != (i != 7) {
				t.Errorf("open %d: %v", i, x.Opened)
			}
			var want RangeSet
			for n, got := range x.Locked {
				if got != (i != 7 && !(i == 9 && n == 0)) {
					t.Errorf("lock %d of open %d: %v", n, i, got)
				}
				if got && n < ranges {
					want = want.with(x.Locks[n].Range, true)
				}
			}
			if got := s.held(owner(1000+i), x.Open.FH); !slices.Equal(got, want) {
				t.Errorf("the server has %v of %d, not %v", got, i, want)
			}
		}
		_, locks := c.State()
		for _, l := range locks {
			if got := s.held(l.LockOwner, l.FH); !slices.Equal(got, l.Ranges) {
				t.Errorf("server has %v, we %v", got, l.Ranges)
			}
		}
		if err := c.Lock(ctx, root, &list[7].Locks[0]); !errors.Is(err, ErrNoState) {
			t.Errorf("a lock without an open: %v", err)
		}
		s.before = nil
		must(t, c.Lock(ctx, root, &list[9].Locks[0]))
		must(t, c.ReclaimComplete(ctx))
		wantStatus(t, c.ReclaimMany(ctx, root, list[:1]), nfs4.NFS4ERR_NO_GRACE)
		// A close finds the locks under its open, and nothing of the others.
		must(t, c.CloseFile(ctx, owner(3), list[3].Open.FH))
		if got := s.held(owner(1003), list[3].Open.FH); len(got) != 0 {
			t.Errorf("still %v", got)
		}
		if err := c.Lock(ctx, root, lockOf(list[3].Open.FH, 3, 5, 0, 0)); !errors.Is(err, ErrNoState) {
			t.Errorf("%v", err)
		}
	})
}
