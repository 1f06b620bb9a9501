package nlm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/fs/fstest/memfs"
	"holdfast/internal/nlm"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

func TestLockAndUnlock(t *testing.T) {
	for _, vers := range []uint32{nlm.V1, nlm.V3, nlm.V4} {
		w := newWorld(t)
		a, b := w.peer("alice"), w.peer("bob")
		a.vers, b.vers = vers, vers
		f := w.file("f")
		want(t, "a lock", a.lock(f, 1, 0, 10, how{}), nlm.Granted)
		want(t, "again", a.lock(f, 1, 0, 10, how{}), nlm.Granted)
		want(t, "by another host", b.lock(f, 1, 5, 1, how{}), nlm.Denied)
		want(t, "by another process", a.lock(f, 2, 5, 1, how{}), nlm.Denied)
		want(t, "of other bytes", b.lock(f, 1, 10, 0, how{}), nlm.Granted)
		r := b.test(f, 9, 0, 4)
		if r.Stat != nlm.Denied || !r.Exclusive || r.SVID != 1 || r.OH != "oh@alice" || r.Offset != 0 || r.Len != 10 {
			t.Errorf("TEST: %+v", r)
		}
		if r := a.test(f, 9, 20, 4); r.Stat != nlm.Denied || r.OH != "oh@bob" || r.Len != 0 {
			t.Errorf("TEST of a lock to the end: %+v", r)
		}
		want(t, "TEST by its holder", a.test(f, 1, 0, 4).Stat, nlm.Granted)
		want(t, "UNLOCK of a part", a.unlock(f, 1, 0, 4), nlm.Granted)
		want(t, "what is free", b.lock(f, 1, 0, 4, how{shared: true}), nlm.Granted)
		want(t, "what is not", b.lock(f, 1, 4, 1, how{shared: true}), nlm.Denied)
		want(t, "UNLOCK of the rest", a.unlock(f, 1, 0, 0), nlm.Granted)
		want(t, "UNLOCK of nothing", a.unlock(f, 1, 0, 0), nlm.Granted)
		want(t, "of all by the other", b.unlock(f, 1, 0, 0), nlm.Granted)
		if n := w.fs.Opens(); n != 0 {
			t.Errorf("%d opens stay", n)
		}
		if l := w.locks(); len(l) != 0 {
			t.Errorf("locks stay: %+v", l)
		}
		w.stop()
	}
}

func TestBadRequests(t *testing.T) {
	w := newWorld(t)
	a := w.peer("alice")
	f := w.file("f")
	want(t, "a range that wraps", a.lock(f, 1, 1<<63, 1<<63+1, how{}), nlm.FBig)
	want(t, "a forged handle", a.lock("forged", 1, 0, 1, how{}), nlm.StaleFH)
	want(t, "UNLOCK with it", a.unlock("forged", 1, 0, 1), nlm.StaleFH)
	a.vers = nlm.V1
	want(t, "in version 1", a.lock("forged", 1, 0, 1, how{}), nlm.DeniedNolock)
	a.vers = nlm.V4
	nobody := w.peer("")
	want(t, "no caller_name", nobody.lock(f, 1, 0, 1, how{}), nlm.DeniedNolock)
	want(t, "a reclaim of what was never held", a.lock(f, 1, 0, 1, how{reclaim: true}), nlm.Denied)
	if l := w.locks(); len(l) != 0 || w.fs.Opens() != 0 {
		t.Errorf("something stays: %+v", l)
	}
}

func TestBlockedLockIsGranted(t *testing.T) {
	w := newWorld(t)
	a, b := w.peer("alice"), w.peer("bob")
	f := w.file("f")
	want(t, "a lock", a.lock(f, 1, 0, 10, how{}), nlm.Granted)
	want(t, "one that waits", b.lock(f, 7, 3, 4, how{block: true}), nlm.Blocked)
	want(t, "it asks again", b.lock(f, 7, 3, 4, how{block: true}), nlm.Blocked)
	w.quietNow()
	want(t, "UNLOCK", a.unlock(f, 1, 0, 10), nlm.Granted)
	c := w.hear()
	if c.proc != nlm.ProcGranted || c.granted.Lock != b.desc(f, 7, 3, 4) || !c.granted.Exclusive {
		t.Fatalf("bob hears %+v", c)
	}
	want(t, "it is his", a.lock(f, 1, 3, 1, how{}), nlm.Denied)
	want(t, "he asks again and has it", b.lock(f, 7, 3, 4, how{block: true}), nlm.Granted)
	want(t, "and gives it back", b.unlock(f, 7, 3, 4), nlm.Granted)
	until(t, "no open stays", func() bool { return w.fs.Opens() == 0 })
	w.quietNow()
}

