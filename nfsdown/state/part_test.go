package state

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// partWorld is a server that came back before two origins, p and q; alice has the same opens and locks at both: of
// each file one lock in two pieces, of which the first is reclaimed.
func partWorld(t *testing.T) (*world, *tester) {
	w := newWorld(t, Config{Part: partOf})
	w.backend.remote = true
	c := w.client("alice")
	confirmed(w, c)
	must(t, c.complete())
	files := []fs.Handle{"p/f", "p/g", "q/f", "q/g"}
	for _, f := range files {
		must(t, c.open("o"+string(f), f, fs.ShareBoth, 0, false))
		must(t, c.lock("o"+string(f), "x", f, ten, fs.WriteLock, false, false))
		must(t, c.lock("o"+string(f), "x", f, twenty, fs.WriteLock, false, false))
	}
	w.crash()
	confirmed(w, c)
	for _, f := range files {
		must(t, c.open("o"+string(f), f, fs.ShareBoth, 0, true))
		must(t, c.lock("o"+string(f), "x", f, ten, fs.WriteLock, false, true))
	}
	return w, c
}

var twenty = fs.Range{First: 20, Last: 29}

// The server dies with any part of the records durable: what was reclaimed at p can be reclaimed, what was not can be
// or is void, and at q all of it can be.
func TestPartEndCrash(t *testing.T) {
	voids := map[int]bool{}
	for n := 0; ; n++ {
		w, c := partWorld(t)
		w.run(w.srv.NoGraceAt(partOf("p/")))
		e := w.srv.EndGraceAt()
		if e == nil || len(e.Lost) != 2 {
			t.Fatalf("%+v", e)
		}
		w.holdBack = true
		must(t, e.Record(t.Context(), host{w.backend, w}))
		batches := w.posted
		if n > len(batches) {
			break
		}
		w.posted, w.holdBack = batches[:n], false
		w.flush()
		w.crash()
		confirmed(w, c)
		void := 0
		for _, f := range []fs.Handle{"p/f", "p/g", "q/f", "q/g"} {
			must(t, c.open("o"+string(f), f, fs.ShareBoth, 0, true))
			must(t, c.lock("o"+string(f), "x", f, ten, fs.WriteLock, false, true))
			switch err := c.lock("o"+string(f), "x", f, twenty, fs.WriteLock, false, true); {
			case err == nil:
			case partOf(f) == partOf("p/"):
				wants(t, "what is void", err, nfs4.NFS4ERR_RECLAIM_BAD)
				void++
			default:
				t.Errorf("%s with %d of %d batches: %v", f, n, len(batches), err)
			}
		}
		voids[void] = true
		if n == len(batches) && void != 2 {
			t.Errorf("with all of it durable %d locks are void", void)
		}
	}
	if !voids[0] || !voids[1] || !voids[2] {
		t.Errorf("void were %v", voids)
	}
}

// A request that was judged before the end has written down, or is about to write down, what can no more be
// reclaimed: its record comes first.
func TestPartEndWaitsForRequests(t *testing.T) {
	w, c := partWorld(t)
	sid := c.locks[owned("x", "p/f")]
	p, err := w.srv.PrepareUnlock(t.Context(), c.c, sid, "p/f", fs.Range{First: 0, Last: 4})
	must(t, err)
	w.run(w.srv.NoGraceAt(partOf("p/")))
	e := w.srv.EndGraceAt()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if e.Record(ctx, host{w.backend, w}) == nil {
		t.Error("it did not wait")
	}
	must(t, w.commit(p.Batch))
	_, eff, err := p.Settle(w.backend.Unlock(t.Context(), nil, p.Owner, p.File, p.Range))
	must(t, err)
	w.run(eff)
	must(t, e.Record(t.Context(), host{w.backend, w}))
	must(t, w.commit(e.Batch))
	want := []string{"alice/x p/f 5-9w", "alice/x p/g 0-9w", "alice/x q/f 0-9w 20-29w", "alice/x q/g 0-9w 20-29w"}
	if got := w.records(); !slices.Equal(got, want) {
		t.Errorf("the journal has %q", got)
	}
}

