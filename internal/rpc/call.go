package rpc

import (
	"context"
	"fmt"

	"holdfast/internal/xdr"
)

// A Call says what is called, and for whom.
type Call struct {
	Prog, Vers, Proc uint32
	Cred             Cred
}

// A pendingCall is a call without an answer yet.
type pendingCall struct {
	answer chan answer // of one
	msg    *outMsg     // until the writer has let go of it; guarded by Conn.mu
}

type answer struct {
	rec *Buffer
	err error
}

// Call makes a call and waits for its answer, for ctx, or for the end of the connection. encode
// encodes the arguments and decode decodes the results; both may be nil. What decode decodes without
// copying is valid until it returns. Payloads in the arguments are not used any more when Call
// returns.
//
// Errors: a *ConnError if the connection died; *AcceptError, *AuthError or *MismatchError if the peer
// said so; context.Cause of ctx, in which case the peer may have executed the call, and its answer is
// ignored; else what encode (nothing was sent then) or decode ran into.
func (c *Conn) Call(ctx context.Context, call *Call, encode func(*xdr.Codec), decode func(*xdr.Codec) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	m := getMsg()
	xid := c.xid.Add(1)
	begin(&m.enc, xid, msgCall)
	words(&m.enc, rpcVersion, call.Prog, call.Vers, call.Proc)
	call.Cred.encode(&m.enc)
	words(&m.enc, AUTH_NONE, 0)
	if encode != nil {
		encode(&m.enc)
	}
	if m.enc.Err() == nil {
		finish(&m.enc)
	}
	if err := m.enc.Err(); err != nil {
		m.drop()
		return fmt.Errorf("rpc: call: %w", err)
	}

	pc := &pendingCall{answer: make(chan answer, 1), msg: m}
	m.out = pc
	c.mu.Lock()
	if c.err == nil {
		c.pending[xid] = pc
	}
	c.mu.Unlock()
	if err := c.enqueue(m, 0); err != nil {
		return &ConnError{Err: err}
	}

	var a answer
	select {
	case a = <-pc.answer:
	case <-ctx.Done():
		var answered bool
		if a, answered = c.abandon(xid, pc); !answered {
			return context.Cause(ctx)
		}
	}
	if a.err != nil {
		c.untangle(pc)
		return a.err
	}
	defer a.rec.Free()
	// The answer can overtake the writer's return from its system call.
	c.untangle(pc)
	var dec xdr.Codec
	dec.ResetDecoder(a.rec.B[8:]) // after xid and type
	if err := decodeReply(&dec); err != nil {
		return err
	}
	if decode != nil {
		return decode(&dec)
	}
	return nil
}

// abandon gives up waiting for an answer, unless it is there.
func (c *Conn) abandon(xid uint32, pc *pendingCall) (answer, bool) {
	c.mu.Lock()
	if c.pending[xid] != pc {
		c.mu.Unlock()
		return <-pc.answer, true
	}
	delete(c.pending, xid)
	m := pc.msg
	if m != nil && !m.taken {
		// Not sent: it never was. Its place in the queue is closed.
		for i := c.outHead; i < len(c.out); i++ {
			if c.out[i] == m {
				c.out = append(c.out[:i], c.out[i+1:]...)
				pc.msg = nil
				c.mu.Unlock()
				m.drop()
				return answer{}, false
			}
		}
	}
	c.mu.Unlock()
	c.untangle(pc)
	return answer{}, false
}

// untangle waits until the writer no longer uses the message of pc: its payloads are the caller's.
func (c *Conn) untangle(pc *pendingCall) {
	c.mu.Lock()
	m := pc.msg
	if m == nil {
		c.mu.Unlock()
		return
	}
	if m.written == nil {
		m.written = make(chan struct{})
	}
	written := m.written
	c.mu.Unlock()
	<-written
}

// answered takes a reply to its caller. Nobody waits for one whose call was abandoned.
func (c *Conn) answered(xid uint32, rec *Buffer) {
	c.mu.Lock()
	pc := c.pending[xid]
	delete(c.pending, xid)
	if pc != nil {
		pc.answer <- answer{rec: rec} // there is room: it is the only one
	}
	c.mu.Unlock()
	if pc == nil {
		rec.Free()
	}
}
