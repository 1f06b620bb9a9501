package remote

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// entryAttrs is what READDIR asks for without attributes; RDATTR_ERROR makes an entry that cannot be
// read one without attributes instead of a failure of all (RFC 8881 18.23.3).
var (
	entryAttrs     = nfs4.Bits(nfs4.FATTR4_RDATTR_ERROR, nfs4.FATTR4_TYPE, nfs4.FATTR4_FILEID, nfs4.FATTR4_MOUNTED_ON_FILEID)
	entryAttrsPlus = attrWanted.Or(nfs4.Bits(nfs4.FATTR4_RDATTR_ERROR, nfs4.FATTR4_FILEHANDLE))
)

// Sizes of READDIR answers in bytes. The first of a directory is small, so that a small directory or
// an impatient reader costs little; then a long directory over a long link needs few round trips.
const (
	firstPage = 64 << 10
	nextPage  = 512 << 10
)

// ReadDir reads a directory: READDIR, RFC 8881 18.23. Cookies are the origin's. What of an answer
// emit does not take is kept for the next call, while the directory does not change.
func (r *Remote) ReadDir(ctx context.Context, cred *fs.Cred, dir fs.Handle, cookie uint64, wantAttr bool, emit func(*fs.DirEntry) bool) (eof bool, err error) {
	fh, err := r.resolve(ctx, dir)
	if err != nil {
		return false, err
	}
	key := credKey(cred)
	entries, eof, ok := r.cache.page(dir, cookie, wantAttr, key, r.view(ctx))
	if ok {
		r.cache.counters.pageHits.Add(1)
		return r.emit(entries, eof, wantAttr, emit), nil
	}
	r.cache.counters.pageMisses.Add(1)
	page, err := r.readPage(ctx, cred, key, dir, fh, cookie, wantAttr)
	if err != nil {
		return false, err
	}
	return r.emit(page.entries, page.eof, wantAttr, emit), nil
}

// emit hands entries out, and tells whether the directory has ended.
func (r *Remote) emit(entries []fs.DirEntry, eof, wantAttr bool, emit func(*fs.DirEntry) bool) bool {
	for i := range entries {
		e := entries[i] // the page stays as it is, whatever emit does to it
		if !wantAttr {
			e.Handle, e.Attr = "", nil
		} else if e.Handle != "" {
			// A change of ours since the page was read is in the cache.
			if a := r.cache.readAttr(e.Handle, r.now()); a != nil {
				e.Attr = a
			}
		}
		if !emit(&e) {
			return false
		}
	}
	return eof
}

// readPage asks the origin for what follows cookie.
func (r *Remote) readPage(ctx context.Context, cred *fs.Cred, key string, dir fs.Handle, fh nfs4.FH, cookie uint64, attrs bool) (*dirPage, error) {
	var verf nfs4.Verifier
	if cookie != 0 {
		v, ok := r.cache.verifier(dir)
		if !ok {
			// An earlier incarnation gave the cookie out. The verifier of now goes with it: a cookie is
			// good as long as its entry is, or the origin says BAD_COOKIE.
			fresh, err := r.askVerifier(ctx, cred, dir, fh)
			if err != nil {
				return nil, err
			}
			v = fresh
		}
		verf = v
	}
	page, err := r.ask(ctx, cred, key, dir, fh, cookie, verf, attrs)
	if code := fs.CodeOf(err); cookie != 0 && (code == fs.NotSame || code == fs.BadCookie) {
		// The directory changed, and the origin ties cookies to a verifier that changes with it.
		fresh, verr := r.askVerifier(ctx, cred, dir, fh)
		if verr != nil {
			return nil, verr
		}
		if fresh == verf {
			return nil, err
		}
		page, err = r.ask(ctx, cred, key, dir, fh, cookie, fresh, attrs)
	}
	return page, err
}

