package nfsup

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/nfs4"
)

// 9.7: one open per owner and file, whose modes add up; and 18.18: down again.
func TestOpenUpgradeDowngradeClose(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		ctx := t.Context()
		_, err := c.Open(ctx, root, openFH("f", 1, 1, 0))
		must(t, err)
		_, err = c.Open(ctx, root, openFH("f", 1, 2, 1))
		must(t, err)
		if a, d, _ := s.openOf(owner(1), "f"); a != 3 || d != 1 {
			t.Errorf("access %d deny %d", a, d)
		}
		_, err = c.Open(ctx, root, openFH("f", 2, 1, 0))
		wantStatus(t, err, nfs4.NFS4ERR_SHARE_DENIED)
		must(t, c.Downgrade(ctx, owner(1), "f", 1, 0))
		_, err = c.Open(ctx, root, openFH("f", 2, 1, 0))
		must(t, err)
		must(t, c.CloseFile(ctx, owner(1), "f"))
		if _, _, ok := s.openOf(owner(1), "f"); ok {
			t.Error("still open")
		}
		if err := c.CloseFile(ctx, owner(1), "f"); !errors.Is(err, ErrNoState) {
			t.Errorf("%v", err)
		}
		if err := c.Lock(ctx, root, lockOf("f", 1, 9, 0, 0)); !errors.Is(err, ErrNoState) {
			t.Errorf("%v", err)
		}
	})
}

// The tables follow the server: split, merge, upgrade, downgrade; and what is denied is not in them.
func TestLockRangesFollowTheServer(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		ctx := t.Context()
		_, err := c.Open(ctx, root, openFH("f", 1, 3, 0))
		must(t, err)
		check := func() {
			t.Helper()
			_, locks := c.State()
			for _, l := range locks {
				if got := s.held(l.LockOwner, l.FH); !slices.Equal(got, l.Ranges) {
					t.Errorf("server has %v, we %v", got, l.Ranges)
				}
			}
		}
		must(t, c.Lock(ctx, root, lockOf("f", 1, 2, 0, 99)))
		must(t, c.Unlock(ctx, owner(2), "f", Range{10, 19}))
		read := lockOf("f", 1, 2, 50, math.MaxUint64)
		read.Write = false
		must(t, c.Lock(ctx, root, read))
		check()
		var den *DeniedError
		if err := c.Lock(ctx, root, lockOf("f", 1, 3, 15, 25)); !errors.As(err, &den) {
			t.Fatalf("%v", err)
		}
		if !den.Ours || den.Holder != owner(2) || den.Range != (Range{20, 49}) || !den.Write {
			t.Errorf("%+v", den)
		}
		if err := c.TestLock(ctx, root, owner(3), "f", Range{60, 60}, true); !errors.As(err, &den) || den.Write {
			t.Errorf("%v", err)
		}
		must(t, c.TestLock(ctx, root, owner(3), "f", Range{60, 60}, false))
		must(t, c.Lock(ctx, root, lockOf("f", 1, 3, 10, 19)))
		check()
		wantStatus(t, c.FreeLockOwner(ctx, owner(2), "f"), nfs4.NFS4ERR_LOCKS_HELD)
		must(t, c.Unlock(ctx, owner(2), "f", Range{0, math.MaxUint64}))
		must(t, c.FreeLockOwner(ctx, owner(2), "f"))
		must(t, c.Unlock(ctx, owner(2), "f", Range{0, 9}))
		must(t, c.Lock(ctx, root, lockOf("f", 1, 2, 0, 9)))
		check()
		must(t, c.CloseFile(ctx, owner(1), "f")) // with the locks
		if len(s.locks)+len(s.opens) != 0 {
			t.Errorf("left %v %v", s.locks, s.opens)
		}
		if i := c.Info(); i.Opens+i.LockOwners != 0 {
			t.Errorf("%+v", i)
		}
	})
}

