package remote

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

func TestMountWalksToThePath(t *testing.T) {
	f := newFake()
	f.info.MaxOps = 8 // three names at a time
	dir := f.root
	for i := range 10 {
		dir = f.add(dir, fmt.Sprint("d", i), nfs4.NF4DIR)
	}
	f.add(dir, "file", nfs4.NF4REG)
	r := newRig(t, f, func(c *Config) { c.Path = "/d0/d1/d2/d3/d4/d5/d6/d7/d8/d9/" })
	if _, _, err := r.Lookup(context.Background(), alice, r.root(), "file"); err != nil {
		t.Error(err)
	}
	if _, _, err := r.LookupParent(context.Background(), alice, r.root()); fs.CodeOf(err) != fs.NoEnt {
		t.Errorf("the mount's root has a parent: %v", err)
	}
	for path, want := range map[string]string{"/d0/nowhere/x": `"nowhere": LOOKUP: NOENT`, "/d0/../d0": "not allowed"} {
		cfg := Config{Name: "n", Server: "s", Path: path}
		if err := cfg.setDefaults(); err != nil {
			t.Fatal(err)
		}
		other, err := newRemote(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.attach(context.Background(), f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
		other.stop()
	}
}

// A name that the origin says is there is found at once, though it was known not to be (I6).
func TestExistingNameIsFound(t *testing.T) {
	f := newFake()
	r := newRig(t, f, nil)
	ctx := context.Background()
	look := func(name string) error {
		_, _, err := r.Lookup(ctx, alice, r.root(), name)
		return err
	}
	for name, create := range map[string]func(string) error{
		"made": func(name string) error {
			_, _, _, err := r.Create(ctx, alice, r.root(), name, &fs.CreateRequest{Type: fs.Directory})
			return err
		},
		"opened": func(name string) error {
			_, err := r.Open(ctx, alice, &fs.OpenRequest{Owner: fs.Owner{Client: "client", Owner: name}, Dir: r.root(), Name: name, Access: fs.ShareBoth, Create: fs.Guarded})
			return err
		},
	} {
		r.wants(look(name), fs.NoEnt)
		r.wants(look(name), fs.NoEnt)
		f.behind(func() { f.add(f.root, name, nfs4.NF4REG) })
		r.wants(create(name), fs.Exist)
		r.must(look(name))
	}
}

func TestLookupIsOneRoundTripAndThenNone(t *testing.T) {
	f := newFake()
	x := f.add(f.root, "f", nfs4.NF4REG)
	r := newRig(t, f, nil)
	ctx := context.Background()
	look := func(cred *fs.Cred, name string) (err error) {
		_, _, err = r.Lookup(ctx, cred, r.root(), name)
		return err
	}

	if n := r.requests(func() { r.must(look(alice, "f")) }); n != 1 {
		t.Errorf("%d requests for a lookup", n)
	}
	if n := r.requests(func() { r.must(look(alice, "f")) }); n != 0 {
		t.Errorf("%d requests for a lookup that is known", n)
	}
	if n := r.requests(func() { r.wants(look(alice, "no"), fs.NoEnt); r.wants(look(alice, "no"), fs.NoEnt) }); n != 1 {
		t.Errorf("%d requests for a name that is not there, want 1", n)
	}
	// Bob may not search: alice's hit must not let him in.
	f.deny = func(cred *rpc.Cred, _ *fakeFile, _ uint32) uint32 {
		if cred.UID == bob.UID {
			return nfs4.ACCESS4_LOOKUP
		}
		return 0
	}
	r.wants(look(bob, "f"), fs.Access)
	if _, err := r.Access(ctx, bob, r.root(), fs.AccessRead|fs.AccessLookup); err != nil {
		t.Error(err)
	}
	r.wants(look(bob, "f"), fs.Access)

	// Somebody removes it. Within acdirmin the old answer may be given; after it, never.
	f.behind(func() { f.unlink(f.root, "f") })
	r.clock.Advance(31 * time.Second)
	r.wants(look(alice, "f"), fs.NoEnt)
	if ch := r.l.takeChanged(); len(ch) != 1 || ch[0] != r.root() {
		t.Errorf("heard of %d changes", len(ch))
	}
	_, err := r.GetAttr(ctx, alice, mustSeal(r, x.fh))
	r.wants(err, fs.Stale)
}

func mustSeal(r *rig, fh nfs4.FH) fs.Handle { h, _, _ := r.seal.seal(fh); return h }

func TestTheEndUserGoesUpstream(t *testing.T) {
	f := newFake()
	r := newRig(t, f, nil)
	groups := make([]uint32, 40)
	for i := range groups {
		groups[i] = uint32(i)
	}
	_, _, err := r.Lookup(context.Background(), &fs.Cred{UID: 7, GID: 8, Groups: groups}, r.root(), "x")
	r.wants(err, fs.NoEnt)
	c := f.creds[len(f.creds)-1]
	if c.UID != 7 || c.GID != 8 || len(c.Groups) != rpc.MaxGroups || c.Machine == "" || c.Flavor != rpc.AUTH_SYS {
		t.Errorf("the origin saw %+v", c)
	}
	_, err = r.GetAttr(context.Background(), nil, mustSeal(r, f.add(f.root, "y", nfs4.NF4REG).fh))
	r.must(err)
	if c := f.creds[len(f.creds)-1]; c.UID != nobody {
		t.Errorf("nobody's request was made as %d", c.UID)
	}
}

func TestOwnChangesAreSeenAtOnceAndCostNoName(t *testing.T) {
	f := newFake()
	r := newRig(t, f, nil)
	ctx := context.Background()
	var d fs.Handle
	n := r.requests(func() {
		var err error
		d, _, _, err = r.Create(ctx, alice, r.root(), "d", &fs.CreateRequest{Type: fs.Directory, Attr: fs.SetAttr{Mode: ptr(uint32(0o700))}})
		r.must(err)
	})
	if n != 1 {
		t.Errorf("%d requests for a mkdir", n)
	}
	_, _, err := r.Lookup(ctx, alice, r.root(), "d")
	r.must(err)
	for i := range 5 {
		_, a, _, err := r.Create(ctx, alice, d, fmt.Sprint("l", i), &fs.CreateRequest{Type: fs.Symlink, Target: "to"})
		r.must(err)
		if a.Type != fs.Symlink {
			t.Errorf("made a %v", a.Type)
		}
	}
	_, _, err = r.Lookup(ctx, alice, d, "l0")
	r.must(err)
	n = r.requests(func() {
		h, _, err := r.Lookup(ctx, alice, d, "l3")
		r.must(err)
		a, err := r.GetAttr(ctx, alice, d)
		r.must(err)
		if a.Change != f.files[mustFH(r, d)].change {
			t.Error("the directory's change attribute is old after our own changes")
		}
		_ = h
	})
	if n != 0 {
		t.Errorf("%d requests for what we made ourselves", n)
	}
	_, err = r.Remove(ctx, alice, d, "l3", fs.RemoveFile)
	r.must(err)
	_, _, err = r.Rename(ctx, alice, d, "l2", r.root(), "moved")
	r.must(err)
	n = r.requests(func() {
		for _, name := range []string{"l3", "l2"} {
			_, _, err := r.Lookup(ctx, alice, d, name)
			r.wants(err, fs.NoEnt)
		}
	})
	if n != 0 {
		t.Errorf("%d requests for what we removed ourselves", n)
	}
	h, _, err := r.Lookup(ctx, alice, r.root(), "moved")
	r.must(err)
	if target, err := r.Readlink(ctx, alice, h); err != nil || target != "to" {
		t.Errorf("%q, %v", target, err)
	}
	if n := r.requests(func() { _, err := r.Readlink(ctx, alice, h); r.must(err) }); n != 0 {
		t.Error("a link is read twice")
	}
	_, err = r.Link(ctx, alice, h, d, "hard")
	r.must(err)
	a, err := r.GetAttr(ctx, alice, h)
	r.must(err)
	if a.Nlink != 2 {
		t.Errorf("%d links", a.Nlink)
	}
	// Only the moved file itself, whose ctime went along, cannot be told from one that somebody changed.
	for _, ch := range r.l.takeChanged() {
		if ch != h {
			t.Errorf("our own change of %x was told as somebody else's", ch)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func mustFH(r *rig, h fs.Handle) nfs4.FH {
	fh, err := r.resolve(context.Background(), h)
	r.must(err)
	return fh
}

func TestRemoveOfAKind(t *testing.T) {
	f := newFake()
	r := newRig(t, f, nil)
	ctx := context.Background()
	for _, c := range []struct {
		typ  nfs4.FileType
		kind fs.RemoveKind
		want fs.Code
	}{
		{nfs4.NF4DIR, fs.RemoveFile, fs.IsDir}, {nfs4.NF4REG, fs.RemoveDir, fs.NotDir}, {nfs4.NF4LNK, fs.RemoveDir, fs.NotDir},
		{nfs4.NF4DIR, fs.RemoveDir, fs.OK}, {nfs4.NF4REG, fs.RemoveFile, fs.OK}, {nfs4.NF4LNK, fs.RemoveFile, fs.OK},
		{nfs4.NF4DIR, fs.RemoveAny, fs.OK}, {nfs4.NF4REG, fs.RemoveAny, fs.OK},
	} {
		f.behind(func() { f.add(f.root, "x", c.typ) })
		var err error
		if n := r.requests(func() { _, err = r.Remove(ctx, alice, r.root(), "x", c.kind) }); n != 1 {
			t.Errorf("%d requests", n)
		}
		if fs.CodeOf(err) != c.want {
			t.Errorf("type %d, kind %d: %v, want %v", c.typ, c.kind, err, c.want)
		}
		if there := f.root.entries["x"] != nil; there != (err != nil) {
			t.Errorf("type %d, kind %d: is there %v after %v", c.typ, c.kind, there, err)
		}
		if err != nil {
			f.behind(func() { f.unlink(f.root, "x") })
		}
	}
	_, err := r.Remove(ctx, alice, r.root(), "none", fs.RemoveFile)
	r.wants(err, fs.NoEnt)
	_, err = r.Remove(ctx, alice, r.root(), "..", fs.RemoveAny)
	r.wants(err, fs.BadName)
}

func list(r *rig, dir fs.Handle, attrs bool, stopAfter int) (names []string) {
	r.t.Helper()
	var cookie uint64
	for {
		n := 0
		eof, err := r.ReadDir(context.Background(), alice, dir, cookie, attrs, func(e *fs.DirEntry) bool {
			if stopAfter > 0 && n == stopAfter {
				return false
			}
			n++
			cookie = e.Cookie
			names = append(names, e.Name)
			if attrs && (e.Attr == nil || e.Handle == "") {
				r.t.Errorf("%s has no attributes", e.Name)
			}
			return true
		})
		r.must(err)
		if eof {
			return names
		}
		if n == 0 {
			r.t.Fatal("no progress")
		}
	}
}

func TestReadDirPagesAndKeepsWhatWasNotTaken(t *testing.T) {
	f := newFake()
	for i := range 3000 {
		f.add(f.root, fmt.Sprint("f", i), nfs4.NF4REG)
	}
	r := newRig(t, f, nil)
	for _, attrs := range []bool{true, false} {
		for _, stop := range []int{0, 7} {
			var names []string
			n := r.requests(func() { names = list(r, r.root(), attrs, stop) })
			if len(names) != 3000 || names[0] != "f0" || names[2999] != "f2999" {
				t.Fatalf("attrs %v, %d at a time: %d names", attrs, stop, len(names))
			}
			if n > 4 {
				t.Errorf("attrs %v, %d at a time: %d requests", attrs, stop, n)
			}
		}
	}
	n := r.requests(func() {
		_, _, err := r.Lookup(context.Background(), alice, r.root(), "f1234")
		r.wants(err, fs.OK)
	})
	if n > 1 {
		t.Errorf("%d requests for a name that READDIR brought", n)
	}
	f.behind(func() { f.add(f.root, "new", nfs4.NF4REG) })
	r.clock.Advance(time.Minute)
	if names := list(r, r.root(), false, 0); len(names) != 3001 {
		t.Errorf("after somebody's change there are %d names", len(names))
	}
	// Bob may not read the directory: alice's pages are not his.
	if _, _, ok := r.cache.page(r.root(), 0, false, credKey(bob), view{now: r.now()}); ok {
		t.Error("a page is shown to a credential that never read it")
	}
}

func TestACookieSurvivesChangesAndRestarts(t *testing.T) {
	f := newFake()
	f.cookies = true
	f.dirVerf = nfs4.Verifier{1}
	for i := range 1000 {
		f.add(f.root, fmt.Sprint("f", i), nfs4.NF4REG)
	}
	r := newRig(t, f, nil)
	ctx := context.Background()
	var cookie uint64
	n := 0
	_, err := r.ReadDir(ctx, alice, r.root(), 0, false, func(e *fs.DirEntry) bool { n++; cookie = e.Cookie; return n < 10 })
	r.must(err)
	f.behind(func() { f.dirVerf = nfs4.Verifier{2}; f.unlink(f.root, "f500") })
	r.clock.Advance(time.Minute)
	rest := func(r *rig) (names int, first string) {
		eof := false
		c := cookie
		for !eof {
			var err error
			eof, err = r.ReadDir(ctx, alice, r.root(), c, false, func(e *fs.DirEntry) bool {
				if names++; names == 1 {
					first = e.Name
				}
				c = e.Cookie
				return true
			})
			r.must(err)
		}
		return names, first
	}
	if n, first := rest(r); n != 989 || first != "f10" {
		t.Errorf("after a change: %d names from %s", n, first)
	}
	if n, first := rest(newRig(t, f, nil)); n != 989 || first != "f10" {
		t.Errorf("after a restart: %d names from %s", n, first)
	}
}

func TestNestedFileSystemsHaveHandlesOfTheirOwn(t *testing.T) {
	f := newFake()
	sub := f.add(f.root, "mnt", nfs4.NF4DIR)
	sub.fsid, sub.id = 8, f.root.id // the root of a mount often has the number of another's root
	x := f.add(sub, "x", nfs4.NF4REG)
	r := newRig(t, f, nil)
	ctx := context.Background()
	h, a, err := r.Lookup(ctx, alice, r.root(), "mnt")
	r.must(err)
	if h == r.root() || a.FSID.Major != 8 {
		t.Errorf("the mount is %+v", a)
	}
	_, xa, err := r.Lookup(ctx, alice, h, "x")
	r.must(err)
	if xa.FSID.Major != 8 || xa.FileID != x.id {
		t.Errorf("the file below is %+v", xa)
	}
	up, _, err := r.LookupParent(ctx, alice, h)
	r.must(err)
	if up != r.root() {
		t.Error("the parent of the nested root is not the directory that it is mounted in")
	}
}

func TestHandlesOfHostileClients(t *testing.T) {
	r := newRig(t, newFake(), nil)
	n := r.requests(func() {
		for _, h := range []fs.Handle{"", "x", fs.Handle(strings.Repeat("y", 59)), r.root() + "z"} {
			_, err := r.GetAttr(context.Background(), alice, h)
			r.wants(err, fs.BadHandle)
		}
	})
	if n != 0 {
		t.Errorf("%d requests for forged handles", n)
	}
}

func TestSoftMountGivesUpAndHardDoesNot(t *testing.T) {
	f := newFake()
	r := newRig(t, f, nil)
	f.block = make(chan struct{})
	soft := softUpstream{f, time.Millisecond}
	err := soft.Compound(context.Background(), &rpc.Cred{}, nil, nil)
	r.wants(err, fs.Unreachable)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r.wants(toFS("", soft.Compound(ctx, &rpc.Cred{}, nil, nil)), fs.Interrupted)
	_, err = r.GetAttr(ctx, alice, mustSeal(r, "12345678"))
	r.wants(err, fs.Interrupted)
	close(f.block)
}
