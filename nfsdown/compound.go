package nfsdown

import (
	"context"
	"errors"
	"hash/maphash"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
	"holdfast/journal"
	"holdfast/nfsdown/state"
)

// A compound is a COMPOUND that is being run, RFC 8881 2.3 and 16.2. It belongs to one goroutine.
type compound struct {
	s *Server
	scope
	rpc  *rpc.Conn
	call *rpc.InCall

	minor uint32

	// req is the slot's request, nil without SEQUENCE; session and client go with it.
	req    *state.Request
	client *state.Client

	cur, saved       ref
	curSid, savedSid nfs4.Stateid // the current stateid, 16.2.3.1.2

	enc  *xdr.Codec
	base int // where the result begins in enc
	// limit is the size of the reply in bytes, tooBig what a larger one is answered with.
	limit  int
	tooBig nfs4.Status

	last bool // the operation is the last one of the COMPOUND

	v40 compound40 // with minor version 0

	// leave ends what the operation said that it does to files.
	leave []func()

	// after is to be run when the operation is done: before the next, or after the reply.
	after state.Effects
	// posted says that there are records which the reply must not overtake.
	posted bool
}

// replyHead is the RPC header of a reply in bytes, as it counts for ca_maxresponsesize.
const replyHead = 24

// smallReply is more than the answer to any operation that changes something takes. Such an operation is not
// begun where its answer would not fit: RFC 8881 2.10.6.4.
const smallReply = 512

// unboundLimit is the size of a reply without a session.
const unboundLimit = 16 << 10

// compound serves a COMPOUND.
func (s *Server) compound(cn *conn, rc *rpc.Conn, call *rpc.InCall) {
	args := call.Body.Rest()
	var h nfs4.CompoundHeader
	h.XDR(call.Body)
	if call.Body.Err() != nil {
		_ = call.Error(rpc.GARBAGE_ARGS, 0, 0)
		return
	}
	c := &compound{s: s, scope: s.scopeOf(cn, &call.Cred), rpc: rc, call: call, minor: h.MinorVersion, limit: unboundLimit, tooBig: nfs4.NFS4ERR_REP_TOO_BIG}
	ctx, leave, err := s.enter()
	if err != nil {
		call.Drop()
		_ = rc.Close()
		return
	}
	defer leave()
	ctx = fs.Begin(ctx)
	// An error means that the reply could not be encoded; the peer was told SYSTEM_ERR.
	if err := call.Reply(func(e *xdr.Codec) { c.run(ctx, e, &h, args) }); err != nil {
		s.log.Error("compound could not be answered", "client", cn.addr, "err", err)
	}
	c.flush()
}

// flush runs what operations left to do.
func (c *compound) flush() {
	if c.after.Empty() {
		return
	}
	e := c.after
	c.after = state.Effects{}
	c.posted = e.Record(c.s) || c.posted
	c.s.runEffects(&e)
}

// record waits until the records of what was done are written: after a restart that the client does not see
// they must say all that it was told.
func (c *compound) record() {
	if c.posted = c.after.Record(c.s) || c.posted; c.posted {
		c.s.written(new(journal.Batch))
	}
}

// sessionID is that of the session that the COMPOUND came over, zero with NFSv4.0.
func (c *compound) sessionID() nfs4.SessionID {
	if c.req == nil {
		return nfs4.SessionID{}
	}
	return c.req.Session().ID()
}

