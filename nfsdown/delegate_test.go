package nfsdown

import (
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

func delegates(c *Config) { c.State.Delegations = true }

// tried is a client that has answered a callback.
func (w *world) tried(owner string) *peer {
	w.t.Helper()
	return w.client(owner).isTried()
}

func (p *peer) isTried() *peer {
	p.t.Helper()
	eventually(p.t, "the back channel is tried", func() bool {
		c := p.w.srv.state.ClientByID(p.id)
		return c != nil && c.Tried()
	})
	return p
}

const (
	wantRead  = nfs4.OPEN4_SHARE_ACCESS_WANT_READ_DELEG
	wantWrite = nfs4.OPEN4_SHARE_ACCESS_WANT_WRITE_DELEG
	readOnly  = nfs4.OPEN4_SHARE_ACCESS_READ
	both      = nfs4.OPEN4_SHARE_ACCESS_BOTH
)

// delegated opens a file and returns what was delegated with it.
func (p *peer) delegated(owner, name string, access uint32, want uint32) (nfs4.FH, nfs4.Stateid, nfs4.OpenDelegation) {
	p.t.Helper()
	list := p.ok(putroot, openArgs(owner, name, access, 0), &nfs4.GetfhArgs{})
	r := list[1].(*nfs4.OpenRes)
	if r.Delegation.Type != want {
		p.t.Fatalf("%s: delegation %+v, want type %d", p.owner, r.Delegation, want)
	}
	return list[2].(*nfs4.GetfhRes).FH, r.Stateid, r.Delegation
}

// recalled waits for a CB_RECALL of the delegation.
func (p *peer) recalled(d nfs4.OpenDelegation, fh nfs4.FH) {
	p.t.Helper()
	select {
	case a := <-p.calls:
		r, ok := a.(*nfs4.CBRecallArgs)
		if !ok || r.Stateid != d.Stateid || string(r.FH) != string(fh) {
			p.t.Fatalf("%s was called: %+v", p.owner, a)
		}
	case <-time.After(10 * time.Second):
		p.t.Fatalf("%s was not called", p.owner)
	}
}

func (p *peer) notRecalled() {
	p.t.Helper()
	select {
	case a := <-p.calls:
		p.t.Fatalf("%s was called: %+v", p.owner, a)
	default:
	}
}

// during runs a request that has to wait, and what lets it go on.
func during(t *testing.T, request, meanwhile func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); request() }()
	meanwhile()
	<-done
}

// RFC 8881 10.4.1: several clients may have a read delegation; who wants to write waits until all are back.
func TestReadDelegations(t *testing.T) {
	w := newWorld(t, delegates)
	a, b, c := w.tried("alice"), w.tried("bob"), w.tried("carol")
	a.plain("f", []byte("one"))
	fh, _, da := a.delegated("o", "f", readOnly, nfs4.OPEN_DELEGATE_READ)
	_, _, db := b.delegated("o", "f", readOnly|wantRead, nfs4.OPEN_DELEGATE_READ)
	if r := last[*nfs4.ReadRes](b.ok(put(fh), &nfs4.ReadArgs{Stateid: db.Stateid, Count: 10})); string(r.Data) != "one" {
		t.Errorf("read %q", r.Data)
	}
	b.fails(nfs4.NFS4ERR_OPENMODE, put(fh), &nfs4.WriteArgs{Stateid: db.Stateid, Data: []byte("x")})
	b.fails(nfs4.NFS4ERR_BAD_STATEID, put(fh), &nfs4.CloseArgs{OpenStateid: db.Stateid})
	b.fails(nfs4.NFS4ERR_BAD_STATEID, put(fh), lockArgs(db.Stateid, "l", nfs4.READ_LT, 0, 1))
	// A second open of the same client brings nothing new, and one that only reads recalls nothing.
	a.delegated("o2", "f", readOnly, nfs4.OPEN_DELEGATE_NONE)
	c.delegated("o", "f", readOnly|nfs4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG, nfs4.OPEN_DELEGATE_NONE_EXT)
	a.notRecalled()
	during(t, func() { c.delegated("o", "f", both, nfs4.OPEN_DELEGATE_NONE) }, func() {
		a.recalled(da, fh)
		b.recalled(db, fh)
		a.ok(put(fh), &nfs4.DelegreturnArgs{Stateid: da.Stateid})
		b.ok(put(fh), &nfs4.DelegreturnArgs{Stateid: db.Stateid})
	})
	b.fails(nfs4.NFS4ERR_BAD_STATEID, put(fh), &nfs4.DelegreturnArgs{Stateid: db.Stateid})
	if n := w.srv.state.DelegCounts(); n != (state.DelegCounts{Recalled: 2}) {
		t.Errorf("%+v", n)
	}
	// What was just recalled is not delegated again, and then it is.
	c.ok(put(fh), &nfs4.CloseArgs{OpenStateid: last[*nfs4.OpenRes](c.ok(putroot, openArgs("o", "f", both, 0))).Stateid})
	a.delegated("o", "f", readOnly, nfs4.OPEN_DELEGATE_NONE)
	w.clock.Advance(31 * time.Second)
	a.delegated("o3", "f", readOnly, nfs4.OPEN_DELEGATE_READ)
}

