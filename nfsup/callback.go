package nfsup

import (
	"context"
	"fmt"
	"sync"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
)

// The back channel, RFC 8881 20: the server calls, we answer, exactly once here too.

// cbSlots is how many callbacks the server may have outstanding.
const cbSlots = 16

// A cbTable is the back channel's slots and its reply cache, 2.10.6.
type cbTable struct {
	mu    sync.Mutex
	slots []cbSlot // +checklocks:mu
}

type cbSlot struct {
	seq   uint32
	busy  bool
	reply []byte // the whole CB_COMPOUND4res of the last call
}

func (t *cbTable) init(n int) { t.slots = make([]cbSlot, n) }

// begin judges a CB_SEQUENCE. replay is the answer to a repeated call.
func (t *cbTable) begin(a *nfs4.CBSequenceArgs) (replay []byte, s nfs4.Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.SlotID >= uint32(len(t.slots)) {
		return nil, nfs4.NFS4ERR_BADSLOT
	}
	slot := &t.slots[a.SlotID]
	switch {
	case a.SequenceID == slot.seq && slot.busy:
		return nil, nfs4.NFS4ERR_DELAY
	case a.SequenceID == slot.seq && slot.reply != nil:
		return slot.reply, nfs4.NFS4_OK
	case a.SequenceID != slot.seq+1 || slot.busy:
		return nil, nfs4.NFS4ERR_SEQ_MISORDERED
	}
	slot.seq, slot.busy, slot.reply = a.SequenceID, true, nil
	return nil, nfs4.NFS4_OK
}

// end stores the answer.
func (t *cbTable) end(slot uint32, reply []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slots[slot].busy = false
	t.slots[slot].reply = reply
}

func (t *cbTable) highest() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return uint32(len(t.slots) - 1)
}

// serveCallback answers a call of the server on one of our connections.
func (c *Client) serveCallback(ctx context.Context, _ *rpc.Conn, call *rpc.InCall) {
	var err error
	switch {
	case call.Prog != nfs4.CBProgram:
		err = call.Error(rpc.PROG_UNAVAIL, 0, 0)
	case call.Vers != nfs4.CBVersion:
		// 18.36.3 asks for 4 here, the XDR says 1, and servers do either.
		if call.Vers != nfs4.Version {
			err = call.Error(rpc.PROG_MISMATCH, nfs4.CBVersion, nfs4.CBVersion)
			break
		}
		fallthrough
	default:
		switch call.Proc {
		case nfs4.ProcNull:
			err = call.Reply(nil)
		case nfs4.ProcCompound:
			reply, bad := c.cbCompound(call.Body)
			if bad != nil {
				c.cfg.Logger.Warn("callback that cannot be decoded", "err", bad)
				err = call.Error(rpc.GARBAGE_ARGS, 0, 0)
				break
			}
			err = call.Reply(func(e *xdr.Codec) { e.Raw(&reply) })
		default:
			err = call.Error(rpc.PROC_UNAVAIL, 0, 0)
		}
	}
	if err != nil {
		c.cfg.Logger.Warn("answer to a callback failed", "err", err)
	}
}

// cbCompound runs a CB_COMPOUND and returns the encoded answer. The error means that not even its
// header can be decoded.
func (c *Client) cbCompound(d *xdr.Codec) ([]byte, error) {
	var h nfs4.CBCompoundHeader
	if h.XDR(d); d.Err() != nil {
		return nil, d.Err()
	}
	run := &cbRun{c: c, tag: h.Tag}
	if h.MinorVersion == 0 || h.MinorVersion > 2 {
		return run.encode(nfs4.NFS4ERR_MINOR_VERS_MISMATCH), nil
	}
	for i := range h.NumOps {
		op, args, err := nfs4.DecodeCBArgs(d)
		if err != nil {
			if i == 0 && op == 0 {
				return nil, fmt.Errorf("nfsup: operation %d of a callback: %w", i, err)
			}
			run.add(nfs4.CBErrRes(op, nfs4.NFS4ERR_BADXDR))
			break
		}
		r, replay := run.step(int(i), args)
		if replay != nil {
			return replay, nil
		}
		run.add(r)
		if r.Stat() != nfs4.NFS4_OK {
			break
		}
	}
	reply := run.encode(nfs4.NFS4_OK)
	if run.sess != nil {
		run.sess.back.end(run.slot, reply)
	}
	return reply, nil
}