// run decodes and runs the operations and encodes the result.
func (c *compound) run(ctx context.Context, e *xdr.Codec, h *nfs4.CompoundHeader, args []byte) {
	c.enc, c.base = e, e.Mark()
	status := nfs4.NFS4_OK
	status.XDR(e)
	tag := h.Tag
	e.String(&tag, len(tag))
	count := e.Mark()
	var n uint32
	e.Uint32(&n)
	// finish completes the header of the result.
	finish := func(s nfs4.Status, n uint32) {
		e.PatchUint32(c.base, uint32(s))
		e.PatchUint32(count, n)
	}
	switch {
	case h.MinorVersion > 2:
		finish(nfs4.NFS4ERR_MINOR_VERS_MISMATCH, 0)
		return
	case h.NumOps == 0:
		finish(nfs4.NFS4_OK, 0)
		return
	case h.MinorVersion == 0:
		c.v40.fingerprint = c.fingerprint(args)
		if status, n := c.run40(ctx, h.NumOps); !c.v40.repeated {
			finish(status, n)
			c.v40.kept.end(e.Bytes()[c.base:])
		}
		return
	}

	var cancel context.CancelFunc
	for n < h.NumOps {
		op, a, err := nfs4.DecodeArgs(c.call.Body)
		if n > 0 && c.req == nil {
			break // nothing follows an operation without SEQUENCE; see lead
		}
		c.flush()
		c.last = n+1 == h.NumOps
		start := c.s.now()
		var res nfs4.Res
		switch {
		case n == 0:
			if err == nil && op == nfs4.OP_SEQUENCE {
				var done bool
				if res, done = c.sequence(a.(*nfs4.SequenceArgs), h, args, count); done {
					return
				}
				if c.req != nil {
					ctx, cancel = c.s.track(ctx, c.req.Session())
					defer cancel()
				}
			} else {
				res = c.lead(ctx, op, a, err, h.NumOps)
			}
		default:
			res = c.op(ctx, op, a, err)
		}
		mark := e.Mark()
		nfs4.EncodeRes(e, res)
		if e.Len()-c.base+replyHead > c.limit && e.Err() == nil {
			e.Truncate(mark)
			res = nfs4.ErrRes(op, c.tooBig)
			nfs4.EncodeRes(e, res)
		}
		status = res.Stat()
		n++
		c.s.stats.record(op, status, c.s.now().Sub(start))
		if status != nfs4.NFS4_OK {
			break
		}
	}
	c.record()
	finish(status, n)
	if c.req != nil {
		var reply []byte
		if c.req.CacheThis() && e.Err() == nil {
			reply = append(reply, e.Bytes()[c.base:]...)
		}
		c.req.Done(reply)
	}
}

// lead is the first operation when it is not SEQUENCE. Few may be; those must be alone.
func (c *compound) lead(ctx context.Context, op nfs4.OpNum, a nfs4.Args, derr error, ops uint32) nfs4.Res {
	info := optable[op]
	switch {
	case info == nil || info.minor > c.minor:
		return nfs4.ErrRes(nfs4.OP_ILLEGAL, nfs4.NFS4ERR_OP_ILLEGAL)
	case !info.lead:
		return nfs4.ErrRes(op, nfs4.NFS4ERR_OP_NOT_IN_SESSION)
	case derr != nil:
		return nfs4.ErrRes(op, badArgs(derr))
	case ops > 1:
		return nfs4.ErrRes(op, nfs4.NFS4ERR_NOT_ONLY_OP)
	}
	return c.do(ctx, op, info, a)
}

// op is an operation after SEQUENCE.
func (c *compound) op(ctx context.Context, op nfs4.OpNum, a nfs4.Args, derr error) nfs4.Res {
	info := optable[op]
	switch {
	case info == nil || info.minor > c.minor:
		return nfs4.ErrRes(nfs4.OP_ILLEGAL, nfs4.NFS4ERR_OP_ILLEGAL)
	case op == nfs4.OP_SEQUENCE:
		return nfs4.ErrRes(op, nfs4.NFS4ERR_SEQUENCE_POS)
	case op == nfs4.OP_BIND_CONN_TO_SESSION:
		return nfs4.ErrRes(op, nfs4.NFS4ERR_NOT_ONLY_OP)
	case derr != nil:
		return nfs4.ErrRes(op, badArgs(derr))
	case info.changes && c.left() < smallReply:
		return nfs4.ErrRes(op, c.tooBig)
	}
	return c.do(ctx, op, info, a)
}

