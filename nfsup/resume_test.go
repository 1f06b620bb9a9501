package nfsup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"holdfast/internal/nfs4"
)

// A notebook is a journal: what it says after a crash is what a process that takes over knows.
type notebook struct {
	mu    sync.Mutex
	id    Identity
	opens map[StateKey]OpenState
	locks map[StateKey]LockState
	whole bool
}

func newNotebook() *notebook {
	return &notebook{opens: map[StateKey]OpenState{}, locks: map[StateKey]LockState{}, whole: true}
}

func (n *notebook) hooks() Journal {
	put := func(id Identity) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.id = id
	}
	return Journal{
		BeforeCreateSession: func(_ context.Context, id Identity) error { put(id); return nil },
		SessionCreated:      func(_ context.Context, id Identity) error { put(id); return nil },
		Changed:             put,
		StateChanged: func(ch StateChange) {
			n.mu.Lock()
			defer n.mu.Unlock()
			for _, o := range ch.Opens {
				n.opens[StateKey{o.Owner, o.FH}] = o
			}
			for _, l := range ch.Locks {
				n.locks[StateKey{l.LockOwner, l.FH}] = l
			}
			for _, k := range ch.GoneOpens {
				delete(n.opens, k)
			}
			for _, k := range ch.GoneLocks {
				delete(n.locks, k)
			}
		},
	}
}

// copied is a backup, or the state directory on another host.
func (n *notebook) copied() *notebook {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &notebook{id: n.id, opens: maps.Clone(n.opens), locks: maps.Clone(n.locks), whole: n.whole}
}

func (n *notebook) resume() *Resume {
	c := n.copied()
	return &Resume{
		Identity: c.id, Opens: slices.Collect(maps.Values(c.opens)), Locks: slices.Collect(maps.Values(c.locks)), Whole: n.whole,
	}
}

// boot is an incarnation with that journal: the first, or one that resumes.
func (n *notebook) boot(again bool, verifier byte) func(*Config) {
	return func(cfg *Config) {
		cfg.OwnerID = []byte("gateway")
		cfg.Verifier = [8]byte{verifier}
		cfg.Journal = n.hooks()
		cfg.DelayReclaimComplete = true
		if again {
			cfg.Resume = n.resume()
		}
	}
}

func tryDial(t *testing.T, s *fake, change ...func(*Config)) error {
	t.Helper()
	cfg := Config{Addr: "fake", Dial: s.dial, Cred: root}
	for _, f := range change {
		f(&cfg)
	}
	c, err := Dial(t.Context(), cfg)
	if err == nil {
		c.Abandon()
	}
	return err
}

func reclaim(a *OpenArgs) *OpenArgs     { a.Reclaim = true; return a }
func reclaimLock(a *LockArgs) *LockArgs { a.Reclaim = true; return a }
func denied(t *testing.T, err error, when string) {
	t.Helper()
	if !errors.Is(err, nfs4.NFS4ERR_DENIED) {
		t.Fatalf("%s: the rival got %v (I1)", when, err)
	}
}

