//go:build linux

package local

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

var _ fs.ACLs = (*Backend)(nil)

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// ACLSupport is of fs.ACLs: grants and denials, where the file system has POSIX ACLs.
func (b *Backend) ACLSupport(ctx context.Context, h fs.Handle) (uint32, error) {
	const op = "GETATTR"
	if err := b.begin(ctx); err != nil {
		return 0, failure(op, err)
	}
	defer b.leave()
	if _, err := b.check(h); err != nil {
		return 0, failure(op, err)
	}
	if _, err := unix.Getxattr(procPath(b.mount), aclAccess, nil); errors.Is(err, unix.EOPNOTSUPP) {
		return 0, nil
	}
	return 1<<aceAllow | 1<<aceDeny, nil
}

// GetACL is of fs.ACLs. A file without an ACL has that of its mode. What a directory hands down are entries
// that are for inheritance only.
func (b *Backend) GetACL(ctx context.Context, cred *fs.Cred, h fs.Handle) ([]fs.ACE, error) {
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
	st, err := raw(n.fd)
	if err != nil {
		return nil, failure(op, err)
	}
	access := fromMode(uint32(st.Mode))
	dir := isType(&st, unix.S_IFDIR)
	if isType(&st, unix.S_IFLNK) {
		return toNFS(access, false, 0), nil
	}
	stored, err := readACL(n, aclAccess)
	if err != nil {
		return nil, failure(op, err)
	}
	if stored != nil {
		access = stored
	}
	list := toNFS(access, dir, 0)
	if !dir {
		return list, nil
	}
	below, err := readACL(n, aclDefault)
	if err != nil {
		return nil, failure(op, err)
	}
	if below != nil {
		list = append(list, toNFS(below, true, aceInherit|aceInheritOnly)...)
	}
	return list, nil
}

// readACL reads an ACL, nil if there is none.
func readACL(n node, name string) ([]posixEntry, error) {
	buf := make([]byte, 64<<10) // the largest value that Linux has
	size, err := unix.Getxattr(procPath(n.fd), name, buf)
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP), err == nil && size == 0:
		return nil, nil
	case err != nil:
		return nil, err
	}
	return decodePosix(buf[:size])
}

// SetACL is of fs.ACLs. NotSupp for entries that audit, alarm or stop being inherited, and for links; Inval for
// inheritance from what is no directory.
func (b *Backend) SetACL(ctx context.Context, cred *fs.Cred, h fs.Handle, acl []fs.ACE) error {
	const op = "SETATTR"
	if err := b.begin(ctx); err != nil {
		return failure(op, err)
	}
	defer b.leave()
	return failure(op, b.setACL(ctx, cred, h, acl))
}

func (b *Backend) setACL(ctx context.Context, cred *fs.Cred, h fs.Handle, acl []fs.ACE) error {
	n, err := b.node(h)
	if err != nil {
		return err
	}
	defer n.close()
	st, err := raw(n.fd)
	if err != nil {
		return err
	}
	if isType(&st, unix.S_IFLNK) {
		return fs.E("", fs.NotSupp, errors.New("a link has no ACL"))
	}
	dir := isType(&st, unix.S_IFDIR)
	access, below, err := fromNFS(acl, dir)
	if err != nil {
		return err
	}
	err = b.id.as(cred, true, func() error {
		if err := unix.Setxattr(procPath(n.fd), aclAccess, encodePosix(access), 0); err != nil || !dir {
			return err
		}
		if below != nil {
			return unix.Setxattr(procPath(n.fd), aclDefault, encodePosix(below), 0)
		}
		if err := unix.Removexattr(procPath(n.fd), aclDefault); !errors.Is(err, unix.ENODATA) {
			return err
		}
		return nil
	})
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fs.E("", fs.NotSupp, err)
	case errors.Is(err, unix.E2BIG), errors.Is(err, unix.ERANGE):
		return fs.E("", fs.NoSpc, err)
	case err != nil || b.cfg.Async:
		return err
	}
	return b.syncNode(ctx, n)
}
