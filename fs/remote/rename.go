package remote

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// Rename moves an entry: RENAME, RFC 8881 18.26.
func (r *Remote) Rename(ctx context.Context, cred *fs.Cred, fromDir fs.Handle, from string, toDir fs.Handle, to string) (source, target fs.ChangeInfo, err error) {
	if err := checkName("RENAME", from); err != nil {
		return source, target, err
	}
	if err := checkName("RENAME", to); err != nil {
		return source, target, err
	}
	fromFH, err := r.resolve(ctx, fromDir)
	if err != nil {
		return source, target, err
	}
	toFH, err := r.resolve(ctx, toDir)
	if err != nil {
		return source, target, err
	}
	left, err := r.localChange(ctx, cred, fromDir, from)
	defer left()
	if err != nil {
		return source, target, err
	}
	replaced, err := r.localChange(ctx, cred, toDir, to)
	defer replaced()
	if err != nil {
		return source, target, err
	}
	var res1 nfs4.RenameRes
	var fromAttr, toAttr *fs.Attr
	same := fromDir == toDir
	start := r.cache.beginChange(fromDir)
	if !same {
		r.cache.beginChange(toDir)
	}
	ops := []nfs4.Args{putfh(fromFH), savefh, putfh(toFH), &nfs4.RenameArgs{OldName: from, NewName: to}, getattr, restorefh, getattr}
	err = r.up.Compound(r.aboutName(ctx, fromDir, from), r.upCred(cred), ops, func(res []nfs4.Res) (err error) {
		res1 = *res[3].(*nfs4.RenameRes)
		if toAttr, err = r.ids.fromFattr(fattrAt(res, 4)); err != nil {
			return err
		}
		fromAttr, err = r.ids.fromFattr(fattrAt(res, 6))
		return err
	})
	if err != nil {
		unknown := !refused(err) || errOp(err) > 3
		r.failChange(ctx, fromDir, unknown)
		if !same {
			r.failChange(ctx, toDir, unknown)
		}
		return source, target, r.fail("RENAME", err, fromDir, toDir)
	}
	// The target first: who looks meanwhile may find the file in both places, but never in none.
	var moved, victim fs.Handle
	if !same {
		r.endDir(ctx, toDir, start, res1.TargetCinfo, toAttr, func(e *names) {
			victim, _ = e.was(to)
			e.forget(to)
		})
	}
	r.endDir(ctx, fromDir, start, res1.SourceCinfo, fromAttr, func(e *names) {
		var known bool
		if moved, known = e.was(from); same && from == to {
			return
		}
		e.set(from, "")
		if !same {
			return
		}
		victim, _ = e.was(to)
		if e.forget(to); known {
			e.set(to, moved)
		}
	})
	for _, h := range []fs.Handle{moved, victim} {
		if h != "" {
			// Their ctime or link count. It will look like somebody's change, which is the safe side.
			r.cache.stale(h)
			r.changedHere(ctx, h)
			r.unpark(ctx, h)
		}
	}
	return changeInfo(res1.SourceCinfo), changeInfo(res1.TargetCinfo), nil
}
