package remote

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/fs/remote/diskcache"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// newDataRig is a mount with a data cache in dir.
func newDataRig(t *testing.T, f *fake, dir string, change func(*Config)) *rig {
	t.Helper()
	return newDataRigOf(t, f, f, dir, change)
}

func newDataRigOf(t *testing.T, f *fake, up upstream, dir string, change func(*Config)) *rig {
	t.Helper()
	store, err := diskcache.Open(diskcache.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	r := newRigOf(t, f, up, func(c *Config) {
		c.Store = store
		if change != nil {
			change(c)
		}
	})
	t.Cleanup(func() {
		r.Abandon()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7+i/251) ^ seed
	}
	return b
}

// file makes a file at the origin, long ago.
func (f *fake) file(name string, data []byte) *fakeFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.add(f.root, name, nfs4.NF4REG)
	x.data = data
	return x
}

func (r *rig) openTo(o fs.Owner, cred *fs.Cred, name string) fs.IORef {
	r.t.Helper()
	h, _ := r.Root(context.Background())
	res, err := r.Open(context.Background(), cred, &fs.OpenRequest{Owner: o, Access: fs.ShareBoth, Dir: h, Name: name})
	r.must(err)
	return fs.IORef{Handle: res.File, Open: o}
}

// reads reads [off, off+n) and compares.
func (r *rig) reads(cred *fs.Cred, io fs.IORef, off, n int, want []byte) {
	r.t.Helper()
	buf := make([]byte, n)
	got := 0
	for got < n {
		k, eof, err := r.Read(context.Background(), cred, io, uint64(off+got), buf[got:])
		r.must(err)
		if got += k; eof || k == 0 {
			break
		}
	}
	if !bytes.Equal(buf[:got], want[min(off, len(want)):min(off+n, len(want))]) {
		r.t.Fatalf("wrong data at %d, %d bytes", off, got)
	}
	r.fetching.Wait()
}

func (f *fake) readCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[nfs4.OP_READ] + f.count[nfs4.OP_READ_PLUS]
}

// nreads is how many READs do made.
func (r *rig) nreads(do func()) int {
	before := r.f.readCount()
	do()
	r.fetching.Wait()
	return r.f.readCount() - before
}

func by(s string) fs.Owner { return fs.Owner{Client: "c", Owner: s} }

func TestASecondReadIsFromTheCacheAlsoAfterARestart(t *testing.T) {
	f, dir := newFake(), t.TempDir()
	data := pattern(200_000, 1)
	f.file("f", data)
	r := newDataRig(t, f, dir, nil)
	io := r.openTo(by("a"), alice, "f")
	r.reads(alice, io, 0, 300_000, data)
	if n := r.requests(func() { r.reads(alice, io, 100, 150_000, data) }); n != 0 {
		t.Errorf("a second read made %d requests", n)
	}
	r.Abandon()
	r.must(r.cfg.Store.Close())

	r = newDataRig(t, f, dir, nil)
	io = r.openTo(by("a"), alice, "f")
	if n := r.requests(func() { r.reads(alice, io, 0, 300_000, data) }); n != 0 {
		t.Errorf("after a restart, a read under a new open made %d requests", n)
	}
}

func TestAnOpenAfterAChangeReadsTheNewData(t *testing.T) {
	f := newFake()
	x := f.file("f", pattern(100_000, 1))
	r := newDataRig(t, f, t.TempDir(), nil)
	io := r.openTo(by("a"), alice, "f")
	r.reads(alice, io, 0, 100_000, x.data)
	f.behind(func() { x.data, x.change = pattern(90_000, 2), x.change+1 })
	io = r.openTo(by("b"), alice, "f")
	r.reads(alice, io, 0, 100_000, x.data)
	// And without an open within the time for which attributes are good.
	f.behind(func() { x.data, x.change = pattern(80_000, 3), x.change+1 })
	r.clock.Advance(2 * time.Minute)
	r.reads(alice, io, 0, 100_000, x.data)
	f.behind(func() { x.data, x.change = pattern(70_000, 4), x.change+1 })
	r.clock.Advance(2 * time.Minute)
	r.reads(alice, fs.IORef{Handle: io.Handle}, 0, 100_000, x.data)
}

