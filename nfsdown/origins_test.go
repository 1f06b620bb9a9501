package nfsdown

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"holdfast/fs"
	"holdfast/fs/fstest/memfs"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// twoOrigins is a server before two origins: w.fs has /p and /p2, the other one /q.
func twoOrigins(t *testing.T) (*world, *memfs.FS) {
	q := memfs.New()
	w := newDurableWorld(t, func(c *Config) {
		x := c.Exports[0]
		c.Exports = nil
		for path, b := range map[string]fs.Backend{"/p": x.Backend, "/p2": x.Backend, "/q": q} {
			x.Path, x.Backend = path, b
			c.Exports = append(c.Exports, x)
		}
	})
	q.Now = w.clock.Now
	return w, q
}

// takesNone is the hook of a backend that takes no reclaims.
func takesNone(_ context.Context, op string) error {
	if op == "Reclaim" || op == "ReclaimLock" {
		return fs.E("OPEN", fs.NoGrace, nil)
	}
	return nil
}

// openIn opens a file of an export.
func (p *peer) openIn(dir, owner, name string) (nfs4.FH, nfs4.Stateid) {
	p.t.Helper()
	list := p.ok(with(at(dir), openArgs(owner, name, 3, 0), &nfs4.GetfhArgs{})...)
	return last[*nfs4.GetfhRes](list).FH, list[2].(*nfs4.OpenRes).Stateid
}

// holdIn opens a file of an export and locks a part of it.
func (p *peer) holdIn(dir string) nfs4.FH {
	p.t.Helper()
	fh, sid := p.openIn(dir, "o", "f")
	p.lock(fh, sid, "l", nfs4.WRITE_LT, 0, 10)
	return fh
}

func (w *world) events() map[string]int {
	w.t.Helper()
	seen := map[string]int{}
	for e, err := range w.jr.Events(1, nil) {
		if err != nil {
			w.t.Fatal(err)
		}
		seen[e.Type+" "+e.Result]++
		if e.Result == "reason" {
			seen[e.Text]++
		}
	}
	return seen
}

// Of two origins one takes no reclaims: grace ends for what it has, and what clients hold at the other one they get
// back. I1, I2, I3, I5.
func TestNoGraceFromOneOrigin(t *testing.T) {
	w, q := twoOrigins(t)
	a := w.client("alice")
	pfh, qfh := a.holdIn("p"), a.holdIn("q")
	q.Restart()
	asked, answer := make(chan struct{}), make(chan struct{})
	w.reboot(func(ctx context.Context, op string) error {
		if op == "ReclaimComplete" {
			close(asked)
			<-answer
		}
		return takesNone(ctx, op)
	})
	a.back()
	b := w.client("bob")
	_, bsid := b.openIn("p", "o", "f")
	a.fails(nfs4.NFS4ERR_NO_GRACE, put(pfh), reclaimOpen("o", 3, 0))
	<-asked
	// First it is durable; until the origin knows, what was lost stands in the way.
	snap, err := w.jr.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range snap.Locks {
		if l.File == fs.Handle(pfh) {
			t.Errorf("RECLAIM_COMPLETE before this was void: %+v", l)
		}
	}
	if len(snap.Locks) != 1 {
		t.Errorf("the journal has %+v", snap.Locks)
	}
	b.fails(nfs4.NFS4ERR_GRACE, put(pfh), lockArgs(bsid, "l", nfs4.WRITE_LT, 0, 10))
	close(answer)
	eventually(t, "grace is over at p", func() bool { return w.srv.State().PhaseAt(fs.Handle(pfh)) == state.GraceOver })
	if w.srv.Phase() != state.GraceActive || w.fs.Completes() != 1 || q.Completes() != 0 {
		t.Fatalf("phase %v; RECLAIM_COMPLETE %d times at p, %d times at q", w.srv.Phase(), w.fs.Completes(), q.Completes())
	}
	if g := w.srv.Status().Grace; !slices.Equal(g.OverFor, []string{"/p", "/p2"}) || len(g.LostEarly) != 2 || g.Remaining != 2 {
		t.Errorf("status: %+v", g)
	}
	eventually(t, "bob gets the lock", func() bool {
		st, _ := b.do(put(pfh), lockArgs(bsid, "l", nfs4.WRITE_LT, 0, 10))
		return st == nfs4.NFS4_OK
	})
	a.fails(nfs4.NFS4ERR_NO_GRACE, put(pfh), reclaimOpen("o", 3, 0))
	if n := w.fs.Opens(); n != 1 {
		t.Errorf("p has %d opens, not bob's alone", n)
	}
	// At q nothing has changed.
	_, bsid = b.openIn("q", "o", "f")
	b.fails(nfs4.NFS4ERR_GRACE, put(qfh), lockArgs(bsid, "l", nfs4.WRITE_LT, 0, 10))
	open := last[*nfs4.OpenRes](a.ok(put(qfh), reclaimOpen("o", 3, 0))).Stateid
	a.ok(put(qfh), reclaimLock(open, "l", nfs4.WRITE_LT, 0, 10))
	a.ok(&nfs4.ReclaimCompleteArgs{})
	eventually(t, "grace is over", func() bool { return w.srv.Phase() == state.GraceOver })
	if w.fs.Completes() != 1 || q.Completes() != 1 {
		t.Errorf("RECLAIM_COMPLETE %d times at p, %d times at q", w.fs.Completes(), q.Completes())
	}
	b.fails(nfs4.NFS4ERR_DENIED, put(qfh), lockArgs(bsid, "l", nfs4.WRITE_LT, 0, 10))
	if held := q.Held(fsOwner("alice", "l"), backendHandle(t, qfh)); len(held) != 1 {
		t.Errorf("q holds %v", held)
	}
	if seen := w.events(); seen["lost not reclaimed"] != 2 || seen["grace ended in part"] != 1 || seen["the origin takes no reclaims for /p, /p2"] != 1 || seen["grace ended"] != 1 {
		t.Errorf("events: %v", seen)
	}
}