// DESIGN 3, Resume: kill -9, and the state is there as if nothing had been. A rival is denied all along;
// reclaims cost no operation at the origin; what nobody reclaims is given back at the end.
func TestResumeKeepsEverything(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		ctx := t.Context()
		n := newNotebook()
		c := dial(n.boot(false, 1))
		must(t, c.ReclaimComplete(ctx))
		fhs := hold(t, c, 3)
		rival := dial(func(cfg *Config) { cfg.OwnerID = []byte("rival") })
		for i, fh := range fhs {
			_, err := rival.Open(ctx, root, openFH(fh, 50+i, 2, 0))
			must(t, err)
		}
		rivals := func(when string) {
			t.Helper()
			for i, fh := range fhs[:2] {
				denied(t, rival.Lock(ctx, root, lockOf(fh, 50+i, 500+i, 5, 25)), when)
			}
		}
		for boot := byte(2); boot < 5; boot++ {
			synctest.Wait()
			old := c.Info()
			c.Abandon()
			rivals("while we are away")
			var w witness
			c = dial(n.boot(true, boot), func(cfg *Config) { cfg.Events = w.events() })
			i := c.Info()
			if i.ClientID != old.ClientID || i.SessionID == old.SessionID || !i.Resumed {
				t.Fatalf("boot %d: %+v", boot, i)
			}
			if s.sessions[old.SessionID] != nil {
				t.Error("the session of the dead incarnation is not fenced")
			}
			if len(w.recovered) != 1 || w.recovered[0].Opens != 3 || w.recovered[0].Locks != 6 || w.recovered[0].LostOpens+w.recovered[0].LostLocks != 0 {
				t.Errorf("recovered %+v", w.recovered)
			}
			rivals("after it was resumed")
			before := s.count(nfs4.OP_OPEN) + s.count(nfs4.OP_LOCK)
			wantNoState(t, c.Lock(ctx, root, reclaimLock(lockOf(fhs[0], 0, 100, 0, 9)))) // not before its open
			for i, fh := range fhs {
				_, err := c.Open(ctx, root, reclaim(openFH(fh, i, 3, 1)))
				must(t, err)
				must(t, c.Lock(ctx, root, reclaimLock(lockOf(fh, i, 100+i, 0, 9))))
				must(t, c.Lock(ctx, root, reclaimLock(lockOf(fh, i, 100+i, 20, 24)))) // in pieces
				must(t, c.Lock(ctx, root, reclaimLock(lockOf(fh, i, 100+i, 25, 29))))
			}
			if got := s.count(nfs4.OP_OPEN) + s.count(nfs4.OP_LOCK); got != before {
				t.Errorf("%d requests for reclaims that the tables answer", got-before)
			}
		}
		// The last incarnation's end clients want less: one file, half of its locks, fewer modes; the rest goes.
		synctest.Wait()
		c.Abandon()
		c = dial(n.boot(true, 9))
		_, err := c.Open(ctx, root, reclaim(openFH(fhs[0], 0, 1, 0)))
		must(t, err)
		must(t, c.Lock(ctx, root, reclaimLock(lockOf(fhs[0], 0, 100, 0, 9))))
		must(t, c.ReclaimComplete(ctx))
		if got := s.held(owner(100), fhs[0]); !slices.Equal(got, RangeSet{{Range{0, 9}, true}}) {
			t.Errorf("held %v", got)
		}
		if a, d, ok := s.openOf(owner(0), fhs[0]); a != 1 || d != 0 || !ok {
			t.Errorf("open %d %d %v", a, d, ok)
		}
		for i := 1; i < 3; i++ {
			if _, _, ok := s.openOf(owner(i), fhs[i]); ok || len(s.held(owner(100+i), fhs[i])) > 0 {
				t.Errorf("file %d is still held though nobody reclaimed it", i)
			}
		}
		if s.count(nfs4.OP_RECLAIM_COMPLETE) != 2 { // the rival's and the first incarnation's
			t.Errorf("RECLAIM_COMPLETE was sent %d times", s.count(nfs4.OP_RECLAIM_COMPLETE))
		}
		_, err = c.Open(ctx, root, reclaim(openFH(fhs[1], 1, 1, 0)))
		wantStatus(t, err, nfs4.NFS4ERR_NO_GRACE)
		synctest.Wait()
		if len(n.opens) != 1 || len(n.locks) != 1 {
			t.Errorf("the journal has %d opens, %d locks", len(n.opens), len(n.locks))
		}
	})
}

func wantNoState(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrNoState) {
		t.Fatalf("got %v, want %v", err, ErrNoState)
	}
}