// A client that waits for no such lock any more says so, and it is given back.
func TestGrantedThatNobodyWants(t *testing.T) {
	w := newWorld(t)
	a, b := w.peer("alice"), w.peer("bob")
	f := w.file("f")
	w.answer = func(*heardCall) (nlm.Stat, error) { return nlm.Denied, nil }
	a.lock(f, 1, 0, 10, how{})
	want(t, "waits", b.lock(f, 7, 0, 10, how{block: true}), nlm.Blocked)
	a.unlock(f, 1, 0, 10)
	w.hear()
	until(t, "nothing stays", func() bool { return w.fs.Opens() == 0 && len(w.locks()) == 0 })
}

// GRANTED without an answer: nobody knows whether the client has the lock, so it stays its own, and it is told again.
func TestGrantedWithoutAnAnswer(t *testing.T) {
	w := newWorld(t)
	a, b := w.peer("alice"), w.peer("bob")
	f := w.file("f")
	fail := true
	w.answer = func(*heardCall) (nlm.Stat, error) {
		if fail {
			fail = false
			return 0, errors.New("no answer")
		}
		return nlm.Granted, nil
	}
	a.lock(f, 1, 0, 10, how{})
	want(t, "waits", b.lock(f, 7, 0, 10, how{block: true}), nlm.Blocked)
	a.unlock(f, 1, 0, 10)
	w.hear()
	want(t, "it is bob's", a.lock(f, 1, 0, 1, how{}), nlm.Denied)
	until(t, "he is told again", func() bool {
		w.clock.Advance(grantFirst)
		select {
		case <-w.arrived:
			return true
		default:
			return false
		}
	})
	want(t, "it is still bob's", a.lock(f, 1, 0, 1, how{}), nlm.Denied)
}

func TestCancel(t *testing.T) {
	w := newWorld(t)
	a, b := w.peer("alice"), w.peer("bob")
	f := w.file("f")
	a.lock(f, 1, 0, 10, how{})
	want(t, "waits", b.lock(f, 7, 0, 10, how{block: true}), nlm.Blocked)
	var r nlm.Res
	b.call(nlm.Program, nlm.V4, nlm.ProcCancel, &nlm.CancelArgs{Block: true, Exclusive: true, Lock: b.desc(f, 7, 0, 10)}, &r)
	want(t, "CANCEL", r.Stat, nlm.Granted)
	b.call(nlm.Program, nlm.V4, nlm.ProcCancel, &nlm.CancelArgs{Block: true, Exclusive: true, Lock: b.desc(f, 7, 0, 10)}, &r)
	want(t, "again", r.Stat, nlm.Granted)
	until(t, "only alice's open stays", func() bool { return w.fs.Opens() == 1 })
	a.unlock(f, 1, 0, 10)
	want(t, "the lock is free", a.lock(f, 2, 0, 10, how{}), nlm.Granted)
	w.quietNow()
}

// Clients of the BSD kind send LOCK_MSG and wait for a call of LOCK_RES.
func TestMessages(t *testing.T) {
	w := newWorld(t)
	a := w.peer("alice")
	f := w.file("f")
	a.call(nlm.Program, nlm.V4, nlm.ProcLockMsg, &nlm.LockArgs{Cookie: "one", Exclusive: true, Lock: a.desc(f, 1, 0, 1)}, nil)
	if c := w.hear(); c.proc != nlm.ProcLockRes || c.res != (nlm.Res{Cookie: "one", Stat: nlm.Granted}) {
		t.Errorf("%+v", c)
	}
	a.call(nlm.Program, nlm.V4, nlm.ProcUnlockMsg, &nlm.UnlockArgs{Cookie: "two", Lock: a.desc(f, 1, 0, 1)}, nil)
	if c := w.hear(); c.proc != nlm.ProcUnlockRes || c.res != (nlm.Res{Cookie: "two", Stat: nlm.Granted}) {
		t.Errorf("%+v", c)
	}
}

