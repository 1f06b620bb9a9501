package nfsdown

import (
	"errors"
	"sync"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
	"holdfast/nfsdown/state"
)

// statusOf is the one place where our codes become an nfsstat4.
var statusOf = [fs.NumCodes]nfs4.Status{
	fs.OK:              nfs4.NFS4_OK,
	fs.Perm:            nfs4.NFS4ERR_PERM,
	fs.NoEnt:           nfs4.NFS4ERR_NOENT,
	fs.IO:              nfs4.NFS4ERR_IO,
	fs.NXIO:            nfs4.NFS4ERR_NXIO,
	fs.Access:          nfs4.NFS4ERR_ACCESS,
	fs.Exist:           nfs4.NFS4ERR_EXIST,
	fs.XDev:            nfs4.NFS4ERR_XDEV,
	fs.NotDir:          nfs4.NFS4ERR_NOTDIR,
	fs.IsDir:           nfs4.NFS4ERR_ISDIR,
	fs.Inval:           nfs4.NFS4ERR_INVAL,
	fs.FBig:            nfs4.NFS4ERR_FBIG,
	fs.NoSpc:           nfs4.NFS4ERR_NOSPC,
	fs.ROFS:            nfs4.NFS4ERR_ROFS,
	fs.MLink:           nfs4.NFS4ERR_MLINK,
	fs.NameTooLong:     nfs4.NFS4ERR_NAMETOOLONG,
	fs.NotEmpty:        nfs4.NFS4ERR_NOTEMPTY,
	fs.DQuot:           nfs4.NFS4ERR_DQUOT,
	fs.Stale:           nfs4.NFS4ERR_STALE,
	fs.BadHandle:       nfs4.NFS4ERR_BADHANDLE,
	fs.FHExpired:       nfs4.NFS4ERR_FHEXPIRED,
	fs.Moved:           nfs4.NFS4ERR_MOVED,
	fs.NotSupp:         nfs4.NFS4ERR_NOTSUPP,
	fs.TooSmall:        nfs4.NFS4ERR_TOOSMALL,
	fs.ServerFault:     nfs4.NFS4ERR_SERVERFAULT,
	fs.BadType:         nfs4.NFS4ERR_BADTYPE,
	fs.WrongType:       nfs4.NFS4ERR_WRONG_TYPE,
	fs.IsSymlink:       nfs4.NFS4ERR_SYMLINK,
	fs.Delay:           nfs4.NFS4ERR_DELAY,
	fs.BadName:         nfs4.NFS4ERR_BADNAME,
	fs.BadChar:         nfs4.NFS4ERR_BADCHAR,
	fs.BadOwner:        nfs4.NFS4ERR_BADOWNER,
	fs.AttrNotSupp:     nfs4.NFS4ERR_ATTRNOTSUPP,
	fs.BadCookie:       nfs4.NFS4ERR_BAD_COOKIE,
	fs.NotSame:         nfs4.NFS4ERR_NOT_SAME,
	fs.Grace:           nfs4.NFS4ERR_GRACE,
	fs.NoGrace:         nfs4.NFS4ERR_NO_GRACE,
	fs.ReclaimBad:      nfs4.NFS4ERR_RECLAIM_BAD,
	fs.ReclaimConflict: nfs4.NFS4ERR_RECLAIM_CONFLICT,
	fs.Denied:          nfs4.NFS4ERR_DENIED,
	fs.ShareDenied:     nfs4.NFS4ERR_SHARE_DENIED,
	fs.Locked:          nfs4.NFS4ERR_LOCKED,
	fs.LockRange:       nfs4.NFS4ERR_LOCK_RANGE,
	fs.LockNotSupp:     nfs4.NFS4ERR_LOCK_NOTSUPP,
	fs.LocksHeld:       nfs4.NFS4ERR_LOCKS_HELD,
	fs.BadRange:        nfs4.NFS4ERR_BAD_RANGE,
	fs.Deadlock:        nfs4.NFS4ERR_DEADLOCK,
	fs.OpenMode:        nfs4.NFS4ERR_OPENMODE,
	fs.BadStateid:      nfs4.NFS4ERR_BAD_STATEID,
	fs.OldStateid:      nfs4.NFS4ERR_OLD_STATEID,
	fs.Expired:         nfs4.NFS4ERR_EXPIRED,
	fs.AdminRevoked:    nfs4.NFS4ERR_ADMIN_REVOKED,
	fs.NoXattr:         nfs4.NFS4ERR_NOXATTR,
	fs.XattrTooBig:     nfs4.NFS4ERR_XATTR2BIG,
	fs.UnionNotSupp:    nfs4.NFS4ERR_UNION_NOTSUPP,
	fs.OffloadDenied:   nfs4.NFS4ERR_OFFLOAD_DENIED,
	fs.OffloadNoReq:    nfs4.NFS4ERR_OFFLOAD_NO_REQS,
	fs.Interrupted:     nfs4.NFS4ERR_DELAY, // the client has gone, or this server is stopping
	fs.Unreachable:     nfs4.NFS4ERR_DELAY,
}

