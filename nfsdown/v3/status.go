package v3

import (
	"errors"

	"holdfast/fs"
	"holdfast/internal/nfs3"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// statusOf is the one place where our codes become an nfsstat3. Who is in recovery, or busy, is JUKEBOX: the client
// asks again later. What a deny mode forbids is ACCES, as there is nothing nearer.
var statusOf = [fs.NumCodes]nfs3.Status{
	fs.OK: nfs3.OK, fs.Perm: nfs3.ErrPerm, fs.NoEnt: nfs3.ErrNoEnt, fs.IO: nfs3.ErrIO, fs.NXIO: nfs3.ErrNXIO, fs.Access: nfs3.ErrAcces,
	fs.Exist: nfs3.ErrExist, fs.XDev: nfs3.ErrXDev, fs.NotDir: nfs3.ErrNotDir, fs.IsDir: nfs3.ErrIsDir, fs.Inval: nfs3.ErrInval,
	fs.FBig: nfs3.ErrFBig, fs.NoSpc: nfs3.ErrNoSpc, fs.ROFS: nfs3.ErrROFS, fs.MLink: nfs3.ErrMLink, fs.NameTooLong: nfs3.ErrNameTooLong,
	fs.NotEmpty: nfs3.ErrNotEmpty, fs.DQuot: nfs3.ErrDQuot, fs.Stale: nfs3.ErrStale, fs.BadHandle: nfs3.ErrBadHandle,
	fs.FHExpired: nfs3.ErrStale, fs.Moved: nfs3.ErrStale, fs.NotSupp: nfs3.ErrNotSupp, fs.TooSmall: nfs3.ErrTooSmall,
	fs.ServerFault: nfs3.ErrServerFault, fs.BadType: nfs3.ErrBadType, fs.WrongType: nfs3.ErrInval, fs.IsSymlink: nfs3.ErrInval,
	fs.Delay: nfs3.ErrJukebox, fs.BadName: nfs3.ErrInval, fs.BadChar: nfs3.ErrInval, fs.BadOwner: nfs3.ErrInval,
	fs.AttrNotSupp: nfs3.ErrInval, fs.BadCookie: nfs3.ErrBadCookie, fs.NotSame: nfs3.ErrBadCookie, fs.Grace: nfs3.ErrJukebox,
	fs.NoGrace: nfs3.ErrJukebox, fs.ReclaimBad: nfs3.ErrJukebox, fs.ReclaimConflict: nfs3.ErrJukebox, fs.Denied: nfs3.ErrAcces,
	fs.ShareDenied: nfs3.ErrAcces, fs.Locked: nfs3.ErrAcces, fs.LockRange: nfs3.ErrInval, fs.LockNotSupp: nfs3.ErrNotSupp,
	fs.LocksHeld: nfs3.ErrServerFault, fs.BadRange: nfs3.ErrInval, fs.Deadlock: nfs3.ErrServerFault, fs.OpenMode: nfs3.ErrAcces,
	fs.BadStateid: nfs3.ErrJukebox, fs.OldStateid: nfs3.ErrJukebox, fs.Expired: nfs3.ErrJukebox, fs.AdminRevoked: nfs3.ErrIO,
	fs.NoXattr: nfs3.ErrNotSupp, fs.XattrTooBig: nfs3.ErrInval, fs.UnionNotSupp: nfs3.ErrNotSupp, fs.OffloadDenied: nfs3.ErrServerFault,
	fs.OffloadNoReq: nfs3.ErrServerFault, fs.Interrupted: nfs3.ErrJukebox, fs.Unreachable: nfs3.ErrJukebox,
}

// toStatus is the status of any error. A Status that is an error already stays itself.
func toStatus(err error) nfs3.Status {
	if err == nil {
		return nfs3.OK
	}
	var s nfs3.Status
	if errors.As(err, &s) {
		return s
	}
	if s4, ok := state.StatusIn(err); ok {
		switch s4 {
		case nfs4.NFS4ERR_GRACE, nfs4.NFS4ERR_DELAY:
			return nfs3.ErrJukebox
		case nfs4.NFS4ERR_LOCKED, nfs4.NFS4ERR_SHARE_DENIED, nfs4.NFS4ERR_OPENMODE:
			return nfs3.ErrAcces
		}
		return nfs3.ErrServerFault
	}
	return statusOf[fs.CodeOf(err)]
}
