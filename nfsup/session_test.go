package nfsup

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/nfs4"
)

func mkdir(c *Client, ctx context.Context, name string) error {
	return c.Compound(ctx, root, []nfs4.Args{
		&nfs4.PutfhArgs{FH: "dir"},
		&nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: name},
	}, nil)
}

// RFC 8881 2.10.6: the answer is lost with the connection; the retry gets it from the reply cache.
func TestReplayIsExecutedOnce(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		var drops atomic.Int32
		drops.Store(3)
		s.after = func(ops []nfs4.Args) bool {
			return !(len(ops) == 3 && ops[2].Op() == nfs4.OP_CREATE && drops.Add(-1) >= 0)
		}
		must(t, mkdir(c, t.Context(), "a"))
		must(t, mkdir(c, t.Context(), "b"))
		if n := s.count(nfs4.OP_CREATE); n != 2 {
			t.Errorf("CREATE ran %d times for 2 requests", n)
		}
		if i := c.Info(); i.Replays == 0 || i.Reconnects == 0 || i.SlotsInUse != 0 {
			t.Errorf("%+v", i)
		}
	})
}

// 2.10.6.1.3: a retry whose answer was not kept is made again, as it has no effect.
func TestUncachedReplyIsAskedAgain(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		var dropped atomic.Bool
		s.after = func(ops []nfs4.Args) bool {
			return !(ops[len(ops)-1].Op() == nfs4.OP_GETATTR && dropped.CompareAndSwap(false, true))
		}
		must(t, c.Compound(t.Context(), root, []nfs4.Args{&nfs4.PutrootfhArgs{}, &nfs4.GetattrArgs{}}, nil))
		if !dropped.Load() {
			t.Error("nothing was dropped")
		}
	})
}

// 2.10.13.1.4: the loss of a session is not the loss of locks.
func TestBadSessionMakesAnother(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial(func(cfg *Config) {
			cfg.Events.Revoked = func(r Revocation) { t.Errorf("revoked %+v", r) }
		})
		f, err := c.Open(t.Context(), root, create("dir", "f", owner(1)))
		must(t, err)
		must(t, c.Lock(t.Context(), root, lockOf(f.FH, 1, 2, 0, 9)))
		before := c.Info()
		s.loseSessions()
		must(t, mkdir(c, t.Context(), "a"))
		must(t, c.Unlock(t.Context(), owner(2), f.FH, Range{0, 4}))
		after := c.Info()
		if after.ClientID != before.ClientID || after.SessionID == before.SessionID || after.Incarnation != 1 {
			t.Errorf("before %+v\nafter %+v", before, after)
		}
		if s.count(nfs4.OP_RECLAIM_COMPLETE) != 1 || s.count(nfs4.OP_EXCHANGE_ID) != 3 { // the first, and two that ask for the count
			t.Errorf("%v", s.ran)
		}
		if got := s.held(owner(2), f.FH); !slices.Equal(got, RangeSet{{Range{5, 9}, true}}) {
			t.Errorf("held %v", got)
		}
	})
}

// NFS4ERR_DELAY of SEQUENCE leaves the slot as it was; of an operation, it is repeated for a while.
func TestDelayIsRepeatedForAWhile(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial(func(cfg *Config) { cfg.DelayTime = 5 * time.Second })
		var delays atomic.Int32
		delays.Store(4)
		s.before = func(a nfs4.Args) nfs4.Status {
			if a.Op() == nfs4.OP_CREATE && delays.Add(-1) >= 0 {
				return nfs4.NFS4ERR_DELAY
			}
			return nfs4.NFS4_OK
		}
		must(t, mkdir(c, t.Context(), "a"))
		delays.Store(1 << 20)
		start := time.Now()
		wantStatus(t, mkdir(c, t.Context(), "b"), nfs4.NFS4ERR_DELAY)
		if d := time.Since(start); d < 5*time.Second || d > 10*time.Second {
			t.Errorf("gave up after %v", d)
		}
		if c.Info().SlotsInUse != 0 {
			t.Error("slot leaked")
		}
	})
}