// RFC 8881 10.4.5: what does not come back in a lease period is taken away, and its holder is told.
func TestDelegationRevoked(t *testing.T) {
	w := newWorld(t, delegates)
	a, b := w.tried("alice"), w.tried("bob")
	fh, _, d := a.delegated("o", "f", both|wantWrite, nfs4.OPEN_DELEGATE_WRITE)
	a.ok(put(fh), &nfs4.WriteArgs{Stateid: d.Stateid, Data: []byte("mine")})
	open := with(nil, putroot, openArgs("o", "f", readOnly, 0))
	during(t, func() { b.fails(nfs4.NFS4ERR_DELAY, open...) }, func() {
		a.recalled(d, fh)
		w.clock.Advance(recallWait)
	})
	// The opens stay, so that a conflict is only with the delegation.
	for range 8 {
		w.clock.Advance(15 * time.Second)
		a.ok(put(fh), &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_SIZE)})
		b.ok()
	}
	eventually(t, "the delegation is taken away", func() bool { return w.srv.state.DelegCounts().Revoked == 1 })
	b.ok(open...)
	st, list := a.must(a.sequence(), &nfs4.TestStateidArgs{Stateids: []nfs4.Stateid{d.Stateid}})
	if st != nfs4.NFS4_OK || list[0].(*nfs4.SequenceRes).StatusFlags&nfs4.SEQ4_STATUS_RECALLABLE_STATE_REVOKED == 0 {
		t.Fatalf("%v %+v", st, list[0])
	}
	if got := list[1].(*nfs4.TestStateidRes).StatusCodes[0]; got != nfs4.NFS4ERR_DELEG_REVOKED {
		t.Errorf("TEST_STATEID: %v", got)
	}
	a.fails(nfs4.NFS4ERR_DELEG_REVOKED, put(fh), &nfs4.WriteArgs{Stateid: d.Stateid, Data: []byte("late")})
	a.ok(&nfs4.FreeStateidArgs{Stateid: d.Stateid})
	if _, list := a.must(a.sequence()); list[0].(*nfs4.SequenceRes).StatusFlags != 0 {
		t.Errorf("flags after FREE_STATEID: %#x", list[0].(*nfs4.SequenceRes).StatusFlags)
	}
}

