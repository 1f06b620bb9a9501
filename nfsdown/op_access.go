package nfsdown

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// What ACCESS knows of directories and of other files: RFC 8881 18.1.3, RFC 8276 8.5.
const (
	dirAccess   = fs.AccessRead | fs.AccessLookup | fs.AccessModify | fs.AccessExtend | fs.AccessDelete
	fileAccess  = fs.AccessRead | fs.AccessModify | fs.AccessExtend | fs.AccessExecute
	xattrAccess = fs.AccessXARead | fs.AccessXAWrite | fs.AccessXAList
	allAccess   = dirAccess | fileAccess | xattrAccess
	writeAccess = fs.AccessModify | fs.AccessExtend | fs.AccessDelete | fs.AccessXAWrite
)

// opAccess tells what the user may do: RFC 8881 18.1.
func opAccess(ctx context.Context, c *compound, a *nfs4.AccessArgs) (*nfs4.AccessRes, error) {
	known := uint32(allAccess)
	if _, ok := c.cur.b.(fs.Xattrs); !ok || c.minor < 2 {
		known &^= xattrAccess
	}
	attr, err := c.cur.b.GetAttr(ctx, c.cur.cred, c.cur.h)
	if err != nil {
		return nil, err
	}
	if attr.Type == fs.Directory {
		known &= dirAccess | xattrAccess
	} else {
		known &= fileAccess | xattrAccess
	}
	want := a.Access & known
	granted, err := c.cur.b.Access(ctx, c.cur.cred, c.cur.h, want)
	if err != nil {
		return nil, err
	}
	if c.cur.x != nil && !c.cur.acc.RW {
		granted &^= writeAccess
	}
	return &nfs4.AccessRes{Supported: want, Access: granted & want}, nil
}
