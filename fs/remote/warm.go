package remote

import (
	"context"
	"errors"
	"path"
	"strings"

	"holdfast/fs"
	"holdfast/fs/remote/diskcache"
)

// ErrNoStore says that the mount has no data cache.
var ErrNoStore = errors.New("there is no data cache")

// Walk finds what is at a path below the mount's root and calls f with each regular file there, itself or
// below, until f returns an error. It follows no symbolic links.
func (r *Remote) Walk(ctx context.Context, cred *fs.Cred, rel string, f func(name string, h fs.Handle, a *fs.Attr) error) error {
	h, a := r.root(), (*fs.Attr)(nil)
	name := "/"
	for _, n := range strings.Split(path.Clean("/"+rel), "/") {
		if n == "" {
			continue
		}
		var err error
		if h, a, err = r.Lookup(ctx, cred, h, n); err != nil {
			return err
		}
		name = path.Join(name, n)
	}
	if a == nil {
		var err error
		if a, err = r.GetAttr(ctx, cred, h); err != nil {
			return err
		}
	}
	return r.walk(ctx, cred, name, h, a, f)
}

func (r *Remote) walk(ctx context.Context, cred *fs.Cred, name string, h fs.Handle, a *fs.Attr, f func(string, fs.Handle, *fs.Attr) error) error {
	switch a.Type {
	case fs.Regular:
		return f(name, h, a)
	case fs.Directory:
	default:
		return nil
	}
	var cookie uint64
	for {
		var page []fs.DirEntry
		eof, err := r.ReadDir(ctx, cred, h, cookie, true, func(e *fs.DirEntry) bool {
			page = append(page, *e)
			return len(page) < 1000
		})
		if err != nil {
			return err
		}
		for i := range page {
			e := &page[i]
			cookie = e.Cookie
			if e.Attr == nil {
				continue // gone
			}
			r.sawPlace(h, e.Name, e.Handle)
			if err := r.walk(ctx, cred, path.Join(name, e.Name), e.Handle, e.Attr, f); err != nil {
				return err
			}
		}
		if eof || len(page) == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if len(page) == 0 {
			return nil
		}
	}
}

// warmAhead is how many bytes of one file are fetched at once.
const warmAhead = 16 << 20

// Warm brings a whole file into the cache. What is there already is not fetched again, so a warm-up that
// was interrupted goes on where it was. fetched is called with the bytes of each part, there is how many
// bytes were there before.
func (r *Remote) Warm(ctx context.Context, cred *fs.Cred, h fs.Handle, fetched func(n int64)) (there int64, err error) {
	d := r.data
	if d == nil {
		return 0, ErrNoStore
	}
	fh, err := r.resolve(ctx, h)
	if err != nil {
		return 0, err
	}
	// Each file is validated once, whatever the attribute cache says.
	if _, err := r.askAttr(ctx, cred, h, fh); err != nil {
		return 0, err
	}
	io := fs.IORef{Handle: h}
	v, err := r.validate(ctx, cred, io, fh)
	if err != nil {
		return 0, err
	}
	if v == nil {
		return 0, fs.E("READ", fs.Access, errors.New("the origin lets nobody read it who asks as this user"))
	}
	f := d.use(h, v.attr, fh)
	defer d.unuse(f)
	v.seq = r.cache.begin()
	obj, err := d.store.Get(f.id, v.version(), r.namer(h))
	if err != nil {
		return 0, err
	}
	defer obj.Release()
	rd := &reader{cred, io, fh, v}
	limit := int64(r.maxTransfer(ctx, h, false)) &^ (diskcache.BlockSize - 1)
	size := int64(v.attr.Size)
	var under []*fetch
	missed := int64(0)
	wait := func() error {
		x := under[0]
		under = under[1:]
		defer x.release()
		select {
		case <-x.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if x.err != nil {
			return x.err
		}
		if x.changed {
			return fs.E("READ", fs.Delay, errors.New("the file has changed meanwhile"))
		}
		fetched(x.stop - x.start)
		return nil
	}
	for pos := int64(0); pos < size && err == nil; {
		start, stop := obj.NextMissing(pos, size, v.seq)
		if start >= stop {
			break
		}
		stop = min(stop, start-start%limit+limit)
		x, _ := r.startFetch(f, rd, obj, start, stop, start, true)
		if x == nil {
			continue // it has come meanwhile
		}
		missed += x.stop - start
		pos = x.stop
		if under = append(under, x); int64(len(under))*limit >= warmAhead {
			err = wait()
		}
	}
	for len(under) > 0 {
		if e := wait(); err == nil {
			err = e
		}
	}
	return size - missed, err
}

// DataID names the cached data of a file, for the commands.
func (r *Remote) DataID(ctx context.Context, h fs.Handle, a *fs.Attr) (diskcache.ID, error) {
	if r.data == nil {
		return diskcache.ID{}, ErrNoStore
	}
	fh, err := r.resolve(ctx, h)
	if err != nil {
		return diskcache.ID{}, err
	}
	return r.data.id(a, fh), nil
}

// DataSpace is diskcache.ID.Space of this mount's objects.
func (r *Remote) DataSpace() uint64 {
	if r.data == nil {
		return 0
	}
	return r.data.space
}
