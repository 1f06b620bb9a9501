package nfsdown

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// opSetattr changes attributes: RFC 8881 18.30. The stateid counts only when the size is set. All is set, or
// nothing is said to be.
func opSetattr(ctx context.Context, c *compound, a *nfs4.SetattrArgs) (*nfs4.SetattrRes, error) {
	set, bits, err := c.setAttr(&c.cur, &a.Attrs, false)
	if err != nil {
		return nil, err
	}
	io := fs.IORef{Handle: c.cur.h}
	if set.Size != nil {
		if io, err = c.io(&c.cur, a.Stateid, state.IOSetSize); err != nil {
			return nil, err
		}
	}
	if set.IsZero() {
		return &nfs4.SetattrRes{}, nil
	}
	if _, err := c.cur.b.SetAttr(ctx, c.cur.cred, io, &set); err != nil {
		return nil, err
	}
	return &nfs4.SetattrRes{AttrsSet: bits}, nil
}
