package nfsup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/nfs4"
)

// witness collects events.
type witness struct {
	mu        sync.Mutex
	revoked   []Revocation
	restarts  int
	lost      int
	recovered []Recovery
}

func (w *witness) events() Events {
	return Events{
		Revoked:         func(r Revocation) { w.mu.Lock(); defer w.mu.Unlock(); w.revoked = append(w.revoked, r) },
		ServerRestarted: func() { w.mu.Lock(); defer w.mu.Unlock(); w.restarts++ },
		LeaseLost:       func() { w.mu.Lock(); defer w.mu.Unlock(); w.lost++ },
		Recovered:       func(r Recovery) { w.mu.Lock(); defer w.mu.Unlock(); w.recovered = append(w.recovered, r) },
	}
}

// hold opens n files and takes two ranges on each.
func hold(t *testing.T, c *Client, n int) []nfs4.FH {
	t.Helper()
	var list []nfs4.FH
	for i := range n {
		fh := nfs4.FH(fmt.Sprint("f", i))
		_, err := c.Open(t.Context(), root, openFH(fh, i, 1, 0))
		must(t, err)
		_, err = c.Open(t.Context(), root, openFH(fh, i, 2, 1))
		must(t, err)
		must(t, c.Lock(t.Context(), root, lockOf(fh, i, 100+i, 0, 9)))
		must(t, c.Lock(t.Context(), root, lockOf(fh, i, 100+i, 20, 29)))
		list = append(list, fh)
	}
	return list
}

var held2 = RangeSet{{Range{0, 9}, true}, {Range{20, 29}, true}}

// DESIGN 4: the origin restarts; everything is reclaimed from memory, then RECLAIM_COMPLETE, once.
func TestRestartReclaimsEverything(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		var w witness
		c := dial(func(cfg *Config) { cfg.Events = w.events() })
		fhs := hold(t, c, 20)
		var bad atomic.Int32
		s.before = func(a nfs4.Args) nfs4.Status {
			// RFC 8881 18.51.3: nothing but reclaims before RECLAIM_COMPLETE.
			if l, ok := a.(*nfs4.LockArgs); ok && !l.Reclaim && s.count(nfs4.OP_RECLAIM_COMPLETE) < 2 {
				bad.Add(1)
			}
			return nfs4.NFS4_OK
		}
		s.restart(true)
		// A caller meanwhile: waits at the gate, then hears of the server's grace.
		wantStatus(t, c.Lock(t.Context(), root, lockOf(fhs[0], 0, 100, 50, 59)), nfs4.NFS4ERR_GRACE)
		if bad.Load() != 0 {
			t.Error("a lock was sent before RECLAIM_COMPLETE")
		}
		for i, fh := range fhs {
			if got := s.held(owner(100+i), fh); !slices.Equal(got, held2) {
				t.Errorf("%v: %v", fh, got)
			}
			if a, d, _ := s.openOf(owner(i), fh); a != 3 || d != 1 {
				t.Errorf("%v: access %d deny %d", fh, a, d)
			}
		}
		if n := s.count(nfs4.OP_RECLAIM_COMPLETE); n != 2 {
			t.Errorf("%d RECLAIM_COMPLETE for two incarnations", n)
		}
		if w.restarts != 1 || w.lost != 0 || len(w.revoked) != 0 || len(w.recovered) != 1 {
			t.Fatalf("%+v", &w)
		}
		if r := w.recovered[0]; r.Opens != 20 || r.Locks != 40 || !r.Completed {
			t.Errorf("%+v", r)
		}
		// The new stateids work, downgrades to what was opened once too.
		s.mu.Lock()
		s.grace = false
		s.mu.Unlock()
		must(t, write(t.Context(), c, owner(0), owner(100), fhs[0], 0, nil))
		must(t, c.Unlock(t.Context(), owner(100), fhs[0], Range{0, 99}))
		must(t, c.Downgrade(t.Context(), owner(0), fhs[0], 1, 0))
		must(t, c.CloseFile(t.Context(), owner(0), fhs[0]))
	})
}

