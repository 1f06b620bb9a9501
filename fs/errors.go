package fs

import (
	"context"
	"errors"
	"fmt"
)

// A Code is the kind of a failure, in the words of RFC 8881 15.1. Each border (NFSv4, NFSv3,
// FUSE, and inward from an original server) has one table from or to it.
type Code uint8

// The codes. OK is never in an Error.
const (
	OK Code = iota
	Perm
	NoEnt
	IO
	NXIO
	Access
	Exist
	XDev
	NotDir
	IsDir
	Inval
	FBig
	NoSpc
	ROFS
	MLink
	NameTooLong
	NotEmpty
	DQuot
	Stale
	BadHandle
	FHExpired
	Moved
	NotSupp
	TooSmall
	ServerFault
	BadType
	WrongType // the operation does not fit the type of the file
	IsSymlink
	Delay // try again later; JUKEBOX in v3
	BadName
	BadChar
	BadOwner
	AttrNotSupp
	BadCookie
	NotSame
	Grace           // recovery is under way; wait and try again
	NoGrace         // a reclaim came outside grace, or cannot be guaranteed: the lock is lost
	ReclaimBad      // the server knows that this was not held: the lock is lost
	ReclaimConflict // the reclaim conflicts with another that was granted: lost
	Denied          // a conflicting byte-range lock; see DeniedError
	ShareDenied     // a conflicting open
	Locked          // I/O that a lock or a share reservation forbids
	LockRange
	LockNotSupp
	LocksHeld
	BadRange
	Deadlock
	OpenMode
	BadStateid // no such open or lock
	OldStateid
	Expired      // the state was lost because a lease expired
	AdminRevoked // the state was taken away
	NoXattr
	XattrTooBig
	UnionNotSupp
	OffloadDenied
	OffloadNoReq
	Interrupted // the caller's context ended
	Unreachable // the origin does not answer and the mount is not hard
	NumCodes
)

var codeNames = [NumCodes]string{
	"OK", "PERM", "NOENT", "IO", "NXIO", "ACCESS", "EXIST", "XDEV", "NOTDIR", "ISDIR", "INVAL", "FBIG", "NOSPC", "ROFS",
	"MLINK", "NAMETOOLONG", "NOTEMPTY", "DQUOT", "STALE", "BADHANDLE", "FHEXPIRED", "MOVED", "NOTSUPP", "TOOSMALL",
	"SERVERFAULT", "BADTYPE", "WRONG_TYPE", "SYMLINK", "DELAY", "BADNAME", "BADCHAR", "BADOWNER", "ATTRNOTSUPP",
	"BAD_COOKIE", "NOT_SAME", "GRACE", "NO_GRACE", "RECLAIM_BAD", "RECLAIM_CONFLICT", "DENIED", "SHARE_DENIED", "LOCKED",
	"LOCK_RANGE", "LOCK_NOTSUPP", "LOCKS_HELD", "BAD_RANGE", "DEADLOCK", "OPENMODE", "BAD_STATEID", "OLD_STATEID",
	"EXPIRED", "ADMIN_REVOKED", "NOXATTR", "XATTR2BIG", "UNION_NOTSUPP", "OFFLOAD_DENIED", "OFFLOAD_NO_REQS",
	"INTERRUPTED", "UNREACHABLE",
}

func (c Code) String() string {
	if c < NumCodes {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// Error makes a Code usable with errors.Is: errors.Is(err, fs.NoEnt).
func (c Code) Error() string { return c.String() }

// An Error is a failure with its code: what was attempted, on what, and why, for the log.
type Error struct {
	Op   string // the operation, as "LOOKUP"; may be empty
	Code Code
	Err  error // the cause; may be nil
}

func (e *Error) Error() string {
	s := e.Code.String()
	if e.Op != "" {
		s = e.Op + ": " + s
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is lets errors.Is compare with a Code.
func (e *Error) Is(target error) bool {
	c, ok := target.(Code)
	return ok && c == e.Code
}

// E makes an Error.
func E(op string, code Code, err error) error { return &Error{Op: op, Code: code, Err: err} }

// CodeOf gives the code of any error: OK for nil, Interrupted for an ended context, and
// ServerFault for one that carries no code, which is a bug worth a log line.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	var d *DeniedError
	if errors.As(err, &d) {
		return Denied
	}
	var c Code
	if errors.As(err, &c) {
		return c
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Interrupted
	}
	return ServerFault
}

// A DeniedError is the answer to a lock request that conflicts with a lock of another owner.
type DeniedError struct {
	Range Range
	Type  LockType
	// Owner is the holder, as far as it is known; an upstream holder may be opaque.
	Owner Owner
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("DENIED: %v lock on %v held by %v", e.Type, e.Range, e.Owner)
}

// Is lets errors.Is(err, Denied) hold.
func (e *DeniedError) Is(target error) bool { return target == error(Denied) }