// A journal from a backup, or a copy on a second host, must not resume: what it knows is old, and
// another process is this client now. Nothing of that one is touched.
func TestAnOldJournalDoesNotResume(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		ctx := t.Context()
		n := newNotebook()
		c := dial(n.boot(false, 1))
		must(t, c.ReclaimComplete(ctx))
		fhs := hold(t, c, 1)
		synctest.Wait()
		backup := n.copied()
		c.Abandon()
		c = dial(n.boot(true, 2))
		refused := func(n *notebook, when string) {
			t.Helper()
			err := tryDial(t, s, n.boot(true, 7))
			if !errors.Is(err, ErrUsurped) || !strings.Contains(err.Error(), "journal") {
				t.Errorf("%s: %v", when, err)
			}
			_, err = c.Open(ctx, root, reclaim(openFH(fhs[0], 0, 3, 1)))
			must(t, err)
			must(t, c.Lock(ctx, root, reclaimLock(lockOf(fhs[0], 0, 100, 0, 9))))
		}
		refused(backup, "a backup, and one incarnation since")
		synctest.Wait()
		c.Abandon()
		c = dial(n.boot(true, 3))
		refused(backup, "a backup, and two incarnations since")
		// A copy made while this one runs is as good as the journal, until one of the two goes on.
		synctest.Wait()
		copied := n.copied()
		s.loseSessions()
		must(t, mkdir(c, ctx, "a")) // this one makes another session
		refused(copied, "a copy, and the other one lives")
	})
}

// A process that slept while another resumed wakes up: its requests find no session, and its next
// CREATE_SESSION must not get the other's. It ends.
func TestASleeperThatWakesUpEnds(t *testing.T) {
	for _, counts := range []bool{true, false} {
		story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
			ctx := t.Context()
			s.noCount = !counts
			n := newNotebook()
			dead := make(chan error, 1)
			sleeper := dial(n.boot(false, 1), func(cfg *Config) {
				cfg.Events.Dead = func(why error) { dead <- why }
			})
			must(t, sleeper.ReclaimComplete(ctx))
			fhs := hold(t, sleeper, 1)
			synctest.Wait()
			c := dial(n.copied().boot(true, 2))
			for range 3 { // its slots move on
				must(t, mkdir(c, ctx, "a"))
			}
			err := write(ctx, sleeper, owner(0), UpOwner{}, fhs[0], 0, []byte("late"))
			if err == nil {
				t.Error("a late WRITE of the dead incarnation landed")
			}
			if why := <-dead; !errors.Is(why, ErrUsurped) || !errors.Is(err, ErrUsurped) {
				t.Errorf("counts %v: it ends with %v; the write gave %v", counts, why, err)
			}
			_, err = c.Open(ctx, root, reclaim(openFH(fhs[0], 0, 3, 1)))
			must(t, err)
		})
	}
}

// 18.36.4: the incarnation died between sending CREATE_SESSION and the answer; or before it was sent.
// Either is told from somebody else's going on.
func TestResumeAfterAnUnansweredCreateSession(t *testing.T) {
	for _, arrived := range []bool{true, false} {
		story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
			ctx := t.Context()
			n := newNotebook()
			c := dial(n.boot(false, 1))
			must(t, c.ReclaimComplete(ctx))
			fhs := hold(t, c, 1)
			synctest.Wait()
			c.Abandon()
			var second nfs4.SessionID
			s.before = func(a nfs4.Args) nfs4.Status {
				if a.Op() == nfs4.OP_CREATE_SESSION && !arrived {
					return nfs4.NFS4ERR_SERVERFAULT // it did not come to be executed
				}
				return nfs4.NFS4_OK
			}
			s.after = func(ops []nfs4.Args) bool { return ops[0].Op() != nfs4.OP_CREATE_SESSION || !arrived }
			if err := tryDial(t, s, n.boot(true, 2)); err == nil {
				t.Fatal("it had an answer")
			}
			if !n.id.Unanswered {
				t.Fatal("the journal does not know that CREATE_SESSION may have been sent")
			}
			s.before, s.after = nil, nil
			c = dial(n.boot(true, 3))
			second = c.Info().SessionID
			if len(s.sessions) != 1 || s.sessions[second] == nil {
				t.Errorf("arrived %v: %d sessions at the server", arrived, len(s.sessions))
			}
			_, err := c.Open(ctx, root, reclaim(openFH(fhs[0], 0, 3, 1)))
			must(t, err)
		})
	}
}

