package fuse

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"holdfast/fs"
)

var (
	errLost    = errors.New("written data was lost before it was durable")
	errRevoked = errors.New("the open or a lock under it was lost; close the file")
)

// fmodeExec is __FMODE_EXEC: the kernel opens a file to run it.
const fmodeExec = 0x20

// A file is an open file of the kernel, and an open of its own at the backend.
type file struct {
	id     uint64
	node   *node
	owner  fs.Owner // the open-owner
	cred   *fs.Cred // who opened it; all I/O is done as that
	access fs.Share
	dir    bool // a directory: there is nothing at the backend
	// notifies says that LockAvailable comes when a denied lock may be free.
	notifies bool

	seen    atomic.Uint64 // how many of dirty.lost were reported
	revoked atomic.Bool   // the whole open is lost
	losses  atomic.Int32  // lock-owners that used this file and lost a lock
}

// io names the open to the backend.
func (f *file) io() fs.IORef { return fs.IORef{Handle: f.node.handle, Open: f.owner} }

// broken is the error of all I/O after state was lost. I/O as if nothing had happened would be
// I/O without the lock that the program believes to hold.
func (f *file) broken() error {
	if f.revoked.Load() || f.losses.Load() > 0 {
		return fs.E("", fs.IO, errRevoked)
	}
	return nil
}

// newOwner makes an owner that was never used before; kind keeps opens and locks apart.
func (s *server) newOwner(kind byte) fs.Owner {
	return fs.Owner{Client: s.client, Owner: string(binary.BigEndian.AppendUint64([]byte{kind}, s.serial.Add(1)))}
}

func (s *server) addFile(f *file) {
	f.id = s.serial.Add(1)
	s.mu.Lock()
	s.files[f.id] = f
	s.mu.Unlock()
}

// file finds an open file.
func (s *server) file(fh uint64) (*file, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.files[fh]; f != nil {
		return f, nil
	}
	return nil, syscall.EBADF
}

func (s *server) takeFile(fh uint64) *file {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[fh]
	delete(s.files, fh)
	return f
}

// pageCache decides whether the kernel may keep the pages of a file over an open. It may if the
// change attribute is still the one of the last open that dropped them (invariant I6): all pages were
// read after that. That open must have been answered, or its drop would come after ours.
type pageCache struct {
	mu       sync.Mutex
	change   uint64
	by       uint64 // the open that dropped the pages
	answered bool   // a request under it has come since
}

// keep is called with the change attribute that an open found.
func (p *pageCache) keep(change, fh uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answered && p.change == change {
		return true
	}
	p.change, p.by, p.answered = change, fh, false
	return false
}

// used is called with each request under an open.
func (p *pageCache) used(fh uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.by == fh {
		p.answered = true
	}
}

// drop is called when somebody else changed the file.
func (p *pageCache) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.by, p.answered = 0, false
}

func shareOf(flags uint32) fs.Share {
	switch flags & syscall.O_ACCMODE {
	case syscall.O_RDONLY:
		return fs.ShareRead
	case syscall.O_WRONLY:
		return fs.ShareWrite
	}
	return fs.ShareBoth
}

// openUpstream opens at the backend. The call goes on if the caller is killed meanwhile, and the open
// is given back; it is given back at once if transient is set (mknod).
func (s *server) openUpstream(r *request, req *fs.OpenRequest, transient bool) (res *fs.OpenResult, err error) {
	if err := s.completeReclaim(r); err != nil {
		return nil, err
	}
	cred := r.cred()
	type answer struct {
		res *fs.OpenResult
		err error
	}
	err = r.again(r.intr, func() error {
		got := make(chan answer, 1)
		err := r.detach(func(ctx context.Context) error {
			res, err := s.backend.Open(ctx, cred, req)
			got <- answer{res, err}
			return err
		}, func() {
			if a := <-got; a.err == nil {
				s.closeUpstream(s.ctx, req.Owner, a.res.File)
			}
		})
		if err == nil {
			a := <-got
			res = a.res
		}
		return err
	})
	if err == nil && transient {
		file := res.File
		s.later(func(ctx context.Context) { s.closeUpstream(ctx, req.Owner, file) })
	}
	return res, err
}

func (s *server) closeUpstream(ctx context.Context, owner fs.Owner, h fs.Handle) {
	err := retry(ctx, func() error { return s.backend.CloseFile(ctx, owner, h) })
	if err != nil && fs.CodeOf(err) != fs.BadStateid {
		s.log.Warn("close failed", "owner", owner.String(), "err", err)
	}
}

