package nfsdown

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// opLockt tells whether a lock would be denied: RFC 8881 18.11.
func opLockt(ctx context.Context, c *compound, a *nfs4.LocktArgs) (*nfs4.LocktRes, error) {
	r, err := fs.MakeRange(a.Offset, a.Length)
	if err != nil {
		return nil, err
	}
	if _, err := c.regular(ctx, &c.cur); err != nil {
		return nil, err
	}
	t := lockType(a.LockType)
	what := state.TouchLook
	if t == fs.WriteLock {
		what = state.TouchChange // under a read delegation a client may have read locks
	}
	if err := c.touch(ctx, c.cur.handle, what); err != nil {
		return nil, err
	}
	if err = c.s.state.TestLock(c.client, a.Owner.Owner, c.cur.handle, r, t); err == nil {
		owner := fs.Owner{Client: c.client.Owner(), Owner: a.Owner.Owner}
		err = c.cur.b.TestLock(ctx, c.cur.cred, owner, c.cur.h, r, t)
	}
	if d, ok := denied(err); ok {
		return &nfs4.LocktRes{Status: nfs4.NFS4ERR_DENIED, Denied: d}, nil
	}
	return new(nfs4.LocktRes), err
}
