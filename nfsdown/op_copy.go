package nfsdown

import (
	"context"
	"errors"
	"math"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/nfsdown/state"
)

// maxCopy is how many bytes one COPY copies that has to pass through this server; the client goes on from there.
const maxCopy = 64 << 20

// opCopy copies from the saved file to the current one: RFC 7862 15.2. It is always synchronous, which a client
// that allows an asynchronous copy must take too, and within this server only.
func opCopy(ctx context.Context, c *compound, a *nfs4.CopyArgs) (*nfs4.CopyRes, error) {
	if len(a.SourceServers) > 0 {
		return nil, nfs4.NFS4ERR_NOTSUPP
	}
	from, to, err := c.copyRefs(ctx, a.SrcStateid, a.DstStateid)
	if err != nil {
		return nil, err
	}
	src, err := c.regular(ctx, &c.saved)
	if err != nil {
		return nil, err
	}
	length := a.Count
	switch {
	case a.SrcOffset > src.Size:
		return nil, nfs4.NFS4ERR_INVAL
	case length == 0:
		length = src.Size - a.SrcOffset
	case length > src.Size-a.SrcOffset:
		return nil, nfs4.NFS4ERR_INVAL // 15.2.3: past the end of the source
	}
	if a.DstOffset > math.MaxInt64 || length > math.MaxInt64-a.DstOffset {
		return nil, nfs4.NFS4ERR_FBIG
	}
	if c.saved.handle == c.cur.handle && a.SrcOffset < a.DstOffset+length && a.DstOffset < a.SrcOffset+length {
		return nil, nfs4.NFS4ERR_INVAL
	}
	w, err := c.copy(ctx, from, to, a.SrcOffset, a.DstOffset, length)
	if err != nil {
		return nil, err
	}
	return &nfs4.CopyRes{
		Response:    nfs4.WriteResponse{Count: w.N, Committed: nfs4.StableHow(w.Committed), Verf: nfs4.Verifier(w.Verifier)},
		Consecutive: true, Synchronous: true,
	}, nil
}

// copyRefs judges both stateids of COPY and CLONE.
func (c *compound) copyRefs(ctx context.Context, src, dst nfs4.Stateid) (from, to fs.IORef, err error) {
	if src == nfs4.CurrentStateid {
		src = c.savedSid // the source is the saved file
	}
	if from, err = c.io(ctx, &c.saved, src, state.IORead); err != nil {
		return from, to, err
	}
	to, err = c.io(ctx, &c.cur, dst, state.IOWrite)
	return from, to, err
}

// copy copies at the backend, or through this server.
func (c *compound) copy(ctx context.Context, from, to fs.IORef, src, dst, length uint64) (fs.WriteResult64, error) {
	if b, ok := c.cur.b.(fs.Copier); ok && c.saved.x == c.cur.x && length > 0 {
		w, err := b.Copy(ctx, c.cur.cred, from, to, src, dst, length)
		if err == nil || !errors.Is(err, fs.NotSupp) && !errors.Is(err, fs.XDev) {
			return w, err
		}
	}
	buf := rpc.GetBuffer(int(c.s.cfg.MaxIO))
	defer buf.Free()
	out := fs.WriteResult64{Committed: fs.FileSync}
	for out.N < min(length, maxCopy) {
		n, eof, err := c.saved.b.Read(ctx, c.saved.cred, from, src+out.N, buf.B[:min(length-out.N, uint64(len(buf.B)))])
		if err == nil && n > 0 {
			var w fs.WriteResult
			w, err = c.cur.b.Write(ctx, c.cur.cred, to, dst+out.N, buf.B[:n], fs.Unstable)
			if err == nil {
				if out.N > 0 && w.Verifier != out.Verifier {
					// What was written before may be lost: the client must begin again.
					return fs.WriteResult64{}, nfs4.NFS4ERR_DELAY
				}
				out.N += uint64(w.N)
				out.Committed, out.Verifier = min(out.Committed, w.Committed), w.Verifier
			}
		}
		if err != nil {
			if out.N > 0 {
				return out, nil // what was copied is said; the rest will be asked for again, and fail
			}
			return out, err
		}
		if eof || n == 0 {
			break
		}
	}
	if out.N == 0 {
		v, err := c.cur.b.Commit(ctx, c.cur.cred, c.cur.h, 0, 0)
		out.Verifier = v
		return out, err
	}
	return out, nil
}

// opClone makes the current file share blocks with the saved one: RFC 7862 15.13. Count 0 is to the end.
func opClone(ctx context.Context, c *compound, a *nfs4.CloneArgs) (*nfs4.CloneRes, error) {
	from, to, err := c.copyRefs(ctx, a.SrcStateid, a.DstStateid)
	if err != nil {
		return nil, err
	}
	b, ok := c.cur.b.(fs.Cloner)
	switch {
	case c.saved.x != c.cur.x:
		return nil, nfs4.NFS4ERR_XDEV
	case !ok:
		return nil, nfs4.NFS4ERR_NOTSUPP
	case a.SrcOffset > math.MaxUint64-a.Count || a.DstOffset > math.MaxUint64-a.Count:
		return nil, nfs4.NFS4ERR_INVAL
	}
	return new(nfs4.CloneRes), b.Clone(ctx, c.cur.cred, from, to, a.SrcOffset, a.DstOffset, a.Count)
}

// opOffloadStatus and opOffloadCancel: no copy is ever asynchronous, so no stateid stands for one. RFC 7862 15.8, 15.9.
func opOffloadStatus(context.Context, *compound, *nfs4.OffloadStatusArgs) (*nfs4.OffloadStatusRes, error) {
	return nil, nfs4.NFS4ERR_BAD_STATEID
}

func opOffloadCancel(context.Context, *compound, *nfs4.OffloadCancelArgs) (*nfs4.OffloadCancelRes, error) {
	return nil, nfs4.NFS4ERR_BAD_STATEID
}