// The server dies while the origin that takes no reclaims is being told: what was lost stays lost, though it would
// take reclaims by now, and the rest is there.
func TestCrashWhileGraceEndsForOneOrigin(t *testing.T) {
	w, q := twoOrigins(t)
	a := w.client("alice")
	pfh, qfh := a.holdIn("p"), a.holdIn("q")
	q.Restart()
	asked := make(chan struct{})
	w.reboot(func(ctx context.Context, op string) error {
		if op == "ReclaimComplete" {
			close(asked)
			<-ctx.Done() // there is no answer any more
			return context.Cause(ctx)
		}
		return takesNone(ctx, op)
	})
	a.back()
	a.fails(nfs4.NFS4ERR_NO_GRACE, put(pfh), reclaimOpen("o", 3, 0))
	<-asked
	q.Restart()
	w.reboot(nil)
	a.back()
	a.fails(nfs4.NFS4ERR_RECLAIM_BAD, put(pfh), reclaimOpen("o", 3, 0))
	open := last[*nfs4.OpenRes](a.ok(put(qfh), reclaimOpen("o", 3, 0))).Stateid
	a.ok(put(qfh), reclaimLock(open, "l", nfs4.WRITE_LT, 0, 10))
	a.ok(&nfs4.ReclaimCompleteArgs{})
	eventually(t, "grace is over", func() bool { return w.srv.Phase() == state.GraceOver })
	if w.fs.Completes() != 1 || q.Completes() != 1 {
		t.Errorf("RECLAIM_COMPLETE %d times at p, %d times at q", w.fs.Completes(), q.Completes())
	}
}

// When the last origin takes no reclaims either, grace is over as it is with one.
func TestNoGraceFromAllOrigins(t *testing.T) {
	w, q := twoOrigins(t)
	a := w.client("alice")
	pfh, _ := a.openIn("p", "o", "f")
	qfh, _ := a.openIn("q", "o", "f")
	w.client("bob").openIn("q", "o", "g") // who does not come back
	q.Restart()
	q.Hook = takesNone
	w.reboot(takesNone)
	a.back()
	a.fails(nfs4.NFS4ERR_NO_GRACE, put(pfh), reclaimOpen("o", 3, 0))
	eventually(t, "grace is over at p", func() bool { return w.srv.State().PhaseAt(fs.Handle(pfh)) == state.GraceOver })
	if w.srv.Phase() != state.GraceActive {
		t.Errorf("phase %v", w.srv.Phase())
	}
	a.fails(nfs4.NFS4ERR_NO_GRACE, put(qfh), reclaimOpen("o", 3, 0))
	eventually(t, "grace is over", func() bool { return w.srv.Phase() == state.GraceOver })
	if w.fs.Completes() != 1 || q.Completes() != 1 {
		t.Errorf("RECLAIM_COMPLETE %d times at p, %d times at q", w.fs.Completes(), q.Completes())
	}
	lost := w.srv.Status().Grace.Lost
	if len(lost) != 3 {
		t.Errorf("lost: %+v", lost)
	}
	if seen := w.events(); seen["lost not reclaimed"] != 3 || seen["grace ended in part"] != 1 || seen["the origin takes no reclaims for /q"] != 1 {
		t.Errorf("events: %v", seen)
	}
}