// 8.2.2: a CLOSE that the server sees after an OPEN of the same owner must not close what that opened.
func TestLateCloseSparesNewerOpen(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		ctx := t.Context()
		_, err := c.Open(ctx, root, &OpenArgs{Owner: owner(1), Access: 3, Dir: "dir", Name: "f"})
		must(t, err)
		must(t, c.Lock(ctx, root, lockOf("fh-f", 1, 2, 0, 9)))
		l := newLatch(nfs4.OP_OPEN)
		s.after = l.after
		opened := make(chan error, 1)
		go func() {
			_, err := c.Open(ctx, root, &OpenArgs{Owner: owner(1), Access: 1, Dir: "dir", Name: "f"})
			opened <- err
		}()
		<-l.reached // the server has opened, its answer is on the way
		closed := make(chan error, 1)
		go func() { closed <- c.CloseFile(ctx, owner(1), "fh-f") }()
		time.Sleep(time.Second)
		synctest.Wait()
		select {
		case err := <-closed:
			t.Fatalf("CLOSE did not wait for the OPEN: %v", err)
		default:
		}
		close(l.open)
		must(t, <-opened)
		must(t, <-closed)
		if a, _, ok := s.openOf(owner(1), "fh-f"); !ok || a != 1 {
			t.Errorf("open %v with access %d, want 1", ok, a)
		}
		if a, _, ok := c.HasOpen(owner(1), "fh-f"); !ok || a != 1 {
			t.Errorf("we: open %v with access %d, want 1", ok, a)
		}
		if h := s.held(owner(2), "fh-f"); len(h) != 0 {
			t.Errorf("held %v", h)
		}
	})
}

// The same, the other way round at the server: the OPEN made a new open.
func TestOpenAfterClose(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		ctx := t.Context()
		open := func() error {
			_, err := c.Open(ctx, root, &OpenArgs{Owner: owner(1), Access: 1, Dir: "dir", Name: "f"})
			return err
		}
		must(t, open())
		l := newLatch(nfs4.OP_CLOSE)
		s.after = l.after
		closed := make(chan error, 1)
		go func() { closed <- c.CloseFile(ctx, owner(1), "fh-f") }()
		<-l.reached // closed at the server, the answer is on the way
		must(t, open())
		close(l.open)
		must(t, <-closed)
		if _, _, ok := c.HasOpen(owner(1), "fh-f"); !ok {
			t.Fatal("the new open is not in the tables")
		}
		must(t, write(ctx, c, owner(1), UpOwner{}, "fh-f", 0, []byte("x")))
		must(t, c.CloseFile(ctx, owner(1), "fh-f"))
		if len(s.opens) != 0 {
			t.Error("leaked")
		}
	})
}

// A LOCK whose caller left is granted: what was held before is restored, within the turn, so that the
// next request of the same owner is not hurt.
func TestAbandonedLockIsUndone(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		_, err := c.Open(t.Context(), root, openFH("f", 1, 3, 0))
		must(t, err)
		read := lockOf("f", 1, 2, 0, 9)
		read.Write = false
		must(t, c.Lock(t.Context(), root, read))
		l := newLatch(nfs4.OP_LOCK)
		s.before = l.before
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-l.reached; cancel() }()
		if err := c.Lock(ctx, root, lockOf("f", 1, 2, 5, 19)); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v", err)
		}
		again := make(chan error, 1)
		go func() { again <- c.Lock(t.Context(), root, lockOf("f", 1, 2, 100, 109)) }()
		synctest.Wait()
		close(l.open)
		must(t, <-again)
		want := RangeSet{{Range{0, 9}, false}, {Range{100, 109}, true}}
		if got := s.held(owner(2), "f"); !slices.Equal(got, want) {
			t.Errorf("server has %v, want %v", got, want)
		}
	})
}

