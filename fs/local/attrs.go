//go:build linux

package local

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// GetAttr is of fs.Backend.
func (b *Backend) GetAttr(ctx context.Context, cred *fs.Cred, h fs.Handle) (*fs.Attr, error) {
	const op = "GETATTR"
	if err := b.begin(ctx); err != nil {
		return nil, failure(op, err)
	}
	defer b.leave()
	n, err := b.node(h)
	if err != nil {
		return nil, failure(op, err)
	}
	defer n.close()
	a, err := b.stat(n.fd)
	return a, failure(op, err)
}

// SetAttr is of fs.Backend.
func (b *Backend) SetAttr(ctx context.Context, cred *fs.Cred, io fs.IORef, set *fs.SetAttr) (*fs.Attr, error) {
	const op = "SETATTR"
	if err := b.begin(ctx); err != nil {
		return nil, failure(op, err)
	}
	defer b.leave()
	n, err := b.node(io.Handle)
	if err != nil {
		return nil, failure(op, err)
	}
	defer n.close()
	if set.Size != nil {
		if err := b.truncate(ctx, cred, io, *set.Size); err != nil {
			return nil, failure(op, err)
		}
	}
	if err := b.id.as(cred, false, func() error { return b.apply(n.fd, set) }); err != nil {
		return nil, failure(op, err)
	}
	a, err := b.stat(n.fd)
	return a, failure(op, err)
}

// truncate sets the size under an open, or by permission.
func (b *Backend) truncate(ctx context.Context, cred *fs.Cred, io fs.IORef, size uint64) error {
	f, err := b.ioFile(ctx, cred, io, true)
	if err != nil {
		return err
	}
	defer b.files.release(f)
	if size > maxOffset {
		return fs.E("", fs.FBig, nil)
	}
	f.dirty.Store(true)
	if err := b.id.as(cred, true, func() error { return unix.Ftruncate(f.fd, int64(size)) }); err != nil {
		return err
	}
	return b.fsync(ctx, f, true)
}

// apply changes mode, owner and times of what an O_PATH descriptor is, as the identity that calls.
func (b *Backend) apply(fd int, set *fs.SetAttr) error {
	if set.UID != nil || set.GID != nil {
		uid, gid := -1, -1
		if set.UID != nil {
			uid = int(*set.UID)
		}
		if set.GID != nil {
			gid = int(*set.GID)
		}
		if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	if set.Mode != nil {
		st, err := raw(fd)
		if err != nil {
			return err
		}
		if !isType(&st, unix.S_IFLNK) { // a link has no mode that could be changed
			if err := unix.Fchmodat(b.proc, itoa(fd), *set.Mode&0o7777, 0); err != nil {
				return err
			}
		}
	}
	if set.AtimeSet == fs.TimeKeep && set.MtimeSet == fs.TimeKeep {
		return nil
	}
	times := []unix.Timespec{timeSpec(set.AtimeSet, set.Atime), timeSpec(set.MtimeSet, set.Mtime)}
	return utimes(fd, times)
}

func timeSpec(how fs.TimeSet, t time.Time) unix.Timespec {
	switch how {
	case fs.TimeServer:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	case fs.TimeClient:
		return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
	}
	return unix.Timespec{Nsec: unix.UTIME_OMIT}
}

// applyNew sets what a new file is to have beyond its mode, as the user: what he may not, fails.
func (b *Backend) applyNew(cred *fs.Cred, fd int, set *fs.SetAttr) error {
	if set.IsZero() {
		return nil
	}
	return b.id.as(cred, false, func() error { return b.apply(fd, set) })
}

// Access is of fs.Backend.
func (b *Backend) Access(ctx context.Context, cred *fs.Cred, h fs.Handle, want uint32) (uint32, error) {
	const op = "ACCESS"
	if err := b.begin(ctx); err != nil {
		return 0, failure(op, err)
	}
	defer b.leave()
	n, err := b.node(h)
	if err != nil {
		return 0, failure(op, err)
	}
	defer n.close()
	st, err := raw(n.fd)
	if err != nil {
		return 0, failure(op, err)
	}
	read := fs.AccessRead | fs.AccessXARead | fs.AccessXAList
	write := fs.AccessModify | fs.AccessExtend | fs.AccessXAWrite
	execute := fs.AccessExecute
	if isType(&st, unix.S_IFDIR) {
		write |= fs.AccessDelete
		execute = fs.AccessLookup
	}
	var granted uint32
	err = b.id.as(cred, false, func() error {
		for bits, mode := range map[uint32]uint32{read: unix.R_OK, write: unix.W_OK, execute: unix.X_OK} {
			if want&bits != 0 && mayAccess(n.fd, mode) == nil {
				granted |= want & bits
			}
		}
		return nil
	})
	return granted, failure(op, err)
}

// FSStat is of fs.Backend.
func (b *Backend) FSStat(ctx context.Context, cred *fs.Cred, h fs.Handle) (*fs.FSStat, error) {
	const op = "FSSTAT"
	if err := b.begin(ctx); err != nil {
		return nil, failure(op, err)
	}
	defer b.leave()
	if _, err := b.check(h); err != nil {
		return nil, failure(op, err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(b.mount, &st); err != nil {
		return nil, failure(op, err)
	}
	unit := uint64(st.Frsize)
	if unit == 0 {
		unit = uint64(st.Bsize)
	}
	out := &fs.FSStat{
		TotalBytes: st.Blocks * unit, FreeBytes: st.Bfree * unit, AvailBytes: st.Bavail * unit,
		TotalFiles: st.Files, FreeFiles: st.Ffree, AvailFiles: st.Ffree, NameMax: fs.MaxName,
	}
	if cred != nil && cred.UID == 0 {
		out.AvailBytes = out.FreeBytes
	}
	return out, nil
}

// FSInfo is of fs.Backend.
func (b *Backend) FSInfo(ctx context.Context, h fs.Handle) (*fs.FSInfo, error) {
	const op = "FSINFO"
	if err := b.begin(ctx); err != nil {
		return nil, failure(op, err)
	}
	defer b.leave()
	if _, err := b.check(h); err != nil {
		return nil, failure(op, err)
	}
	_, err := unix.Fgetxattr(b.mount, "user.holdfast", nil)
	return &fs.FSInfo{
		MaxRead: 1 << 20, MaxWrite: 1 << 20, MaxFileSize: maxOffset, MaxLink: b.how.maxLink, MaxName: fs.MaxName,
		TimeDelta: time.Nanosecond, Symlinks: true, Links: true, ChownRestricted: true, NoTrunc: true,
		Xattrs: !errors.Is(err, unix.EOPNOTSUPP), Monotonic: true,
	}, nil
}
