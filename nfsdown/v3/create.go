package v3

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"holdfast/fs"
	"holdfast/internal/nfs3"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

// owners are the open-owners under which files are created: there is no open in version 3, but to create a regular
// file is to open it, for a moment. An owner is used by one call at a time.
type owners struct {
	client string

	mu sync.Mutex
	// +checklocks:mu
	free []fs.Owner
	// +checklocks:mu
	made uint64
}

func (o *owners) init() {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it cannot fail
	// As for local applications there is nothing to reclaim: it is closed before the reply, or with the process.
	o.client = fmt.Sprintf("%snfs3/%x", fs.LocalClient, b)
}

func (o *owners) get() fs.Owner {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := len(o.free); n > 0 {
		w := o.free[n-1]
		o.free = o.free[:n-1]
		return w
	}
	o.made++
	return fs.Owner{Client: o.client, Owner: string(binary.BigEndian.AppendUint64(nil, o.made))}
}

func (o *owners) put(w fs.Owner) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.free = append(o.free, w)
}

// made fills in the answer about a new file.
func (r made) fill(ctx context.Context, c *call, dir *nfsdown.File, inner fs.Handle, at *fs.Attr) error {
	f, err := c.Sub(ctx, dir, inner)
	if err != nil {
		return err
	}
	if len(f.Handle) <= nfs3.FHSize {
		h := nfs3.FH(f.Handle)
		r.FH = &h
	}
	if at != nil {
		r.Attr = fattr(f, at)
	} else {
		r.Attr = attrs(ctx, f)
	}
	return nil
}

type made struct{ *nfs3.CreateRes }

// create is CREATE, RFC 1813 3.3.8.
func create(ctx context.Context, c *call, a *nfs3.CreateArgs, r *nfs3.CreateRes) error {
	dir, err := c.writable(ctx, a.Where.Dir)
	if err != nil {
		return err
	}
	w := watch(ctx, dir)
	var ch fs.ChangeInfo
	defer func() { r.Wcc = w.wcc(ctx, ch) }()
	if err := checkName(a.Where.Name); err != nil {
		return err
	}
	if dir.OnWay(a.Where.Name) {
		return nfs3.ErrExist
	}
	set, err := setAttr(&a.Attr)
	if err != nil {
		return err
	}
	size := set.Size
	set.Size = nil // of a file that is new: none, or set afterwards
	req := &fs.OpenRequest{Access: fs.ShareWrite, Dir: dir.Inner, Name: a.Where.Name, Attr: set}
	for {
		switch a.Mode {
		case nfs3.Unchecked:
			// One that is there is not opened, as that would ask for a permission that CREATE does not need.
			f, at, err := c.Lookup(ctx, dir, a.Where.Name)
			if err == nil {
				return c.reuse(ctx, f, at, size, r)
			}
			if !errors.Is(err, fs.NoEnt) {
				return err
			}
			req.Create = fs.Guarded
		case nfs3.Guarded:
			req.Create = fs.Guarded
		case nfs3.Exclusive:
			req.Create, req.Verifier = fs.Exclusive, a.Verf
		}
		out, err := c.open(ctx, dir, req)
		if errors.Is(err, fs.Exist) && a.Mode == nfs3.Unchecked && ctx.Err() == nil {
			continue // somebody else made it just now
		}
		if err != nil {
			return err
		}
		ch = out.Change
		at := out.Attr
		if size != nil && *size != 0 {
			if at, err = dir.Backend.SetAttr(ctx, dir.Cred, fs.IORef{Handle: out.File}, &fs.SetAttr{Size: size}); err != nil {
				return err
			}
		}
		return made{r}.fill(ctx, c, dir, out.File, at)
	}
}