// Windows opens with SHARE.
func TestShare(t *testing.T) {
	w := newWorld(t)
	a, b := w.peer("alice"), w.peer("bob")
	f := w.file("f")
	want(t, "read, deny write", a.share(f, "1", 2, 1, true, false), nlm.Granted)
	want(t, "read too", b.share(f, "1", 0, 1, true, false), nlm.Granted)
	want(t, "write", b.share(f, "2", 0, 2, true, false), nlm.Denied)
	want(t, "a write lock needs an open that is denied", b.lock(f, 1, 0, 1, how{}), nlm.Denied)
	want(t, "a read lock", b.lock(f, 1, 0, 1, how{shared: true}), nlm.Granted)
	want(t, "UNSHARE", a.share(f, "1", 2, 1, false, false), nlm.Granted)
	want(t, "write now", b.share(f, "2", 0, 2, true, false), nlm.Granted)
	want(t, "nothing", a.share(f, "3", 0, 0, true, false), nlm.Granted)
	b.share(f, "1", 0, 1, false, false)
	b.share(f, "2", 0, 2, false, false)
	b.unlock(f, 1, 0, 0)
	if n := w.fs.Opens(); n != 0 {
		t.Errorf("%d opens stay", n)
	}
}

func (p *peer) notify(name string, st int32) {
	p.call(nlm.NSMProgram, nlm.NSMVersion, nlm.SMNotify, &nlm.Notify{Name: name, State: st}, nil)
}

func TestClientReboots(t *testing.T) {
	w := newWorld(t)
	a, b := w.peer("alice.example"), w.peer("bob")
	f, g := w.file("f"), w.file("g")
	want(t, "lock", a.lock(f, 1, 0, 10, how{}), nlm.Granted)
	want(t, "share", a.share(g, "1", 3, 3, true, false), nlm.Granted)
	want(t, "bob waits", b.lock(f, 1, 0, 1, how{block: true}), nlm.Blocked)
	b.notify("carol", 5)
	b.notify("alice.example", a.state) // the state that she has her locks in
	want(t, "they stay", b.lock(f, 2, 0, 1, how{}), nlm.Denied)
	b.notify("alice", 5)
	if c := w.hear(); c.proc != nlm.ProcGranted {
		t.Errorf("bob hears %+v", c)
	}
	want(t, "the share is gone", b.share(g, "1", 3, 3, true, false), nlm.Granted)
	a.state = 5
	want(t, "alice again", a.lock(f, 1, 5, 1, how{}), nlm.Granted)
	b.notify("alice", 5) // it was told again
	want(t, "her new lock stays", b.lock(f, 2, 5, 1, how{}), nlm.Denied)
	a.call(nlm.Program, nlm.V4, nlm.ProcFreeAll, &nlm.Notify{Name: "alice.example"}, nil)
	want(t, "until FREE_ALL", b.lock(f, 2, 5, 1, how{}), nlm.Granted)
}

// Two machines that call themselves alike are two only by their addresses, which they have; here they are one. What must
// not be is that a name alone gets at the state of another address.
func TestNameOfAnotherAddress(t *testing.T) {
	k := hostKey{name: "localhost"}
	for _, c := range []struct {
		a, b string
		same bool
	}{{"alice", "ALICE", true}, {"alice", "alice.example", true}, {"alice.a", "alice.b", false}, {"alice", "bob", false}, {"alice.a", "alice.a", true}} {
		if sameName(c.a, c.b) != c.same {
			t.Errorf("%q and %q: %v", c.a, c.b, !c.same)
		}
	}
	if _, ok := parseHostKey(k.String()); ok {
		t.Error("a key without an address is understood")
	}
}

