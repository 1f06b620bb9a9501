package nfsdown

import (
	"context"

	"holdfast/internal/nfs4"
)

// opTestStateid judges stateids: RFC 8881 18.48.
func opTestStateid(_ context.Context, c *compound, a *nfs4.TestStateidArgs) (*nfs4.TestStateidRes, error) {
	if 4*len(a.Stateids) > c.left()-16 {
		return nil, c.tooBig
	}
	res := &nfs4.TestStateidRes{StatusCodes: make([]nfs4.Status, len(a.Stateids))}
	for i, sid := range a.Stateids {
		res.StatusCodes[i] = c.s.state.TestStateid(c.client, sid)
	}
	return res, nil
}

// opFreeStateid acknowledges the loss of state, or forgets a lock-owner: RFC 8881 18.38.
func opFreeStateid(_ context.Context, c *compound, a *nfs4.FreeStateidArgs) (*nfs4.FreeStateidRes, error) {
	eff, err := c.s.state.FreeStateid(c.client, c.stateid(a.Stateid))
	c.effects(eff)
	if err != nil {
		return nil, err
	}
	return new(nfs4.FreeStateidRes), nil
}
