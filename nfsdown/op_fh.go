package nfsdown

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// opPutrootfh makes the root of the name space current: RFC 8881 18.21.
func opPutrootfh(ctx context.Context, c *compound, _ *nfs4.PutrootfhArgs) (*nfs4.PutrootfhRes, error) {
	r, err := c.enter(ctx, c.tree.root)
	if err != nil {
		return nil, err
	}
	c.set(r)
	return new(nfs4.PutrootfhRes), nil
}

// opPutpubfh is the same: RFC 8881 18.20.
func opPutpubfh(ctx context.Context, c *compound, _ *nfs4.PutpubfhArgs) (*nfs4.PutpubfhRes, error) {
	r, err := c.enter(ctx, c.tree.root)
	if err != nil {
		return nil, err
	}
	c.set(r)
	return new(nfs4.PutpubfhRes), nil
}

// opPutfh makes a handle current: RFC 8881 18.19. Whether there is such a file is seen when it is used.
func opPutfh(ctx context.Context, c *compound, a *nfs4.PutfhArgs) (*nfs4.PutfhRes, error) {
	r, err := c.resolve(ctx, fs.Handle(a.FH))
	if err != nil {
		return nil, err
	}
	c.set(r)
	return new(nfs4.PutfhRes), nil
}

// opGetfh gives the current handle: RFC 8881 18.8.
func opGetfh(_ context.Context, c *compound, _ *nfs4.GetfhArgs) (*nfs4.GetfhRes, error) {
	return &nfs4.GetfhRes{FH: nfs4.FH(c.cur.handle)}, nil
}

// opSavefh keeps the current handle and stateid: RFC 8881 18.29.
func opSavefh(_ context.Context, c *compound, _ *nfs4.SavefhArgs) (*nfs4.SavefhRes, error) {
	c.saved, c.savedSid = c.cur, c.curSid
	return new(nfs4.SavefhRes), nil
}

// opRestorefh makes what was saved current: RFC 8881 18.27.
func opRestorefh(_ context.Context, c *compound, _ *nfs4.RestorefhArgs) (*nfs4.RestorefhRes, error) {
	if !c.saved.ok() {
		return nil, nfs4.NFS4ERR_NOFILEHANDLE
	}
	c.cur, c.curSid = c.saved, c.savedSid
	return new(nfs4.RestorefhRes), nil
}
