package nfsdown

import (
	"testing"
	"time"

	"holdfast/internal/nfs4"
)

// peer40 is a client of NFSv4.0 on the wire.
type peer40 struct {
	*peer
	seq uint32
}

func (w *world) peer40(owner string) *peer40 {
	p := &peer40{peer: w.dial(owner)}
	p.minor = 0
	return p.setclientid()
}

func (p *peer40) setclientid() *peer40 {
	p.t.Helper()
	r := last[*nfs4.SetclientidRes](p.ok40(&nfs4.SetclientidArgs{Client: nfs4.ClientOwner{Verifier: nfs4.Verifier{p.verf}, ID: p.owner}}))
	p.ok40(&nfs4.SetclientidConfirmArgs{ClientID: r.ClientID, Confirm: r.Confirm})
	p.id = r.ClientID
	return p
}

func (p *peer40) ok40(ops ...nfs4.Args) []nfs4.Res {
	p.t.Helper()
	st, list := p.must(ops...)
	if st != nfs4.NFS4_OK {
		p.t.Fatalf("%v: %v", ops[len(list)-1].Op(), st)
	}
	return list
}

func (p *peer40) fails40(want nfs4.Status, ops ...nfs4.Args) {
	p.t.Helper()
	if st, list := p.must(ops...); st != want || len(list) != len(ops) {
		p.t.Errorf("%v: %v after %d of %d operations, want %v", ops[len(ops)-1].Op(), st, len(list), len(ops), want)
	}
}

func (p *peer40) openArgs(owner, name string, access, deny uint32) *nfs4.OpenArgs {
	a := openArgs(owner, name, access, deny)
	a.Owner.ClientID = p.id
	p.seq++
	a.Seqid = p.seq
	return a
}

// open40 opens a file at the root, and confirms the owner if that is asked for.
func (p *peer40) open40(owner, name string, access, deny uint32) (nfs4.FH, nfs4.Stateid) {
	p.t.Helper()
	list := p.ok40(&nfs4.PutrootfhArgs{}, p.openArgs(owner, name, access, deny), &nfs4.GetfhArgs{})
	open, fh := list[1].(*nfs4.OpenRes), list[2].(*nfs4.GetfhRes).FH
	sid := open.Stateid
	if open.Rflags&nfs4.OPEN4_RESULT_CONFIRM != 0 {
		p.seq++
		sid = last[*nfs4.OpenConfirmRes](p.ok40(put(fh), &nfs4.OpenConfirmArgs{OpenStateid: sid, Seqid: p.seq})).OpenStateid
	}
	return fh, sid
}

func (p *peer40) lockArgs(open nfs4.Stateid, owner string, off, length uint64) *nfs4.LockArgs {
	a := lockArgs(open, owner, nfs4.WRITE_LT, off, length)
	p.seq++
	a.Locker.OpenSeqid, a.Locker.LockOwner.ClientID = p.seq, p.id
	return a
}