// toStatus is the status of any error. A Status that is an error already stays itself.
func toStatus(err error) nfs4.Status {
	if err == nil {
		return nfs4.NFS4_OK
	}
	if s, ok := state.StatusIn(err); ok {
		return s
	}
	// Nothing is granted any more, and the process is about to end. The client is to ask its successor: any
	// other answer to a reclaim would be the end of the lock (I2).
	var failed *journal.FailedError
	if errors.As(err, &failed) {
		return nfs4.NFS4ERR_DELAY
	}
	return statusOf[fs.CodeOf(err)]
}

// extraErrs are errors that the tables do not list although the text asks for them, or that an operation
// could not be answered without.
var extraErrs = map[nfs4.OpNum][]nfs4.Status{
	// 18.10.3 and 9.5: a lock on a file of another type, and revoked state of any kind.
	nfs4.OP_LOCK:  {nfs4.NFS4ERR_STALE, nfs4.NFS4ERR_BADHANDLE, nfs4.NFS4ERR_IO, nfs4.NFS4ERR_NOTSUPP},
	nfs4.OP_LOCKT: {nfs4.NFS4ERR_IO, nfs4.NFS4ERR_OPENMODE},
	nfs4.OP_LOCKU: {nfs4.NFS4ERR_IO},
	nfs4.OP_CLOSE: {nfs4.NFS4ERR_IO},
	nfs4.OP_OPEN:  {nfs4.NFS4ERR_NOTSUPP, nfs4.NFS4ERR_ROFS},
	// 18.35.4, case 9.
	nfs4.OP_EXCHANGE_ID:   {nfs4.NFS4ERR_PERM},
	nfs4.OP_GETXATTR:      {nfs4.NFS4ERR_NOTSUPP},
	nfs4.OP_SETXATTR:      {nfs4.NFS4ERR_NOTSUPP, nfs4.NFS4ERR_ROFS},
	nfs4.OP_LISTXATTRS:    {nfs4.NFS4ERR_NOTSUPP, nfs4.NFS4ERR_TOOSMALL, nfs4.NFS4ERR_BAD_COOKIE},
	nfs4.OP_REMOVEXATTR:   {nfs4.NFS4ERR_NOTSUPP, nfs4.NFS4ERR_ROFS},
	nfs4.OP_SECINFO:       {nfs4.NFS4ERR_NOTSUPP},
	nfs4.OP_COPY:          {nfs4.NFS4ERR_LOCKED, nfs4.NFS4ERR_INVAL, nfs4.NFS4ERR_NOTSUPP},
	nfs4.OP_COMMIT:        {nfs4.NFS4ERR_INVAL},
	nfs4.OP_SEEK:          {nfs4.NFS4ERR_NXIO},
	nfs4.OP_CLONE:         {nfs4.NFS4ERR_LOCKED},
	nfs4.OP_ALLOCATE:      {nfs4.NFS4ERR_LOCKED},
	nfs4.OP_DEALLOCATE:    {nfs4.NFS4ERR_LOCKED},
	nfs4.OP_READ_PLUS:     {nfs4.NFS4ERR_LOCKED},
	nfs4.OP_RENAME:        {nfs4.NFS4ERR_PERM},
	nfs4.OP_REMOVE:        {nfs4.NFS4ERR_PERM},
	nfs4.OP_CREATE:        {nfs4.NFS4ERR_TOOSMALL},
	nfs4.OP_LINK:          {nfs4.NFS4ERR_PERM},
	nfs4.OP_FREE_STATEID:  {nfs4.NFS4ERR_NOTSUPP},
	nfs4.OP_LAYOUTERROR:   {nfs4.NFS4ERR_NOTSUPP},
	nfs4.OP_LAYOUTSTATS:   {nfs4.NFS4ERR_NOTSUPP},
	nfs4.OP_GETATTR:       {nfs4.NFS4ERR_BADHANDLE},
	nfs4.OP_LAYOUTRETURN:  {nfs4.NFS4ERR_UNKNOWN_LAYOUTTYPE},
	nfs4.OP_GETDEVICELIST: {nfs4.NFS4ERR_UNKNOWN_LAYOUTTYPE},
}

