package remote

import (
	"context"
	"errors"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsup"
)

// codeOf is the table inward: what an origin's status means at the fs border. Session and client
// errors are nfsup's to recover from; one that comes through all the same means "not now".
// Statuses that only a broken request of ours can cause are ServerFault.
var codeOf = map[nfs4.Status]fs.Code{
	nfs4.NFS4ERR_PERM:                      fs.Perm,
	nfs4.NFS4ERR_NOENT:                     fs.NoEnt,
	nfs4.NFS4ERR_IO:                        fs.IO,
	nfs4.NFS4ERR_NXIO:                      fs.NXIO,
	nfs4.NFS4ERR_ACCESS:                    fs.Access,
	nfs4.NFS4ERR_EXIST:                     fs.Exist,
	nfs4.NFS4ERR_XDEV:                      fs.XDev,
	nfs4.NFS4ERR_NOTDIR:                    fs.NotDir,
	nfs4.NFS4ERR_ISDIR:                     fs.IsDir,
	nfs4.NFS4ERR_INVAL:                     fs.Inval,
	nfs4.NFS4ERR_FBIG:                      fs.FBig,
	nfs4.NFS4ERR_NOSPC:                     fs.NoSpc,
	nfs4.NFS4ERR_ROFS:                      fs.ROFS,
	nfs4.NFS4ERR_MLINK:                     fs.MLink,
	nfs4.NFS4ERR_NAMETOOLONG:               fs.NameTooLong,
	nfs4.NFS4ERR_NOTEMPTY:                  fs.NotEmpty,
	nfs4.NFS4ERR_DQUOT:                     fs.DQuot,
	nfs4.NFS4ERR_STALE:                     fs.Stale,
	nfs4.NFS4ERR_BADHANDLE:                 fs.BadHandle,
	nfs4.NFS4ERR_BAD_COOKIE:                fs.BadCookie,
	nfs4.NFS4ERR_NOTSUPP:                   fs.NotSupp,
	nfs4.NFS4ERR_TOOSMALL:                  fs.TooSmall,
	nfs4.NFS4ERR_SERVERFAULT:               fs.ServerFault,
	nfs4.NFS4ERR_BADTYPE:                   fs.BadType,
	nfs4.NFS4ERR_DELAY:                     fs.Delay,
	nfs4.NFS4ERR_SAME:                      fs.ServerFault,
	nfs4.NFS4ERR_DENIED:                    fs.Denied,
	nfs4.NFS4ERR_EXPIRED:                   fs.Expired,
	nfs4.NFS4ERR_LOCKED:                    fs.Locked,
	nfs4.NFS4ERR_GRACE:                     fs.Grace,
	nfs4.NFS4ERR_FHEXPIRED:                 fs.FHExpired,
	nfs4.NFS4ERR_SHARE_DENIED:              fs.ShareDenied,
	nfs4.NFS4ERR_WRONGSEC:                  fs.Access,
	nfs4.NFS4ERR_CLID_INUSE:                fs.ServerFault,
	nfs4.NFS4ERR_RESOURCE:                  fs.Delay,
	nfs4.NFS4ERR_MOVED:                     fs.Moved,
	nfs4.NFS4ERR_NOFILEHANDLE:              fs.ServerFault,
	nfs4.NFS4ERR_MINOR_VERS_MISMATCH:       fs.NotSupp,
	nfs4.NFS4ERR_STALE_CLIENTID:            fs.Delay,
	nfs4.NFS4ERR_STALE_STATEID:             fs.BadStateid,
	nfs4.NFS4ERR_OLD_STATEID:               fs.OldStateid,
	nfs4.NFS4ERR_BAD_STATEID:               fs.BadStateid,
	nfs4.NFS4ERR_BAD_SEQID:                 fs.BadStateid,
	nfs4.NFS4ERR_NOT_SAME:                  fs.NotSame,
	nfs4.NFS4ERR_LOCK_RANGE:                fs.LockRange,
	nfs4.NFS4ERR_SYMLINK:                   fs.IsSymlink,
	nfs4.NFS4ERR_RESTOREFH:                 fs.ServerFault,
	nfs4.NFS4ERR_LEASE_MOVED:               fs.Moved,
	nfs4.NFS4ERR_ATTRNOTSUPP:               fs.AttrNotSupp,
	nfs4.NFS4ERR_NO_GRACE:                  fs.NoGrace,
	nfs4.NFS4ERR_RECLAIM_BAD:               fs.ReclaimBad,
	nfs4.NFS4ERR_RECLAIM_CONFLICT:          fs.ReclaimConflict,
	nfs4.NFS4ERR_BADXDR:                    fs.ServerFault,
	nfs4.NFS4ERR_LOCKS_HELD:                fs.LocksHeld,
	nfs4.NFS4ERR_OPENMODE:                  fs.OpenMode,
	nfs4.NFS4ERR_BADOWNER:                  fs.BadOwner,
	nfs4.NFS4ERR_BADCHAR:                   fs.BadChar,
	nfs4.NFS4ERR_BADNAME:                   fs.BadName,
	nfs4.NFS4ERR_BAD_RANGE:                 fs.BadRange,
	nfs4.NFS4ERR_LOCK_NOTSUPP:              fs.LockNotSupp,
	nfs4.NFS4ERR_OP_ILLEGAL:                fs.NotSupp,
	nfs4.NFS4ERR_DEADLOCK:                  fs.Deadlock,
	nfs4.NFS4ERR_FILE_OPEN:                 fs.Locked,
	nfs4.NFS4ERR_ADMIN_REVOKED:             fs.AdminRevoked,
	nfs4.NFS4ERR_CB_PATH_DOWN:              fs.Delay,
	nfs4.NFS4ERR_BADIOMODE:                 fs.ServerFault,
	nfs4.NFS4ERR_BADLAYOUT:                 fs.ServerFault,
	nfs4.NFS4ERR_BAD_SESSION_DIGEST:        fs.ServerFault,
	nfs4.NFS4ERR_BADSESSION:                fs.Delay,
	nfs4.NFS4ERR_BADSLOT:                   fs.Delay,
	nfs4.NFS4ERR_COMPLETE_ALREADY:          fs.ServerFault, // nfsup takes it as success
	nfs4.NFS4ERR_CONN_NOT_BOUND_TO_SESSION: fs.Delay,
	nfs4.NFS4ERR_DELEG_ALREADY_WANTED:      fs.ServerFault,
	nfs4.NFS4ERR_BACK_CHAN_BUSY:            fs.Delay,
	nfs4.NFS4ERR_LAYOUTTRYLATER:            fs.Delay,
	nfs4.NFS4ERR_LAYOUTUNAVAILABLE:         fs.ServerFault,
	nfs4.NFS4ERR_NOMATCHING_LAYOUT:         fs.ServerFault,
	nfs4.NFS4ERR_RECALLCONFLICT:            fs.Delay,
	nfs4.NFS4ERR_UNKNOWN_LAYOUTTYPE:        fs.ServerFault,
	nfs4.NFS4ERR_SEQ_MISORDERED:            fs.Delay,
	nfs4.NFS4ERR_SEQUENCE_POS:              fs.ServerFault,
	nfs4.NFS4ERR_REQ_TOO_BIG:               fs.ServerFault,
	nfs4.NFS4ERR_REP_TOO_BIG:               fs.TooSmall,
	nfs4.NFS4ERR_REP_TOO_BIG_TO_CACHE:      fs.TooSmall,
	nfs4.NFS4ERR_RETRY_UNCACHED_REP:        fs.ServerFault,
	nfs4.NFS4ERR_UNSAFE_COMPOUND:           fs.ServerFault,
	nfs4.NFS4ERR_TOO_MANY_OPS:              fs.ServerFault,
	nfs4.NFS4ERR_OP_NOT_IN_SESSION:         fs.ServerFault,
	nfs4.NFS4ERR_HASH_ALG_UNSUPP:           fs.NotSupp,
	nfs4.NFS4ERR_CLIENTID_BUSY:             fs.Delay,
	nfs4.NFS4ERR_PNFS_IO_HOLE:              fs.IO,
	nfs4.NFS4ERR_SEQ_FALSE_RETRY:           fs.ServerFault,
	nfs4.NFS4ERR_BAD_HIGH_SLOT:             fs.Delay,
	nfs4.NFS4ERR_DEADSESSION:               fs.Delay,
	nfs4.NFS4ERR_ENCR_ALG_UNSUPP:           fs.NotSupp,
	nfs4.NFS4ERR_PNFS_NO_LAYOUT:            fs.IO,
	nfs4.NFS4ERR_NOT_ONLY_OP:               fs.ServerFault,
	nfs4.NFS4ERR_WRONG_CRED:                fs.Access,
	nfs4.NFS4ERR_WRONG_TYPE:                fs.WrongType,
	nfs4.NFS4ERR_DIRDELEG_UNAVAIL:          fs.ServerFault,
	nfs4.NFS4ERR_REJECT_DELEG:              fs.ServerFault,
	nfs4.NFS4ERR_RETURNCONFLICT:            fs.Delay,
	nfs4.NFS4ERR_DELEG_REVOKED:             fs.AdminRevoked,
	nfs4.NFS4ERR_PARTNER_NOTSUPP:           fs.OffloadDenied,
	nfs4.NFS4ERR_PARTNER_NO_AUTH:           fs.OffloadDenied,
	nfs4.NFS4ERR_UNION_NOTSUPP:             fs.UnionNotSupp,
	nfs4.NFS4ERR_OFFLOAD_DENIED:            fs.OffloadDenied,
	nfs4.NFS4ERR_WRONG_LFS:                 fs.Inval,
	nfs4.NFS4ERR_BADLABEL:                  fs.Inval,
	nfs4.NFS4ERR_OFFLOAD_NO_REQS:           fs.OffloadNoReq,
	nfs4.NFS4ERR_NOXATTR:                   fs.NoXattr,
	nfs4.NFS4ERR_XATTR2BIG:                 fs.XattrTooBig,
}

// toFS gives an error of nfsup the code of the fs border. What carries no status is an ended
// context (Interrupted) or an origin that does not answer on a mount that is not hard (Unreachable).
func toFS(op string, err error) error {
	if err == nil {
		return nil
	}
	var s nfs4.Status
	if errors.As(err, &s) {
		if code, ok := codeOf[s]; ok {
			return fs.E(op, code, err)
		}
		return fs.E(op, fs.ServerFault, err)
	}
	var e *fs.Error
	var d *fs.DeniedError
	if errors.As(err, &e) || errors.As(err, &d) {
		return err
	}
	if errors.Is(err, nfsup.ErrNoState) {
		return fs.E(op, fs.BadStateid, err)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fs.E(op, fs.Interrupted, err)
	}
	return fs.E(op, fs.Unreachable, err)
}
