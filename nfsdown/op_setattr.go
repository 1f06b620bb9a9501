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
	f := a.Attrs
	acl := f.Mask.Has(nfs4.FATTR4_ACL)
	if acl {
		if err := c.cur.checkACL(ctx); err != nil {
			return nil, err
		}
		f.Mask.Clear(nfs4.FATTR4_ACL)
	}
	set, bits, err := c.setAttr(ctx, &c.cur, &f, false)
	if err != nil {
		return nil, err
	}
	if err := c.touch(ctx, c.cur.handle, state.TouchChange); err != nil {
		return nil, err
	}
	io := fs.IORef{Handle: c.cur.h}
	if set.Size != nil {
		if io, err = c.io(ctx, &c.cur, a.Stateid, state.IOSetSize); err != nil {
			return nil, err
		}
	}
	if !set.IsZero() {
		if _, err := c.cur.b.SetAttr(ctx, c.cur.cred, io, &set); err != nil {
			return nil, err
		}
	}
	if acl { // after the mode, RFC 8881 6.4.1.3
		if err := c.setACL(ctx, &c.cur, f.ACL); err != nil {
			return nil, err
		}
		bits.Set(nfs4.FATTR4_ACL)
	}
	return &nfs4.SetattrRes{AttrsSet: bits}, nil
}
