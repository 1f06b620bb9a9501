package nfsdown

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// cheapAttrs are the attributes of an entry that a directory itself has.
var cheapAttrs = nfs4.Bits(nfs4.FATTR4_RDATTR_ERROR, nfs4.FATTR4_TYPE, nfs4.FATTR4_FILEID)

// opReaddir lists a directory: RFC 8881 18.23. Cookies are the backend's; they stay good, so the cookie
// verifier is constant.
func opReaddir(ctx context.Context, c *compound, a *nfs4.ReaddirArgs) (*nfs4.ReaddirRes, error) {
	switch {
	case !a.Request.And(writeOnly).IsZero():
		return nil, nfs4.NFS4ERR_INVAL
	case a.Cookie == 1 || a.Cookie == 2:
		return nil, nfs4.NFS4ERR_BAD_COOKIE
	case a.Cookie != 0 && a.CookieVerf != nfs4.Verifier{}:
		return nil, nfs4.NFS4ERR_NOT_SAME
	}
	// The answer of 18.23 begins with the status; the operation's number and status are not in maxcount.
	room := min(int(min(a.MaxCount, 1<<30)), c.left()-8, int(c.s.cfg.MaxIO))
	l := &lister{c: c, dir: c.cur, want: a.Request, room: room, dircount: int(min(a.DirCount, 1<<30)), res: new(nfs4.ReaddirRes)}
	if l.res.Size() > room {
		return nil, nfs4.NFS4ERR_TOOSMALL
	}
	l.cheap = cheapAttrs.Contains(a.Request)
	eof, err := l.dir.b.ReadDir(ctx, l.dir.cred, l.dir.h, a.Cookie, !l.cheap, func(e *fs.DirEntry) bool {
		more, err := l.add(ctx, e)
		if err != nil {
			l.err = err
		}
		return more && err == nil
	})
	switch {
	case l.err != nil && !l.res.Appended():
		return nil, l.err
	case l.err != nil || l.full:
		eof = false
	case err != nil:
		return nil, err
	}
	if l.full && !l.res.Appended() {
		return nil, nfs4.NFS4ERR_TOOSMALL
	}
	l.res.EOF = eof
	return l.res, nil
}

// A lister makes the answer to READDIR.
type lister struct {
	c        *compound
	dir      ref
	want     nfs4.Bitmap
	cheap    bool
	room     int
	dircount int // a hint: bytes of names and cookies; 0 is none
	used     int // of dircount
	env      attrEnv
	res      *nfs4.ReaddirRes
	full     bool
	err      error
	entry    nfs4.DirEntry
}

// add appends an entry; false ends the listing.
func (l *lister) add(ctx context.Context, e *fs.DirEntry) (bool, error) {
	l.used += 12 + (len(e.Name)+3)&^3
	if l.dircount > 0 && l.used > l.dircount && l.res.Appended() {
		l.full = true
		return false, nil
	}
	d := &l.entry
	d.Cookie, d.Name = e.Cookie, e.Name
	d.Attrs.Mask = nfs4.Bitmap{}
	child := l.dir.junction(e.Name)
	switch {
	case child != nil && !l.c.visible(child):
		return true, nil
	case child != nil:
		if err := l.root(ctx, d, child); err != nil {
			return false, err
		}
	case l.cheap:
		d.Attrs.Mask = l.want
		d.Attrs.Type, d.Attrs.FileID = nfs4.FileType(e.Type), e.FileID
		d.Attrs.RdattrError = nfs4.NFS4_OK
	default:
		if err := l.attrs(ctx, d, e); err != nil {
			if toStatus(err) == nfs4.NFS4ERR_NOENT || toStatus(err) == nfs4.NFS4ERR_STALE {
				return true, nil // it vanished meanwhile
			}
			if !l.failed(d, err) {
				return false, err
			}
		}
	}
	ok, err := l.res.Append(d, l.room)
	if err != nil {
		return false, err
	}
	l.full = !ok
	return ok, nil
}

// failed makes the entry say why its attributes are missing, if the client wants to hear that.
func (l *lister) failed(d *nfs4.DirEntry, err error) bool {
	if !l.want.Has(nfs4.FATTR4_RDATTR_ERROR) {
		return false
	}
	d.Attrs.Mask = nfs4.Bits(nfs4.FATTR4_RDATTR_ERROR)
	d.Attrs.RdattrError = l.c.valid(nfs4.OP_GETATTR, toStatus(err))
	return true
}

// attrs fills in the attributes of an ordinary entry.
func (l *lister) attrs(ctx context.Context, d *nfs4.DirEntry, e *fs.DirEntry) error {
	h, a := e.Handle, e.Attr
	if h == "" || a == nil {
		var err error
		if h, a, err = l.dir.b.Lookup(ctx, l.dir.cred, l.dir.h, e.Name); err != nil {
			return err
		}
	}
	r := l.dir
	r.h, r.n = h, nil
	if r.x != nil {
		r.handle = wrap(r.x.ID, h)
	} else {
		r.handle = h
	}
	return l.c.fill(ctx, &d.Attrs, l.want, &r, a, &l.env)
}

// root fills in the attributes of the export, or pseudo directory, that covers an entry.
func (l *lister) root(ctx context.Context, d *nfs4.DirEntry, child *node) error {
	r, err := l.c.enter(ctx, child)
	if err == nil {
		err = l.c.fill(ctx, &d.Attrs, l.want, &r, nil, new(attrEnv))
	}
	if err != nil && !l.failed(d, err) {
		return err
	}
	return nil
}