// An OPEN whose caller left is taken back.
func TestAbandonedOpenIsUndone(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		for _, held := range []bool{false, true} {
			if held {
				_, err := c.Open(t.Context(), root, openFH("f", 1, 1, 0))
				must(t, err)
			}
			l := newLatch(nfs4.OP_OPEN)
			s.before = l.before
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-l.reached; cancel() }()
			if _, err := c.Open(ctx, root, openFH("f", 1, 2, 1)); !errors.Is(err, context.Canceled) {
				t.Fatalf("%v", err)
			}
			close(l.open)
			synctest.Wait()
			if a, d, ok := s.openOf(owner(1), "f"); ok != held || held && (a != 1 || d != 0) {
				t.Errorf("open %v, access %d, deny %d", ok, a, d)
			}
		}
	})
}

// Other files never wait; nor do other lock-owners of the same open.
func TestOneStuckLockStopsNobodyElse(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		for _, fh := range []nfs4.FH{"f", "g"} {
			_, err := c.Open(t.Context(), root, openFH(fh, 1, 3, 0))
			must(t, err)
		}
		l := newLatch(nfs4.OP_LOCK)
		s.before = l.before
		stuck := make(chan error, 1)
		go func() { stuck <- c.Lock(t.Context(), root, lockOf("f", 1, 2, 0, 0)) }()
		<-l.reached
		must(t, c.Lock(t.Context(), root, lockOf("f", 1, 3, 5, 5)))
		must(t, c.Lock(t.Context(), root, lockOf("g", 1, 2, 0, 0)))
		must(t, c.CloseFile(t.Context(), owner(1), "g"))
		close(l.open)
		must(t, <-stuck)
	})
}

// GRACE is the caller's to wait out.
func TestGraceIsReturned(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		s.mu.Lock()
		s.grace = true
		s.mu.Unlock()
		_, err := c.Open(t.Context(), root, openFH("f", 1, 3, 0))
		wantStatus(t, err, nfs4.NFS4ERR_GRACE)
	})
}

// D.8: the server revokes a lock and says so in the flags; the holder is told, the server acknowledged.
func TestRevokedStateIsFoundAndTold(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		got := make(chan Revocation, 8)
		c := dial(func(cfg *Config) { cfg.Events.Revoked = func(r Revocation) { got <- r } })
		ctx := t.Context()
		for _, fh := range []nfs4.FH{"f", "g"} {
			_, err := c.Open(ctx, root, openFH(fh, 1, 3, 0))
			must(t, err)
			must(t, c.Lock(ctx, root, lockOf(fh, 1, 2, 3, 4)))
		}
		s.mu.Lock()
		for _, l := range s.locks {
			l.revoked = l.open.fh == "f"
		}
		s.flags = nfs4.SEQ4_STATUS_ADMIN_STATE_REVOKED
		s.mu.Unlock()
		time.Sleep(time.Minute)
		s.setFlags(0)
		r := <-got
		if r.Kind != KindLock || r.FH != "f" || r.LockOwner != owner(2) || r.OpenOwner != owner(1) ||
			!slices.Equal(r.Ranges, RangeSet{{Range{3, 4}, true}}) || !errors.Is(r.Why, nfs4.NFS4ERR_ADMIN_REVOKED) {
			t.Errorf("%+v", r)
		}
		if len(got) != 0 {
			t.Errorf("and %+v", <-got)
		}
		if n := s.count(nfs4.OP_FREE_STATEID); n != 1 {
			t.Errorf("%d FREE_STATEID", n)
		}
		must(t, c.Lock(ctx, root, lockOf("f", 1, 2, 3, 4))) // a new one, since the holder was told
	})
}

