package remote

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// SetAttr changes attributes: SETATTR, RFC 8881 18.30. A change of size goes under the stateid of the
// open or the locks that io names.
func (r *Remote) SetAttr(ctx context.Context, cred *fs.Cred, io fs.IORef, set *fs.SetAttr) (*fs.Attr, error) {
	h := io.Handle
	fh, err := r.resolve(ctx, h)
	if err != nil {
		return nil, err
	}
	done, err := r.localChange(ctx, cred, h, "")
	defer done()
	if err != nil {
		return nil, err
	}
	f := setFattr(set, false)
	ops := func(id nfs4.Stateid) []nfs4.Args {
		return []nfs4.Args{putfh(fh), getchange, &nfs4.SetattrArgs{Stateid: id, Attrs: f}, getattr}
	}
	ch := change{handle: h, start: r.cache.beginChange(h), known: true, resetAccess: true}
	use := func(res []nfs4.Res) (err error) {
		ch.before = fattrAt(res, 1).Change
		ch.attr, err = r.ids.fromFattr(fattrAt(res, 3))
		return err
	}
	var own *ownWrite
	if set.Size != nil {
		own = r.beginRewrite(h, fh)
		err = r.io(ctx, cred, io, fh, ops, use)
	} else {
		own = r.beginTouch(h, fh)
		err = r.up.Compound(ctx, r.upCred(cred), ops(nfs4.AnonymousStateid), use)
	}
	if err != nil {
		r.endWrite(own, nil, nil, err)
		r.failChange(ctx, h, true)
		err = r.fail("SETATTR", err, h)
		if set.Size != nil && fs.CodeOf(err) == fs.WrongType {
			code := fs.Inval
			if a := r.cache.lastAttr(h); a != nil && a.Type == fs.Directory {
				code = fs.IsDir
			}
			err = fs.E("SETATTR", code, err) // what truncate(2) says of what is no regular file
		}
		return nil, err
	}
	r.endChange(ctx, &ch)
	r.endWrite(own, nil, ch.attr, nil)
	return ch.attr, nil
}

// endChange takes in a change of ours, and tells the listeners of it, and if somebody else had one too.
func (r *Remote) endChange(ctx context.Context, ch *change) {
	if r.cache.endChange(ch, r.now()) {
		r.changed(ch.handle)
	}
	r.changedHere(ctx, ch.handle)
}

// failChange ends a change that did not happen, or of which nobody knows.
func (r *Remote) failChange(ctx context.Context, h fs.Handle, mayHaveHappened bool) {
	r.cache.failChange(h, mayHaveHappened)
	if mayHaveHappened {
		r.changedHere(ctx, h)
	}
}

// io runs operations under the state that ref names; the zero owners mean the anonymous stateid.
func (r *Remote) io(ctx context.Context, cred *fs.Cred, ref fs.IORef, fh nfs4.FH, ops func(nfs4.Stateid) []nfs4.Args, use func([]nfs4.Res) error) error {
	open, lock := r.ioOwners(ref, fh)
	if !ref.Open.IsZero() && r.covers.isClosing(parkedKey{open, ref.Handle}) {
		return fs.E("", fs.BadStateid, nil) // closed here already
	}
	return r.up.IO(ctx, r.upCred(cred), open, lock, fh, ops, use)
}

func (r *Remote) ioOwners(ref fs.IORef, fh nfs4.FH) (open, lock UpOwner) {
	if !ref.Open.IsZero() {
		open = r.openUp(ref.Open)
	}
	if !ref.Lock.IsZero() {
		lock = r.lockUp(ref.Lock, fh)
	}
	return open, lock
}
