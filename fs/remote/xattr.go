package remote

import (
	"bytes"
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// noXattrs refuses where the protocol or the file system has no extended attributes.
func (r *Remote) noXattrs(op string) error {
	if r.up.Info().MinorVersion < 2 {
		return fs.E(op, fs.NotSupp, nil)
	}
	return nil
}

// GetXattr reads an extended attribute: GETXATTR, RFC 8276 8.4.1.
func (r *Remote) GetXattr(ctx context.Context, cred *fs.Cred, h fs.Handle, name string) ([]byte, error) {
	fh, err := r.resolve(ctx, h)
	if err != nil {
		return nil, err
	}
	if err := r.noXattrs("GETXATTR"); err != nil {
		return nil, err
	}
	var value []byte
	ops := []nfs4.Args{putfh(fh), &nfs4.GetxattrArgs{Name: name}}
	err = r.up.Compound(ctx, r.upCred(cred), ops, func(res []nfs4.Res) error {
		value = bytes.Clone(res[1].(*nfs4.GetxattrRes).Value)
		return nil
	})
	if err != nil {
		return nil, r.fail("GETXATTR", err, h)
	}
	return value, nil
}

// SetXattr sets an extended attribute: SETXATTR, RFC 8276 8.4.2.
func (r *Remote) SetXattr(ctx context.Context, cred *fs.Cred, h fs.Handle, name string, value []byte, how fs.XattrSet) (fs.ChangeInfo, error) {
	return r.changeXattr(ctx, cred, h, "SETXATTR", &nfs4.SetxattrArgs{Option: uint32(how), Name: name, Value: value})
}

// RemoveXattr removes an extended attribute: REMOVEXATTR, RFC 8276 8.4.4.
func (r *Remote) RemoveXattr(ctx context.Context, cred *fs.Cred, h fs.Handle, name string) (fs.ChangeInfo, error) {
	return r.changeXattr(ctx, cred, h, "REMOVEXATTR", &nfs4.RemovexattrArgs{Name: name})
}

func (r *Remote) changeXattr(ctx context.Context, cred *fs.Cred, h fs.Handle, op string, arg nfs4.Args) (fs.ChangeInfo, error) {
	fh, err := r.resolve(ctx, h)
	if err != nil {
		return fs.ChangeInfo{}, err
	}
	if err := r.noXattrs(op); err != nil {
		return fs.ChangeInfo{}, err
	}
	done, err := r.localChange(ctx, cred, h, "")
	defer done()
	if err != nil {
		return fs.ChangeInfo{}, err
	}
	var cinfo nfs4.ChangeInfo
	// An extended attribute may be an ACL in disguise.
	ch := change{handle: h, start: r.cache.beginChange(h), known: true, resetAccess: true}
	err = r.up.Compound(ctx, r.upCred(cred), []nfs4.Args{putfh(fh), arg, getattr}, func(res []nfs4.Res) (err error) {
		switch x := res[1].(type) {
		case *nfs4.SetxattrRes:
			cinfo = x.Cinfo
		case *nfs4.RemovexattrRes:
			cinfo = x.Cinfo
		}
		ch.attr, err = r.ids.fromFattr(fattrAt(res, 2))
		return err
	})
	if err != nil {
		r.failChange(ctx, h, !refused(err) || errOp(err) > 1)
		return fs.ChangeInfo{}, r.fail(op, err, h)
	}
	ch.atomic, ch.before, ch.after = cinfo.Atomic, cinfo.Before, cinfo.After
	r.endChange(ctx, &ch)
	return changeInfo(cinfo), nil
}

// ListXattrs lists the names of extended attributes: LISTXATTRS, RFC 8276 8.4.3.
func (r *Remote) ListXattrs(ctx context.Context, cred *fs.Cred, h fs.Handle) ([]string, error) {
	fh, err := r.resolve(ctx, h)
	if err != nil {
		return nil, err
	}
	if err := r.noXattrs("LISTXATTRS"); err != nil {
		return nil, err
	}
	var names []string
	var cookie uint64
	for eof := false; !eof; {
		ops := []nfs4.Args{putfh(fh), &nfs4.ListxattrsArgs{Cookie: cookie, MaxCount: 64 << 10}}
		last := cookie
		err = r.up.Compound(ctx, r.upCred(cred), ops, func(res []nfs4.Res) error {
			x := res[1].(*nfs4.ListxattrsRes)
			names = append(names, x.Names...)
			cookie, eof = x.Cookie, x.EOF || len(x.Names) == 0
			return nil
		})
		if err != nil {
			return nil, r.fail("LISTXATTRS", err, h)
		}
		if !eof && cookie == last {
			return nil, fs.E("LISTXATTRS", fs.ServerFault, nil) // it would never end
		}
	}
	return names, nil
}
