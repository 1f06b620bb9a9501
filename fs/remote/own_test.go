package remote

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// ownRig is a mount with a data cache and a write delegation of the file f, which is empty at first.
type ownRig struct {
	*rig
	g  *giver
	x  *fakeFile
	io fs.IORef
}

func newOwnRig(t *testing.T, dir string) *ownRig {
	g := newGiver()
	g.info.RetainGranted = true
	g.monotonic = true
	o := &ownRig{g: g, x: g.file("f", nil)}
	o.mount(t, dir)
	return o
}

func (o *ownRig) mount(t *testing.T, dir string) {
	o.rig = newDataRigOf(t, o.g.fake, o.g, dir, nil)
	o.io = o.openTo(by("writer"), alice, "f")
}

func (o *ownRig) write(off, n int, seed byte) error {
	_, err := o.Write(o.t.Context(), alice, o.io, uint64(off), pattern(n, seed), fs.Unstable)
	return err
}

func (o *ownRig) commit() {
	_, err := o.Commit(o.t.Context(), alice, o.io.Handle, 0, 0)
	o.must(err)
	o.fetching.Wait()
}

// content is what the origin has.
func (o *ownRig) content() []byte {
	o.g.fake.mu.Lock()
	defer o.g.fake.mu.Unlock()
	return bytes.Clone(o.x.data)
}

// readers reads all of the file as the writer and as one who opens it now, and tells how many READs that took.
func (o *ownRig) readers() int {
	o.t.Helper()
	return o.nreads(func() {
		o.t.Helper()
		want := o.content()
		o.reads(alice, o.io, 0, len(want)+10, want)
		o.reads(alice, o.openTo(fs.Owner{Client: "c2", Owner: "r"}, alice, "f"), 0, len(want)+10, want)
	})
}

// What is written under a write delegation is read without asking, by all, and after a restart too.
func TestOwnWritesUnderAWriteDelegationAreCached(t *testing.T) {
	dir := t.TempDir()
	o := newOwnRig(t, dir)
	for i := range 5 {
		o.must(o.write(i*30_000, 30_000, byte(i)))
	}
	o.must(o.write(200_001, 777, 9)) // beyond a hole, which was never written
	if n := o.readers(); n != 1 {
		t.Errorf("%d READs, want the one for the hole", n)
	}
	mode := uint32(0o600)
	_, err := o.SetAttr(t.Context(), alice, o.io, &fs.SetAttr{Mode: &mode, MtimeSet: fs.TimeServer})
	o.must(err)
	if n := o.readers(); n != 0 {
		t.Errorf("%d READs after a change of attributes", n)
	}
	o.must(o.write(100, 10, 8))
	o.commit()
	// It counts too when the delegation is gone.
	o.g.recall(o.rig, o.x.fh)
	if n := o.readers(); n != 0 {
		t.Errorf("%d READs after the delegation went back", n)
	}
	o.Abandon()
	o.must(o.cfg.Store.Close())
	o.mount(t, dir)
	if n := o.readers(); n != 0 {
		t.Errorf("%d READs after a restart", n)
	}
	o.g.take(o.x.fh)
	o.cache.stale(o.io.Handle)
	o.g.behind(func() { o.x.data[5]++; o.x.change++ })
	if n := o.readers(); n == 0 {
		t.Error("a change of somebody else's was not seen")
	}
}

// Writes that overlap in time are one row, however long it goes on.
func TestLongRowsOfOwnWritesAreCached(t *testing.T) {
	o := newOwnRig(t, t.TempDir())
	const n = 2 * 8192
	fh, err := o.resolve(t.Context(), o.io.Handle)
	o.must(err)
	o.must(o.write(0, n, 1))
	first := o.beginTouch(o.io.Handle, fh) // ends last
	for i := range 400 {
		o.must(o.write((i^3)*n, n, byte(i)))
		o.must(o.write((i^3)*n, 100, byte(i+1))) // it is sent after the answer, so it comes second
	}
	o.endWrite(first, nil, o.cache.lastAttr(o.io.Handle), nil)
	if n := o.readers(); n != 0 {
		t.Errorf("%d READs", n)
	}
	// At one place at once, nobody knows which came first.
	stop := o.hold()
	var wg sync.WaitGroup
	for k := range 2 {
		wg.Go(func() {
			if err := o.write(100, 5000, byte(90+k)); err != nil {
				t.Error(err)
			}
		})
	}
	o.waitRow(2)
	stop()
	wg.Wait()
	if n := o.readers(); n == 0 {
		t.Error("what two wrote at one place was kept")
	}
}