// What the server does not hold any more is lost: it is told, never taken again. Then the tables alone
// decide: what is not in them may be what was revoked.
func TestResumeTellsWhatIsLost(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		ctx := t.Context()
		n := newNotebook()
		c := dial(n.boot(false, 1))
		must(t, c.ReclaimComplete(ctx))
		fhs := hold(t, c, 3)
		synctest.Wait()
		delete(n.locks, StateKey{owner(102), fhs[2]}) // this one was not written in time
		c.Abandon()
		s.mu.Lock()
		for _, l := range s.locks {
			if l.owner == string(slices.Clone(func() []byte { o := owner(100); return o[:] }())) {
				l.revoked = true
			}
		}
		s.mu.Unlock()
		var w witness
		c = dial(n.boot(true, 2), func(cfg *Config) { cfg.Events = w.events() })
		if len(w.revoked) != 1 || w.revoked[0].LockOwner != owner(100) || !slices.Equal(w.revoked[0].Ranges, held2) {
			t.Errorf("told %+v", w.revoked)
		}
		for i, fh := range fhs {
			_, err := c.Open(ctx, root, reclaim(openFH(fh, i, 3, 1)))
			must(t, err)
		}
		wantStatus(t, c.Lock(ctx, root, reclaimLock(lockOf(fhs[0], 0, 100, 0, 9))), nfs4.NFS4ERR_NO_GRACE)
		must(t, c.Lock(ctx, root, reclaimLock(lockOf(fhs[1], 1, 101, 0, 9))))
		wantStatus(t, c.Lock(ctx, root, reclaimLock(lockOf(fhs[2], 2, 102, 0, 9))), nfs4.NFS4ERR_NO_GRACE)
		if len(s.held(owner(100), fhs[0])) != 0 {
			t.Error("a lost lock was taken again")
		}
	})
}

// Stateids that were not written down in time are found again by owner, as long as nothing was lost; a
// conflicting lock that another got meanwhile shows as a loss.
func TestResumeRepeatsByOwner(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		ctx := t.Context()
		n := newNotebook()
		c := dial(n.boot(false, 1))
		must(t, c.ReclaimComplete(ctx))
		fhs := hold(t, c, 2)
		synctest.Wait()
		delete(n.opens, StateKey{owner(0), fhs[0]}) // with the lock under it
		l := n.locks[StateKey{owner(101), fhs[1]}]
		l.Ranges = l.Ranges.without(Range{20, 29})
		n.locks[StateKey{owner(101), fhs[1]}] = l
		c.Abandon()
		rival := dial(func(cfg *Config) { cfg.OwnerID = []byte("rival") })
		_, err := rival.Open(ctx, root, openFH(fhs[0], 50, 2, 0))
		must(t, err)
		denied(t, rival.Lock(ctx, root, lockOf(fhs[0], 50, 500, 0, 9)), "away")
		must(t, rival.Lock(ctx, root, lockOf(fhs[0], 50, 500, 40, 49)))

		locks, opens := len(s.locks), len(s.opens)
		c = dial(n.boot(true, 2))
		for i, fh := range fhs {
			_, err := c.Open(ctx, root, reclaim(openFH(fh, i, 3, 1)))
			must(t, err)
			must(t, c.Lock(ctx, root, reclaimLock(lockOf(fh, i, 100+i, 0, 9))))
			must(t, c.Lock(ctx, root, reclaimLock(lockOf(fh, i, 100+i, 20, 29))))
		}
		wantStatus(t, c.Lock(ctx, root, reclaimLock(lockOf(fhs[0], 0, 100, 40, 49))), nfs4.NFS4ERR_NO_GRACE)
		if len(s.locks) != locks || len(s.opens) != opens {
			t.Errorf("%d locks and %d opens at the origin, had %d and %d", len(s.locks), len(s.opens), locks, opens)
		}
		must(t, c.ReclaimComplete(ctx))
		for i, fh := range fhs {
			if got := s.held(owner(100+i), fh); !slices.Equal(got, held2) {
				t.Errorf("%v: %v", fh, got)
			}
		}
		// A damaged journal is another matter: unknown is not "not in time".
		synctest.Wait()
		n.whole = false
		clear(n.opens)
		clear(n.locks)
		c.Abandon()
		c = dial(n.boot(true, 3))
		_, err = c.Open(ctx, root, reclaim(openFH(fhs[0], 0, 3, 1)))
		wantStatus(t, err, nfs4.NFS4ERR_NO_GRACE)
	})
}

