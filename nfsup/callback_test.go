package nfsup

import (
	"bytes"
	"context"
	"testing"

	"holdfast/internal/nfs4"
	"holdfast/internal/xdr"
)

// 20.11 and 2.10.6: a callback is done once; its repetition gets the same answer.
func TestCallbacks(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		var got []UpOwner
		recalls := 0
		c := dial(func(cfg *Config) {
			cfg.Events.LockAvailable = func(fh nfs4.FH, o UpOwner) {
				if fh != "f" {
					t.Errorf("fh %v", fh)
				}
				got = append(got, o)
			}
			cfg.Events.Recall = func(nfs4.FH, bool) { recalls++ }
		})
		o := owner(1)
		id := s.sessionID(c)
		seq := func(n uint32) *nfs4.CBSequenceArgs {
			return &nfs4.CBSequenceArgs{SessionID: id, SequenceID: n, CacheThis: true}
		}
		notify := &nfs4.CBNotifyLockArgs{FH: "f", Owner: nfs4.StateOwner{ClientID: 1, Owner: string(o[:])}}
		call := func(want nfs4.Status, ops ...nfs4.CBArgs) []nfs4.CBRes {
			t.Helper()
			st, res, err := s.callBack(ops...)
			if err != nil || st != want {
				t.Errorf("%v, %v; want %v", st, err, want)
			}
			return res
		}
		for range 3 {
			call(nfs4.NFS4_OK, seq(1), notify)
		}
		if len(got) != 1 || got[0] != o {
			t.Errorf("told %v", got)
		}
		call(nfs4.NFS4_OK, seq(2), notify)
		if len(got) != 2 {
			t.Errorf("told %v", got)
		}
		call(nfs4.NFS4ERR_SEQ_MISORDERED, seq(4), notify)
		call(nfs4.NFS4ERR_SEQ_MISORDERED, seq(1), notify)
		call(nfs4.NFS4ERR_BADSLOT, &nfs4.CBSequenceArgs{SessionID: id, SlotID: 99, SequenceID: 1})
		call(nfs4.NFS4ERR_BADSESSION, &nfs4.CBSequenceArgs{SequenceID: 1})
		call(nfs4.NFS4ERR_OP_NOT_IN_SESSION, notify)
		call(nfs4.NFS4ERR_SEQUENCE_POS, seq(3), seq(3))
		call(nfs4.NFS4ERR_BAD_STATEID, seq(4), &nfs4.CBRecallArgs{FH: "f"})
		call(nfs4.NFS4_OK, seq(5), &nfs4.CBRecallAnyArgs{})
		call(nfs4.NFS4ERR_BADHANDLE, seq(6), &nfs4.CBGetattrArgs{FH: "f"})
		call(nfs4.NFS4ERR_NOTSUPP, seq(7), &nfs4.CBOffloadArgs{})
		call(nfs4.NFS4ERR_OP_ILLEGAL, seq(8), &nfs4.CBIllegalArgs{}, notify)
		call(nfs4.NFS4_OK, seq(9), &nfs4.CBRecallSlotArgs{TargetHighestSlotID: 1})
		if recalls != 1 || len(got) != 2 {
			t.Errorf("%d recalls, told %v", recalls, got)
		}
	})
}

// A recall that may belong to an OPEN on its way is put off, not denied.
func TestRecallBeforeTheOpenIsAnswered(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		c := dial()
		l := newLatch(nfs4.OP_OPEN)
		s.before = l.before
		opened := make(chan error, 1)
		go func() {
			_, err := c.Open(t.Context(), root, openFH("f", 1, 1, 0))
			opened <- err
		}()
		<-l.reached
		st, _, err := s.callBack(&nfs4.CBSequenceArgs{SessionID: s.sessionID(c), SequenceID: 1}, &nfs4.CBRecallArgs{FH: "f"})
		if st != nfs4.NFS4ERR_DELAY || err != nil {
			t.Errorf("%v %v", st, err)
		}
		close(l.open)
		must(t, <-opened)
	})
}

// Whatever the server sends, the answer is well-formed, or there is none; and it is no larger than
// what came, up to a constant for each operation.
func FuzzCallback(f *testing.F) {
	add := func(minor uint32, ops ...nfs4.CBArgs) {
		e := xdr.NewEncoder(nil)
		nfs4.EncodeCBCompound(e, "tag", minor, 0, ops)
		f.Add(e.Bytes())
	}
	seq := &nfs4.CBSequenceArgs{SequenceID: 1}
	add(1, seq, &nfs4.CBNotifyLockArgs{FH: "f", Owner: nfs4.StateOwner{Owner: "x"}})
	add(2, seq, &nfs4.CBRecallArgs{FH: "f"}, &nfs4.CBRecallSlotArgs{TargetHighestSlotID: 1})
	add(1, seq, &nfs4.CBRecallAnyArgs{}, &nfs4.CBGetattrArgs{}, &nfs4.CBOffloadArgs{})
	add(0, seq)
	add(1, &nfs4.CBIllegalArgs{})
	f.Fuzz(func(t *testing.T, body []byte) {
		ended, end := context.WithCancel(context.Background())
		end() // what a callback begins in the background ends at once
		c := &Client{ctx: ended, chores: chores{ask: make(chan chore, 1)}}
		c.cfg.setDefaults()
		c.state.init(true)
		c.sess = &session{slots: newSlotTable(4), deadCh: make(chan struct{})}
		c.sess.back.init(2)
		before := bytes.Clone(body)
		reply, err := c.cbCompound(xdr.NewDecoder(body))
		if err != nil {
			return
		}
		if !bytes.Equal(before, body) {
			t.Error("the record was changed")
		}
		d := xdr.NewDecoder(reply)
		var st nfs4.Status
		var tag string
		var n uint32
		st.XDR(d)
		d.String(&tag, 1<<20)
		d.Uint32(&n)
		for range n {
			var op nfs4.CBOpNum
			op.XDR(d)
			r := nfs4.NewCBRes(op)
			if r == nil {
				t.Fatalf("answer to operation %d", op)
			}
			r.XDR(d)
		}
		if d.Err() != nil || d.Len() != 0 {
			t.Fatalf("answer cannot be decoded: %v, %d left", d.Err(), d.Len())
		}
		if len(reply) > 64*(len(body)+1) {
			t.Errorf("%d bytes for %d", len(reply), len(body))
		}
	})
}
