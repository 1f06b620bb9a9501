package v3

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs3"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
	"holdfast/nfsdown"
)

func TestMount(t *testing.T) {
	w := newWorld(t, func(c *nfsdown.Config) {
		c.Exports = append(c.Exports, nfsdown.Export{Path: "/secret", Backend: w2(), Clients: []nfsdown.ClientRule{{Pattern: "192.0.2.1"}}})
	})
	p := w.peer(0)
	want(t, "an export", p.mnt("/data").Status, nfs3.OK)
	want(t, "with slashes", p.mnt("//data/").Status, nfs3.OK)
	want(t, "a directory above the exports", p.mnt("/").Status, nfs3.ErrAcces)
	want(t, "nothing", p.mnt("/none").Status, nfs3.ErrNoEnt)
	want(t, "no path", p.mnt("data").Status, nfs3.ErrNoEnt)
	want(t, "an export for others", p.mnt("/secret").Status, nfs3.ErrNoEnt)
	root := p.root()
	mode := uint32(0o700)
	call3[*nfs3.CreateRes](p, nfs3.ProcMkdir, &nfs3.MkdirArgs{Where: nfs3.Dirop{Dir: root, Name: "sub"}, Attr: nfs3.Sattr{Mode: &mode}})
	p.mkfile(root, "f", 0o600, "")
	want(t, "a directory below, that is for root only", w.peer(1000).mnt("/data/sub").Status, nfs3.OK)
	want(t, "a file", p.mnt("/data/f").Status, nfs3.ErrNotDir)

	b, err := p.raw(nfs3.MountProgram, nfs3.MountV3, nfs3.MountExport, nil)
	var x nfs3.ExportRes
	if x.XDR(xdr.NewDecoder(b)); err != nil || len(x.List) != 2 || x.List[0].Path != "/data" || x.List[0].Groups != nil || x.List[1].Groups[0] != "192.0.2.1" {
		t.Errorf("EXPORT: %+v %v", x, err)
	}
	b, err = p.raw(nfs3.MountProgram, nfs3.MountV3, nfs3.MountDump, nil)
	var d nfs3.DumpRes
	if d.XDR(xdr.NewDecoder(b)); err != nil || len(d.List) < 2 || d.List[0].Host != "127.0.0.1" {
		t.Errorf("DUMP: %+v %v", d, err)
	}
	if _, err = p.raw(nfs3.MountProgram, nfs3.MountV3, nfs3.MountUmntall, nil); err != nil {
		t.Error(err)
	}
	b, _ = p.raw(nfs3.MountProgram, nfs3.MountV1, nfs3.MountDump, nil)
	if d.XDR(xdr.NewDecoder(b)); len(d.List) != 0 {
		t.Errorf("after UMNTALL: %+v", d)
	}
	var mismatch *rpc.AcceptError
	if _, err = p.raw(nfs3.MountProgram, 4, 0, nil); !errors.As(err, &mismatch) || mismatch.Low != 1 || mismatch.High != 3 {
		t.Errorf("MOUNT version 4: %v", err)
	}
	if _, err = p.raw(nfs3.Program, 2, 0, nil); !errors.As(err, &mismatch) || mismatch.Low != 3 || mismatch.High != 4 {
		t.Errorf("NFS version 2: %v", err)
	}
	if _, err = p.raw(nfs3.Program, 3, 22, nil); !errors.As(err, &mismatch) || mismatch.Stat != rpc.PROC_UNAVAIL {
		t.Errorf("procedure 22: %v", err)
	}
	if _, err = p.raw(nfs3.Program, 3, nfs3.ProcLookup, nil); !errors.As(err, &mismatch) || mismatch.Stat != rpc.GARBAGE_ARGS {
		t.Errorf("no arguments: %v", err)
	}
}

