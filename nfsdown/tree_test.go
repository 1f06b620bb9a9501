package nfsdown

import (
	"context"
	"slices"
	"testing"

	"holdfast/fs"
	"holdfast/fs/fstest/memfs"
	"holdfast/internal/nfs4"
)

func open2(list ...string) []ClientRule {
	var out []ClientRule
	for _, l := range list {
		out = append(out, ClientRule{l, Access{RW: true, Squash: NoRootSquash}})
	}
	return out
}

// exports makes a name space with several exports, one of which lies in another.
func exportsWorld(t *testing.T) (*world, map[string]*memfs.FS) {
	backends := map[string]*memfs.FS{}
	w := newWorld(t, func(cfg *Config) {
		cfg.Exports = nil
		for _, e := range []Export{
			{Path: "/srv/a", Clients: open2("*")}, {Path: "/srv/b", Clients: open2("*")}, {Path: "/c", Clients: open2("*")},
			{Path: "/srv/a/deep/inner", Clients: open2("*")}, {Path: "/srv/closed", Clients: open2("192.0.2.1")},
			{Path: "/hidden/closed", Clients: open2("192.0.2.0/24")},
		} {
			b := memfs.New()
			backends[e.Path], e.Backend = b, b
			cfg.Exports = append(cfg.Exports, e)
		}
		ctx := context.Background()
		a := backends["/srv/a"]
		root, _ := a.Root(ctx)
		deep, _, _, err := a.Create(ctx, fs.Root, root, "deep", &fs.CreateRequest{Type: fs.Directory})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := a.Create(ctx, fs.Root, deep, "inner", &fs.CreateRequest{Type: fs.Directory}); err != nil {
			t.Fatal(err)
		}
	})
	return w, backends
}

func names(r *nfs4.ReaddirRes) []string {
	var out []string
	for _, e := range r.Entries {
		out = append(out, e.Name)
	}
	slices.Sort(out)
	return out
}

