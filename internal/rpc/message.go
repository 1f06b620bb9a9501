package rpc

import (
	"errors"
	"fmt"

	"holdfast/internal/xdr"
)

const (
	rpcVersion = 2

	msgCall  = 0
	msgReply = 1

	replyAccepted = 0
	replyDenied   = 1

	deniedMismatch = 0
	deniedAuth     = 1
)

// An AcceptStat says how far an accepted call came, RFC 5531 section 9.
type AcceptStat uint32

// The values of AcceptStat.
const (
	SUCCESS       AcceptStat = 0
	PROG_UNAVAIL  AcceptStat = 1
	PROG_MISMATCH AcceptStat = 2
	PROC_UNAVAIL  AcceptStat = 3
	GARBAGE_ARGS  AcceptStat = 4
	SYSTEM_ERR    AcceptStat = 5
)

var acceptNames = [...]string{"SUCCESS", "PROG_UNAVAIL", "PROG_MISMATCH", "PROC_UNAVAIL", "GARBAGE_ARGS", "SYSTEM_ERR"}

// String returns the name that RFC 5531 has for s.
func (s AcceptStat) String() string {
	if int(s) < len(acceptNames) {
		return acceptNames[s]
	}
	return fmt.Sprintf("accept_stat(%d)", uint32(s))
}

// An AuthStat says why a credential was rejected, RFC 5531 section 9.
type AuthStat uint32

// The values of AuthStat that are in use.
const (
	AUTH_OK                AuthStat = 0
	AUTH_BADCRED           AuthStat = 1
	AUTH_REJECTEDCRED      AuthStat = 2
	AUTH_BADVERF           AuthStat = 3
	AUTH_REJECTEDVERF      AuthStat = 4
	AUTH_TOOWEAK           AuthStat = 5
	AUTH_INVALIDRESP       AuthStat = 6
	AUTH_FAILED            AuthStat = 7
	RPCSEC_GSS_CREDPROBLEM AuthStat = 13
	RPCSEC_GSS_CTXPROBLEM  AuthStat = 14
)

// String returns a short name.
func (s AuthStat) String() string {
	switch s {
	case AUTH_OK:
		return "AUTH_OK"
	case AUTH_BADCRED:
		return "AUTH_BADCRED"
	case AUTH_REJECTEDCRED:
		return "AUTH_REJECTEDCRED"
	case AUTH_BADVERF:
		return "AUTH_BADVERF"
	case AUTH_REJECTEDVERF:
		return "AUTH_REJECTEDVERF"
	case AUTH_TOOWEAK:
		return "AUTH_TOOWEAK"
	case RPCSEC_GSS_CREDPROBLEM:
		return "RPCSEC_GSS_CREDPROBLEM"
	case RPCSEC_GSS_CTXPROBLEM:
		return "RPCSEC_GSS_CTXPROBLEM"
	}
	return fmt.Sprintf("auth_stat(%d)", uint32(s))
}

// An AcceptError is a call that the peer accepted and did not execute. Low and High are the versions
// that it has, for PROG_MISMATCH.
type AcceptError struct {
	Stat      AcceptStat
	Low, High uint32
}

// Error says what happened.
func (e *AcceptError) Error() string {
	if e.Stat == PROG_MISMATCH {
		return fmt.Sprintf("rpc: peer has versions %d to %d only", e.Low, e.High)
	}
	return "rpc: peer answers " + e.Stat.String()
}

// An AuthError is a call whose credential the peer rejected.
type AuthError struct{ Stat AuthStat }

// Error says what happened.
func (e *AuthError) Error() string { return "rpc: peer rejects the credential: " + e.Stat.String() }

// A MismatchError is a peer that does not speak version 2 of RPC.
type MismatchError struct{ Low, High uint32 }

// Error says what happened.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("rpc: peer speaks versions %d to %d of RPC only", e.Low, e.High)
}

// A ConnError is a call that was not answered because its connection died. Sent tells whether the
// call, or a part of it, may have reached the peer: if false, it was certainly not executed.
type ConnError struct {
	Sent bool
	Err  error
}

// Error says what happened.
func (e *ConnError) Error() string {
	if e.Sent {
		return "rpc: connection died before the answer came: " + e.Err.Error()
	}
	return "rpc: connection died before the call was sent: " + e.Err.Error()
}

// Unwrap returns what ended the connection.
func (e *ConnError) Unwrap() error { return e.Err }

// ErrClosed is what ended a connection that this side closed.
var ErrClosed = errors.New("rpc: connection closed")

// ErrIdle is what ended a connection on which nothing happened for IdleTimeout.
var ErrIdle = errors.New("rpc: connection idle")

// begin starts a message: the record mark, which finish fills in, xid and type.
func begin(c *xdr.Codec, xid, kind uint32) {
	var mark uint32
	c.Uint32(&mark)
	c.Uint32(&xid)
	c.Uint32(&kind)
}

// finish sets the record mark of a message of one fragment.
func finish(c *xdr.Codec) {
	n := c.Len() - 4
	if n >= lastFragment {
		c.Failf("record of %d bytes", n)
		return
	}
	c.PatchUint32(0, lastFragment|uint32(n))
}

func words(c *xdr.Codec, list ...uint32) {
	for i := range list {
		c.Uint32(&list[i])
	}
}

// encodeAccept starts an accepted reply; results follow if s is SUCCESS.
func encodeAccept(c *xdr.Codec, xid uint32, s AcceptStat) {
	begin(c, xid, msgReply)
	words(c, replyAccepted, AUTH_NONE, 0, uint32(s))
}

// decodeReply decodes what follows the type of a reply, up to the results.
func decodeReply(c *xdr.Codec) error {
	var stat, verfFlavor uint32
	c.Uint32(&stat)
	switch {
	case c.Err() != nil:
	case stat == replyAccepted:
		var verf []byte
		var s AcceptStat
		c.Uint32(&verfFlavor)
		c.Opaque(&verf, MaxAuth)
		c.Uint32((*uint32)(&s))
		if c.Err() != nil || s == SUCCESS {
			break
		}
		e := &AcceptError{Stat: s}
		if s == PROG_MISMATCH {
			c.Uint32(&e.Low)
			c.Uint32(&e.High)
		}
		return e
	case stat == replyDenied:
		var why uint32
		c.Uint32(&why)
		if c.Err() != nil {
			break
		}
		if why == deniedMismatch {
			e := new(MismatchError)
			c.Uint32(&e.Low)
			c.Uint32(&e.High)
			return e
		}
		e := new(AuthError)
		c.Uint32((*uint32)(&e.Stat))
		return e
	default:
		c.Failf("reply_stat is %d", stat)
	}
	if c.Err() != nil {
		return fmt.Errorf("rpc: reply: %w", c.Err())
	}
	return nil
}