func TestCreateAndNames(t *testing.T) {
	w := newWorld(t, nil)
	p := w.peer(0)
	root := p.root()
	at := func(name string) nfs3.Dirop { return nfs3.Dirop{Dir: root, Name: name} }
	create := func(a *nfs3.CreateArgs) *nfs3.CreateRes { return call3[*nfs3.CreateRes](p, nfs3.ProcCreate, a) }

	t.Run("exclusive, as macOS does it", func(t *testing.T) {
		a := &nfs3.CreateArgs{Where: at("x"), Mode: nfs3.Exclusive, Verf: nfs3.Verf{1, 2, 3}}
		first := create(a)
		want(t, "first", first.Status, nfs3.OK)
		again := create(a)
		want(t, "again with the same verifier", again.Status, nfs3.OK)
		if *first.FH != *again.FH {
			t.Error("it is another file")
		}
		want(t, "with another verifier", create(&nfs3.CreateArgs{Where: at("x"), Mode: nfs3.Exclusive, Verf: nfs3.Verf{9}}).Status, nfs3.ErrExist)
		mode := uint32(0o640)
		want(t, "SETATTR after it", call3[*nfs3.WccRes](p, nfs3.ProcSetattr, &nfs3.SetattrArgs{FH: *first.FH, Attr: nfs3.Sattr{Mode: &mode,
			Atime: nfs3.SetTime{How: nfs3.SetToServerTime}, Mtime: nfs3.SetTime{How: nfs3.SetToClientTime, Time: nfs3.Time{Sec: 7}}}}).Status, nfs3.OK)
		g := call3[*nfs3.GetattrRes](p, nfs3.ProcGetattr, &nfs3.FHArgs{FH: *first.FH})
		if g.Attr.Mode != 0o640 || g.Attr.Mtime.Sec != 7 {
			t.Errorf("%+v", g.Attr)
		}
	})
	t.Run("unchecked and guarded", func(t *testing.T) {
		fh := p.mkfile(root, "u", 0o400, "")
		w1 := call3[*nfs3.WriteRes](p, nfs3.ProcWrite, &nfs3.WriteArgs{FH: fh, Count: 5, Data: []byte("hello")})
		want(t, "WRITE", w1.Status, nfs3.OK)
		r := create(&nfs3.CreateArgs{Where: at("u"), Mode: nfs3.Unchecked})
		if r.Status != nfs3.OK || *r.FH != fh || r.Attr.Size != 5 {
			t.Errorf("unchecked without a size: %+v", r)
		}
		zero := uint64(0)
		r = create(&nfs3.CreateArgs{Where: at("u"), Mode: nfs3.Unchecked, Attr: nfs3.Sattr{Size: &zero}})
		if r.Status != nfs3.OK || r.Attr.Size != 0 {
			t.Errorf("unchecked with size 0: %+v", r)
		}
		want(t, "guarded", create(&nfs3.CreateArgs{Where: at("u"), Mode: nfs3.Guarded}).Status, nfs3.ErrExist)
		want(t, "over a directory", create(&nfs3.CreateArgs{Where: at("."), Mode: nfs3.Unchecked}).Status, nfs3.ErrInval)
	})
	t.Run("nothing stays open", func(t *testing.T) {
		if n := w.fs.Opens(); n != 0 {
			t.Errorf("%d opens", n)
		}
	})
	t.Run("names are bytes", func(t *testing.T) {
		fh := p.mkfile(root, "caf\xe9", 0o644, "")
		l := call3[*nfs3.LookupRes](p, nfs3.ProcLookup, &nfs3.DiropArgs{What: at("caf\xe9")})
		if l.Status != nfs3.OK || l.FH != fh || l.Attr == nil || l.DirAttr == nil {
			t.Errorf("%+v", l)
		}
		want(t, "NUL", call3[*nfs3.LookupRes](p, nfs3.ProcLookup, &nfs3.DiropArgs{What: at("a\x00b")}).Status, nfs3.ErrInval)
		want(t, "slash", call3[*nfs3.LookupRes](p, nfs3.ProcLookup, &nfs3.DiropArgs{What: at("a/b")}).Status, nfs3.ErrInval)
		want(t, "long", call3[*nfs3.LookupRes](p, nfs3.ProcLookup, &nfs3.DiropArgs{What: at(string(bytes.Repeat([]byte("n"), 256)))}).Status, nfs3.ErrNameTooLong)
		want(t, "none", call3[*nfs3.LookupRes](p, nfs3.ProcLookup, &nfs3.DiropArgs{What: at("none")}).Status, nfs3.ErrNoEnt)
		up := call3[*nfs3.LookupRes](p, nfs3.ProcLookup, &nfs3.DiropArgs{What: at("..")})
		if up.Status != nfs3.OK || up.FH != root {
			t.Error(".. of the root leads out of the export")
		}
		want(t, "in a file", call3[*nfs3.LookupRes](p, nfs3.ProcLookup, &nfs3.DiropArgs{What: nfs3.Dirop{Dir: fh, Name: "x"}}).Status, nfs3.ErrNotDir)
	})
	t.Run("directories, links, devices", func(t *testing.T) {
		d := call3[*nfs3.CreateRes](p, nfs3.ProcMkdir, &nfs3.MkdirArgs{Where: at("d")})
		want(t, "MKDIR", d.Status, nfs3.OK)
		if d.Wcc.After == nil || d.Wcc.Before == nil {
			t.Errorf("wcc of a change that was alone: %+v", d.Wcc)
		}
		want(t, "again", call3[*nfs3.CreateRes](p, nfs3.ProcMkdir, &nfs3.MkdirArgs{Where: at("d")}).Status, nfs3.ErrExist)
		want(t, "SYMLINK", call3[*nfs3.CreateRes](p, nfs3.ProcSymlink, &nfs3.SymlinkArgs{Where: at("s"), Target: "to\xe9"}).Status, nfs3.OK)
		l := call3[*nfs3.LookupRes](p, nfs3.ProcLookup, &nfs3.DiropArgs{What: at("s")})
		if r := call3[*nfs3.ReadlinkRes](p, nfs3.ProcReadlink, &nfs3.FHArgs{FH: l.FH}); r.Target != "to\xe9" || r.Attr.Type != nfs3.TypeLnk {
			t.Errorf("%+v", r)
		}
		want(t, "READLINK of a directory", call3[*nfs3.ReadlinkRes](p, nfs3.ProcReadlink, &nfs3.FHArgs{FH: root}).Status, nfs3.ErrInval)
		dev := call3[*nfs3.CreateRes](p, nfs3.ProcMknod, &nfs3.MknodArgs{Where: at("null"), Type: nfs3.TypeChr, Dev: nfs3.Spec{Major: 1, Minor: 3}})
		if dev.Status != nfs3.OK || dev.Attr.Rdev != (nfs3.Spec{Major: 1, Minor: 3}) {
			t.Errorf("%+v", dev)
		}
		want(t, "MKNOD of a file", call3[*nfs3.CreateRes](p, nfs3.ProcMknod, &nfs3.MknodArgs{Where: at("no"), Type: nfs3.TypeReg}).Status, nfs3.ErrBadType)
		fh := p.mkfile(root, "one", 0o644, "1")
		ln := call3[*nfs3.LinkRes](p, nfs3.ProcLink, &nfs3.LinkArgs{File: fh, Link: at("two")})
		if ln.Status != nfs3.OK || ln.Attr.Nlink != 2 {
			t.Errorf("LINK: %+v", ln)
		}
		want(t, "RENAME", call3[*nfs3.RenameRes](p, nfs3.ProcRename, &nfs3.RenameArgs{From: at("two"), To: nfs3.Dirop{Dir: *d.FH, Name: "three"}}).Status, nfs3.OK)
		want(t, "RMDIR of what is not empty", call3[*nfs3.WccRes](p, nfs3.ProcRmdir, &nfs3.DiropArgs{What: at("d")}).Status, nfs3.ErrNotEmpty)
		want(t, "REMOVE of a directory", call3[*nfs3.WccRes](p, nfs3.ProcRemove, &nfs3.DiropArgs{What: at("d")}).Status, nfs3.ErrIsDir)
		want(t, "RMDIR of a file", call3[*nfs3.WccRes](p, nfs3.ProcRmdir, &nfs3.DiropArgs{What: at("one")}).Status, nfs3.ErrNotDir)
		want(t, "RMDIR .", call3[*nfs3.WccRes](p, nfs3.ProcRmdir, &nfs3.DiropArgs{What: at(".")}).Status, nfs3.ErrInval)
		want(t, "REMOVE", call3[*nfs3.WccRes](p, nfs3.ProcRemove, &nfs3.DiropArgs{What: nfs3.Dirop{Dir: *d.FH, Name: "three"}}).Status, nfs3.OK)
		want(t, "RMDIR", call3[*nfs3.WccRes](p, nfs3.ProcRmdir, &nfs3.DiropArgs{What: at("d")}).Status, nfs3.OK)
		want(t, "GETATTR of what was removed", call3[*nfs3.GetattrRes](p, nfs3.ProcGetattr, &nfs3.FHArgs{FH: *d.FH}).Status, nfs3.ErrStale)
		want(t, "a forged handle", call3[*nfs3.GetattrRes](p, nfs3.ProcGetattr, &nfs3.FHArgs{FH: "forged"}).Status, nfs3.ErrBadHandle)
	})
}

