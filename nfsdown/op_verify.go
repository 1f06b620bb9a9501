package nfsdown

import (
	"bytes"
	"context"

	"holdfast/internal/nfs4"
	"holdfast/internal/xdr"
)

// opVerify goes on only if the attributes are as given: RFC 8881 18.31.
func opVerify(ctx context.Context, c *compound, a *nfs4.VerifyArgs) (*nfs4.VerifyRes, error) {
	same, err := c.same(ctx, &a.Attrs)
	if err == nil && !same {
		err = nfs4.NFS4ERR_NOT_SAME
	}
	return new(nfs4.VerifyRes), err
}

// opNverify goes on only if they are not: RFC 8881 18.15.
func opNverify(ctx context.Context, c *compound, a *nfs4.NverifyArgs) (*nfs4.NverifyRes, error) {
	same, err := c.same(ctx, &a.Attrs)
	if err == nil && same {
		err = nfs4.NFS4ERR_SAME
	}
	return new(nfs4.NverifyRes), err
}

// same compares attributes as they are on the wire.
func (c *compound) same(ctx context.Context, f *nfs4.Fattr) (bool, error) {
	supported, _, err := c.supportedOf(ctx, &c.cur, f.Mask)
	switch {
	case err != nil:
		return false, err
	case !supported.Contains(f.Mask):
		return false, nfs4.NFS4ERR_ATTRNOTSUPP
	case !f.Mask.And(writeOnly).IsZero(), f.Mask.Has(nfs4.FATTR4_RDATTR_ERROR):
		return false, nfs4.NFS4ERR_INVAL
	}
	var have nfs4.Fattr
	if err := c.fill(ctx, &have, f.Mask, &c.cur, nil, new(attrEnv)); err != nil {
		return false, err
	}
	x, y := xdr.NewEncoder(nil), xdr.NewEncoder(nil)
	f.XDR(x)
	have.XDR(y)
	return bytes.Equal(x.Bytes(), y.Bytes()), nil
}
