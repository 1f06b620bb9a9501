package nfsdown

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
)

func TestProgramVersionProcedure(t *testing.T) {
	w := newWorld(t, nil)
	p := w.dial("alice")
	call := func(prog, vers, proc uint32) error {
		return p.conn.Call(context.Background(), &rpc.Call{Prog: prog, Vers: vers, Proc: proc}, nil, nil)
	}
	if err := call(nfs4.Program, 4, 0); err != nil {
		t.Errorf("NULL with AUTH_NONE: %v", err)
	}
	var a *rpc.AcceptError
	if err := call(100005, 3, 0); !errors.As(err, &a) || a.Stat != rpc.PROG_UNAVAIL {
		t.Errorf("another program: %v", err)
	}
	if err := call(nfs4.Program, 3, 0); !errors.As(err, &a) || a.Stat != rpc.PROG_MISMATCH || a.Low != 4 || a.High != 4 {
		t.Errorf("another version: %v", err)
	}
	if err := call(nfs4.Program, 4, 2); !errors.As(err, &a) || a.Stat != rpc.PROC_UNAVAIL {
		t.Errorf("another procedure: %v", err)
	}
	if err := call(nfs4.Program, 4, 1); !errors.As(err, &a) || a.Stat != rpc.GARBAGE_ARGS {
		t.Errorf("COMPOUND without arguments: %v", err)
	}
}

// RFC 8881 2.10.6.1 and 18.46: where SEQUENCE must and must not be.
func TestCompoundOrder(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	alone := func(want nfs4.Status, n int, ops ...nfs4.Args) {
		t.Helper()
		st, list := p.must(ops...)
		if st != want || len(list) != n {
			t.Errorf("%v: got %v with %d answers, want %v with %d", ops, st, len(list), want, n)
		}
	}
	alone(nfs4.NFS4_OK, 0)
	alone(nfs4.NFS4ERR_OP_NOT_IN_SESSION, 1, putroot)
	alone(nfs4.NFS4ERR_NOT_ONLY_OP, 1, &nfs4.DestroyClientidArgs{}, putroot)
	alone(nfs4.NFS4ERR_NOT_ONLY_OP, 1, &nfs4.ExchangeIDArgs{Owner: nfs4.ClientOwner{ID: "x"}}, putroot)
	alone(nfs4.NFS4ERR_OP_ILLEGAL, 1, illegal{})
	alone(nfs4.NFS4ERR_BADSESSION, 1, &nfs4.SequenceArgs{SequenceID: 1}, putroot)
	p.fails(nfs4.NFS4ERR_SEQUENCE_POS, putroot, &nfs4.SequenceArgs{SessionID: p.sess, SequenceID: 9})
	p.fails(nfs4.NFS4ERR_NOT_ONLY_OP, &nfs4.BindConnToSessionArgs{SessionID: p.sess, Dir: nfs4.CDFC4_FORE})
	st, list := p.do(putroot, illegal{}, putroot)
	if st != nfs4.NFS4ERR_OP_ILLEGAL || len(list) != 2 || list[1].Op() != nfs4.OP_ILLEGAL {
		t.Errorf("an unknown operation in the middle: %v, %d answers", st, len(list))
	}
	p.fails(nfs4.NFS4ERR_NOFILEHANDLE, &nfs4.GetfhArgs{})
	p.fails(nfs4.NFS4ERR_NOFILEHANDLE, putroot, &nfs4.RenameArgs{OldName: "a", NewName: "b"})
	p.fails(nfs4.NFS4ERR_NOFILEHANDLE, putroot, &nfs4.RestorefhArgs{})
	p.fails(nfs4.NFS4ERR_NOTSUPP, &nfs4.RenewArgs{})
	p.fails(nfs4.NFS4ERR_NOTSUPP, putroot, &nfs4.OpenattrArgs{})
	p.fails(nfs4.NFS4ERR_LAYOUTUNAVAILABLE, putroot, &nfs4.LayoutgetArgs{})
	p.minor = 1
	p.fails(nfs4.NFS4ERR_OP_ILLEGAL, putroot, &nfs4.SeekArgs{})
	p.minor = 3
	alone(nfs4.NFS4ERR_MINOR_VERS_MISMATCH, 0, putroot)
}

