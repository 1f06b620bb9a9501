//go:build linux

package local

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// pair opens source and target of a copy.
func (b *Backend) pair(ctx context.Context, cred *fs.Cred, from, to fs.IORef) (s, t *file, done func(), err error) {
	if s, err = b.ioFile(ctx, cred, from, false); err != nil {
		return nil, nil, nil, err
	}
	if t, err = b.ioFile(ctx, cred, to, true); err != nil {
		b.files.release(s)
		return nil, nil, nil, err
	}
	return s, t, func() { b.files.release(s); b.files.release(t) }, nil
}

// maxCopy bounds one call, so that a copy of terabytes can be interrupted and asked for in parts.
const maxCopy = 1 << 30

// Copy is of fs.Copier.
func (b *Backend) Copy(ctx context.Context, cred *fs.Cred, from, to fs.IORef, fromOff, toOff, length uint64) (fs.WriteResult64, error) {
	const op = "COPY"
	var res fs.WriteResult64
	if err := b.begin(ctx); err != nil {
		return res, failure(op, err)
	}
	defer b.leave()
	s, t, done, err := b.pair(ctx, cred, from, to)
	if err != nil {
		return res, failure(op, err)
	}
	defer done()
	var st unix.Stat_t
	if err := unix.Fstat(s.fd, &st); err != nil {
		return res, failure(op, err)
	}
	size := uint64(st.Size)
	if length == 0 {
		if fromOff > size {
			return res, fs.E(op, fs.Inval, errors.New("source offset past the end"))
		}
		length = size - fromOff
	}
	if fromOff > size || length > size-fromOff {
		return res, fs.E(op, fs.Inval, errors.New("source range past the end"))
	}
	if toOff > maxOffset || length > maxOffset-toOff {
		return res, fs.E(op, fs.FBig, nil)
	}
	if from.Handle == to.Handle && fromOff < toOff+length && toOff < fromOff+length && length > 0 {
		return res, fs.E(op, fs.Inval, errors.New("the ranges overlap"))
	}
	res.Verifier = b.writeVerifier()
	t.dirty.Store(true)
	in, out := int64(fromOff), int64(toOff)
	for left := min(length, maxCopy); left > 0 && ctx.Err() == nil; {
		n := 0
		err := b.id.as(cred, true, func() (err error) {
			n, err = unix.CopyFileRange(s.fd, &in, t.fd, &out, int(min(left, 16<<20)), 0)
			return err
		})
		if err == unix.EINTR {
			continue
		}
		if err != nil && res.N == 0 {
			return res, failure(op, err)
		}
		if err != nil || n == 0 {
			break
		}
		res.N += uint64(n)
		left -= uint64(n)
	}
	t.dirty.Store(true)
	return res, nil
}

// Clone is of fs.Cloner.
func (b *Backend) Clone(ctx context.Context, cred *fs.Cred, from, to fs.IORef, fromOff, toOff, length uint64) error {
	const op = "CLONE"
	if err := b.begin(ctx); err != nil {
		return failure(op, err)
	}
	defer b.leave()
	s, t, done, err := b.pair(ctx, cred, from, to)
	if err != nil {
		return failure(op, err)
	}
	defer done()
	t.dirty.Store(true)
	err = b.id.as(cred, true, func() error {
		return unix.IoctlFileCloneRange(t.fd, &unix.FileCloneRange{Src_fd: int64(s.fd), Src_offset: fromOff, Src_length: length, Dest_offset: toOff})
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EXDEV) {
		return fs.E(op, fs.NotSupp, err)
	}
	return failure(op, err)
}
