package nfsdown

import (
	"context"
	"math"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// opWrite writes data: RFC 8881 18.32. The data lies in the request's record.
func opWrite(ctx context.Context, c *compound, a *nfs4.WriteArgs) (*nfs4.WriteRes, error) {
	io, err := c.io(ctx, &c.cur, a.Stateid, state.IOWrite)
	if err != nil {
		return nil, err
	}
	if uint64(len(a.Data)) > math.MaxInt64-min(a.Offset, math.MaxInt64) {
		return nil, nfs4.NFS4ERR_FBIG
	}
	data := a.Data[:min(len(a.Data), int(c.s.cfg.MaxIO))]
	w, err := c.cur.b.Write(ctx, c.cur.cred, io, a.Offset, data, fs.Stability(a.Stable))
	if err != nil {
		return nil, err
	}
	c.s.stats.of(nfs4.OP_WRITE).in.Add(uint64(w.N))
	return &nfs4.WriteRes{Count: uint32(w.N), Committed: nfs4.StableHow(w.Committed), Verf: nfs4.Verifier(w.Verifier)}, nil
}

// opCommit makes written data durable: RFC 8881 18.3.
func opCommit(ctx context.Context, c *compound, a *nfs4.CommitArgs) (*nfs4.CommitRes, error) {
	if a.Offset > math.MaxUint64-uint64(a.Count) {
		return nil, nfs4.NFS4ERR_INVAL
	}
	if _, err := c.regular(ctx, &c.cur); err != nil {
		return nil, err
	}
	v, err := c.cur.b.Commit(ctx, c.cur.cred, c.cur.h, a.Offset, uint64(a.Count))
	if err != nil {
		return nil, err
	}
	return &nfs4.CommitRes{Verf: nfs4.Verifier(v)}, nil
}
