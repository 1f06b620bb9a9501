package nfsdown

import (
	"context"

	"holdfast/internal/nfs4"
)

// opLookup makes an entry of the current directory current: RFC 8881 18.13. It crosses into exports.
func opLookup(ctx context.Context, c *compound, a *nfs4.LookupArgs) (*nfs4.LookupRes, error) {
	if err := checkName(a.Name); err != nil {
		return nil, err
	}
	r, _, err := c.lookup(ctx, &c.cur, a.Name)
	if err != nil {
		return nil, err
	}
	c.set(r)
	return new(nfs4.LookupRes), nil
}

// opLookupp makes the parent current, out of an export too: RFC 8881 18.14.
func opLookupp(ctx context.Context, c *compound, _ *nfs4.LookuppArgs) (*nfs4.LookuppRes, error) {
	r, err := c.parent(ctx, &c.cur)
	if err != nil {
		return nil, err
	}
	c.set(r)
	return new(nfs4.LookuppRes), nil
}
