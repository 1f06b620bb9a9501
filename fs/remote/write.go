package remote

import (
	"context"
	"errors"
	"math"

	"golang.org/x/sync/errgroup"

	"holdfast/fs"
	"holdfast/internal/crash"
	"holdfast/internal/nfs4"
)

// pointCommit: the origin has unstable writes, and COMMIT is not yet sent.
var pointCommit = crash.Register("remote.commit")

var errUnstable = errors.New("the origin made the write less stable than it was asked to (RFC 8881 18.32.3)")

// Write writes at the origin: WRITE, RFC 8881 18.32. Nothing is kept here: when it returns the origin
// has the data, as stable as Committed says. A transfer that is larger than the origin takes is split,
// and its parts run side by side; then N is the part from the start without a gap and with one verifier.
func (r *Remote) Write(ctx context.Context, cred *fs.Cred, io fs.IORef, off uint64, data []byte, how fs.Stability) (fs.WriteResult, error) {
	fh, err := r.resolve(ctx, io.Handle)
	if err != nil {
		return fs.WriteResult{}, err
	}
	done, err := r.localChange(ctx, cred, io.Handle, "")
	defer done()
	if err != nil {
		return fs.WriteResult{}, err
	}
	size := r.maxTransfer(ctx, io.Handle, true)
	if len(data) <= size {
		return r.writePart(ctx, cred, io, fh, off, data, how)
	}
	parts := make([]fs.WriteResult, (len(data)+size-1)/size)
	errs := make([]error, len(parts))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i := range parts {
		g.Go(func() error {
			from := i * size
			parts[i], errs[i] = r.writePart(ctx, cred, io, fh, off+uint64(from), data[from:min(from+size, len(data))], how)
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs, in order
	if errs[0] != nil {
		return fs.WriteResult{}, errs[0]
	}
	total := parts[0]
	for i := 1; i < len(parts) && errs[i] == nil && parts[i-1].N == size && parts[i].Verifier == total.Verifier; i++ {
		total.N += parts[i].N
		total.Committed = min(total.Committed, parts[i].Committed)
	}
	return total, nil
}

func (r *Remote) writePart(ctx context.Context, cred *fs.Cred, io fs.IORef, fh nfs4.FH, off uint64, data []byte, how fs.Stability) (fs.WriteResult, error) {
	var out fs.WriteResult
	ch := change{handle: io.Handle, start: r.cache.beginChange(io.Handle), known: true}
	own := r.beginWrite(io.Handle, fh, off, len(data))
	err := r.io(ctx, cred, io, fh, func(id nfs4.Stateid) []nfs4.Args {
		return []nfs4.Args{putfh(fh), getchange, &nfs4.WriteArgs{Stateid: id, Offset: off, Stable: nfs4.StableHow(how), Data: data}, getattr}
	}, func(res []nfs4.Res) (err error) {
		x := res[2].(*nfs4.WriteRes)
		if uint64(x.Count) > uint64(len(data)) {
			return nfs4.NFS4ERR_SERVERFAULT
		}
		out = fs.WriteResult{N: int(x.Count), Committed: fs.Stability(x.Committed), Verifier: fs.WriteVerifier(x.Verf)}
		ch.before = fattrAt(res, 1).Change
		ch.attr, err = r.ids.fromFattr(fattrAt(res, 3))
		return err
	})
	if err != nil {
		r.endWrite(own, nil, nil, err)
		r.failChange(ctx, io.Handle, !refused(err) || errOp(err) > 2)
		return fs.WriteResult{}, r.fail("WRITE", err, io.Handle)
	}
	r.endChange(ctx, &ch)
	r.endWrite(own, &written{data[:out.N], out.Committed != fs.FileSync, out.Verifier}, ch.attr, nil)
	if out.Committed == fs.FileSync {
		r.settleWrites(io.Handle)
	}
	if out.Committed < how {
		return fs.WriteResult{}, fs.E("WRITE", fs.ServerFault, errUnstable)
	}
	if out.N == 0 && len(data) > 0 {
		return fs.WriteResult{}, fs.E("WRITE", fs.IO, errors.New("the origin wrote nothing"))
	}
	return out, nil
}

// Commit makes unstable writes durable at the origin: COMMIT, RFC 8881 18.3. A range that COMMIT cannot
// say becomes one to the end of the file.
func (r *Remote) Commit(ctx context.Context, cred *fs.Cred, h fs.Handle, off, count uint64) (fs.WriteVerifier, error) {
	fh, err := r.resolve(ctx, h)
	if err != nil {
		return fs.WriteVerifier{}, err
	}
	if count > math.MaxUint32 {
		count = 0
	}
	var v fs.WriteVerifier
	ops := []nfs4.Args{putfh(fh), &nfs4.CommitArgs{Offset: off, Count: uint32(count)}}
	pointCommit.Hit()
	loose := r.looseBefore(h)
	err = r.up.Compound(ctx, r.upCred(cred), ops, func(res []nfs4.Res) error {
		v = fs.WriteVerifier(res[1].(*nfs4.CommitRes).Verf)
		return nil
	})
	if err != nil {
		return v, r.fail("COMMIT", err, h)
	}
	if off == 0 && count == 0 { // all of the file
		r.committed(h, loose, v)
	}
	return v, nil
}