func TestALockBringsTheNewData(t *testing.T) {
	f := newFake()
	x := f.file("f", pattern(100_000, 1))
	r := newDataRig(t, f, t.TempDir(), nil)
	io := r.openTo(by("a"), alice, "f")
	r.reads(alice, io, 0, 100_000, x.data)
	f.behind(func() { x.data, x.change = pattern(100_000, 2), x.change+1 })
	r.must(r.Lock(context.Background(), alice, &fs.LockRequest{File: io.Handle, OpenOwner: by("a"), LockOwner: by("l"), Range: fs.Range{First: 0, Last: 9}, Type: fs.ReadLock}))
	r.reads(alice, io, 0, 100_000, x.data)
}

func TestDataOfAVersionThatMayStillBeWrittenIsNotKept(t *testing.T) {
	f := newFake()
	x := f.file("f", pattern(50_000, 1))
	f.behind(func() { x.ctime = 2000 }) // the latest thing that happened at the origin
	r := newDataRig(t, f, t.TempDir(), nil)
	a := r.openTo(by("a"), alice, "f")
	r.reads(alice, a, 0, 50_000, x.data)
	if n := r.nreads(func() { r.reads(alice, a, 0, 50_000, x.data) }); n != 0 {
		t.Errorf("under the same open it was read again, by %d READs", n)
	}
	// The rest of the write that the change attribute told of before.
	f.behind(func() { x.data = pattern(50_000, 2) })
	b := r.openTo(by("b"), alice, "f")
	r.reads(alice, b, 0, 50_000, x.data)
	r.clock.Advance(2 * settleTime)
	c := r.openTo(by("c"), alice, "f")
	r.reads(alice, c, 0, 50_000, x.data)
	d := r.openTo(by("d"), alice, "f")
	if n := r.nreads(func() { r.reads(alice, d, 0, 50_000, x.data) }); n != 0 {
		t.Errorf("a settled version was read again, by %d READs", n)
	}
}

func TestAHitAsksNoLessThanTheOriginWould(t *testing.T) {
	f := newFake()
	x := f.file("f", pattern(50_000, 1))
	r := newDataRig(t, f, t.TempDir(), nil)
	io := r.openTo(by("a"), alice, "f")
	r.reads(alice, io, 0, 50_000, x.data)
	// Another user, under alice's open and without one. The decision is the origin's.
	for _, ref := range []fs.IORef{io, {Handle: io.Handle}} {
		if n := r.nreads(func() { r.reads(bob, ref, 0, 50_000, x.data) }); n != 0 {
			t.Errorf("bob, who may read, made %d READs", n)
		}
	}
	carol := &fs.Cred{UID: 1002, GID: 1002}
	f.behind(func() {
		f.deny = func(cred *rpc.Cred, _ *fakeFile, want uint32) uint32 {
			if cred.UID == carol.UID {
				return want
			}
			return 0
		}
	})
	for _, ref := range []fs.IORef{io, {Handle: io.Handle}} {
		if n := r.nreads(func() { r.reads(carol, ref, 0, 50_000, x.data) }); n == 0 {
			t.Error("carol, who may not read, was served from the cache")
		}
	}
	// An open that is closed is none.
	r.must(r.CloseFile(context.Background(), by("a"), io.Handle))
	buf := make([]byte, 10)
	_, _, err := r.Read(context.Background(), alice, io, 0, buf)
	r.wants(err, fs.BadStateid)
}

func TestOneFetchServesAll(t *testing.T) {
	f := newFake()
	data := pattern(1<<20, 3)
	f.file("f", data)
	r := newDataRig(t, f, t.TempDir(), nil)
	var refs []fs.IORef
	for i := range 50 {
		refs = append(refs, r.openTo(by(fmt.Sprint(i)), alice, "f"))
	}
	block := make(chan struct{})
	f.behind(func() { f.block = block })
	var wg sync.WaitGroup
	var begun sync.WaitGroup
	for _, io := range refs {
		begun.Add(1)
		wg.Go(func() {
			begun.Done()
			for off := 0; off < len(data); off += 64 << 10 {
				buf := make([]byte, 64<<10)
				if n, _, err := r.Read(context.Background(), alice, io, uint64(off), buf); err != nil || !bytes.Equal(buf[:n], data[off:off+n]) {
					t.Errorf("at %d: %d bytes, %v", off, n, err)
				}
			}
		})
	}
	begun.Wait()
	close(block)
	wg.Wait()
	r.fetching.Wait()
	if got := r.data.c.fetched.Load(); got != uint64(len(data)) {
		t.Errorf("%d bytes came from the origin for a file of %d", got, len(data))
	}
}