// RFC 8881 10.4: what recalls a delegation when another client does it, and not when its holder does.
func TestDelegationConflicts(t *testing.T) {
	mode := nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 0o600}
	for _, x := range []struct {
		name  string
		reads bool // conflicts with a write delegation only
		ops   func(fh nfs4.FH) []nfs4.Args
	}{
		{"REMOVE", false, func(nfs4.FH) []nfs4.Args { return with(nil, putroot, &nfs4.RemoveArgs{Name: "f"}) }},
		{"RENAME", false, func(nfs4.FH) []nfs4.Args {
			return with(nil, putroot, &nfs4.SavefhArgs{}, &nfs4.RenameArgs{OldName: "f", NewName: "g"})
		}},
		{"RENAME over", false, func(nfs4.FH) []nfs4.Args {
			return with(nil, putroot, &nfs4.SavefhArgs{}, &nfs4.RenameArgs{OldName: "other", NewName: "f"})
		}},
		{"LINK", false, func(fh nfs4.FH) []nfs4.Args {
			return with(nil, put(fh), &nfs4.SavefhArgs{}, putroot, &nfs4.LinkArgs{NewName: "g"})
		}},
		{"SETATTR", false, func(fh nfs4.FH) []nfs4.Args { return with(nil, put(fh), &nfs4.SetattrArgs{Attrs: mode}) }},
		{"WRITE", false, func(fh nfs4.FH) []nfs4.Args { return with(nil, put(fh), &nfs4.WriteArgs{Data: []byte("x")}) }},
		{"OPEN to truncate", false, func(nfs4.FH) []nfs4.Args {
			o := openArgs("x", "f", both, 0)
			o.How.Attrs = nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_SIZE)}
			return with(nil, putroot, o)
		}},
		{"OPEN by handle", false, func(fh nfs4.FH) []nfs4.Args {
			return with(nil, put(fh), &nfs4.OpenArgs{ShareAccess: both, Owner: nfs4.StateOwner{Owner: "x"}, Claim: nfs4.OpenClaim{Type: nfs4.CLAIM_FH}})
		}},
		{"OPEN that denies reading", false, func(nfs4.FH) []nfs4.Args {
			return with(nil, putroot, openArgs("x", "f", readOnly, nfs4.OPEN4_SHARE_DENY_READ))
		}},
		{"LOCKT to write", false, func(fh nfs4.FH) []nfs4.Args {
			return with(nil, put(fh), &nfs4.LocktArgs{LockType: nfs4.WRITE_LT, Length: 1, Owner: nfs4.StateOwner{Owner: "x"}})
		}},
		{"OPEN to read", true, func(nfs4.FH) []nfs4.Args { return with(nil, putroot, openArgs("x", "f", readOnly, 0)) }},
		{"GETATTR", true, func(fh nfs4.FH) []nfs4.Args {
			return with(nil, put(fh), &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_SIZE)})
		}},
		{"READ", true, func(fh nfs4.FH) []nfs4.Args { return with(nil, put(fh), &nfs4.ReadArgs{Count: 1}) }},
		{"LOCKT to read", true, func(fh nfs4.FH) []nfs4.Args {
			return with(nil, put(fh), &nfs4.LocktArgs{LockType: nfs4.READ_LT, Length: 1, Owner: nfs4.StateOwner{Owner: "x"}})
		}},
	} {
		for _, kind := range []uint32{nfs4.OPEN_DELEGATE_READ, nfs4.OPEN_DELEGATE_WRITE} {
			t.Run(x.name+map[uint32]string{nfs4.OPEN_DELEGATE_READ: "/read", nfs4.OPEN_DELEGATE_WRITE: "/write"}[kind], func(t *testing.T) {
				w := newWorld(t, delegates)
				a, b := w.tried("alice"), w.tried("bob")
				a.plain("f", []byte("one"))
				a.plain("other", nil)
				access := uint32(readOnly | wantRead)
				if kind == nfs4.OPEN_DELEGATE_WRITE {
					access = both
				}
				fh, sid, d := a.delegated("o", "f", access, kind)
				a.ok(put(fh), &nfs4.CloseArgs{OpenStateid: sid})
				if x.reads && kind == nfs4.OPEN_DELEGATE_READ {
					b.ok(x.ops(fh)...)
					a.notRecalled()
					return
				}
				during(t, func() { b.ok(x.ops(fh)...) }, func() {
					a.recalled(d, fh)
					a.ok(put(fh), &nfs4.DelegreturnArgs{Stateid: d.Stateid})
				})
			})
			t.Run(x.name+"/own", func(t *testing.T) {
				w := newWorld(t, delegates)
				a := w.tried("alice")
				a.plain("f", []byte("one"))
				a.plain("other", nil)
				fh, sid, _ := a.delegated("o", "f", both, nfs4.OPEN_DELEGATE_WRITE)
				a.ok(put(fh), &nfs4.CloseArgs{OpenStateid: sid})
				if x.name == "OPEN that denies reading" { // the delegation reads too
					during(t, func() { a.ok(x.ops(fh)...) }, func() {
						r := (<-a.calls).(*nfs4.CBRecallArgs)
						a2 := *a
						a2.seq = map[uint32]uint32{}
						a2.slot = 1
						a2.ok(put(fh), &nfs4.DelegreturnArgs{Stateid: r.Stateid})
					})
					return
				}
				a.ok(x.ops(fh)...)
				a.notRecalled()
			})
		}
	}
}