// Open opens a regular file; the kernel has found its node.
func (s *server) Open(intr <-chan struct{}, in *gofuse.OpenIn, out *gofuse.OpenOut) gofuse.Status {
	return s.do(intr, &in.InHeader, func(r *request, n *node) error {
		if in.Flags&fmodeExec != 0 {
			// The kernel only looks whether anybody at all may execute it.
			if err := s.access(r, n, r.cred(), gofuse.X_OK); err != nil {
				return err
			}
		}
		s.table.open(n)
		f := &file{node: n, owner: s.newOwner('h'), cred: r.cred(), access: shareOf(in.Flags)}
		f.seen.Store(n.dirty.losses())
		res, err := s.openUpstream(r, &fs.OpenRequest{Owner: f.owner, Access: f.access, File: n.handle}, false)
		if err != nil {
			s.closed(n)
			return err
		}
		change := res.Attr.Change
		if in.Flags&syscall.O_TRUNC != 0 {
			var a *fs.Attr
			size := uint64(0)
			io := f.io()
			if f.access&fs.ShareWrite == 0 {
				io.Open = fs.Owner{} // O_RDONLY|O_TRUNC: as truncate(2), by permission
			}
			err = r.again(nil, func() (err error) {
				a, err = s.backend.SetAttr(r, f.cred, io, &fs.SetAttr{Size: &size})
				return err
			})
			if err != nil {
				s.later(func(ctx context.Context) {
					s.closeUpstream(ctx, f.owner, n.handle)
					s.closed(n)
				})
				return err
			}
			change = a.Change
		}
		f.notifies = res.MayNotify
		s.addFile(f)
		s.openOut(f, in.Flags, change, out)
		return nil
	})
}

// mayWrite refuses what an open for reading may not do.
func (s *server) mayWrite(f *file) error {
	if f.access&fs.ShareWrite == 0 {
		return syscall.EBADF
	}
	return nil
}

// openOut tells the kernel how to treat the pages. Appending past them keeps them from holding data at
// the offset where the kernel thought the end was.
func (s *server) openOut(f *file, flags uint32, change uint64, out *gofuse.OpenOut) {
	out.Fh = f.id
	switch {
	case flags&syscall.O_APPEND != 0:
		out.OpenFlags = gofuse.FOPEN_DIRECT_IO
	case f.node.pages.keep(change, f.id):
		out.OpenFlags = gofuse.FOPEN_KEEP_CACHE
	}
}

// Create makes a regular file and opens it, in one step at the backend.
func (s *server) Create(intr <-chan struct{}, in *gofuse.CreateIn, name string, out *gofuse.CreateOut) gofuse.Status {
	return s.do(intr, &in.InHeader, func(r *request, dir *node) error {
		req := &fs.OpenRequest{
			Owner: s.newOwner('h'), Access: shareOf(in.Flags), Dir: dir.handle, Name: name,
			Create: fs.Unchecked, Attr: newMode(in.Mode, in.Umask),
		}
		if in.Flags&syscall.O_EXCL != 0 {
			req.Create = fs.Guarded
		} else if in.Flags&syscall.O_TRUNC != 0 {
			size := uint64(0)
			req.Attr.Size = &size
		}
		res, err := s.openUpstream(r, req, false)
		if err != nil {
			return err
		}
		n := s.table.openHandle(res.File)
		f := &file{node: n, owner: req.Owner, cred: r.cred(), access: req.Access, notifies: res.MayNotify}
		f.seen.Store(n.dirty.losses())
		s.addFile(f)
		s.entryOf(dir, name, n, res.Attr, &out.EntryOut)
		s.openOut(f, in.Flags, res.Attr.Change, &out.OpenOut)
		return nil
	})
}

// Flush is a close of one of the descriptors of a file: data becomes durable, and the POSIX locks of
// the process on the file go (fcntl(2)). It is finished even if the process is being killed.
func (s *server) Flush(intr <-chan struct{}, in *gofuse.FlushIn) gofuse.Status {
	return s.underway(intr, &in.InHeader, in.Fh, func(r *request, f *file) error {
		owner := in.LockOwner
		return r.detach(func(ctx context.Context) error {
			var err error
			if f.access&fs.ShareWrite != 0 {
				err = retry(ctx, func() error { return s.sync(ctx, f) })
			}
			s.dropOwner(ctx, f.node, ownerKey{id: owner})
			return err
		}, nil)
	})
}

// Release is the close of the last descriptor and mapping. Nobody waits for it.
func (s *server) Release(_ <-chan struct{}, in *gofuse.ReleaseIn) {
	if f := s.takeFile(in.Fh); f != nil {
		s.release(f)
	}
}

// release gives back what a file holds: its flock and OFD locks, POSIX locks that no Flush named,
// and the open. When it returns, the locks are known to be on their way.
func (s *server) release(f *file) {
	owners := s.retireFile(f)
	s.later(func(ctx context.Context) { s.giveBack(ctx, f, owners) })
}

func (s *server) giveBack(ctx context.Context, f *file, owners []*lockOwner) {
	if f.access&fs.ShareWrite != 0 {
		// Written through a mapping after the last close(2).
		if err := retry(ctx, func() error { return s.sync(ctx, f) }); err != nil {
			s.log.Error("data written through a mapping may be lost", "node", f.node.id, "err", err)
		}
	}
	for _, o := range owners {
		s.releaseOwner(ctx, o)
	}
	if !f.dir {
		s.closeUpstream(ctx, f.owner, f.node.handle)
	}
	s.closed(f.node)
}

// closed counts a close, and removes what was only kept for it.
func (s *server) closed(n *node) {
	if left := s.table.close(n); left != nil {
		s.later(func(ctx context.Context) { s.removeHidden(ctx, left) })
	}
}
