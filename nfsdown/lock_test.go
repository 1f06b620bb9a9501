package nfsdown

import (
	"testing"
	"time"

	"holdfast/internal/nfs4"
)

func TestLocks(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.client("alice"), w.client("bob")
	fh, asid := a.open("o", "f")
	_, bsid := b.open("o", "f")
	lsid := a.lock(fh, asid, "la", nfs4.WRITE_LT, 10, 10)
	st, list := b.do(put(fh), lockArgs(bsid, "lb", nfs4.READ_LT, 15, 100))
	d := last[*nfs4.LockRes](list)
	if st != nfs4.NFS4ERR_DENIED || d.Denied.Offset != 10 || d.Denied.Length != 10 || d.Denied.Owner.ClientID != a.id || d.Denied.Owner.Owner != "la" || d.Denied.LockType != nfs4.WRITE_LT {
		t.Errorf("%v %+v", st, d.Denied)
	}
	st, list = b.do(put(fh), &nfs4.LocktArgs{LockType: nfs4.READ_LT, Offset: 19, Length: 1, Owner: nfs4.StateOwner{Owner: "lb"}})
	if st != nfs4.NFS4ERR_DENIED || last[*nfs4.LocktRes](list).Denied.Owner.Owner != "la" {
		t.Errorf("LOCKT: %v", st)
	}
	b.ok(put(fh), &nfs4.LocktArgs{LockType: nfs4.READ_LT, Offset: 20, Length: nfs4.MaxFileLen, Owner: nfs4.StateOwner{Owner: "lb"}})
	b.lock(fh, bsid, "lb", nfs4.WRITE_LT, 20, nfs4.MaxFileLen)
	// Split: the middle is given back.
	r := last[*nfs4.LockuRes](a.ok(put(fh), &nfs4.LockuArgs{LockType: nfs4.WRITE_LT, LockStateid: lsid, Offset: 13, Length: 2}))
	if r.LockStateid.Seqid != lsid.Seqid+1 || r.LockStateid.Other != lsid.Other {
		t.Errorf("LOCKU: %v after %v", r.LockStateid, lsid)
	}
	a.fails(nfs4.NFS4ERR_OLD_STATEID, put(fh), &nfs4.LockuArgs{LockType: nfs4.WRITE_LT, LockStateid: lsid, Offset: 13, Length: 2})
	b.ok(put(fh), lockArgs(bsid, "lb", nfs4.WRITE_LT, 13, 2))
	for _, bad := range []*nfs4.LockArgs{lockArgs(asid, "la", nfs4.WRITE_LT, 0, 0), lockArgs(asid, "la", nfs4.WRITE_LT, 10, 1<<64-5)} {
		a.fails(nfs4.NFS4ERR_INVAL, put(fh), bad)
	}
	a.fails(nfs4.NFS4ERR_ISDIR, putroot, &nfs4.LocktArgs{LockType: nfs4.READ_LT, Length: 1})
	a.fails(nfs4.NFS4ERR_LOCKS_HELD, &nfs4.FreeStateidArgs{Stateid: nfs4.Stateid{Other: lsid.Other}})
	held := w.fs.Held(fsOwner("alice", "la"), backendHandle(t, fh))
	if len(held) != 2 {
		t.Errorf("the backend holds %v", held)
	}
	// CLOSE takes the locks along.
	a.ok(put(fh), &nfs4.CloseArgs{OpenStateid: asid})
	b.ok(put(fh), lockArgs(bsid, "lb", nfs4.WRITE_LT, 0, nfs4.MaxFileLen))
}

// RFC 8881 9.6 and 20.11: a client that waits hears that it may try again, and others do not overtake it.
func TestBlockingLockIsNotified(t *testing.T) {
	w := newWorld(t, nil)
	a, b, c := w.client("alice"), w.client("bob"), w.client("carol")
	fh, asid := a.open("o", "f")
	_, bsid := b.open("o", "f")
	_, csid := c.open("o", "f")
	lsid := a.lock(fh, asid, "la", nfs4.WRITE_LT, 0, 10)
	b.fails(nfs4.NFS4ERR_DENIED, put(fh), lockArgs(bsid, "lb", nfs4.WRITEW_LT, 0, 10))
	a.ok(put(fh), &nfs4.LockuArgs{LockType: nfs4.WRITE_LT, LockStateid: lsid, Length: 10})
	select {
	case op := <-b.calls:
		n, ok := op.(*nfs4.CBNotifyLockArgs)
		if !ok || n.FH != fh || n.Owner.Owner != "lb" || n.Owner.ClientID != b.id {
			t.Errorf("callback: %+v", op)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no CB_NOTIFY_LOCK")
	}
	c.fails(nfs4.NFS4ERR_DENIED, put(fh), lockArgs(csid, "lc", nfs4.WRITE_LT, 0, 10))
	b.lock(fh, bsid, "lb", nfs4.WRITEW_LT, 0, 10)
}

// RFC 8881 18.46.3: without a connection for it the client hears that its back channel is down.
func TestBackChannelDown(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	flags := func() uint32 {
		t.Helper()
		_, list := p.must(p.sequence())
		return list[0].(*nfs4.SequenceRes).StatusFlags
	}
	const down = nfs4.SEQ4_STATUS_CB_PATH_DOWN | nfs4.SEQ4_STATUS_CB_PATH_DOWN_SESSION
	if f := flags(); f&down != 0 {
		t.Errorf("flags %x", f)
	}
	p.connect()
	eventually(t, "the back channel is down", func() bool { return flags()&down != 0 })
	st, list := p.must(&nfs4.BindConnToSessionArgs{SessionID: p.sess, Dir: nfs4.CDFC4_FORE_OR_BOTH})
	if st != nfs4.NFS4_OK || list[0].(*nfs4.BindConnToSessionRes).Dir != nfs4.CDFS4_BOTH {
		t.Fatalf("BIND_CONN_TO_SESSION: %v", st)
	}
	if f := flags(); f&down != 0 {
		t.Errorf("flags %x after the bind", f)
	}
	p.ok(&nfs4.BackchannelCtlArgs{Program: 0x40000001, SecParms: []nfs4.CallbackSecParms{{Flavor: nfs4.AUTH_SYS, Sys: nfs4.AuthSys{Machine: "m"}}}})
}

func TestDestroySession(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	if st, _ := p.must(&nfs4.DestroyClientidArgs{ClientID: p.id}); st != nfs4.NFS4ERR_CLIENTID_BUSY {
		t.Errorf("DESTROY_CLIENTID with a session: %v", st)
	}
	// In a COMPOUND of its own session it is the last operation.
	if st, list := p.do(&nfs4.DestroySessionArgs{SessionID: p.sess}, putroot); st != nfs4.NFS4ERR_NOT_ONLY_OP || len(list) != 1 {
		t.Errorf("DESTROY_SESSION in the middle: %v", st)
	}
	p.ok(putroot, &nfs4.DestroySessionArgs{SessionID: p.sess})
	if st, _ := p.must(p.sequence()); st != nfs4.NFS4ERR_BADSESSION {
		t.Errorf("SEQUENCE after it: %v", st)
	}
	if st, _ := p.must(&nfs4.DestroyClientidArgs{ClientID: p.id}); st != nfs4.NFS4_OK {
		t.Errorf("DESTROY_CLIENTID: %v", st)
	}
}
