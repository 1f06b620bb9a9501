package nfsdown

import (
	"testing"

	"holdfast/internal/nfs4"
)

// RFC 7530 16.16.6: an OPEN of what is neither a regular file nor a directory is SYMLINK.
func TestV40OpenOfOtherTypes(t *testing.T) {
	w := newWorld(t, nil)
	maker := w.client("maker")
	p := w.peer40("alice")
	for name, typ := range map[string]nfs4.CreateType{
		"link": {Type: nfs4.NF4LNK, Link: "x"}, "socket": {Type: nfs4.NF4SOCK}, "fifo": {Type: nfs4.NF4FIFO},
		"block": {Type: nfs4.NF4BLK, Dev: nfs4.SpecData{Major: 1, Minor: 2}}, "char": {Type: nfs4.NF4CHR, Dev: nfs4.SpecData{Major: 1, Minor: 2}},
	} {
		maker.ok(putroot, &nfs4.CreateArgs{Type: typ, Name: name})
		a := p.openArgs("o", name, 1, 0)
		a.How = nfs4.OpenHow{}
		p.fails40(nfs4.NFS4ERR_SYMLINK, &nfs4.PutrootfhArgs{}, a)
	}
}

// 16.10.5: a lock-owner of a client that nobody knows.
func TestV40LockOfUnknownClient(t *testing.T) {
	w := newWorld(t, nil)
	p := w.peer40("alice")
	fh, sid := p.open40("o", "f", 3, 0)
	a := p.lockArgs(sid, "x", 0, 10)
	a.Locker.LockOwner.ClientID = p.id + 1000
	p.fails40(nfs4.NFS4ERR_STALE_CLIENTID, put(fh), a)
}

// 5.9: a name of nobody is no principal.
func TestEmptyOwnerIsInvalid(t *testing.T) {
	w := newWorld(t, nil)
	fh := w.client("maker").mkfile("f", nil)
	p := w.peer40("alice")
	for _, m := range []nfs4.Bitmap{nfs4.Bits(nfs4.FATTR4_OWNER), nfs4.Bits(nfs4.FATTR4_OWNER_GROUP)} {
		p.fails40(nfs4.NFS4ERR_INVAL, put(fh), &nfs4.SetattrArgs{Attrs: nfs4.Fattr{Mask: m}})
	}
}

// 16.16.5: a file is made with the size that it is to have; of one that is there, only size 0 counts.
func TestV40SizeAtCreation(t *testing.T) {
	w := newWorld(t, nil)
	p := w.peer40("alice")
	for i, c := range [][2]uint64{{32, 32}, {16, 32}, {0, 0}} {
		a := p.openArgs("o", "f", 3, 0)
		a.How.Attrs.Mask = nfs4.Bits(nfs4.FATTR4_MODE, nfs4.FATTR4_SIZE)
		a.How.Attrs.Size = c[0]
		r := p.ok40(&nfs4.PutrootfhArgs{}, a, &nfs4.GetfhArgs{}, &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_SIZE)})
		if got := r[3].(*nfs4.GetattrRes).Attrs.Size; got != c[1] {
			t.Errorf("%d: created with size %d: it is %d, want %d", i, c[0], got, c[1])
		}
		if o := r[1].(*nfs4.OpenRes); o.Rflags&nfs4.OPEN4_RESULT_CONFIRM != 0 {
			p.seq++
			p.ok40(put(r[2].(*nfs4.GetfhRes).FH), &nfs4.OpenConfirmArgs{OpenStateid: o.Stateid, Seqid: p.seq})
		}
	}
}

// 13.1.3.4: a request of more operations than the server takes is refused before any of it is done.
func TestV40LongCompound(t *testing.T) {
	w := newWorld(t, nil)
	p := w.peer40("alice")
	long := []nfs4.Args{&nfs4.PutrootfhArgs{}, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: "d"}}
	for len(long) < maxOps40+1 {
		long = append(long, &nfs4.GetfhArgs{})
	}
	if st, list := p.must(long...); st != nfs4.NFS4ERR_RESOURCE || len(list) != 1 {
		t.Errorf("one too many: %v after %d operations", st, len(list))
	}
	p.fails40(nfs4.NFS4ERR_NOENT, &nfs4.PutrootfhArgs{}, &nfs4.LookupArgs{Name: "d"})
	if list := p.ok40(long[:maxOps40]...); len(list) != maxOps40 {
		t.Errorf("%d operations", len(list))
	}
}
