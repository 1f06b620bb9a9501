//go:build linux

package local

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

const userPrefix = "user."

// xattr runs f on a file as cred. Only regular files and directories have user attributes.
func (b *Backend) xattr(ctx context.Context, cred *fs.Cred, op string, h fs.Handle, name string, changes bool, f func(path string) error) (n node, err error) {
	if err := b.begin(ctx); err != nil {
		return n, failure(op, err)
	}
	defer b.leave()
	if strings.IndexByte(name, 0) >= 0 || len(name) > 250 {
		return n, fs.E(op, fs.Inval, errors.New("name of an attribute"))
	}
	if n, err = b.node(h); err != nil {
		return n, failure(op, err)
	}
	defer n.close()
	st, err := raw(n.fd)
	if err != nil {
		return n, failure(op, err)
	}
	if !isType(&st, unix.S_IFREG) && !isType(&st, unix.S_IFDIR) {
		return n, fs.E(op, fs.Perm, errors.New("only files and directories have user attributes"))
	}
	err = b.id.as(cred, true, func() error { return f(procPath(n.fd)) })
	if err == nil && changes && !b.cfg.Async {
		err = b.syncNode(ctx, n)
	}
	switch {
	case errors.Is(err, unix.ENODATA):
		return n, fs.E(op, fs.NoXattr, err)
	case errors.Is(err, unix.E2BIG), errors.Is(err, unix.ERANGE):
		return n, fs.E(op, fs.XattrTooBig, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return n, fs.E(op, fs.NotSupp, err)
	}
	return n, failure(op, err)
}

// GetXattr is of fs.Xattrs.
func (b *Backend) GetXattr(ctx context.Context, cred *fs.Cred, h fs.Handle, name string) ([]byte, error) {
	var value []byte
	_, err := b.xattr(ctx, cred, "GETXATTR", h, name, false, func(path string) error {
		buf := make([]byte, 64<<10)
		n, err := unix.Getxattr(path, userPrefix+name, buf)
		if err == nil {
			value = buf[:n]
		}
		return err
	})
	return value, err
}

// changing runs f, which changes attributes, and tells the change attribute around it.
func (b *Backend) changing(ctx context.Context, cred *fs.Cred, op string, h fs.Handle, name string, f func(path string) error) (info fs.ChangeInfo, err error) {
	before, err := b.GetAttr(ctx, cred, h)
	if err != nil {
		return info, err
	}
	if _, err := b.xattr(ctx, cred, op, h, name, true, f); err != nil {
		return info, err
	}
	after, err := b.GetAttr(ctx, cred, h)
	if err != nil {
		return info, err
	}
	return fs.ChangeInfo{Before: before.Change, After: after.Change}, nil
}

// SetXattr is of fs.Xattrs.
func (b *Backend) SetXattr(ctx context.Context, cred *fs.Cred, h fs.Handle, name string, value []byte, how fs.XattrSet) (fs.ChangeInfo, error) {
	flags := 0
	switch how {
	case fs.XattrCreate:
		flags = unix.XATTR_CREATE
	case fs.XattrReplace:
		flags = unix.XATTR_REPLACE
	}
	return b.changing(ctx, cred, "SETXATTR", h, name, func(path string) error {
		return unix.Setxattr(path, userPrefix+name, value, flags)
	})
}

// RemoveXattr is of fs.Xattrs.
func (b *Backend) RemoveXattr(ctx context.Context, cred *fs.Cred, h fs.Handle, name string) (fs.ChangeInfo, error) {
	return b.changing(ctx, cred, "REMOVEXATTR", h, name, func(path string) error {
		return unix.Removexattr(path, userPrefix+name)
	})
}

// ListXattrs is of fs.Xattrs.
func (b *Backend) ListXattrs(ctx context.Context, cred *fs.Cred, h fs.Handle) ([]string, error) {
	var names []string
	_, err := b.xattr(ctx, cred, "LISTXATTRS", h, "", false, func(path string) error {
		buf := make([]byte, 64<<10)
		n, err := unix.Listxattr(path, buf)
		if err != nil {
			return err
		}
		for _, name := range strings.Split(string(buf[:n]), "\x00") {
			if user, ok := strings.CutPrefix(name, userPrefix); ok {
				names = append(names, user)
			}
		}
		return nil
	})
	return names, err
}
