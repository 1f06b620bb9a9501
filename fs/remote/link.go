package remote

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// Link makes another name for a file: LINK, RFC 8881 18.9.
func (r *Remote) Link(ctx context.Context, cred *fs.Cred, file, dir fs.Handle, name string) (fs.ChangeInfo, error) {
	var none fs.ChangeInfo
	if err := checkName("LINK", name); err != nil {
		return none, err
	}
	fileFH, err := r.resolve(ctx, file)
	if err != nil {
		return none, err
	}
	dirFH, err := r.resolve(ctx, dir)
	if err != nil {
		return none, err
	}
	done, err := r.localChange(ctx, cred, file, "")
	defer done()
	if err != nil {
		return none, err
	}
	var cinfo nfs4.ChangeInfo
	var dirAttr *fs.Attr
	fileChange := change{handle: file, known: true}
	start := r.cache.beginChange(dir)
	fileChange.start = r.cache.beginChange(file)
	ops := []nfs4.Args{putfh(fileFH), getchange, savefh, putfh(dirFH), &nfs4.LinkArgs{NewName: name}, getattr, restorefh, getattr}
	err = r.up.Compound(ctx, r.upCred(cred), ops, func(res []nfs4.Res) (err error) {
		fileChange.before = fattrAt(res, 1).Change
		cinfo = res[4].(*nfs4.LinkRes).Cinfo
		if dirAttr, err = r.ids.fromFattr(fattrAt(res, 5)); err != nil {
			return err
		}
		fileChange.attr, err = r.ids.fromFattr(fattrAt(res, 7))
		return err
	})
	if err != nil {
		unknown := !refused(err) || errOp(err) > 4
		r.failChange(ctx, dir, unknown)
		r.failChange(ctx, file, unknown)
		return none, r.fail("LINK", err, dir, file)
	}
	r.endDir(ctx, dir, start, cinfo, dirAttr, func(e *names) { e.set(name, file) })
	r.endChange(ctx, &fileChange)
	return changeInfo(cinfo), nil
}
