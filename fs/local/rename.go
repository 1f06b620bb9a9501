//go:build linux

package local

import (
	"context"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// Rename is of fs.Backend.
func (b *Backend) Rename(ctx context.Context, cred *fs.Cred, fromDir fs.Handle, from string, toDir fs.Handle, to string) (source, target fs.ChangeInfo, err error) {
	const op = "RENAME"
	if err := b.begin(ctx); err != nil {
		return source, target, failure(op, err)
	}
	defer b.leave()
	source, target, err = b.rename(ctx, cred, fromDir, from, toDir, to)
	return source, target, failure(op, err)
}

func (b *Backend) rename(ctx context.Context, cred *fs.Cred, fromDir fs.Handle, from string, toDir fs.Handle, to string) (source, target fs.ChangeInfo, err error) {
	if err := errors.Join(fs.CheckName(from), fs.CheckName(to)); err != nil {
		return source, target, err
	}
	d1, err := b.directory(fromDir)
	if err != nil {
		return source, target, err
	}
	defer d1.close()
	d2, err := b.directory(toDir)
	if err != nil {
		return source, target, err
	}
	defer d2.close()
	before1, err := b.stat(d1.fd)
	if err != nil {
		return source, target, err
	}
	before2, err := b.stat(d2.fd)
	if err != nil {
		return source, target, err
	}
	moved, err := b.findAs(cred, d1, from)
	if err != nil {
		return source, target, gone(d1, err)
	}
	defer closeFD(moved)
	victim, err := b.findAs(cred, d2, to)
	if err == nil {
		defer closeFD(victim)
	} else if !isErrno(err, syscall.ENOENT) {
		return source, target, err
	} else {
		victim = -1
	}
	if err := b.renameNow(cred, d1, from, d2, to, moved, victim); err != nil {
		return source, target, err
	}
	dirs := []fs.Handle{fromDir}
	if toDir != fromDir {
		dirs = append(dirs, toDir)
	}
	if err := b.syncDirs(ctx, dirs...); err != nil {
		return source, target, err
	}
	after1, err := b.stat(d1.fd)
	if err != nil {
		return source, target, err
	}
	after2, err := b.stat(d2.fd)
	if err != nil {
		return source, target, err
	}
	return fs.ChangeInfo{Before: before1.Change, After: after1.Change}, fs.ChangeInfo{Before: before2.Change, After: after2.Change}, nil
}

// renameNow renames, and has the table follow. victim is what had the new name, or -1.
func (b *Backend) renameNow(cred *fs.Cred, d1 node, from string, d2 node, to string, moved, victim int) error {
	if b.table != nil {
		b.table.moves.RLock()
		defer b.table.moves.RUnlock()
	}
	err := b.id.as(cred, true, func() error { return unix.Renameat2(d1.fd, from, d2.fd, to, 0) })
	switch {
	case isErrno(err, syscall.EISDIR, syscall.ENOTDIR):
		// Both directories are directories, so it is the target that does not fit: RFC 8881 18.26.3.
		return fs.E("", fs.Exist, err)
	case isErrno(err, syscall.ENOENT):
		if err2 := gone(d2, err); err2 != err {
			return err2
		}
		return gone(d1, err)
	case isErrno(err, syscall.EEXIST):
		return fs.E("", fs.NotEmpty, err) // what some file systems say for ENOTEMPTY
	case err != nil:
		return err
	}
	if victim >= 0 {
		same, err := sameFile(moved, victim)
		if err != nil || same {
			return err // two names of one file: rename(2) does nothing
		}
		if err := b.removed(victim, d2.h, to); err != nil {
			return err
		}
	}
	if b.table == nil {
		return nil
	}
	st, err := raw(moved)
	if err != nil {
		return err
	}
	id, _, err := b.table.add(identOf(&st), tableID(d2.h), to)
	if err != nil {
		return err
	}
	if d1.h == d2.h && from == to {
		return nil
	}
	return b.table.unlinked(id, tableID(d1.h), from, false)
}

func sameFile(a, b int) (bool, error) {
	x, err := raw(a)
	if err != nil {
		return false, err
	}
	y, err := raw(b)
	return identOf(&x) == identOf(&y), err
}

// Link is of fs.Backend.
func (b *Backend) Link(ctx context.Context, cred *fs.Cred, file, dir fs.Handle, name string) (fs.ChangeInfo, error) {
	const op = "LINK"
	if err := b.begin(ctx); err != nil {
		return fs.ChangeInfo{}, failure(op, err)
	}
	defer b.leave()
	change, err := b.link(ctx, cred, file, dir, name)
	return change, failure(op, err)
}

func (b *Backend) link(ctx context.Context, cred *fs.Cred, file, dir fs.Handle, name string) (change fs.ChangeInfo, err error) {
	if err := fs.CheckName(name); err != nil {
		return change, err
	}
	n, err := b.node(file)
	if err != nil {
		return change, err
	}
	defer n.close()
	st, err := raw(n.fd)
	if err != nil {
		return change, err
	}
	if isType(&st, unix.S_IFDIR) {
		return change, syscall.EISDIR // RFC 8881 18.9.3
	}
	if st.Nlink == 0 {
		return change, syscall.ESTALE
	}
	d, err := b.directory(dir)
	if err != nil {
		return change, err
	}
	defer d.close()
	before, err := b.stat(d.fd)
	if err != nil {
		return change, err
	}
	err = b.id.as(cred, true, func() error {
		// Following a link of /proc gives what the descriptor is, a symbolic link itself included.
		return unix.Linkat(b.proc, itoa(n.fd), d.fd, name, unix.AT_SYMLINK_FOLLOW)
	})
	if err != nil {
		return change, gone(d, err)
	}
	if b.table != nil {
		if _, _, err := b.table.add(identOf(&st), tableID(dir), name); err != nil {
			return change, err
		}
	}
	return b.changed(ctx, d.fd, dir, before)
}