// askVerifier begins to read the directory anew, for its cookie verifier.
func (r *Remote) askVerifier(ctx context.Context, cred *fs.Cred, dir fs.Handle, fh nfs4.FH) (nfs4.Verifier, error) {
	var v nfs4.Verifier
	ops := []nfs4.Args{putfh(fh), &nfs4.ReaddirArgs{DirCount: 512, MaxCount: 4096, Request: nfs4.Bits(nfs4.FATTR4_RDATTR_ERROR, nfs4.FATTR4_FILEID)}}
	err := r.up.Compound(ctx, r.upCred(cred), ops, func(res []nfs4.Res) error {
		v = res[1].(*nfs4.ReaddirRes).CookieVerf
		return nil
	})
	if err != nil {
		return v, r.fail("READDIR", err, dir)
	}
	r.cache.setVerifier(dir, v)
	return v, nil
}

// ask is one READDIR.
func (r *Remote) ask(ctx context.Context, cred *fs.Cred, key string, dir fs.Handle, fh nfs4.FH, cookie uint64, verf nfs4.Verifier, attrs bool) (*dirPage, error) {
	size := firstPage
	if cookie != 0 {
		size = nextPage
	}
	if limit := r.up.Info().MaxResponse; limit > 0 {
		size = max(min(size, limit-2048), 4096)
	}
	want := entryAttrs
	if attrs {
		want = entryAttrsPlus
	}
	ops := []nfs4.Args{putfh(fh), getattr, &nfs4.ReaddirArgs{
		Cookie: cookie, CookieVerf: verf, DirCount: uint32(size), MaxCount: uint32(size), Request: want,
	}}
	page := &dirPage{start: cookie, attrs: attrs, read: r.now()}
	var dirAttr *fs.Attr
	var raw []nfs4.DirEntry
	start := r.cache.begin()
	err := r.up.Compound(ctx, r.upCred(cred), ops, func(res []nfs4.Res) (err error) {
		x := res[2].(*nfs4.ReaddirRes)
		raw, page.eof, verf = x.Entries, x.EOF, x.CookieVerf
		dirAttr, err = r.ids.fromFattr(fattrAt(res, 1))
		return err
	})
	if err != nil {
		return nil, r.fail("READDIR", err, dir)
	}
	if page.entries, err = r.entries(ctx, raw, attrs, start); err != nil {
		return nil, err
	}
	r.sawAttr(dir, dirAttr, start)
	r.cache.setVerifier(dir, verf)
	r.cache.addAccess(dir, key, fs.AccessRead, fs.AccessRead, dirAttr.Change)
	if attrs {
		for i := range page.entries {
			if e := &page.entries[i]; e.Handle != "" {
				r.cache.addName(dir, e.Name, e.Handle, dirAttr.Change)
			}
		}
	}
	r.cache.addPage(dir, page, dirAttr.Change)
	return page, nil
}

// entries converts the entries of an answer. The long handles among them become durable with one commit.
func (r *Remote) entries(ctx context.Context, raw []nfs4.DirEntry, attrs bool, start uint64) ([]fs.DirEntry, error) {
	list := make([]fs.DirEntry, 0, len(raw))
	var long []newHandle
	for i := range raw {
		e := &raw[i]
		if e.Name == "" || e.Name == "." || e.Name == ".." || e.Cookie <= 2 {
			continue // no server may send these (18.23.3); a client would loop on them
		}
		out := fs.DirEntry{Cookie: e.Cookie, Name: e.Name}
		f := &e.Attrs
		if f.Mask.Has(nfs4.FATTR4_FILEID) {
			out.FileID = f.FileID
		}
		if f.Mask.Has(nfs4.FATTR4_MOUNTED_ON_FILEID) {
			out.FileID = f.MountedOnFileID // what the directory itself says, as readdir(3) has it
		}
		if f.Mask.Has(nfs4.FATTR4_TYPE) {
			out.Type = fileType(f.Type)
		}
		if attrs && f.Mask.Has(nfs4.FATTR4_FILEHANDLE) && len(f.Filehandle) > 0 && f.RdattrError == nfs4.NFS4_OK {
			if a, err := r.ids.fromFattr(f); err == nil {
				h, d, isLong := r.seal.seal(f.Filehandle)
				if isLong {
					long = append(long, newHandle{d, f.Filehandle, identOf(a)})
				}
				out.Handle, out.Attr = h, a
			}
		}
		list = append(list, out)
	}
	if err := r.handles.put(ctx, long); err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Handle != "" {
			r.sawAttr(list[i].Handle, list[i].Attr, start)
		}
	}
	return list, nil
}