// do checks what the operation needs and runs it.
func (c *compound) do(ctx context.Context, op nfs4.OpNum, info *opInfo, a nfs4.Args) nfs4.Res {
	fail := func(s nfs4.Status) nfs4.Res { return nfs4.ErrRes(op, c.valid(op, s)) }
	if info.needs&currentFH != 0 {
		switch {
		case !c.cur.ok():
			return fail(nfs4.NFS4ERR_NOFILEHANDLE)
		case c.cur.acc.Denied:
			return fail(nfs4.NFS4ERR_ACCESS)
		case c.cur.wrongSec && !negotiates(op):
			return fail(nfs4.NFS4ERR_WRONGSEC)
		case c.cur.moved() && op != nfs4.OP_GETATTR:
			return fail(nfs4.NFS4ERR_MOVED)
		case info.writes && c.cur.x != nil && !c.cur.acc.RW:
			return fail(nfs4.NFS4ERR_ROFS)
		}
	}
	if info.needs&savedFH != 0 {
		switch {
		case !c.saved.ok():
			return fail(nfs4.NFS4ERR_NOFILEHANDLE)
		case c.saved.acc.Denied:
			return fail(nfs4.NFS4ERR_ACCESS)
		case c.saved.moved():
			return fail(nfs4.NFS4ERR_MOVED)
		}
	}
	if info.state {
		if err := c.s.AwaitRestore(ctx); err != nil {
			return fail(toStatus(err))
		}
	}
	res, err := info.run(ctx, c, a)
	c.untouch()
	if r := (*state.RecallError)(nil); c.minor > 0 && errors.As(err, &r) {
		deadline := make(chan struct{})
		timer := c.s.cfg.Clock.AfterFunc(recallWait, func() { close(deadline) })
		for c.again(ctx, err, deadline) {
			res, err = info.run(ctx, c, a)
			c.untouch()
		}
		timer.Stop()
	}
	if err != nil {
		st := toStatus(err)
		if st == nfs4.NFS4ERR_SERVERFAULT {
			c.s.log.Error("operation failed", "op", op, "client", c.conn.addr, "err", err)
		}
		return fail(st)
	}
	if c.wrongSec(op) {
		return fail(nfs4.NFS4ERR_WRONGSEC)
	}
	if st := res.Stat(); st != nfs4.NFS4_OK {
		if v := c.valid(op, st); v != st {
			return nfs4.ErrRes(op, v)
		}
	}
	return res
}

// badArgs is the status of arguments that could not be decoded.
func badArgs(err error) nfs4.Status {
	if errors.Is(err, nfs4.ErrUnknownAttr) {
		return nfs4.NFS4ERR_ATTRNOTSUPP
	}
	return nfs4.NFS4ERR_BADXDR
}

// left is how many bytes the reply may still take.
func (c *compound) left() int { return c.limit - replyHead - (c.enc.Len() - c.base) }

