package remote_test

import (
	"slices"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/fs/fstest/memfs"
	"holdfast/nfsdown/state"
)

// TestACLsPassThrough: over the origin's server, its wire, and a mount of a mount.
func TestACLsPassThrough(t *testing.T) {
	st := state.Config{Lease: 30 * time.Second}
	one := serve(t, memfs.NewListed(memfs.New()), t.TempDir(), nil, "", st)
	m1 := site{one.addr, "/export"}.mount(t, t.TempDir(), nil)
	two := serve(t, m1.Remote, t.TempDir(), nil, "", st)
	m2 := site{two.addr, "/export"}.mount(t, t.TempDir(), nil)

	ctx := t.Context()
	dir, _, _, err := m2.Create(ctx, root, m2.root, "d", &fs.CreateRequest{Type: fs.Directory})
	must(t, err)
	support, err := m2.ACLSupport(ctx, dir)
	if err != nil || support != 3 {
		t.Fatalf("aclsupport %d, %v", support, err)
	}
	want := []fs.ACE{
		{Type: 0, Flag: 0x3, Mask: 0x1f01ff, Who: "OWNER@"}, {Type: 1, Mask: 2, Who: "ann@example.org"}, {Flag: 0x40, Mask: 0x120089, Who: "100"},
	}
	must(t, m2.SetACL(ctx, root, dir, want))
	for _, m := range []*mounted{m1, m2} {
		h, _, err := m.Lookup(ctx, root, m.root, "d")
		must(t, err)
		if got, err := m.GetACL(ctx, root, h); err != nil || !slices.Equal(got, want) {
			t.Errorf("%+v %v", got, err)
		}
	}
	wants(t, m2.SetACL(ctx, root, dir, []fs.ACE{{Who: "zoe@nowhere"}}), fs.BadOwner)
	must(t, m2.SetACL(ctx, root, dir, nil))
	if got, err := m2.GetACL(ctx, root, dir); err != nil || len(got) != 0 {
		t.Errorf("an empty list: %+v %v", got, err)
	}
}

// TestNoACLs: where the file system has none, nobody pretends.
func TestNoACLs(t *testing.T) {
	srv := serve(t, memfs.New(), t.TempDir(), nil, "", state.Config{Lease: 30 * time.Second})
	m := site{srv.addr, "/export"}.mount(t, t.TempDir(), nil)
	support, err := m.ACLSupport(t.Context(), m.root)
	if err != nil || support != 0 {
		t.Errorf("aclsupport %d, %v", support, err)
	}
	_, err = m.GetACL(t.Context(), root, m.root)
	wants(t, err, fs.NotSupp)
	wants(t, m.SetACL(t.Context(), root, m.root, []fs.ACE{{Who: "OWNER@"}}), fs.AttrNotSupp)
}