func TestSequentialReadsAreFetchedAheadAndRandomOnesAreNot(t *testing.T) {
	f := newFake()
	data := pattern(8<<20, 3)
	f.file("f", data)
	f.file("g", data)
	r := newDataRig(t, f, t.TempDir(), nil)
	io := r.openTo(by("a"), alice, "f")
	for off := 0; off < 2<<20; off += 64 << 10 {
		r.reads(alice, io, off, 64<<10, data)
	}
	if r.data.c.ahead.Load() < 1<<20 {
		t.Errorf("%d bytes were fetched ahead of a sequential reader", r.data.c.ahead.Load())
	}
	before := r.data.c.fetched.Load()
	io = r.openTo(by("b"), alice, "g")
	for i := range 50 {
		r.reads(alice, io, (i*5_000_011+999_999)%len(data)&^4095, 4096, data)
	}
	if got := r.data.c.fetched.Load() - before; got > 60*4096 {
		t.Errorf("50 random reads of 4 KiB fetched %d bytes", got)
	}
}

func TestOwnWritesAreKeptWhereTheOriginCountsThem(t *testing.T) {
	for _, counts := range []bool{true, false} {
		t.Run(fmt.Sprint("counts ", counts), func(t *testing.T) {
			f := newFake()
			f.changeType = nfs4.NFS4_CHANGE_TYPE_IS_TIME_METADATA
			if counts {
				f.changeType = nfs4.NFS4_CHANGE_TYPE_IS_VERSION_COUNTER
			}
			x := f.file("f", pattern(100_000, 1))
			r := newDataRig(t, f, t.TempDir(), nil)
			io := r.openTo(by("a"), alice, "f")
			r.reads(alice, io, 0, 100_000, x.data)
			_, err := r.Write(context.Background(), alice, io, 50_001, pattern(5000, 9), fs.Unstable)
			r.must(err)
			n := r.nreads(func() { r.reads(alice, io, 0, 100_000, x.data) })
			if counts != (n == 0) {
				t.Errorf("%d READs after an own write", n)
			}
			// Somebody else writes as well, at the same time.
			before := r.data.c.ownKept.Load()
			f.behind(func() {
				f.fail = func(op nfs4.OpNum) nfs4.Status {
					if op == nfs4.OP_WRITE {
						x.data[7] ^= 0xff
						x.change++
					}
					return nfs4.NFS4_OK
				}
			})
			_, err = r.Write(context.Background(), alice, io, 60_000, pattern(5000, 8), fs.Unstable)
			r.must(err)
			f.behind(func() { f.fail = nil })
			if r.data.c.ownKept.Load() != before {
				t.Error("the data was kept over somebody else's write")
			}
			io = r.openTo(by("b"), alice, "f")
			r.reads(alice, io, 0, 100_000, x.data)
			if _, err = r.Commit(context.Background(), alice, io.Handle, 0, 0); err != nil {
				t.Fatal(err)
			}
			r.fetching.Wait()
		})
	}
}

func TestAnOriginThatRestartsTakesUnstableWritesAlong(t *testing.T) {
	f := newFake()
	f.changeType = nfs4.NFS4_CHANGE_TYPE_IS_VERSION_COUNTER
	x := f.file("f", pattern(10_000, 1))
	r := newDataRig(t, f, t.TempDir(), nil)
	io := r.openTo(by("a"), alice, "f")
	r.reads(alice, io, 0, 10_000, x.data)
	old := bytes.Clone(x.data)
	_, err := r.Write(context.Background(), alice, io, 0, pattern(5000, 9), fs.Unstable)
	r.must(err)
	// It comes back without the write, and by another one to the same change attribute.
	f.behind(func() { x.data = old; x.data[5000] = 99 })
	r.originChanged()
	r.reads(alice, io, 0, 10_000, x.data)
}

func TestAReplacedOriginHasNoDataOfTheOldOne(t *testing.T) {
	dir := t.TempDir()
	f := newFake()
	x := f.file("f", pattern(10_000, 1))
	r := newDataRig(t, f, dir, nil)
	r.reads(alice, r.openTo(by("a"), alice, "f"), 0, 10_000, x.data)
	r.Abandon()
	r.must(r.cfg.Store.Close())
	g := newFake() // the same numbers, another machine
	g.info.ServerScope = "another"
	y := g.file("f", pattern(10_000, 2))
	if y.id != x.id || y.change != x.change {
		t.Fatal("the numbers differ, and the test shows nothing")
	}
	r = newDataRig(t, g, dir, nil)
	r.reads(alice, r.openTo(by("a"), alice, "f"), 0, 10_000, y.data)
}