func TestPseudoFileSystem(t *testing.T) {
	w, _ := exportsWorld(t)
	p := w.client("alice")
	req := nfs4.Bits(nfs4.FATTR4_FSID, nfs4.FATTR4_FILEID, nfs4.FATTR4_MOUNTED_ON_FILEID, nfs4.FATTR4_TYPE)
	list := func(path ...string) *nfs4.ReaddirRes {
		t.Helper()
		return last[*nfs4.ReaddirRes](p.ok(with(at(path...), &nfs4.ReaddirArgs{MaxCount: 8000, Request: req})...))
	}
	attr := func(path ...string) nfs4.Fattr {
		t.Helper()
		return last[*nfs4.GetattrRes](p.ok(with(at(path...), &nfs4.GetattrArgs{Request: req})...)).Attrs
	}
	// Only what leads to an export of ours is seen.
	if got := names(list()); !slices.Equal(got, []string{"c", "srv"}) {
		t.Errorf("root: %q", got)
	}
	if got := names(list("srv")); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("/srv: %q", got)
	}
	p.fails(nfs4.NFS4ERR_NOENT, at("hidden")...)
	p.fails(nfs4.NFS4ERR_NOENT, at("srv", "closed")...)
	p.fails(nfs4.NFS4ERR_NOENT, at("none")...)

	// Every export is a file system of its own; what it covers has the id that READDIR shows.
	root, a, b, inner := attr(), attr("srv", "a"), attr("srv", "b"), attr("srv", "a", "deep", "inner")
	if root.FSID == a.FSID || a.FSID == b.FSID || inner.FSID == a.FSID || attr("srv", "a", "deep").FSID != a.FSID {
		t.Errorf("fsids: %v %v %v %v", root.FSID, a.FSID, b.FSID, inner.FSID)
	}
	for _, e := range list("srv").Entries {
		if e.Name == "a" && (e.Attrs.FSID != a.FSID || e.Attrs.MountedOnFileID != a.MountedOnFileID || e.Attrs.FileID != a.FileID) {
			t.Errorf("entry %+v, attributes %+v", e.Attrs, a)
		}
	}
	if a.MountedOnFileID == a.FileID {
		t.Error("the root of an export covers nothing")
	}
	if got := names(list("srv", "a", "deep")); !slices.Equal(got, []string{"inner"}) {
		t.Errorf("/srv/a/deep: %q", got)
	}
	// Up again, over each border.
	for path, want := range map[string][]string{"inner": {"srv", "a", "deep"}, "deep": {"srv", "a"}, "a": {"srv"}, "srv": nil} {
		full := map[string][]string{"inner": {"srv", "a", "deep", "inner"}, "deep": {"srv", "a", "deep"}, "a": {"srv", "a"}, "srv": {"srv"}}[path]
		up := last[*nfs4.GetfhRes](p.ok(with(at(full...), &nfs4.LookuppArgs{}, &nfs4.GetfhArgs{})...)).FH
		if up != p.fh(want...) {
			t.Errorf("the parent of %v is not %v", full, want)
		}
	}
	p.fails(nfs4.NFS4ERR_NOENT, putroot, &nfs4.LookuppArgs{})
	// A handle of a directory on the way still leads into the inner export.
	deep := p.fh("srv", "a", "deep")
	if got := last[*nfs4.GetattrRes](p.ok(put(deep), &nfs4.LookupArgs{Name: "inner"}, &nfs4.GetattrArgs{Request: req})).Attrs; got.FSID != inner.FSID {
		t.Errorf("through the handle: %v", got.FSID)
	}
	// Nothing can be changed where there are no files, nor where an export lies.
	mkdir := &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: "x"}
	p.fails(nfs4.NFS4ERR_ROFS, putroot, mkdir)
	p.fails(nfs4.NFS4ERR_ROFS, putroot, openArgs("o", "f", 1, 0))
	p.fails(nfs4.NFS4ERR_ISDIR, putroot, openArgs("o", "srv", 1, 0))
	p.fails(nfs4.NFS4ERR_ISDIR, putroot, &nfs4.ReadArgs{Count: 1})
	p.fails(nfs4.NFS4ERR_FILE_OPEN, with(at("srv", "a", "deep"), &nfs4.RemoveArgs{Name: "inner"})...)
	p.fails(nfs4.NFS4ERR_FILE_OPEN, with(at("srv", "a"), &nfs4.SavefhArgs{}, &nfs4.RenameArgs{OldName: "deep", NewName: "d"})...)
	p.fails(nfs4.NFS4ERR_XDEV, with(at("srv", "a"), &nfs4.SavefhArgs{}, putroot, &nfs4.LookupArgs{Name: "c"}, &nfs4.RenameArgs{OldName: "deep", NewName: "d"})...)
	if r := last[*nfs4.AccessRes](p.ok(putroot, &nfs4.AccessArgs{Access: 0x3f})); r.Access != nfs4.ACCESS4_READ|nfs4.ACCESS4_LOOKUP {
		t.Errorf("ACCESS %x", r.Access)
	}
}

func TestReload(t *testing.T) {
	w, backends := exportsWorld(t)
	p := w.client("alice")
	c, b := p.fh("c"), p.fh("srv", "b")
	err := w.srv.ReloadExports(context.Background(), []Export{{Path: "/c", Backend: backends["/c"], ReadOnly: true}})
	if err != nil {
		t.Fatal(err)
	}
	p.fails(nfs4.NFS4ERR_STALE, put(b))
	p.ok(put(c), &nfs4.GetattrArgs{})
	p.fails(nfs4.NFS4ERR_ROFS, put(c), &nfs4.RemoveArgs{Name: "x"})
	for _, bad := range [][]Export{
		{{Path: "/c", Backend: backends["/c"]}, {Path: "/c/", Backend: backends["/c"], ID: 1}},
		{{Path: "/c", Backend: backends["/c"], ID: 1}, {Path: "/d", Backend: backends["/c"], ID: 1}},
		{{Path: "/c"}},
		{{Path: "/c", Backend: backends["/c"], Clients: open2("10.0.0.0/40")}},
		{{Path: "/c", Backend: backends["/c"], Clients: open2("10.0.0.0/255.0.255.0")}},
	} {
		if err := w.srv.ReloadExports(context.Background(), bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	p.ok(put(c), &nfs4.GetattrArgs{})
}
