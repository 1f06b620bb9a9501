package remote

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/journal"
)

// A warmRig is a mount whose knowledge of the tree is kept, and which can die.
type warmRig struct {
	*rig
	j    *journal.Journal
	dir  string
	conf func(*Config)
	d    fs.Handle // where names are
}

func newWarmRig(t *testing.T, f *fake, change func(*Config)) *warmRig {
	j, _, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	w := &warmRig{j: j, dir: t.TempDir(), conf: change}
	w.rig = w.start(t, f, t0)
	return w
}

func (w *warmRig) start(t *testing.T, f *fake, now time.Time) *rig {
	r := newRig(t, f, func(c *Config) {
		c.Journal, c.MetaDir = w.j, w.dir
		if w.conf != nil {
			w.conf(c)
		}
	})
	r.clock.Advance(now.Sub(r.clock.Now()))
	return r
}

// restart is one in order.
func (w *warmRig) restart() {
	w.t.Helper()
	w.must(w.Close(context.Background()))
	w.rig = w.start(w.t.(*testing.T), w.f, w.clock.Now())
}

// kill leaves what is in the file now.
func (w *warmRig) kill() {
	w.t.Helper()
	dir := w.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(w.dir)); err != nil {
		w.t.Fatal(err)
	}
	w.Abandon()
	w.dir = dir
	w.rig = w.start(w.t.(*testing.T), w.f, w.clock.Now())
}

// written waits for nothing: it does what the passing of time does.
func (w *warmRig) written() { w.cache.log.flush() }

func (w *warmRig) names() {
	w.t.Helper()
	w.f.behind(func() {
		d := w.f.add(w.f.root, "d", nfs4.NF4DIR) // the root itself is asked for at each start
		w.f.add(d, "f", nfs4.NF4REG)
		w.f.add(d, "l", nfs4.NF4LNK).link = "target"
	})
	var err error
	w.d, _, err = w.Lookup(context.Background(), alice, w.root(), "d")
	w.must(err)
}

// ask asks everything once: a name, an absent name, attributes, a decision, a link, a listing.
func (w *warmRig) ask() {
	w.t.Helper()
	ctx := context.Background()
	h, _, err := w.Lookup(ctx, alice, w.d, "f")
	w.must(err)
	_, _, err = w.Lookup(ctx, alice, w.d, "absent")
	w.wants(err, fs.NoEnt)
	_, err = w.GetAttr(ctx, alice, h)
	w.must(err)
	_, err = w.Access(ctx, alice, h, fs.AccessModify)
	w.must(err)
	l, _, err := w.Lookup(ctx, alice, w.d, "l")
	w.must(err)
	target, err := w.Readlink(ctx, alice, l)
	w.must(err)
	if target != "target" {
		w.t.Errorf("the link leads to %q", target)
	}
	if got := list(w.rig, w.d, false, 100); !slices.Equal(got, []string{"f", "l"}) {
		w.t.Errorf("the listing is %q", got)
	}
}

// What was known before a restart is used after it when one question has shown that it still counts, or at once
// where the mode allows it; after kill -9 as after an ordinary end.
func TestAWarmRestart(t *testing.T) {
	for _, c := range []struct {
		mode Consistency
		most int // requests to ask everything
	}{
		// Each of the three files is asked for once. The absent name, the decision, the target and the listing are not.
		{CloseToOpen, 3},
		{Relaxed, 0},
		{Immutable, 0},
	} {
		for _, how := range []string{"restart", "kill"} {
			t.Run(fmt.Sprint(c.mode, "/", how), func(t *testing.T) {
				f := newFake()
				w := newWarmRig(t, f, func(cfg *Config) { cfg.Consistency = c.mode })
				w.names()
				w.ask()
				w.written()
				if how == "kill" {
					w.kill()
				} else {
					w.restart()
				}
				if w.metaLoaded < 3 {
					t.Fatalf("%d files are known", w.metaLoaded)
				}
				if n := w.requests(w.ask); n > c.most {
					t.Errorf("%d requests, want at most %d", n, c.most)
				}
			})
		}
	}
}

