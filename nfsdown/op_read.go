package nfsdown

import (
	"context"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/nfsdown/state"
)

// opRead reads data: RFC 8881 18.22. The data lies in a pooled buffer until the reply is written, and is not copied.
func opRead(ctx context.Context, c *compound, a *nfs4.ReadArgs) (*nfs4.ReadRes, error) {
	io, err := c.io(ctx, &c.cur, a.Stateid, state.IORead)
	if err != nil {
		return nil, err
	}
	buf := c.buffer(min(a.Count, c.s.cfg.MaxIO))
	n, eof, err := c.cur.b.Read(ctx, c.cur.cred, io, a.Offset, buf.B)
	if err != nil {
		return nil, err
	}
	c.s.stats.of(nfs4.OP_READ).out.Add(uint64(n))
	return &nfs4.ReadRes{EOF: eof, Data: buf.B[:n]}, nil
}

// buffer is a buffer that lives until the reply is written.
func (c *compound) buffer(n uint32) *rpc.Buffer {
	buf := rpc.GetBuffer(int(n))
	c.call.Release(buf.Free)
	return buf
}