// illegal is an operation that nobody knows.
type illegal struct{}

func (illegal) Op() nfs4.OpNum { return 200 }
func (illegal) XDR(*xdr.Codec) {}

func TestSizesOfRequestAndReply(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	p.mkfile("big", bytes.Repeat([]byte("x"), 100_000))
	p.session(nfs4.ChannelAttrs{MaxRequestSize: 2048, MaxResponseSize: 3000, MaxResponseSizeCached: 1000, MaxOperations: 5, MaxRequests: 2})
	many := []nfs4.Args{p.sequence()}
	for range 5 {
		many = append(many, putroot)
	}
	if st, list := p.must(many...); st != nfs4.NFS4ERR_TOO_MANY_OPS || len(list) != 1 {
		t.Errorf("six operations of five: %v", st)
	}
	p.seq[0]-- // SEQUENCE failed: the slot is as it was
	if st, _ := p.must(p.sequence(), putroot, &nfs4.LookupArgs{Name: string(bytes.Repeat([]byte("n"), 3000))}); st != nfs4.NFS4ERR_REQ_TOO_BIG {
		t.Errorf("a request over ca_maxrequestsize: %v", st)
	}
	p.seq[0]--
	read := &nfs4.ReadArgs{Count: 50_000}
	p.fails(nfs4.NFS4ERR_REP_TOO_BIG, with(at("big"), read)...)
	p.cache = true
	p.fails(nfs4.NFS4ERR_REP_TOO_BIG_TO_CACHE, with(at("big"), &nfs4.ReadArgs{Count: 1500})...)
	p.cache = false
	if r := last[*nfs4.ReadRes](p.ok(with(at("big"), &nfs4.ReadArgs{Count: 1500})...)); len(r.Data) != 1500 {
		t.Errorf("read %d bytes", len(r.Data))
	}
}

// RFC 8881 2.10.6.2: a retry over another connection gets the answer of the first.
func TestRetryOverAnotherConnection(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	p.cache = true
	create := func() []nfs4.Args {
		return []nfs4.Args{&nfs4.SequenceArgs{SessionID: p.sess, SequenceID: p.seq[0], CacheThis: true}, putroot,
			&nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: "d"}}
	}
	p.seq[0]++
	if st, _ := p.must(create()...); st != nfs4.NFS4_OK {
		t.Fatal(st)
	}
	p.connect()
	if st, list := p.must(create()...); st != nfs4.NFS4_OK || len(list) != 3 {
		t.Errorf("the retry: %v with %d answers", st, len(list))
	}
	// The same sequence with another request is a false retry.
	if st, _ := p.must(&nfs4.SequenceArgs{SessionID: p.sess, SequenceID: p.seq[0], CacheThis: true}, putroot, &nfs4.GetfhArgs{}); st != nfs4.NFS4ERR_SEQ_FALSE_RETRY {
		t.Errorf("false retry: %v", st)
	}
	p.seq[0]++
	if st, _ := p.must(create()...); st != nfs4.NFS4ERR_EXIST {
		t.Errorf("the same as a new request: %v", st)
	}
	// Not cached: the retry says so at its second operation.
	p.cache = false
	p.ok(putroot, &nfs4.GetfhArgs{})
	p.seq[0]--
	st, list := p.must(p.sequence(), putroot, &nfs4.GetfhArgs{})
	if !(st == nfs4.NFS4ERR_RETRY_UNCACHED_REP && len(list) == 2 || st == nfs4.NFS4_OK && len(list) == 3) {
		t.Errorf("an uncached retry: %v with %d answers", st, len(list))
	}
	p.seq[0] += 4
	if st, _ := p.must(p.sequence()); st != nfs4.NFS4ERR_SEQ_MISORDERED {
		t.Errorf("a jump: %v", st)
	}
}

