package remote

import (
	"context"
	"errors"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

var errAsync = errors.New("the origin copies in the background although it was asked not to")

// Copy copies at the origin: COPY, RFC 7862 15.2, within one server and synchronous.
func (r *Remote) Copy(ctx context.Context, cred *fs.Cred, from, to fs.IORef, fromOff, toOff, length uint64) (fs.WriteResult64, error) {
	var out fs.WriteResult64
	async := false
	err := r.transfer(ctx, cred, from, to, "COPY", func(src, dst nfs4.Stateid) nfs4.Args {
		return &nfs4.CopyArgs{
			SrcStateid: src, DstStateid: dst, SrcOffset: fromOff, DstOffset: toOff, Count: length,
			Consecutive: true, Synchronous: true,
		}
	}, func(x nfs4.Res) {
		w := &x.(*nfs4.CopyRes).Response
		async = w.CallbackID != nil
		out = fs.WriteResult64{N: w.Count, Committed: fs.Stability(w.Committed), Verifier: fs.WriteVerifier(w.Verf)}
	})
	if err == nil && async {
		err = fs.E("COPY", fs.NotSupp, errAsync)
	}
	if err != nil {
		return fs.WriteResult64{}, err
	}
	return out, nil
}

// Clone shares blocks at the origin: CLONE, RFC 7862 15.13.
func (r *Remote) Clone(ctx context.Context, cred *fs.Cred, from, to fs.IORef, fromOff, toOff, length uint64) error {
	return r.transfer(ctx, cred, from, to, "CLONE", func(src, dst nfs4.Stateid) nfs4.Args {
		return &nfs4.CloneArgs{SrcStateid: src, DstStateid: dst, SrcOffset: fromOff, DstOffset: toOff, Count: length}
	}, func(nfs4.Res) {})
}

// transfer is the compound of both: the source is the saved filehandle, the target the current one.
func (r *Remote) transfer(ctx context.Context, cred *fs.Cred, from, to fs.IORef, op string, arg func(src, dst nfs4.Stateid) nfs4.Args, use func(nfs4.Res)) error {
	srcFH, err := r.resolve(ctx, from.Handle)
	if err != nil {
		return err
	}
	dstFH, err := r.resolve(ctx, to.Handle)
	if err != nil {
		return err
	}
	done, err := r.localChange(ctx, cred, to.Handle, "")
	defer done()
	if err != nil {
		return err
	}
	if r.up.Info().MinorVersion < 2 {
		return fs.E(op, fs.NotSupp, nil)
	}
	srcOpen, srcLock := r.ioOwners(from, srcFH)
	ch := change{handle: to.Handle, start: r.cache.beginChange(to.Handle), known: true}
	own := r.beginRewrite(to.Handle, dstFH)
	defer func() { r.endWrite(own, nil, nil, err) }()
	err = r.io(ctx, cred, to, dstFH, func(dst nfs4.Stateid) []nfs4.Args {
		// The source's stateid is read anew too when the request is made again after a recovery. If it is
		// gone, the origin says so.
		src, ok := r.up.IOStateid(srcOpen, srcLock, srcFH)
		if !ok && !from.Open.IsZero() {
			src = nfs4.InvalidStateid
		}
		return []nfs4.Args{putfh(srcFH), savefh, putfh(dstFH), getchange, arg(src, dst), getattr}
	}, func(res []nfs4.Res) (err error) {
		ch.before = fattrAt(res, 3).Change
		use(res[4])
		ch.attr, err = r.ids.fromFattr(fattrAt(res, 5))
		return err
	})
	if err != nil {
		r.failChange(ctx, to.Handle, true)
		return r.fail(op, err, to.Handle)
	}
	r.endChange(ctx, &ch)
	return nil
}