// A cbRun is a CB_COMPOUND in progress.
type cbRun struct {
	c    *Client
	tag  string
	sess *session // set by CB_SEQUENCE
	slot uint32
	res  []nfs4.CBRes
}

func (r *cbRun) add(res nfs4.CBRes) { r.res = append(r.res, res) }

func (r *cbRun) encode(s nfs4.Status) []byte {
	e := xdr.NewEncoder(nil)
	nfs4.EncodeCBCompoundRes(e, s, r.tag, r.res)
	return e.Bytes()
}

// step runs one operation, or finds that the whole is a repetition.
func (r *cbRun) step(i int, args nfs4.CBArgs) (res nfs4.CBRes, replay []byte) {
	op := args.Op()
	if seq, ok := args.(*nfs4.CBSequenceArgs); ok {
		if i != 0 {
			return nfs4.CBErrRes(op, nfs4.NFS4ERR_SEQUENCE_POS), nil
		}
		return r.sequence(seq)
	}
	if _, illegal := args.(*nfs4.CBIllegalArgs); illegal {
		return nfs4.CBErrRes(nfs4.OP_CB_ILLEGAL, nfs4.NFS4ERR_OP_ILLEGAL), nil
	}
	if i == 0 {
		return nfs4.CBErrRes(op, nfs4.NFS4ERR_OP_NOT_IN_SESSION), nil
	}
	if a, ok := args.(*nfs4.CBGetattrArgs); ok {
		return r.c.delegAttr(a), nil
	}
	return nfs4.CBErrRes(op, r.c.callback(r.sess, args)), nil
}

// sequence is CB_SEQUENCE, 20.9.
func (r *cbRun) sequence(a *nfs4.CBSequenceArgs) (nfs4.CBRes, []byte) {
	r.c.mu.Lock()
	sess := r.c.sess
	r.c.mu.Unlock()
	if sess == nil || sess.id != a.SessionID || sess.isDead() {
		return nfs4.CBErrRes(a.Op(), nfs4.NFS4ERR_BADSESSION), nil
	}
	replay, s := sess.back.begin(a)
	if replay != nil || s != nfs4.NFS4_OK {
		return nfs4.CBErrRes(a.Op(), s), replay
	}
	r.sess, r.slot = sess, a.SlotID
	return &nfs4.CBSequenceRes{
		SessionID:           a.SessionID,
		SequenceID:          a.SequenceID,
		SlotID:              a.SlotID,
		HighestSlotID:       sess.back.highest(),
		TargetHighestSlotID: sess.back.highest(),
	}, nil
}

// callback does what a callback asks for.
func (c *Client) callback(sess *session, args nfs4.CBArgs) nfs4.Status {
	e := &c.cfg.Events
	switch a := args.(type) {
	case *nfs4.CBNotifyLockArgs: // 20.11: a hint
		var owner UpOwner
		if len(a.Owner.Owner) != len(owner) {
			return nfs4.NFS4_OK
		}
		copy(owner[:], a.Owner.Owner)
		if e.LockAvailable != nil {
			e.LockAvailable(a.FH, owner)
		}
		return nfs4.NFS4_OK
	case *nfs4.CBRecallArgs: // 20.2
		return c.recall(a)
	case *nfs4.CBRecallAnyArgs: // 20.6
		if e.Recall != nil {
			e.Recall("", true)
		}
		return nfs4.NFS4_OK
	case *nfs4.CBRecallSlotArgs: // 20.8
		sess.slots.setTarget(a.TargetHighestSlotID)
		c.askChore(choreRenew) // sa_highest_slotid tells the server that we obey
		return nfs4.NFS4_OK
	case *nfs4.CBRecallableObjAvailArgs, *nfs4.CBWantsCancelledArgs, *nfs4.CBPushDelegArgs:
		return nfs4.NFS4ERR_NOTSUPP // we want none
	case *nfs4.CBLayoutrecallArgs:
		return nfs4.NFS4ERR_NOMATCHING_LAYOUT // 20.3.3
	default: // CB_NOTIFY, CB_NOTIFY_DEVICEID, CB_OFFLOAD
		return nfs4.NFS4ERR_NOTSUPP
	}
}
