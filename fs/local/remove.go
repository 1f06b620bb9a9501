//go:build linux

package local

import (
	"context"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// Remove is of fs.Backend. A file that is open loses its name only; its data goes with the last
// close.
func (b *Backend) Remove(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string, kind fs.RemoveKind) (fs.ChangeInfo, error) {
	const op = "REMOVE"
	if err := b.begin(ctx); err != nil {
		return fs.ChangeInfo{}, failure(op, err)
	}
	defer b.leave()
	change, err := b.remove(ctx, cred, dir, name, kind)
	return change, failure(op, err)
}

func (b *Backend) remove(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string, kind fs.RemoveKind) (change fs.ChangeInfo, err error) {
	if err := fs.CheckName(name); err != nil {
		return change, err
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
	victim, err := b.findAs(cred, d, name)
	if err != nil {
		return change, gone(d, err)
	}
	defer closeFD(victim)
	err = b.id.as(cred, true, func() error {
		if kind == fs.RemoveDir {
			return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR)
		}
		err := unix.Unlinkat(d.fd, name, 0)
		// POSIX has EPERM for a directory, Linux EISDIR.
		if isErrno(err, syscall.EISDIR) && kind == fs.RemoveAny {
			err = unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR)
		}
		return err
	})
	if err != nil {
		return change, gone(d, err)
	}
	if err := b.removed(victim, dir, name); err != nil {
		return change, err
	}
	return b.changed(ctx, d.fd, dir, before)
}

// removed forgets what fd, which was at dir, name, is known for. It may be another file than the one
// that was removed, if a program came between: so it looks at the links.
func (b *Backend) removed(fd int, dir fs.Handle, name string) error {
	st, err := raw(fd)
	if err != nil {
		return err
	}
	var h fs.Handle
	if b.table != nil {
		id, ok := b.table.idOf(identOf(&st))
		if !ok {
			return nil
		}
		h = b.tableHandle(id)
		deleted := st.Nlink == 0 && !b.states.isOpen(h)
		if err := b.table.unlinked(id, tableID(dir), name, deleted); err != nil {
			return err
		}
	} else if st.Nlink == 0 {
		if h, _, err = b.handleOf(fd, nil, "", ""); err != nil {
			return nil // a file that has no handle cannot be cached
		}
	}
	if st.Nlink == 0 {
		b.files.forget(h)
	}
	return nil
}

// changed makes a change of a directory durable, and tells of it; fd is the directory, before how it was.
func (b *Backend) changed(ctx context.Context, fd int, dir fs.Handle, before *fs.Attr) (fs.ChangeInfo, error) {
	if err := b.syncDirs(ctx, dir); err != nil {
		return fs.ChangeInfo{}, err
	}
	after, err := b.stat(fd)
	if err != nil {
		return fs.ChangeInfo{}, err
	}
	return fs.ChangeInfo{Before: before.Change, After: after.Change}, nil
}