// Requests wait for a slot in turn, and the server never sees more than it allowed.
func TestSlotsAreWaitedForInTurn(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.slots = 2
		c := dial()
		var running, most atomic.Int32
		var mu sync.Mutex
		var order []string
		release := make(chan struct{})
		s.before = func(a nfs4.Args) nfs4.Status {
			if a.Op() != nfs4.OP_CREATE {
				return nfs4.NFS4_OK
			}
			n := running.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			mu.Lock()
			order = append(order, a.(*nfs4.CreateArgs).Name)
			mu.Unlock()
			<-release
			running.Add(-1)
			return nfs4.NFS4_OK
		}
		var wg sync.WaitGroup
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			wg.Go(func() {
				if err := mkdir(c, t.Context(), name); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("had enough")
		left := make(chan error, 1)
		go func() { left <- mkdir(c, ctx, "never") }()
		synctest.Wait()
		if i := c.Info(); i.SlotsInUse != 2 || i.SlotsWaiting != 4 {
			t.Errorf("%+v", i)
		}
		cancel(why)
		if err := <-left; err != why {
			t.Errorf("left with %v", err)
		}
		for range 5 {
			release <- struct{}{}
			synctest.Wait()
		}
		wg.Wait()
		if most.Load() != 2 {
			t.Errorf("%d at once", most.Load())
		}
		if got := strings.Join(order, ""); got != "abcde" {
			t.Errorf("order %s", got)
		}
		if len(s.failed) > 0 {
			t.Errorf("SEQUENCE failed: %v", s.failed)
		}
	})
}

// The caller leaves; its slot stays busy until the server has answered, and is in step afterwards.
func TestAbandonedSlotStaysBusy(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.slots = 1
		c := dial()
		l := newLatch(nfs4.OP_CREATE)
		s.before = l.before
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-l.reached; cancel() }()
		if err := mkdir(c, ctx, "a"); !errors.Is(err, context.Canceled) {
			t.Fatalf("left with %v", err)
		}
		next := make(chan error, 1)
		go func() { next <- mkdir(c, t.Context(), "b") }()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		select {
		case err := <-next:
			t.Fatalf("the slot was used again: %v", err)
		default:
		}
		close(l.open)
		must(t, <-next)
		if n := s.count(nfs4.OP_CREATE); n != 2 {
			t.Errorf("CREATE ran %d times", n)
		}
		for _, st := range s.failed {
			if st != nfs4.NFS4ERR_DELAY {
				t.Errorf("SEQUENCE failed with %v", st)
			}
		}
	})
}

// An abandoned request that the server never got uses its number up: it cannot run later.
func TestAbandonedAndLostRequestNeverRuns(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.slots = 1
		c := dial()
		s.mu.Lock()
		s.down = true
		s.mu.Unlock()
		s.hangUp()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := mkdir(c, ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%v", err)
		}
		s.mu.Lock()
		s.down = false
		s.mu.Unlock()
		must(t, mkdir(c, t.Context(), "b"))
		if n := s.count(nfs4.OP_CREATE); n != 1 {
			t.Errorf("CREATE ran %d times", n)
		}
	})
}

// sr_target_highest_slotid and CB_RECALL_SLOT shrink the table, and it grows again.
func TestTargetHighestSlot(t *testing.T) {
	st := newSlotTable(8)
	var got []slotRef
	for range 8 {
		r, err := st.acquire(t.Context())
		must(t, err)
		got = append(got, r)
	}
	st.setTarget(2)
	for _, r := range got {
		st.release(r, true)
	}
	for i := range 3 {
		if r, _ := st.acquire(t.Context()); r.id != i || r.seq != 2 {
			t.Errorf("slot %+v", r)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := st.acquire(ctx); err == nil {
		t.Error("a slot above the target was given out")
	}
	st.setTarget(100)
	if r, err := st.acquire(t.Context()); err != nil || r.id != 3 {
		t.Errorf("%+v %v", r, err)
	}
	if h := st.highest(); h != 3 {
		t.Errorf("highest %d", h)
	}
}

// 8.3: an idle client renews, and knows how long its lease lasts.
func TestIdleClientRenews(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		for range 200 {
			time.Sleep(time.Second)
			if !c.LeaseExpires().After(time.Now().Add(15 * time.Second)) {
				t.Fatalf("lease ends in %v", time.Until(c.LeaseExpires()))
			}
		}
		if n := c.Stats()[nfs4.OP_SEQUENCE].Count; n < 15 || n > 60 {
			t.Errorf("%d SEQUENCE in 200 s with a lease of 30 s", n)
		}
	})
}

