package fstest

import (
	"errors"
	"math"
	"math/rand/v2"

	"holdfast/fs"
)

// locker is an owner with the file open.
type locker struct {
	e          *env
	file       fs.Handle
	open, lock fs.Owner
}

func (e *env) locker(name string, dir fs.Handle, file string) *locker {
	e.Helper()
	l := &locker{e: e, open: owner("open " + name), lock: owner("lock " + name)}
	l.file = e.open(l.open, dir, file, fs.ShareBoth, 0)
	return l
}

func (l *locker) try(r fs.Range, t fs.LockType) error {
	return l.e.b.Lock(l.e.Context(), l.e.cred, &fs.LockRequest{File: l.file, OpenOwner: l.open, LockOwner: l.lock, Range: r, Type: t})
}

func (l *locker) takes(r fs.Range, t fs.LockType) {
	l.e.Helper()
	l.e.must("lock", l.try(r, t))
}

func (l *locker) unlock(r fs.Range) {
	l.e.Helper()
	l.e.must("unlock", l.e.b.Unlock(l.e.Context(), l.e.cred, l.lock, l.file, r))
}

func (l *locker) test(r fs.Range, t fs.LockType) error {
	return l.e.b.TestLock(l.e.Context(), l.e.cred, l.lock, l.file, r, t)
}

// denied wants a conflict with a lock of that owner.
func (l *locker) denied(what string, err error, by fs.Owner) {
	l.e.Helper()
	var d *fs.DeniedError
	if !errors.As(err, &d) || !errors.Is(err, fs.Denied) {
		l.e.Errorf("%s: got %v, want a DeniedError", what, err)
		return
	}
	if d.Owner != by && !d.Owner.IsZero() { // an upstream holder may be unknown
		l.e.Errorf("%s: held by %v, want %v", what, d.Owner, by)
	}
}

var all = fs.Range{First: 0, Last: math.MaxUint64}

func locks(e *env) {
	ctx := e.Context()
	a, b := e.locker("a", e.root, "f"), e.locker("b", e.root, "f")
	r := func(first, last uint64) fs.Range { return fs.Range{First: first, Last: last} }
	e.in("exclusive excludes, shared shares", func(e *env) {
		a.takes(r(0, 9), fs.WriteLock)
		b.denied("write over write", b.try(r(5, 20), fs.WriteLock), a.lock)
		b.denied("read over write", b.try(r(9, 9), fs.ReadLock), a.lock)
		b.denied("test", b.test(r(0, 0), fs.ReadLock), a.lock)
		e.must("test beside it", b.test(r(10, 20), fs.WriteLock))
		e.must("test of one's own", a.test(all, fs.WriteLock))
		b.takes(r(10, 20), fs.WriteLock)
		b.unlock(all)
		a.takes(r(0, 9), fs.ReadLock) // downgrade
		b.takes(r(0, 9), fs.ReadLock)
		a.denied("upgrade under a reader", a.try(r(0, 0), fs.WriteLock), b.lock)
		b.unlock(r(0, 4))
		a.takes(r(0, 4), fs.WriteLock)
		b.denied("the upgraded part", b.try(r(4, 4), fs.ReadLock), a.lock)
		a.unlock(all)
		b.unlock(all)
	})
	e.in("POSIX splits", func(e *env) {
		a.takes(r(0, 99), fs.WriteLock)
		a.unlock(r(40, 59))
		b.takes(r(40, 59), fs.WriteLock)
		b.denied("left", b.try(r(39, 39), fs.WriteLock), a.lock)
		b.denied("right", b.try(r(60, 60), fs.WriteLock), a.lock)
		a.unlock(all)
		b.unlock(all)
	})
	e.in("the ends of the range", func(e *env) {
		a.takes(r(math.MaxUint64, math.MaxUint64), fs.WriteLock)
		b.denied("the last byte", b.try(all, fs.ReadLock), a.lock)
		most := r(0, math.MaxUint64-1)
		if err := b.try(most, fs.WriteLock); errors.Is(err, fs.BadRange) {
			most.First = 1 // on the wire the length of that range means "to the end", RFC 8881 18.10.3
			b.takes(most, fs.WriteLock)
		} else {
			e.must("lock", err)
		}
		a.denied("all but the last", a.try(r(1<<63, 1<<63), fs.ReadLock), b.lock)
		a.unlock(all)
		b.unlock(all)
		b.takes(r(1<<62, math.MaxUint64), fs.WriteLock)
		a.denied("to the end", a.try(r(math.MaxInt64-1, math.MaxInt64-1), fs.ReadLock), b.lock)
		b.unlock(all)
	})
	e.in("unlocking what is not held is no error", func(e *env) { a.unlock(r(5, 6)) })
	e.in("close drops the locks under the open", func(e *env) {
		c := e.locker("c", e.root, "f")
		c.takes(r(0, 9), fs.WriteLock)
		a.denied("before", a.try(r(0, 0), fs.ReadLock), c.lock)
		e.closeFile(c.open, c.file)
		a.takes(r(0, 0), fs.ReadLock)
		a.unlock(all)
	})
	e.in("a lock needs its open", func(e *env) {
		d := *a
		d.open, d.lock = owner("nobody's open"), owner("d")
		e.fails("lock", d.try(all, fs.ReadLock), fs.BadStateid)
		ro := owner("reader")
		_, err := e.b.Open(ctx, e.cred, &fs.OpenRequest{Owner: ro, Access: fs.ShareRead, File: a.file})
		e.must("open", err)
		d.open = ro
		e.fails("write lock under an open for reading", d.try(all, fs.WriteLock), fs.OpenMode)
		d.takes(all, fs.ReadLock)
		// The open grows, and so may the lock.
		_, err = e.b.Open(ctx, e.cred, &fs.OpenRequest{Owner: ro, Access: fs.ShareWrite, File: a.file})
		e.must("upgrade", err)
		d.takes(r(0, 9), fs.WriteLock)
		a.denied("the upgraded", a.try(r(0, 0), fs.ReadLock), d.lock)
		a.denied("what was read", a.try(r(100, 100), fs.WriteLock), d.lock)
		e.fails("free of a holder", e.b.ReleaseLockOwner(ctx, d.lock, d.file), fs.LocksHeld)
		d.unlock(all)
		e.must("free", e.b.ReleaseLockOwner(ctx, d.lock, d.file))
		e.closeFile(ro, a.file)
	})
	e.in("random locks agree with a model", func(e *env) { randomLocks(e, []*locker{a, b, e.locker("m", e.root, "f")}) })
	e.closeFile(a.open, a.file)
	e.closeFile(b.open, b.file)
}