// The server forgot us and is not in grace: all is lost, told, and never taken again.
func TestNoGraceLosesEverythingLoudly(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		var w witness
		c := dial(func(cfg *Config) { cfg.Events = w.events() })
		fhs := hold(t, c, 3)
		s.mu.Lock()
		s.down = true
		s.mu.Unlock()
		s.restart(false)
		time.Sleep(time.Minute) // two leases
		s.mu.Lock()
		s.down = false
		s.mu.Unlock()
		err := write(t.Context(), c, owner(0), owner(100), fhs[0], 0, nil)
		if !errors.Is(err, ErrNoState) {
			t.Errorf("write: %v", err)
		}
		if w.lost != 1 || w.restarts != 0 {
			t.Errorf("%+v", &w)
		}
		opens, locks := 0, 0
		for _, r := range w.revoked {
			wantStatus(t, r.Why, nfs4.NFS4ERR_NO_GRACE)
			if r.Kind == KindOpen {
				opens++
			} else if slices.Equal(r.Ranges, held2) {
				locks++
			}
		}
		if opens != 3 || locks != 3 {
			t.Errorf("%d opens, %d locks lost", opens, locks)
		}
		if len(s.opens)+len(s.locks) != 0 {
			t.Errorf("taken again: %v %v", s.opens, s.locks)
		}
		if r := w.recovered[0]; r.LostOpens != 3 || r.LostLocks != 6 || !r.Completed {
			t.Errorf("%+v", r)
		}
	})
}

// One range is refused, the rest stays.
func TestOneRefusedReclaim(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		var w witness
		c := dial(func(cfg *Config) { cfg.Events = w.events() })
		fhs := hold(t, c, 2)
		must(t, c.Lock(t.Context(), root, lockOf(fhs[1], 1, 101, 40, 49)))
		s.before = func(a nfs4.Args) nfs4.Status {
			if l, ok := a.(*nfs4.LockArgs); ok && l.Reclaim && l.Offset == 20 && s.count(nfs4.OP_PUTFH) > 0 {
				return nfs4.NFS4ERR_RECLAIM_CONFLICT
			}
			return nfs4.NFS4_OK
		}
		s.restart(true)
		must(t, mkdir(c, t.Context(), "a"))
		want := RangeSet{{Range{0, 9}, true}, {Range{40, 49}, true}}
		if got := s.held(owner(101), fhs[1]); !slices.Equal(got, want) {
			t.Errorf("held %v", got)
		}
		_, locks := c.State()
		for _, l := range locks {
			if l.FH == fhs[1] && !slices.Equal(l.Ranges, want) {
				t.Errorf("table has %v", l.Ranges)
			}
		}
		if len(w.revoked) != 2 || !slices.Equal(w.revoked[0].Ranges, RangeSet{{Range{20, 29}, true}}) {
			t.Errorf("%+v", w.revoked)
		}
	})
}

// The server restarts again in the midst of the reclaims, several times.
func TestRestartDuringRecovery(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		var w witness
		c := dial(func(cfg *Config) { cfg.Events = w.events() })
		fhs := hold(t, c, 10)
		var crashes atomic.Int32
		s.before = func(a nfs4.Args) nfs4.Status {
			if l, ok := a.(*nfs4.LockArgs); ok && l.Reclaim && s.count(nfs4.OP_LOCK)%7 == 6 && crashes.Add(1) <= 3 {
				s.restart(true)
			}
			return nfs4.NFS4_OK
		}
		s.restart(true)
		must(t, mkdir(c, t.Context(), "a"))
		if crashes.Load() < 3 {
			t.Errorf("%d crashes", crashes.Load())
		}
		for i, fh := range fhs {
			if got := s.held(owner(100+i), fh); !slices.Equal(got, held2) {
				t.Errorf("%v: %v", fh, got)
			}
		}
		if len(w.revoked) != 0 {
			t.Errorf("%+v", w.revoked)
		}
	})
}

// A LOCK without an answer when the server died is sent again, an UNLOCK too, with the new stateid.
func TestRequestsInFlightSurviveARestart(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		fhs := hold(t, c, 2)
		var died atomic.Bool
		s.after = func(ops []nfs4.Args) bool {
			for _, a := range ops {
				if a.Op() == nfs4.OP_LOCKU && died.CompareAndSwap(false, true) {
					s.restart(true)
					return false
				}
			}
			return true
		}
		must(t, c.Unlock(t.Context(), owner(100), fhs[0], Range{0, 9}))
		if got := s.held(owner(100), fhs[0]); !slices.Equal(got, RangeSet{{Range{20, 29}, true}}) {
			t.Errorf("held %v", got)
		}
	})
}