// A connection that swallows everything is given up long before the lease is over.
func TestSilentConnectionIsReplaced(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		var silent atomic.Bool
		c := dial(func(cfg *Config) { cfg.Dial = s.dialThrough(&silent) })
		silent.Store(true)
		start := time.Now()
		go func() { time.Sleep(time.Second); silent.Store(false) }()
		must(t, mkdir(c, t.Context(), "a"))
		if d := time.Since(start); d > 15*time.Second {
			t.Errorf("took %v", d)
		}
		if n := s.count(nfs4.OP_CREATE); n != 1 {
			t.Errorf("CREATE ran %d times", n)
		}
	})
}

// 18.35.3: INVAL for the retention bit; and a server without NFSv4.2.
func TestNegotiation(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.minor = 1
		c := dial(func(cfg *Config) { cfg.Retain = true })
		if i := c.Info(); i.MinorVersion != 1 || i.RetainGranted {
			t.Errorf("%+v", i)
		}
		s.retain = true
		d := dial(func(cfg *Config) { cfg.Retain, cfg.OwnerID = true, []byte("other") })
		if i := d.Info(); !i.RetainGranted {
			t.Errorf("%+v", i)
		}
	})
}

// 18.36.4: the answer to CREATE_SESSION is lost; the same number gets it again, as the journal knows.
func TestCreateSessionIsReplayed(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		var seqs []uint32
		var created []Identity
		var drop atomic.Int32
		s.after = func(ops []nfs4.Args) bool {
			return !(ops[0].Op() == nfs4.OP_CREATE_SESSION && drop.Add(-1) >= 0)
		}
		c := dial(func(cfg *Config) {
			cfg.Journal.BeforeCreateSession = func(_ context.Context, id Identity) error {
				seqs = append(seqs, id.CsaSequence)
				return nil
			}
			cfg.Journal.SessionCreated = func(_ context.Context, id Identity) error { created = append(created, id); return nil }
		})
		drop.Store(2)
		s.loseSessions()
		must(t, mkdir(c, t.Context(), "a"))
		if !slices.Equal(seqs, []uint32{1, 2, 2, 2}) {
			t.Errorf("csa_sequence %v", seqs)
		}
		if len(created) != 2 || created[1].CsaSequence != 3 || created[1].Unanswered || !slices.Contains(created[1].Sessions, c.Info().SessionID) {
			t.Errorf("created %+v", created)
		}
		if len(s.sessions) != 1 {
			t.Errorf("%d sessions at the server", len(s.sessions))
		}
	})
}

// Who does not own the journal any more must not make a session: it would take over another's.
func TestJournalVetoEndsTheClient(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		veto := errors.New("somebody else has the journal")
		var refuse atomic.Bool
		dead := make(chan error, 1)
		c := dial(func(cfg *Config) {
			cfg.Journal.BeforeCreateSession = func(context.Context, Identity) error {
				if refuse.Load() {
					return veto
				}
				return nil
			}
			cfg.Events.Dead = func(err error) { dead <- err }
		})
		refuse.Store(true)
		s.loseSessions()
		if err := mkdir(c, t.Context(), "a"); !errors.Is(err, veto) {
			t.Errorf("%v", err)
		}
		if err := <-dead; !errors.Is(err, veto) {
			t.Errorf("%v", err)
		}
		if n := s.count(nfs4.OP_CREATE_SESSION); n != 1 {
			t.Errorf("%d sessions", n)
		}
	})
}

// Many connections: each is bound, requests go on when some break.
func TestSeveralConnections(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.slots = 64
		c := dial(func(cfg *Config) { cfg.NConnect = 4 })
		synctest.Wait()
		if n := s.count(nfs4.OP_BIND_CONN_TO_SESSION); n != 3 {
			t.Errorf("%d bound", n)
		}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				for range 10 {
					if err := mkdir(c, t.Context(), "x"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for range 5 {
			s.hangUp()
		}
		wg.Wait()
		if n := s.count(nfs4.OP_CREATE); n != 1000 {
			t.Errorf("CREATE ran %d times", n)
		}
	})
}

// Close leaves nothing at the server; calls fail afterwards.
func TestClose(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		f, err := c.Open(t.Context(), root, create("dir", "f", owner(1)))
		must(t, err)
		must(t, c.Lock(t.Context(), root, lockOf(f.FH, 1, 2, 0, 9)))
		must(t, c.Close(t.Context()))
		if len(s.opens)+len(s.locks)+len(s.sessions)+len(s.clients) != 0 {
			t.Errorf("left: %v %v %v %v", s.opens, s.locks, s.sessions, s.clients)
		}
		if err := mkdir(c, t.Context(), "a"); !errors.Is(err, ErrClosed) {
			t.Errorf("%v", err)
		}
	})
}
