package fuse

import (
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"holdfast/fs"
)

// Offsets in a directory are the cookies of the backend, which never uses 1 and 2 (RFC 8881 18.23):
// they stand behind "." and "..". An offset is where the next entry is.
const (
	afterDot    = 1
	afterDotDot = 2
)

// OpenDir checks that the caller may list; reading needs no state.
func (s *server) OpenDir(intr <-chan struct{}, in *gofuse.OpenIn, out *gofuse.OpenOut) gofuse.Status {
	return s.do(intr, &in.InHeader, func(r *request, n *node) error {
		if err := s.access(r, n, r.cred(), gofuse.R_OK); err != nil {
			return err
		}
		f := &file{node: n, cred: r.cred(), dir: true}
		s.table.open(n)
		s.addFile(f)
		out.Fh = f.id
		return nil
	})
}

// ReleaseDir closes a directory.
func (s *server) ReleaseDir(in *gofuse.ReleaseIn) {
	if f := s.takeFile(in.Fh); f != nil {
		s.table.close(f.node)
	}
}

// FsyncDir has nothing to do: changes of names are stable when they are answered (RFC 8881 18.25).
func (s *server) FsyncDir(intr <-chan struct{}, in *gofuse.FsyncIn) gofuse.Status { return gofuse.OK }

// ReadDir lists names.
func (s *server) ReadDir(intr <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	return s.readDir(intr, in, false, func(_ *node, e gofuse.DirEntry, _ *fs.DirEntry) bool { return out.AddDirEntry(e) })
}

// ReadDirPlus lists names with what Lookup would say of them. An entry without attributes is only a
// name to the kernel.
func (s *server) ReadDirPlus(intr <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	return s.readDir(intr, in, true, func(dir *node, e gofuse.DirEntry, found *fs.DirEntry) bool {
		entry := out.AddDirLookupEntry(e)
		if entry == nil {
			return false
		}
		if found != nil && found.Attr != nil && found.Handle != "" {
			s.entry(dir, e.Name, found.Handle, found.Attr, entry)
		}
		return true
	})
}

// readDir gives entries to add until it is full.
func (s *server) readDir(intr <-chan struct{}, in *gofuse.ReadIn, plus bool, add func(dir *node, e gofuse.DirEntry, found *fs.DirEntry) bool) gofuse.Status {
	return s.do(intr, &in.InHeader, func(r *request, n *node) error {
		f, err := s.file(in.Fh)
		if err != nil {
			return err
		}
		if !f.dir {
			return syscall.ENOTDIR
		}
		cookie := in.Offset
		if cookie < afterDot {
			if !add(n, gofuse.DirEntry{Name: ".", Mode: syscall.S_IFDIR, Off: afterDot}, nil) {
				return syscall.EINVAL
			}
			cookie = afterDot
		}
		if cookie < afterDotDot {
			if !add(n, gofuse.DirEntry{Name: "..", Mode: syscall.S_IFDIR, Off: afterDotDot}, nil) {
				return nil
			}
			cookie = afterDotDot
		}
		given, full := 0, false
		for !full {
			start := cookie
			if start == afterDotDot {
				start = 0
			}
			var eof bool
			err := r.again(nil, func() (err error) {
				eof, err = s.backend.ReadDir(r, f.cred, n.handle, start, plus, func(e *fs.DirEntry) bool {
					item := gofuse.DirEntry{Name: e.Name, Mode: typeOf(e.Type), Ino: e.FileID, Off: e.Cookie}
					if e.Attr != nil {
						item.Ino = s.ino(e.Attr)
					}
					if full = !add(n, item, e); full {
						return false
					}
					cookie = e.Cookie
					given++
					return true
				})
				if given > 0 {
					start = cookie // an answer of Delay in the middle goes on from here
				}
				return err
			})
			if err != nil && given == 0 {
				return err
			}
			if err != nil || eof || given > 0 {
				return nil
			}
			if r.Err() != nil {
				return fs.E("READDIR", fs.Interrupted, nil)
			}
		}
		if given == 0 && in.Offset >= afterDotDot {
			return syscall.EINVAL // not one entry fits
		}
		return nil
	})
}
