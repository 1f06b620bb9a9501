package nfsdown

import (
	"context"

	"holdfast/internal/nfs4"
)

// flavors is what is served: users by AUTH_SYS, and AUTH_NONE as the anonymous user.
var flavors = []nfs4.SecinfoEntry{{Flavor: nfs4.AUTH_SYS}, {Flavor: nfs4.AUTH_NONE}}

// opSecinfo tells the security flavours of an entry, and consumes the current handle: RFC 8881 18.29.
func opSecinfo(ctx context.Context, c *compound, a *nfs4.SecinfoArgs) (*nfs4.SecinfoRes, error) {
	if err := checkName(a.Name); err != nil {
		return nil, err
	}
	if _, _, err := c.lookup(ctx, &c.cur, a.Name); err != nil {
		return nil, err
	}
	if c.minor > 0 {
		c.set(ref{}) // in 4.0 it stays: RFC 7530 16.31
	}
	return &nfs4.SecinfoRes{Flavors: flavors}, nil
}

// opSecinfoNoName is the same for the current directory or its parent: RFC 8881 18.45.
func opSecinfoNoName(ctx context.Context, c *compound, a *nfs4.SecinfoNoNameArgs) (*nfs4.SecinfoNoNameRes, error) {
	switch a.Style {
	case nfs4.SECINFO_STYLE4_CURRENT_FH:
		if _, err := c.cur.b.GetAttr(ctx, c.cur.cred, c.cur.h); err != nil {
			return nil, err
		}
	case nfs4.SECINFO_STYLE4_PARENT:
		if _, err := c.parent(ctx, &c.cur); err != nil {
			return nil, err
		}
	default:
		return nil, nfs4.NFS4ERR_INVAL
	}
	c.set(ref{})
	return &nfs4.SecinfoNoNameRes{Flavors: flavors}, nil
}
