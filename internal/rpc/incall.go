package rpc

import (
	"context"
	"errors"
	"sync/atomic"

	"holdfast/internal/xdr"
)

// A Handler serves the calls of a connection.
type Handler interface {
	// ServeRPC serves a call and answers it, exactly once, with one of its methods. It runs in a
	// goroutine of its own, side by side with the other calls of the connection. ctx ends when the
	// connection dies. A call that is not answered when ServeRPC returns gets SYSTEM_ERR.
	//
	// Once ServeRPC has returned and the reply is written, call and whatever aliases its record
	// must not be used.
	ServeRPC(ctx context.Context, conn *Conn, call *InCall)
}

// HandlerFunc is a function as Handler.
type HandlerFunc func(ctx context.Context, conn *Conn, call *InCall)

// ServeRPC calls f.
func (f HandlerFunc) ServeRPC(ctx context.Context, conn *Conn, call *InCall) { f(ctx, conn, call) }

// ErrReplied says that a call was answered already.
var ErrReplied = errors.New("rpc: call answered already")

// An InCall is a call from the peer.
type InCall struct {
	Xid, Prog, Vers, Proc uint32
	Cred                  Cred
	Body                  *xdr.Codec // decodes the arguments

	conn     *Conn
	body     xdr.Codec
	rec      *Buffer
	charged  int // bytes of the record in conn.held
	releases []func()
	replied  atomic.Bool
	ends     atomic.Int32 // of two: ServeRPC returned, the reply is written or never will be
}

// Conn returns the connection that the call came by.
func (ic *InCall) Conn() *Conn { return ic.conn }

// Size is the length of the whole call in bytes, without record marks.
func (ic *InCall) Size() int { return ic.charged }

// Release has f run once, after the reply was written or is known never to be: then payloads may go
// back to their pool. Call it before Reply, or in its encode function. f must not block.
func (ic *InCall) Release(f func()) { ic.releases = append(ic.releases, f) }

// Reply answers with success and the results that encode encodes; nil is for none. It returns when
// the reply is queued. Payloads must stay as they are until Release. If encode fails, the peer gets
// SYSTEM_ERR and Reply returns the error.
func (ic *InCall) Reply(encode func(*xdr.Codec)) error {
	if !ic.replied.CompareAndSwap(false, true) {
		return ErrReplied
	}
	m := getMsg()
	encodeAccept(&m.enc, ic.Xid, SUCCESS)
	if encode != nil {
		encode(&m.enc)
	}
	err := m.enc.Err()
	if err == nil {
		finish(&m.enc)
		err = m.enc.Err()
	}
	if err != nil {
		m.enc.Reuse(keepEncoder)
		encodeAccept(&m.enc, ic.Xid, SYSTEM_ERR)
		finish(&m.enc)
	}
	ic.send(m)
	return err
}

// Error answers that the call was accepted and not executed. low and high are the versions that
// there are, for PROG_MISMATCH.
func (ic *InCall) Error(s AcceptStat, low, high uint32) error {
	if !ic.replied.CompareAndSwap(false, true) {
		return ErrReplied
	}
	m := getMsg()
	encodeAccept(&m.enc, ic.Xid, s)
	if s == PROG_MISMATCH {
		words(&m.enc, low, high)
	}
	finish(&m.enc)
	ic.send(m)
	return nil
}

// AuthError answers that the credential is rejected.
func (ic *InCall) AuthError(s AuthStat) error {
	return ic.deny(deniedAuth, uint32(s))
}

func (ic *InCall) deny(why ...uint32) error {
	if !ic.replied.CompareAndSwap(false, true) {
		return ErrReplied
	}
	m := getMsg()
	begin(&m.enc, ic.Xid, msgReply)
	words(&m.enc, replyDenied)
	words(&m.enc, why...)
	finish(&m.enc)
	ic.send(m)
	return nil
}

// Drop leaves the call without an answer. NFSv4 forbids that unless the connection is closed too
// (RFC 8881 section 2.9.2).
func (ic *InCall) Drop() {
	if ic.replied.CompareAndSwap(false, true) {
		ic.release()
		ic.end(0)
	}
}

// send queues the reply.
func (ic *InCall) send(m *outMsg) {
	m.call = ic
	m.size = m.enc.Len()
	ic.conn.enqueue(m, m.size)
}

// release runs the functions given to Release.
func (ic *InCall) release() {
	for _, f := range ic.releases {
		f()
	}
	ic.releases = nil
}

// end counts the two ends of a call; after both its record is free. sent is the size of the reply
// that no longer waits.
func (ic *InCall) end(sent int) {
	last := ic.ends.Add(1) == 2
	done := 0
	if last {
		done = 1
		sent += ic.charged
	}
	ic.conn.served(done, sent)
	if last {
		ic.rec.Free()
	}
}

// serve runs the handler.
func (ic *InCall) serve() {
	ic.conn.opts.Handler.ServeRPC(ic.conn.ctx, ic.conn, ic)
	if !ic.replied.Load() {
		// Replied by somebody else meanwhile is fine.
		_ = ic.Error(SYSTEM_ERR, 0, 0)
	}
	ic.end(0)
}
