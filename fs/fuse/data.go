package fuse

import (
	"context"
	"math"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// underway is do for an operation on an open file.
func (s *server) underway(intr <-chan struct{}, head *gofuse.InHeader, fh uint64, op func(r *request, f *file) error) gofuse.Status {
	if st := s.fence.pass(intr, s.quit); !st.Ok() {
		return st
	}
	r := s.begin(intr, head)
	defer r.end()
	f, err := s.file(fh)
	if err == nil {
		f.node.pages.used(fh)
		err = op(r, f)
	}
	return s.answer(r, err)
}

// Read reads. A short answer means the end of the file to the kernel, so it is only given there.
func (s *server) Read(intr <-chan struct{}, in *gofuse.ReadIn, buf []byte) (gofuse.ReadResult, gofuse.Status) {
	got := 0
	st := s.underway(intr, &in.InHeader, in.Fh, func(r *request, f *file) error {
		if err := f.broken(); err != nil {
			return err
		}
		for got < len(buf) {
			var n int
			var eof bool
			err := r.again(nil, func() (err error) {
				n, eof, err = s.backend.Read(r, f.cred, f.io(), in.Offset+uint64(got), buf[got:])
				return err
			})
			if err != nil {
				return err
			}
			if got += n; eof || n == 0 {
				break
			}
		}
		return nil
	})
	if !st.Ok() {
		return nil, st // go-fuse takes the status of a result for that of the read
	}
	return gofuse.ReadResultData(buf[:got]), st
}

// Write writes through. What was opened with O_SYNC or O_DSYNC is durable when it is answered; the
// rest when it is flushed.
func (s *server) Write(intr <-chan struct{}, in *gofuse.WriteIn, data []byte) (written uint32, st gofuse.Status) {
	st = s.underway(intr, &in.InHeader, in.Fh, func(r *request, f *file) error {
		if err := f.broken(); err != nil {
			return err
		}
		if err := s.mayWrite(f); err != nil {
			return err
		}
		n := f.node
		if in.WriteFlags&gofuse.WRITE_KILL_SUIDGID != 0 {
			s.killPriv(r, n)
		}
		how := fs.Unstable
		switch {
		case in.WriteFlags&gofuse.WRITE_CACHE != 0: // pages of a mapping: msync says when
		case in.Flags&syscall.O_SYNC == syscall.O_SYNC:
			how = fs.FileSync
		case in.Flags&syscall.O_DSYNC != 0:
			how = fs.DataSync
		}
		off := in.Offset
		if in.Flags&syscall.O_APPEND != 0 && in.WriteFlags&gofuse.WRITE_CACHE == 0 {
			end, err := s.end(r, f)
			if err != nil {
				return err
			}
			if end > off {
				off = end
				s.inval.add(n, invalData|invalAttr)
			}
		}
		done := 0
		for done < len(data) {
			var res fs.WriteResult
			err := r.again(nil, func() (err error) {
				res, err = s.backend.Write(r, f.cred, f.io(), off+uint64(done), data[done:], how)
				return err
			})
			if err == nil && (res.N <= 0 || res.N > len(data)-done) {
				err = fs.E("WRITE", fs.IO, nil)
			}
			if err != nil {
				if done > 0 {
					break // the next write gets the error
				}
				return err
			}
			done += res.N
			if n.dirty.add(&res) {
				s.logLost(n)
			}
		}
		written = uint32(done)
		return nil
	})
	return written, st
}

// end is the size of the file now. The kernel does not refresh its idea of it before an append.
func (s *server) end(r *request, f *file) (size uint64, err error) {
	err = r.again(nil, func() error {
		a, err := s.backend.GetAttr(r, f.cred, f.node.handle)
		if err == nil {
			size = a.Size
		}
		return err
	})
	return size, err
}

// Fsync makes the file durable, whoever wrote to it.
func (s *server) Fsync(intr <-chan struct{}, in *gofuse.FsyncIn) gofuse.Status {
	return s.underway(intr, &in.InHeader, in.Fh, func(r *request, f *file) error {
		if err := f.broken(); err != nil {
			return err
		}
		return r.again(nil, func() error { return s.sync(r, f) })
	})
}

// Fallocate is allocation, holes and zeros. NFS has ALLOCATE, which grows the file, and DEALLOCATE,
// which does not (RFC 7862 15.1, 15.4).
func (s *server) Fallocate(intr <-chan struct{}, in *gofuse.FallocateIn) gofuse.Status {
	if s.sparse == nil {
		return gofuse.ENOSYS
	}
	return s.underway(intr, &in.InHeader, in.Fh, func(r *request, f *file) error {
		if err := f.broken(); err != nil {
			return err
		}
		if err := s.mayWrite(f); err != nil {
			return err
		}
		if in.Length == 0 || in.Length > math.MaxInt64-min(in.Offset, math.MaxInt64) {
			return syscall.EFBIG
		}
		off, length := in.Offset, in.Length
		keep := in.Mode&unix.FALLOC_FL_KEEP_SIZE != 0
		punch, allocate := false, false
		switch in.Mode &^ unix.FALLOC_FL_KEEP_SIZE {
		case 0:
			allocate = true
		case unix.FALLOC_FL_PUNCH_HOLE:
			punch, keep = true, true
		case unix.FALLOC_FL_ZERO_RANGE:
			punch, allocate = true, true
		default:
			return syscall.EOPNOTSUPP
		}
		hole, err := length, error(nil)
		if keep || punch {
			// What is beyond the end cannot be reserved or punched.
			size, err := s.end(r, f)
			if err != nil {
				return err
			}
			hole = min(length, size-min(size, off))
			if keep {
				length = hole
			}
		}
		if punch && hole > 0 {
			err = r.again(nil, func() error { return s.sparse.Deallocate(r, f.cred, f.io(), off, hole) })
		}
		if err == nil && allocate && length > 0 {
			err = r.again(nil, func() error { return s.sparse.Allocate(r, f.cred, f.io(), off, length) })
		}
		return err
	})
}

// Lseek finds data and holes; without that ability the kernel takes the file for one piece of data.
func (s *server) Lseek(intr <-chan struct{}, in *gofuse.LseekIn, out *gofuse.LseekOut) gofuse.Status {
	if s.sparse == nil {
		return gofuse.ENOSYS
	}
	return s.underway(intr, &in.InHeader, in.Fh, func(r *request, f *file) error {
		if err := f.broken(); err != nil {
			return err
		}
		if in.Whence != unix.SEEK_DATA && in.Whence != unix.SEEK_HOLE {
			return syscall.EINVAL
		}
		hole := in.Whence == unix.SEEK_HOLE
		var pos uint64
		var eof bool
		err := r.again(nil, func() (err error) {
			pos, eof, err = s.sparse.Seek(r, f.cred, f.io(), in.Offset, hole)
			return err
		})
		if fs.CodeOf(err) == fs.NotSupp {
			size, serr := s.end(r, f)
			if serr != nil {
				return serr
			}
			pos, eof, err = in.Offset, in.Offset >= size, nil
			if hole {
				pos = size
			}
			if in.Offset >= size {
				err = fs.NXIO
			}
		}
		if err == nil && eof && !hole {
			err = fs.NXIO // no data follows
		}
		out.Offset = pos
		return err
	})
}

// CopyFileRange copies at the origin. Where that is not possible the kernel copies through us.
func (s *server) CopyFileRange(intr <-chan struct{}, in *gofuse.CopyFileRangeIn) (written uint32, st gofuse.Status) {
	if s.copier == nil {
		return 0, gofuse.ENOSYS
	}
	st = s.underway(intr, &in.InHeader, in.FhIn, func(r *request, from *file) error {
		to, err := s.file(in.FhOut)
		if err != nil {
			return err
		}
		for _, f := range []*file{from, to} {
			if err := f.broken(); err != nil {
				return err
			}
		}
		if err := s.mayWrite(to); err != nil {
			return err
		}
		length := min(in.Len, 1<<30) // the answer has 32 bits; length 0 would mean all
		if length == 0 {
			return nil
		}
		var res fs.WriteResult64
		err = r.again(nil, func() (err error) {
			res, err = s.copier.Copy(r, to.cred, from.io(), to.io(), in.OffIn, in.OffOut, length)
			return err
		})
		if err != nil {
			return err
		}
		if res.N > 0 && to.node.dirty.add(&fs.WriteResult{Committed: res.Committed, Verifier: res.Verifier}) {
			s.logLost(to.node)
		}
		written = uint32(min(res.N, length))
		return nil
	})
	return written, st
}

// retry asks until the answer is neither Grace nor Delay, or ctx ends: for what goes on when the
// caller is gone.
func retry(ctx context.Context, ask func() error) error {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := ask()
		if code := fs.CodeOf(err); code != fs.Grace && code != fs.Delay {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}