// A CLOSE that was done and not written down is no revocation: what was not written down besides is found by owner
// all the same. A lock that the server does not know is one, and so is an open with locks.
func TestAClosedOpenIsNotRevoked(t *testing.T) {
	for _, x := range []struct {
		name   string
		gone   func(*testing.T, *Client, *notebook, []nfs4.FH)
		refuse bool
	}{
		{"an open without locks", func(t *testing.T, c *Client, n *notebook, fhs []nfs4.FH) {
			must(t, c.Unlock(t.Context(), owner(100), fhs[0], Range{0, math.MaxUint64}))
			synctest.Wait()
			before := n.copied()
			must(t, c.CloseFile(t.Context(), owner(0), fhs[0]))
			synctest.Wait()
			n.opens = before.opens
		}, false},
		{"an open with locks", func(t *testing.T, c *Client, n *notebook, fhs []nfs4.FH) {
			before := n.copied()
			must(t, c.CloseFile(t.Context(), owner(0), fhs[0]))
			synctest.Wait()
			n.opens, n.locks = before.opens, before.locks
		}, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
				n := newNotebook()
				c := dial(n.boot(false, 1))
				must(t, c.ReclaimComplete(t.Context()))
				fhs := hold(t, c, 2)
				synctest.Wait()
				x.gone(t, c, n, fhs)
				delete(n.locks, StateKey{owner(101), fhs[1]}) // this one was not written in time
				c.Abandon()
				c = dial(n.boot(true, 2))
				_, err := c.Open(t.Context(), root, reclaim(openFH(fhs[1], 1, 3, 1)))
				must(t, err)
				err = c.Lock(t.Context(), root, reclaimLock(lockOf(fhs[1], 1, 101, 0, 9)))
				if x.refuse {
					wantStatus(t, err, nfs4.NFS4ERR_NO_GRACE)
				} else {
					must(t, err)
				}
			})
		})
	}
}

// The origin forgot the client: it cannot be resumed, and a new incarnation reclaims, or is refused. That is
// so where only resuming is wanted, too: there is nothing at the origin that could be lost by it.
func TestResumeFallsBackToReclaim(t *testing.T) {
	for _, only := range []bool{false, true} {
		t.Run(fmt.Sprint("only=", only), func(t *testing.T) { resumeFallsBack(t, only) })
	}
}

func resumeFallsBack(t *testing.T, only bool) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		ctx := t.Context()
		n := newNotebook()
		c := dial(n.boot(false, 1))
		must(t, c.ReclaimComplete(ctx))
		fhs := hold(t, c, 1)
		synctest.Wait()
		c.Abandon()
		s.restart(true)
		c = dial(n.boot(true, 2), func(cfg *Config) { cfg.Resume.Only = only })
		if i := c.Info(); i.Resumed || c.Identity().Verifier != [8]byte{2} {
			t.Errorf("%+v", i)
		}
		_, err := c.Open(ctx, root, reclaim(openFH(fhs[0], 0, 3, 1)))
		must(t, err)
		must(t, c.Lock(ctx, root, reclaimLock(lockOf(fhs[0], 0, 100, 0, 9))))
		if s.ran[nfs4.OP_OPEN] != 3 { // two of hold, and the reclaim
			t.Errorf("%d OPENs", s.ran[nfs4.OP_OPEN])
		}
	})
}

// The origin has the state, and does not let us destroy the session that can still change it: where only
// resuming is wanted, nothing is dropped. Otherwise a new incarnation drops it.
func TestWhatCannotBeFencedIsNotResumed(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		n := newNotebook()
		c := dial(n.boot(false, 1))
		must(t, c.ReclaimComplete(t.Context()))
		hold(t, c, 1)
		synctest.Wait()
		c.Abandon()
		s.before = func(a nfs4.Args) nfs4.Status {
			if a.Op() == nfs4.OP_DESTROY_SESSION {
				return nfs4.NFS4ERR_CONN_NOT_BOUND_TO_SESSION
			}
			return nfs4.NFS4_OK
		}
		err := tryDial(t, s, n.boot(true, 2), func(cfg *Config) { cfg.Resume.Only = true })
		var cannot *CannotResumeError
		if !errors.As(err, &cannot) || cannot.Gone {
			t.Errorf("with no other way: %v", err)
		}
		s.mu.Lock()
		held := len(s.locks)
		s.mu.Unlock()
		if held == 0 {
			t.Error("the origin dropped the locks")
		}
		c = dial(n.boot(true, 2))
		if i := c.Info(); i.Resumed || c.Identity().Verifier != [8]byte{2} {
			t.Errorf("%+v", i)
		}
	})
}

