package nfsdown

import (
	"context"

	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// opOpenDowngrade reduces the modes of an open: RFC 8881 18.18. The record shrinks first, as for LOCKU.
func opOpenDowngrade(ctx context.Context, c *compound, a *nfs4.OpenDowngradeArgs) (*nfs4.OpenDowngradeRes, error) {
	access := a.ShareAccess &^ nfs4.OPEN4_SHARE_ACCESS_WANT_DELEG_MASK
	if access == 0 || access > nfs4.OPEN4_SHARE_ACCESS_BOTH || a.ShareDeny > nfs4.OPEN4_SHARE_DENY_BOTH {
		return nil, nfs4.NFS4ERR_INVAL
	}
	p, err := c.s.state.PrepareDowngrade(ctx, c.client, c.stateid(a.OpenStateid), c.cur.handle, share(access), share(a.ShareDeny))
	if err != nil {
		return nil, err
	}
	c.s.written(p.Batch)
	var berr error
	if p.Call != state.CallNone {
		berr = c.cur.b.Downgrade(ctx, p.Owner, c.cur.h, p.Access, p.Deny)
	}
	sid, eff, err := p.Settle(berr)
	c.effects(eff)
	if err != nil {
		return nil, err
	}
	c.curSid = sid
	return &nfs4.OpenDowngradeRes{OpenStateid: sid}, nil
}