func TestReadWriteCommit(t *testing.T) {
	w := newWorld(t, nil)
	p := w.peer(0)
	root := p.root()
	fh := p.mkfile(root, "f", 0o644, "")
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	u := call3[*nfs3.WriteRes](p, nfs3.ProcWrite, &nfs3.WriteArgs{FH: fh, Count: uint32(len(data)), Data: data})
	if u.Status != nfs3.OK || u.Count != 1<<20 || u.Wcc.After == nil || u.Wcc.Before != nil {
		t.Fatalf("%v %d", u.Status, u.Count)
	}
	c := call3[*nfs3.CommitRes](p, nfs3.ProcCommit, &nfs3.CommitArgs{FH: fh})
	if c.Status != nfs3.OK || c.Verf != u.Verf {
		t.Errorf("COMMIT: %+v, WRITE said %v", c, u.Verf)
	}
	r := call3[*nfs3.ReadRes](p, nfs3.ProcRead, &nfs3.ReadArgs{FH: fh, Offset: 16, Count: 1 << 20})
	if r.Status != nfs3.OK || !r.EOF || !bytes.Equal(r.Data, data[16:]) {
		t.Errorf("READ: %v %v %d", r.Status, r.EOF, len(r.Data))
	}
	r = call3[*nfs3.ReadRes](p, nfs3.ProcRead, &nfs3.ReadArgs{FH: fh, Offset: 1 << 40, Count: 10})
	if r.Status != nfs3.OK || !r.EOF || len(r.Data) != 0 {
		t.Errorf("READ beyond the end: %+v", r)
	}
	want(t, "READ of a directory", call3[*nfs3.ReadRes](p, nfs3.ProcRead, &nfs3.ReadArgs{FH: root, Count: 1}).Status, nfs3.ErrIsDir)
	want(t, "a count above the data", call3[*nfs3.WriteRes](p, nfs3.ProcWrite, &nfs3.WriteArgs{FH: fh, Count: 9, Data: []byte("x")}).Status, nfs3.ErrInval)
	want(t, "an offset above all", call3[*nfs3.WriteRes](p, nfs3.ProcWrite, &nfs3.WriteArgs{FH: fh, Offset: 1 << 63, Count: 1, Data: []byte("x")}).Status, nfs3.ErrFBig)
	g := call3[*nfs3.GetattrRes](p, nfs3.ProcGetattr, &nfs3.FHArgs{FH: fh})
	size := uint64(3)
	old := g.Attr.Ctime
	old.Sec--
	want(t, "SETATTR with an old guard", call3[*nfs3.WccRes](p, nfs3.ProcSetattr, &nfs3.SetattrArgs{FH: fh, Attr: nfs3.Sattr{Size: &size}, Guard: &old}).Status, nfs3.ErrNotSync)
	want(t, "with the right one", call3[*nfs3.WccRes](p, nfs3.ProcSetattr, &nfs3.SetattrArgs{FH: fh, Attr: nfs3.Sattr{Size: &size}, Guard: &g.Attr.Ctime}).Status, nfs3.OK)
	if g = call3[*nfs3.GetattrRes](p, nfs3.ProcGetattr, &nfs3.FHArgs{FH: fh}); g.Attr.Size != 3 {
		t.Errorf("size %d", g.Attr.Size)
	}
}

