package nfsup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
)

// A request is a COMPOUND on its way: it is built, sent, sent again, and answered once.
type request struct {
	cred *rpc.Cred
	// build makes the operations, without SEQUENCE. It is called again when a new session may have new
	// stateids; its error ends the request.
	build func(*session) ([]nfs4.Args, error)
	// use gets the answers while their record is there; see all.
	use func([]nfs4.Res) error
	// all says that use gets a failure too. Otherwise only success.
	all bool
	// sticky says that once the request was sent, the end of the caller's context does not end it.
	sticky bool
	// patient is how long NFS4ERR_DELAY is answered by asking again.
	patient time.Duration
	// grace says that NFS4ERR_GRACE is meant like NFS4ERR_DELAY.
	grace bool

	sent      bool // once, on the session in use now or on another
	uncertain bool // sent on a session that died before the answer
}

// Compound runs ops for cred, after a SEQUENCE of its own. use gets the results, one for each of ops,
// if all succeeded; it may be nil. Otherwise the error is a *StatusError.
//
// NFS4ERR_DELAY is repeated for up to Config.DelayTime if nothing before it had an effect;
// NFS4ERR_GRACE is returned. If ctx ends first, the request may still be executed.
func (c *Client) Compound(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func(res []nfs4.Res) error) error {
	return c.run(ctx, &request{cred: cred, build: fixed(ops), use: use, patient: c.cfg.DelayTime})
}

// CompoundAll is Compound, but use gets the results in any case, as far as the server came: the last one
// may be a failure. Its error is the result. It is not called if the server refused the COMPOUND as a
// whole; the error is then a *StatusError of SEQUENCE.
func (c *Client) CompoundAll(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func(res []nfs4.Res) error) error {
	return c.run(ctx, &request{cred: cred, build: fixed(ops), use: use, all: true, patient: c.cfg.DelayTime})
}

func fixed(ops []nfs4.Args) func(*session) ([]nfs4.Args, error) {
	return func(*session) ([]nfs4.Args, error) { return ops, nil }
}

// run sends a request through the gate, on as many sessions as it takes.
func (c *Client) run(ctx context.Context, r *request) error {
	for {
		sess, err := c.gate(r.ctx(c, ctx))
		if err != nil {
			return err
		}
		if err = c.runOn(ctx, sess, r); err != errSessionDead {
			return err
		}
	}
}

// ctx is the context under which r waits.
func (r *request) ctx(c *Client, caller context.Context) context.Context {
	if r.sticky && r.sent {
		return c.ctx
	}
	return caller
}

// errAgain says that the answer was NFS4ERR_DELAY, or that the reply cache had nothing to say.
var errAgain = errors.New("nfsup: again")

// runOn sends a request on one session, gate or not. errSessionDead means: not answered there.
func (c *Client) runOn(ctx context.Context, sess *session, r *request) error {
	b := backoff{first: 10 * time.Millisecond, max: time.Second}
	until := c.cfg.Clock.Now().Add(r.patient)
	for {
		ops, err := r.build(sess)
		if err != nil {
			return err
		}
		last := !c.cfg.Clock.Now().Before(until)
		err = c.exchange(ctx, sess, r, ops, !last)
		if err != errAgain {
			return err
		}
		if err := b.waitOr(r.ctx(c, ctx), c.cfg.Clock, sess.deadCh); err != nil {
			return err
		}
		if sess.isDead() {
			return errSessionDead
		}
	}
}

