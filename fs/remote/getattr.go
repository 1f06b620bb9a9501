package remote

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// GetAttr reads attributes: GETATTR, RFC 8881 18.7.
func (r *Remote) GetAttr(ctx context.Context, cred *fs.Cred, h fs.Handle) (*fs.Attr, error) {
	fh, err := r.resolve(ctx, h)
	if err != nil {
		return nil, err
	}
	if a := r.cache.getAttr(h, r.view(ctx)); a != nil {
		return a, nil
	}
	if a := r.coveredAttr(h, fh); a != nil {
		return a, nil
	}
	return r.askAttr(ctx, cred, h, fh)
}

// askAttr asks the origin, whatever the cache has.
func (r *Remote) askAttr(ctx context.Context, cred *fs.Cred, h fs.Handle, fh nfs4.FH) (*fs.Attr, error) {
	var attr *fs.Attr
	start := r.cache.begin()
	err := r.up.Compound(ctx, r.upCred(cred), []nfs4.Args{putfh(fh), getattr}, func(res []nfs4.Res) (err error) {
		attr, err = r.ids.fromFattr(fattrAt(res, 1))
		return err
	})
	if err != nil {
		return nil, r.fail("GETATTR", err, h)
	}
	if old := r.cache.lastAttr(h); old != nil && (old.FileID != attr.FileID || old.Type != attr.Type) {
		// The origin should have said so itself. What is known stays, so that the handle stays stale.
		return nil, fs.E("GETATTR", fs.Stale, errOtherF)
	}
	r.sawAttr(h, attr, start)
	return attr, nil
}