// hold stops the origin.
func (o *ownRig) hold() (stop func()) {
	block := make(chan struct{})
	o.g.behind(func() { o.g.block = block })
	return func() {
		o.g.behind(func() { o.g.block = nil })
		close(block)
	}
}

// waitRow waits until n own changes are under way.
func (o *ownRig) waitRow(n int) {
	o.t.Helper()
	for begun := 0; begun != n; {
		if err := o.t.Context().Err(); err != nil {
			o.t.Fatal(err)
		}
		if f := o.data.find(o.io.Handle); f != nil {
			f.mu.Lock()
			begun = f.own.running
			f.mu.Unlock()
		}
		time.Sleep(10 * time.Microsecond)
	}
}

// Nothing is kept that somebody else's write, or one of ours that nobody knows of, may have made old (I6).
func TestOwnWritesThatMayNotBeAlone(t *testing.T) {
	// during does something at the origin right before the n-th operation of a kind.
	during := func(o *ownRig, op nfs4.OpNum, n int, do func()) {
		o.g.behind(func() {
			o.g.fail = func(got nfs4.OpNum) nfs4.Status {
				if got == op {
					if n--; n == 0 {
						do()
					}
				}
				return nfs4.NFS4_OK
			}
		})
	}
	other := func(o *ownRig) func() {
		return func() {
			o.x.data = bytes.Clone(o.x.data)
			o.x.data[9_000] ^= 0xff
			o.x.change++
		}
	}
	for _, c := range []struct {
		name string
		do   func(o *ownRig) error
	}{
		{"the delegation was taken away and another granted, between WRITE and the GETATTR after it", func(o *ownRig) error {
			during(o, nfs4.OP_GETATTR, 2, func() {
				other(o)()
				o.g.mu.Lock()
				defer o.g.mu.Unlock()
				o.g.serial[o.x.fh]++
			})
			return o.write(0, 5000, 2)
		}},
		{"it was taken away", func(o *ownRig) error {
			during(o, nfs4.OP_WRITE, 1, func() { other(o)(); o.g.take(o.x.fh) })
			return o.write(0, 5000, 2)
		}},
		{"the lease was in doubt", func(o *ownRig) error {
			during(o, nfs4.OP_WRITE, 1, func() {
				other(o)()
				o.g.mu.Lock()
				defer o.g.mu.Unlock()
				o.g.invalid = true
			})
			return o.write(0, 5000, 2)
		}},
		{"it came back, and nobody has looked since", func(o *ownRig) error {
			o.g.behind(other(o))
			o.g.mu.Lock()
			o.g.serial[o.x.fh]++
			o.g.mu.Unlock()
			return o.write(0, 5000, 2)
		}},
		{"what is known of the file is in doubt", func(o *ownRig) error {
			o.g.behind(other(o))
			o.cache.stale(o.io.Handle)
			f := o.data.find(o.io.Handle)
			f.mu.Lock()
			f.kept = ownVersion{}
			f.mu.Unlock()
			return o.write(0, 5000, 2)
		}},
		{"one of ours cuts the file meanwhile", func(o *ownRig) error {
			size := uint64(0)
			during(o, nfs4.OP_WRITE, 1, func() {
				o.g.fake.mu.Unlock()
				defer o.g.fake.mu.Lock()
				o.g.behind(func() { o.g.fail = nil })
				h, _ := o.Root(context.Background())
				_, err := o.Open(context.Background(), alice, &fs.OpenRequest{Owner: by("cutter"), Access: fs.ShareBoth, Dir: h, Name: "f", Create: fs.Unchecked, Attr: fs.SetAttr{Size: &size}})
				o.must(err)
				o.g.behind(func() { o.x.data = nil; o.x.change++ }) // as it does at a real one
			})
			return o.write(10_000, 5000, 2)
		}},
		{"a write was given up on its way", func(o *ownRig) error {
			ctx, cancel := context.WithCancel(o.t.Context())
			cancel()
			stop := o.hold()
			_, err := o.Write(ctx, alice, o.io, 0, pattern(100, 7), fs.Unstable)
			stop()
			if err == nil {
				return errors.New("it was not given up")
			}
			o.readers()
			during(o, nfs4.OP_WRITE, 1, func() { // there it is
				copy(o.x.data, pattern(100, 7))
				o.x.change++
			})
			return o.write(10_000, 100, 2)
		}},
		{"the origin has lost what was written before", func(o *ownRig) error {
			o.must(o.write(0, 5000, 2))
			o.g.behind(func() { copy(o.x.data, pattern(30_000, 1)); o.g.verf[0]++ })
			return o.write(10_000, 5000, 2)
		}},
		{"the origin has lost what was written before COMMIT", func(o *ownRig) error {
			o.must(o.write(0, 5000, 2))
			o.g.behind(func() { copy(o.x.data, pattern(30_000, 1)); o.g.verf[0]++ })
			o.commit()
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOwnRig(t, t.TempDir())
			o.must(o.write(0, 30_000, 1))
			o.commit()
			o.must(c.do(o))
			o.g.behind(func() { o.g.fail = nil })
			o.g.mu.Lock()
			o.g.invalid = false
			o.g.mu.Unlock()
			o.g.take(o.x.fh)
			o.cache.stale(o.io.Handle)
			o.readers() // compares
		})
	}
}

