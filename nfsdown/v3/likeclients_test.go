//go:build linux

package v3

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/fs"
	"holdfast/fs/local"
	"holdfast/internal/nfs3"
	"holdfast/internal/nlm"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
	"holdfast/nfsdown"
)

// What other clients than Linux ask, in the order in which they do, as their vendors' documentation describes them:
// calls are made by our own encoder, to a directory of this host.

// A host is a client machine: a user of it on a connection, with its lock manager.
type host struct {
	*peer
	root nfs3.FH
}

// localWorld exports dir as /data.
func localWorld(t *testing.T, dir, state string, squash nfsdown.Squash) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("run as root: files belong to other users")
	}
	b, err := local.New(t.Context(), local.Config{Dir: dir, StateDir: state, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	closeLast(t, b)
	return newWorld(t, func(c *nfsdown.Config) {
		c.Exports[0].Backend, c.Exports[0].Clients[0].Access.Squash = b, squash
	})
}

// closeLast closes a backend when its server has been shut down.
func closeLast(t *testing.T, b fs.Backend) {
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func (w *world) host(name string, uid uint32) *host {
	h := &host{peer: w.peer(uid)}
	h.cred.Machine = name
	return h
}

func (h *host) at(name string) nfs3.Dirop { return nfs3.Dirop{Dir: h.root, Name: name} }

// null probes a program, as a client does before it believes the portmapper.
func (h *host) null(prog, vers uint32) {
	h.t.Helper()
	if b, err := h.raw(prog, vers, 0, nil); err != nil || len(b) != 0 {
		h.t.Errorf("NULL of %d.%d: %v %x", prog, vers, err, b)
	}
}

func decode[R nfs3.Args](h *host, b []byte, err error, r R) R {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
	d := xdr.NewDecoder(b)
	if r.XDR(d); d.Err() != nil || d.Len() != 0 {
		h.t.Fatalf("%T: %v, %d bytes left", r, d.Err(), d.Len())
	}
	return r
}

func (h *host) nlm(proc uint32, a nfs3.Args) nlm.Stat {
	h.t.Helper()
	b, err := h.raw(nlm.Program, nlm.V4, proc, a)
	if proc == nlm.ProcShare || proc == nlm.ProcUnshare {
		return decode(h, b, err, new(nlm.ShareRes)).Stat
	}
	return decode(h, b, err, new(nlm.Res)).Stat
}

func (h *host) range4(fh nfs3.FH, svid int32, off, n uint64) nlm.Lock {
	return nlm.Lock{V4: true, Caller: h.cred.Machine, FH: string(fh), OH: fmt.Sprintf("%d@%s", svid, h.cred.Machine), SVID: svid, Offset: off, Len: n}
}

func granted(t *testing.T, what string, got, want nlm.Stat) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func (h *host) lookup(name string) *nfs3.LookupRes {
	h.t.Helper()
	r := call3[*nfs3.LookupRes](h.peer, nfs3.ProcLookup, &nfs3.DiropArgs{What: h.at(name)})
	if r.DirAttr == nil {
		h.t.Errorf("LOOKUP %q says nothing of the directory", name)
	}
	return r
}

func (h *host) getattr(fh nfs3.FH) *nfs3.Fattr {
	h.t.Helper()
	r := call3[*nfs3.GetattrRes](h.peer, nfs3.ProcGetattr, &nfs3.FHArgs{FH: fh})
	if r.Status != nfs3.OK {
		h.t.Fatalf("GETATTR: %v", r.Status)
	}
	return &r.Attr
}

// write writes and checks what a client relies on: how much was written, and attributes that save it a GETATTR.
func (h *host) write(fh nfs3.FH, off uint64, data []byte, stable uint32) nfs3.Verf {
	h.t.Helper()
	r := call3[*nfs3.WriteRes](h.peer, nfs3.ProcWrite, &nfs3.WriteArgs{FH: fh, Offset: off, Count: uint32(len(data)), Stable: stable, Data: data})
	if r.Status != nfs3.OK || r.Count != uint32(len(data)) || r.Committed < stable || r.Wcc.After == nil {
		h.t.Fatalf("WRITE: %+v", r)
	}
	return r.Verf
}

// commit makes what was written with a verifier durable: it is the same one, or the client would write all again.
func (h *host) commit(fh nfs3.FH, verf nfs3.Verf) {
	h.t.Helper()
	r := call3[*nfs3.CommitRes](h.peer, nfs3.ProcCommit, &nfs3.CommitArgs{FH: fh})
	if r.Status != nfs3.OK || r.Verf != verf || r.Wcc.After == nil {
		h.t.Fatalf("COMMIT: %+v, verifier of the writes %x", r, verf)
	}
}

func (h *host) read(fh nfs3.FH, off uint64, n uint32) *nfs3.ReadRes {
	h.t.Helper()
	r := call3[*nfs3.ReadRes](h.peer, nfs3.ProcRead, &nfs3.ReadArgs{FH: fh, Offset: off, Count: n})
	if r.Status != nfs3.OK || r.Attr == nil {
		h.t.Fatalf("READ: %+v", r)
	}
	return r
}

func (h *host) rename(from, to string) {
	h.t.Helper()
	r := call3[*nfs3.RenameRes](h.peer, nfs3.ProcRename, &nfs3.RenameArgs{From: h.at(from), To: h.at(to)})
	if r.Status != nfs3.OK || r.From.After == nil || r.To.After == nil {
		h.t.Fatalf("RENAME %q: %+v", from, r)
	}
}

func (h *host) remove(name string) {
	h.t.Helper()
	want(h.t, "REMOVE "+name, call3[*nfs3.WccRes](h.peer, nfs3.ProcRemove, &nfs3.DiropArgs{What: h.at(name)}).Status, nfs3.OK)
}

// openDir makes a directory that everybody may write to.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// macOS mounts by MNT, FSINFO and PATHCONF, creates exclusively and gives attributes by SETATTR, keeps extended attributes
// in files named "._", saves a document beside the old one and renames it over, and locks by NLM.
func TestLikeMacOS(t *testing.T) {
	dir := openDir(t)
	w := localWorld(t, dir, t.TempDir(), nfsdown.RootSquash)
	mac, other := w.host("mac.local", 501), w.host("mini.local", 501)
	mac.null(nfs3.MountProgram, nfs3.MountV3)
	mac.null(nfs3.Program, nfs3.Version)
	mac.root = mac.peer.root()
	if i := call3[*nfs3.FsinfoRes](mac.peer, nfs3.ProcFsinfo, &nfs3.FHArgs{FH: mac.root}); i.Status != nfs3.OK || i.Rtpref == 0 || i.Wtpref == 0 ||
		i.Dtpref == 0 || i.MaxFileSize < 1<<40 || i.Properties&nfs3.FSFHomogeneous == 0 {
		t.Errorf("FSINFO: %+v", i)
	}
	if c := call3[*nfs3.PathconfRes](mac.peer, nfs3.ProcPathconf, &nfs3.FHArgs{FH: mac.root}); c.Status != nfs3.OK || c.CaseInsensitive || !c.CasePreserving || c.NameMax != 255 {
		t.Errorf("PATHCONF: %+v", c)
	}
	if a := mac.getattr(mac.root); a.Type != nfs3.TypeDir {
		t.Errorf("GETATTR: %+v", a)
	}
	if s := call3[*nfs3.FsstatRes](mac.peer, nfs3.ProcFsstat, &nfs3.FHArgs{FH: mac.root}); s.Status != nfs3.OK || s.Tbytes == 0 || s.Abytes > s.Tbytes {
		t.Errorf("FSSTAT: %+v", s)
	}
	const all = 0x3f
	if a := call3[*nfs3.AccessRes](mac.peer, nfs3.ProcAccess, &nfs3.AccessArgs{FH: mac.root, Access: all}); a.Status != nfs3.OK || a.Access&^all != 0 || a.Access&0x1f != 0x1f {
		t.Errorf("ACCESS: %+v", a)
	}
	for _, name := range []string{".hidden", ".DS_Store", "._.", ".metadata_never_index", ".Spotlight-V100", ".Trashes"} {
		want(t, name, mac.lookup(name).Status, nfs3.ErrNoEnt)
	}
	// CREATE EXCLUSIVE, and again because the answer was late; then SETATTR, since the verifier may lie in the times.
	create := func(h *host, name string, verf byte) *nfs3.CreateRes {
		t.Helper()
		a := &nfs3.CreateArgs{Where: mac.at(name), Mode: nfs3.Exclusive, Verf: nfs3.Verf{'m', 'a', 'c', verf}}
		first := call3[*nfs3.CreateRes](h.peer, nfs3.ProcCreate, a)
		if again := call3[*nfs3.CreateRes](h.peer, nfs3.ProcCreate, a); first.Status != nfs3.OK || again.Status != nfs3.OK || first.FH == nil || *again.FH != *first.FH {
			t.Fatalf("CREATE %q: %+v, and again %+v", name, first, again)
		}
		mode := uint32(0o644)
		s := call3[*nfs3.WccRes](h.peer, nfs3.ProcSetattr, &nfs3.SetattrArgs{FH: *first.FH, Attr: nfs3.Sattr{Mode: &mode,
			Atime: nfs3.SetTime{How: nfs3.SetToServerTime}, Mtime: nfs3.SetTime{How: nfs3.SetToServerTime}}})
		if s.Status != nfs3.OK || s.Wcc.After == nil || s.Wcc.After.Mode != 0o644 || s.Wcc.After.UID != 501 {
			t.Fatalf("SETATTR of %q: %+v", name, s)
		}
		return first
	}
	doc := create(mac, "report.txt", 1)
	text := bytes.Repeat([]byte("some text. "), 6000) // two writes of 32 KiB
	verf := mac.write(*doc.FH, 0, text[:32<<10], 0)
	if again := mac.write(*doc.FH, 32<<10, text[32<<10:], 0); again != verf {
		t.Errorf("two verifiers without a restart: %x and %x", verf, again)
	}
	mac.commit(*doc.FH, verf)
	if a := mac.getattr(*doc.FH); a.Size != uint64(len(text)) {
		t.Errorf("size %d after COMMIT", a.Size)
	}
	// Extended attributes are not of NFSv3: they are in AppleDouble files of 4096 bytes.
	want(t, "AppleDouble", mac.lookup("._report.txt").Status, nfs3.ErrNoEnt)
	double := create(mac, "._report.txt", 2)
	mac.commit(*double.FH, mac.write(*double.FH, 0, append([]byte{0, 5, 0x16, 7, 0, 2, 0, 0}, make([]byte, 4088)...), 0))

	// A document that is saved is made beside the old one, and renamed over it while another host has that open.
	other.root = other.peer.root()
	old := other.lookup("report.txt")
	saved := create(mac, "report.txt.sb-1f2e3d", 3)
	mac.commit(*saved.FH, mac.write(*saved.FH, 0, []byte("saved"), 0))
	mac.rename("report.txt.sb-1f2e3d", "report.txt")
	if l := other.lookup("report.txt"); l.FH != *saved.FH || l.Attr.Size != 5 {
		t.Errorf("the name leads to %+v, not to what was saved", l)
	}
	want(t, "the old one", call3[*nfs3.GetattrRes](other.peer, nfs3.ProcGetattr, &nfs3.FHArgs{FH: old.FH}).Status, nfs3.ErrStale)
	// One that is open is not removed but renamed, and read on.
	mac.rename("report.txt", ".nfs.20051022")
	if r := mac.read(*saved.FH, 0, 100); string(r.Data) != "saved" || !r.EOF {
		t.Errorf("an open file that was removed: %+v", r)
	}
	mac.remove(".nfs.20051022")

	for i := range 60 {
		create(mac, fmt.Sprintf("IMG_%04d.jpeg", i), byte(i))
	}
	names, calls := list(mac.peer, mac.root, 4096, true)
	if len(names) != 2+60+1 || calls < 2 {
		t.Errorf("%d names in %d calls", len(names), calls)
	}
	fh := mac.lookup("IMG_0007.jpeg").FH
	lock := func(h *host, svid int32) nlm.Stat {
		return h.nlm(nlm.ProcLock, &nlm.LockArgs{Cookie: "1", Exclusive: true, Lock: h.range4(fh, svid, 0, 0), State: 1})
	}
	mac.null(nlm.Program, nlm.V4)
	granted(t, "the whole file", lock(mac, 700), nlm.Granted)
	granted(t, "again, as after a lost answer", lock(mac, 700), nlm.Granted)
	granted(t, "another process", lock(mac, 701), nlm.Denied)
	granted(t, "another host, with the same process number", lock(other, 700), nlm.Denied)
	granted(t, "unlock", mac.nlm(nlm.ProcUnlock, &nlm.UnlockArgs{Lock: mac.range4(fh, 700, 0, 0)}), nlm.Granted)
	granted(t, "another host now", lock(other, 700), nlm.Granted)
	granted(t, "unlock", other.nlm(nlm.ProcUnlock, &nlm.UnlockArgs{Lock: other.range4(fh, 700, 0, 0)}), nlm.Granted)
	if _, err := mac.raw(nfs3.MountProgram, nfs3.MountV3, nfs3.MountUmnt, &nfs3.PathArgs{Path: "/data"}); err != nil {
		t.Errorf("UMNT: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "._report.txt")); err != nil || len(b) != 4096 {
		t.Errorf("on the disk: %d bytes, %v", len(b), err)
	}
	if n := w.down.Opens(); len(n) != 0 {
		t.Errorf("opens that stay: %+v", n)
	}
}

// Windows probes every program by NULL, lists exports, is uid and gid -2 unless it knows better, asks for names in several
// spellings of which only one is there, reads directories in small pieces, and shares and locks by NLM, where svid is all
// that tells its processes apart.
func TestLikeWindows(t *testing.T) {
	dir := openDir(t)
	w := localWorld(t, dir, t.TempDir(), nfsdown.RootSquash)
	const nobody = 1<<32 - 2
	pc, other := w.host("WINPC", nobody), w.host("WINSRV", nobody)
	for _, p := range []struct{ prog, vers uint32 }{{nfs3.Program, nfs3.Version}, {nfs3.MountProgram, nfs3.MountV3}, {nfs3.MountProgram, nfs3.MountV1},
		{nlm.Program, nlm.V4}, {nlm.Program, nlm.V1}, {nlm.NSMProgram, nlm.NSMVersion}} {
		pc.null(p.prog, p.vers)
	}
	var mismatch *rpc.AcceptError
	if _, err := pc.raw(nfs3.Program, 2, 0, nil); !errors.As(err, &mismatch) || mismatch.Low != 3 {
		t.Errorf("NFS version 2: %v", err)
	}
	exports := func() []nfs3.ExportEntry {
		b, err := pc.raw(nfs3.MountProgram, nfs3.MountV3, nfs3.MountExport, nil)
		return decode(pc, b, err, new(nfs3.ExportRes)).List
	}
	if l := exports(); len(l) != 1 || l[0].Path != "/data" {
		t.Errorf("EXPORT: %+v", l)
	}
	pc.root = pc.peer.root()
	b, err := pc.raw(nfs3.MountProgram, nfs3.MountV3, nfs3.MountDump, nil)
	if d := decode(pc, b, err, new(nfs3.DumpRes)); len(d.List) != 1 || d.List[0] != (nfs3.MountEntry{Host: "127.0.0.1", Path: "/data"}) {
		t.Errorf("DUMP: %+v", d)
	}
	for _, proc := range []uint32{nfs3.ProcFsinfo, nfs3.ProcFsstat, nfs3.ProcPathconf, nfs3.ProcGetattr} {
		if _, err := pc.raw(nfs3.Program, nfs3.Version, proc, &nfs3.FHArgs{FH: pc.root}); err != nil {
			t.Errorf("%s: %v", nfs3.ProcNames[proc], err)
		}
	}
	for _, name := range []string{"AutoRun.inf", "autorun.inf", "AUTORUN.INF", "Desktop.ini", "desktop.ini", "folder.jpg"} {
		want(t, name, pc.lookup(name).Status, nfs3.ErrNoEnt)
	}

	mode := uint32(0o755)
	made := call3[*nfs3.CreateRes](pc.peer, nfs3.ProcCreate, &nfs3.CreateArgs{Where: pc.at("Letter.doc"), Mode: nfs3.Unchecked, Attr: nfs3.Sattr{Mode: &mode}})
	if made.Status != nfs3.OK || made.FH == nil || made.Attr == nil || made.Attr.UID != nobody || made.Attr.GID != nobody {
		t.Fatalf("CREATE: %+v", made)
	}
	fh := *made.FH
	want(t, "another spelling", pc.lookup("LETTER.DOC").Status, nfs3.ErrNoEnt)
	pc.write(fh, 0, []byte("Dear Sir"), 2)
	// The size is set before what is written, guarded by the time of the last change.
	size := uint64(1 << 20)
	guarded := func(ctime nfs3.Time) nfs3.Status {
		return call3[*nfs3.WccRes](pc.peer, nfs3.ProcSetattr, &nfs3.SetattrArgs{FH: fh, Attr: nfs3.Sattr{Size: &size}, Guard: &ctime}).Status
	}
	now := pc.getattr(fh).Ctime
	want(t, "a guard that is old", guarded(nfs3.Time{Sec: now.Sec - 1, Nsec: now.Nsec}), nfs3.ErrNotSync)
	want(t, "the guard", guarded(now), nfs3.OK)
	if r := pc.read(fh, 4, 8); string(r.Data) != " Sir\x00\x00\x00\x00" {
		t.Errorf("what was extended: %q", r.Data)
	}
	pc.rename("Letter.doc", "letter.doc") // only the spelling
	if l := pc.lookup("letter.doc"); l.FH != fh {
		t.Errorf("after a change of the spelling: %+v", l)
	}

	// What is root's is not for uid -2, whatever ACCESS was asked for.
	if err := os.WriteFile(filepath.Join(dir, "private"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	private := pc.lookup("private")
	if a := call3[*nfs3.AccessRes](pc.peer, nfs3.ProcAccess, &nfs3.AccessArgs{FH: private.FH, Access: 0x3f}); a.Status != nfs3.OK || a.Access != 0 {
		t.Errorf("ACCESS to what is private: %+v", a)
	}
	want(t, "READ of what is private", call3[*nfs3.ReadRes](pc.peer, nfs3.ProcRead, &nfs3.ReadArgs{FH: private.FH, Count: 10}).Status, nfs3.ErrAcces)

	for i := range 40 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("A long name of a file, number %d.txt", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	names, calls := list(pc.peer, pc.root, 1024, true)
	slices.Sort(names)
	if len(names) != 2+2+40 || len(slices.Compact(names)) != 44 || calls < 5 {
		t.Errorf("%d names in %d calls", len(names), calls)
	}

	// LockFile: of one byte far behind the end, and of everything that 64 bits can say.
	lock := func(h *host, svid int32, off, n uint64) nlm.Stat {
		return h.nlm(nlm.ProcLock, &nlm.LockArgs{Cookie: "1", Exclusive: true, Lock: h.range4(fh, svid, off, n), State: 1})
	}
	granted(t, "a byte far away", lock(pc, 0x1234, 0x7ffffffffffffffe, 1), nlm.Granted)
	granted(t, "another process of the same host", lock(pc, 0x5678, 0x7ffffffffffffff0, 0xf), nlm.Denied)
	granted(t, "one with a number below zero, elsewhere", lock(pc, -2, 0, 16), nlm.Granted)
	granted(t, "everything", lock(pc, 0x1234, 0, 1<<64-1), nlm.Denied)
	granted(t, "its own are given back", pc.nlm(nlm.ProcUnlock, &nlm.UnlockArgs{Lock: pc.range4(fh, -2, 0, 16)}), nlm.Granted)
	granted(t, "everything now", lock(pc, 0x1234, 0, 1<<64-1), nlm.Granted)
	granted(t, "and all of it back", pc.nlm(nlm.ProcUnlock, &nlm.UnlockArgs{Lock: pc.range4(fh, 0x1234, 0, 1<<64-1)}), nlm.Granted)

	// An open that denies writing to others is SHARE. The host itself writes, by WRITE and SETATTR; what others write is
	// refused, whether they call themselves something else or nothing.
	share := func(h *host, proc, mode, access uint32) nlm.Stat {
		return h.nlm(proc, &nlm.ShareArgs{Cookie: "1", Caller: h.cred.Machine, FH: string(fh), OH: "1@" + h.cred.Machine, Mode: mode, Access: access})
	}
	const denyWrite, denyBoth, accessRead, accessWrite, accessBoth = 2, 3, 1, 2, 3
	write := func(h *host) nfs3.Status {
		return call3[*nfs3.WriteRes](h.peer, nfs3.ProcWrite, &nfs3.WriteArgs{FH: fh, Count: 4, Stable: 2, Data: []byte("Dear")}).Status
	}
	resize := func(h *host) nfs3.Status {
		return call3[*nfs3.WccRes](h.peer, nfs3.ProcSetattr, &nfs3.SetattrArgs{FH: fh, Attr: nfs3.Sattr{Size: &size}}).Status
	}
	read := func(h *host) nfs3.Status {
		return call3[*nfs3.ReadRes](h.peer, nfs3.ProcRead, &nfs3.ReadArgs{FH: fh, Count: 4}).Status
	}
	granted(t, "read and write, deny writing", share(pc, nlm.ProcShare, denyWrite, accessBoth), nlm.Granted)
	granted(t, "another host for reading", share(other, nlm.ProcShare, 0, accessRead), nlm.Granted)
	granted(t, "for writing", other.nlm(nlm.ProcShare, &nlm.ShareArgs{Caller: "WINSRV", FH: string(fh), OH: "2@WINSRV", Access: accessWrite}), nlm.Denied)
	unnamed := w.host("", nobody)
	for _, h := range []*host{other, unnamed} {
		want(t, "WRITE of another host", write(h), nfs3.ErrAcces)
		want(t, "another size by another host", resize(h), nfs3.ErrAcces)
		want(t, "READ of another host", read(h), nfs3.OK)
	}
	want(t, "WRITE", write(pc), nfs3.OK)
	want(t, "another size", resize(pc), nfs3.OK)
	want(t, "unchecked CREATE with a size", call3[*nfs3.CreateRes](pc.peer, nfs3.ProcCreate, &nfs3.CreateArgs{Where: pc.at("letter.doc"), Mode: nfs3.Unchecked, Attr: nfs3.Sattr{Size: &size}}).Status, nfs3.OK)
	granted(t, "UNSHARE of another host", share(other, nlm.ProcUnshare, 0, accessRead), nlm.Granted)
	granted(t, "UNSHARE", share(pc, nlm.ProcUnshare, denyWrite, accessBoth), nlm.Granted)
	granted(t, "read, deny all", share(pc, nlm.ProcShare, denyBoth, accessRead), nlm.Granted)
	want(t, "READ", read(pc), nfs3.OK)
	want(t, "READ of another host", read(other), nfs3.ErrAcces)
	want(t, "WRITE under an open for reading", write(pc), nfs3.ErrAcces)
	granted(t, "UNSHARE", share(pc, nlm.ProcUnshare, denyBoth, accessRead), nlm.Granted)
	want(t, "WRITE of another host now", write(other), nfs3.OK)
	if _, err := pc.raw(nfs3.MountProgram, nfs3.MountV3, nfs3.MountUmntall, nil); err != nil {
		t.Errorf("UMNTALL: %v", err)
	}
	if n := w.down.Opens(); len(n) != 0 {
		t.Errorf("opens that stay: %+v", n)
	}
}

// ESXi locks by files beside those that are locked: .lck- and the fileid of GETATTR, its lowest byte first. So fileids
// must not change, not by a RENAME and not by a restart of the server; and what one host writes into such a file
// the other one sees.
func TestLikeESXi(t *testing.T) {
	dir, state := openDir(t), t.TempDir()
	var disk nfs3.FH
	var lockName string
	lockOf := func(id uint64) string { return fmt.Sprintf(".lck-%x", binary.LittleEndian.AppendUint64(nil, id)) }
	beat := func(host string, n byte) []byte {
		b := make([]byte, 84)
		b[0] = n
		copy(b[20:], host)
		return b
	}
	t.Run("power on", func(t *testing.T) {
		w := localWorld(t, dir, state, nfsdown.NoRootSquash)
		one, two := w.host("esx1", 0), w.host("esx2", 0)
		for _, h := range []*host{one, two} {
			h.null(nfs3.MountProgram, nfs3.MountV3)
			h.null(nfs3.Program, nfs3.Version)
			h.root = h.peer.root()
			if i := call3[*nfs3.FsinfoRes](h.peer, nfs3.ProcFsinfo, &nfs3.FHArgs{FH: h.root}); i.Status != nfs3.OK || i.Rtmax < 64<<10 || i.Wtmax < 64<<10 {
				t.Errorf("FSINFO: %+v", i)
			}
			if s := call3[*nfs3.FsstatRes](h.peer, nfs3.ProcFsstat, &nfs3.FHArgs{FH: h.root}); s.Status != nfs3.OK || s.Tbytes == 0 {
				t.Errorf("FSSTAT: %+v", s)
			}
		}
		disk = one.mkfile(one.root, "vm-flat.vmdk", 0o600, "")
		size := uint64(8 << 30) // thin
		want(t, "SETATTR", call3[*nfs3.WccRes](one.peer, nfs3.ProcSetattr, &nfs3.SetattrArgs{FH: disk, Attr: nfs3.Sattr{Size: &size}}).Status, nfs3.OK)
		id := one.getattr(disk).FileID
		lockName = lockOf(id)
		lock := one.mkfile(one.root, lockName, 0o644, "")
		one.write(lock, 0, beat("esx1", 1), 2)
		// The other host finds it, and reads who that is, and that he lives.
		want(t, "the other host creates it", call3[*nfs3.CreateRes](two.peer, nfs3.ProcCreate, &nfs3.CreateArgs{Where: two.at(lockOf(two.getattr(disk).FileID)), Mode: nfs3.Guarded}).Status, nfs3.ErrExist)
		found := two.lookup(lockName)
		if r := two.read(found.FH, 0, 512); !bytes.Equal(r.Data, beat("esx1", 1)) || !r.EOF {
			t.Errorf("the lock: %q", r.Data)
		}
		before := two.getattr(found.FH)
		one.write(lock, 0, beat("esx1", 2), 2)
		if r := two.read(found.FH, 0, 512); r.Data[0] != 2 {
			t.Errorf("the heartbeat is not seen: %q", r.Data)
		}
		if after := two.getattr(found.FH); after.FileID != before.FileID || after.Size != 84 {
			t.Errorf("the lock became %+v, it was %+v", after, before)
		}
		// The guest writes, durably, in the middle of nothing.
		block := bytes.Repeat([]byte{0xa5}, 4096)
		one.write(disk, 5<<30, block, 2)
		if r := one.read(disk, 5<<30-4096, 12288); !bytes.Equal(r.Data, slices.Concat(make([]byte, 4096), block, make([]byte, 4096))) {
			t.Errorf("around the block: %d bytes", len(r.Data))
		}
		if a := one.getattr(disk); a.Size != 8<<30 || a.Used > 1<<20 {
			t.Errorf("a thin disk: size %d, used %d", a.Size, a.Used)
		}
		one.rename("vm-flat.vmdk", "vm-000001-flat.vmdk")
		if got := two.lookup("vm-000001-flat.vmdk"); got.FH != disk || got.Attr.FileID != id {
			t.Errorf("a RENAME changed what the lock is named after: %+v", got)
		}
	})
	if t.Failed() || lockName == "" {
		return
	}
	t.Run("the server restarted", func(t *testing.T) {
		w := localWorld(t, dir, state, nfsdown.NoRootSquash)
		one, two := w.host("esx1", 0), w.host("esx2", 0)
		two.root = two.peer.root()
		one.root = two.root // it does not mount again
		if got := lockOf(one.getattr(disk).FileID); got != lockName {
			t.Errorf("the lock would be %s now, it was %s", got, lockName)
		}
		lock := one.lookup(lockName)
		one.write(lock.FH, 0, beat("esx1", 3), 2)
		if r := two.read(two.lookup(lockName).FH, 0, 512); r.Data[0] != 3 {
			t.Errorf("the heartbeat: %q", r.Data)
		}
		names, _ := list(two.peer, two.root, 8192, false)
		if i := slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, ".lck-") }); i < 0 {
			t.Errorf("no lock in %v", names)
		}
		one.remove(lockName) // power off
		two.mkfile(two.root, lockName, 0o644, string(beat("esx2", 1)))
		want(t, "the first host", call3[*nfs3.GetattrRes](one.peer, nfs3.ProcGetattr, &nfs3.FHArgs{FH: lock.FH}).Status, nfs3.ErrStale)
	})
}
