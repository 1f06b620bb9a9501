package remote

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// Create makes a directory, a symbolic link or a special file: CREATE, RFC 8881 18.4.
func (r *Remote) Create(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string, req *fs.CreateRequest) (fs.Handle, *fs.Attr, fs.ChangeInfo, error) {
	var none fs.ChangeInfo
	if err := checkName("CREATE", name); err != nil {
		return "", nil, none, err
	}
	switch req.Type {
	case fs.Directory, fs.Symlink, fs.Block, fs.Char, fs.Socket, fs.FIFO:
	default:
		return "", nil, none, fs.E("CREATE", fs.BadType, nil)
	}
	if req.Attr.Size != nil {
		return "", nil, none, fs.E("CREATE", fs.Inval, nil)
	}
	dirFH, err := r.resolve(ctx, dir)
	if err != nil {
		return "", nil, none, err
	}
	caps, err := r.capsFor(ctx, dir)
	if err != nil {
		return "", nil, none, err
	}
	ops := []nfs4.Args{putfh(dirFH), savefh, &nfs4.CreateArgs{
		Type: nfs4.CreateType{
			Type: nfs4.FileType(req.Type),
			Link: req.Target,
			Dev:  nfs4.SpecData{Major: req.Rdev.Major, Minor: req.Rdev.Minor},
		},
		Name:  name,
		Attrs: setFattr(&req.Attr, caps.umask()),
	}, getfh, getattr, restorefh, getattr}

	var cinfo nfs4.ChangeInfo
	var childFH nfs4.FH
	var attr, dirAttr *fs.Attr
	start := r.cache.beginChange(dir)
	err = r.up.Compound(ctx, r.upCred(cred), ops, func(res []nfs4.Res) (err error) {
		cinfo = res[2].(*nfs4.CreateRes).Cinfo
		childFH = res[3].(*nfs4.GetfhRes).FH
		if attr, err = r.ids.fromFattr(fattrAt(res, 4)); err != nil {
			return err
		}
		dirAttr, err = r.ids.fromFattr(fattrAt(res, 6))
		return err
	})
	if err != nil {
		r.failChange(ctx, dir, !refused(err) || errOp(err) > 2)
		return "", nil, none, r.fail("CREATE", err, dir)
	}
	child, err := r.grant(ctx, childFH, attr)
	if err != nil {
		r.failChange(ctx, dir, true)
		return "", nil, none, err
	}
	r.endDir(ctx, dir, start, cinfo, dirAttr, func(e *names) { e.set(name, child) })
	r.sawAttr(child, attr, start)
	return child, attr, changeInfo(cinfo), nil
}

// endDir takes in a change of ours to the entries of a directory.
func (r *Remote) endDir(ctx context.Context, dir fs.Handle, start uint64, c nfs4.ChangeInfo, attr *fs.Attr, edit func(*names)) {
	r.endChange(ctx, &change{handle: dir, start: start, known: true, atomic: c.Atomic, before: c.Before, after: c.After, attr: attr, edit: edit})
}