// In no mode but those that allow it is an old answer given after a restart, whatever is in the file.
func TestWhatChangedDuringARestart(t *testing.T) {
	for _, mode := range Consistencies() {
		t.Run(mode, func(t *testing.T) {
			f := newFake()
			w := newWarmRig(t, f, func(cfg *Config) { cfg.Consistency, cfg.RelaxedAge = Consistency(mode), time.Minute })
			w.names()
			w.ask()
			w.written()
			f.behind(func() {
				d := f.root.entries["d"]
				f.add(d, "absent", nfs4.NF4REG)
				f.unlink(d, "l")
				d.entries["f"].mode = 0o611
				d.entries["f"].change++
				file := d.entries["f"]
				f.deny = func(_ *rpc.Cred, x *fakeFile, want uint32) uint32 {
					if x == file {
						return want & fs.AccessModify
					}
					return 0
				}
			})
			w.kill()
			see := func() (absent, gone, mode, denied bool) {
				ctx := context.Background()
				h, a, err := w.Lookup(ctx, alice, w.d, "f")
				w.must(err)
				granted, err := w.Access(ctx, alice, h, fs.AccessModify)
				w.must(err)
				_, _, nope := w.Lookup(ctx, alice, w.d, "absent")
				_, _, l := w.Lookup(ctx, alice, w.d, "l")
				if got := list(w.rig, w.d, false, 100); slices.Contains(got, "absent") != (nope == nil) || slices.Contains(got, "l") != (l == nil) {
					t.Errorf("listing and lookups differ: %v", got)
				}
				return nope == nil, l != nil, a.Mode == 0o611, granted == 0
			}
			old := mode == string(Relaxed) || mode == string(Immutable)
			a, b, c, d := see()
			if a == old || b == old || c == old || d == old {
				t.Errorf("the absent name is there %v, the other gone %v, the mode new %v, permission gone %v", a, b, c, d)
			}
			w.clock.Advance(time.Minute)
			if a, b, c, d = see(); mode == string(Relaxed) && !(a && b && c && d) {
				t.Errorf("relaxed, after its age: %v %v %v %v", a, b, c, d)
			}
		})
	}
}

// What we changed ourselves is never answered as it was before, not even by an immutable tree after kill -9 at any
// moment, and a file never becomes another one.
func TestOwnChangesAndKills(t *testing.T) {
	for _, mode := range []Consistency{CloseToOpen, Relaxed, Immutable} {
		t.Run(string(mode), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, uint64(len(mode))))
			f := newFake()
			w := newWarmRig(t, f, func(cfg *Config) { cfg.Consistency = mode })
			ctx := context.Background()
			truth := map[string]uint64{} // fileid by name
			check := func() {
				got := list(w.rig, w.root(), rnd.IntN(2) == 0, 1000)
				if len(got) != len(truth) {
					t.Fatalf("a listing of %d, want %d", len(got), len(truth))
				}
				for i := range 12 {
					name := fmt.Sprint(i)
					h, a, err := w.Lookup(ctx, alice, w.root(), name)
					id, there := truth[name]
					if there != (err == nil) || there && a.FileID != id {
						t.Fatalf("%s: %v; want it there: %v", name, err, there)
					}
					if there {
						a, err := w.GetAttr(ctx, alice, h)
						w.must(err)
						f.behind(func() {
							if x := f.files[mustFH(w.rig, h)]; a.Mode != x.mode || a.FileID != x.id {
								t.Fatalf("%s: file %d with mode %o, want %d and %o", name, a.FileID, a.Mode, x.id, x.mode)
							}
						})
					}
				}
			}
			for i := range 400 {
				name, other := fmt.Sprint(rnd.IntN(12)), fmt.Sprint(rnd.IntN(12))
				switch rnd.IntN(7) {
				case 0, 1:
					if _, there := truth[name]; !there {
						_, a, _, err := w.Create(ctx, alice, w.root(), name, &fs.CreateRequest{Type: fs.Symlink, Target: name})
						w.must(err)
						truth[name] = a.FileID
					}
				case 2:
					if _, there := truth[name]; there {
						_, err := w.Remove(ctx, alice, w.root(), name, fs.RemoveAny)
						w.must(err)
						delete(truth, name)
					}
				case 3:
					if id, there := truth[name]; there && name != other {
						_, _, err := w.Rename(ctx, alice, w.root(), name, w.root(), other)
						w.must(err)
						delete(truth, name)
						truth[other] = id
					}
				case 4:
					if _, there := truth[name]; there {
						h, _, err := w.Lookup(ctx, alice, w.root(), name)
						w.must(err)
						_, err = w.SetAttr(ctx, alice, fs.IORef{Handle: h}, &fs.SetAttr{Mode: ptr(uint32(rnd.IntN(0o777)))})
						w.must(err)
					}
				case 5:
					check()
				case 6:
					if i%3 == 0 {
						w.written()
					}
					if rnd.IntN(3) == 0 {
						w.kill()
						check()
					} else if rnd.IntN(8) == 0 {
						w.restart()
						check()
					}
				}
			}
			check()
		})
	}
}