// A client of NFSv4.0 waits with new opens where it may reclaim, and only there: RFC 7530 9.6.2. It is not waited for
// when it has nothing more to reclaim.
func TestV40NoGraceFromOneOrigin(t *testing.T) {
	w, q := twoOrigins(t)
	maker := w.client("maker")
	for _, dir := range []string{"p", "q"} {
		fh, sid := maker.openIn(dir, "o", "f")
		maker.ok(put(fh), &nfs4.CloseArgs{OpenStateid: sid})
	}
	c := w.peer40("carol")
	open := func(dir, owner string) []nfs4.Args {
		return with(at(dir), c.openArgs(owner, "f", 3, 0), &nfs4.GetfhArgs{})
	}
	fh := map[string]nfs4.FH{}
	for _, dir := range []string{"p", "q"} {
		list := c.ok40(open(dir, "o"+dir)...)
		sid := list[2].(*nfs4.OpenRes).Stateid
		fh[dir] = last[*nfs4.GetfhRes](list).FH
		c.seq++
		c.ok40(put(fh[dir]), &nfs4.OpenConfirmArgs{OpenStateid: sid, Seqid: c.seq})
	}
	q.Restart()
	w.reboot(takesNone)
	c.connect()
	c.setclientid()
	reclaim := func(dir string) []nfs4.Args {
		a := reclaimOpen("o"+dir, 3, 0)
		c.seq++
		a.Seqid, a.Owner.ClientID = c.seq, c.id
		return []nfs4.Args{put(fh[dir]), a}
	}
	c.fails40(nfs4.NFS4ERR_GRACE, open("p", "new")[:3]...)
	c.fails40(nfs4.NFS4ERR_NO_GRACE, reclaim("p")...)
	eventually(t, "grace is over at p", func() bool { return w.srv.State().PhaseAt(fs.Handle(fh["p"])) == state.GraceOver })
	c.ok40(open("p", "new2")...)
	c.fails40(nfs4.NFS4ERR_GRACE, open("q", "new3")[:3]...)
	c.ok40(reclaim("q")...)
	eventually(t, "grace is over", func() bool { return w.srv.Phase() == state.GraceOver })
	c.ok40(open("q", "new4")...)
	if lost := w.srv.Status().Grace.Lost; len(lost) != 1 || !strings.HasSuffix(string(lost[0].File), string(backendHandle(t, fh["p"]))) {
		t.Errorf("lost: %+v", lost)
	}
}

// A reload in the middle of grace: an export that is new has the grace of its origin.
func TestReloadWhileGraceIsOverForOneOrigin(t *testing.T) {
	w, q := twoOrigins(t)
	a := w.client("alice")
	pfh, _ := a.openIn("p", "o", "f")
	p2fh, _ := a.openIn("p2", "o2", "f")
	qfh, _ := a.openIn("q", "o", "f")
	q.Restart()
	var asked atomic.Int32
	w.reboot(func(ctx context.Context, op string) error {
		err := takesNone(ctx, op)
		if err != nil {
			asked.Add(1)
		}
		return err
	})
	exports := w.srv.cfg.Exports
	without := slices.DeleteFunc(slices.Clone(exports), func(x Export) bool { return x.Path == "/p2" })
	if err := w.srv.ReloadExports(t.Context(), without); err != nil {
		t.Fatal(err)
	}
	a.back()
	a.fails(nfs4.NFS4ERR_NO_GRACE, put(pfh), reclaimOpen("o", 3, 0))
	eventually(t, "grace is over at p", func() bool { return w.srv.State().PhaseAt(fs.Handle(pfh)) == state.GraceOver })
	if err := w.srv.ReloadExports(t.Context(), exports); err != nil {
		t.Fatal(err)
	}
	a.fails(nfs4.NFS4ERR_NO_GRACE, put(p2fh), reclaimOpen("o2", 3, 0))
	if n := asked.Load(); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
	a.ok(put(qfh), reclaimOpen("o", 3, 0))
}