// I5: a part does not end in the middle of a reclaim there; one elsewhere does not hinder it.
func TestPartEndWaitsForReclaims(t *testing.T) {
	w, c := partWorld(t)
	reclaim := func(f fs.Handle) *LockPlan {
		p, err := c.planLock(t.Context(), c.lockRequest("o", "x", f, twenty, fs.WriteLock, false, true))
		must(t, err)
		return p
	}
	here, there := reclaim("p/f"), reclaim("q/f")
	w.run(w.srv.NoGraceAt(partOf("p/")))
	if w.srv.EndGraceAt() != nil {
		t.Fatal("it ended in the middle of a reclaim")
	}
	wants(t, "another reclaim there", c.lock("o", "x", "p/g", twenty, fs.WriteLock, false, true), nfs4.NFS4ERR_NO_GRACE)
	w.mayEnd.Store(false)
	must(t, c.doLock(here))
	if !w.mayEnd.Load() {
		t.Error("nobody is told that it may end")
	}
	lost := w.endPart(3)
	if len(lost) != 1 || lost[0].File != "p/g" {
		t.Errorf("lost %+v", lost)
	}
	must(t, c.doLock(there))
	if w.srv.EndGraceAt() != nil {
		t.Error("it ends twice")
	}
}

// Grace ends everywhere while it is about to at one origin: each loss is named once.
func TestPartEndBesideTheWhole(t *testing.T) {
	w, _ := partWorld(t)
	w.run(w.srv.NoGraceAt(partOf("p/")))
	e := w.srv.EndGraceAt()
	must(t, e.Record(t.Context(), host{w.backend, w}))
	if i := w.srv.GraceInfo(); i.Remaining != 2 || len(i.LostEarly) != 2 {
		t.Errorf("%+v", i)
	}
	if lost := w.endGrace(true); len(lost) != 2 || partOf(lost[0].File) != partOf("q/") || partOf(lost[1].File) != partOf("q/") {
		t.Errorf("lost %+v", lost)
	}
	must(t, w.commit(e.Batch))
	w.run(e.Done())
	if i := w.srv.GraceInfo(); len(i.Lost) != 4 || len(i.LostEarly) != 0 {
		t.Errorf("%+v", i)
	}
	if p := w.srv.PhaseAt("p/f"); p != GraceOver {
		t.Errorf("phase %v", p)
	}
	named := map[string]int{}
	for ev, err := range w.journal.Events(1, func(e *journal.Event) bool { return e.Type == "lost" }) {
		must(t, err)
		named[fmt.Sprint(ev.File, ev.Range)]++
	}
	if len(named) != 4 || named["p/f20-29"] != 1 {
		t.Errorf("named %v", named)
	}
	must(t, w.checkInvariants())
}