// An immutable tree that was changed all the same is looked at again when somebody says so, also if the process dies
// then.
func TestDoubtIsForAll(t *testing.T) {
	f := newFake()
	w := newWarmRig(t, f, func(cfg *Config) { cfg.Consistency = Immutable })
	w.names()
	w.ask()
	w.must(w.Doubt())
	w.kill()
	if n := w.requests(w.ask); n == 0 || n > 3 {
		t.Errorf("%d requests, want one for each file", n)
	}
}

// After a reboot of the host the end of the file may be missing, so even an immutable tree is asked for again, once.
func TestARebootOfTheHostIsDoubted(t *testing.T) {
	f := newFake()
	w := newWarmRig(t, f, func(cfg *Config) { cfg.Consistency = Immutable })
	w.names()
	w.ask()
	w.written()
	files, err := filepath.Glob(w.dir + "/*")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	w.must(err)
	w.Abandon()
	b[len(metaMagic)+16] ^= 1
	w.must(os.WriteFile(files[0], b, 0o600))
	w.rig = w.start(t, f, w.clock.Now())
	if n := w.requests(w.ask); n == 0 || n > 3 {
		t.Errorf("%d requests after a reboot of the host, want one for each file", n)
	}
	if n := w.requests(w.ask); n != 0 {
		t.Errorf("%d requests afterwards", n)
	}
}

// A file that is torn or rotten anywhere is used as far as it is whole; one of another origin not at all.
func TestADamagedFileIsUsedAsFarAsItIsWhole(t *testing.T) {
	f := newFake()
	w := newWarmRig(t, f, nil)
	w.names()
	w.ask()
	w.written()
	files, _ := filepath.Glob(w.dir + "/*")
	whole, err := os.ReadFile(files[0])
	w.must(err)
	l := w.cache.log
	id := l.header[:len(metaMagic)+16]
	load := func(b []byte) (files int) {
		path := filepath.Join(t.TempDir(), "x")
		w.must(os.WriteFile(path, b, 0o600))
		n, err := newCache(AttrTimes{}, 1000).load(path, id, l.header, false, t0)
		w.must(err)
		return n
	}
	all := load(whole)
	if all < 3 {
		t.Fatalf("%d files", all)
	}
	last := 0
	for cut := 0; cut <= len(whole); cut += 7 {
		n := load(whole[:cut])
		if n < last {
			t.Fatalf("cut off at %d there are fewer files than before", cut)
		}
		last = n
		if cut < len(whole) {
			b := bytes.Clone(whole)
			b[cut] ^= 0x10
			if n := load(b); n > all {
				t.Errorf("%d files", n)
			}
		}
	}
	if n, err := newCache(AttrTimes{}, 1000).load(files[0], append([]byte(metaMagic), make([]byte, 16)...), l.header, false, t0); n != 0 || err != nil {
		t.Errorf("another origin's: %d files, %v", n, err)
	}
}

