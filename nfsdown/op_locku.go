package nfsdown

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// opLocku gives back a byte range: RFC 8881 18.12. The record shrinks first, then the backend is asked: a
// restart in between must not take again what the client gave back (state.UnlockPlan). Waiters are told after the reply is built.
func opLocku(ctx context.Context, c *compound, a *nfs4.LockuArgs) (*nfs4.LockuRes, error) {
	r, err := fs.MakeRange(a.Offset, a.Length)
	if err != nil {
		return nil, err
	}
	p, err := c.s.state.PrepareUnlock(ctx, c.client, c.stateid(a.LockStateid), c.cur.handle, r)
	if err != nil {
		return nil, err
	}
	c.s.written(p.Batch)
	var berr error
	if p.Call != state.CallNone {
		berr = c.cur.b.Unlock(ctx, c.cur.cred, p.Owner, c.cur.h, p.Range)
	}
	sid, eff, err := p.Settle(berr)
	c.effects(eff)
	if err != nil {
		return nil, err
	}
	c.curSid = sid
	return &nfs4.LockuRes{LockStateid: sid}, nil
}
