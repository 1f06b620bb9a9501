//go:build linux

package local

import (
	"context"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// Root is of fs.Backend.
func (b *Backend) Root(ctx context.Context) (fs.Handle, error) { return b.rootHandle, nil }

// directory opens a handle that must be one of a directory.
func (b *Backend) directory(h fs.Handle) (node, error) {
	n, err := b.node(h)
	if err != nil {
		return node{}, err
	}
	st, err := raw(n.fd)
	if err == nil && !isType(&st, unix.S_IFDIR) {
		err = syscall.ENOTDIR
		if isType(&st, unix.S_IFLNK) {
			err = fs.E("", fs.IsSymlink, nil) // RFC 8881 18.13.3
		}
	}
	if err != nil {
		n.close()
		return node{}, err
	}
	n.mode = uint32(st.Mode)
	return n, nil
}

// findAs looks a name up with the user's permissions. Where everybody may search the directory, that
// is done without becoming the user, which costs more than all else in a lookup.
func (b *Backend) findAs(cred *fs.Cred, dir node, name string) (fd int, err error) {
	if cred != nil && b.allSearch(dir) {
		return find(dir.fd, name)
	}
	err = b.id.as(cred, false, func() error {
		fd, err = find(dir.fd, name)
		return err
	})
	return fd, err
}

// allSearch tells for certain that the mode lets everybody search the directory, and that there is no
// ACL to say otherwise.
func (b *Backend) allSearch(dir node) bool {
	if dir.mode&0o111 != 0o111 || b.how.foreign || !b.id.able {
		return false
	}
	_, err := unix.Getxattr(procPath(dir.fd), "system.posix_acl_access", nil)
	return isErrno(err, syscall.ENODATA, syscall.EOPNOTSUPP)
}

// Lookup is of fs.Backend.
func (b *Backend) Lookup(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string) (fs.Handle, *fs.Attr, error) {
	const op = "LOOKUP"
	if err := b.begin(ctx); err != nil {
		return "", nil, failure(op, err)
	}
	defer b.leave()
	if err := fs.CheckName(name); err != nil {
		return "", nil, failure(op, err)
	}
	d, err := b.directory(dir)
	if err != nil {
		return "", nil, failure(op, err)
	}
	defer d.close()
	fd, err := b.findAs(cred, d, name)
	if err != nil {
		return "", nil, failure(op, gone(d, err))
	}
	defer closeFD(fd)
	h, a, err := b.describe(ctx, fd, dir, name)
	return h, a, failure(op, err)
}

// describe gives handle and attributes of what was found at dir, name.
func (b *Backend) describe(ctx context.Context, fd int, dir fs.Handle, name string) (fs.Handle, *fs.Attr, error) {
	h, fresh, err := b.handleOf(fd, nil, dir, name)
	if err != nil {
		return "", nil, err
	}
	if err := b.flushTable(ctx, fresh); err != nil {
		return "", nil, err
	}
	a, err := b.stat(fd)
	if err != nil {
		return "", nil, err
	}
	return h, a, nil
}

// LookupParent is of fs.Backend. The way up must lead to the exported directory: a directory that
// was moved out of it is Stale here, so that nobody climbs out.
func (b *Backend) LookupParent(ctx context.Context, cred *fs.Cred, dir fs.Handle) (fs.Handle, *fs.Attr, error) {
	const op = "LOOKUPP"
	if err := b.begin(ctx); err != nil {
		return "", nil, failure(op, err)
	}
	defer b.leave()
	h, a, err := b.parent(ctx, cred, dir)
	return h, a, failure(op, err)
}

func (b *Backend) parent(ctx context.Context, cred *fs.Cred, dir fs.Handle) (fs.Handle, *fs.Attr, error) {
	d, err := b.directory(dir)
	if err != nil {
		return "", nil, err
	}
	defer d.close()
	if dir == b.rootHandle {
		return "", nil, syscall.ENOENT
	}
	// The user must be able to search the directory whose ".." it is, as in any lookup.
	up := -1
	err = b.id.as(cred, false, func() (err error) {
		up, err = dotdot(d.fd)
		return err
	})
	if err != nil {
		if isErrno(err, syscall.ENOENT) {
			err = syscall.ESTALE // not connected to the root
		}
		return "", nil, err
	}
	defer closeFD(up)
	at, name, err := b.placeOf(up)
	if err != nil {
		return "", nil, err
	}
	return b.describe(ctx, up, at, name)
}

// dotdot opens "..". It stays on the file system.
func dotdot(fd int) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		up, err := unix.Openat2(fd, "..", &how)
		if err != syscall.EINTR && err != syscall.EAGAIN {
			return up, err
		}
	}
}

// placeOf makes sure that fd is the exported directory or below it. Where handles come from the
// table it also gives where the directory is, which the table must know of.
func (b *Backend) placeOf(fd int) (at fs.Handle, name string, err error) {
	root, err := raw(b.root)
	if err != nil {
		return "", "", err
	}
	if b.table != nil {
		// A directory below ours was looked up through its parent, so the table knows it.
		st, err := raw(fd)
		if err != nil {
			return "", "", err
		}
		l, ok := b.table.place(identOf(&st))
		if !ok {
			return "", "", syscall.ESTALE
		}
		at, name = b.tableHandle(l.dir), l.name
	}
	cur, err := openat(fd, ".", unix.O_PATH|unix.O_DIRECTORY, 0)
	for range maxDepth {
		if err != nil {
			return "", "", err
		}
		st, e := raw(cur)
		if e != nil {
			closeFD(cur)
			return "", "", e
		}
		if st.Ino == root.Ino && st.Dev_major == root.Dev_major && st.Dev_minor == root.Dev_minor {
			closeFD(cur)
			return at, name, nil
		}
		up, e := dotdot(cur)
		if e == nil {
			if above, e := raw(up); e == nil && above.Ino == st.Ino {
				closeFD(cur)
				closeFD(up)
				return "", "", syscall.ESTALE // the root of the file system, and not ours
			}
		}
		closeFD(cur)
		cur, err = up, e
		if isErrno(err, syscall.EXDEV, syscall.ENOENT) {
			err = syscall.ESTALE
		}
	}
	closeFD(cur)
	return "", "", syscall.ESTALE
}

// Readlink is of fs.Backend.
func (b *Backend) Readlink(ctx context.Context, cred *fs.Cred, link fs.Handle) (string, error) {
	const op = "READLINK"
	if err := b.begin(ctx); err != nil {
		return "", failure(op, err)
	}
	defer b.leave()
	n, err := b.node(link)
	if err != nil {
		return "", failure(op, err)
	}
	defer n.close()
	st, err := raw(n.fd)
	if err != nil {
		return "", failure(op, err)
	}
	if !isType(&st, unix.S_IFLNK) {
		return "", fs.E(op, fs.Inval, nil)
	}
	buf := make([]byte, unix.PathMax)
	k, err := unix.Readlinkat(n.fd, "", buf)
	if err != nil {
		return "", failure(op, err)
	}
	return string(buf[:k]), nil
}
