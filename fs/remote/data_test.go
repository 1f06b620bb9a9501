package remote

import (
	"bytes"
	"context"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

func (r *rig) open(owner, name string) *fs.OpenResult {
	r.t.Helper()
	res, err := r.Open(context.Background(), alice, openReq(owner, r.root(), name))
	r.must(err)
	return res
}

func ioRef(h fs.Handle, owner string) fs.IORef {
	return fs.IORef{Handle: h, Open: fs.Owner{Client: "client", Owner: owner}}
}

func TestLargeTransfersAreSplit(t *testing.T) {
	f := newFake()
	r := newRig(t, f, nil)
	ctx := context.Background()
	h := r.open("o", "f").File
	io := ioRef(h, "o")
	data := make([]byte, 5<<16+123)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	var res fs.WriteResult
	n := r.requests(func() {
		var err error
		res, err = r.Write(ctx, alice, io, 0, data, fs.FileSync)
		r.must(err)
	})
	if res.N != len(data) || res.Committed != fs.FileSync || n != 6 {
		t.Errorf("%+v in %d requests", res, n)
	}
	f.maxRead = 10_000 // the origin gives less than it was asked for
	got := make([]byte, len(data)+1000)
	m, eof, err := r.Read(ctx, alice, io, 0, got)
	r.must(err)
	if m != len(data) || !eof || !bytes.Equal(got[:m], data) {
		t.Errorf("read %d bytes, eof %v", m, eof)
	}
	m, eof, err = r.Read(ctx, alice, io, 100, got[:50])
	if err != nil || m != 50 || eof || !bytes.Equal(got[:50], data[100:150]) {
		t.Errorf("read %d, %v, %v", m, eof, err)
	}
	m, eof, err = r.Read(ctx, alice, io, uint64(len(data)), got[:50])
	if err != nil || m != 0 || !eof {
		t.Errorf("at the end: %d, %v, %v", m, eof, err)
	}
	if ch := r.l.takeChanged(); len(ch) != 0 {
		t.Error("our own writes, side by side, were told as somebody else's")
	}
	a, err := r.GetAttr(ctx, alice, h)
	r.must(err)
	if a.Size != uint64(len(data)) {
		t.Errorf("size %d after our own write", a.Size)
	}
}

func TestPartsOfAWriteHaveOneVerifier(t *testing.T) {
	f := newFake()
	r := newRig(t, f, nil)
	h := r.open("o", "f").File
	writes := 0
	f.fail = func(op nfs4.OpNum) nfs4.Status {
		if op == nfs4.OP_WRITE {
			if writes++; writes == 3 {
				f.verf = nfs4.Verifier{9} // the origin restarted in between
			}
		}
		return nfs4.NFS4_OK
	}
	res, err := r.Write(context.Background(), alice, ioRef(h, "o"), 0, make([]byte, 4<<16), fs.Unstable)
	r.must(err)
	// The parts run in any order, so what has the first one's verifier is not known, but it is not all.
	if res.N >= 4<<16 {
		t.Errorf("%d bytes are said to have one verifier", res.N)
	}
}

func TestIOWithoutTheOpenFails(t *testing.T) {
	r := newRig(t, newFake(), nil)
	ctx := context.Background()
	h := r.open("o", "f").File
	_, _, err := r.Read(ctx, alice, ioRef(h, "other"), 0, make([]byte, 1))
	r.wants(err, fs.BadStateid)
	_, err = r.Write(ctx, alice, ioRef(h, "other"), 0, make([]byte, 1), fs.FileSync)
	r.wants(err, fs.BadStateid)
	_, err = r.Write(ctx, alice, fs.IORef{Handle: h}, 0, make([]byte, 1), fs.FileSync)
	r.must(err) // the anonymous stateid
	r.must(r.CloseFile(ctx, fs.Owner{Client: "client", Owner: "o"}, h))
	r.wants(r.CloseFile(ctx, fs.Owner{Client: "client", Owner: "o"}, h), fs.BadStateid)
}

func TestAWeakerWriteThanAskedForIsAnError(t *testing.T) {
	f := newFake()
	r := newRig(t, f, nil)
	h := r.open("o", "f").File
	f.fail = func(nfs4.OpNum) nfs4.Status { return nfs4.NFS4_OK }
	w := &weakOrigin{f}
	r.up = w
	_, err := r.Write(context.Background(), alice, ioRef(h, "o"), 0, []byte("x"), fs.FileSync)
	r.wants(err, fs.ServerFault) // I7
}

// weakOrigin answers each WRITE as unstable.
type weakOrigin struct{ *fake }

func (w *weakOrigin) IO(ctx context.Context, cred *rpc.Cred, open, lock UpOwner, fh nfs4.FH, ops func(nfs4.Stateid) []nfs4.Args, use func([]nfs4.Res) error) error {
	return w.fake.IO(ctx, cred, open, lock, fh, ops, func(res []nfs4.Res) error {
		for _, x := range res {
			if x, ok := x.(*nfs4.WriteRes); ok {
				x.Committed = nfs4.UNSTABLE4
			}
		}
		return use(res)
	})
}

func TestCloseToOpen(t *testing.T) {
	f := newFake()
	r := newRig(t, f, nil)
	ctx := context.Background()
	h := r.open("o", "f").File
	_, err := r.Write(ctx, alice, ioRef(h, "o"), 0, []byte("mine"), fs.FileSync)
	r.must(err)
	r.l.takeChanged()
	f.behind(func() {
		x := f.files[mustFH2(r, h)]
		x.data = []byte("somebody else's")
		x.change++
	})
	a, err := r.GetAttr(ctx, alice, h)
	r.must(err)
	if a.Size != 4 {
		t.Error("within acregmin the cache was not used")
	}
	res := r.open("o2", "f")
	if res.Attr.Size != 15 {
		t.Error("an open does not see what was closed before it")
	}
	if ch := r.l.takeChanged(); len(ch) != 1 || ch[0] != h {
		t.Errorf("heard of %d changes, want the file's", len(ch))
	}
	if a, err := r.GetAttr(ctx, alice, h); err != nil || a.Size != 15 {
		t.Errorf("%v, %v", a, err)
	}
}

func mustFH2(r *rig, h fs.Handle) nfs4.FH {
	fh, _, _, err := r.seal.open(h)
	r.must(err)
	return fh
}

func TestExclusiveCreateSetsTheRestAfterwards(t *testing.T) {
	f := newFake()
	r := newRig(t, f, nil)
	mode, size := uint32(0o640), uint64(0)
	uid := uint32(5)
	req := &fs.OpenRequest{
		Owner: fs.Owner{Client: "c", Owner: "o"}, Access: fs.ShareBoth, Dir: r.root(), Name: "x", Create: fs.Exclusive,
		Attr: fs.SetAttr{Mode: &mode, Size: &size, UID: &uid}, Verifier: [8]byte{1, 2},
	}
	res, err := r.Open(context.Background(), alice, req)
	r.must(err)
	if how := f.lastHow; how.Mode != nfs4.EXCLUSIVE4_1 || how.Verf != (nfs4.Verifier{1, 2}) || how.Attrs.Mask != nfs4.Bits(nfs4.FATTR4_MODE) {
		t.Errorf("created with %+v", how)
	}
	if f.count[nfs4.OP_SETATTR] != 1 || !res.Created {
		t.Errorf("%d SETATTRs, created %v", f.count[nfs4.OP_SETATTR], res.Created)
	}
	// If that fails the open is given back.
	f.fail = func(op nfs4.OpNum) nfs4.Status {
		if op == nfs4.OP_SETATTR {
			return nfs4.NFS4ERR_PERM
		}
		return nfs4.NFS4_OK
	}
	req.Name, req.Owner.Owner = "y", "o2"
	_, err = r.Open(context.Background(), alice, req)
	r.wants(err, fs.Perm)
	if f.closes != 1 {
		t.Error("an open that nobody knows of is left upstream")
	}
	if _, opens, _ := r.owners.count(); opens != 1 {
		t.Errorf("%d opens are known", opens)
	}
}

func TestCreatedIsTold(t *testing.T) {
	r := newRig(t, newFake(), nil)
	ctx := context.Background()
	req := openReq("o", r.root(), "f")
	mode := uint32(0o600)
	req.Attr.Mode = &mode
	for i, want := range []bool{true, false} {
		res, err := r.Open(ctx, alice, req)
		r.must(err)
		if res.Created != want {
			t.Errorf("open %d: created %v", i, res.Created)
		}
		if !res.MayNotify {
			t.Error("no promise, though denied locks are watched")
		}
	}
	req.Create = fs.Guarded
	_, err := r.Open(ctx, alice, req)
	r.wants(err, fs.Exist)
	req.Access = 0
	_, err = r.Open(ctx, alice, req)
	r.wants(err, fs.Inval)
}

func TestSetAttr(t *testing.T) {
	f := newFake()
	r := newRig(t, f, nil)
	ctx := context.Background()
	h := r.open("o", "f").File
	size, mode := uint64(100), uint32(0o4600)
	a, err := r.SetAttr(ctx, alice, ioRef(h, "o"), &fs.SetAttr{Size: &size, Mode: &mode, MtimeSet: fs.TimeClient, Mtime: time.Unix(5, 7)})
	r.must(err)
	if a.Size != 100 || a.Mode != mode {
		t.Errorf("got %+v", a)
	}
	if n := r.requests(func() { a, err = r.GetAttr(ctx, alice, h); r.must(err) }); n != 0 || a.Size != 100 {
		t.Errorf("our own change is not in the cache: %d requests, size %d", n, a.Size)
	}
	_, err = r.SetAttr(ctx, alice, ioRef(h, "nobody"), &fs.SetAttr{Size: &size})
	r.wants(err, fs.BadStateid)
}

func TestXattrs(t *testing.T) {
	r := newRig(t, newFake(), nil)
	ctx := context.Background()
	h := r.open("o", "f").File
	for _, n := range []string{"a", "b", "c"} {
		_, err := r.SetXattr(ctx, alice, h, n, []byte("v"+n), fs.XattrEither)
		r.must(err)
	}
	if v, err := r.GetXattr(ctx, alice, h, "b"); err != nil || string(v) != "vb" {
		t.Errorf("%q, %v", v, err)
	}
	if l, err := r.ListXattrs(ctx, alice, h); err != nil || len(l) != 3 {
		t.Errorf("%q, %v", l, err)
	}
	_, err := r.GetXattr(ctx, alice, h, "none")
	r.wants(err, fs.NoXattr)
	r.f.info.MinorVersion = 1
	_, err = r.GetXattr(ctx, alice, h, "b")
	r.wants(err, fs.NotSupp)
}

func TestAttributesFromTheWire(t *testing.T) {
	m := newIDMap("example.org")
	m.lookupUser = func(name string) (string, error) {
		if name == "alice" {
			return "1000", nil
		}
		return "", errForged
	}
	m.lookupGroup = m.lookupUser
	f := nfs4.Fattr{
		Mask: attrWanted, Type: nfs4.NF4CHR, Change: 5, Size: 6, FSID: nfs4.FSID{Major: 1, Minor: 2}, FileID: 7, Mode: 0o104755,
		NumLinks: 3, Owner: "alice@EXAMPLE.org", OwnerGroup: "alice@elsewhere", RawDev: nfs4.SpecData{Major: 8, Minor: 9},
		SpaceUsed: 4096, TimeModify: nfs4.Time{Sec: -1, Nsec: 5}, TimeCreate: nfs4.Time{Sec: 1}, MountedOnFileID: 70,
	}
	a, err := m.fromFattr(&f)
	if err != nil {
		t.Fatal(err)
	}
	if a.UID != 1000 || a.GID != nobody || a.Mode != 0o4755 || a.MountedOn != 70 || a.Rdev != (fs.Rdev{Major: 8, Minor: 9}) ||
		!a.Mtime.Equal(time.Unix(-1, 5)) || a.Btime.Unix() != 1 || a.FSID != (fs.FSID{Major: 1, Minor: 2}) || a.Used != 4096 {
		t.Errorf("got %+v", a)
	}
	for s, want := range map[string]uint32{"0": 0, "12": 12, "4294967295": 4294967295, "4294967296": nobody, "01": nobody, "-1": nobody, "+1": nobody, "": nobody, "alice": 1000, "bob@example.org": nobody} {
		if got := m.uid(s); got != want {
			t.Errorf("owner %q is %d, want %d", s, got, want)
		}
	}
	f.Mask = attrNeeded
	if a, err = m.fromFattr(&f); err != nil || a.UID != nobody || a.Nlink != 1 || a.MountedOn != 7 || !a.Btime.IsZero() {
		t.Errorf("with little: %+v, %v", a, err)
	}
	f.Mask.Clear(nfs4.FATTR4_CHANGE)
	if _, err = m.fromFattr(&f); fs.CodeOf(err) != fs.ServerFault {
		t.Errorf("without a change attribute: %v", err)
	}
}

func TestUmaskGoesUpstreamWhereItCan(t *testing.T) {
	mode, umask := uint32(0o666), uint32(0o27)
	s := &fs.SetAttr{Mode: &mode, Umask: &umask}
	if f := setFattr(s, true); f.Mask != nfs4.Bits(nfs4.FATTR4_MODE_UMASK) || f.ModeUmask != (nfs4.ModeUmask{Mode: 0o666, Umask: 0o27}) {
		t.Errorf("%+v", f.ModeUmask)
	}
	if f := setFattr(s, false); f.Mask != nfs4.Bits(nfs4.FATTR4_MODE) || f.Mode != 0o640 {
		t.Errorf("mode %o", f.Mode)
	}
}

func TestBudget(t *testing.T) {
	for _, c := range []struct{ lease, reclaim, want time.Duration }{
		{90 * time.Second, 10 * time.Second, 80 * time.Second}, {90 * time.Second, 0, 90 * time.Second},
		{10 * time.Second, 20 * time.Second, 0}, {10 * time.Second, -5, 10 * time.Second}, {-1, 0, 0},
	} {
		if got := Budget(c.lease, c.reclaim); got != c.want {
			t.Errorf("Budget(%v, %v) = %v, want %v", c.lease, c.reclaim, got, c.want)
		}
	}
}
