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
	done, err := r.localChange(ctx, cred, dir, name)
	defer done()
	if err != nil {
		return none, err
	}
	isDir := nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_TYPE), Type: nfs4.NF4DIR}
	// LOOKUP and GETFH tell whose link count, or end, this is: what is cached of that file is old.
	ops := []nfs4.Args{putfh(dirFH), savefh, &nfs4.LookupArgs{Name: name}, getfh}
	test := -1
	switch kind {
	case fs.RemoveDir:
		test = len(ops)
		ops = append(ops, &nfs4.VerifyArgs{Attrs: isDir})
	case fs.RemoveFile:
		test = len(ops)
		ops = append(ops, &nfs4.NverifyArgs{Attrs: isDir})
	}
	remove := len(ops) + 1
	ops = append(ops, restorefh, &nfs4.RemoveArgs{Name: name}, getattr)

	var victimFH nfs4.FH
	var cinfo nfs4.ChangeInfo
	var dirAttr *fs.Attr
	start := r.cache.beginChange(dir)
	err = r.up.Compound(r.aboutName(ctx, dir, name), r.upCred(cred), ops, func(res []nfs4.Res) (err error) {
		victimFH = res[3].(*nfs4.GetfhRes).FH
		cinfo = res[remove].(*nfs4.RemoveRes).Cinfo
		dirAttr, err = r.ids.fromFattr(fattrAt(res, remove+1))
		return err
	})
	if err != nil {
		r.failChange(ctx, dir, !refused(err) || errOp(err) > remove)
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
	r.endDir(ctx, dir, start, cinfo, dirAttr, func(e *names) { e.set(name, "") })
	victim, _, _ := r.seal.seal(victimFH)
	r.cache.stale(victim)
	r.changedHere(ctx, victim)
	r.unpark(ctx, victim)
	return changeInfo(cinfo), nil
}
