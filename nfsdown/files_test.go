package nfsdown

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

func TestNamesAreBytes(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	for name, want := range map[string]nfs4.Status{
		"": nfs4.NFS4ERR_INVAL, ".": nfs4.NFS4ERR_BADNAME, "..": nfs4.NFS4ERR_BADNAME, "a/b": nfs4.NFS4ERR_BADCHAR, "a\x00": nfs4.NFS4ERR_BADCHAR,
		strings.Repeat("n", 256): nfs4.NFS4ERR_NAMETOOLONG, "none": nfs4.NFS4ERR_NOENT,
	} {
		p.fails(want, putroot, &nfs4.LookupArgs{Name: name})
		p.fails(want, putroot, &nfs4.RemoveArgs{Name: name})
		p.fails(want, putroot, &nfs4.SecinfoArgs{Name: name})
		if want != nfs4.NFS4ERR_NOENT {
			p.fails(want, putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: name})
			p.fails(want, putroot, openArgs("o", name, 1, 0))
			p.fails(want, putroot, &nfs4.SavefhArgs{}, &nfs4.RenameArgs{OldName: name, NewName: "x"})
			p.fails(want, putroot, &nfs4.SavefhArgs{}, &nfs4.RenameArgs{OldName: "x", NewName: name})
		}
	}
	for _, name := range []string{"\xff\xfe", "ä", strings.Repeat("n", 255), " "} {
		p.ok(putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: name}, putroot, &nfs4.LookupArgs{Name: name})
	}
}

func TestCreateRenameLinkRemove(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	mode := nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 0o750}
	list := p.ok(putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: "d", Attrs: mode},
		&nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_MODE, nfs4.FATTR4_TYPE)})
	if c := list[1].(*nfs4.CreateRes); c.AttrSet != mode.Mask || !c.Cinfo.Atomic || c.Cinfo.After == c.Cinfo.Before {
		t.Errorf("CREATE: %+v", c)
	}
	if a := last[*nfs4.GetattrRes](list).Attrs; a.Mode != 0o750 || a.Type != nfs4.NF4DIR {
		t.Errorf("mode %o, type %v", a.Mode, a.Type)
	}
	p.ok(putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4LNK, Link: "to/where"}, Name: "l"})
	if r := last[*nfs4.ReadlinkRes](p.ok(with(at("l"), &nfs4.ReadlinkArgs{})...)); r.Link != "to/where" {
		t.Errorf("READLINK: %q", r.Link)
	}
	p.ok(putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4CHR, Dev: nfs4.SpecData{Major: 1, Minor: 3}}, Name: "null"})
	if r := last[*nfs4.GetattrRes](p.ok(with(at("null"), &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_RAWDEV)})...)); r.Attrs.RawDev != (nfs4.SpecData{Major: 1, Minor: 3}) {
		t.Errorf("device: %v", r.Attrs.RawDev)
	}
	p.fails(nfs4.NFS4ERR_EXIST, putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: "d"})
	p.fails(nfs4.NFS4ERR_BADTYPE, putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4REG}, Name: "f"})
	p.fails(nfs4.NFS4ERR_BADTYPE, putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: 77}, Name: "f"})
	p.fails(nfs4.NFS4ERR_INVAL, putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4LNK}, Name: "f"})
	p.mkfile("f", []byte("data"))
	p.ok(with(at("f"), &nfs4.SavefhArgs{}, putroot, &nfs4.LookupArgs{Name: "d"}, &nfs4.LinkArgs{NewName: "g"})...)
	p.ok(putroot, &nfs4.SavefhArgs{}, &nfs4.LookupArgs{Name: "d"}, &nfs4.RenameArgs{OldName: "f", NewName: "h"})
	p.fails(nfs4.NFS4ERR_NOENT, at("f")...)
	if a, b := p.fh("d", "g"), p.fh("d", "h"); a != b {
		t.Errorf("two names, two handles: %v, %v", a, b)
	}
	p.fails(nfs4.NFS4ERR_NOTEMPTY, putroot, &nfs4.RemoveArgs{Name: "d"})
	p.ok(with(at("d"), &nfs4.RemoveArgs{Name: "g"}, &nfs4.RemoveArgs{Name: "h"}, putroot, &nfs4.RemoveArgs{Name: "d"})...)
	p.fails(nfs4.NFS4ERR_NOTDIR, with(at("null"), &nfs4.LookupArgs{Name: "x"})...)
	p.fails(nfs4.NFS4ERR_SYMLINK, with(at("l"), &nfs4.LookupArgs{Name: "x"})...)
	p.ok(with(at("null"), &nfs4.SecinfoNoNameArgs{})...)
	p.fails(nfs4.NFS4ERR_NOFILEHANDLE, putroot, &nfs4.SecinfoNoNameArgs{}, &nfs4.GetfhArgs{}) // it consumes the handle
	p.fails(nfs4.NFS4ERR_NOENT, putroot, &nfs4.SecinfoNoNameArgs{Style: nfs4.SECINFO_STYLE4_PARENT})
}

