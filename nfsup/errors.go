package nfsup

import (
	"errors"
	"fmt"

	"holdfast/internal/nfs4"
)

// Errors of the client itself. None of them is an answer of the server.
var (
	// ErrClosed says that Close or Abandon was called.
	ErrClosed = errors.New("nfsup: client is closed")
	// ErrNoState says that there is no such open or lock, or not any more.
	ErrNoState = errors.New("nfsup: no such open or lock")
)

// A StatusError is an operation that the server refused. It unwraps to its Status.
type StatusError struct {
	Op     nfs4.OpNum
	Status nfs4.Status
	Index  int // in the operations of the caller; -1 for SEQUENCE
	// Uncertain says that the session was lost in an earlier try of this request, so that it may have
	// been executed before: EXIST after CREATE, or NOENT after REMOVE, can be the echo of a success.
	Uncertain bool
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("%v: %v", e.Op, e.Status)
	if e.Uncertain {
		s += " (an earlier try may have succeeded)"
	}
	return s
}

// Unwrap gives the Status.
func (e *StatusError) Unwrap() error { return e.Status }

// StatusOf gives the server's status in err: NFS4_OK for nil, and false if the server did not answer.
func StatusOf(err error) (nfs4.Status, bool) {
	if err == nil {
		return nfs4.NFS4_OK, true
	}
	var d *DeniedError
	if errors.As(err, &d) {
		return nfs4.NFS4ERR_DENIED, true
	}
	var s nfs4.Status
	if errors.As(err, &s) {
		return s, true
	}
	return 0, false
}

// A DeniedError is the answer to LOCK and LOCKT: a conflicting lock, RFC 8881 18.10.4. It unwraps to
// nfs4.NFS4ERR_DENIED.
type DeniedError struct {
	Range Range
	Write bool
	Owner nfs4.StateOwner
	// Ours says that the holder is an owner of this client: Holder.
	Ours   bool
	Holder UpOwner
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("LOCK: NFS4ERR_DENIED: %v held by %x of client %x", Held{e.Range, e.Write}, e.Owner.Owner, e.Owner.ClientID)
}

// Unwrap gives nfs4.NFS4ERR_DENIED.
func (e *DeniedError) Unwrap() error { return nfs4.NFS4ERR_DENIED }
