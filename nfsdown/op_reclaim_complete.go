package nfsdown

import (
	"context"

	"holdfast/internal/nfs4"
)

// opReclaimComplete says that the client reclaims nothing more: RFC 8881 18.51. It is durable before the
// answer: what was not reclaimed is void from then on.
func opReclaimComplete(ctx context.Context, c *compound, a *nfs4.ReclaimCompleteArgs) (*nfs4.ReclaimCompleteRes, error) {
	if a.OneFS && !c.cur.ok() {
		return nil, nfs4.NFS4ERR_NOFILEHANDLE
	}
	p, err := c.s.state.PrepareReclaimComplete(c.client, a.OneFS)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return new(nfs4.ReclaimCompleteRes), nil
	}
	eff, err := p.Settle(c.s.commit(ctx, p.Batch))
	c.effects(eff)
	if err != nil {
		return nil, err
	}
	return new(nfs4.ReclaimCompleteRes), nil
}
