//go:build linux

package local

import (
	"context"
	"errors"
	"syscall"
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
	if _, err := b.check(h); err != nil {
		return nil, failure(op, err)
	}
	// Where a file becomes another by being written to, a descriptor may lead to the old one.
	if !b.how.copiesUp {
		if f := b.files.held(h); f != nil {
			defer b.files.release(f)
			a, err := b.stat(f.fd)
			return a, failure(op, err)
		}
	}
	n, err := b.node(h)
	if err != nil {
		return nil, failure(op, err)
	}
	defer n.close()
	a, err := b.stat(n.fd)
	if err == nil && a.Nlink == 0 && !b.states.isOpen(h) {
		return nil, failure(op, syscall.ESTALE) // a descriptor of ours or of a program keeps it, no more
	}
	return a, failure(op, err)
}

// SetAttr is of fs.Backend. The owner comes before the mode, since a change of owner takes set-id
// bits away. If one of several changes fails, those before it stay, as RFC 8881 18.30.4 allows.
func (b *Backend) SetAttr(ctx context.Context, cred *fs.Cred, io fs.IORef, set *fs.SetAttr) (*fs.Attr, error) {
	const op = "SETATTR"
	if err := b.begin(ctx); err != nil {
		return nil, failure(op, err)
	}
	defer b.leave()
	a, err := b.setAttr(ctx, cred, io, set)
	return a, failure(op, err)
}

func (b *Backend) setAttr(ctx context.Context, cred *fs.Cred, io fs.IORef, set *fs.SetAttr) (*fs.Attr, error) {
	if set.Mode != nil && *set.Mode > 0o7777 {
		return nil, fs.E("", fs.Inval, errors.New("mode beyond 07777"))
	}
	n, err := b.node(io.Handle)
	if err != nil {
		return nil, err
	}
	defer n.close()
	if set.Size != nil {
		if err := b.truncate(ctx, cred, io, *set.Size); err != nil {
			return nil, err
		}
	}
	if err := b.id.as(cred, true, func() error { return b.apply(n.fd, set) }); err != nil {
		return nil, err
	}
	if !set.IsZero() && !b.cfg.Async {
		if err := b.syncNode(ctx, n); err != nil {
			return nil, err
		}
	}
	return b.stat(n.fd)
}

// syncNode makes the attributes of a file durable.
func (b *Backend) syncNode(ctx context.Context, n node) error {
	st, err := raw(n.fd)
	if err != nil {
		return err
	}
	switch {
	case isType(&st, unix.S_IFDIR):
		return b.syncDirs(ctx, n.h)
	case isType(&st, unix.S_IFREG):
		f := b.files.cached(n.h, true)
		if f == nil {
			if f, err = b.files.get(n.h, false); err != nil {
				return err
			}
		}
		defer b.files.release(f)
		return b.fsync(ctx, f, true)
	}
	// It cannot be opened, so it cannot be synced alone.
	return unix.Syncfs(b.mount)
}

// truncate sets the size under an open, or by permission.
func (b *Backend) truncate(ctx context.Context, cred *fs.Cred, io fs.IORef, size uint64) error {
	f, err := b.ioFile(ctx, cred, io, true)
	if err != nil {
		return err
	}
	defer b.files.release(f)
	return b.cut(cred, io.Handle, size)
}

// apply changes owner, mode and times of what an O_PATH descriptor or an open file is, as the
// identity that calls.
func (b *Backend) apply(fd int, set *fs.SetAttr) error {
	if err := chown(fd, set); err != nil {
		return err
	}
	if set.Mode != nil {
		if err := b.chmod(fd, *set.Mode&0o7777); err != nil {
			return err
		}
	}
	return setTimes(fd, set)
}

func chown(fd int, set *fs.SetAttr) error {
	if set.UID == nil && set.GID == nil {
		return nil
	}
	uid, gid := -1, -1
	if set.UID != nil {
		uid = int(*set.UID)
	}
	if set.GID != nil {
		gid = int(*set.GID)
	}
	return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
}

// chmod sets the mode, of all but a symbolic link, which has none that could be changed.
func (b *Backend) chmod(fd int, mode uint32) error {
	st, err := raw(fd)
	if err != nil || isType(&st, unix.S_IFLNK) {
		return err
	}
	return unix.Fchmodat(b.proc, itoa(fd), mode, 0)
}

func setTimes(fd int, set *fs.SetAttr) error {
	if set.AtimeSet == fs.TimeKeep && set.MtimeSet == fs.TimeKeep {
		return nil
	}
	times := []unix.Timespec{timeSpec(set.AtimeSet, set.Atime), timeSpec(set.MtimeSet, set.Mtime)}
	return unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH)
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

// applyNew sets what a new file is to have beyond its mode and type, as the user. An owner that the
// user may not give is left out, as knfsd does: some clients send what they expect to come out anyway.
func (b *Backend) applyNew(cred *fs.Cred, fd int, set *fs.SetAttr) error {
	if set.IsZero() {
		return nil
	}
	return b.id.as(cred, true, func() error {
		if err := chown(fd, set); err != nil && !isErrno(err, syscall.EPERM) {
			return err
		}
		if set.Size != nil {
			if *set.Size > maxOffset {
				return fs.E("", fs.FBig, nil)
			}
			if err := unix.Ftruncate(fd, int64(*set.Size)); err != nil {
				return err
			}
		}
		return setTimes(fd, set)
	})
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
	// Entries are changed by who may write and search the directory.
	ask := []struct{ bits, mode uint32 }{
		{fs.AccessRead | fs.AccessXARead | fs.AccessXAList, unix.R_OK},
		{fs.AccessModify | fs.AccessExtend | fs.AccessXAWrite, unix.W_OK},
		{fs.AccessExecute, unix.X_OK},
	}
	if isType(&st, unix.S_IFDIR) {
		ask[1] = struct{ bits, mode uint32 }{fs.AccessXAWrite, unix.W_OK}
		ask[2] = struct{ bits, mode uint32 }{fs.AccessLookup, unix.X_OK}
		ask = append(ask, struct{ bits, mode uint32 }{fs.AccessModify | fs.AccessExtend | fs.AccessDelete, unix.W_OK | unix.X_OK})
	}
	var granted uint32
	err = b.id.as(cred, false, func() error {
		for _, a := range ask {
			if want&a.bits != 0 && mayAccess(n.fd, a.mode) == nil {
				granted |= want & a.bits
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
	delta := time.Nanosecond
	if !b.change.fine {
		delta = time.Duration(b.change.gran)
	}
	return &fs.FSInfo{
		MaxRead: 1 << 20, MaxWrite: 1 << 20, MaxFileSize: maxOffset, MaxLink: b.how.maxLink, MaxName: fs.MaxName,
		TimeDelta: delta, Symlinks: true, Links: true, ChownRestricted: true, NoTrunc: true,
		Xattrs: !errors.Is(err, unix.EOPNOTSUPP), Monotonic: true,
	}, nil
}
