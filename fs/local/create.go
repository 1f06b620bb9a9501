//go:build linux

package local

import (
	"context"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// creationMode is the mode that a file is to be created with: the umask that the client sent bends
// it unless the directory has a default ACL, RFC 8275 5.
func (b *Backend) creationMode(dir node, set *fs.SetAttr, otherwise uint32) uint32 {
	mode := otherwise
	if set.Mode != nil {
		mode = *set.Mode & 0o7777
	}
	if set.Umask != nil {
		n, err := unix.Getxattr(procPath(dir.fd), "system.posix_acl_default", nil)
		if err != nil || n == 0 {
			mode &^= *set.Umask & 0o777
		}
	}
	return mode
}

// procPath names what an O_PATH descriptor is, for calls that take no descriptor.
func procPath(fd int) string { return "/proc/self/fd/" + itoa(fd) }

var errCreateType = errors.New("not a type that Create makes")

// Create is of fs.Backend. BadType for a regular file.
func (b *Backend) Create(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string, req *fs.CreateRequest) (fs.Handle, *fs.Attr, fs.ChangeInfo, error) {
	const op = "CREATE"
	if err := b.begin(ctx); err != nil {
		return "", nil, fs.ChangeInfo{}, failure(op, err)
	}
	defer b.leave()
	h, a, change, err := b.create(ctx, cred, dir, name, req)
	if err != nil {
		return "", nil, fs.ChangeInfo{}, failure(op, err)
	}
	return h, a, change, nil
}

func (b *Backend) create(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string, req *fs.CreateRequest) (h fs.Handle, a *fs.Attr, change fs.ChangeInfo, err error) {
	if err := fs.CheckName(name); err != nil {
		return "", nil, change, err
	}
	if req.Attr.Size != nil {
		return "", nil, change, fs.E("", fs.Inval, errors.New("only a regular file has a size"))
	}
	d, err := b.directory(dir)
	if err != nil {
		return "", nil, change, err
	}
	defer d.close()
	before, err := b.stat(d.fd)
	if err != nil {
		return "", nil, change, err
	}
	fd := -1
	err = b.id.as(cred, true, func() error {
		if err := b.make(d, name, req); err != nil {
			return err
		}
		var err error
		fd, err = find(d.fd, name)
		return err
	})
	if err != nil {
		return "", nil, change, gone(d, err)
	}
	defer closeFD(fd)
	if err := b.applyNew(cred, fd, &req.Attr); err != nil {
		return "", nil, change, err
	}
	h, fresh, err := b.handleOf(fd, nil, dir, name)
	if err != nil {
		return "", nil, change, err
	}
	if err := b.flushTable(ctx, fresh); err != nil {
		return "", nil, change, err
	}
	if err := b.syncDirs(ctx, dir); err != nil {
		return "", nil, change, err
	}
	if a, err = b.stat(fd); err != nil {
		return "", nil, change, err
	}
	after, err := b.stat(d.fd)
	if err != nil {
		return "", nil, change, err
	}
	return h, a, fs.ChangeInfo{Before: before.Change, After: after.Change}, nil
}

// make makes the entry, as the identity of the thread.
func (b *Backend) make(d node, name string, req *fs.CreateRequest) error {
	mode := func(otherwise uint32) uint32 { return b.creationMode(d, &req.Attr, otherwise) }
	switch req.Type {
	case fs.Directory:
		m := mode(0o700)
		if err := unix.Mkdirat(d.fd, name, m); err != nil || m&0o6000 == 0 {
			return err
		}
		// mkdir does not take these; the group bit may have come from the parent.
		fd, err := find(d.fd, name)
		if err != nil {
			return err
		}
		defer closeFD(fd)
		st, err := raw(fd)
		if err != nil || !isType(&st, unix.S_IFDIR) {
			return err
		}
		return b.chmod(fd, uint32(st.Mode)&0o7777|m&0o6000)
	case fs.Symlink:
		if req.Target == "" {
			return syscall.EINVAL
		}
		return unix.Symlinkat(req.Target, d.fd, name)
	case fs.Socket:
		return unix.Mknodat(d.fd, name, unix.S_IFSOCK|mode(0o600), 0)
	case fs.FIFO:
		return unix.Mknodat(d.fd, name, unix.S_IFIFO|mode(0o600), 0)
	case fs.Block, fs.Char:
		format := uint32(unix.S_IFBLK)
		if req.Type == fs.Char {
			format = unix.S_IFCHR
		}
		return unix.Mknodat(d.fd, name, format|mode(0o600), int(unix.Mkdev(req.Rdev.Major, req.Rdev.Minor)))
	}
	return fs.E("", fs.BadType, errCreateType)
}