func TestV40Life(t *testing.T) {
	w := newWorld(t, nil)
	w.client("maker").mkfile("f", []byte("data"))
	p, q := w.peer40("alice"), w.peer40("bob")
	list := p.ok40(&nfs4.PutrootfhArgs{}, p.openArgs("o", "f", 3, 0), &nfs4.GetfhArgs{})
	open, fh := list[1].(*nfs4.OpenRes), list[2].(*nfs4.GetfhRes).FH
	if open.Rflags&nfs4.OPEN4_RESULT_CONFIRM == 0 || open.Rflags&nfs4.OPEN4_RESULT_MAY_NOTIFY_LOCK != 0 {
		t.Errorf("rflags %x", open.Rflags)
	}
	read := func(sid nfs4.Stateid) *nfs4.ReadArgs { return &nfs4.ReadArgs{Stateid: sid, Count: 10} }
	p.fails40(nfs4.NFS4ERR_BAD_STATEID, put(fh), read(open.Stateid))
	p.seq++
	confirm := &nfs4.OpenConfirmArgs{OpenStateid: open.Stateid, Seqid: p.seq}
	sid := last[*nfs4.OpenConfirmRes](p.ok40(put(fh), confirm)).OpenStateid
	if again := last[*nfs4.OpenConfirmRes](p.ok40(put(fh), confirm)).OpenStateid; again != sid {
		t.Errorf("a repeated OPEN_CONFIRM gave %v, not %v", again, sid)
	}
	p.ok40(put(fh), read(sid))

	// An OPEN that is repeated gives the same stateid, and the current filehandle.
	a := p.openArgs("o", "f", 1, 0)
	root := &nfs4.PutrootfhArgs{}
	first := p.ok40(root, a, &nfs4.GetfhArgs{})
	second := p.ok40(root, a, &nfs4.GetfhArgs{})
	if first[1].(*nfs4.OpenRes).Stateid != second[1].(*nfs4.OpenRes).Stateid || second[2].(*nfs4.GetfhRes).FH != fh {
		t.Error("a repeated OPEN is another one")
	}
	sid = second[1].(*nfs4.OpenRes).Stateid
	a.Seqid += 7
	p.fails40(nfs4.NFS4ERR_BAD_SEQID, root, a)

	// Locks: the first in the order of the open-owner, the next in its own.
	la := p.lockArgs(sid, "x", 0, 10)
	lsid := last[*nfs4.LockRes](p.ok40(put(fh), la)).LockStateid
	if again := last[*nfs4.LockRes](p.ok40(put(fh), la)).LockStateid; again != lsid {
		t.Error("a repeated LOCK is another one")
	}
	qfh, qsid := q.open40("o", "f", 3, 0)
	q.fails40(nfs4.NFS4ERR_DENIED, put(qfh), q.lockArgs(qsid, "y", 5, 10))
	q.fails40(nfs4.NFS4ERR_DENIED, put(qfh), &nfs4.LocktArgs{LockType: nfs4.READ_LT, Length: 1, Owner: nfs4.StateOwner{ClientID: q.id, Owner: "z"}})
	next := &nfs4.LockArgs{LockType: nfs4.WRITE_LT, Offset: 20, Length: 10, Locker: nfs4.Locker{LockStateid: lsid, LockSeqid: 1}}
	lsid = last[*nfs4.LockRes](p.ok40(put(fh), next)).LockStateid
	p.fails40(nfs4.NFS4ERR_LOCKS_HELD, &nfs4.ReleaseLockownerArgs{Owner: nfs4.StateOwner{ClientID: p.id, Owner: "x"}})
	unlock := &nfs4.LockuArgs{LockType: nfs4.WRITE_LT, Seqid: 2, LockStateid: lsid, Length: 1 << 63}
	lsid = last[*nfs4.LockuRes](p.ok40(put(fh), unlock)).LockStateid
	if again := last[*nfs4.LockuRes](p.ok40(put(fh), unlock)).LockStateid; again != lsid {
		t.Error("a repeated LOCKU is another one")
	}
	q.ok40(put(qfh), q.lockArgs(qsid, "y", 5, 10))
	p.ok40(&nfs4.ReleaseLockownerArgs{Owner: nfs4.StateOwner{ClientID: p.id, Owner: "x"}})
	p.fails40(nfs4.NFS4ERR_BAD_STATEID, put(fh), &nfs4.LockuArgs{LockType: nfs4.WRITE_LT, Seqid: 3, LockStateid: lsid, Length: 1})

	p.seq++
	down := &nfs4.OpenDowngradeArgs{OpenStateid: sid, Seqid: p.seq, ShareAccess: 1}
	sid = last[*nfs4.OpenDowngradeRes](p.ok40(put(fh), down)).OpenStateid
	p.fails40(nfs4.NFS4ERR_OPENMODE, put(fh), &nfs4.WriteArgs{Stateid: sid, Data: []byte("x")})
	p.seq++
	cl := &nfs4.CloseArgs{Seqid: p.seq, OpenStateid: sid}
	p.ok40(put(fh), cl)
	p.ok40(put(fh), cl) // repeated, although the stateid is no more
	p.fails40(nfs4.NFS4ERR_BAD_STATEID, put(fh), read(sid))
	p.ok40(&nfs4.RenewArgs{ClientID: p.id})
}