// A stateid that the server refuses in I/O is checked, told, and the error returned.
func TestIOOnLostState(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		var got []Revocation
		c := dial(func(cfg *Config) { cfg.Events.Revoked = func(r Revocation) { got = append(got, r) } })
		ctx := t.Context()
		if err := write(ctx, c, owner(1), UpOwner{}, "f", 0, nil); !errors.Is(err, ErrNoState) {
			t.Errorf("%v", err)
		}
		_, err := c.Open(ctx, root, openFH("f", 1, 3, 0))
		must(t, err)
		must(t, c.Lock(ctx, root, lockOf("f", 1, 2, 3, 4)))
		must(t, write(ctx, c, owner(1), owner(2), "f", 0, nil))
		s.mu.Lock()
		s.opens, s.locks = nil, nil
		s.mu.Unlock()
		wantStatus(t, write(ctx, c, owner(1), owner(2), "f", 0, nil), nfs4.NFS4ERR_BAD_STATEID)
		if len(got) != 2 || got[0].Kind != KindLock || got[1].Kind != KindOpen {
			t.Errorf("%+v", got)
		}
		if err := write(ctx, c, owner(1), owner(2), "f", 0, nil); !errors.Is(err, ErrNoState) {
			t.Errorf("%v", err)
		}
		if sid, ok := c.IOStateid(UpOwner{}, UpOwner{}, "f"); ok || sid != nfs4.AnonymousStateid {
			t.Errorf("%v %v", sid, ok)
		}
	})
}

func TestModes(t *testing.T) {
	m := mode(1, 0) | mode(2, 1)
	if a, d := m.wire(); a != 3 || d != 1 {
		t.Errorf("%d %d", a, d)
	}
	if got := m.within(1, 3); got != mode(1, 0) {
		t.Errorf("%b", got)
	}
	if got := m.list(); len(got) != 2 || got[0] != mode(2, 1) {
		t.Errorf("%b", got)
	}
	for a := uint32(1); a <= 3; a++ {
		for d := uint32(0); d <= 3; d++ {
			if x, y := mode(a, d).wire(); x != a || y != d {
				t.Errorf("%d %d became %d %d", a, d, x, y)
			}
		}
	}
}

// Shared turns go together, exclusive ones alone, and nobody overtakes.
func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u turn
		var mu sync.Mutex
		var order []int
		must(t, u.take(t.Context(), false))
		must(t, u.take(t.Context(), false))
		for i, exclusive := range []bool{true, false, false, true} {
			go func() {
				if err := u.take(t.Context(), exclusive); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				if exclusive {
					u.give(true)
				}
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if u.take(ctx, false) == nil {
			t.Error("overtook")
		}
		if len(order) != 0 {
			t.Errorf("order %v", order)
		}
		u.give(false)
		u.give(false)
		synctest.Wait()
		slices.Sort(order[1:3])
		if !slices.Equal(order, []int{0, 1, 2}) {
			t.Errorf("order %v", order)
		}
		u.give(false)
		u.give(false)
		synctest.Wait()
		if !slices.Equal(order, []int{0, 1, 2, 3}) {
			t.Errorf("order %v", order)
		}
		must(t, u.take(t.Context(), true))
	})
}

func FuzzRanges(f *testing.F) {
	f.Add([]byte{0, 1, 5, 1, 3, 9, 2, 4, 4})
	f.Fuzz(func(t *testing.T, prog []byte) {
		var set RangeSet
		var model [256]byte
		for ; len(prog) >= 3; prog = prog[3:] {
			a, b := min(prog[1], prog[2]), max(prog[1], prog[2])
			r := Range{uint64(a), uint64(b)}
			k := prog[0] % 3
			if k == 0 {
				set = set.without(r)
			} else {
				set = set.with(r, k == 2)
			}
			for i := int(a); i <= int(b); i++ {
				model[i] = k
			}
		}
		var got [256]byte
		for i, h := range set {
			if i > 0 && (set[i-1].Range.Last >= h.Range.First ||
				set[i-1].Range.Last+1 == h.Range.First && set[i-1].Write == h.Write) {
				t.Fatalf("not sorted, disjoint and merged: %v", set)
			}
			for b := h.Range.First; b <= h.Range.Last; b++ {
				got[b] = 1
				if h.Write {
					got[b] = 2
				}
			}
		}
		if got != model {
			t.Fatalf("%v", set)
		}
	})
}