func TestOpenModes(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	guarded := openArgs("o", "f", 1, 0)
	guarded.How.Mode = nfs4.GUARDED4
	r := p.ok(putroot, guarded)[1].(*nfs4.OpenRes)
	if r.AttrSet != nfs4.Bits(nfs4.FATTR4_MODE) || r.Delegation.Type != nfs4.OPEN_DELEGATE_NONE || r.Rflags&nfs4.OPEN4_RESULT_MAY_NOTIFY_LOCK == 0 {
		t.Errorf("OPEN: %+v", r)
	}
	p.fails(nfs4.NFS4ERR_EXIST, putroot, guarded)
	// EXCLUSIVE4_1 twice with one verifier is one creation, with another it is EXIST.
	excl := openArgs("o", "x", 1, 0)
	excl.How.Mode, excl.How.Verf = nfs4.EXCLUSIVE4_1, nfs4.Verifier{7}
	p.ok(putroot, excl)
	p.ok(putroot, excl)
	excl.How.Verf = nfs4.Verifier{8}
	p.fails(nfs4.NFS4ERR_EXIST, putroot, excl)
	excl.How.Attrs = nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_TIME_MODIFY_SET)}
	p.fails(nfs4.NFS4ERR_INVAL, putroot, excl)
	// Unchecked with size 0 truncates.
	p.mkfile("big", make([]byte, 10))
	trunc := openArgs("o2", "big", 2, 0)
	trunc.How.Attrs = nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_SIZE)}
	list := p.ok(putroot, trunc, &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_SIZE)})
	if last[*nfs4.GetattrRes](list).Attrs.Size != 0 || list[1].(*nfs4.OpenRes).AttrSet != nfs4.Bits(nfs4.FATTR4_SIZE) {
		t.Errorf("not truncated: %+v", list[1])
	}
	noCreate := &nfs4.OpenArgs{ShareAccess: 1, Owner: nfs4.StateOwner{Owner: "o"}, Claim: nfs4.OpenClaim{File: "none"}}
	p.fails(nfs4.NFS4ERR_NOENT, putroot, noCreate)
	p.fails(nfs4.NFS4ERR_INVAL, putroot, openArgs("o", "f", 0, 0))
	p.fails(nfs4.NFS4ERR_INVAL, putroot, openArgs("o", "f", 1, 4))
	p.ok(putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: "d"})
	noCreate.Claim.File = "d"
	p.fails(nfs4.NFS4ERR_ISDIR, putroot, noCreate)
	byFH := &nfs4.OpenArgs{ShareAccess: 1 | nfs4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG, Owner: nfs4.StateOwner{Owner: "o"}, Claim: nfs4.OpenClaim{Type: nfs4.CLAIM_FH}}
	p.fails(nfs4.NFS4ERR_ISDIR, putroot, byFH)
	r = last[*nfs4.OpenRes](p.ok(with(at("f"), byFH)...))
	if r.Delegation.Type != nfs4.OPEN_DELEGATE_NONE_EXT || r.Delegation.Why != nfs4.WND4_NOT_WANTED {
		t.Errorf("delegation: %+v", r.Delegation)
	}
	for claim, want := range map[uint32]nfs4.Status{
		nfs4.CLAIM_DELEGATE_CUR: nfs4.NFS4ERR_BAD_STATEID, nfs4.CLAIM_DELEG_CUR_FH: nfs4.NFS4ERR_BAD_STATEID,
		nfs4.CLAIM_DELEGATE_PREV: nfs4.NFS4ERR_NOTSUPP, nfs4.CLAIM_DELEG_PREV_FH: nfs4.NFS4ERR_NOTSUPP, nfs4.CLAIM_PREVIOUS: nfs4.NFS4ERR_NO_GRACE,
	} {
		p.fails(want, with(at("f"), &nfs4.OpenArgs{ShareAccess: 1, Owner: nfs4.StateOwner{Owner: "o"}, Claim: nfs4.OpenClaim{Type: claim, File: "f"}})...)
	}
}

