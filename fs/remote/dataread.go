package remote

import (
	"context"
	"time"

	"holdfast/fs"
	"holdfast/fs/remote/diskcache"
	"holdfast/internal/nfs4"
)

// validity is what a reader may be served from the cache: the data of this version, young data only if it
// was fetched at seq or later.
type validity struct {
	attr *fs.Attr
	seq  uint64
}

func (v *validity) version() diskcache.Version {
	return diskcache.Version{Change: v.attr.Change, Size: v.attr.Size}
}

// validate finds what may be served to a reader; nil means that the READ goes to the origin.
func (r *Remote) validate(ctx context.Context, cred *fs.Cred, io fs.IORef, fh nfs4.FH) (*validity, error) {
	d := r.data
	var g *grant
	if !io.Open.IsZero() {
		if g = d.grant(io.Open, io.Handle); g == nil {
			d.c.through.Add(1)
			return nil, nil // an open that is lost, or of which only the origin knows
		}
	}
	var attr *fs.Attr
	if g != nil {
		attr = r.cache.readAttr(io.Handle, r.now())
	} else {
		attr = r.cache.getAttr(io.Handle, r.view(ctx)) // there is no open that says since when
	}
	if attr == nil {
		var err error
		if attr, err = r.revalidate(ctx, cred, io.Handle, fh); err != nil {
			return nil, err
		}
	}
	if attr.Type != fs.Regular {
		return nil, nil
	}
	if g == nil || g.access&fs.ShareRead == 0 || g.cred != credKey(orAnonymous(cred)) {
		granted, err := r.Access(ctx, cred, io.Handle, fs.AccessRead)
		if err != nil {
			return nil, err
		}
		if granted == 0 {
			d.c.denied.Add(1)
			return nil, nil // the origin says it in its own words
		}
		if newer := r.cache.readAttr(io.Handle, r.now()); newer != nil {
			attr = newer
		}
	}
	v := &validity{attr: attr}
	if g != nil {
		v.seq = g.seq
	}
	return v, nil
}

// revalidate asks the origin for attributes, once for all who ask at the same time.
func (r *Remote) revalidate(ctx context.Context, cred *fs.Cred, h fs.Handle, fh nfs4.FH) (*fs.Attr, error) {
	r.data.c.revalidated.Add(1)
	return r.awayOr(ctx, h, func(ctx context.Context) (*fs.Attr, error) { return r.askAttr(ctx, cred, h, fh) })
}

// anonymousSeq is the moment of the last validation for readers without an open, who cannot say when
// they opened the file. It is renewed as attributes are.
func (r *Remote) anonymousSeq(f *dataFile) uint64 {
	now := r.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.anonAt.IsZero() || r.cache.mode != Immutable && now.Sub(f.anonAt) >= r.cache.times.RegMin {
		f.anonSeq, f.anonAt = r.cache.begin(), now
	}
	return f.anonSeq
}

// readCached reads from the cache and fetches what is missing. done is false if the READ has to go to the
// origin as it is.
func (r *Remote) readCached(ctx context.Context, cred *fs.Cred, io fs.IORef, fh nfs4.FH, off uint64, dst []byte) (n int, eof, done bool, err error) {
	d := r.data
	const tries = 3 // a file that changes all the time is read at the origin
	for range tries {
		v, err := r.validate(ctx, cred, io, fh)
		if v == nil || err != nil {
			return 0, false, err != nil && !originDecides(err), err
		}
		size := v.attr.Size
		if off >= size {
			d.c.hits.Add(1)
			return 0, true, true, nil
		}
		f := d.use(io.Handle, v.attr, fh)
		if io.Open.IsZero() {
			v.seq = r.anonymousSeq(f)
		}
		n, ok, err := r.readVersion(ctx, f, &reader{cred, io, fh, v}, off, dst[:min(uint64(len(dst)), size-off)])
		d.unuse(f)
		if err != nil {
			return 0, false, true, err
		}
		if ok {
			return n, off+uint64(n) >= size, true, nil
		}
	}
	d.c.unsettled.Add(1)
	return 0, false, false, nil
}

// originDecides tells that an error of validation is better said by the READ itself.
func originDecides(err error) bool {
	switch fs.CodeOf(err) {
	case fs.Interrupted, fs.Unreachable, fs.Delay, fs.Grace:
		return false
	}
	return true
}

// A reader is on whose behalf something is fetched.
type reader struct {
	cred *fs.Cred
	io   fs.IORef
	fh   nfs4.FH
	v    *validity
}

// readVersion fills dst with data of the reader's version. ok is false if the file has changed meanwhile.
func (r *Remote) readVersion(ctx context.Context, f *dataFile, rd *reader, off uint64, dst []byte) (n int, ok bool, err error) {
	d := r.data
	f.mu.Lock()
	writing := f.own.running > 0
	f.mu.Unlock()
	if writing {
		d.c.through.Add(1)
		n, _, err := r.readThrough(ctx, rd.cred, rd.io, rd.fh, off, dst)
		return n, err == nil, err
	}
	r.carry(f, rd.v)
	obj, err := d.store.Get(f.id, rd.v.version(), r.namer(rd.io.Handle))
	if err != nil {
		return 0, false, nil // too large, or closed
	}
	defer obj.Release()
	n = obj.ReadAt(dst, int64(off), rd.v.seq)
	f.saw(d, rd.v.attr.Change, n < len(dst), obj)
	if n == len(dst) {
		d.c.hits.Add(1)
		d.c.hitBytes.Add(uint64(n))
		r.readAhead(f, rd, obj, int64(off), int64(off)+int64(n), false)
		return n, true, nil
	}
	d.c.misses.Add(1)
	d.c.hitBytes.Add(uint64(n))
	pos, end := int64(off)+int64(n), int64(off)+int64(len(dst))
	pieces := r.plan(ctx, f, rd, obj, pos, end)
	waited := false
	for i := range pieces {
		waited = waited || pieces[i].fetch != nil && pieces[i].fetch.ahead
	}
	r.readAhead(f, rd, obj, int64(off), end, waited)
	defer func() {
		for i := range pieces {
			pieces[i].drop()
		}
	}()
	for i := range pieces {
		p := &pieces[i]
		to := dst[p.start-int64(off) : p.stop-int64(off)]
		if p.fetch == nil {
			got := obj.ReadAt(to, p.start, rd.v.seq)
			d.c.hitBytes.Add(uint64(got))
			if n += got; got < len(to) {
				break // evicted meanwhile
			}
			continue
		}
		select {
		case <-p.fetch.done:
		case <-ctx.Done():
			return 0, false, fs.E("READ", fs.Interrupted, context.Cause(ctx))
		}
		if err := p.fetch.err; err != nil {
			if n > 0 {
				break // what came is good; the next READ tells the error
			}
			if p.joined {
				return 0, false, nil // the error was about somebody else's open
			}
			return 0, false, err
		}
		if p.fetch.changed {
			return 0, false, nil
		}
		n += copy(to, p.fetch.buf.B[p.start-p.fetch.start:])
		d.c.missBytes.Add(uint64(len(to)))
	}
	return n, n > 0, nil
}

// saw counts why a read missed.
func (f *dataFile) saw(d *dataCache, change uint64, missed bool, obj *diskcache.Object) {
	f.mu.Lock()
	before := f.change
	f.change = change
	f.mu.Unlock()
	switch {
	case !missed:
	case before != 0 && before != change:
		d.c.changed.Add(1)
	default:
		d.c.cold.Add(1)
	}
}

// awayAfter is how long a question may take until the origin counts as away.
const awayAfter = 2 * time.Second