// The origin restarts after we resumed and before anybody has reclaimed: all is reclaimed from the
// tables, and callers are still answered from there.
func TestOriginRestartsAfterResume(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		ctx := t.Context()
		n := newNotebook()
		c := dial(n.boot(false, 1))
		must(t, c.ReclaimComplete(ctx))
		fhs := hold(t, c, 2)
		synctest.Wait()
		c.Abandon()
		c = dial(n.boot(true, 2))
		s.restart(true)
		must(t, mkdir(c, ctx, "a"))
		for i, fh := range fhs {
			if got := s.held(owner(100+i), fh); !slices.Equal(got, held2) {
				t.Errorf("%v: %v", fh, got)
			}
		}
		_, err := c.Open(ctx, root, reclaim(openFH(fhs[0], 0, 3, 1)))
		must(t, err)
		must(t, c.Lock(ctx, root, reclaimLock(lockOf(fhs[0], 0, 100, 0, 9))))
		must(t, c.ReclaimComplete(ctx))
		if got := s.held(owner(100), fhs[0]); !slices.Equal(got, RangeSet{{Range{0, 9}, true}}) {
			t.Errorf("held %v", got)
		}
		if _, _, ok := s.openOf(owner(1), fhs[1]); ok {
			t.Error("what nobody reclaimed is still held")
		}
		if s.count(nfs4.OP_RECLAIM_COMPLETE) != 2 {
			t.Errorf("RECLAIM_COMPLETE was sent %d times", s.count(nfs4.OP_RECLAIM_COMPLETE))
		}
	})
}

// An origin that agrees to keep the state of a restarted client is told that we restarted; one that does
// not agree any more is not, because it would drop everything.
func TestResumeUnlessRetained(t *testing.T) {
	for _, retain := range []bool{true, false} {
		story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
			s.retain = true
			n := newNotebook()
			ask := func(cfg *Config) {
				cfg.Retain = true
				if cfg.Resume != nil {
					cfg.Resume.UnlessRetained = true
				}
			}
			c := dial(n.boot(false, 1), ask)
			must(t, c.ReclaimComplete(t.Context()))
			fhs := hold(t, c, 1)
			synctest.Wait()
			c.Abandon()
			s.retain = retain
			c = dial(n.boot(true, 2), ask)
			if got := c.Info().Resumed; got == retain {
				t.Errorf("retain %v: resumed %v", retain, got)
			}
			if got := s.held(owner(100), fhs[0]); !retain && !slices.Equal(got, held2) {
				t.Errorf("held %v", got)
			}
		})
	}
}

// Requests of the dead incarnation that still run hold the fence up.
func TestTheFenceWaits(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		n := newNotebook()
		c := dial(n.boot(false, 1))
		must(t, c.ReclaimComplete(t.Context()))
		hold(t, c, 1)
		synctest.Wait()
		c.Abandon()
		busy, tests := 5, 0
		s.before = func(a nfs4.Args) nfs4.Status {
			switch a.Op() {
			case nfs4.OP_DESTROY_SESSION:
				if busy--; busy >= 0 {
					return nfs4.NFS4ERR_DELAY
				}
			case nfs4.OP_TEST_STATEID:
				if tests++; busy >= 0 {
					t.Error("stateids were trusted before the fence was up")
				}
			}
			return nfs4.NFS4_OK
		}
		dial(n.boot(true, 2))
		if busy >= 0 || tests == 0 {
			t.Errorf("busy %d, tests %d", busy, tests)
		}
	})
}