// The server dies and comes back: those with locks are told, they reclaim, and no rival gets in between.
func TestServerReboots(t *testing.T) {
	w := newWorld(t)
	a, b := w.peer("alice"), w.peer("bob")
	f := w.file("f")
	want(t, "lock", a.lock(f, 1, 0, 10, how{}), nlm.Granted)
	want(t, "shared", a.lock(f, 1, 20, 10, how{shared: true}), nlm.Granted)
	want(t, "share", a.share(f, "s", 0, 1, true, false), nlm.Granted)
	want(t, "bob has nothing left", b.lock(f, 1, 100, 1, how{}), nlm.Granted)
	b.unlock(f, 1, 100, 1)

	w.reboot()
	if c := w.hear(); c.prog != nlm.NSMProgram || c.notify.Name != "server" || c.notify.State&1 != 1 || c.notify.State < 3 {
		t.Errorf("alice hears %+v", c)
	}
	a, b = w.peer("alice"), w.peer("bob")
	want(t, "a rival", b.lock(f, 1, 0, 1, how{}), nlm.DeniedGrace)
	want(t, "a rival that tells lies", b.lock(f, 1, 0, 1, how{reclaim: true}), nlm.Denied)
	want(t, "more than was held", a.lock(f, 1, 0, 11, how{reclaim: true}), nlm.Denied)
	want(t, "UNLOCK before the reclaim", a.unlock(f, 1, 0, 1), nlm.DeniedGrace)
	want(t, "reclaim", a.lock(f, 1, 0, 10, how{reclaim: true}), nlm.Granted)
	want(t, "of the shared one", a.lock(f, 1, 20, 10, how{reclaim: true, shared: true}), nlm.Granted)
	if w.down.Phase() != state.GraceActive {
		t.Error("grace is over before all is reclaimed")
	}
	want(t, "of the share", a.share(f, "s", 0, 1, true, true), nlm.Granted)
	until(t, "grace is over, as all is reclaimed", func() bool { return w.down.Phase() == state.GraceOver })
	want(t, "the rival", b.lock(f, 1, 0, 1, how{}), nlm.Denied)
	owner := fs.Owner{Client: a.owner(), Owner: lockOwner(ownerOf(1, "oh@alice"))}
	if got := w.fs.Held(owner, fs.Handle(f[5:])); len(got) != 2 {
		t.Errorf("the file system has %v", got)
	}
	want(t, "UNLOCK", a.unlock(f, 1, 0, 0), nlm.Granted)
	want(t, "the rival now", b.lock(f, 1, 0, 1, how{}), nlm.Granted)
	w.quietNow() // bob had nothing, so nobody told him
}

// Of two origins one takes no reclaims: what is there is free at once, what is at the other one is as in any grace.
func TestNoGraceFromOneOrigin(t *testing.T) {
	w := newWorld(t)
	w.stop()
	q := memfs.New()
	q.Now = w.clock.Now
	w.more = []nfsdown.Export{{Path: "/q", Backend: q, Clients: everybody}}
	w.boot()
	a := w.peer("alice")
	f, g := w.file("f"), w.fileIn("/q", q, "g")
	want(t, "lock", a.lock(f, 1, 0, 10, how{}), nlm.Granted)
	want(t, "lock at q", a.lock(g, 1, 0, 10, how{}), nlm.Granted)
	w.fs.Hook = func(_ context.Context, op string) error {
		if op == "Reclaim" {
			return fs.E("OPEN", fs.NoGrace, nil)
		}
		return nil
	}
	q.Restart()
	w.reboot()
	w.hear()
	a, b := w.peer("alice"), w.peer("bob")
	want(t, "a rival", b.lock(f, 1, 0, 1, how{}), nlm.DeniedGrace)
	want(t, "reclaim", a.lock(f, 1, 0, 10, how{reclaim: true}), nlm.Denied)
	until(t, "grace is over at one origin", func() bool { return w.down.State().PhaseAt(fs.Handle(f)) == state.GraceOver })
	want(t, "the rival", b.lock(f, 1, 0, 1, how{}), nlm.Granted)
	want(t, "reclaim once more", a.lock(f, 1, 0, 10, how{reclaim: true}), nlm.Denied)
	want(t, "UNLOCK of what was lost", a.unlock(f, 1, 0, 10), nlm.Granted)
	want(t, "a new lock", a.lock(f, 1, 20, 1, how{}), nlm.Granted)
	want(t, "UNLOCK of it", a.unlock(f, 1, 20, 1), nlm.Granted)
	if n := w.fs.Opens(); n != 1 {
		t.Errorf("there are %d opens, not bob's alone", n)
	}
	want(t, "a rival at q", b.lock(g, 1, 0, 1, how{}), nlm.DeniedGrace)
	want(t, "UNLOCK at q before the reclaim", a.unlock(g, 1, 0, 1), nlm.DeniedGrace)
	want(t, "reclaim at q", a.lock(g, 1, 0, 10, how{reclaim: true}), nlm.Granted)
	until(t, "grace is over, as all is reclaimed", func() bool { return w.down.Phase() == state.GraceOver })
	want(t, "the rival at q", b.lock(g, 1, 0, 1, how{}), nlm.Denied)
}