func TestCredentials(t *testing.T) {
	w := newWorld(t, nil)
	rootUser, alice, bob := w.peer(0), w.peer(1000), w.peer(1001)
	root := rootUser.root()
	mode := uint32(0o777)
	want(t, "SETATTR", call3[*nfs3.WccRes](rootUser, nfs3.ProcSetattr, &nfs3.SetattrArgs{FH: root, Attr: nfs3.Sattr{Mode: &mode}}).Status, nfs3.OK)
	fh := alice.mkfile(root, "hers", 0o400, "")
	put := func(p *peer) nfs3.Status {
		return call3[*nfs3.WriteRes](p, nfs3.ProcWrite, &nfs3.WriteArgs{FH: fh, Count: 1, Data: []byte("x")}).Status
	}
	get := func(p *peer) nfs3.Status {
		return call3[*nfs3.ReadRes](p, nfs3.ProcRead, &nfs3.ReadArgs{FH: fh, Count: 1}).Status
	}
	want(t, "the owner writes a file that she made read-only", put(alice), nfs3.OK)
	want(t, "others do not", put(bob), nfs3.ErrAcces)
	want(t, "nor read", get(bob), nfs3.ErrAcces)
	mode = 0o711
	call3[*nfs3.WccRes](alice, nfs3.ProcSetattr, &nfs3.SetattrArgs{FH: fh, Attr: nfs3.Sattr{Mode: &mode}})
	want(t, "who may execute it reads", get(bob), nfs3.OK)
	want(t, "and does not write", put(bob), nfs3.ErrAcces)
	a := call3[*nfs3.AccessRes](bob, nfs3.ProcAccess, &nfs3.AccessArgs{FH: fh, Access: 0x3f})
	if a.Status != nfs3.OK || a.Access != fs.AccessExecute {
		t.Errorf("ACCESS: %+v", a)
	}
	want(t, "chmod by others", call3[*nfs3.WccRes](bob, nfs3.ProcSetattr, &nfs3.SetattrArgs{FH: fh, Attr: nfs3.Sattr{Mode: &mode}}).Status, nfs3.ErrPerm)
}