// randomLocks plays requests of several owners against sets of ranges (invariant I1).
func randomLocks(e *env, ls []*locker) {
	rng := rand.New(rand.NewPCG(3, 4))
	sets := make([]fs.RangeSet, len(ls))
	for step := range 400 {
		i := rng.IntN(len(ls))
		first := uint64(rng.IntN(30))
		r := fs.Range{First: first, Last: first + uint64(rng.IntN(12))}
		t := fs.LockType(rng.IntN(3))
		if t == fs.NoLock {
			ls[i].unlock(r)
			sets[i] = sets[i].With(r, t)
			continue
		}
		conflict := false
		for j := range sets {
			if _, hit := sets[j].Conflict(r, t); hit && j != i {
				conflict = true
			}
		}
		if err := ls[i].test(r, t); (err != nil) != conflict {
			e.Fatalf("step %d: test %v %v: %v, conflict %v", step, t, r, err, conflict)
		}
		err := ls[i].try(r, t)
		if (err != nil) != conflict || (err != nil && !errors.Is(err, fs.Denied)) {
			e.Fatalf("step %d: lock %v %v: %v, conflict %v", step, t, r, err, conflict)
		}
		if err == nil {
			sets[i] = sets[i].With(r, t)
		}
	}
	for _, l := range ls {
		l.unlock(all)
	}
}

func waits(e *env) {
	ctx := e.Context()
	l := newListener()
	e.b.Subscribe(l)
	a, b, c := e.locker("a", e.root, "f"), e.locker("b", e.root, "f"), e.locker("c", e.root, "f")
	wait := func(l *locker, r fs.Range) error {
		return e.b.Lock(ctx, e.cred, &fs.LockRequest{File: l.file, OpenOwner: l.open, LockOwner: l.lock, Range: r, Type: fs.WriteLock, Wait: true})
	}
	r := fs.Range{First: 0, Last: 9}
	a.takes(r, fs.WriteLock)
	a.takes(fs.Range{First: 100, Last: 100}, fs.WriteLock)
	c.denied("wait", wait(c, fs.Range{First: 100, Last: 100}), a.lock)
	b.denied("wait", wait(b, r), a.lock)
	a.unlock(r) // which is nothing to c
	e.hears(l, b.lock)
	e.must("the announced lock", wait(b, r))
	b.unlock(r)
	// Closing wakes as unlocking does.
	a.takes(r, fs.WriteLock)
	b.denied("wait", wait(b, r), a.lock)
	e.closeFile(a.open, a.file)
	e.hears(l, c.lock, b.lock)
	// A cancelled wait is not announced.
	b.takes(r, fs.WriteLock)
	c.denied("wait", wait(c, r), b.lock)
	e.b.CancelWait(c.lock, c.file, r)
	b.unlock(r)
	if e.o.KeepsCancelled {
		return
	}
	d := e.locker("d", e.root, "f")
	b.takes(r, fs.WriteLock)
	d.denied("wait", wait(d, r), b.lock)
	b.unlock(r)
	e.hears(l, d.lock)
}