// What is of another minor version, and what errors 4.0 has of its own.
func TestV40Rules(t *testing.T) {
	w := newWorld(t, nil)
	p := w.peer40("alice")
	root := &nfs4.PutrootfhArgs{}
	if st, list := p.must(&nfs4.SequenceArgs{}); st != nfs4.NFS4ERR_OP_ILLEGAL || list[0].Op() != nfs4.OP_ILLEGAL {
		t.Errorf("SEQUENCE: %v", st)
	}
	p.fails40(nfs4.NFS4ERR_NOFILEHANDLE, &nfs4.GetfhArgs{})
	p.fails40(nfs4.NFS4ERR_RESTOREFH, &nfs4.RestorefhArgs{})
	p.fails40(nfs4.NFS4ERR_STALE_CLIENTID, &nfs4.RenewArgs{ClientID: 99})
	p.fails40(nfs4.NFS4ERR_STALE_CLIENTID, &nfs4.SetclientidConfirmArgs{ClientID: p.id})
	p.fails40(nfs4.NFS4ERR_INVAL, root, p.openArgs("o", "f", nfs4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG|1, 0))
	list := p.ok40(root, &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_SUPPORTED_ATTRS, nfs4.FATTR4_SUPPATTR_EXCLCREAT)})
	if a := last[*nfs4.GetattrRes](list).Attrs; a.Mask.Has(nfs4.FATTR4_SUPPATTR_EXCLCREAT) || a.SupportedAttrs.Has(nfs4.FATTR4_SUPPATTR_EXCLCREAT) {
		t.Error("an attribute of 4.1")
	}
	// SECINFO leaves the current filehandle.
	w.client("maker").mkfile("f", nil)
	p.ok40(root, &nfs4.SecinfoArgs{Name: "f"}, &nfs4.GetfhArgs{})
	q := w.client("other")
	q.fails(nfs4.NFS4ERR_NOTSUPP, &nfs4.RenewArgs{})
}

// Another user than the one that opened the file must be allowed what he does: RFC 7530 16.36.
func TestV40StateidOfAnotherUser(t *testing.T) {
	w := newWorld(t, nil)
	w.client("maker").mkfile("f", []byte("data"))
	p := w.peer40("alice")
	fh, sid := p.open40("o", "f", 3, 0)
	p.ok40(put(fh), &nfs4.SetattrArgs{Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 0o600}})
	p.cred = asUser(1000)
	p.fails40(nfs4.NFS4ERR_ACCESS, put(fh), &nfs4.WriteArgs{Stateid: sid, Data: []byte("x")})
}

// The server restarts: RFC 7530 9.6.2.
func TestV40Reclaim(t *testing.T) {
	w := newDurableWorld(t, nil)
	w.client("maker").mkfile("f", []byte("data"))
	p := w.peer40("alice")
	fh, sid := p.open40("o", "f", 3, 0)
	p.ok40(put(fh), p.lockArgs(sid, "x", 0, 10))
	w.reboot(nil)
	p.connect()
	p.fails40(nfs4.NFS4ERR_STALE_CLIENTID, &nfs4.RenewArgs{ClientID: p.id})
	p.fails40(nfs4.NFS4ERR_STALE_STATEID, put(fh), &nfs4.ReadArgs{Stateid: sid, Count: 1})
	p.setclientid()
	p.fails40(nfs4.NFS4ERR_GRACE, &nfs4.PutrootfhArgs{}, p.openArgs("new", "f", 3, 0))
	re := reclaimOpen("o", 3, 0)
	p.seq++
	re.Seqid, re.Owner.ClientID = p.seq, p.id
	open := last[*nfs4.OpenRes](p.ok40(put(fh), re))
	if open.Rflags&nfs4.OPEN4_RESULT_CONFIRM != 0 {
		t.Error("an owner that reclaims has to confirm")
	}
	la := p.lockArgs(open.Stateid, "x", 0, 10)
	la.Reclaim = true
	p.ok40(put(fh), la)
	eventually(t, "grace ends when all is reclaimed", func() bool { return w.srv.Phase().String() == "over" })
	q := w.peer40("bob")
	qfh, qsid := q.open40("o", "f", 3, 0)
	q.fails40(nfs4.NFS4ERR_DENIED, put(qfh), q.lockArgs(qsid, "y", 0, 10))
}