// exchange makes one COMPOUND in one slot, and sends it until it is answered. again allows errAgain.
func (c *Client) exchange(ctx context.Context, sess *session, r *request, ops []nfs4.Args, again bool) error {
	slot, err := sess.slots.acquire(r.ctx(c, ctx))
	if err != nil {
		return err
	}
	x := &exchange{c: c, sess: sess, r: r, slot: slot, again: again}
	x.seq = nfs4.SequenceArgs{SessionID: sess.id, SlotID: uint32(slot.id), SequenceID: slot.seq, CacheThis: !idempotent(ops)}
	x.ops = append(append(make([]nfs4.Args, 0, len(ops)+1), &x.seq), ops...)
	b := backoff{first: 5 * time.Millisecond, max: time.Second}
	for {
		x.status, x.called, x.came, x.answered, x.decoded = 0, false, false, false, false
		err := x.send(ctx)
		switch x.judge(ctx, err) {
		case done:
			sess.slots.release(slot, x.used)
			return x.err
		case left:
			c.resolve(sess, slot)
			return x.err
		case pause:
			if err := b.waitOr(r.ctx(c, ctx), c.cfg.Clock, sess.deadCh); err != nil {
				if x.outstanding {
					c.resolve(sess, slot)
				} else {
					sess.slots.release(slot, false)
				}
				return err
			}
		case resend:
		}
	}
}

// An exchange is one COMPOUND in one slot.
type exchange struct {
	c     *Client
	sess  *session
	r     *request
	slot  slotRef
	seq   nfs4.SequenceArgs
	ops   []nfs4.Args // with SEQUENCE
	again bool

	outstanding bool // sent, and no answer to SEQUENCE: the slot's state is not known

	// Of the last try.
	called   bool        // a connection was there
	came     bool        // an answer came
	decoded  bool        // and made sense
	answered bool        // SEQUENCE was NFS4_OK in it
	status   nfs4.Status // else: of SEQUENCE
	used     bool        // the server has moved the slot on
	err      error       // the result
}

// What to do after a try.
type verdict int

const (
	done   verdict = iota // release the slot, return err
	left                  // the caller goes, the slot stays busy until its state is known
	pause                 // the same again, later
	resend                // the same again
)

// send makes one try.
func (x *exchange) send(ctx context.Context) error {
	c, r := x.c, x.r
	ctx = r.ctx(c, ctx)
	conn, l, err := c.pick(ctx, x.sess)
	if err != nil {
		return err
	}
	x.called = true
	if x.outstanding {
		c.replays.Add(1)
	}
	x.seq.HighestSlotID = x.sess.slots.highest()
	if r.sticky {
		ctx = c.ctx
	}
	l.outstanding.Add(1)
	start := c.cfg.Clock.Now()
	err = conn.Call(ctx, &rpc.Call{Prog: nfs4.Program, Vers: nfs4.Version, Proc: nfs4.ProcCompound, Cred: *x.r.cred},
		encodeCompound(x.sess.minor, x.ops),
		func(d *xdr.Codec) error {
			l.answers.Add(1)
			x.came = true
			s, list, err := nfs4.DecodeCompoundRes(d, x.ops)
			if err != nil {
				return err
			}
			x.decoded = true
			return x.answer(s, list, start)
		})
	l.outstanding.Add(-1)
	return err
}

// answer looks at what came, while it is there.
func (x *exchange) answer(status nfs4.Status, list []nfs4.Res, start time.Time) error {
	c := x.c
	c.stats.count(list, c.cfg.Clock.Now().Sub(start))
	if len(list) == 0 {
		x.status = status
		return nil
	}
	seq, ok := list[0].(*nfs4.SequenceRes)
	if !ok {
		x.status = list[0].Stat()
		return nil
	}
	if x.status = seq.Status; x.status != nfs4.NFS4_OK {
		return nil
	}
	x.answered, x.used = true, true
	c.sequenced(x.sess, seq, start)

	rest := list[1:]
	if status == nfs4.NFS4_OK {
		if x.r.use != nil {
			x.err = x.r.use(rest)
		}
		return nil
	}
	if len(rest) == 0 {
		x.err = &StatusError{Op: nfs4.OP_SEQUENCE, Status: status, Index: -1}
		return nil
	}
	i := len(rest) - 1
	switch {
	case status == nfs4.NFS4ERR_RETRY_UNCACHED_REP && x.outstanding && !x.seq.CacheThis:
		// 2.10.6.1.3: it was executed, and the answer was not worth keeping: harmless to repeat.
		x.err = errAgain
		return nil
	case status == nfs4.NFS4ERR_RETRY_UNCACHED_REP:
		x.r.uncertain = true
		x.err = errAgain
		return nil
	case (status == nfs4.NFS4ERR_DELAY || status == nfs4.NFS4ERR_GRACE && x.r.grace) && x.again && harmless(x.ops[1:i+1]):
		x.err = errAgain
		return nil
	}
	if x.r.all && x.r.use != nil {
		x.err = x.r.use(rest)
		return nil
	}
	x.err = &StatusError{Op: x.ops[i+1].Op(), Status: status, Index: i, Uncertain: x.r.uncertain}
	return nil
}