// open creates, and closes.
func (c *call) open(ctx context.Context, dir *nfsdown.File, req *fs.OpenRequest) (*fs.OpenResult, error) {
	w := c.s.owners.get()
	req.Owner = w
	out, err := dir.Backend.Open(ctx, dir.Cred, req)
	if err != nil {
		if code := fs.CodeOf(err); code != fs.Interrupted && code != fs.Unreachable && code != fs.ServerFault && code != fs.IO {
			c.s.owners.put(w)
		} // else it may have been opened: this owner is not used again
		return nil, err
	}
	if err := dir.Backend.CloseFile(context.WithoutCancel(ctx), w, out.File); err != nil {
		c.s.log.Warn("a file that NFSv3 created could not be closed", "err", err)
	} else {
		c.s.owners.put(w)
	}
	return out, nil
}

// reuse is an unchecked creation of what is there: only the size counts.
func (c *call) reuse(ctx context.Context, f *nfsdown.File, at *fs.Attr, size *uint64, r *nfs3.CreateRes) error {
	var err error
	if at == nil {
		if at, err = f.Backend.GetAttr(ctx, f.Cred, f.Inner); err != nil {
			return err
		}
	}
	if at.Type != fs.Regular {
		return nfs3.ErrExist
	}
	if size != nil {
		ref, err := c.io(f, state.IOSetSize)
		if err != nil {
			return err
		}
		done, err := c.touch(ctx, f, state.TouchChange)
		if err != nil {
			return err
		}
		defer done()
		set := &fs.SetAttr{Size: size}
		na, err := f.Backend.SetAttr(ctx, f.Cred, ref, set)
		if c.owns(ctx, f, err) {
			na, err = f.Backend.SetAttr(ctx, fs.Root, ref, set)
		}
		if err != nil {
			return err
		}
		at = na
	}
	if len(f.Handle) <= nfs3.FHSize {
		h := nfs3.FH(f.Handle)
		r.FH = &h
	}
	r.Attr = fattr(f, at)
	return nil
}

// node makes anything but a regular file.
func (c *call) node(ctx context.Context, where *nfs3.Dirop, attr *nfs3.Sattr, req *fs.CreateRequest, r *nfs3.CreateRes) error {
	dir, err := c.writable(ctx, where.Dir)
	if err != nil {
		return err
	}
	w := watch(ctx, dir)
	var ch fs.ChangeInfo
	defer func() { r.Wcc = w.wcc(ctx, ch) }()
	if where.Name == "." || where.Name == ".." {
		return nfs3.ErrExist
	}
	if err := checkName(where.Name); err != nil {
		return err
	}
	if dir.OnWay(where.Name) {
		return nfs3.ErrExist
	}
	if req.Attr, err = setAttr(attr); err != nil {
		return err
	}
	req.Attr.Size = nil // some clients send one; it means nothing here
	h, at, change, err := dir.Backend.Create(ctx, dir.Cred, dir.Inner, where.Name, req)
	if err != nil {
		return err
	}
	ch = change
	return made{r}.fill(ctx, c, dir, h, at)
}

// mkdir is MKDIR, RFC 1813 3.3.9.
func mkdir(ctx context.Context, c *call, a *nfs3.MkdirArgs, r *nfs3.CreateRes) error {
	return c.node(ctx, &a.Where, &a.Attr, &fs.CreateRequest{Type: fs.Directory}, r)
}

// symlink is SYMLINK, RFC 1813 3.3.10.
func symlink(ctx context.Context, c *call, a *nfs3.SymlinkArgs, r *nfs3.CreateRes) error {
	switch {
	case a.Target == "":
		return nfs3.ErrInval
	case len(a.Target) > 4095:
		return nfs3.ErrNameTooLong
	}
	return c.node(ctx, &a.Where, &a.Attr, &fs.CreateRequest{Type: fs.Symlink, Target: a.Target}, r)
}

// mknod is MKNOD, RFC 1813 3.3.11.
func mknod(ctx context.Context, c *call, a *nfs3.MknodArgs, r *nfs3.CreateRes) error {
	switch a.Type {
	case nfs3.TypeBlk, nfs3.TypeChr, nfs3.TypeSock, nfs3.TypeFifo:
	default:
		return nfs3.ErrBadType
	}
	return c.node(ctx, &a.Where, &a.Attr, &fs.CreateRequest{Type: fs.FileType(a.Type), Rdev: fs.Rdev(a.Dev)}, r)
}