func TestShareReservations(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.client("alice"), w.client("bob")
	list := a.ok(putroot, openArgs("o", "f", nfs4.OPEN4_SHARE_ACCESS_BOTH, nfs4.OPEN4_SHARE_DENY_WRITE))
	sid := list[1].(*nfs4.OpenRes).Stateid
	b.fails(nfs4.NFS4ERR_SHARE_DENIED, putroot, openArgs("o", "f", nfs4.OPEN4_SHARE_ACCESS_WRITE, 0))
	b.ok(putroot, openArgs("o", "f", nfs4.OPEN4_SHARE_ACCESS_READ, 0))
	trunc := openArgs("o", "f", nfs4.OPEN4_SHARE_ACCESS_WRITE, 0)
	trunc.How.Attrs = nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_SIZE)}
	a.ok(with(at("f"), &nfs4.WriteArgs{Stateid: sid, Data: []byte("keep")})...)
	b.fails(nfs4.NFS4ERR_SHARE_DENIED, putroot, trunc)
	if r := last[*nfs4.GetattrRes](a.ok(with(at("f"), &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_SIZE)})...)); r.Attrs.Size != 4 {
		t.Errorf("a refused open truncated the file to %d bytes", r.Attrs.Size)
	}
	b.fails(nfs4.NFS4ERR_LOCKED, with(at("f"), &nfs4.WriteArgs{Data: []byte("x")})...)
	list = a.ok(with(at("f"), &nfs4.OpenDowngradeArgs{OpenStateid: sid, ShareAccess: 3, ShareDeny: 2})...)
	sid = last[*nfs4.OpenDowngradeRes](list).OpenStateid
	a.ok(with(at("f"), &nfs4.CloseArgs{OpenStateid: sid})...)
	b.ok(putroot, openArgs("o", "f", nfs4.OPEN4_SHARE_ACCESS_WRITE, 0))
}

func TestReadWriteCommit(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	fh, sid := p.open("o", "f")
	data := bytes.Repeat([]byte("0123456789abcdef"), 40_000) // large enough to be sent uncopied
	wr := last[*nfs4.WriteRes](p.ok(put(fh), &nfs4.WriteArgs{Stateid: sid, Offset: 5, Data: data, Stable: nfs4.UNSTABLE4}))
	if int(wr.Count) != len(data) {
		t.Errorf("wrote %d", wr.Count)
	}
	cr := last[*nfs4.CommitRes](p.ok(put(fh), &nfs4.CommitArgs{}))
	if cr.Verf != wr.Verf {
		t.Errorf("verifiers differ without a restart: %v, %v", cr.Verf, wr.Verf)
	}
	r := last[*nfs4.ReadRes](p.ok(put(fh), &nfs4.ReadArgs{Stateid: sid, Offset: 5, Count: 700_000}))
	if !bytes.Equal(r.Data, data) || !r.EOF {
		t.Errorf("read %d bytes, eof %v", len(r.Data), r.EOF)
	}
	r = last[*nfs4.ReadRes](p.ok(put(fh), &nfs4.ReadArgs{Stateid: sid, Offset: 6, Count: 3}))
	if string(r.Data) != "123" || r.EOF {
		t.Errorf("read %q, eof %v", r.Data, r.EOF)
	}
	r = last[*nfs4.ReadRes](p.ok(put(fh), &nfs4.ReadArgs{Stateid: sid, Offset: 1 << 40, Count: 3}))
	if len(r.Data) != 0 || !r.EOF {
		t.Errorf("past the end: %q, eof %v", r.Data, r.EOF)
	}
	p.fails(nfs4.NFS4ERR_ISDIR, putroot, &nfs4.ReadArgs{Count: 3})
	p.fails(nfs4.NFS4ERR_ISDIR, putroot, &nfs4.CommitArgs{})
	p.fails(nfs4.NFS4ERR_INVAL, put(fh), &nfs4.CommitArgs{Offset: 1<<64 - 1, Count: 2})
	ro := last[*nfs4.OpenRes](p.ok(putroot, openArgs("reader", "f", 1, 0)))
	p.fails(nfs4.NFS4ERR_OPENMODE, put(fh), &nfs4.WriteArgs{Stateid: ro.Stateid, Data: []byte("x")})
	size := nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_SIZE), Size: 3}
	p.fails(nfs4.NFS4ERR_OPENMODE, put(fh), &nfs4.SetattrArgs{Stateid: ro.Stateid, Attrs: size})
	sr := last[*nfs4.SetattrRes](p.ok(put(fh), &nfs4.SetattrArgs{Stateid: sid, Attrs: size}))
	if sr.AttrsSet != size.Mask {
		t.Errorf("attrsset %v", sr.AttrsSet)
	}
}

