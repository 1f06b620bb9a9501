//go:build linux

package local

import (
	"context"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// Root is of fs.Backend.
func (b *Backend) Root(context.Context) (fs.Handle, error) { return b.rootHandle, nil }

// dirNode opens a directory by its handle.
func (b *Backend) dirNode(h fs.Handle) (node, error) {
	n, err := b.node(h)
	if err != nil {
		return n, err
	}
	st, err := raw(n.fd)
	if err == nil && !isType(&st, unix.S_IFDIR) {
		err = syscall.ENOTDIR
		if isType(&st, unix.S_IFLNK) {
			err = fs.E("", fs.IsSymlink, syscall.ENOTDIR)
		}
	}
	if err != nil {
		n.close()
	}
	return n, err
}

// entry finds an entry as cred, and gives its handle and attributes.
func (b *Backend) entry(ctx context.Context, cred *fs.Cred, dir node, name string) (fd int, h fs.Handle, a *fs.Attr, err error) {
	err = b.id.as(cred, false, func() (err error) {
		fd, err = find(dir.fd, name)
		return err
	})
	if err != nil {
		return -1, "", nil, gone(dir, err)
	}
	if h, a, err = b.known(ctx, fd, dir.h, name); err != nil {
		closeFD(fd)
		return -1, "", nil, err
	}
	return fd, h, a, nil
}

// known gives handle and attributes of what fd is.
func (b *Backend) known(ctx context.Context, fd int, dir fs.Handle, name string) (fs.Handle, *fs.Attr, error) {
	h, fresh, err := b.handleOf(fd, nil, dir, name)
	if err != nil {
		return "", nil, err
	}
	a, err := b.stat(fd)
	if err != nil {
		return "", nil, err
	}
	return h, a, b.flushTable(ctx, fresh)
}

// Lookup is of fs.Backend.
func (b *Backend) Lookup(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string) (fs.Handle, *fs.Attr, error) {
	const op = "LOOKUP"
	if err := b.begin(ctx); err != nil {
		return "", nil, failure(op, err)
	}
	defer b.leave()
	d, err := b.dirNode(dir)
	if err != nil {
		return "", nil, failure(op, err)
	}
	defer d.close()
	if err := fs.CheckName(name); err != nil {
		return "", nil, failure(op, err)
	}
	fd, h, a, err := b.entry(ctx, cred, d, name)
	if err != nil {
		return "", nil, failure(op, err)
	}
	closeFD(fd)
	return h, a, nil
}

// LookupParent is of fs.Backend.
func (b *Backend) LookupParent(ctx context.Context, cred *fs.Cred, dir fs.Handle) (fs.Handle, *fs.Attr, error) {
	const op = "LOOKUPP"
	if err := b.begin(ctx); err != nil {
		return "", nil, failure(op, err)
	}
	defer b.leave()
	if dir == b.rootHandle {
		return "", nil, fs.E(op, fs.NoEnt, errors.New("the root of the export"))
	}
	d, err := b.dirNode(dir)
	if err != nil {
		return "", nil, failure(op, err)
	}
	defer d.close()
	fd := -1
	err = b.id.as(cred, false, func() (err error) {
		fd, err = unix.Openat(d.fd, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return "", nil, failure(op, err)
	}
	defer closeFD(fd)
	if b.table != nil {
		// The table knows only what was looked up from above.
		_, paths, ok := b.table.paths(tableID(dir))
		if !ok || len(paths) == 0 {
			return "", nil, fs.E(op, fs.Stale, nil)
		}
	}
	h, a, err := b.known(ctx, fd, "", "")
	return h, a, failure(op, err)
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
		return "", fs.E(op, fs.Inval, errors.New("not a symbolic link"))
	}
	buf := make([]byte, 4097)
	m, err := unix.Readlinkat(n.fd, "", buf)
	if err != nil {
		return "", failure(op, err)
	}
	return string(buf[:m]), nil
}

// changed gives the change attribute of a directory.
func (b *Backend) changed(d node) (uint64, error) {
	a, err := b.stat(d.fd)
	if err != nil {
		return 0, err
	}
	return a.Change, nil
}

// inDir runs f, which changes the directory, and tells its change attribute around it. Others may
// change it at the same time, so it is not atomic.
func (b *Backend) inDir(ctx context.Context, d node, f func() error) (info fs.ChangeInfo, err error) {
	if info.Before, err = b.changed(d); err != nil {
		return info, err
	}
	if err = f(); err != nil {
		return info, gone(d, err)
	}
	if err = b.syncDirs(ctx, d.h); err != nil {
		return info, err
	}
	info.After, err = b.changed(d)
	return info, err
}

// Create is of fs.Backend.
func (b *Backend) Create(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string, req *fs.CreateRequest) (fs.Handle, *fs.Attr, fs.ChangeInfo, error) {
	const op = "CREATE"
	var info fs.ChangeInfo
	if err := b.begin(ctx); err != nil {
		return "", nil, info, failure(op, err)
	}
	defer b.leave()
	d, err := b.dirNode(dir)
	if err != nil {
		return "", nil, info, failure(op, err)
	}
	defer d.close()
	if err := fs.CheckName(name); err != nil {
		return "", nil, info, failure(op, err)
	}
	if req.Attr.Size != nil {
		return "", nil, info, fs.E(op, fs.Inval, errors.New("size of what has none"))
	}
	mode := modeFor(&req.Attr, 0o777)
	var make func() error
	switch req.Type {
	case fs.Directory:
		make = func() error { return unix.Mkdirat(d.fd, name, mode) }
	case fs.Symlink:
		if req.Target == "" || len(req.Target) > 4095 {
			return "", nil, info, fs.E(op, fs.Inval, errors.New("target of a symbolic link"))
		}
		make = func() error { return unix.Symlinkat(req.Target, d.fd, name) }
	case fs.Block, fs.Char, fs.Socket, fs.FIFO:
		format := map[fs.FileType]uint32{fs.Block: unix.S_IFBLK, fs.Char: unix.S_IFCHR, fs.Socket: unix.S_IFSOCK, fs.FIFO: unix.S_IFIFO}[req.Type]
		dev := int(unix.Mkdev(req.Rdev.Major, req.Rdev.Minor))
		if format == unix.S_IFSOCK || format == unix.S_IFIFO {
			dev = 0
		}
		make = func() error { return unix.Mknodat(d.fd, name, format|mode, dev) }
	default:
		return "", nil, info, fs.E(op, fs.BadType, nil)
	}
	var h fs.Handle
	var a *fs.Attr
	info, err = b.inDir(ctx, d, func() error {
		if err := b.id.as(cred, true, make); err != nil {
			return err
		}
		fd, err := find(d.fd, name)
		if err != nil {
			return err
		}
		defer closeFD(fd)
		set := req.Attr
		set.Mode = nil // it is made with it
		if err := b.applyNew(cred, fd, &set); err != nil {
			return err
		}
		h, a, err = b.known(ctx, fd, dir, name)
		return err
	})
	if err != nil {
		return "", nil, info, failure(op, err)
	}
	return h, a, info, nil
}

// modeFor is the mode of a new file.
func modeFor(set *fs.SetAttr, or uint32) uint32 {
	mode := or
	if set.Mode != nil {
		mode = *set.Mode & 0o7777
	}
	if set.Umask != nil {
		mode &^= *set.Umask & 0o777
	}
	return mode
}

// Remove is of fs.Backend.
func (b *Backend) Remove(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string, kind fs.RemoveKind) (fs.ChangeInfo, error) {
	const op = "REMOVE"
	if err := b.begin(ctx); err != nil {
		return fs.ChangeInfo{}, failure(op, err)
	}
	defer b.leave()
	d, err := b.dirNode(dir)
	if err != nil {
		return fs.ChangeInfo{}, failure(op, err)
	}
	defer d.close()
	if err := fs.CheckName(name); err != nil {
		return fs.ChangeInfo{}, failure(op, err)
	}
	fd, h, a, err := b.entry(ctx, cred, d, name)
	if err != nil {
		return fs.ChangeInfo{}, failure(op, err)
	}
	defer closeFD(fd)
	flags := 0
	if kind == fs.RemoveDir || kind == fs.RemoveAny && a.Type == fs.Directory {
		flags = unix.AT_REMOVEDIR
	}
	info, err := b.inDir(ctx, d, func() error {
		err := b.id.as(cred, false, func() error { return unix.Unlinkat(d.fd, name, flags) })
		if err == nil {
			err = b.unnamed(fd, h, dir, name)
		}
		return err
	})
	return info, failure(op, err)
}

// unnamed notes that a name of a file is gone.
func (b *Backend) unnamed(fd int, h, dir fs.Handle, name string) error {
	st, err := raw(fd)
	if err != nil {
		return err
	}
	deleted := st.Nlink == 0 || isType(&st, unix.S_IFDIR)
	if b.table != nil {
		if err := b.table.unlinked(tableID(h), tableID(dir), name, deleted && !b.states.isOpen(h)); err != nil {
			return err
		}
	}
	if deleted {
		b.files.forget(h)
	}
	return nil
}

// Rename is of fs.Backend.
func (b *Backend) Rename(ctx context.Context, cred *fs.Cred, fromDir fs.Handle, from string, toDir fs.Handle, to string) (source, target fs.ChangeInfo, err error) {
	const op = "RENAME"
	if err := b.begin(ctx); err != nil {
		return source, target, failure(op, err)
	}
	defer b.leave()
	s, err := b.dirNode(fromDir)
	if err != nil {
		return source, target, failure(op, err)
	}
	defer s.close()
	t, err := b.dirNode(toDir)
	if err != nil {
		return source, target, failure(op, err)
	}
	defer t.close()
	for _, name := range []string{from, to} {
		if err := fs.CheckName(name); err != nil {
			return source, target, failure(op, err)
		}
	}
	if source.Before, err = b.changed(s); err == nil {
		target.Before, err = b.changed(t)
	}
	if err == nil {
		err = b.rename(ctx, cred, s, from, t, to)
	}
	if err == nil {
		dirs := []fs.Handle{toDir}
		if fromDir != toDir {
			dirs = append(dirs, fromDir)
		}
		err = b.syncDirs(ctx, dirs...)
	}
	if err == nil {
		source.After, err = b.changed(s)
	}
	if err == nil {
		target.After, err = b.changed(t)
	}
	return source, target, failure(op, err)
}

func (b *Backend) rename(ctx context.Context, cred *fs.Cred, s node, from string, t node, to string) error {
	if b.table != nil {
		b.table.moves.RLock()
		defer b.table.moves.RUnlock()
	}
	fd, h, _, err := b.entry(ctx, cred, s, from)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	over, overH, _, err := b.entry(ctx, cred, t, to)
	switch {
	case err == nil:
		defer closeFD(over)
	case isErrno(err, syscall.ENOENT):
		over = -1
	default:
		return err
	}
	err = b.id.as(cred, false, func() error { return unix.Renameat(s.fd, from, t.fd, to) })
	if err != nil {
		return gone(t, gone(s, err))
	}
	if over >= 0 && overH != h {
		if err := b.unnamed(over, overH, t.h, to); err != nil {
			return err
		}
	}
	if b.table != nil && overH != h {
		if _, _, err := b.handleOf(fd, nil, t.h, to); err != nil {
			return err
		}
		if err := b.table.unlinked(tableID(h), tableID(s.h), from, false); err != nil {
			return err
		}
		return b.table.sync(ctx)
	}
	return nil
}

// Link is of fs.Backend.
func (b *Backend) Link(ctx context.Context, cred *fs.Cred, file, dir fs.Handle, name string) (fs.ChangeInfo, error) {
	const op = "LINK"
	if err := b.begin(ctx); err != nil {
		return fs.ChangeInfo{}, failure(op, err)
	}
	defer b.leave()
	n, err := b.node(file)
	if err != nil {
		return fs.ChangeInfo{}, failure(op, err)
	}
	defer n.close()
	d, err := b.dirNode(dir)
	if err != nil {
		return fs.ChangeInfo{}, failure(op, err)
	}
	defer d.close()
	if err := fs.CheckName(name); err != nil {
		return fs.ChangeInfo{}, failure(op, err)
	}
	st, err := raw(n.fd)
	if err == nil && isType(&st, unix.S_IFDIR) {
		err = syscall.EISDIR
	}
	if err != nil {
		return fs.ChangeInfo{}, failure(op, err)
	}
	info, err := b.inDir(ctx, d, func() error {
		// Through /proc, since AT_EMPTY_PATH asks for CAP_DAC_READ_SEARCH of the user.
		err := b.id.as(cred, false, func() error {
			return unix.Linkat(b.proc, itoa(n.fd), d.fd, name, unix.AT_SYMLINK_FOLLOW)
		})
		if err == nil && b.table != nil {
			var fresh bool
			if _, fresh, err = b.handleOf(n.fd, nil, dir, name); err == nil {
				err = b.flushTable(ctx, fresh)
			}
		}
		return err
	})
	return info, failure(op, err)
}
