//go:build linux

package local

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// Open is of fs.Backend.
//
// By name, permission is asked for what is opened, and not for what is created. By handle the file's
// owner may do as he likes, as knfsd has it: he may have opened it before its mode was changed. With
// Reclaim no permission is asked at all: whoever calls knows that the open was granted before.
//
// The verifier of an exclusive create is kept in the times of the file, 31 bits in atime and 31 in
// mtime, as knfsd keeps it: so a retry finds it after a restart, and the client sets the times by the
// SETATTR that RFC 8881 18.16.3 has follow.
func (b *Backend) Open(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest) (*fs.OpenResult, error) {
	const op = "OPEN"
	if err := b.begin(ctx); err != nil {
		return nil, failure(op, err)
	}
	defer b.leave()
	res, err := b.open(ctx, cred, req)
	if err != nil {
		return nil, failure(op, err)
	}
	return res, nil
}

var (
	errBadOpen = errors.New("not an open")
	errIsThere = errors.New("the file is there")
)

func (b *Backend) open(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest) (*fs.OpenResult, error) {
	switch {
	case cred == nil:
		return nil, fs.E("", fs.Access, errNobody)
	case req.Owner.IsZero(), req.Access == 0, req.Access > fs.ShareBoth, req.Deny > fs.ShareBoth, req.Create > fs.Exclusive:
		return nil, fs.E("", fs.Inval, errBadOpen)
	case req.Reclaim && (req.Name != "" || req.Create != fs.NoCreate):
		return nil, fs.E("", fs.Inval, errBadOpen)
	}
	if req.Name == "" {
		n, err := b.node(req.File)
		if err != nil {
			return nil, err
		}
		defer n.close()
		return b.openFound(ctx, cred, req, n, nil)
	}
	if err := fs.CheckName(req.Name); err != nil {
		return nil, err
	}
	dir, err := b.directory(req.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.close()
	before, err := b.stat(dir.fd)
	if err != nil {
		return nil, err
	}
	for tries := 0; ; tries++ {
		fd, err := b.findAs(cred, dir, req.Name)
		if err == nil {
			return b.openThere(ctx, cred, req, dir, before, fd)
		}
		if !isErrno(err, syscall.ENOENT) || req.Create == fs.NoCreate {
			return nil, gone(dir, err)
		}
		res, err := b.openNew(ctx, cred, req, dir, before)
		// Created by somebody else, and removed before we looked? Once more, but not for ever.
		if !isErrno(err, syscall.EEXIST) || tries > 100 {
			return res, gone(dir, err)
		}
	}
}

// openThere opens what a name led to. It closes fd.
func (b *Backend) openThere(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest, dir node, before *fs.Attr, fd int) (*fs.OpenResult, error) {
	defer closeFD(fd)
	h, fresh, err := b.handleOf(fd, nil, dir.h, req.Name)
	if err != nil {
		return nil, err
	}
	if err := b.flushTable(ctx, fresh); err != nil {
		return nil, err
	}
	return b.openFound(ctx, cred, req, node{fd: fd, h: h}, before)
}

// openFound opens a file that is there. before is the directory as it was, nil for an open by handle.
func (b *Backend) openFound(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest, n node, before *fs.Attr) (*fs.OpenResult, error) {
	st, err := raw(n.fd)
	if err != nil {
		return nil, err
	}
	if st.Nlink == 0 && !b.states.isOpen(n.h) {
		return nil, syscall.ESTALE
	}
	again := false // an exclusive create that we have done before
	switch req.Create {
	case fs.Guarded:
		return nil, fs.E("", fs.Exist, errIsThere)
	case fs.Exclusive:
		if !isType(&st, unix.S_IFREG) || st.Size != 0 || !madeBy(&st, req.Verifier) {
			return nil, fs.E("", fs.Exist, errIsThere)
		}
		again = true
	}
	if err := regular(&st); err != nil {
		return nil, err
	}
	truncate := req.Create == fs.Unchecked && req.Attr.Size != nil && *req.Attr.Size == 0
	if !req.Reclaim && !again {
		write := req.Access&fs.ShareWrite != 0 || truncate
		byHandle := req.Name == ""
		if err := b.mayOpen(cred, n.fd, &st, write, req.Access&fs.ShareRead != 0, byHandle); err != nil {
			return nil, err
		}
	}
	if err := b.prime(n, &st, req.Access&fs.ShareWrite != 0); err != nil {
		return nil, err
	}
	if err := b.openOwner(ctx, cred, req, n.h, -1, truncate); err != nil {
		return nil, err
	}
	res := &fs.OpenResult{File: n.h, MayNotify: true, Created: again}
	if res.Attr, err = b.stat(n.fd); err != nil {
		return nil, err
	}
	if before != nil {
		res.Change = fs.ChangeInfo{Before: before.Change, After: before.Change}
	}
	return res, nil
}

// prime puts the descriptor that an open will want into the cache, by the one that is there: to look for it
// by its handle once more costs as much as all else in an open.
func (b *Backend) prime(n node, st *unix.Statx_t, write bool) error {
	if f := b.files.cached(n.h, write); f != nil {
		b.files.release(f)
		return nil
	}
	b.files.trim(b.files.max - 1)
	fd, err := b.files.openAt(n, st, write)
	if err != nil {
		return err
	}
	b.files.release(b.files.insert(fileKey{n.h, write}, fd))
	return nil
}

// openNew creates the file, EEXIST if it is there, and opens it.
func (b *Backend) openNew(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest, dir node, before *fs.Attr) (*fs.OpenResult, error) {
	mode := b.creationMode(dir, &req.Attr, 0o600)
	fd := -1
	err := b.id.as(cred, true, func() (err error) {
		fd, err = openat(dir.fd, req.Name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, mode)
		return err
	})
	if err != nil {
		return nil, err
	}
	h, fresh, err := b.dress(ctx, cred, req, dir, fd)
	if err != nil {
		closeFD(fd)
		return nil, err
	}
	// From here on the cache has fd.
	if err := b.openOwner(ctx, cred, req, h, fd, false); err != nil {
		return nil, err
	}
	if err := b.flushTable(ctx, fresh); err != nil {
		return nil, err
	}
	if err := b.syncDirs(ctx, dir.h); err != nil {
		return nil, err
	}
	res := &fs.OpenResult{File: h, MayNotify: true, Created: true}
	f, err := b.files.get(h, true)
	if err != nil {
		return nil, err
	}
	defer b.files.release(f)
	if res.Attr, err = b.stat(f.fd); err != nil {
		return nil, err
	}
	after, err := b.stat(dir.fd)
	if err != nil {
		return nil, err
	}
	res.Change = fs.ChangeInfo{Before: before.Change, After: after.Change}
	return res, nil
}

// dress gives a new file its attributes and its handle. An exclusive create is durable with its
// verifier.
func (b *Backend) dress(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest, dir node, fd int) (fs.Handle, bool, error) {
	set := req.Attr
	if req.Create == fs.Exclusive {
		set.AtimeSet, set.MtimeSet, set.Size = fs.TimeKeep, fs.TimeKeep, nil
	}
	if err := b.applyNew(cred, fd, &set); err != nil {
		return "", false, err
	}
	if req.Create == fs.Exclusive {
		ts := verifierTimes(req.Verifier)
		if err := unix.UtimesNanoAt(fd, "", ts[:], unix.AT_EMPTY_PATH); err != nil {
			return "", false, err
		}
		if !b.cfg.Async {
			if err := unix.Fsync(fd); err != nil {
				return "", false, err
			}
		}
	}
	return b.handleOf(fd, nil, dir.h, req.Name)
}

// verifierTimes puts a verifier into atime and mtime. Seconds are positive 32 bit numbers on every
// file system.
func verifierTimes(v [8]byte) [2]unix.Timespec {
	return [2]unix.Timespec{
		{Sec: int64(binary.BigEndian.Uint32(v[4:]) & 0x7fffffff)},
		{Sec: int64(binary.BigEndian.Uint32(v[:4]) & 0x7fffffff)},
	}
}

// madeBy tells whether the file was created by Exclusive with this verifier.
func madeBy(st *unix.Statx_t, v [8]byte) bool {
	ts := verifierTimes(v)
	return st.Atime.Sec == ts[0].Sec && st.Mtime.Sec == ts[1].Sec && st.Mtime.Nsec == 0
}

// openOwner adds modes to the open of the owner, or makes it. fd, if not -1, is the file open for
// reading and writing, and goes to the cache in any case.
func (b *Backend) openOwner(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest, h fs.Handle, fd int, truncate bool) error {
	var made *file
	if fd >= 0 {
		b.files.trim(b.files.max - 1)
		made = b.files.insert(fileKey{h, true}, fd)
		defer b.files.release(made)
	}
	f, done, err := b.states.turn(ctx, h)
	if err != nil {
		return err
	}
	defer done()
	f.mu.Lock()
	o := f.opens[req.Owner]
	access, deny := req.Access, req.Deny
	if o != nil {
		access |= o.access
		deny |= o.deny
	}
	taken := access
	if truncate {
		taken |= fs.ShareWrite // the deny modes of others forbid it as they forbid a write
	}
	err = f.conflict(req.Owner, taken, deny)
	f.mu.Unlock()
	if err != nil {
		if req.Reclaim {
			return fs.E("", fs.ReclaimConflict, err)
		}
		return err
	}
	kept, err := b.keep(h, access)
	if err != nil {
		return err
	}
	if truncate {
		if err := b.cut(cred, h, 0); err != nil {
			b.files.unhold(kept)
			return err
		}
	}
	f.mu.Lock()
	if o == nil {
		o = &openState{}
		f.opens[req.Owner] = o
	} else {
		defer b.files.unhold(o.kept)
	}
	f.setModes(o, access, deny)
	o.kept = kept
	f.mu.Unlock()
	return nil
}

// keep opens the descriptor that an open with these modes needs, and holds it.
func (b *Backend) keep(h fs.Handle, access fs.Share) (fileKey, error) {
	file, err := b.files.get(h, access&fs.ShareWrite != 0)
	if err != nil {
		return fileKey{}, err
	}
	defer b.files.release(file)
	return b.files.hold(file), nil
}

// cut sets the size of a file to which the caller has asked for permission, as the user, so
// that quotas hold and set-id bits fall.
func (b *Backend) cut(cred *fs.Cred, h fs.Handle, size uint64) error {
	if size > maxOffset {
		return fs.E("", fs.FBig, fmt.Errorf("size %d", size))
	}
	f, err := b.files.get(h, true)
	if err != nil {
		return err
	}
	defer b.files.release(f)
	f.dirty.Store(true)
	return b.id.as(cred, true, func() error { return unix.Ftruncate(f.fd, int64(size)) })
}

// Downgrade is of fs.Backend: RFC 8881 18.18. Inval if the modes are not among those of the open.
func (b *Backend) Downgrade(ctx context.Context, owner fs.Owner, h fs.Handle, access, deny fs.Share) error {
	const op = "OPEN_DOWNGRADE"
	if err := b.begin(ctx); err != nil {
		return failure(op, err)
	}
	defer b.leave()
	if _, err := b.check(h); err != nil {
		return failure(op, err)
	}
	f, done, err := b.states.turn(ctx, h)
	if err != nil {
		return failure(op, err)
	}
	defer done()
	f.mu.Lock()
	o := f.opens[owner]
	switch {
	case o == nil:
		err = fs.E(op, fs.BadStateid, errNoOpen)
	case access == 0, access&^o.access != 0, deny&^o.deny != 0:
		err = fs.E(op, fs.Inval, fmt.Errorf("from access %d deny %d to access %d deny %d", o.access, o.deny, access, deny))
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	kept, err := b.keep(h, access)
	if err != nil {
		return failure(op, err)
	}
	f.mu.Lock()
	old := o.kept
	f.setModes(o, access, deny)
	o.kept = kept
	f.mu.Unlock()
	b.files.unhold(old)
	return nil
}

// CloseFile is of fs.Backend. A lock-owner that locked under several opens keeps its locks until the
// last of these is closed.
func (b *Backend) CloseFile(ctx context.Context, owner fs.Owner, h fs.Handle) error {
	const op = "CLOSE"
	if err := b.begin(ctx); err != nil {
		return failure(op, err)
	}
	defer b.leave()
	if _, err := b.check(h); err != nil {
		return failure(op, err)
	}
	f, done, err := b.states.turn(ctx, h)
	if err != nil {
		return failure(op, err)
	}
	defer done()
	f.mu.Lock()
	o := f.opens[owner]
	if o == nil {
		f.mu.Unlock()
		return fs.E(op, fs.BadStateid, errNoOpen)
	}
	var last []*holder // locked under no other open
	for l := range o.lockers {
		if len(l.under) == 1 {
			last = append(last, l)
		}
	}
	f.mu.Unlock()
	var freed []*wait
	for _, l := range last {
		some, err := b.unlock(f, l, allBytes)
		freed = append(freed, some...)
		if err != nil { // the open stays, and what is still locked under it
			b.announce(h, freed)
			return failure(op, err)
		}
	}
	f.mu.Lock()
	for l := range o.lockers {
		if delete(l.under, owner); len(l.under) == 0 {
			delete(f.locks, l.owner)
		}
	}
	delete(f.opens, owner)
	b.leases.end(owner, h)
	f.modes.add(-1, o.access, o.deny)
	f.mu.Unlock()
	b.files.unhold(o.kept)
	b.announce(h, freed)
	return nil
}