// I5 with a delayed RECLAIM_COMPLETE: the caller's reclaims pass, a restart of the origin does not end
// the delay, and ReclaimComplete waits for a reclaim that runs.
func TestDelayedReclaimComplete(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.grace = true
		var w witness
		c := dial(func(cfg *Config) { cfg.DelayReclaimComplete, cfg.Events = true, w.events() })
		ctx := t.Context()
		reclaimOpen := openFH("f", 1, 3, 0)
		reclaimOpen.Reclaim = true
		_, err := c.Open(ctx, root, reclaimOpen)
		must(t, err)
		lock := lockOf("f", 1, 2, 0, 9)
		lock.Reclaim = true
		must(t, c.Lock(ctx, root, lock))

		s.restart(true)
		must(t, mkdir(c, ctx, "a"))
		if n := s.count(nfs4.OP_RECLAIM_COMPLETE); n != 0 {
			t.Fatalf("%d RECLAIM_COMPLETE", n)
		}
		if r := w.recovered[0]; r.Opens != 1 || r.Locks != 1 || r.Completed {
			t.Errorf("%+v", r)
		}

		l := newLatch(nfs4.OP_OPEN)
		s.before = l.before
		opened, completed := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := c.Open(ctx, root, &OpenArgs{Owner: owner(7), Access: 1, FH: "g", Reclaim: true})
			opened <- err
		}()
		<-l.reached
		go func() { completed <- c.ReclaimComplete(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := s.count(nfs4.OP_RECLAIM_COMPLETE); n != 0 {
			t.Error("sent while a reclaim was running")
		}
		_, err = c.Open(ctx, root, &OpenArgs{Owner: owner(8), Access: 1, FH: "g", Reclaim: true})
		wantStatus(t, err, nfs4.NFS4ERR_NO_GRACE)
		close(l.open)
		must(t, <-opened)
		must(t, <-completed)
		must(t, c.ReclaimComplete(ctx))
		if n := s.count(nfs4.OP_RECLAIM_COMPLETE); n != 1 {
			t.Errorf("%d RECLAIM_COMPLETE", n)
		}
		// From now on, a recovery sends it.
		s.restart(true)
		must(t, mkdir(c, ctx, "a"))
		if n := s.count(nfs4.OP_RECLAIM_COMPLETE); n != 2 {
			t.Errorf("%d RECLAIM_COMPLETE", n)
		}
	})
}

// The answer to RECLAIM_COMPLETE is lost: COMPLETE_ALREADY, or the cached answer, is success.
func TestReclaimCompleteIsRetried(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial(func(cfg *Config) { cfg.DelayReclaimComplete = true })
		var dropped atomic.Bool
		s.after = func(ops []nfs4.Args) bool {
			if ops[len(ops)-1].Op() == nfs4.OP_RECLAIM_COMPLETE && dropped.CompareAndSwap(false, true) {
				s.loseSessions()
				return false
			}
			return true
		}
		must(t, c.ReclaimComplete(t.Context()))
		if !c.Info().ReclaimComplete {
			t.Error("not complete")
		}
	})
}

// 8.4.2.1: state of another server scope is not reclaimed.
func TestScopeChangeLosesAll(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		var w witness
		c := dial(func(cfg *Config) { cfg.Events = w.events() })
		hold(t, c, 1)
		c.mu.Lock()
		c.serverScope = "what it was"
		c.mu.Unlock()
		s.restart(true)
		must(t, mkdir(c, t.Context(), "a"))
		if len(w.revoked) != 2 || len(s.opens) != 0 {
			t.Errorf("%+v", w.revoked)
		}
	})
}

// The end of a context at the gate, and of the client.
func TestWaitingAtTheGateEnds(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		s.mu.Lock()
		s.down = true
		s.mu.Unlock()
		s.loseSessions()
		s.hangUp()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := mkdir(c, ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		left := make(chan error, 1)
		go func() { left <- mkdir(c, t.Context(), "a") }()
		synctest.Wait()
		c.Abandon()
		if err := <-left; !errors.Is(err, ErrClosed) {
			t.Errorf("%v", err)
		}
	})
}

// The server met an error in the back channel: a new session, the old one destroyed, nothing lost.
func TestBackChannelFault(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		hold(t, c, 1)
		before := c.Info().SessionID
		s.setFlags(nfs4.SEQ4_STATUS_BACKCHANNEL_FAULT)
		must(t, mkdir(c, t.Context(), "a"))
		s.setFlags(0)
		must(t, mkdir(c, t.Context(), "b"))
		time.Sleep(time.Minute)
		if c.Info().SessionID == before || len(s.sessions) != 1 || s.sessions[before] != nil {
			t.Errorf("%d sessions", len(s.sessions))
		}
		if _, locks := c.State(); len(locks) != 1 {
			t.Errorf("%v", locks)
		}
	})
}