func reclaims(e *env) {
	ctx := e.Context()
	h := e.file(e.root, "f", "x")
	o, lock := owner("o"), owner("l")
	_, err := e.b.Open(ctx, e.cred, &fs.OpenRequest{Owner: o, Access: fs.ShareRead, Dir: e.root, Name: "f", Reclaim: true})
	e.fails("reclaim by name", err, fs.Inval)
	_, err = e.b.Open(ctx, e.cred, &fs.OpenRequest{Owner: o, Access: fs.ShareBoth, File: h, Reclaim: true})
	if !e.o.GrantsReclaims {
		e.fails("reclaim of what was not held (I3)", err, fs.NoGrace, fs.ReclaimBad, fs.Grace)
		return
	}
	e.must("reclaim of an open", err)
	req := &fs.LockRequest{File: h, OpenOwner: o, LockOwner: lock, Range: all, Type: fs.WriteLock, Reclaim: true}
	e.must("reclaim of a lock", e.b.Lock(ctx, e.cred, req))
	a := e.locker("a", e.root, "f")
	a.denied("lock beside the reclaimed", a.try(all, fs.ReadLock), lock)
	other := *req
	other.OpenOwner, other.LockOwner = a.open, a.lock
	e.fails("reclaim of what another has", e.b.Lock(ctx, e.cred, &other), fs.ReclaimConflict)
	_, err = e.b.Open(ctx, e.cred, &fs.OpenRequest{Owner: owner("p"), Access: fs.ShareRead, Deny: fs.ShareBoth, File: h, Reclaim: true})
	e.fails("reclaim of a conflicting open", err, fs.ReclaimConflict)
	e.must("reclaim complete", e.b.ReclaimComplete(ctx))
	e.must("reclaim complete, again", e.b.ReclaimComplete(ctx))
}

func restart(e *env) {
	ctx := e.Context()
	dir := e.mkdir(e.root, "d")
	f := e.file(dir, "f", "kept")
	gone := e.file(dir, "gone", "")
	_, err := e.b.Remove(ctx, e.cred, dir, "gone", fs.RemoveFile)
	e.must("remove", err)
	x := &fs.OpenRequest{Owner: owner("x"), Access: fs.ShareBoth, Dir: dir, Name: "x", Create: fs.Exclusive, Verifier: [8]byte{0xff, 1, 2, 3, 0xf4, 5, 6, 7}}
	rx, err := e.b.Open(ctx, e.cred, x)
	e.must("exclusive", err)
	w, err := e.b.Write(ctx, e.cred, fs.IORef{Handle: f}, 0, []byte("K"), fs.Unstable)
	e.must("write", err)
	change, fsid := e.attr(f).Change, e.attr(f).FSID
	_, _, err = e.b.Rename(ctx, e.cred, dir, "f", e.root, "g")
	e.must("rename", err)

	e.b = e.o.Restart(e.T, e.b)

	if root, err := e.b.Root(ctx); err != nil || root != e.root {
		e.Errorf("root: %v, the same: %v", err, root == e.root)
	}
	if got := e.read(fs.IORef{Handle: f}); got != "Kept" {
		e.Errorf("read %q", got)
	}
	a := e.attr(f)
	if a.Change < change || a.FSID != fsid {
		e.Errorf("change %d, before the restart %d; fsid %v, before %v", a.Change, change, a.FSID, fsid)
	}
	_, err = e.b.GetAttr(ctx, e.cred, gone)
	e.fails("a removed file", err, fs.Stale)
	again, err := e.b.Open(ctx, e.cred, x)
	e.must("exclusive, retried after the restart", err)
	if again.File != rx.File {
		e.Error("another file")
	}
	v, err := e.b.Commit(ctx, e.cred, f, 0, 0)
	e.must("commit", err)
	if v == w.Verifier {
		e.Error("the write verifier did not change (I7)")
	}
	e.write(fs.IORef{Handle: f}, 0, "k")
	if b := e.attr(f); b.Change <= a.Change {
		e.Errorf("change %d after %d", b.Change, a.Change)
	}
	e.fails("the opens are gone", e.b.CloseFile(ctx, owner("maker of f"), f), fs.BadStateid)
}
