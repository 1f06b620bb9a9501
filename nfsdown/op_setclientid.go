package nfsdown

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// opSetclientid makes or finds a client of NFSv4.0: RFC 7530 16.33.
func opSetclientid(_ context.Context, c *compound, a *nfs4.SetclientidArgs) (*nfs4.SetclientidRes, error) {
	if fs.Reserved(a.Client.ID) {
		return nil, nfs4.NFS4ERR_INVAL
	}
	return c.s.state.SetClientID(a, c.caller()), nil
}

// opSetclientidConfirm confirms it: RFC 7530 16.34. Then it is looked whether it can be called back.
func opSetclientidConfirm(_ context.Context, c *compound, a *nfs4.SetclientidConfirmArgs) (*nfs4.SetclientidConfirmRes, error) {
	cl, eff, err := c.s.state.SetClientIDConfirm(a.ClientID, a.Confirm, c.caller())
	c.s.runEffects(eff)
	if err != nil {
		return nil, err
	}
	c.s.event(&journal.Event{Type: "session", Client: cl.Owner(), Result: "created", Text: "NFSv4.0, from " + c.conn.addr.String()})
	c.s.probe40(cl)
	return new(nfs4.SetclientidConfirmRes), nil
}

// opRenew renews a lease: RFC 7530 16.28.
func opRenew(_ context.Context, c *compound, a *nfs4.RenewArgs) (*nfs4.RenewRes, error) {
	if err := c.byID(a.ClientID); err != nil {
		return nil, err
	}
	return new(nfs4.RenewRes), nil
}
