//go:build linux

package local

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// Allocate is of fs.Sparse.
func (b *Backend) Allocate(ctx context.Context, cred *fs.Cred, io fs.IORef, off, length uint64) error {
	return b.allocate(ctx, cred, "ALLOCATE", io, off, length, 0)
}

// Deallocate is of fs.Sparse.
func (b *Backend) Deallocate(ctx context.Context, cred *fs.Cred, io fs.IORef, off, length uint64) error {
	return b.allocate(ctx, cred, "DEALLOCATE", io, off, length, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE)
}

func (b *Backend) allocate(ctx context.Context, cred *fs.Cred, op string, io fs.IORef, off, length uint64, mode uint32) error {
	if err := b.begin(ctx); err != nil {
		return failure(op, err)
	}
	defer b.leave()
	f, err := b.ioFile(ctx, cred, io, true)
	if err != nil {
		return failure(op, err)
	}
	defer b.files.release(f)
	if off > maxOffset || length > maxOffset-off {
		return fs.E(op, fs.FBig, nil)
	}
	if length == 0 {
		return fs.E(op, fs.Inval, errors.New("length 0"))
	}
	f.dirty.Store(true)
	return failure(op, b.id.as(cred, true, func() error {
		for {
			err := unix.Fallocate(f.fd, mode, int64(off), int64(length))
			if err != unix.EINTR {
				return err
			}
		}
	}))
}

// Seek is of fs.Sparse.
func (b *Backend) Seek(ctx context.Context, cred *fs.Cred, io fs.IORef, off uint64, hole bool) (uint64, bool, error) {
	const op = "SEEK"
	if err := b.begin(ctx); err != nil {
		return 0, false, failure(op, err)
	}
	defer b.leave()
	f, err := b.ioFile(ctx, cred, io, false)
	if err != nil {
		return 0, false, failure(op, err)
	}
	defer b.files.release(f)
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return 0, false, failure(op, err)
	}
	if off >= uint64(st.Size) {
		return 0, false, fs.E(op, fs.NXIO, nil)
	}
	what := unix.SEEK_DATA
	if hole {
		what = unix.SEEK_HOLE
	}
	// The descriptor is shared, but nobody uses its position: the call gives it back at once.
	pos, err := unix.Seek(f.fd, int64(off), what)
	if errors.Is(err, unix.ENXIO) {
		return uint64(st.Size), true, nil // no data follows
	}
	if err != nil {
		return 0, false, failure(op, err)
	}
	return uint64(pos), pos >= st.Size, nil
}