// instead is what an error becomes, tried in order, when its operation cannot have it.
var instead = map[nfs4.Status][]nfs4.Status{
	nfs4.NFS4ERR_BADHANDLE:     {nfs4.NFS4ERR_STALE},
	nfs4.NFS4ERR_FHEXPIRED:     {nfs4.NFS4ERR_STALE},
	nfs4.NFS4ERR_MOVED:         {nfs4.NFS4ERR_STALE},
	nfs4.NFS4ERR_STALE:         {nfs4.NFS4ERR_IO},
	nfs4.NFS4ERR_PERM:          {nfs4.NFS4ERR_ACCESS},
	nfs4.NFS4ERR_ACCESS:        {nfs4.NFS4ERR_PERM, nfs4.NFS4ERR_WRONGSEC},
	nfs4.NFS4ERR_WRONG_TYPE:    {nfs4.NFS4ERR_INVAL},
	nfs4.NFS4ERR_SYMLINK:       {nfs4.NFS4ERR_NOTDIR, nfs4.NFS4ERR_WRONG_TYPE, nfs4.NFS4ERR_INVAL},
	nfs4.NFS4ERR_ISDIR:         {nfs4.NFS4ERR_WRONG_TYPE, nfs4.NFS4ERR_INVAL},
	nfs4.NFS4ERR_NOTDIR:        {nfs4.NFS4ERR_WRONG_TYPE, nfs4.NFS4ERR_INVAL},
	nfs4.NFS4ERR_GRACE:         {nfs4.NFS4ERR_DELAY},
	nfs4.NFS4ERR_LOCKED:        {nfs4.NFS4ERR_ACCESS},
	nfs4.NFS4ERR_OPENMODE:      {nfs4.NFS4ERR_ACCESS},
	nfs4.NFS4ERR_SHARE_DENIED:  {nfs4.NFS4ERR_LOCKED, nfs4.NFS4ERR_ACCESS},
	nfs4.NFS4ERR_DENIED:        {nfs4.NFS4ERR_LOCKED, nfs4.NFS4ERR_ACCESS},
	nfs4.NFS4ERR_ADMIN_REVOKED: {nfs4.NFS4ERR_BAD_STATEID},
	nfs4.NFS4ERR_EXPIRED:       {nfs4.NFS4ERR_BAD_STATEID},
	nfs4.NFS4ERR_BADCHAR:       {nfs4.NFS4ERR_BADNAME, nfs4.NFS4ERR_INVAL},
	nfs4.NFS4ERR_BADNAME:       {nfs4.NFS4ERR_INVAL},
	nfs4.NFS4ERR_NXIO:          {nfs4.NFS4ERR_IO},
	nfs4.NFS4ERR_FBIG:          {nfs4.NFS4ERR_INVAL},
	nfs4.NFS4ERR_NO_GRACE:      {nfs4.NFS4ERR_RECLAIM_BAD},
	nfs4.NFS4ERR_DEADLOCK:      {nfs4.NFS4ERR_DENIED},
	nfs4.NFS4ERR_DQUOT:         {nfs4.NFS4ERR_NOSPC},
	nfs4.NFS4ERR_BADTYPE:       {nfs4.NFS4ERR_INVAL},
	nfs4.NFS4ERR_EXIST:         {nfs4.NFS4ERR_INVAL},
	nfs4.NFS4ERR_DELAY:         {nfs4.NFS4ERR_SERVERFAULT},
	nfs4.NFS4ERR_BADSESSION:    {nfs4.NFS4ERR_EXPIRED, nfs4.NFS4ERR_STALE_CLIENTID}, // of 4.0: the client is no more
	nfs4.NFS4ERR_NOFILEHANDLE:  {nfs4.NFS4ERR_RESTOREFH},
	nfs4.NFS4ERR_REP_TOO_BIG:   {nfs4.NFS4ERR_RESOURCE},
}

// validSets are the sets of validErrs, and of validErrs40.
var validSets = sync.OnceValue(func() [2]map[nfs4.OpNum]map[nfs4.Status]bool {
	var sets [2]map[nfs4.OpNum]map[nfs4.Status]bool
	for i, table := range []map[nfs4.OpNum][]nfs4.Status{validErrs40, validErrs} {
		sets[i] = map[nfs4.OpNum]map[nfs4.Status]bool{}
		for op, list := range table {
			set := map[nfs4.Status]bool{nfs4.NFS4_OK: true}
			for _, s := range list {
				set[s] = true
			}
			for _, s := range extraErrs[op] {
				set[s] = true
			}
			sets[i][op] = set
		}
	}
	return sets
})

// validStatus returns s if op of the minor version can be answered with it, else the nearest error that it can
// be answered with.
func validStatus(minor uint32, op nfs4.OpNum, s nfs4.Status) nfs4.Status {
	if s == nfs4.NFS4_OK {
		return s
	}
	set, known := validSets()[min(minor, 1)][op]
	if !known || set[s] {
		return s
	}
	for at, hops := s, 0; hops < 4; hops++ {
		for _, t := range instead[at] {
			if set[t] {
				return t
			}
		}
		if len(instead[at]) == 0 {
			break
		}
		at = instead[at][0]
	}
	for _, t := range []nfs4.Status{nfs4.NFS4ERR_SERVERFAULT, nfs4.NFS4ERR_IO, nfs4.NFS4ERR_INVAL, nfs4.NFS4ERR_DELAY, nfs4.NFS4ERR_STALE} {
		if set[t] {
			return t
		}
	}
	return nfs4.NFS4ERR_SERVERFAULT
}