// --restart=auto: who has locks must hear of the restart, since only a reclaim lets us find them again. Without any
// nobody sees it.
func TestInvisibleRestart(t *testing.T) {
	w := newWorld(t)
	w.restore = true
	a := w.peer("alice")
	f := w.file("f")
	want(t, "lock", a.lock(f, 1, 0, 10, how{}), nlm.Granted)
	w.reboot()
	if r := w.down.Restart(); r.Invisible || !strings.Contains(r.Reason, "NFSv3") || w.down.Phase() != state.GraceActive {
		t.Fatalf("%+v, phase %v", r, w.down.Phase())
	}
	if c := w.hear(); c.prog != nlm.NSMProgram {
		t.Errorf("alice hears %+v", c)
	}
	a = w.peer("alice")
	b := w.peer("bob")
	want(t, "a rival", b.lock(f, 1, 0, 1, how{}), nlm.DeniedGrace)
	want(t, "reclaim", a.lock(f, 1, 0, 10, how{reclaim: true}), nlm.Granted)
	until(t, "grace is over, as all is reclaimed", func() bool { return w.down.Phase() == state.GraceOver })
	want(t, "the rival", b.lock(f, 1, 0, 1, how{}), nlm.Denied)
	want(t, "UNLOCK", a.unlock(f, 1, 0, 10), nlm.Granted)
	w.reboot()
	until(t, "it is done", func() bool { return w.down.Restart().Done })
	if r := w.down.Restart(); !r.Invisible || w.down.Phase() != state.GraceNone {
		t.Errorf("%+v, phase %v", r, w.down.Phase())
	}
	want(t, "nobody has it", w.peer("bob").lock(f, 1, 0, 1, how{}), nlm.Granted)
	w.quietNow()
}

func (p *peer) owner() string {
	for k := range p.w.srv.hosts {
		if k.name == p.name {
			return k.owner()
		}
	}
	return ""
}

// A client that does not reclaim loses its locks when grace ends, and is told again and again until it hears.
func TestServerRebootsAndTheClientIsAway(t *testing.T) {
	w := newWorld(t)
	a := w.peer("alice")
	f := w.file("f")
	want(t, "lock", a.lock(f, 1, 0, 10, how{}), nlm.Granted)
	tries := 0
	w.answer = func(*heardCall) (nlm.Stat, error) {
		if tries++; tries < 3 {
			return 0, errors.New("away")
		}
		return nlm.Granted, nil
	}
	w.reboot()
	for range 3 {
		until(t, "told once more", func() bool {
			select {
			case <-w.arrived:
				return true
			default:
				w.clock.Advance(notifyFirst)
				return false
			}
		})
	}
	b := w.peer("bob")
	until(t, "grace is over", func() bool { w.clock.Advance(10 * time.Second); return w.down.Phase() == state.GraceOver })
	want(t, "her lock is free", b.lock(f, 1, 0, 10, how{}), nlm.Granted)
	want(t, "and her reclaim comes too late", w.peer("alice").lock(f, 1, 0, 10, how{reclaim: true}), nlm.Denied)
	w.mu.Lock()
	w.calls = nil
	w.mu.Unlock()

	w.reboot() // alice has nothing: only bob is told
	if c := w.hear(); c.prog != nlm.NSMProgram {
		t.Errorf("%+v", c)
	}
	w.quietNow()
}

// A reboot of the client while we are down: what it says then counts.
func TestClientRebootsAfterOurs(t *testing.T) {
	w := newWorld(t)
	a := w.peer("alice")
	f := w.file("f")
	want(t, "lock", a.lock(f, 1, 0, 10, how{}), nlm.Granted)
	w.reboot()
	w.hear()
	b := w.peer("bob")
	b.notify("alice", 9)
	want(t, "what she had is free at once", b.lock(f, 1, 0, 10, how{}), nlm.Granted)
}
