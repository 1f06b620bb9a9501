//go:build linux

package local

import (
	"context"
	"errors"
	"fmt"
	"math"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

const maxOffset = math.MaxInt64

var (
	errNoOpen   = errors.New("the owner does not have the file open")
	errOpenMode = errors.New("the open does not allow it")
	errDenied   = errors.New("another open denies it")
)

// ioFile gives the descriptor for I/O under io, after everything that may forbid it: the open's
// modes, other opens' deny modes (RFC 8881 9.7), permission.
//
// Permission is asked where there is no open for the access wanted. Then the owner of the file may do
// as he likes, whatever its mode is, as RFC 8881 18.22 and 18.32 allow and clients need: they check
// at open, and a file may well be opened for writing that is created without write permission. And who
// may execute a file may read it.
func (b *Backend) ioFile(ctx context.Context, cred *fs.Cred, io fs.IORef, write bool) (*file, error) {
	if cred == nil {
		return nil, fs.E("", fs.Access, errNobody)
	}
	ask, err := b.states.judge(io, write)
	if err != nil {
		return nil, err
	}
	if _, err := b.check(io.Handle); err != nil {
		return nil, err
	}
	f, err := b.files.get(io.Handle, write)
	if err != nil {
		return nil, err
	}
	if ask {
		if err := b.mayIO(cred, io.Handle, f.fd, write); err != nil {
			b.files.release(f)
			return nil, err
		}
	}
	return f, nil
}

// mayIO asks whether cred may do I/O on a regular file without an open.
func (b *Backend) mayIO(cred *fs.Cred, h fs.Handle, fd int, write bool) error {
	st, err := raw(fd)
	if err != nil {
		return err
	}
	if st.Nlink == 0 && !b.states.isOpen(h) {
		return syscall.ESTALE // only our cache keeps it
	}
	return b.mayOpen(cred, fd, &st, write, !write, true)
}

// mayOpen asks for the permission to read or write. owner lets the file's owner pass.
func (b *Backend) mayOpen(cred *fs.Cred, fd int, st *unix.Statx_t, write, read, owner bool) error {
	if cred == nil {
		return fs.E("", fs.Access, errNobody)
	}
	if (owner && cred.UID == st.Uid) || cred.UID == 0 || !b.id.able {
		return nil // what is not a matter of mode bits, the kernel says when the file is opened
	}
	return b.id.as(cred, false, func() error {
		if write {
			if err := mayAccess(fd, unix.W_OK); err != nil {
				return err
			}
		}
		if read {
			err := mayAccess(fd, unix.R_OK)
			if isErrno(err, syscall.EACCES) && mayAccess(fd, unix.X_OK) == nil {
				return nil
			}
			return err
		}
		return nil
	})
}

// mayAccess asks the kernel about the identity of this thread.
func mayAccess(fd int, mode uint32) error {
	return unix.Faccessat2(fd, "", mode, unix.AT_EACCESS|unix.AT_EMPTY_PATH)
}

// Read is of fs.Backend.
func (b *Backend) Read(ctx context.Context, cred *fs.Cred, io fs.IORef, off uint64, dst []byte) (int, bool, error) {
	const op = "READ"
	if err := b.begin(ctx); err != nil {
		return 0, false, failure(op, err)
	}
	defer b.leave()
	f, err := b.ioFile(ctx, cred, io, false)
	if err != nil {
		return 0, false, failure(op, err)
	}
	defer b.files.release(f)
	if off > maxOffset {
		return 0, true, nil
	}
	if rest := maxOffset - off; uint64(len(dst)) > rest {
		dst = dst[:rest]
	}
	n := 0
	for n < len(dst) {
		m, err := unix.Pread(f.fd, dst[n:], int64(off)+int64(n))
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return 0, false, failure(op, err)
		}
		if m == 0 {
			return n, true, nil
		}
		n += m
	}
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return 0, false, failure(op, err)
	}
	return n, int64(off)+int64(n) >= st.Size, nil
}

// Write is of fs.Backend.
func (b *Backend) Write(ctx context.Context, cred *fs.Cred, io fs.IORef, off uint64, data []byte, how fs.Stability) (fs.WriteResult, error) {
	const op = "WRITE"
	if err := b.begin(ctx); err != nil {
		return fs.WriteResult{}, failure(op, err)
	}
	defer b.leave()
	f, err := b.ioFile(ctx, cred, io, true)
	if err != nil {
		return fs.WriteResult{}, failure(op, err)
	}
	defer b.files.release(f)
	if off > maxOffset || uint64(len(data)) > maxOffset-off {
		return fs.WriteResult{}, fs.E(op, fs.FBig, fmt.Errorf("offset %d", off))
	}
	// Before the data is written: if it is lost later, the verifier is another one by then.
	res := fs.WriteResult{Verifier: b.writeVerifier(), Committed: how}
	f.dirty.Store(true)
	err = b.id.as(cred, true, func() error {
		for res.N < len(data) {
			m, err := unix.Pwrite(f.fd, data[res.N:], int64(off)+int64(res.N))
			if err == syscall.EINTR {
				continue
			}
			if err != nil {
				return err
			}
			res.N += m
		}
		return nil
	})
	f.dirty.Store(true) // again, if an fsync came between
	if err != nil && res.N == 0 {
		return fs.WriteResult{}, failure(op, err)
	}
	switch how {
	case fs.DataSync, fs.FileSync:
		if err := b.fsync(ctx, f, how == fs.FileSync); err != nil {
			return fs.WriteResult{}, failure(op, err)
		}
	default:
		res.Committed = fs.Unstable
	}
	return res, nil
}

// Commit is of fs.Backend. The whole file is made durable, whatever the range is.
func (b *Backend) Commit(ctx context.Context, cred *fs.Cred, h fs.Handle, off, count uint64) (fs.WriteVerifier, error) {
	const op = "COMMIT"
	if err := b.begin(ctx); err != nil {
		return fs.WriteVerifier{}, failure(op, err)
	}
	defer b.leave()
	if _, err := b.check(h); err != nil {
		return fs.WriteVerifier{}, failure(op, err)
	}
	// The descriptor that was written through, if it is still there: it is the one that knows of
	// errors since.
	f := b.files.cached(h, true)
	if f == nil {
		var err error
		if f, err = b.files.get(h, false); err != nil {
			return fs.WriteVerifier{}, failure(op, err)
		}
	}
	defer b.files.release(f)
	if err := b.fsync(ctx, f, true); err != nil {
		return fs.WriteVerifier{}, failure(op, err)
	}
	return b.writeVerifier(), nil
}
