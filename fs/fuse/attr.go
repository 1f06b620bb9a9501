package fuse

import (
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// blockSize is what we advise programs to read and write at once, in bytes.
const blockSize = 128 << 10

var typeBits = [...]uint32{
	fs.Regular: unix.S_IFREG, fs.Directory: unix.S_IFDIR, fs.Block: unix.S_IFBLK, fs.Char: unix.S_IFCHR,
	fs.Symlink: unix.S_IFLNK, fs.Socket: unix.S_IFSOCK, fs.FIFO: unix.S_IFIFO,
}

// typeOf is the S_IFMT part of a mode; 0 for a type that we do not know.
func typeOf(t fs.FileType) uint32 {
	if int(t) < len(typeBits) {
		return typeBits[t]
	}
	return 0
}

func modeOf(a *fs.Attr) uint32 { return typeOf(a.Type) | a.Mode&07777 }

// ino is the inode number of a file. File systems that are mounted below the exported one at the
// origin have numbers of their own; those are mixed with the fsid, since a mount has one device number.
func (s *server) ino(a *fs.Attr) uint64 {
	root := s.rootFS.Load()
	if root == nil || a.FSID == *root {
		return a.FileID
	}
	h := a.FileID ^ (a.FSID.Major*0x9e3779b97f4a7c15 + a.FSID.Minor*0xc2b2ae3d27d4eb4f)
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 32
	return max(h, 2)
}

// fillAttr writes a in the kernel's words, and remembers what the node needs of it.
func (s *server) fillAttr(n *node, a *fs.Attr, out *gofuse.Attr) {
	n.mode.Store(modeOf(a))
	*out = gofuse.Attr{
		Ino:     s.ino(a),
		Size:    a.Size,
		Blocks:  (a.Used + 511) / 512,
		Mode:    modeOf(a),
		Nlink:   a.Nlink,
		Owner:   gofuse.Owner{Uid: a.UID, Gid: a.GID},
		Rdev:    uint32(unix.Mkdev(a.Rdev.Major, a.Rdev.Minor)),
		Blksize: blockSize,
	}
	if s.isHidden(n) && out.Nlink > 0 {
		out.Nlink-- // the name that we gave it does not count
	}
	out.Atime, out.Atimensec = uint64(a.Atime.Unix()), uint32(a.Atime.Nanosecond())
	out.Mtime, out.Mtimensec = uint64(a.Mtime.Unix()), uint32(a.Mtime.Nanosecond())
	out.Ctime, out.Ctimensec = uint64(a.Ctime.Unix()), uint32(a.Ctime.Nanosecond())
}

// GetAttr is stat. The root's attributes pass a closed fence, as invented ones.
func (s *server) GetAttr(intr <-chan struct{}, in *gofuse.GetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	if in.NodeId == gofuse.FUSE_ROOT_ID && s.fence.Closed() {
		out.Attr = gofuse.Attr{Ino: 1, Mode: unix.S_IFDIR | 0555, Nlink: 2, Blksize: blockSize}
		return gofuse.OK
	}
	return s.do(intr, &in.InHeader, func(r *request, n *node) error {
		var a *fs.Attr
		err := r.again(nil, func() (err error) {
			a, err = s.backend.GetAttr(r, r.cred(), n.handle)
			return err
		})
		if err != nil {
			return err
		}
		s.fillAttr(n, a, &out.Attr)
		out.SetTimeout(s.attrTimeout)
		return nil
	})
}

// SetAttr is chmod, chown, truncate and utimensat. With an open file (ftruncate) it is done under
// that open, with the credential that opened it.
func (s *server) SetAttr(intr <-chan struct{}, in *gofuse.SetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	return s.do(intr, &in.InHeader, func(r *request, n *node) error {
		cred, io := r.cred(), fs.IORef{Handle: n.handle}
		set := setAttrOf(&in.SetAttrInCommon)
		if fh, ok := in.GetFh(); ok && set.Size != nil {
			f, err := s.file(fh)
			if err != nil {
				return err
			}
			if err := f.broken(); err != nil {
				return err
			}
			cred, io = f.cred, f.io()
		}
		if set.Size != nil && in.Valid&gofuse.FATTR_KILL_SUIDGID != 0 {
			s.killPriv(r, n)
		}
		var a *fs.Attr
		err := r.again(nil, func() (err error) {
			if set.IsZero() {
				a, err = s.backend.GetAttr(r, cred, n.handle)
			} else {
				a, err = s.backend.SetAttr(r, cred, io, set)
			}
			return err
		})
		if err != nil {
			return err
		}
		if old := n.mode.Load(); old&unix.S_IFMT == unix.S_IFDIR && old&0111 != modeOf(a)&0111 {
			s.inval.add(n, invalNames) // who may pass has changed, see entryTTL
		}
		s.fillAttr(n, a, &out.Attr)
		out.SetTimeout(s.attrTimeout)
		return nil
	})
}

// setAttrOf translates what is to be set. A change of ctime alone is nothing: the origin makes it.
func setAttrOf(in *gofuse.SetAttrInCommon) *fs.SetAttr {
	set := &fs.SetAttr{}
	if v, ok := in.GetMode(); ok {
		set.Mode = &v
	}
	if v, ok := in.GetUID(); ok {
		set.UID = &v
	}
	if v, ok := in.GetGID(); ok {
		set.GID = &v
	}
	if v, ok := in.GetSize(); ok {
		set.Size = &v
	}
	time := func(valid, now uint32, t time.Time) (fs.TimeSet, time.Time) {
		switch {
		case in.Valid&now != 0:
			return fs.TimeServer, t
		case in.Valid&valid != 0:
			return fs.TimeClient, t
		}
		return fs.TimeKeep, t
	}
	set.AtimeSet, set.Atime = time(gofuse.FATTR_ATIME, gofuse.FATTR_ATIME_NOW, unixTime(in.Atime, in.Atimensec))
	set.MtimeSet, set.Mtime = time(gofuse.FATTR_MTIME, gofuse.FATTR_MTIME_NOW, unixTime(in.Mtime, in.Mtimensec))
	return set
}

func unixTime(sec uint64, nsec uint32) time.Time { return time.Unix(int64(sec), int64(nsec)) }

// killPriv takes set-uid and set-gid from a file that somebody writes to who may not keep them. The
// origin does it too where it knows the writer; so a failure here (root is nobody there) is no error.
func (s *server) killPriv(r *request, n *node) {
	const suid, sgid, xgrp = 04000, 02000, 010
	privileged := func(mode uint32) bool { return mode&suid != 0 || mode&(sgid|xgrp) == sgid|xgrp }
	if !privileged(n.mode.Load()) {
		return
	}
	a, err := s.backend.GetAttr(r, fs.Root, n.handle)
	if err == nil && privileged(a.Mode) {
		mode := a.Mode &^ suid
		if mode&xgrp != 0 {
			mode &^= sgid
		}
		a, err = s.backend.SetAttr(r, fs.Root, fs.IORef{Handle: n.handle}, &fs.SetAttr{Mode: &mode})
	}
	if err != nil {
		s.log.Debug("set-id bits left to the origin", "node", n.id, "err", err)
		return
	}
	n.mode.Store(modeOf(a))
	s.inval.add(n, invalAttr)
}

// Access answers access(2) and chdir(2). The kernel does not check permission by mode
// (default_permissions is off): the backend knows ACLs and squashing, and decides.
func (s *server) Access(intr <-chan struct{}, in *gofuse.AccessIn) gofuse.Status {
	return s.do(intr, &in.InHeader, func(r *request, n *node) error {
		return s.access(r, n, r.cred(), in.Mask)
	})
}

// access asks for R_OK, W_OK and X_OK.
func (s *server) access(r *request, n *node, cred *fs.Cred, mask uint32) error {
	isDir := n.mode.Load()&unix.S_IFMT == unix.S_IFDIR
	var want uint32
	if mask&gofuse.R_OK != 0 {
		want |= fs.AccessRead
	}
	if mask&gofuse.W_OK != 0 {
		want |= fs.AccessModify | fs.AccessExtend
		if isDir {
			want |= fs.AccessDelete
		}
	}
	if mask&gofuse.X_OK != 0 {
		if isDir {
			want |= fs.AccessLookup
		} else {
			want |= fs.AccessExecute
		}
	}
	if want == 0 {
		return nil
	}
	var granted uint32
	err := r.again(nil, func() (err error) {
		granted, err = s.backend.Access(r, cred, n.handle, want)
		return err
	})
	if err == nil && granted&want != want {
		return fs.Access
	}
	return err
}

// StatFs is statfs. It passes a closed fence with zeros.
func (s *server) StatFs(intr <-chan struct{}, in *gofuse.InHeader, out *gofuse.StatfsOut) gofuse.Status {
	const unit = 4096
	out.Bsize, out.Frsize, out.NameLen = unit, unit, 255
	if s.fence.Closed() {
		return gofuse.OK
	}
	return s.do(intr, in, func(r *request, n *node) error {
		var st *fs.FSStat
		err := r.again(nil, func() (err error) {
			st, err = s.backend.FSStat(r, r.cred(), n.handle)
			return err
		})
		if err != nil {
			return err
		}
		out.Blocks, out.Bfree, out.Bavail = st.TotalBytes/unit, st.FreeBytes/unit, st.AvailBytes/unit
		out.Files, out.Ffree = st.TotalFiles, st.FreeFiles
		if st.NameMax > 0 {
			out.NameLen = st.NameMax
		}
		return nil
	})
}
