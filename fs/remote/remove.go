package remote

import (
	"context"
	"errors"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsup"
)

// refused tells that the origin refused the request as a whole: its first failure came before it
// changed anything, and no earlier try can have succeeded.
func refused(err error) bool {
	var s *nfsup.StatusError
	return errors.As(err, &s) && !s.Uncertain
}

// Remove removes an entry: REMOVE, RFC 8881 18.25, which takes any kind. Where a kind is asked for,
// VERIFY or NVERIFY of the type stops the compound before REMOVE. The two are not atomic at the
// origin: an entry that another client replaces between them is removed whatever it is; the window is
// that between two operations of one compound.
func (r *Remote) Remove(ctx context.Context, cred *fs.Cred, dir fs.Handle, name string, kind fs.RemoveKind) (fs.ChangeInfo, error) {
	var none fs.ChangeInfo
	if err := checkName("REMOVE", name); err != nil {
		return none, err
	}
	dirFH, err := r.resolve(ctx, dir)
	if err != nil {
		return none, err
	}
	isDir := nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_TYPE), Type: nfs4.NF4DIR}
	ops := make([]nfs4.Args, 0, 7)
	ops = append(ops, putfh(dirFH))
	test := -1
	if kind != fs.RemoveAny {
		ops = append(ops, savefh, &nfs4.LookupArgs{Name: name})
		test = len(ops)
		if kind == fs.RemoveDir {
			ops = append(ops, &nfs4.VerifyArgs{Attrs: isDir})
		} else {
			ops = append(ops, &nfs4.NverifyArgs{Attrs: isDir})
		}
		ops = append(ops, restorefh)
	}
	remove := len(ops)
	ops = append(ops, &nfs4.RemoveArgs{Name: name}, getattr)

	var cinfo nfs4.ChangeInfo
	var dirAttr *fs.Attr
	start := r.cache.beginChange(dir)
	err = r.up.Compound(ctx, r.upCred(cred), ops, func(res []nfs4.Res) (err error) {
		cinfo = res[remove].(*nfs4.RemoveRes).Cinfo
		dirAttr, err = r.ids.fromFattr(fattrAt(res, remove+1))
		return err
	})
	if err != nil {
		r.cache.failChange(dir, !refused(err) || errOp(err) > remove)
		if errOp(err) == test {
			switch s, _ := nfsup.StatusOf(err); s {
			case nfs4.NFS4ERR_NOT_SAME:
				return none, fs.E("REMOVE", fs.NotDir, nil)
			case nfs4.NFS4ERR_SAME:
				return none, fs.E("REMOVE", fs.IsDir, nil)
			}
		}
		return none, r.fail("REMOVE", err, dir)
	}
	var victim fs.Handle
	r.endDir(dir, start, cinfo, dirAttr, func(names map[string]fs.Handle) {
		victim = names[name]
		names[name] = ""
	})
	if victim != "" {
		r.cache.stale(victim) // its link count, if it has other names
	}
	return changeInfo(cinfo), nil
}
