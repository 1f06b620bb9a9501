package nfsdown

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// opCreate makes anything but a regular file: RFC 8881 18.4. The new object becomes current.
func opCreate(ctx context.Context, c *compound, a *nfs4.CreateArgs) (*nfs4.CreateRes, error) {
	if err := checkName(a.Name); err != nil {
		return nil, err
	}
	req := &fs.CreateRequest{Type: fs.FileType(a.Type.Type)}
	switch a.Type.Type {
	case nfs4.NF4DIR, nfs4.NF4SOCK, nfs4.NF4FIFO:
	case nfs4.NF4LNK:
		if a.Type.Link == "" {
			return nil, nfs4.NFS4ERR_INVAL
		}
		req.Target = a.Type.Link
	case nfs4.NF4BLK, nfs4.NF4CHR:
		req.Rdev = fs.Rdev(a.Type.Dev)
	default:
		return nil, nfs4.NFS4ERR_BADTYPE
	}
	if a.Type.Type == nfs4.NF4LNK && a.Attrs.Mask.Has(nfs4.FATTR4_ACL) {
		return nil, nfs4.NFS4ERR_ATTRNOTSUPP
	}
	set, bits, given, err := c.createAttr(ctx, a.Attrs)
	if err != nil {
		return nil, err
	}
	if set.Size != nil {
		return nil, nfs4.NFS4ERR_INVAL
	}
	if c.cur.junction(a.Name) != nil {
		return nil, nfs4.NFS4ERR_EXIST
	}
	req.Attr = set
	h, _, change, err := c.cur.b.Create(ctx, c.cur.cred, c.cur.h, a.Name, req)
	if err != nil {
		return nil, err
	}
	r, err := c.sub(ctx, &c.cur, h)
	if err != nil {
		return nil, err
	}
	if given {
		if err := c.setACL(ctx, &r, a.Attrs.ACL); err != nil {
			// Without its list it is not what was asked for.
			if _, e := c.cur.b.Remove(ctx, c.cur.cred, c.cur.h, a.Name, fs.RemoveAny); e != nil {
				c.s.log.Warn("a new object did not get its ACL, and is still there", "name", a.Name, "err", e)
			}
			return nil, err
		}
		bits.Set(nfs4.FATTR4_ACL)
	}
	c.set(r)
	return &nfs4.CreateRes{Cinfo: cinfo(change), AttrSet: bits}, nil
}
