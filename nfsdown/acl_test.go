package nfsdown

import (
	"slices"
	"testing"

	"holdfast/fs/fstest/memfs"
	"holdfast/internal/nfs4"
)

var onlyACL = nfs4.Bits(nfs4.FATTR4_ACL)

func listedWorld(t *testing.T, edit func(*Config)) (*world, *memfs.Listed) {
	var l *memfs.Listed
	w := newWorld(t, func(c *Config) {
		l = memfs.NewListed(c.Exports[0].Backend.(*memfs.FS))
		c.Exports[0].Backend = l
		if edit != nil {
			edit(c)
		}
	})
	return w, l
}

// aclOf is the list and the mode of a file.
func aclOf(p *peer, name string) ([]nfs4.ACE, uint32) {
	p.t.Helper()
	a := last[*nfs4.GetattrRes](p.ok(with(at(name), &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_ACL, nfs4.FATTR4_MODE)})...)).Attrs
	if !a.Mask.Has(nfs4.FATTR4_ACL) {
		p.t.Fatalf("%s has no list", name)
	}
	return a.ACL, a.Mode
}

// TestACLAtCreation: a list that is given with a new file is set before the answer, and until then nobody gets in.
func TestACLAtCreation(t *testing.T) {
	w, _ := listedWorld(t, nil)
	p := w.client("alice")
	list := []nfs4.ACE{{Mask: 1, Who: "OWNER@"}, {Type: 1, Mask: 2, Who: "EVERYONE@"}}
	given := nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_ACL, nfs4.FATTR4_MODE), Mode: 0o4755, ACL: list}
	create := func(name string, mode uint32, attrs nfs4.Fattr) []nfs4.Args {
		return []nfs4.Args{putroot, &nfs4.OpenArgs{ShareAccess: 3, Owner: nfs4.StateOwner{ClientID: p.id, Owner: "o"},
			How: nfs4.OpenHow{Type: nfs4.OPEN4_CREATE, Mode: mode, Attrs: attrs}, Claim: nfs4.OpenClaim{Type: nfs4.CLAIM_NULL, File: name}}}
	}
	if set := last[*nfs4.OpenRes](p.ok(create("f", nfs4.GUARDED4, given)...)).AttrSet; !set.Contains(given.Mask) {
		t.Errorf("attrset %v", set)
	}
	if got, mode := aclOf(p, "f"); !slices.Equal(got, list) || mode != 0o4000 {
		t.Errorf("a new file: %v, mode %o", got, mode)
	}
	// One that is there keeps its own.
	other := nfs4.Fattr{Mask: onlyACL, ACL: []nfs4.ACE{{Mask: 4, Who: "7"}}}
	if set := last[*nfs4.OpenRes](p.ok(create("f", nfs4.UNCHECKED4, other)...)).AttrSet; set.Has(nfs4.FATTR4_ACL) {
		t.Errorf("attrset %v of a file that was there", set)
	}
	if got, _ := aclOf(p, "f"); !slices.Equal(got, list) {
		t.Errorf("the list of a file that was there became %v", got)
	}
	// A list that cannot be kept: the file is open, and attrset says that the list is missing.
	bad := nfs4.Fattr{Mask: onlyACL, ACL: []nfs4.ACE{{Who: "zoe@nowhere"}}}
	if set := last[*nfs4.OpenRes](p.ok(create("g", nfs4.GUARDED4, bad)...)).AttrSet; set.Has(nfs4.FATTR4_ACL) {
		t.Errorf("attrset %v", set)
	}
	if got, mode := aclOf(p, "g"); len(got) != 0 || mode != 0 {
		t.Errorf("without its list: %v, mode %o", got, mode)
	}
	mkdir := func(name string, attrs nfs4.Fattr) []nfs4.Args {
		return []nfs4.Args{putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: name, Attrs: attrs}}
	}
	if set := last[*nfs4.CreateRes](p.ok(mkdir("d", given)...)).AttrSet; !set.Contains(given.Mask) {
		t.Errorf("attrset %v", set)
	}
	if got, _ := aclOf(p, "d"); !slices.Equal(got, list) {
		t.Errorf("a new directory: %v", got)
	}
	p.fails(nfs4.NFS4ERR_BADOWNER, mkdir("e", bad)...)
	p.fails(nfs4.NFS4ERR_NOENT, putroot, &nfs4.LookupArgs{Name: "e"})
	// An entry that cannot be stored (RFC 8881 6.2.1.2).
	audit := nfs4.Fattr{Mask: onlyACL, ACL: []nfs4.ACE{{Type: nfs4.ACE4_SYSTEM_AUDIT_ACE_TYPE, Mask: 1, Who: "EVERYONE@"}}}
	p.fails(nfs4.NFS4ERR_ATTRNOTSUPP, with(at("f"), &nfs4.SetattrArgs{Attrs: audit})...)
	p.fails(nfs4.NFS4ERR_ATTRNOTSUPP, mkdir("e", audit)...)
	if got, _ := aclOf(p, "f"); !slices.Equal(got, list) {
		t.Errorf("a list that was refused: %v", got)
	}
	p.fails(nfs4.NFS4ERR_ATTRNOTSUPP, putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4LNK, Link: "f"}, Name: "l", Attrs: given})
	// What kinds of lists there are cannot be set where it can be asked for, and is unknown elsewhere (RFC 8881 5.5).
	kinds := &nfs4.SetattrArgs{Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_ACLSUPPORT), ACLSupport: 1}}
	p.fails(nfs4.NFS4ERR_INVAL, with(at("f"), kinds)...)
	p.fails(nfs4.NFS4ERR_INVAL, mkdir("k", kinds.Attrs)...)
	plain := newWorld(t, nil).client("alice")
	plain.mkfile("f", nil)
	plain.fails(nfs4.NFS4ERR_ATTRNOTSUPP, with(at("f"), kinds)...)
}

// TestACLNames: numbers of the backend are names outside where this host knows them, and the other way round;
// whom it does not know, and special ones, go through as they are.
func TestACLNames(t *testing.T) {
	w, l := listedWorld(t, func(c *Config) { c.IDDomain, c.Names = "example.org", testIDs{} })
	p := w.client("alice")
	fh := p.mkfile("f", nil)
	list := []nfs4.ACE{{Mask: 1, Who: "OWNER@"}, {Mask: 1, Who: "ann@example.org"}, {Mask: 1, Flag: nfs4.ACE4_IDENTIFIER_GROUP, Who: "staff@example.org"},
		{Mask: 1, Who: "4711"}, {Mask: 1, Who: "zoe@elsewhere"}}
	p.ok(&nfs4.PutfhArgs{FH: fh}, &nfs4.SetattrArgs{Attrs: nfs4.Fattr{Mask: onlyACL, ACL: list}})
	var kept []string
	for _, acl := range l.Lists() {
		for _, a := range acl {
			kept = append(kept, a.Who)
		}
	}
	if want := []string{"OWNER@", "7", "70", "4711", "zoe@elsewhere"}; !slices.Equal(kept, want) {
		t.Errorf("the backend got %v, want %v", kept, want)
	}
	if got, _ := aclOf(p, "f"); !slices.Equal(got, list) {
		t.Errorf("read back: %v", got)
	}
}
