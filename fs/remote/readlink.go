package remote

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// Readlink reads a symbolic link: READLINK, RFC 8881 18.24.
func (r *Remote) Readlink(ctx context.Context, cred *fs.Cred, link fs.Handle) (string, error) {
	fh, err := r.resolve(ctx, link)
	if err != nil {
		return "", err
	}
	if target, ok := r.cache.getLink(link, r.view(ctx)); ok {
		return target, nil
	}
	var attr *fs.Attr
	var target string
	start := r.cache.begin()
	ops := []nfs4.Args{putfh(fh), getattr, &nfs4.ReadlinkArgs{}}
	err = r.up.Compound(ctx, r.upCred(cred), ops, func(res []nfs4.Res) (err error) {
		target = res[2].(*nfs4.ReadlinkRes).Link
		attr, err = r.ids.fromFattr(fattrAt(res, 1))
		return err
	})
	if err != nil {
		return "", r.fail("READLINK", err, link)
	}
	r.sawAttr(link, attr, start)
	r.cache.setLink(link, target, attr.Change)
	return target, nil
}