func TestReadOnlyExport(t *testing.T) {
	w := newWorld(t, func(c *nfsdown.Config) { c.Exports[0].ReadOnly = true })
	p := w.peer(0)
	root := p.root()
	want(t, "CREATE", call3[*nfs3.CreateRes](p, nfs3.ProcCreate, &nfs3.CreateArgs{Where: nfs3.Dirop{Dir: root, Name: "x"}}).Status, nfs3.ErrROFS)
	want(t, "REMOVE", call3[*nfs3.WccRes](p, nfs3.ProcRemove, &nfs3.DiropArgs{What: nfs3.Dirop{Dir: root, Name: "x"}}).Status, nfs3.ErrROFS)
	if a := call3[*nfs3.AccessRes](p, nfs3.ProcAccess, &nfs3.AccessArgs{FH: root, Access: 0x1f}); a.Access != fs.AccessRead|fs.AccessLookup {
		t.Errorf("ACCESS %#x", a.Access)
	}
}

// list reads a directory to its end with replies of at most size bytes.
func list(p *peer, dir nfs3.FH, size uint32, plus bool) (names []string, calls int) {
	p.t.Helper()
	var cookie uint64
	for range 10000 {
		var r *nfs3.ReaddirRes
		if plus {
			r = call3[*nfs3.ReaddirRes](p, nfs3.ProcReaddirplus, &nfs3.ReaddirplusArgs{Dir: dir, Cookie: cookie, DirCount: size, MaxCount: size})
		} else {
			r = call3[*nfs3.ReaddirRes](p, nfs3.ProcReaddir, &nfs3.ReaddirArgs{Dir: dir, Cookie: cookie, Count: size})
		}
		calls++
		if r.Status != nfs3.OK {
			p.t.Fatalf("%v at cookie %d", r.Status, cookie)
		}
		e := xdr.NewEncoder(nil)
		if r.XDR(e); e.Len() > int(size) {
			p.t.Fatalf("a reply of %d bytes, at most %d were wanted", e.Len(), size)
		}
		for _, x := range r.Entries {
			names = append(names, x.Name)
			cookie = x.Cookie
			if plus && (x.Attr == nil || x.FH == nil || x.Attr.FileID != x.FileID) {
				p.t.Fatalf("%+v", x)
			}
		}
		if r.EOF {
			return names, calls
		}
	}
	p.t.Fatal("no end")
	return nil, 0
}

