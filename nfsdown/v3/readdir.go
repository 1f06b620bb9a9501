package v3

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs3"
	"holdfast/nfsdown"
)

// Sizes on the wire, in bytes.
const (
	fattrSize = 84
	// listHead is what stands around the entries: status, attributes, verifier, the end of the list, eof.
	listHead  = 4 + 4 + fattrSize + 8 + 4 + 4
	entryHead = 4 + 8 + 4 + 8 // more, fileid, length of the name, cookie
)

func padded(n int) int { return (n + 3) &^ 3 }

// The cookies of "." and "..", which no entry of a backend has.
const (
	cookieDot    = 1
	cookieDotDot = 2
)

// A lister makes the answer to READDIR and READDIRPLUS.
type lister struct {
	c   *call
	ctx context.Context
	dir *nfsdown.File
	r   *nfs3.ReaddirRes
	// names and all are how many bytes are left: of ids, names and cookies, and in all.
	names, all int
	full       bool
	err        error
}

// readdir is READDIR, RFC 1813 3.3.16.
func readdir(ctx context.Context, c *call, a *nfs3.ReaddirArgs, r *nfs3.ReaddirRes) error {
	return c.list(ctx, a.Dir, a.Cookie, a.Verf, a.Count, a.Count, r)
}

// readdirplus is READDIRPLUS, RFC 1813 3.3.17.
func readdirplus(ctx context.Context, c *call, a *nfs3.ReaddirplusArgs, r *nfs3.ReaddirRes) error {
	r.Plus = true
	return c.list(ctx, a.Dir, a.Cookie, a.Verf, a.DirCount, a.MaxCount, r)
}

// list lists a directory. Cookies are the backend's: they stay good while the directory changes, so the verifier is
// always zero. "." and ".." come first.
func (c *call) list(ctx context.Context, h nfs3.FH, cookie uint64, verf nfs3.Verf, names, all uint32, r *nfs3.ReaddirRes) error {
	dir, err := c.file(ctx, h)
	if err != nil {
		return err
	}
	at, err := dir.Backend.GetAttr(ctx, dir.Cred, dir.Inner)
	if err != nil {
		return err
	}
	r.Attr = fattr(dir, at)
	switch {
	case at.Type != fs.Directory:
		return nfs3.ErrNotDir
	case cookie != 0 && verf != nfs3.Verf{}:
		return nfs3.ErrBadCookie
	}
	l := &lister{c: c, ctx: ctx, dir: dir, r: r, all: int(min(all, c.s.maxIO)) - listHead}
	l.names = l.all
	if r.Plus && names > 0 {
		l.names = int(min(names, c.s.maxIO))
	}
	if cookie == 0 {
		l.put(&nfs3.Entry{FileID: at.FileID, Name: ".", Cookie: cookieDot}, dir, at)
	}
	if cookie <= cookieDot && !l.full {
		up, err := c.parent(ctx, dir)
		if err != nil {
			up = dir // one may list a directory whose parent one may not see
		}
		ua, err := up.Backend.GetAttr(ctx, up.Cred, up.Inner)
		if err != nil {
			up, ua = dir, at
		}
		l.put(&nfs3.Entry{FileID: ua.FileID, Name: "..", Cookie: cookieDotDot}, up, ua)
	}
	if cookie <= cookieDotDot {
		cookie = 0
	}
	eof := false
	if !l.full {
		eof, err = dir.Backend.ReadDir(ctx, dir.Cred, dir.Inner, cookie, r.Plus, l.add)
	}
	switch {
	case l.err != nil && len(r.Entries) == 0:
		return l.err
	case err != nil:
		return err
	case l.full && len(r.Entries) == 0:
		return nfs3.ErrTooSmall
	}
	r.EOF = eof && !l.full && l.err == nil
	return nil
}

// add is called for each entry; false ends the listing.
func (l *lister) add(e *fs.DirEntry) bool {
	out := &nfs3.Entry{FileID: e.FileID, Name: e.Name, Cookie: e.Cookie}
	if l.dir.OnWay(e.Name) {
		f, at, err := l.c.Lookup(l.ctx, l.dir, e.Name)
		if err == nil && at == nil {
			at, err = f.Backend.GetAttr(l.ctx, f.Cred, f.Inner)
		}
		switch {
		case err == nil:
			return l.put(out, f, at)
		case fs.CodeOf(err) == fs.NoEnt || fs.CodeOf(err) == fs.Access: // not for this client
			return true
		}
		l.err = err
		return false
	}
	if !l.r.Plus || e.Handle == "" {
		return l.put(out, nil, nil)
	}
	f, err := l.c.Sub(l.ctx, l.dir, e.Handle)
	if err != nil {
		return l.put(out, nil, nil)
	}
	return l.put(out, f, e.Attr)
}

// put appends an entry if there is room.
func (l *lister) put(e *nfs3.Entry, f *nfsdown.File, at *fs.Attr) bool {
	names := entryHead + padded(len(e.Name))
	all := names
	if l.r.Plus {
		all += 8
		if f != nil && at != nil {
			e.Attr = fattr(f, at)
			all += fattrSize
		}
		if f != nil && len(f.Handle) <= nfs3.FHSize {
			h := nfs3.FH(f.Handle)
			e.FH = &h
			all += 4 + padded(len(h))
		}
	}
	if all > l.all || names > l.names && len(l.r.Entries) > 0 {
		l.full = true
		return false
	}
	l.all -= all
	l.names -= names
	l.r.Entries = append(l.r.Entries, *e)
	return true
}
