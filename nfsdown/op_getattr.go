package nfsdown

import (
	"context"

	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// opGetattr reads attributes: RFC 8881 18.7. What is not supported is left out; asking for one that can
// only be set is INVAL.
func opGetattr(ctx context.Context, c *compound, a *nfs4.GetattrArgs) (*nfs4.GetattrRes, error) {
	if !a.Request.And(writeOnly).IsZero() {
		return nil, nfs4.NFS4ERR_INVAL
	}
	want := a.Request
	want.Clear(nfs4.FATTR4_RDATTR_ERROR) // of READDIR only
	if !want.And(touchedAttrs).IsZero() {
		if err := c.touch(ctx, c.cur.handle, state.TouchLook); err != nil {
			return nil, err
		}
	}
	res := new(nfs4.GetattrRes)
	if err := c.fill(ctx, &res.Attrs, want, &c.cur, nil, new(attrEnv)); err != nil {
		return nil, err
	}
	return res, nil
}