// Only an origin that says that the change attribute grows with each change can be relied on for that.
func TestOwnWritesAreNotCachedWhereChangesMayLookAlike(t *testing.T) {
	o := newOwnRig(t, t.TempDir())
	o.g.changeType = nfs4.NFS4_CHANGE_TYPE_IS_TIME_METADATA
	o.caps.forget()
	o.must(o.write(0, 30_000, 1))
	o.g.take(o.x.fh)
	o.cache.stale(o.io.Handle)
	o.g.behind(func() { o.x.data = pattern(30_000, 2) }) // within the same tick
	o.readers()
}

// What is on the way to the disk of the origin is not kept over a restart of ours: a COMMIT of a part, or a stable write
// of another part, says nothing about it.
func TestOwnWritesOutliveUsOnlyWhenAllAreOnDisk(t *testing.T) {
	for name, settle := range map[string]func(*ownRig){
		"a part": func(o *ownRig) {
			_, err := o.Commit(o.t.Context(), alice, o.io.Handle, 0, 4096)
			o.must(err)
		},
		"a stable write": func(o *ownRig) {
			_, err := o.Write(o.t.Context(), alice, o.io, 0, pattern(4096, 3), fs.FileSync)
			o.must(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := newOwnRig(t, dir)
			o.must(o.write(0, 30_000, 1))
			settle(o)
			o.fetching.Wait()
			o.Abandon()
			o.must(o.cfg.Store.Close())
			// The origin crashes too, and another write leads to the same change attribute.
			o.g.behind(func() { o.x.data = pattern(30_000, 4) })
			o.mount(t, dir)
			if n := o.readers(); n == 0 {
				t.Error("it was kept")
			}
		})
	}
}

// An origin that cannot tell yet whether a change follows within a tick says another change attribute at each look.
func TestOwnWritesGoAlongWithAChangeAttributeThatMovesByItself(t *testing.T) {
	o := newOwnRig(t, t.TempDir())
	o.must(o.write(0, 30_000, 1))
	for i := range 3 {
		o.g.behind(func() { o.x.change++ })
		if n := o.readers(); n != 0 {
			t.Errorf("%d READs after look %d", n, i)
		}
	}
	o.commit()
	o.g.take(o.x.fh)
	o.cache.stale(o.io.Handle)
	o.g.behind(func() { o.x.change++; o.x.data = pattern(30_000, 3) })
	if n := o.readers(); n == 0 {
		t.Error("somebody else's write was not seen")
	}
}
