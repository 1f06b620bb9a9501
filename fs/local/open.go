//go:build linux

package local

import (
	"context"
	"encoding/binary"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// Open is of fs.Backend. A reclaim is an open like any other here: there is nobody to ask.
func (b *Backend) Open(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest) (*fs.OpenResult, error) {
	const op = "OPEN"
	if err := b.begin(ctx); err != nil {
		return nil, failure(op, err)
	}
	defer b.leave()
	if req.Access&fs.ShareBoth == 0 || req.Reclaim && req.Name != "" {
		return nil, fs.E(op, fs.Inval, errors.New("modes or name of an open"))
	}
	if req.Name == "" {
		n, err := b.node(req.File)
		if err != nil {
			return nil, failure(op, err)
		}
		defer n.close()
		res := &fs.OpenResult{File: req.File, MayNotify: true}
		if err := b.openNode(ctx, cred, n, req, false, res); err != nil {
			return nil, failure(op, err)
		}
		return res, nil
	}
	res, err := b.openName(ctx, cred, req)
	return res, failure(op, err)
}

func (b *Backend) openName(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest) (*fs.OpenResult, error) {
	d, err := b.dirNode(req.Dir)
	if err != nil {
		return nil, err
	}
	defer d.close()
	if err := fs.CheckName(req.Name); err != nil {
		return nil, err
	}
	res := &fs.OpenResult{MayNotify: true}
	if res.Change.Before, err = b.changed(d); err != nil {
		return nil, err
	}
	fd := -1
	for tries := 0; ; tries++ {
		fd, res.Created, err = b.findOrCreate(cred, d, req)
		// somebody removed or created it in between: look again
		if tries > 100 || req.Create != fs.Unchecked || !isErrno(err, syscall.EEXIST, syscall.ENOENT) {
			break
		}
	}
	if err != nil {
		return nil, gone(d, err)
	}
	defer closeFD(fd)
	var fresh bool
	if res.File, fresh, err = b.handleOf(fd, nil, req.Dir, req.Name); err != nil {
		return nil, err
	}
	if err := b.flushTable(ctx, fresh); err != nil {
		return nil, err
	}
	if res.Created {
		if err := b.syncDirs(ctx, req.Dir); err != nil {
			return nil, err
		}
	}
	if err := b.openNode(ctx, cred, node{fd, res.File}, req, res.Created, res); err != nil {
		return nil, err
	}
	res.Change.After, err = b.changed(d)
	return res, err
}

// findOrCreate gives an O_PATH descriptor of the file, which is created if that is asked for.
func (b *Backend) findOrCreate(cred *fs.Cred, d node, req *fs.OpenRequest) (fd int, created bool, err error) {
	err = b.id.as(cred, false, func() (err error) {
		fd, err = find(d.fd, req.Name)
		return err
	})
	if err == nil {
		switch req.Create {
		case fs.Guarded:
			err = syscall.EEXIST
		case fs.Exclusive:
			if !ownExclusive(fd, req.Verifier) {
				err = syscall.EEXIST
			}
		}
		if err != nil {
			closeFD(fd)
		}
		return fd, false, err
	}
	if req.Create == fs.NoCreate || !isErrno(err, syscall.ENOENT) {
		return -1, false, err
	}
	mode := modeFor(&req.Attr, 0o666)
	err = b.id.as(cred, true, func() error {
		n, err := openat(d.fd, req.Name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_NOCTTY, mode)
		if err == nil {
			closeFD(n)
		}
		return err
	})
	if err != nil {
		return -1, false, err
	}
	if fd, err = find(d.fd, req.Name); err != nil {
		return -1, false, err
	}
	set := req.Attr
	set.Mode, set.Size = nil, nil
	err = b.applyNew(cred, fd, &set)
	if err == nil && mode&0o7000 != 0 {
		err = b.applyNew(cred, fd, &fs.SetAttr{Mode: &mode}) // open(2) takes no set-id bits
	}
	if err == nil && req.Create == fs.Exclusive {
		err = markExclusive(fd, req.Verifier)
	}
	if err != nil {
		closeFD(fd)
		return -1, false, errors.Join(err, unix.Unlinkat(d.fd, req.Name, 0))
	}
	return fd, true, nil
}

// The verifier of an exclusive create is kept in the times, as other servers do it: the client sets
// them afterwards, RFC 8881 18.16.3. The halves are seconds, of 31 bits each so that every file
// system can store them, and the two top bits are nanoseconds.
func exclusiveTimes(v [8]byte) (a, m unix.Timespec) {
	hi, lo := binary.BigEndian.Uint32(v[:]), binary.BigEndian.Uint32(v[4:])
	return unix.Timespec{Sec: int64(hi &^ (1 << 31)), Nsec: int64(hi >> 31)}, unix.Timespec{Sec: int64(lo &^ (1 << 31)), Nsec: int64(lo >> 31)}
}

func markExclusive(fd int, v [8]byte) error {
	a, m := exclusiveTimes(v)
	return utimes(fd, []unix.Timespec{a, m})
}

func ownExclusive(fd int, v [8]byte) bool {
	st, err := raw(fd)
	if err != nil || !isType(&st, unix.S_IFREG) || st.Size != 0 {
		return false
	}
	a, m := exclusiveTimes(v)
	same := func(t unix.StatxTimestamp, w unix.Timespec) bool { return t.Sec == w.Sec && int64(t.Nsec) == w.Nsec }
	return same(st.Atime, a) && same(st.Mtime, m)
}

// openNode makes the open. Who created the file may do what he asked for, whatever its mode is.
func (b *Backend) openNode(ctx context.Context, cred *fs.Cred, n node, req *fs.OpenRequest, created bool, res *fs.OpenResult) error {
	st, err := raw(n.fd)
	if err != nil {
		return err
	}
	if err := regular(&st); err != nil {
		return err
	}
	write := req.Access&fs.ShareWrite != 0
	truncate := !created && req.Create == fs.Unchecked && req.Name != "" && req.Attr.Size != nil && *req.Attr.Size == 0
	if !created && !req.Reclaim {
		if err := b.mayOpen(cred, n.fd, &st, write || truncate, req.Access&fs.ShareRead != 0, req.Name == ""); err != nil {
			return err
		}
	}
	f, done, err := b.states.turn(ctx, n.h)
	if err != nil {
		return err
	}
	defer done()
	f.mu.Lock()
	err = f.conflict(req.Owner, req.Access, req.Deny)
	o := f.opens[req.Owner]
	f.mu.Unlock()
	if err != nil {
		return err
	}
	file, err := b.files.get(n.h, write || o != nil && o.kept.write)
	if err != nil {
		return err
	}
	defer b.files.release(file)
	if truncate && st.Size != 0 {
		w, err := b.files.get(n.h, true)
		if err != nil {
			return err
		}
		w.dirty.Store(true)
		err = b.id.as(cred, true, func() error { return unix.Ftruncate(w.fd, 0) })
		b.files.release(w)
		if err != nil {
			return err
		}
	}
	kept := b.files.hold(file)
	f.mu.Lock()
	if o == nil {
		o = &openState{kept: kept}
		f.opens[req.Owner] = o
	} else {
		old := o.kept
		o.kept = kept
		defer b.files.unhold(old)
	}
	o.access |= req.Access
	o.deny |= req.Deny
	f.mu.Unlock()
	res.Attr, err = b.stat(n.fd)
	return err
}

// Downgrade is of fs.Backend.
func (b *Backend) Downgrade(ctx context.Context, owner fs.Owner, file fs.Handle, access, deny fs.Share) error {
	const op = "OPEN_DOWNGRADE"
	if err := b.begin(ctx); err != nil {
		return failure(op, err)
	}
	defer b.leave()
	f, done, err := b.states.turn(ctx, file)
	if err != nil {
		return failure(op, err)
	}
	defer done()
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.opens[owner]
	if o == nil {
		return fs.E(op, fs.BadStateid, errNoOpen)
	}
	if access == 0 || access&^o.access != 0 || deny&^o.deny != 0 {
		return fs.E(op, fs.Inval, errOpenMode)
	}
	o.access, o.deny = access, deny
	return nil
}

// CloseFile is of fs.Backend.
func (b *Backend) CloseFile(ctx context.Context, owner fs.Owner, file fs.Handle) error {
	const op = "CLOSE"
	if err := b.begin(ctx); err != nil {
		return failure(op, err)
	}
	defer b.leave()
	f, done, err := b.states.turn(ctx, file)
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
	delete(f.opens, owner)
	var freed []*wait
	for lockOwner, h := range f.locks {
		if _, ok := h.under[owner]; !ok {
			continue
		}
		delete(h.under, owner)
		if len(h.under) > 0 {
			continue
		}
		for _, l := range h.set {
			freed = append(freed, f.takeWaits(l.Range, &b.polls)...)
		}
		h.closeFD() // which gives the kernel's locks back
		delete(f.locks, lockOwner)
	}
	f.mu.Unlock()
	b.files.unhold(o.kept)
	b.announce(file, freed)
	return nil
}

// utimes sets the times of what an O_PATH descriptor is.
func utimes(fd int, times []unix.Timespec) error {
	return unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH)
}
