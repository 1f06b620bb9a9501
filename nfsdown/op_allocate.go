package nfsdown

import (
	"context"
	"math"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// opAllocate reserves space: RFC 7862 15.1.
func opAllocate(ctx context.Context, c *compound, a *nfs4.AllocateArgs) (*nfs4.AllocateRes, error) {
	b, io, err := c.sparse(ctx, a.Stateid, a.Offset, a.Length)
	if err != nil {
		return nil, err
	}
	return new(nfs4.AllocateRes), b.Allocate(ctx, c.cur.cred, io, a.Offset, a.Length)
}

// opDeallocate makes a hole: RFC 7862 15.4.
func opDeallocate(ctx context.Context, c *compound, a *nfs4.DeallocateArgs) (*nfs4.DeallocateRes, error) {
	b, io, err := c.sparse(ctx, a.Stateid, a.Offset, a.Length)
	if err != nil {
		return nil, err
	}
	return new(nfs4.DeallocateRes), b.Deallocate(ctx, c.cur.cred, io, a.Offset, a.Length)
}

// sparse is the checks that both share.
func (c *compound) sparse(ctx context.Context, sid nfs4.Stateid, off, length uint64) (fs.Sparse, fs.IORef, error) {
	io, err := c.io(ctx, &c.cur, sid, state.IOWrite)
	if err != nil {
		return nil, io, err
	}
	b, ok := c.cur.b.(fs.Sparse)
	switch {
	case !ok:
		return nil, io, nfs4.NFS4ERR_NOTSUPP
	case length == 0 || off > math.MaxUint64-length:
		return nil, io, nfs4.NFS4ERR_INVAL
	case off+length > math.MaxInt64:
		return nil, io, nfs4.NFS4ERR_FBIG
	}
	return b, io, nil
}