func TestReaddirPages(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	want := map[string]bool{}
	for i := range 50 {
		name := fmt.Sprintf("file-%02d", i)
		want[name] = true
		p.ok(putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4FIFO}, Name: name})
	}
	for _, req := range []nfs4.Bitmap{{}, nfs4.Bits(nfs4.FATTR4_FILEID, nfs4.FATTR4_TYPE), attrs42.AndNot(writeOnly)} {
		got := map[string]bool{}
		var cookie uint64
		pages := 0
		for eof := false; !eof; pages++ {
			r := last[*nfs4.ReaddirRes](p.ok(putroot, &nfs4.ReaddirArgs{Cookie: cookie, MaxCount: 1500, DirCount: 500, Request: req}))
			for _, e := range r.Entries {
				if got[e.Name] {
					t.Errorf("%s twice", e.Name)
				}
				got[e.Name] = true
				cookie = e.Cookie
				if req.Has(nfs4.FATTR4_TYPE) && e.Attrs.Type != nfs4.NF4FIFO {
					t.Errorf("%s is a %v", e.Name, e.Attrs.Type)
				}
			}
			if len(r.Entries) == 0 && !r.EOF {
				t.Fatal("a page of none that is not the last")
			}
			eof = r.EOF
		}
		if len(got) != len(want) || pages < 2 {
			t.Errorf("%d entries in %d pages for %v", len(got), pages, req)
		}
	}
	p.fails(nfs4.NFS4ERR_TOOSMALL, putroot, &nfs4.ReaddirArgs{MaxCount: 20})
	p.fails(nfs4.NFS4ERR_TOOSMALL, putroot, &nfs4.ReaddirArgs{MaxCount: 10})
	p.fails(nfs4.NFS4ERR_BAD_COOKIE, putroot, &nfs4.ReaddirArgs{MaxCount: 1000, Cookie: 1})
	p.fails(nfs4.NFS4ERR_NOT_SAME, putroot, &nfs4.ReaddirArgs{MaxCount: 1000, Cookie: 3, CookieVerf: nfs4.Verifier{1}})
	p.fails(nfs4.NFS4ERR_NOTDIR, with(at("file-01"), &nfs4.ReaddirArgs{MaxCount: 1000})...)
	p.fails(nfs4.NFS4ERR_INVAL, putroot, &nfs4.ReaddirArgs{MaxCount: 1000, Request: nfs4.Bits(nfs4.FATTR4_TIME_ACCESS_SET)})
}