// The file does not grow without bound, and what happens while it is written anew is not lost.
func TestTheFileIsWrittenAnew(t *testing.T) {
	f := newFake()
	w := newWarmRig(t, f, nil)
	w.names()
	ctx := context.Background()
	h, _, err := w.Lookup(ctx, alice, w.d, "f")
	w.must(err)
	for i := range 3000 {
		f.behind(func() { f.root.entries["d"].entries["f"].change++ })
		w.clock.Advance(time.Hour)
		_, err := w.GetAttr(ctx, alice, h)
		w.must(err)
		if i == 1500 {
			w.ask()
		}
	}
	w.written()
	before := w.cache.log.size
	// In the middle of it something is learnt, and a crash leaves the old file, which has that as well.
	inner := w.cache.log.dump
	w.cache.log.dump = func(put func(*metaRecord)) {
		inner(put)
		_, _, err := w.Lookup(ctx, bob, w.d, "nothing")
		w.wants(err, fs.NoEnt)
	}
	w.must(w.cache.log.anew())
	if after := w.cache.log.size; after > before/10 {
		t.Errorf("%d bytes became %d", before, after)
	}
	w.kill()
	_, err = w.GetAttr(ctx, alice, w.d)
	w.must(err)
	if n := w.requests(func() {
		_, _, err := w.Lookup(ctx, bob, w.d, "nothing")
		w.wants(err, fs.NoEnt)
	}); n != 0 {
		t.Error("what was learnt meanwhile is not known")
	}
}

// TestKilledWhileWrittenAnew dies between the new file and its being the file.
func TestKilledWhileWrittenAnew(t *testing.T) {
	if dir := os.Getenv("HOLDFAST_META_DIR"); dir != "" {
		c := newCache(AttrTimes{}, 1000)
		l := &metaLog{path: filepath.Join(dir, "x"), header: []byte(metaMagic), dump: c.dump, quit: make(chan struct{})}
		c.log = l
		if err := l.anew(); err != nil { // the first passes
			t.Fatal(err)
		}
		c.seen("f", attrAt(1), c.begin(), t0)
		l.flush()
		_ = l.anew()
		t.Fatal("still alive")
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWhileWrittenAnew$")
	cmd.Env = append(os.Environ(), "HOLDFAST_META_DIR="+dir, "HOLDFAST_CRASH=meta.rewrite:2")
	if out, err := cmd.CombinedOutput(); err == nil || bytes.Contains(out, []byte("alive")) {
		t.Fatalf("%v %s", err, out)
	}
	c := newCache(AttrTimes{}, 1000)
	n, err := c.load(filepath.Join(dir, "x"), []byte(metaMagic), []byte(metaMagic), false, t0)
	if err != nil || n != 1 {
		t.Errorf("%d files, %v", n, err)
	}
}

func FuzzMetaRecord(f *testing.F) {
	page := dirPage{start: 4, eof: true, entries: []fs.DirEntry{{Cookie: 5, Name: "n", FileID: 6, Type: fs.Regular, Handle: "h"}}}
	for _, m := range []metaRecord{
		{kind: metaAttr, handle: "h", when: t0, attr: fs.Attr{Type: fs.Directory, Change: 1 << 63, Mtime: t0}},
		{kind: metaName, handle: "d", at: 7, name: "n", child: "c"},
		{kind: metaForget, handle: "d", name: "n"},
		{kind: metaAccess, handle: "h", at: 7, name: credKey(alice), asked: 63, granted: 1},
		{kind: metaLink, handle: "h", at: 7, name: "target"},
		{kind: metaPage, handle: "d", at: 7, page: page},
		{kind: metaMoved, handle: "d", at: 7, after: 8},
		{kind: metaDrop, handle: "h"}, {kind: metaDoubt, handle: "h"}, {kind: metaClean},
	} {
		b := m.append(nil)
		var back metaRecord
		if err := back.decode(b); err != nil || !bytes.Equal(back.append(nil), b) {
			f.Fatalf("%v: %v", m, err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m metaRecord
		if m.decode(b) != nil {
			return
		}
		again := m.append(nil)
		var back metaRecord
		if err := back.decode(again); err != nil {
			t.Fatalf("% x became % x: %v", b, again, err)
		}
		if !bytes.Equal(back.append(nil), again) {
			t.Fatal("decoded twice it is two things")
		}
		if len(m.page.entries)*5 > len(b) {
			t.Fatal("more entries than bytes for them")
		}
	})
}