// No delegation is granted that what is open, or being done, stands against.
func TestNoDelegation(t *testing.T) {
	w := newWorld(t, delegates)
	a, b := w.tried("alice"), w.tried("bob")
	a.plain("f", nil)
	_, sid := b.open("o", "f")
	why := func(access uint32, want uint32) {
		t.Helper()
		_, _, d := a.delegated("o", "f", access, nfs4.OPEN_DELEGATE_NONE_EXT)
		if d.Why != want {
			t.Errorf("why: %d, want %d", d.Why, want)
		}
	}
	b.ok(put(a.fh("f")), &nfs4.CloseArgs{OpenStateid: sid}) // and what was delegated with it stays
	during(t, func() { a.delegated("o", "f", readOnly, nfs4.OPEN_DELEGATE_NONE) }, func() {
		r := (<-b.calls).(*nfs4.CBRecallArgs)
		b.ok(put(r.FH), &nfs4.DelegreturnArgs{Stateid: r.Stateid})
	})
	why(readOnly|wantRead, nfs4.WND4_CONTENTION) // it was recalled just now
	w.clock.Advance(31 * time.Second)
	_, sid = b.open("o", "f")
	why(readOnly|wantRead, nfs4.WND4_CONTENTION)
	why(readOnly|nfs4.OPEN4_SHARE_ACCESS_WANT_CANCEL, nfs4.WND4_CANCELLED)
	why(readOnly|nfs4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG, nfs4.WND4_NOT_WANTED)
	a.fails(nfs4.NFS4ERR_INVAL, putroot, openArgs(state.DelegOwner, "f", readOnly, 0))
	a.fails(nfs4.NFS4ERR_BAD_STATEID, put(a.fh("f")), claimCur(sid))
	a.fails(nfs4.NFS4ERR_NOTSUPP, putroot, &nfs4.OpenArgs{ShareAccess: readOnly, Owner: nfs4.StateOwner{Owner: "o"},
		Claim: nfs4.OpenClaim{Type: nfs4.CLAIM_DELEGATE_PREV, File: "f"}})
	// Off, it is as it was.
	off := newWorld(t, nil)
	off.client("alice").delegated("o", "f", both|wantWrite, nfs4.OPEN_DELEGATE_NONE_EXT)
}

func claimCur(sid nfs4.Stateid) *nfs4.OpenArgs {
	return &nfs4.OpenArgs{ShareAccess: readOnly, Owner: nfs4.StateOwner{Owner: "local"},
		Claim: nfs4.OpenClaim{Type: nfs4.CLAIM_DELEG_CUR_FH, DelegateStateid: sid}}
}

// RFC 8881 10.4.3: a client that is asked for a write delegation tells of its opens and locks first. Nobody comes
// between.
func TestClaimDelegateCur(t *testing.T) {
	w := newWorld(t, delegates)
	a, b := w.tried("alice"), w.tried("bob")
	fh, sid, d := a.delegated("o", "f", both, nfs4.OPEN_DELEGATE_WRITE)
	a.ok(put(fh), &nfs4.CloseArgs{OpenStateid: sid})
	byName := &nfs4.OpenArgs{ShareAccess: both, Owner: nfs4.StateOwner{Owner: "local2"},
		Claim: nfs4.OpenClaim{Type: nfs4.CLAIM_DELEGATE_CUR, DelegateStateid: d.Stateid, File: "f"}}
	during(t, func() {
		_, sid, _ := b.delegated("o", "f", readOnly, nfs4.OPEN_DELEGATE_NONE)
		b.fails(nfs4.NFS4ERR_DENIED, put(fh), lockArgs(sid, "l", nfs4.READ_LT, 0, 1))
	}, func() {
		a.recalled(d, fh)
		list := a.ok(put(fh), claimCur(d.Stateid), putroot, byName)
		if one, two := list[1].(*nfs4.OpenRes), list[3].(*nfs4.OpenRes); one.Delegation.Type != nfs4.OPEN_DELEGATE_NONE || two.Delegation.Type != nfs4.OPEN_DELEGATE_NONE {
			t.Errorf("%+v %+v", one, two)
		}
		a.lock(fh, list[3].(*nfs4.OpenRes).Stateid, "l", nfs4.WRITE_LT, 0, 1)
		a.ok(put(fh), &nfs4.DelegreturnArgs{Stateid: d.Stateid})
	})
}