// A request that is sent again with its xid is not executed again: RFC 7530 3.1.1.
func TestReplies40(t *testing.T) {
	var k replies40
	key := replyKey{xid: 1}
	r, again, err := k.begin(t.Context(), key)
	if r == nil || again != nil || err != nil {
		t.Fatal("the first one is a repetition")
	}
	got := make(chan []byte)
	go func() {
		_, again, _ := k.begin(t.Context(), key)
		got <- again
	}()
	r.end([]byte("answer"))
	if b := <-got; string(b) != "answer" {
		t.Errorf("the repetition got %q", b)
	}
	for i := range uint32(maxReplies40) {
		r, _, _ := k.begin(t.Context(), replyKey{xid: 2 + i})
		r.end(nil)
	}
	if len(k.byKey) != maxReplies40 || k.byKey[key] != nil {
		t.Errorf("%d answers are kept", len(k.byKey))
	}
}

func TestParseUaddr(t *testing.T) {
	for s, want := range map[string]string{"127.0.0.1.3.232": "127.0.0.1:1000", "::1.8.1": "[::1]:2049", "1.2.3.4": "", "": "", "1.2.3.4.256.0": "", "1.2.3.4.0.0": "", "x.1.1": ""} {
		got, err := parseUaddr(nfs4.NetAddr{NetID: "tcp", Addr: s})
		if err != nil && want != "" || err == nil && got.String() != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}

func FuzzUaddr(f *testing.F) {
	f.Add("tcp", "127.0.0.1.3.232")
	f.Add("tcp6", "::1.8.1")
	f.Fuzz(func(t *testing.T, id, addr string) {
		if a, err := parseUaddr(nfs4.NetAddr{NetID: id, Addr: addr}); err == nil && (!a.IsValid() || a.Port() == 0) {
			t.Errorf("%q %q is %v", id, addr, a)
		}
	})
}

// A client of 4.0 is courted as others are.
func TestV40Courtesy(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.State.CourtesyLimit = time.Hour })
	w.client("maker").mkfile("f", nil)
	p, q := w.peer40("alice"), w.peer40("bob")
	fh, sid := p.open40("o", "f", 3, 0)
	p.ok40(put(fh), p.lockArgs(sid, "x", 0, 10))
	w.clock.Advance(100 * time.Second)
	q.setclientid()
	qfh, qsid := q.open40("o", "f", 3, 0)
	q.ok40(put(qfh), q.lockArgs(qsid, "y", 20, 10))
	p.ok40(&nfs4.RenewArgs{ClientID: p.id})
	w.clock.Advance(100 * time.Second)
	q.setclientid()
	qfh, qsid = q.open40("o", "f", 3, 0)
	q.ok40(put(qfh), q.lockArgs(qsid, "z", 0, 10))
	p.fails40(nfs4.NFS4ERR_EXPIRED, &nfs4.RenewArgs{ClientID: p.id})
	p.fails40(nfs4.NFS4ERR_EXPIRED, put(fh), &nfs4.ReadArgs{Stateid: sid, Count: 1})
}