// judge decides what becomes of the exchange after a try that ended with err.
func (x *exchange) judge(ctx context.Context, err error) verdict {
	c, r := x.c, x.r
	var dead *rpc.ConnError
	switch {
	case x.answered && err == nil:
		r.sent = true
		return done
	case x.decoded && err == nil:
		return x.refused()
	case err == errSessionDead:
		if x.outstanding {
			r.uncertain = true
		}
		x.err = errSessionDead
		return done
	case errors.As(err, &dead):
		if dead.Sent {
			x.outstanding, r.sent = true, true
		}
		return resend // pick waits for another connection
	case x.came || isReject(err):
		// An answer that makes no sense, or a failure of the server's RPC layer. What it did is not known.
		x.err = fmt.Errorf("nfsup: %w", err)
		var auth *rpc.AuthError
		if errors.As(err, &auth) && !x.outstanding {
			return done // rejected before SEQUENCE
		}
		return left
	}
	// The context ended, or nothing was sent at all.
	x.err = err
	if c.ctx.Err() != nil {
		x.err = context.Cause(c.ctx)
	}
	if !x.outstanding && (!x.called || r.ctx(c, ctx).Err() == nil && c.ctx.Err() == nil) {
		return done // no connection, or it could not be encoded
	}
	// Call does not say whether it was sent before its context ended; asking is harmless.
	return left
}

// isReject tells whether the peer's RPC layer answered.
func isReject(err error) bool {
	var accept *rpc.AcceptError
	var auth *rpc.AuthError
	var mismatch *rpc.MismatchError
	return errors.As(err, &accept) || errors.As(err, &auth) || errors.As(err, &mismatch)
}

// refused deals with a SEQUENCE that failed: the slot is as it was, RFC 8881 18.46.3.
func (x *exchange) refused() verdict {
	sess := x.sess
	switch s := x.status; {
	case s == nfs4.NFS4ERR_DELAY:
		// Also the answer to a replay while the first one is running.
		return pause
	case sessionLost(s):
		sess.kill(&StatusError{Op: nfs4.OP_SEQUENCE, Status: s, Index: -1})
		if x.outstanding {
			x.r.uncertain = true
		}
		x.err = errSessionDead
		return done
	case s == nfs4.NFS4ERR_CONN_NOT_BOUND_TO_SESSION:
		// Connections are bound before they are used; so the server has forgotten it. Bind anew.
		x.c.dropLinks()
		return pause
	case s == nfs4.NFS4ERR_BADSLOT, s == nfs4.NFS4ERR_BAD_HIGH_SLOT:
		// The server gave up slots that we still use: stay below this one.
		sess.slots.setTarget(uint32(max(x.slot.id-1, 0)))
		x.err = errAgain
		return done
	case s == nfs4.NFS4ERR_RETRY_UNCACHED_REP && x.outstanding:
		// Executed, not kept.
		x.used = true
		x.r.uncertain = x.r.uncertain || x.seq.CacheThis
		x.err = errAgain
		return done
	case s == nfs4.NFS4ERR_SEQ_MISORDERED, s == nfs4.NFS4ERR_SEQ_FALSE_RETRY:
		// We and the server count this slot differently, which heals only with a new session.
		x.c.cfg.Logger.Warn("slot out of step with the origin", "slot", x.slot.id, "seq", x.slot.seq, "status", s)
		sess.kill(&StatusError{Op: nfs4.OP_SEQUENCE, Status: s, Index: -1})
		x.r.uncertain = x.r.uncertain || x.outstanding
		x.err = errSessionDead
		return done
	default:
		x.err = &StatusError{Op: nfs4.OP_SEQUENCE, Status: s, Index: -1}
		return done
	}
}

