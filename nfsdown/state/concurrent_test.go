package state

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// pair is two clients with the same file open.
func pair(t *testing.T, w *world) (alice, bob *tester) {
	t.Helper()
	alice, bob = w.client("alice"), w.client("bob")
	opened(w, alice)
	opened(w, bob)
	return alice, bob
}

func mustPlan(t *testing.T, c *tester, owner string, r fs.Range, typ fs.LockType) *LockPlan {
	t.Helper()
	p, err := c.planLock(t.Context(), c.lockRequest("o", owner, "f", r, typ, false, false))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A request that conflicts with one on its way waits for its outcome: neither granted nor denied
// before it is known.
func TestReservation(t *testing.T) {
	for _, granted := range []bool{true, false} {
		w := newWorld(t, Config{})
		alice, bob := pair(t, w)
		p := mustPlan(t, alice, "x", fs.Range{First: 0, Last: 10}, fs.WriteLock)
		got := make(chan error, 1)
		go func() {
			q, err := bob.planLock(context.Background(), bob.lockRequest("o", "y", "f", fs.Range{First: 5, Last: 5}, fs.WriteLock, false, false))
			if err == nil {
				err = bob.doLock(q)
			}
			got <- err
		}()
		short, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := w.srv.PrepareLock(short, bob.c, bob.lockRequest("o", "z", "f", fs.Range{First: 6, Last: 6}, fs.ReadLock, false, false)); !errors.Is(err, context.Canceled) {
			t.Fatalf("a third one did not wait: %v", err)
		}
		select {
		case err := <-got:
			t.Fatalf("bob got %v while alice's lock was on its way", err)
		default:
		}
		if granted {
			if err := alice.doLock(p); err != nil {
				t.Fatal(err)
			}
			if err := <-got; !errors.Is(err, nfs4.NFS4ERR_DENIED) {
				t.Errorf("after the grant bob got %v", err)
			}
		} else {
			_, eff, err := p.Settle(fs.Delay, nil)
			w.run(eff)
			if err == nil {
				t.Error("a failure was granted")
			}
			if err := <-got; err != nil {
				t.Errorf("after the failure bob got %v", err)
			}
		}
		if err := w.checkInvariants(); err != nil {
			t.Error(err)
		}
	}
}

// After RECLAIM_COMPLETE a lock that was not reclaimed is given back, which takes the turn of the open;
// a LOCK under that open that waits for it must not hold the turn.
func TestReleaseUnderTheSameOpen(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.client("alice")
	opened(w, c)
	if err := c.lock("o", "lost", "f", fs.Range{First: 0, Last: 10}, fs.WriteLock, false, false); err != nil {
		t.Fatal(err)
	}
	c.verifier++
	confirmed(w, c)
	if err := c.open("o", "f", fs.ShareBoth, 0, true); err != nil {
		t.Fatal(err)
	}
	p, err := w.srv.PrepareReclaimComplete(c.c, false)
	if err != nil {
		t.Fatal(err)
	}
	eff, err := p.Settle(w.commit(p.Batch))
	if err != nil || len(eff.Releases) != 1 {
		t.Fatal(err, eff.Releases)
	}
	got := make(chan error, 1)
	go func() {
		q, err := c.planLock(context.Background(), c.lockRequest("o", "new", "f", fs.Range{First: 5, Last: 5}, fs.WriteLock, false, false))
		if err == nil {
			err = c.doLock(q)
		}
		got <- err
	}()
	w.run(eff) // the answer to RECLAIM_COMPLETE is out already
	select {
	case err := <-got:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the lock and the release wait for each other")
	}
}

// Grace does not end in the middle of a reclaim (I5).
func TestGraceWaitsForReclaim(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.client("alice")
	opened(w, c)
	w.crash()
	confirmed(w, c)
	p, err := c.planOpen(t.Context(), "o", "f", fs.ShareBoth, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	if g := w.srv.EndGrace(true); g != nil {
		t.Fatal("grace ended in the middle of a reclaim")
	}
	if _, err := w.srv.PrepareReclaimComplete(c.c, false); err != nfs4.NFS4ERR_DELAY {
		t.Errorf("RECLAIM_COMPLETE during a reclaim: %v", err)
	}
	if _, err := c.planOpen(t.Context(), "o", "g", fs.ShareBoth, 0, true); err != nfs4.NFS4ERR_NO_GRACE {
		t.Errorf("a reclaim after the decision: %v", err)
	}
	if err := c.doOpen(p); err != nil {
		t.Fatal(err)
	}
	if !w.mayEnd.Load() {
		t.Error("the last reclaim did not say that grace may end")
	}
	if lost := w.endGrace(false); len(lost) != 0 || w.srv.Phase() != GraceOver {
		t.Errorf("lost %v, phase %v", lost, w.srv.Phase())
	}
}

// An open by name that met a CLOSE of the same owner and file is made once more, by handle.
func TestOpenByNameMeetsClose(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.client("alice")
	opened(w, c)
	ticket, err := w.srv.BeginOpen(c.c, "o", "dir")
	if err != nil {
		t.Fatal(err)
	}
	defer ticket.End()
	owner := fs.Owner{Client: "alice", Owner: "o"}
	w.backend.Open(&fs.OpenRequest{Owner: owner, File: "f", Access: fs.ShareRead})
	if err := c.close("o", "f"); err != nil {
		t.Fatal(err)
	}
	p, _, err := w.srv.PrepareOpen(t.Context(), c.c, &OpenRequest{Owner: "o", File: "f", Access: fs.ShareRead, Ticket: ticket})
	if err != nil {
		t.Fatal(err)
	}
	if p.Call != CallNormal {
		t.Fatal("the backend has it closed, and is not asked again")
	}
	if err := c.doOpen(p); err != nil {
		t.Fatal(err)
	}
	if err := w.checkInvariants(); err != nil {
		t.Error(err)
	}
}

// An open by name that our rules refuse is undone at the backend: to what the owner had.
func TestOpenByNameIsUndone(t *testing.T) {
	w := newWorld(t, Config{})
	alice, bob := w.client("alice"), w.client("bob")
	opened(w, alice)
	confirmed(w, bob)
	if err := bob.complete(); err != nil {
		t.Fatal(err)
	}
	if err := bob.open("p", "f", fs.ShareRead, 0, false); err != nil {
		t.Fatal(err)
	}
	ticket, err := w.srv.BeginOpen(bob.c, "p", "dir")
	if err != nil {
		t.Fatal(err)
	}
	defer ticket.End()
	owner := fs.Owner{Client: "bob", Owner: "p"}
	w.backend.opens[OwnerFile{owner, "f"}] = [2]fs.Share{fs.ShareRead, fs.ShareWrite} // a backend without deny modes
	_, eff, err := w.srv.PrepareOpen(t.Context(), bob.c, &OpenRequest{Owner: "p", File: "f", Access: fs.ShareRead, Deny: fs.ShareWrite, Ticket: ticket})
	w.run(eff)
	if err != nfs4.NFS4ERR_SHARE_DENIED {
		t.Fatal(err)
	}
	if got := w.backend.opens[OwnerFile{owner, "f"}]; got != [2]fs.Share{fs.ShareRead, 0} {
		t.Errorf("the backend has %v", got)
	}
	// So is one that does not come as far as to be judged.
	w.backend.opens[OwnerFile{owner, "f"}] = [2]fs.Share{fs.ShareBoth, 0}
	w.run(w.srv.UndoOpen(bob.c, &OpenRequest{Owner: "p", File: "f", Access: fs.ShareWrite}))
	if got := w.backend.opens[OwnerFile{owner, "f"}]; got != [2]fs.Share{fs.ShareRead, 0} {
		t.Errorf("the backend has %v", got)
	}
	w.backend.opens[OwnerFile{owner, "g"}] = [2]fs.Share{fs.ShareWrite, 0}
	w.run(w.srv.UndoOpen(bob.c, &OpenRequest{Owner: "p", File: "g", Access: fs.ShareWrite}))
	if got, there := w.backend.opens[OwnerFile{owner, "g"}]; there {
		t.Errorf("the backend has %v", got)
	}
}

// More than a journal batch takes: a client with thousands of locks ends, and grace with thousands lost.
func TestManyLocks(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	w := newWorld(t, Config{})
	c := w.client("alice")
	opened(w, c)
	const n = 9000
	for i := range n {
		p := mustPlan(t, c, fmt.Sprint(i), fs.Range{First: uint64(i), Last: uint64(i)}, fs.WriteLock)
		if err := w.journal.Post(p.Batch); err != nil {
			t.Fatal(err)
		}
		if err := w.backend.Lock(&p.Request); err != nil {
			t.Fatal(err)
		}
		if _, eff, err := p.Settle(nil, nil); err != nil {
			t.Fatal(err)
		} else {
			w.run(eff)
		}
	}
	w.crash()
	if i := w.srv.GraceInfo(); i.Remaining != n+1 {
		t.Fatalf("%d remain", i.Remaining)
	}
	again := &world{t: t, memory: w.memory.Clone(), now: w.now, cfg: w.cfg, backend: newBackend()}
	again.boot()
	t.Cleanup(func() { again.journal.Close() })
	if lost := w.endGrace(true); len(lost) != n+1 {
		t.Errorf("lost %d", len(lost))
	}
	if r := w.records(); len(r) != 0 {
		t.Errorf("%d records left", len(r))
	}
	again.run(again.srv.NoGraceAt(0))
	if lost := again.endPart(3); len(lost) != n+1 {
		t.Errorf("lost in a part %d", len(lost))
	}
	if r := again.records(); len(r) != 0 {
		t.Errorf("%d records of a part left", len(r))
	}
}

// Many clients at once, with a backend that sometimes fails: run it with -race. I1 holds throughout,
// and in the end nothing is left anywhere.
func TestManyClients(t *testing.T) {
	w := newWorld(t, Config{CourtesyLimit: time.Hour})
	const clients, rounds = 6, 60
	list := make([]*tester, clients)
	for i := range list {
		list[i] = w.client(fmt.Sprint("client", i))
		confirmed(w, list[i])
		if err := list[i].complete(); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i, c := range list {
		wg.Go(func() {
			for n := range rounds {
				f := fs.Handle(fmt.Sprint("file", n%2))
				r := fs.Range{First: uint64(n*7%20) + 0, Last: uint64(n*7%20 + i)}
				typ := fs.ReadLock + fs.LockType(n+i)%2
				if err := c.open("o", f, fs.ShareBoth, 0, false); err != nil {
					t.Errorf("open: %v", err)
					return
				}
				err := c.lock("o", "x", f, r, typ, n%3 == 0, false)
				if err != nil && !errors.Is(err, nfs4.NFS4ERR_DENIED) {
					t.Errorf("lock: %v", err)
				}
				if err == nil && n%2 == 0 {
					if err := c.unlock("x", f, r); err != nil {
						t.Errorf("unlock: %v", err)
					}
				}
				if n%5 == 4 {
					for name := range c.opens {
						_, f, _ := strings.Cut(name, " ")
						if err := c.close("o", fs.Handle(f)); err != nil {
							t.Errorf("close: %v", err)
						}
					}
				}
				w.run(w.srv.Expire())
			}
			for name := range c.opens {
				_, f, _ := strings.Cut(name, " ")
				if err := c.close("o", fs.Handle(f)); err != nil {
					t.Errorf("close: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if err := w.checkInvariants(); err != nil {
		t.Error(err)
	}
	w.backend.mu.Lock()
	left := len(w.backend.opens) + len(w.backend.locks)
	w.backend.mu.Unlock()
	if left != 0 {
		t.Errorf("%d things are left at the backend", left)
	}
	if r := w.records(); len(r) != 0 {
		t.Errorf("records are left: %v", r)
	}
	if files := w.srv.files.all(); len(files) != 0 {
		t.Errorf("%d files are left", len(files))
	}
}
