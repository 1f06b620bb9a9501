package fuse

import (
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// entryTTL is how long the kernel may use an entry of dir without asking. An entry that is used
// without asking is used without a check that the caller may pass the directory, so only what is in
// directories that everybody may pass is cached.
func (s *server) entryTTL(dir *node) time.Duration {
	if dir.mode.Load()&0111 != 0111 {
		return 0
	}
	return s.entryTimeout
}

// entry tells the kernel of the file that name in dir is. It counts a reference.
func (s *server) entry(dir *node, name string, h fs.Handle, a *fs.Attr, out *gofuse.EntryOut) {
	s.entryOf(dir, name, s.table.ref(h), a, out)
}

// entryOf is entry for a node that is referenced already.
func (s *server) entryOf(dir *node, name string, n *node, a *fs.Attr, out *gofuse.EntryOut) {
	out.NodeId, out.Generation = n.id, 1
	s.fillAttr(n, a, &out.Attr)
	out.SetAttrTimeout(s.attrTimeout)
	if ttl := s.entryTTL(dir); ttl > 0 {
		out.SetEntryTimeout(ttl)
		s.table.name(dir, name, n)
	}
}

// Lookup finds an entry. That a name is not there is not cached here, but by the backend.
func (s *server) Lookup(intr <-chan struct{}, in *gofuse.InHeader, name string, out *gofuse.EntryOut) gofuse.Status {
	return s.do(intr, in, func(r *request, dir *node) error {
		var h fs.Handle
		var a *fs.Attr
		err := r.again(nil, func() (err error) {
			h, a, err = s.backend.Lookup(r, r.cred(), dir.handle, name)
			return err
		})
		if err != nil {
			return err
		}
		s.entry(dir, name, h, a, out)
		return nil
	})
}

// Readlink reads a symbolic link.
func (s *server) Readlink(intr <-chan struct{}, in *gofuse.InHeader) (target []byte, st gofuse.Status) {
	st = s.do(intr, in, func(r *request, n *node) error {
		return r.again(nil, func() error {
			t, err := s.backend.Readlink(r, r.cred(), n.handle)
			target = []byte(t)
			return err
		})
	})
	return target, st
}

// create makes anything but a regular file.
func (s *server) create(r *request, dir *node, name string, req *fs.CreateRequest, out *gofuse.EntryOut) error {
	var h fs.Handle
	var a *fs.Attr
	err := r.again(nil, func() (err error) {
		h, a, _, err = s.backend.Create(r, r.cred(), dir.handle, name, req)
		return err
	})
	if err != nil {
		return err
	}
	s.entry(dir, name, h, a, out)
	return nil
}

// Mkdir makes a directory. The umask is for the origin: a default ACL stands in its place (RFC 8275).
func (s *server) Mkdir(intr <-chan struct{}, in *gofuse.MkdirIn, name string, out *gofuse.EntryOut) gofuse.Status {
	return s.do(intr, &in.InHeader, func(r *request, dir *node) error {
		return s.create(r, dir, name, &fs.CreateRequest{Type: fs.Directory, Attr: newMode(in.Mode, in.Umask)}, out)
	})
}

// Symlink makes a symbolic link.
func (s *server) Symlink(intr <-chan struct{}, in *gofuse.InHeader, target, name string, out *gofuse.EntryOut) gofuse.Status {
	return s.do(intr, in, func(r *request, dir *node) error {
		mode := uint32(0777)
		return s.create(r, dir, name, &fs.CreateRequest{Type: fs.Symlink, Target: target, Attr: fs.SetAttr{Mode: &mode}}, out)
	})
}

// Mknod makes a device, a socket, a FIFO, or an empty regular file: that is an open and a close.
func (s *server) Mknod(intr <-chan struct{}, in *gofuse.MknodIn, name string, out *gofuse.EntryOut) gofuse.Status {
	return s.do(intr, &in.InHeader, func(r *request, dir *node) error {
		req := &fs.CreateRequest{Attr: newMode(in.Mode, in.Umask)}
		switch in.Mode & unix.S_IFMT {
		case unix.S_IFREG, 0:
			res, err := s.openUpstream(r, &fs.OpenRequest{
				Owner: s.newOwner('h'), Access: fs.ShareWrite, Dir: dir.handle, Name: name,
				Create: fs.Guarded, Attr: req.Attr,
			}, true)
			if err != nil {
				return err
			}
			s.entry(dir, name, res.File, res.Attr, out)
			return nil
		case unix.S_IFBLK:
			req.Type, req.Rdev = fs.Block, rdevOf(in.Rdev)
		case unix.S_IFCHR:
			req.Type, req.Rdev = fs.Char, rdevOf(in.Rdev)
		case unix.S_IFIFO:
			req.Type = fs.FIFO
		case unix.S_IFSOCK:
			req.Type = fs.Socket
		default:
			return syscall.EINVAL
		}
		return s.create(r, dir, name, req, out)
	})
}

// newMode is the mode of something that is created.
func newMode(mode, umask uint32) fs.SetAttr {
	mode &= 07777
	umask &= 0777
	return fs.SetAttr{Mode: &mode, Umask: &umask}
}

func rdevOf(dev uint32) fs.Rdev {
	return fs.Rdev{Major: unix.Major(uint64(dev)), Minor: unix.Minor(uint64(dev))}
}

// Link makes another name.
func (s *server) Link(intr <-chan struct{}, in *gofuse.LinkIn, name string, out *gofuse.EntryOut) gofuse.Status {
	return s.do(intr, &in.InHeader, func(r *request, dir *node) error {
		n, err := s.node(r, in.Oldnodeid)
		if err != nil {
			return err
		}
		var a *fs.Attr
		err = r.again(nil, func() (err error) {
			_, err = s.backend.Link(r, r.cred(), n.handle, dir.handle, name)
			return err
		})
		if err == nil {
			err = r.again(nil, func() (err error) {
				a, err = s.backend.GetAttr(r, r.cred(), n.handle)
				return err
			})
		}
		if err != nil {
			return err
		}
		s.entry(dir, name, n.handle, a, out)
		return nil
	})
}

// Unlink removes a file; one that is open here gets another name instead (silly.go).
func (s *server) Unlink(intr <-chan struct{}, in *gofuse.InHeader, name string) gofuse.Status {
	return s.do(intr, in, func(r *request, dir *node) error {
		if hid, err := s.hide(r, dir, name, nil); hid != nil || err != nil {
			return err
		}
		return s.remove(r, dir, name, fs.RemoveFile)
	})
}

// Rmdir removes a directory.
func (s *server) Rmdir(intr <-chan struct{}, in *gofuse.InHeader, name string) gofuse.Status {
	return s.do(intr, in, func(r *request, dir *node) error { return s.remove(r, dir, name, fs.RemoveDir) })
}

func (s *server) remove(r *request, dir *node, name string, kind fs.RemoveKind) error {
	return r.again(nil, func() error {
		_, err := s.backend.Remove(r, r.cred(), dir.handle, name, kind)
		return err
	})
}

// Rename renames. Flags cannot be kept against other clients of the origin, so there are none; the
// programs that use them know what EINVAL means.
func (s *server) Rename(intr <-chan struct{}, in *gofuse.RenameIn, from, to string) gofuse.Status {
	return s.do(intr, &in.InHeader, func(r *request, fromDir *node) error {
		if in.Flags != 0 {
			return syscall.EINVAL
		}
		toDir, err := s.node(r, in.Newdir)
		if err != nil {
			return err
		}
		hid, err := s.hide(r, toDir, to, &source{fromDir, from})
		if err != nil {
			return err
		}
		err = s.rename(r, fromDir, from, toDir, to)
		if hid != nil {
			s.renamed(r, hid, err == nil)
		}
		return err
	})
}

func (s *server) rename(r *request, fromDir *node, from string, toDir *node, to string) error {
	return r.again(nil, func() error {
		_, _, err := s.backend.Rename(r, r.cred(), fromDir.handle, from, toDir.handle, to)
		return err
	})
}