// RFC 8881 10.2.1: after our restart a delegation is reclaimed with an open, and so are opens that only the client
// knew of. Nobody gets what it excludes meanwhile. I2.
func TestReclaimDelegation(t *testing.T) {
	w := newDurableWorld(t, delegates)
	a, b := w.tried("alice"), w.tried("bob")
	fh, sid, _ := a.delegated("o", "f", both, nfs4.OPEN_DELEGATE_WRITE)
	a.ok(put(fh), &nfs4.CloseArgs{OpenStateid: sid})
	w.reboot(nil)
	a.connect()
	b.connect()
	a.exchange()
	b.exchange()
	b.ok(&nfs4.ReclaimCompleteArgs{})
	b.fails(nfs4.NFS4ERR_GRACE, putroot, openArgs("o", "f", readOnly, 0))
	b.fails(nfs4.NFS4ERR_GRACE, putroot, &nfs4.RemoveArgs{Name: "f"})
	// b has never had one, and a none for an owner that denies.
	reclaim := func(owner string, access, deny, kind uint32) *nfs4.OpenArgs {
		r := reclaimOpen(owner, access, deny)
		r.Claim.DelegateType = kind
		return r
	}
	a.fails(nfs4.NFS4ERR_RECLAIM_BAD, put(fh), reclaim("mine", both, nfs4.OPEN4_SHARE_DENY_WRITE, nfs4.OPEN_DELEGATE_WRITE))
	r := last[*nfs4.OpenRes](a.ok(put(fh), reclaim("mine", both, 0, nfs4.OPEN_DELEGATE_WRITE)))
	if r.Delegation.Type != nfs4.OPEN_DELEGATE_WRITE || r.Delegation.Recall {
		t.Fatalf("%+v", r.Delegation)
	}
	again := last[*nfs4.OpenRes](a.ok(put(fh), reclaim("mine2", readOnly, 0, nfs4.OPEN_DELEGATE_WRITE)))
	if again.Delegation.Stateid != r.Delegation.Stateid {
		t.Errorf("%+v, then %+v", r.Delegation, again.Delegation)
	}
	a.ok(&nfs4.ReclaimCompleteArgs{})
	eventually(t, "grace ends", func() bool { return w.srv.Phase() == state.GraceOver })
	a.ok(put(fh), &nfs4.WriteArgs{Stateid: r.Delegation.Stateid, Data: []byte("x")})
	during(t, func() { b.ok(putroot, &nfs4.RemoveArgs{Name: "f"}) }, func() {
		a.recalled(r.Delegation, fh)
		a.ok(put(fh), &nfs4.DelegreturnArgs{Stateid: r.Delegation.Stateid})
	})
}

// A client that restarts has no delegation any more, even where its opens are held for it.
func TestDelegationOfRestartedClient(t *testing.T) {
	w := newWorld(t, func(c *Config) { delegates(c); c.State.Retain = state.RetainAlways })
	a, b := w.tried("alice"), w.tried("bob")
	fh, _, _ := a.delegated("o", "f", both, nfs4.OPEN_DELEGATE_WRITE)
	a2 := w.dial("alice")
	a2.verf = 2
	a2.exchange()
	eventually(t, "the delegation is gone", func() bool { return len(w.srv.state.Delegations()) == 0 })
	b.ok(put(fh), &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_SIZE)})
	a2.ok(put(fh), reclaimOpen("o", both, 0))
}

// After a restart that clients do not see their delegations are what they were.
func TestInvisibleRestartDelegation(t *testing.T) {
	w := newDurableWorld(t, func(c *Config) { delegates(c); invisible(c) })
	a, b := w.tried("alice"), w.tried("bob")
	fh, _, d := a.delegated("o", "f", both, nfs4.OPEN_DELEGATE_WRITE)
	w.reboot(nil)
	a.again()
	b.again()
	restored(t, w)
	a.ok(put(fh), &nfs4.WriteArgs{Stateid: d.Stateid, Data: []byte("x")})
	if held := w.fs.Opened(fs.Owner{Client: "alice", Owner: state.DelegOwner}, backendHandle(t, fh)); !held {
		t.Error("the backend does not have its open")
	}
	during(t, func() { b.delegated("o", "f", readOnly, nfs4.OPEN_DELEGATE_NONE) }, func() {
		a.recalled(d, fh)
		a.ok(put(fh), &nfs4.DelegreturnArgs{Stateid: d.Stateid})
	})
	if held := w.fs.Opened(fs.Owner{Client: "alice", Owner: state.DelegOwner}, backendHandle(t, fh)); held {
		t.Error("the backend still has its open")
	}
}

// plain makes a file that is delegated to nobody.
func (p *peer) plain(name string, data []byte) {
	p.t.Helper()
	list := p.ok(putroot, openArgs("mkfile", name, both|nfs4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG, 0), &nfs4.GetfhArgs{})
	sid := list[1].(*nfs4.OpenRes).Stateid
	p.ok(put(list[2].(*nfs4.GetfhRes).FH), &nfs4.WriteArgs{Stateid: sid, Stable: nfs4.FILE_SYNC4, Data: data}, &nfs4.CloseArgs{OpenStateid: sid})
}
