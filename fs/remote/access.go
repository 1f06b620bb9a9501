package remote

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// accessAll is what is asked for on any question, so that the next one has its answer already.
// The bits of RFC 8276 are asked for only when they are wanted: an older origin may refuse them.
const accessAll = fs.AccessRead | fs.AccessLookup | fs.AccessModify | fs.AccessExtend | fs.AccessDelete | fs.AccessExecute

// Access asks what cred may do: ACCESS, RFC 8881 18.1. The decision is the origin's, for this
// credential, and is kept for it alone.
func (r *Remote) Access(ctx context.Context, cred *fs.Cred, h fs.Handle, want uint32) (uint32, error) {
	fh, err := r.resolve(ctx, h)
	if err != nil {
		return 0, err
	}
	key := credKey(cred)
	if granted, ok := r.cache.access(h, key, want, r.view(ctx)); ok {
		r.cache.counters.accessHits.Add(1)
		return granted, nil
	}
	if r.covered(h, fh, false) {
		if granted, ok := r.cache.exactAccess(h, key, want); ok {
			r.cache.counters.accessHits.Add(1)
			return granted, nil
		}
	}
	r.cache.counters.accessMisses.Add(1)
	asked := accessAll | want
	var granted uint32
	var attr *fs.Attr
	start := r.cache.begin()
	ops := []nfs4.Args{putfh(fh), getattr, &nfs4.AccessArgs{Access: asked}}
	err = r.up.Compound(ctx, r.upCred(cred), ops, func(res []nfs4.Res) (err error) {
		granted = res[2].(*nfs4.AccessRes).Access & asked
		attr, err = r.ids.fromFattr(fattrAt(res, 1))
		return err
	})
	if err != nil {
		return 0, r.fail("ACCESS", err, h)
	}
	r.sawAttr(h, attr, start)
	r.cache.addAccess(h, key, asked, granted, attr.Change)
	return granted & want, nil
}