func TestReaddir(t *testing.T) {
	w := newWorld(t, nil)
	p := w.peer(0)
	root := p.root()
	for i := range 200 {
		p.mkfile(root, fmt.Sprintf("entry-%03d", i), 0o644, "")
	}
	for _, c := range []struct {
		size uint32
		plus bool
	}{{512, false}, {4096, false}, {1 << 20, false}, {512, true}, {1024, true}, {32 << 10, true}} {
		names, calls := list(p, root, c.size, c.plus)
		seen := map[string]int{}
		for _, n := range names {
			seen[n]++
		}
		if len(names) != 202 || len(seen) != 202 || names[0] != "." || names[1] != ".." {
			t.Errorf("%+v: %d names, %d different, in %d calls", c, len(names), len(seen), calls)
		}
	}
	want(t, "too small a buffer", call3[*nfs3.ReaddirRes](p, nfs3.ProcReaddirplus, &nfs3.ReaddirplusArgs{Dir: root, DirCount: 64, MaxCount: 128}).Status, nfs3.ErrTooSmall)
	want(t, "a foreign verifier", call3[*nfs3.ReaddirRes](p, nfs3.ProcReaddir, &nfs3.ReaddirArgs{Dir: root, Cookie: 9, Verf: nfs3.Verf{1}, Count: 4096}).Status, nfs3.ErrBadCookie)

	// Entries that go while the directory is read do not make others appear twice or not at all.
	r := call3[*nfs3.ReaddirRes](p, nfs3.ProcReaddir, &nfs3.ReaddirArgs{Dir: root, Count: 2048})
	at := r.Entries[len(r.Entries)-1]
	for _, e := range r.Entries[2:] {
		call3[*nfs3.WccRes](p, nfs3.ProcRemove, &nfs3.DiropArgs{What: nfs3.Dirop{Dir: root, Name: e.Name}})
	}
	rest := call3[*nfs3.ReaddirRes](p, nfs3.ProcReaddir, &nfs3.ReaddirArgs{Dir: root, Cookie: at.Cookie, Count: 1 << 20})
	if len(r.Entries)+len(rest.Entries) != 202 || !rest.EOF {
		t.Errorf("%d and %d entries", len(r.Entries), len(rest.Entries))
	}
}

func TestFilesystem(t *testing.T) {
	w := newWorld(t, nil)
	p := w.peer(0)
	root := p.root()
	i := call3[*nfs3.FsinfoRes](p, nfs3.ProcFsinfo, &nfs3.FHArgs{FH: root})
	if i.Status != nfs3.OK || i.Rtmax == 0 || i.Rtmax > 1<<20 || i.Properties&nfs3.FSFSymlink == 0 {
		t.Errorf("%+v", i)
	}
	if s := call3[*nfs3.FsstatRes](p, nfs3.ProcFsstat, &nfs3.FHArgs{FH: root}); s.Status != nfs3.OK || s.Attr == nil {
		t.Errorf("%+v", s)
	}
	if s := call3[*nfs3.PathconfRes](p, nfs3.ProcPathconf, &nfs3.FHArgs{FH: root}); s.Status != nfs3.OK || s.NameMax != 255 || !s.CasePreserving {
		t.Errorf("%+v", s)
	}
}

func TestEveryCodeHasAStatus(t *testing.T) {
	for c := fs.OK; c < fs.NumCodes; c++ {
		if (statusOf[c] == nfs3.OK) != (c == fs.OK) {
			t.Errorf("%v becomes %v", c, statusOf[c])
		}
	}
}

// What an origin has said is the cause of a backend's error, not its meaning; what our own rules say is the meaning.
func TestStatusOfAnOriginIsNotOurs(t *testing.T) {
	for _, c := range []struct {
		err  error
		want nfs3.Status
	}{
		{fs.E("RENAME", fs.NotEmpty, nfs4.NFS4ERR_NOTEMPTY), nfs3.ErrNotEmpty},
		{fmt.Errorf("on the way: %w", fs.E("LOOKUP", fs.NoEnt, fmt.Errorf("LOOKUP: %w", nfs4.NFS4ERR_NOENT))), nfs3.ErrNoEnt},
		{fs.E("GETATTR", fs.Unreachable, nfs4.NFS4ERR_BADSESSION), nfs3.ErrJukebox},
		{fmt.Errorf("in grace: %w", nfs4.NFS4ERR_GRACE), nfs3.ErrJukebox},
		{nfs4.NFS4ERR_LOCKED, nfs3.ErrAcces},
		{nfs3.ErrXDev, nfs3.ErrXDev},
	} {
		want(t, c.err.Error(), toStatus(c.err), c.want)
	}
}

// record is a call as bytes, with a given xid.
func record(xid, proc uint32, a nfs3.Args) []byte {
	e := xdr.NewEncoder(nil)
	for _, v := range []uint32{xid, 0, 2, nfs3.Program, nfs3.Version, proc, 0, 0, 0, 0} {
		e.Uint32(&v)
	}
	a.XDR(e)
	b := e.Bytes()
	return append(binary.BigEndian.AppendUint32(nil, 1<<31|uint32(len(b))), b...)
}

