package nfsup

import (
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// OpenArgs opens a file for an open-owner. If the owner has the file open already, the modes are
// added to that open: there is one open per owner and file, RFC 8881 9.7.
type OpenArgs struct {
	Owner UpOwner
	// Access is OPEN4_SHARE_ACCESS_*, at least one bit, and Deny is OPEN4_SHARE_DENY_*.
	Access, Deny uint32
	// Want asks for a delegation: DelegRead for one to read, DelegWrite for any. With DelegNone one
	// that comes all the same is given back. Whether there is one tells [Client.Delegated].
	Want DelegKind

	// By name: Dir and Name. By handle (CLAIM_FH, and reclaims): FH, and Name empty.
	Dir  nfs4.FH
	Name string
	FH   nfs4.FH

	// How is how to create; zero means not to. Only by name.
	How nfs4.OpenHow
	// Reclaim makes it CLAIM_PREVIOUS. It is sent as a reclaim or not at all: after RECLAIM_COMPLETE it
	// fails with NFS4ERR_NO_GRACE. Only by handle.
	Reclaim bool

	// Attrs is what GETATTR asks for in the same round trip.
	Attrs nfs4.Bitmap
}

// OpenReply is the answer to Open.
type OpenReply struct {
	FH nfs4.FH
	// Attrs is the attributes after the open. Its Mask is empty if the open succeeded and GETATTR did not.
	Attrs   nfs4.Fattr
	Change  nfs4.ChangeInfo // of the directory; by name only
	AttrSet nfs4.Bitmap     // what was set at creation
	Rflags  uint32          // OPEN4_RESULT_*
	// WriteDelegation is the number of the write delegation that the answer brought; see [Client.WriteDelegation].
	WriteDelegation uint64
}

// MayNotify tells whether the server promises CB_NOTIFY_LOCK for denied locks that would wait.
func (r *OpenReply) MayNotify() bool { return r.Rflags&nfs4.OPEN4_RESULT_MAY_NOTIFY_LOCK != 0 }

// LockArgs asks for a byte-range lock of LockOwner under the open of OpenOwner.
type LockArgs struct {
	FH        nfs4.FH
	OpenOwner UpOwner
	LockOwner UpOwner
	Range     Range
	Write     bool
	// Wait says that the caller would wait: READW_LT or WRITEW_LT, so that the server may queue a
	// denied request and send CB_NOTIFY_LOCK. The call does not block.
	Wait bool
	// Reclaim sends it as a reclaim, under an open that was reclaimed too, or not at all: after
	// RECLAIM_COMPLETE it fails with NFS4ERR_NO_GRACE.
	Reclaim bool
}

// OpenState is an open, for people and for checks.
type OpenState struct {
	Owner        UpOwner
	FH           nfs4.FH
	Access, Deny uint32
	Stateid      nfs4.Stateid
	// Modes is the set of the combinations of access and deny that it was made of (18.18.3), in a form of
	// the package's own. Cred is whom it was opened for last.
	Modes uint16
	Cred  *rpc.Cred
}

// LockState is what a lock-owner holds on a file.
type LockState struct {
	OpenOwner, LockOwner UpOwner
	FH                   nfs4.FH
	Ranges               RangeSet
	Stateid              nfs4.Stateid
	Cred                 *rpc.Cred
}