// RFC 8881 16.2.3.1.2.
func TestCurrentStateid(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	list := p.ok(putroot, openArgs("o", "f", nfs4.OPEN4_SHARE_ACCESS_BOTH, 0),
		&nfs4.WriteArgs{Stateid: nfs4.CurrentStateid, Data: []byte("hello"), Stable: nfs4.FILE_SYNC4},
		&nfs4.SavefhArgs{}, putroot, &nfs4.RestorefhArgs{},
		&nfs4.LockArgs{LockType: nfs4.WRITE_LT, Length: 5, Locker: nfs4.Locker{NewLockOwner: true, OpenStateid: nfs4.CurrentStateid, LockOwner: nfs4.StateOwner{Owner: "l"}}},
		&nfs4.LockuArgs{LockType: nfs4.WRITE_LT, LockStateid: nfs4.CurrentStateid, Length: 5})
	open := list[1].(*nfs4.OpenRes).Stateid
	// An operation that sets the filehandle without a stateid makes the current one anonymous: no CLOSE with it.
	p.fails(nfs4.NFS4ERR_BAD_STATEID, putroot, &nfs4.LookupArgs{Name: "f"}, &nfs4.CloseArgs{OpenStateid: nfs4.CurrentStateid})
	p.ok(putroot, &nfs4.LookupArgs{Name: "f"}, &nfs4.CloseArgs{OpenStateid: open})
	if w.fs.Opens() != 0 {
		t.Errorf("%d opens are left", w.fs.Opens())
	}
}

func TestForgedHandlesAndStateids(t *testing.T) {
	w := newWorld(t, nil)
	p := w.client("alice")
	fh, sid := p.open("o", "f")
	for _, h := range []nfs4.FH{"", "\x01", "\x02", "\x03abcdefgh", fh[:len(fh)-1], fh + "x"} {
		st, _ := p.do(put(h), &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_SIZE)})
		if st != nfs4.NFS4ERR_BADHANDLE && st != nfs4.NFS4ERR_STALE {
			t.Errorf("handle %v: %v", h, st)
		}
	}
	flip := []byte(fh)
	flip[len(flip)-1] ^= 1
	if st, _ := p.do(put(nfs4.FH(flip)), &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_SIZE)}); st != nfs4.NFS4ERR_STALE && st != nfs4.NFS4ERR_BADHANDLE {
		t.Errorf("a flipped handle: %v", st)
	}
	flip = []byte(fh)
	flip[2] ^= 1
	p.fails(nfs4.NFS4ERR_STALE, put(nfs4.FH(flip))) // no such export
	forged := sid
	forged.Other[11] ^= 0x40
	p.fails(nfs4.NFS4ERR_BAD_STATEID, put(fh), &nfs4.ReadArgs{Stateid: forged, Count: 1})
	p.fails(nfs4.NFS4ERR_BAD_STATEID, put(fh), &nfs4.CloseArgs{OpenStateid: forged})
	p.fails(nfs4.NFS4ERR_BAD_STATEID, put(fh), &nfs4.ReadArgs{Stateid: nfs4.InvalidStateid, Count: 1})
	future := sid
	future.Seqid += 7
	p.fails(nfs4.NFS4ERR_BAD_STATEID, put(fh), &nfs4.ReadArgs{Stateid: future, Count: 1})
	// Another client's stateid is none.
	bob := w.client("bob")
	bob.fails(nfs4.NFS4ERR_BAD_STATEID, put(fh), &nfs4.CloseArgs{OpenStateid: sid})
	codes := last[*nfs4.TestStateidRes](p.ok(&nfs4.TestStateidArgs{Stateids: []nfs4.Stateid{sid, forged}})).StatusCodes
	if codes[0] != nfs4.NFS4_OK || codes[1] != nfs4.NFS4ERR_BAD_STATEID {
		t.Errorf("TEST_STATEID: %v", codes)
	}
}