func TestOriginAway(t *testing.T) {
	for _, away := range []Away{AwayBlock, AwayServe} {
		t.Run(string(away), func(t *testing.T) {
			f := newFake()
			x := f.file("f", pattern(10_000, 1))
			r := newDataRig(t, f, t.TempDir(), func(c *Config) { c.Away = away })
			io := r.openTo(by("a"), alice, "f")
			r.reads(alice, io, 0, 10_000, x.data)
			block := make(chan struct{})
			f.behind(func() { f.block = block })
			r.clock.Advance(2 * time.Minute) // attributes are old
			got := make(chan error, 1)
			go func() {
				buf := make([]byte, 10_000)
				n, _, err := r.Read(context.Background(), alice, io, 0, buf)
				if err == nil && !bytes.Equal(buf[:n], x.data) {
					err = fmt.Errorf("wrong data, %d bytes", n)
				}
				got <- err
			}()
			if away == AwayServe {
				for done := false; !done; {
					select {
					case err := <-got:
						r.must(err)
						done = true
					case <-time.After(time.Millisecond):
						r.clock.Advance(awayAfter)
					}
				}
				if r.data.c.stale.Load() == 0 {
					t.Error("it is not counted")
				}
				close(block)
				return
			}
			r.clock.Advance(awayAfter)
			select {
			case err := <-got:
				t.Errorf("answered: %v", err)
			case <-time.After(20 * time.Millisecond):
			}
			close(block)
			r.must(<-got)
		})
	}
}

func TestReadPlusUnfolds(t *testing.T) {
	data := []byte("0123456789")
	y := &nfs4.ReadPlusRes{Contents: []nfs4.ReadPlusContent{
		{Type: nfs4.NFS4_CONTENT_HOLE, Offset: 90, Length: 20},
		{Type: nfs4.NFS4_CONTENT_DATA, Offset: 110, Data: data},
		{Type: nfs4.NFS4_CONTENT_HOLE, Offset: 120, Length: 1 << 40},
	}}
	dst := bytes.Repeat([]byte{1}, 50)
	n, err := unfold(y, 100, dst)
	want := append(append(make([]byte, 10), data...), make([]byte, 30)...)
	if n != 50 || err != nil || !bytes.Equal(dst, want) {
		t.Errorf("%d, %v, %q", n, err, dst)
	}
	y.Contents[1].Offset = 111
	if _, err := unfold(y, 100, dst); err == nil {
		t.Error("a gap was taken for data")
	}
}

// An open joins a fetch that began before it, if the version was settled then; what was fetched of a younger one may lack
// the end of a write, and is not for whoever opens the file later (I6).
func TestLaterOpenJoinsFetchesOfSettledVersionsOnly(t *testing.T) {
	ctx := context.Background()
	for _, settled := range []bool{true, false} {
		f := newFake()
		x := f.file("f", pattern(50_000, 1))
		if !settled {
			f.behind(func() { x.ctime = 2000 }) // the latest thing that happened at the origin
		}
		r := newDataRig(t, f, t.TempDir(), nil)
		plan := func(who string) (joined bool, drop func()) {
			io := r.openTo(by(who), alice, "f")
			fh, err := r.resolve(ctx, io.Handle)
			r.must(err)
			v, err := r.validate(ctx, alice, io, fh)
			r.must(err)
			df := r.data.use(io.Handle, v.attr, fh)
			obj, err := r.data.store.Get(df.id, v.version(), r.namer(io.Handle))
			r.must(err)
			pieces := r.plan(ctx, df, &reader{alice, io, fh, v}, obj, 0, 50_000)
			return pieces[0].joined, func() {
				for i := range pieces {
					<-pieces[i].fetch.done
					pieces[i].drop()
				}
				obj.Release()
				r.data.unuse(df)
			}
		}
		block := make(chan struct{})
		r.openTo(by("first"), alice, "f") // what it takes to know the file is not to be blocked
		f.behind(func() { f.block = block })
		first, dropFirst := plan("a")
		second, dropSecond := plan("b")
		close(block)
		dropFirst()
		dropSecond()
		r.fetching.Wait()
		if first || second != settled {
			t.Errorf("settled %v: the first joined: %v; one who opened the file meanwhile: %v", settled, first, second)
		}
	}
}
