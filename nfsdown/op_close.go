package nfsdown

import (
	"context"

	"holdfast/internal/nfs4"
)

// opClose ends an open, and the locks under it: RFC 8881 18.2.
func opClose(ctx context.Context, c *compound, a *nfs4.CloseArgs) (*nfs4.CloseRes, error) {
	p, err := c.s.state.PrepareClose(ctx, c.client, c.stateid(a.OpenStateid), c.cur.handle)
	if err != nil {
		return nil, err
	}
	c.s.written(p.Batch)
	sid, eff, err := p.Settle(c.cur.b.CloseFile(ctx, p.Owner, c.cur.h))
	c.effects(eff)
	if err != nil {
		return nil, err
	}
	c.curSid = sid
	return &nfs4.CloseRes{OpenStateid: sid}, nil
}
