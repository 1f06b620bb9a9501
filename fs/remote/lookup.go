package remote

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// Lookup finds an entry: LOOKUP, RFC 8881 18.13, in one round trip. The directory's attributes come
// along, so that what was seen is known to belong to this state of the directory.
func (r *Remote) Lookup(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string) (fs.Handle, *fs.Attr, error) {
	if err := checkName("LOOKUP", name); err != nil {
		return "", nil, err
	}
	fh, err := r.resolve(ctx, dir)
	if err != nil {
		return "", nil, err
	}
	key := credKey(cred)
	if child, hit := r.cache.lookup(dir, name, key, r.view(ctx)); hit {
		if child == "" {
			r.cache.counters.nameHits.Add(1)
			return "", nil, fs.E("LOOKUP", fs.NoEnt, nil)
		}
		if a := r.cache.getAttr(child, r.view(ctx)); a != nil {
			r.cache.counters.nameHits.Add(1)
			return child, a, nil
		}
		if childFH, err := r.resolve(ctx, child); err == nil {
			if a := r.coveredAttr(child, childFH); a != nil {
				r.cache.counters.nameHits.Add(1)
				return child, a, nil
			}
		}
	}
	r.cache.counters.nameMisses.Add(1)

	var dirAttr, attr *fs.Attr
	var childFH nfs4.FH
	start := r.cache.begin()
	ops := []nfs4.Args{putfh(fh), getattr, &nfs4.LookupArgs{Name: name}, getfh, getattr}
	err = r.up.CompoundAll(r.aboutName(ctx, dir, name), r.upCred(cred), ops, func(res []nfs4.Res) (err error) {
		if len(res) > 1 && res[1].Stat() == nfs4.NFS4_OK {
			if dirAttr, err = r.ids.fromFattr(fattrAt(res, 1)); err != nil {
				return err
			}
		}
		if err := lastStatus(res); err != nil {
			return err
		}
		childFH = res[3].(*nfs4.GetfhRes).FH
		attr, err = r.ids.fromFattr(fattrAt(res, 4))
		return err
	})
	if dirAttr != nil {
		r.sawAttr(dir, dirAttr, start)
	}
	if err != nil {
		err = r.fail("LOOKUP", err)
		switch fs.CodeOf(err) {
		case fs.NoEnt:
			if dirAttr != nil {
				r.cache.addAccess(dir, key, fs.AccessLookup, fs.AccessLookup, dirAttr.Change)
				r.cache.addName(dir, name, "", dirAttr.Change)
			}
		case fs.Stale, fs.FHExpired:
			r.cache.drop(dir)
		}
		return "", nil, err
	}
	child, err := r.grant(ctx, childFH, attr)
	if err != nil {
		return "", nil, err
	}
	r.sawAttr(child, attr, start)
	r.sawPlace(dir, name, child)
	// The origin let cred search the directory, or there would be no answer.
	r.cache.addAccess(dir, key, fs.AccessLookup, fs.AccessLookup, dirAttr.Change)
	r.cache.addName(dir, name, child, dirAttr.Change)
	return child, attr, nil
}

// sawAttr takes attributes into the cache, and tells the listeners if somebody else changed the file.
func (r *Remote) sawAttr(h fs.Handle, a *fs.Attr, start uint64) {
	now := r.now()
	if r.data != nil {
		r.data.clock.saw(a.Ctime, now)
	}
	if r.cache.seen(h, a, start, now) {
		r.changed(h)
	}
}

// LookupParent finds the parent of a directory: LOOKUPP, RFC 8881 18.14. The mount ends at its root.
func (r *Remote) LookupParent(ctx context.Context, cred *fs.Cred, dir fs.Handle) (fs.Handle, *fs.Attr, error) {
	if dir == r.root() {
		return "", nil, fs.E("LOOKUPP", fs.NoEnt, nil)
	}
	fh, err := r.resolve(ctx, dir)
	if err != nil {
		return "", nil, err
	}
	var attr *fs.Attr
	var parentFH nfs4.FH
	start := r.cache.begin()
	ops := []nfs4.Args{putfh(fh), &nfs4.LookuppArgs{}, getfh, getattr}
	err = r.up.Compound(ctx, r.upCred(cred), ops, func(res []nfs4.Res) (err error) {
		parentFH = res[2].(*nfs4.GetfhRes).FH
		attr, err = r.ids.fromFattr(fattrAt(res, 3))
		return err
	})
	if err != nil {
		return "", nil, r.fail("LOOKUPP", err, dir)
	}
	parent, err := r.grant(ctx, parentFH, attr)
	if err != nil {
		return "", nil, err
	}
	r.sawAttr(parent, attr, start)
	return parent, attr, nil
}
