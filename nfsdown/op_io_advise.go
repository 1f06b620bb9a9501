package nfsdown

import (
	"context"

	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// opIOAdvise takes advice and follows none: RFC 7862 15.5.
func opIOAdvise(ctx context.Context, c *compound, a *nfs4.IOAdviseArgs) (*nfs4.IOAdviseRes, error) {
	if _, err := c.io(ctx, &c.cur, a.Stateid, state.IORead); err != nil {
		return nil, err
	}
	return new(nfs4.IOAdviseRes), nil
}