func reply(t *testing.T, nc net.Conn) []byte {
	t.Helper()
	if err := nc.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(nc, head); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(head)&^(1<<31))
	if _, err := io.ReadFull(nc, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestARetryIsNotRunTwice(t *testing.T) {
	w := newWorld(t, func(c *nfsdown.Config) { c.Exports[0].Clients[0].Access.Squash = nfsdown.AllSquash })
	p := w.peer(0)
	root := p.root()
	dial := func() net.Conn {
		nc, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		return nc
	}
	mode := uint32(0o777)
	if _, err := w.fs.SetAttr(context.Background(), fs.Root, fs.IORef{Handle: inner(root)}, &fs.SetAttr{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	call := record(77, nfs3.ProcMkdir, &nfs3.MkdirArgs{Where: nfs3.Dirop{Dir: root, Name: "once"}})
	a := dial()
	if _, err := a.Write(call); err != nil {
		t.Fatal(err)
	}
	first := reply(t, a)
	_ = a.Close()
	b := dial() // the answer was lost with the connection
	if _, err := b.Write(call); err != nil {
		t.Fatal(err)
	}
	if again := reply(t, b); !bytes.Equal(first, again) {
		t.Errorf("a retry is answered %x, the first was %x", again, first)
	}
	other := record(78, nfs3.ProcMkdir, &nfs3.MkdirArgs{Where: nfs3.Dirop{Dir: root, Name: "once"}})
	if _, err := b.Write(other); err != nil {
		t.Fatal(err)
	}
	if got := reply(t, b); binary.BigEndian.Uint32(got[24:]) != uint32(nfs3.ErrExist) {
		t.Errorf("another request: %x", got)
	}
}

func TestARetryOfARunningRequestWaits(t *testing.T) {
	var d drc
	d.init(2)
	k := drcKey{xid: 1}
	e, first := d.begin(k)
	if again, mine := d.begin(k); !first || mine || again != e {
		t.Fatal("a retry is run beside the first")
	}
	d.end(k, e, []byte("answer"))
	if again, mine := d.begin(k); mine || string(again.reply) != "answer" {
		t.Error("the answer is lost")
	}
	for xid := uint32(2); xid < 4; xid++ {
		k := drcKey{xid: xid}
		e, _ := d.begin(k)
		d.end(k, e, []byte("x"))
	}
	if _, mine := d.begin(k); !mine || len(d.m) != 3 {
		t.Errorf("the oldest is not forgotten: %d entries", len(d.m))
	}
	e, _ = d.begin(drcKey{xid: 9})
	d.end(drcKey{xid: 9}, e, nil)
	if _, mine := d.begin(drcKey{xid: 9}); !mine {
		t.Error("what was told to come later is not run")
	}
}

// What recovers is JUKEBOX.
func TestJukebox(t *testing.T) {
	w := newWorld(t, nil)
	p := w.peer(0)
	root := p.root()
	delay := func(op string) error { return fs.E(op, fs.Delay, nil) }
	w.hook.Store(&delay)
	want(t, "GETATTR", call3[*nfs3.GetattrRes](p, nfs3.ProcGetattr, &nfs3.FHArgs{FH: root}).Status, nfs3.ErrJukebox)
	want(t, "MKDIR", call3[*nfs3.CreateRes](p, nfs3.ProcMkdir, &nfs3.MkdirArgs{Where: nfs3.Dirop{Dir: root, Name: "x"}}).Status, nfs3.ErrJukebox)
}

func FuzzServe(f *testing.F) {
	w := newWorld(f, nil)
	root := w.peer(0).root()
	for proc := uint32(1); proc < nfs3.NumProcs; proc++ {
		e := xdr.NewEncoder(nil)
		switch a := nfs3.NewArgs(proc).(type) {
		case *nfs3.FHArgs:
			a.FH = root
			a.XDR(e)
		case *nfs3.DiropArgs:
			a.What.Dir = root
			a.XDR(e)
		default:
			a.XDR(e)
		}
		f.Add(proc, e.Bytes())
	}
	p := w.peer(1000)
	f.Fuzz(func(t *testing.T, proc uint32, body []byte) {
		_, err := p.raw(nfs3.Program, nfs3.Version, proc%nfs3.NumProcs, rawArgs(body))
		var refused *rpc.AcceptError
		if err != nil && (!errors.As(err, &refused) || refused.Stat != rpc.GARBAGE_ARGS) {
			t.Fatal(err)
		}
	})
}

type rawArgs []byte

func (a rawArgs) XDR(c *xdr.Codec) { b := []byte(a); c.Raw(&b) }
