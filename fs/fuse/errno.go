package fuse

import (
	"errors"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"holdfast/fs"
)

// errnoOf is what an application sees for each code: RFC 8881 15.1 in the words of errno(3), as the
// Linux NFS client translates where it has a choice.
var errnoOf = [fs.NumCodes]syscall.Errno{
	fs.OK:              0,
	fs.Perm:            syscall.EPERM,
	fs.NoEnt:           syscall.ENOENT,
	fs.IO:              syscall.EIO,
	fs.NXIO:            syscall.ENXIO,
	fs.Access:          syscall.EACCES,
	fs.Exist:           syscall.EEXIST,
	fs.XDev:            syscall.EXDEV,
	fs.NotDir:          syscall.ENOTDIR,
	fs.IsDir:           syscall.EISDIR,
	fs.Inval:           syscall.EINVAL,
	fs.FBig:            syscall.EFBIG,
	fs.NoSpc:           syscall.ENOSPC,
	fs.ROFS:            syscall.EROFS,
	fs.MLink:           syscall.EMLINK,
	fs.NameTooLong:     syscall.ENAMETOOLONG,
	fs.NotEmpty:        syscall.ENOTEMPTY,
	fs.DQuot:           syscall.EDQUOT,
	fs.Stale:           syscall.ESTALE,
	fs.BadHandle:       syscall.ESTALE,
	fs.FHExpired:       syscall.ESTALE,
	fs.Moved:           syscall.EREMOTE,
	fs.NotSupp:         syscall.EOPNOTSUPP,
	fs.TooSmall:        syscall.EINVAL,
	fs.ServerFault:     syscall.EIO,
	fs.BadType:         syscall.EINVAL,
	fs.WrongType:       syscall.EINVAL,
	fs.IsSymlink:       syscall.ELOOP,
	fs.Delay:           syscall.EAGAIN,
	fs.BadName:         syscall.EINVAL,
	fs.BadChar:         syscall.EINVAL,
	fs.BadOwner:        syscall.EINVAL,
	fs.AttrNotSupp:     syscall.EOPNOTSUPP,
	fs.BadCookie:       syscall.EINVAL,
	fs.NotSame:         syscall.EIO,
	fs.Grace:           syscall.EAGAIN,
	fs.NoGrace:         syscall.EIO,
	fs.ReclaimBad:      syscall.EIO,
	fs.ReclaimConflict: syscall.EIO,
	fs.Denied:          syscall.EAGAIN,
	fs.ShareDenied:     syscall.EACCES,
	fs.Locked:          syscall.EAGAIN,
	fs.LockRange:       syscall.EINVAL,
	fs.LockNotSupp:     syscall.ENOLCK,
	fs.LocksHeld:       syscall.EBUSY,
	fs.BadRange:        syscall.EOVERFLOW,
	fs.Deadlock:        syscall.EDEADLK,
	fs.OpenMode:        syscall.EBADF,
	fs.BadStateid:      syscall.EIO,
	fs.OldStateid:      syscall.EIO,
	fs.Expired:         syscall.EIO,
	fs.AdminRevoked:    syscall.EIO,
	fs.NoXattr:         syscall.ENODATA,
	fs.XattrTooBig:     syscall.E2BIG,
	fs.UnionNotSupp:    syscall.EOPNOTSUPP,
	fs.OffloadDenied:   syscall.EOPNOTSUPP,
	fs.OffloadNoReq:    syscall.EOPNOTSUPP,
	fs.Interrupted:     syscall.EINTR,
	fs.Unreachable:     syscall.ETIMEDOUT,
}

// status is the answer to the kernel for err. An errno that this package made itself goes through.
func status(err error) gofuse.Status {
	if err == nil {
		return gofuse.OK
	}
	var errno syscall.Errno
	if code := fs.CodeOf(err); code != fs.ServerFault {
		errno = errnoOf[code]
	} else if !errors.As(err, &errno) || errno == 0 || errno == syscall.ENOSYS && !isPlain(err) {
		errno = syscall.EIO
	}
	return gofuse.Status(errno)
}

// isPlain tells that err is an errno itself. ENOSYS makes the kernel never ask again, so only this
// package may say it, never the cause of a backend's error.
func isPlain(err error) bool {
	_, ok := err.(syscall.Errno)
	return ok
}
