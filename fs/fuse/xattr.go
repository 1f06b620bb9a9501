package fuse

import (
	"strings"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"holdfast/fs"
)

// userSpace is the namespace of attributes that NFS carries, RFC 8276 2; on the wire the prefix is
// left out.
const userSpace = "user."

// xattr is do for one attribute. Names that no file of ours has are answered before the fence.
func (s *server) xattr(intr <-chan struct{}, in *gofuse.InHeader, attr string, op func(r *request, n *node, name string) error) gofuse.Status {
	if s.xattrs == nil {
		return gofuse.ENOSYS // the kernel will not ask again
	}
	name, ok := strings.CutPrefix(attr, userSpace)
	if !ok {
		return gofuse.Status(syscall.EOPNOTSUPP)
	}
	if name == "" {
		return gofuse.EINVAL
	}
	return s.do(intr, in, func(r *request, n *node) error {
		return r.again(nil, func() error { return op(r, n, name) })
	})
}

// GetXAttr reads an attribute; ERANGE and the size if it does not fit.
func (s *server) GetXAttr(intr <-chan struct{}, in *gofuse.InHeader, attr string, dest []byte) (size uint32, st gofuse.Status) {
	st = s.xattr(intr, in, attr, func(r *request, n *node, name string) error {
		value, err := s.xattrs.GetXattr(r, r.cred(), n.handle, name)
		if err != nil {
			return err
		}
		size = uint32(len(value))
		if len(value) > len(dest) {
			return syscall.ERANGE
		}
		copy(dest, value)
		return nil
	})
	return size, st
}

// SetXAttr writes one.
func (s *server) SetXAttr(intr <-chan struct{}, in *gofuse.SetXAttrIn, attr string, value []byte) gofuse.Status {
	return s.xattr(intr, &in.InHeader, attr, func(r *request, n *node, name string) error {
		how := fs.XattrEither
		switch in.Flags & (xattrCreate | xattrReplace) {
		case xattrCreate:
			how = fs.XattrCreate
		case xattrReplace:
			how = fs.XattrReplace
		case xattrCreate | xattrReplace:
			return syscall.EINVAL
		}
		_, err := s.xattrs.SetXattr(r, r.cred(), n.handle, name, value, how)
		return err
	})
}

// Flags of setxattr(2).
const (
	xattrCreate  = 1
	xattrReplace = 2
)

// RemoveXAttr removes one.
func (s *server) RemoveXAttr(intr <-chan struct{}, in *gofuse.InHeader, attr string) gofuse.Status {
	return s.xattr(intr, in, attr, func(r *request, n *node, name string) error {
		_, err := s.xattrs.RemoveXattr(r, r.cred(), n.handle, name)
		return err
	})
}

// ListXAttr lists the names, each with its NUL.
func (s *server) ListXAttr(intr <-chan struct{}, in *gofuse.InHeader, dest []byte) (size uint32, st gofuse.Status) {
	if s.xattrs == nil {
		return 0, gofuse.ENOSYS
	}
	st = s.do(intr, in, func(r *request, n *node) error {
		var names []string
		err := r.again(nil, func() (err error) {
			names, err = s.xattrs.ListXattrs(r, r.cred(), n.handle)
			return err
		})
		if err != nil {
			return err
		}
		var list []byte
		for _, name := range names {
			list = append(append(append(list, userSpace...), name...), 0)
		}
		size = uint32(len(list))
		if len(list) > len(dest) {
			return syscall.ERANGE
		}
		copy(dest, list)
		return nil
	})
	return size, st
}