func TestAttributes(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	p.mkfile("f", []byte("12345"))
	all := attrs42.Or(attrsRetain).AndNot(writeOnly)
	a := last[*nfs4.GetattrRes](p.ok(with(at("f"), &nfs4.GetattrArgs{Request: all})...)).Attrs
	missing := all
	missing.Clear(nfs4.FATTR4_RDATTR_ERROR)
	if missing = missing.AndNot(a.Mask); !missing.IsZero() {
		t.Errorf("missing: %v", missing)
	}
	switch {
	case a.Type != nfs4.NF4REG, a.Size != 5, a.Owner != "0", a.LeaseTime != 90, a.MaxName != 255, a.MaxRead != 1<<20, !a.XattrSupport,
		a.SpaceTotal == 0, a.FilesFree == 0, a.RetainReclaimCap != 90, a.FHExpireType != nfs4.FH4_PERSISTENT, a.MountedOnFileID != a.FileID:
		t.Errorf("attributes: %+v", a)
	}
	if a.SupportedAttrs.Has(nfs4.FATTR4_ACL) || !a.SupportedAttrs.Contains(all) || !a.SupportedAttrs.Contains(a.SuppattrExclcreat) {
		t.Errorf("supported: %v", a.SupportedAttrs)
	}
	// What is not supported is left out of GETATTR.
	if m := last[*nfs4.GetattrRes](p.ok(with(at("f"), &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_ACL, nfs4.FATTR4_SIZE)})...)).Attrs.Mask; m != nfs4.Bits(nfs4.FATTR4_SIZE) {
		t.Errorf("mask %v", m)
	}
	p.fails(nfs4.NFS4ERR_INVAL, putroot, &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_TIME_MODIFY_SET)})
	p.minor = 1
	if s := last[*nfs4.GetattrRes](p.ok(putroot, &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_SUPPORTED_ATTRS)})).Attrs.SupportedAttrs; s != attrs41 {
		t.Errorf("in 4.1: %v", s)
	}
	p.minor = 2

	set := nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE, nfs4.FATTR4_OWNER, nfs4.FATTR4_OWNER_GROUP, nfs4.FATTR4_TIME_MODIFY_SET, nfs4.FATTR4_TIME_ACCESS_SET),
		Mode: 0o4711, Owner: "1000", OwnerGroup: "2000", TimeModifySet: nfs4.SetTime{How: nfs4.SET_TO_CLIENT_TIME4, Time: nfs4.Time{Sec: 77, Nsec: 5}}}
	r := last[*nfs4.SetattrRes](p.ok(with(at("f"), &nfs4.SetattrArgs{Attrs: set})...))
	if r.AttrsSet != set.Mask {
		t.Errorf("attrsset %v", r.AttrsSet)
	}
	check := nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE, nfs4.FATTR4_OWNER, nfs4.FATTR4_OWNER_GROUP, nfs4.FATTR4_TIME_MODIFY),
		Mode: 0o4711, Owner: "1000", OwnerGroup: "2000", TimeModify: nfs4.Time{Sec: 77, Nsec: 5}}
	p.ok(with(at("f"), &nfs4.VerifyArgs{Attrs: check})...)
	p.fails(nfs4.NFS4ERR_SAME, with(at("f"), &nfs4.NverifyArgs{Attrs: check})...)
	check.Mode = 0
	p.fails(nfs4.NFS4ERR_NOT_SAME, with(at("f"), &nfs4.VerifyArgs{Attrs: check})...)
	p.ok(with(at("f"), &nfs4.NverifyArgs{Attrs: check})...)
	p.fails(nfs4.NFS4ERR_ATTRNOTSUPP, with(at("f"), &nfs4.VerifyArgs{Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_HIDDEN)}})...)
	p.fails(nfs4.NFS4ERR_INVAL, with(at("f"), &nfs4.VerifyArgs{Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_TIME_MODIFY_SET)}})...)

	bad := func(want nfs4.Status, f nfs4.Fattr) {
		t.Helper()
		p.fails(want, with(at("f"), &nfs4.SetattrArgs{Attrs: f})...)
	}
	bad(nfs4.NFS4ERR_ATTRNOTSUPP, nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_HIDDEN)})
	bad(nfs4.NFS4ERR_INVAL, nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_FILEID)})
	bad(nfs4.NFS4ERR_INVAL, nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 1 << 20})
	bad(nfs4.NFS4ERR_INVAL, nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE_UMASK)})
	bad(nfs4.NFS4ERR_BADOWNER, nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_OWNER), Owner: "no such user@nowhere"})
	bad(nfs4.NFS4ERR_INVAL, nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_TIME_ACCESS_SET), TimeAccessSet: nfs4.SetTime{How: nfs4.SET_TO_CLIENT_TIME4, Time: nfs4.Time{Nsec: 1e9}}})
	bad(nfs4.NFS4ERR_FBIG, nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_SIZE), Size: 1 << 63})

	// A failure says that nothing was set.
	p.cred = asUser(500)
	st, list := p.do(with(at("f"), &nfs4.SetattrArgs{Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE)}})...)
	if st != nfs4.NFS4ERR_PERM || !last[*nfs4.SetattrRes](list).AttrsSet.IsZero() {
		t.Errorf("SETATTR by another: %v %+v", st, last[*nfs4.SetattrRes](list))
	}
}

