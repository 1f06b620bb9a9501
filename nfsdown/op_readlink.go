package nfsdown

import (
	"context"

	"holdfast/internal/nfs4"
)

// opReadlink reads a symbolic link: RFC 8881 18.24.
func opReadlink(ctx context.Context, c *compound, _ *nfs4.ReadlinkArgs) (*nfs4.ReadlinkRes, error) {
	link, err := c.cur.b.Readlink(ctx, c.cur.cred, c.cur.h)
	if err != nil {
		return nil, err
	}
	return &nfs4.ReadlinkRes{Link: link}, nil
}
