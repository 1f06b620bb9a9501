package nfsdown

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// opSeek finds the next data or hole: RFC 7862 15.11.
func opSeek(ctx context.Context, c *compound, a *nfs4.SeekArgs) (*nfs4.SeekRes, error) {
	if a.What > nfs4.NFS4_CONTENT_HOLE {
		return nil, nfs4.NFS4ERR_UNION_NOTSUPP
	}
	io, err := c.io(ctx, &c.cur, a.Stateid, state.IORead)
	if err != nil {
		return nil, err
	}
	b, ok := c.cur.b.(fs.Sparse)
	if !ok {
		return nil, nfs4.NFS4ERR_NOTSUPP
	}
	pos, eof, err := b.Seek(ctx, c.cur.cred, io, a.Offset, a.What == nfs4.NFS4_CONTENT_HOLE)
	if err != nil {
		return nil, err
	}
	return &nfs4.SeekRes{EOF: eof, Offset: pos}, nil
}