// resolve finds out in the background what became of a slot whose request has no caller any more: a
// SEQUENCE alone, in the same slot with the same number. If the request was executed, the server says
// so in one way or another; if not, the number is used up now and the request, should it still be on
// its way, comes too late. Until then the slot is not used. RFC 8881 2.10.6.2.
func (c *Client) resolve(sess *session, slot slotRef) {
	ok := c.spawn(func() {
		b := backoff{first: 5 * time.Millisecond, max: time.Second}
		for {
			used, known := c.probe(sess, slot)
			if known {
				sess.slots.release(slot, used)
				return
			}
			if c.ctx.Err() != nil || sess.isDead() || b.waitOr(c.ctx, c.cfg.Clock, sess.deadCh) != nil {
				sess.slots.release(slot, false)
				return
			}
		}
	})
	if !ok {
		sess.slots.release(slot, false)
	}
}

// probe asks once. known is false if the answer is still to come.
func (c *Client) probe(sess *session, slot slotRef) (used, known bool) {
	conn, l, err := c.pick(c.ctx, sess)
	if err != nil {
		return false, true // no session, no slot
	}
	l.outstanding.Add(1)
	defer l.outstanding.Add(-1)
	seq := &nfs4.SequenceArgs{SessionID: sess.id, SlotID: uint32(slot.id), SequenceID: slot.seq, HighestSlotID: sess.slots.highest()}
	status := nfs4.NFS4ERR_DELAY
	start := c.cfg.Clock.Now()
	err = conn.Call(c.ctx, &rpc.Call{Prog: nfs4.Program, Vers: nfs4.Version, Proc: nfs4.ProcCompound, Cred: *c.cfg.Cred},
		encodeCompound(sess.minor, []nfs4.Args{seq}),
		func(d *xdr.Codec) error {
			l.answers.Add(1)
			// It may be the answer to the request, with more in it than was asked for now.
			s, r, err := decodeSequence(d)
			if err != nil {
				return err
			}
			if status = s; r != nil {
				if status = r.Status; status == nfs4.NFS4_OK {
					c.sequenced(sess, r, start)
				}
			}
			return nil
		})
	if err != nil {
		return false, false
	}
	switch {
	case status == nfs4.NFS4_OK, status == nfs4.NFS4ERR_RETRY_UNCACHED_REP, status == nfs4.NFS4ERR_SEQ_FALSE_RETRY:
		return true, true
	case status == nfs4.NFS4ERR_DELAY:
		return false, false
	default:
		sess.kill(&StatusError{Op: nfs4.OP_SEQUENCE, Status: status, Index: -1})
		return false, true
	}
}

func encodeCompound(minor uint32, ops []nfs4.Args) func(*xdr.Codec) {
	return func(c *xdr.Codec) { nfs4.EncodeCompound(c, "", minor, ops) }
}

func decodeCompound(ops []nfs4.Args, f func(nfs4.Status, []nfs4.Res) error) func(*xdr.Codec) error {
	return func(c *xdr.Codec) error {
		s, list, err := nfs4.DecodeCompoundRes(c, ops)
		if err != nil {
			return err
		}
		return f(s, list)
	}
}

// decodeSequence decodes the beginning of a COMPOUND result: its status, and SEQUENCE if it is there.
func decodeSequence(c *xdr.Codec) (nfs4.Status, *nfs4.SequenceRes, error) {
	var s nfs4.Status
	var tag string
	var n uint32
	var op nfs4.OpNum
	s.XDR(c)
	c.String(&tag, 1024)
	c.Uint32(&n)
	if c.Err() != nil || n == 0 {
		return s, nil, c.Err()
	}
	op.XDR(c)
	if op != nfs4.OP_SEQUENCE {
		return s, nil, c.Err()
	}
	r := new(nfs4.SequenceRes)
	r.XDR(c)
	return s, r, c.Err()
}