func TestMinorVersion2(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	data := append(append(bytes.Repeat([]byte("a"), 4096), make([]byte, 8192)...), "end"...)
	src := p.mkfile("src", data)
	dst, dsid := p.open("o", "dst")
	_, ssid := p.open("o", "src")
	p.ok(put(src), &nfs4.SavefhArgs{}, put(dst), &nfs4.CloneArgs{SrcStateid: ssid, DstStateid: dsid})
	c := last[*nfs4.CopyRes](p.ok(put(src), &nfs4.SavefhArgs{}, put(dst), &nfs4.CopyArgs{SrcStateid: ssid, DstStateid: dsid, DstOffset: 20_000, Synchronous: true}))
	if c.Response.Count != uint64(len(data)) || !c.Synchronous {
		t.Errorf("COPY: %+v", c)
	}
	p.fails(nfs4.NFS4ERR_INVAL, put(src), &nfs4.SavefhArgs{}, put(src), &nfs4.CopyArgs{SrcStateid: ssid, DstStateid: ssid, Count: 10, DstOffset: 5})
	p.fails(nfs4.NFS4ERR_NOTSUPP, put(src), &nfs4.SavefhArgs{}, put(dst), &nfs4.CopyArgs{SourceServers: []nfs4.Netloc{{Type: nfs4.NL4_NAME}}})
	p.fails(nfs4.NFS4ERR_BAD_STATEID, put(dst), &nfs4.OffloadStatusArgs{})
	s := last[*nfs4.SeekRes](p.ok(put(dst), &nfs4.SeekArgs{Stateid: dsid, What: nfs4.NFS4_CONTENT_HOLE}))
	if s.Offset != 4096 || s.EOF {
		t.Errorf("SEEK hole: %+v", s)
	}
	p.fails(nfs4.NFS4ERR_UNION_NOTSUPP, put(dst), &nfs4.SeekArgs{Stateid: dsid, What: 9})
	p.fails(nfs4.NFS4ERR_NXIO, put(src), &nfs4.SeekArgs{Stateid: ssid, Offset: 1 << 30})
	rp := last[*nfs4.ReadPlusRes](p.ok(put(src), &nfs4.ReadPlusArgs{Stateid: ssid, Count: 100_000}))
	var got []byte
	for _, seg := range rp.Contents {
		if int(seg.Offset) != len(got) {
			t.Fatalf("a piece at %d after %d bytes", seg.Offset, len(got))
		}
		if seg.Type == nfs4.NFS4_CONTENT_HOLE {
			got = append(got, make([]byte, seg.Length)...)
		} else {
			got = append(got, seg.Data...)
		}
	}
	if !bytes.Equal(got, data) || !rp.EOF || len(rp.Contents) != 3 {
		t.Errorf("READ_PLUS: %d pieces, %d bytes, eof %v", len(rp.Contents), len(got), rp.EOF)
	}
	p.ok(put(dst), &nfs4.DeallocateArgs{Stateid: dsid, Length: 100})
	p.ok(put(dst), &nfs4.AllocateArgs{Stateid: dsid, Offset: 50_000, Length: 100})
	p.fails(nfs4.NFS4ERR_INVAL, put(dst), &nfs4.AllocateArgs{Stateid: dsid})
	p.ok(put(dst), &nfs4.IOAdviseArgs{Stateid: dsid})

	p.fails(nfs4.NFS4ERR_NOXATTR, put(src), &nfs4.GetxattrArgs{Name: "n"})
	p.ok(put(src), &nfs4.SetxattrArgs{Name: "n", Value: []byte("v"), Option: nfs4.SETXATTR4_CREATE})
	p.fails(nfs4.NFS4ERR_EXIST, put(src), &nfs4.SetxattrArgs{Name: "n", Option: nfs4.SETXATTR4_CREATE})
	p.fails(nfs4.NFS4ERR_NOXATTR, put(src), &nfs4.SetxattrArgs{Name: "m", Option: nfs4.SETXATTR4_REPLACE})
	if r := last[*nfs4.GetxattrRes](p.ok(put(src), &nfs4.GetxattrArgs{Name: "n"})); string(r.Value) != "v" {
		t.Errorf("GETXATTR: %q", r.Value)
	}
	for _, n := range []string{"a", "b", "c"} {
		p.ok(put(src), &nfs4.SetxattrArgs{Name: n})
	}
	var names []string
	var cookie uint64
	for eof := false; !eof; {
		r := last[*nfs4.ListxattrsRes](p.ok(put(src), &nfs4.ListxattrsArgs{Cookie: cookie, MaxCount: 36}))
		names, cookie, eof = append(names, r.Names...), r.Cookie, r.EOF
	}
	if strings.Join(names, " ") != "a b c n" {
		t.Errorf("LISTXATTRS: %q", names)
	}
	p.fails(nfs4.NFS4ERR_TOOSMALL, put(src), &nfs4.ListxattrsArgs{MaxCount: 8})
	p.ok(put(src), &nfs4.RemovexattrArgs{Name: "n"})
	p.fails(nfs4.NFS4ERR_NOXATTR, put(src), &nfs4.RemovexattrArgs{Name: "n"})
}

