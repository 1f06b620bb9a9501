//go:build linux

package local

import (
	"errors"
	"syscall"

	"holdfast/fs"
)

// codeOf is the one table from the errors of system calls to our codes.
var codeOf = map[syscall.Errno]fs.Code{
	syscall.EPERM:        fs.Perm,
	syscall.ENOENT:       fs.NoEnt,
	syscall.EIO:          fs.IO,
	syscall.ENXIO:        fs.NXIO,
	syscall.ENODEV:       fs.NXIO,
	syscall.EACCES:       fs.Access,
	syscall.ETXTBSY:      fs.Access, // a program that runs cannot be written
	syscall.EEXIST:       fs.Exist,
	syscall.EXDEV:        fs.XDev,
	syscall.ENOTDIR:      fs.NotDir,
	syscall.EISDIR:       fs.IsDir,
	syscall.EINVAL:       fs.Inval,
	syscall.EFBIG:        fs.FBig,
	syscall.EOVERFLOW:    fs.FBig,
	syscall.ENOSPC:       fs.NoSpc,
	syscall.EROFS:        fs.ROFS,
	syscall.EMLINK:       fs.MLink,
	syscall.ENAMETOOLONG: fs.NameTooLong,
	syscall.ENOTEMPTY:    fs.NotEmpty,
	syscall.EDQUOT:       fs.DQuot,
	syscall.ESTALE:       fs.Stale,
	syscall.ENOTSUP:      fs.NotSupp,
	syscall.ENOSYS:       fs.NotSupp,
	syscall.ENOTTY:       fs.NotSupp,
	syscall.ELOOP:        fs.IsSymlink, // we never follow one
	syscall.ENODATA:      fs.NoXattr,
	syscall.E2BIG:        fs.XattrTooBig,
	syscall.ERANGE:       fs.XattrTooBig,
	// Out of something that comes back: NFS4ERR_DELAY makes the client ask again.
	syscall.EAGAIN:  fs.Delay,
	syscall.EINTR:   fs.Delay,
	syscall.EBUSY:   fs.Delay,
	syscall.EMFILE:  fs.Delay,
	syscall.ENFILE:  fs.Delay,
	syscall.ENOMEM:  fs.Delay,
	syscall.ENOLCK:  fs.Delay,
	syscall.EDEADLK: fs.Deadlock,
}

// failure gives the error of operation op its code. An error that has one already keeps it.
func failure(op string, err error) error {
	if err == nil {
		return nil
	}
	var e *fs.Error
	var d *fs.DeniedError
	if errors.As(err, &e) {
		if e.Op == "" {
			return fs.E(op, e.Code, e.Err)
		}
		return err
	}
	if errors.As(err, &d) {
		return err
	}
	var no syscall.Errno
	if errors.As(err, &no) {
		if code, ok := codeOf[no]; ok {
			return fs.E(op, code, err)
		}
		return fs.E(op, fs.ServerFault, err)
	}
	return fs.E(op, fs.CodeOf(err), err)
}