// Many clients reclaim at two origins when one of them begins to take none: run it with -race. What was reclaimed
// stays, in the journal too, and what was not is gone there and only there.
func TestPartEndUnderLoad(t *testing.T) {
	const clients, locks = 6, 8
	w := newWorld(t, Config{Part: partOf})
	w.backend.remote = true
	at := func(n int) fs.Range { return fs.Range{First: uint64(2 * n), Last: uint64(2 * n)} }
	var list []*tester
	file := func(i int, origin string) fs.Handle { return fs.Handle(fmt.Sprint(origin, "/", i%2)) }
	for i := range clients {
		c := w.client(fmt.Sprint("client", i))
		list = append(list, c)
		confirmed(w, c)
		must(t, c.complete())
		for _, origin := range []string{"p", "q"} {
			f := file(i, origin)
			must(t, c.open("o", f, fs.ShareBoth, 0, false))
			for n := range locks {
				must(t, c.lock("o", "x", f, at(i*locks+n), fs.WriteLock, false, false))
			}
		}
	}
	w.crash()
	for _, c := range list {
		confirmed(w, c)
	}
	var wg sync.WaitGroup
	var granted atomic.Int64    // at p
	step := make(chan struct{}) // nobody is done before the end begins
	for i, c := range list {
		wg.Go(func() {
			over := false
			for n := range locks {
				for _, origin := range []string{"q", "p"} {
					f := file(i, origin)
					err := error(nil)
					if n == 0 {
						err = c.open("o", f, fs.ShareBoth, 0, true)
					}
					if err == nil && !(origin == "p" && over) {
						err = c.lock("o", "x", f, at(i*locks+n), fs.WriteLock, false, true)
						if err == nil && origin == "p" {
							granted.Add(1)
						}
					}
					switch {
					case err == nil:
					case origin == "p" && err == nfs4.NFS4ERR_NO_GRACE:
						over = true
					default:
						t.Errorf("%s at %s: %v", c.name, origin, err)
					}
					step <- struct{}{}
				}
			}
		})
	}
	for range clients * locks / 2 {
		<-step
	}
	w.run(w.srv.NoGraceAt(partOf("p/")))
	go func() {
		for range 2*clients*locks - clients*locks/2 {
			<-step
		}
	}()
	lost := 0
	for again := true; again; again = w.srv.PhaseAt("p/0") != GraceOver {
		for _, l := range w.endPart(3) {
			lost += len(l.Locks)
		}
	}
	wg.Wait()
	if lost == 0 || granted.Load()+int64(lost) != clients*locks {
		t.Errorf("%d were reclaimed and %d lost", granted.Load(), lost)
	}
	must(t, w.checkInvariants())
	n := map[byte]int{}
	for _, l := range w.srv.Locks() {
		if len(l.Held) > 0 {
			t.Errorf("still held: %+v", l)
		}
		n[l.File[0]] += len(l.Live)
	}
	_ = w.records() // what was posted is durable with it
	snap, err := w.journal.Load()
	must(t, err)
	inJournal := map[byte]int{}
	for _, l := range snap.Locks {
		inJournal[l.File[0]] += len(l.Ranges)
	}
	if n['p'] != int(granted.Load()) || n['q'] != clients*locks || !maps.Equal(n, inJournal) {
		t.Errorf("live are %v, in the journal %v, granted at p %d", n, inJournal, granted.Load())
	}
}

// I2: grace ends while a client locks that has something from before and something new. What it was told of is in the
// journal wherever a crash comes.
func TestLockWhileGraceEnds(t *testing.T) {
	w := newWorld(t, Config{})
	w.backend.remote = true
	permanent := func() *tester {
		c := &tester{w: w, name: "alice", opens: map[string]nfs4.Stateid{}, locks: map[string]nfs4.Stateid{}}
		var eff *Effects
		c.c, eff = w.srv.PermanentClient("alice", "")
		w.run(eff)
		return c
	}
	lock := func(c *tester, f fs.Handle, r fs.Range, reclaim bool) {
		t.Helper()
		p, err := c.planLock(t.Context(), c.lockRequest("o", "x", f, r, fs.WriteLock, false, reclaim))
		must(t, err)
		must(t, c.doLock(p))
	}
	open := func(c *tester, f fs.Handle, reclaim bool) {
		t.Helper()
		p, err := c.planOpen(t.Context(), "o", f, fs.ShareBoth, 0, reclaim)
		must(t, err)
		must(t, c.doOpen(p))
	}
	c := permanent()
	for _, f := range []fs.Handle{"f", "g"} {
		open(c, f, false)
		lock(c, f, ten, false)
		lock(c, f, twenty, false)
	}
	w.crash()
	c = permanent()
	for _, f := range []fs.Handle{"f", "g"} {
		open(c, f, true)
		lock(c, f, ten, true)
	}
	e := w.srv.EndGrace(true)
	lock(c, "f", fs.Range{First: 40, Last: 49}, false)
	e.Record(host{w.backend, w})
	lock(c, "f", fs.Range{First: 60, Last: 69}, false)
	must(t, w.commit(e.Batch))
	if got, want := w.records(), []string{"alice/x f 0-9w 40-49w 60-69w", "alice/x g 0-9w"}; !slices.Equal(got, want) {
		t.Errorf("the journal has %q, want %q", got, want)
	}
}
