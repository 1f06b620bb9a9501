package nfsdown

import (
	"context"
	"fmt"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/journal"
	"holdfast/nfsdown/state"
)

// opExchangeID makes or finds a client: RFC 8881 18.35.
func opExchangeID(_ context.Context, c *compound, a *nfs4.ExchangeIDArgs) (*nfs4.ExchangeIDRes, error) {
	if c.minor < 2 && a.Flags&nfs4.EXCHGID4_FLAG_SUPP_FENCE_OPS != 0 {
		return nil, nfs4.NFS4ERR_INVAL // RFC 7862 14.1 defines it, for 4.2
	}
	if fs.Reserved(a.Owner.ID) {
		return nil, nfs4.NFS4ERR_INVAL
	}
	res, eff := c.s.state.ExchangeID(a, c.caller())
	c.effects(eff)
	return res, nil
}

// caller is who sends a request that no session vouches for. Groups are left out: some clients change them.
func (c *compound) caller() state.Caller {
	p := "none"
	if c.call.Cred.Flavor == rpc.AUTH_SYS {
		p = fmt.Sprintf("sys:%d:%d", c.cred.UID, c.cred.GID)
	}
	return state.Caller{Principal: p, Addr: c.conn.addr.String()}
}

// opCreateSession makes a session, and confirms the client: RFC 8881 18.36.
func opCreateSession(_ context.Context, c *compound, a *nfs4.CreateSessionArgs) (*nfs4.CreateSessionRes, error) {
	res, ss, eff := c.s.state.CreateSession(a, c.caller())
	// At once: they may interrupt what the last incarnation of the client still runs.
	c.posted = eff.Record(c.s) || c.posted
	c.s.runEffects(eff)
	if res.Status != nfs4.NFS4_OK || ss == nil {
		return res, nil
	}
	c.conn.bind(ss.ID())
	c.s.openChannel(ss, c.minor)
	if res.Flags&nfs4.CREATE_SESSION4_FLAG_CONN_BACK_CHAN != 0 {
		c.s.bindBack(ss, c.minor, c.rpc)
	}
	c.s.event(&journal.Event{Type: "session", Client: ss.Client().Owner(), Result: "created", Text: "from " + c.conn.addr.String()})
	return res, nil
}

// opBindConnToSession adds the connection to a session: RFC 8881 18.34.
func opBindConnToSession(_ context.Context, c *compound, a *nfs4.BindConnToSessionArgs) (*nfs4.BindConnToSessionRes, error) {
	ss, dir, err := c.s.state.BindConn(a.SessionID, a.Dir, a.UseRDMA)
	if err != nil {
		return nil, err
	}
	if dir != nfs4.CDFS4_BACK {
		c.conn.bind(a.SessionID)
	}
	if dir != nfs4.CDFS4_FORE {
		c.s.bindBack(ss, c.minor, c.rpc)
	}
	return &nfs4.BindConnToSessionRes{SessionID: a.SessionID, Dir: dir}, nil
}

// opDestroySession ends a session: RFC 8881 18.37. In a COMPOUND of its own session it is the last.
func opDestroySession(_ context.Context, c *compound, a *nfs4.DestroySessionArgs) (*nfs4.DestroySessionRes, error) {
	if c.req != nil && c.req.Session().ID() == a.SessionID && !c.last {
		return nil, nfs4.NFS4ERR_NOT_ONLY_OP
	}
	eff, err := c.s.state.DestroySession(a.SessionID, c.req, c.conn.bound(a.SessionID))
	c.effects(eff)
	if err != nil {
		return nil, err
	}
	return new(nfs4.DestroySessionRes), nil
}

// opDestroyClientid forgets a client that has nothing: RFC 8881 18.50.
func opDestroyClientid(_ context.Context, c *compound, a *nfs4.DestroyClientidArgs) (*nfs4.DestroyClientidRes, error) {
	eff, err := c.s.state.DestroyClientID(a.ClientID, c.req)
	c.effects(eff)
	if err != nil {
		return nil, err
	}
	return new(nfs4.DestroyClientidRes), nil
}

// opBackchannelCtl changes the callback program and its credentials: RFC 8881 18.33.
func opBackchannelCtl(_ context.Context, c *compound, a *nfs4.BackchannelCtlArgs) (*nfs4.BackchannelCtlRes, error) {
	for _, p := range a.SecParms {
		if p.Flavor == nfs4.RPCSEC_GSS {
			return nil, nfs4.NFS4ERR_NOENT // there is no such context
		}
	}
	c.req.Session().SetCallback(a.Program, a.SecParms)
	return new(nfs4.BackchannelCtlRes), nil
}