// sequence is SEQUENCE at the head of a COMPOUND. done says that the whole result is encoded: it was a retry.
func (c *compound) sequence(a *nfs4.SequenceArgs, h *nfs4.CompoundHeader, args []byte, count int) (res nfs4.Res, done bool) {
	const op = nfs4.OP_SEQUENCE
	ss, err := c.s.state.Session(a.SessionID)
	if err != nil {
		return nfs4.ErrRes(op, toStatus(err)), false
	}
	fore := ss.Fore()
	switch {
	case h.NumOps > fore.MaxOperations:
		return nfs4.ErrRes(op, nfs4.NFS4ERR_TOO_MANY_OPS), false
	case uint32(c.call.Size()) > fore.MaxRequestSize:
		return nfs4.ErrRes(op, nfs4.NFS4ERR_REQ_TOO_BIG), false
	}
	r, err := c.s.state.Sequence(a, c.fingerprint(args))
	if err != nil {
		return nfs4.ErrRes(op, toStatus(err)), false
	}
	c.conn.bind(a.SessionID)
	switch {
	case r.Replay != nil:
		c.enc.Truncate(c.base)
		b := r.Replay
		c.enc.Raw(&b)
		return nil, true
	case r.Uncached:
		nfs4.EncodeRes(c.enc, &r.Res)
		n, status := uint32(1), nfs4.NFS4_OK
		if h.NumOps > 1 {
			next, _, _ := nfs4.DecodeArgs(c.call.Body)
			if optable[next] == nil {
				next = nfs4.OP_ILLEGAL
			}
			status = nfs4.NFS4ERR_RETRY_UNCACHED_REP
			nfs4.EncodeRes(c.enc, nfs4.ErrRes(next, status))
			n = 2
		}
		c.enc.PatchUint32(c.base, uint32(status))
		c.enc.PatchUint32(count, n)
		return nil, true
	case r.Request == nil:
		return &r.Res, false
	}
	c.req, c.client = r.Request, r.Request.Client()
	c.limit = int(min(fore.MaxResponseSize, 1<<30))
	if c.req.CacheThis() && fore.MaxResponseSizeCached < fore.MaxResponseSize {
		c.limit, c.tooBig = int(fore.MaxResponseSizeCached), nfs4.NFS4ERR_REP_TOO_BIG_TO_CACHE
	}
	return &r.Res, false
}

var fingerprintSeed = maphash.MakeSeed()

// fingerprintBytes is how much of a request is looked at to tell a retry from another request (2.10.6.1.3.1):
// all but the data of a large WRITE.
const fingerprintBytes = 4096

// fingerprint is a hash of the request and of its user.
func (c *compound) fingerprint(args []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(fingerprintSeed)
	maphash.WriteComparable(&h, [4]uint32{uint32(len(args)), c.call.Cred.Flavor, c.cred.UID, c.cred.GID})
	_, _ = h.Write(args[:min(len(args), fingerprintBytes)])
	return h.Sum64()
}

// stateid gives the stateid that an operation asks for: the current one for its special value, 16.2.3.1.2.
func (c *compound) stateid(sid nfs4.Stateid) nfs4.Stateid {
	if sid == nfs4.CurrentStateid && c.minor > 0 {
		return c.curSid
	}
	return sid
}

// set changes the current filehandle. The current stateid becomes the anonymous one until an operation
// returns another.
func (c *compound) set(r ref) {
	c.cur = r
	c.curSid = nfs4.AnonymousStateid
}

// io judges I/O under a stateid on the current file, or on f, and gives what the backend is to know.
func (c *compound) io(ctx context.Context, r *ref, sid nfs4.Stateid, kind state.IO) (fs.IORef, error) {
	sid = c.stateid(sid)
	if state.IsSpecial(sid) {
		what := state.TouchChange
		if kind == state.IORead {
			what = state.TouchLook
		}
		if err := c.touch(ctx, r.handle, what); err != nil {
			return fs.IORef{}, err
		}
	}
	ref, err := c.s.state.ResolveIO(c.client, sid, r.handle, kind)
	if err != nil {
		return fs.IORef{}, err
	}
	ref.Handle = r.h
	return ref, nil
}

// regular checks that the file is a regular one.
func (c *compound) regular(ctx context.Context, r *ref) (*fs.Attr, error) {
	a, err := r.b.GetAttr(ctx, r.cred, r.h)
	if err != nil {
		return nil, err
	}
	switch a.Type {
	case fs.Regular:
		return a, nil
	case fs.Directory:
		return nil, nfs4.NFS4ERR_ISDIR
	case fs.Symlink:
		return nil, nfs4.NFS4ERR_SYMLINK
	}
	return nil, nfs4.NFS4ERR_WRONG_TYPE
}

// effects notes what is to be done after the operation.
func (c *compound) effects(e *state.Effects) { c.after.Add(e) }

func (s *Server) now() time.Time { return s.cfg.Clock.Now() }