func TestSquashAndReadOnly(t *testing.T) {
	for _, c := range []struct {
		access Access
		cred   uint32
		want   uint32
	}{
		{Access{RW: true}, 0, nobody},
		{Access{RW: true}, 1000, 1000},
		{Access{RW: true, Squash: NoRootSquash}, 0, 0},
		{Access{RW: true, Squash: AllSquash, AnonUID: 77}, 1000, 77},
	} {
		w := newWorld(t, func(cfg *Config) { cfg.Exports[0].Clients = []ClientRule{{"127.0.0.0/8", c.access}} })
		p := w.client("alice")
		p.cred = asUser(c.cred)
		a := last[*nfs4.GetattrRes](p.ok(putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: "d"}, &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_OWNER)})).Attrs
		if a.Owner != w.srv.ownerString(c.want, false) {
			t.Errorf("%+v: uid %d became %s, want %d", c.access, c.cred, a.Owner, c.want)
		}
	}
	w := newWorld(t, func(cfg *Config) { cfg.Exports[0].ReadOnly = true })
	p := w.client("alice")
	p.fails(nfs4.NFS4ERR_ROFS, putroot, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: "d"})
	p.fails(nfs4.NFS4ERR_ROFS, putroot, openArgs("o", "f", 1, 0))
	p.fails(nfs4.NFS4ERR_ROFS, putroot, &nfs4.RemoveArgs{Name: "x"})
	p.fails(nfs4.NFS4ERR_ROFS, putroot, &nfs4.SetattrArgs{})
	r := last[*nfs4.AccessRes](p.ok(putroot, &nfs4.AccessArgs{Access: 0x1ff}))
	if r.Access&writeAccess != 0 || r.Access&fs.AccessRead == 0 {
		t.Errorf("ACCESS %x", r.Access)
	}
	w = newWorld(t, func(cfg *Config) { cfg.Exports[0].Clients = []ClientRule{{"10.0.0.0/8", Access{RW: true}}} })
	p = w.client("alice")
	p.fails(nfs4.NFS4ERR_ACCESS, putroot, &nfs4.GetattrArgs{})
	p.fails(nfs4.NFS4ERR_ACCESS, putroot, &nfs4.LookupArgs{Name: "f"})
}
