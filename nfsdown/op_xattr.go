package nfsdown

import (
	"context"
	"sort"
	"strings"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// xattrs is the backend's extended attributes, and a check of a name: RFC 8276 section 8.
func (c *compound) xattrs(name string) (fs.Xattrs, error) {
	switch {
	case name == "" || strings.Contains(name, "\x00"):
		return nil, nfs4.NFS4ERR_INVAL
	case len(name) > nameMax:
		return nil, nfs4.NFS4ERR_NAMETOOLONG
	}
	b, ok := c.cur.b.(fs.Xattrs)
	if !ok {
		return nil, nfs4.NFS4ERR_NOTSUPP
	}
	return b, nil
}

// opGetxattr reads one: RFC 8276 8.4.1.
func opGetxattr(ctx context.Context, c *compound, a *nfs4.GetxattrArgs) (*nfs4.GetxattrRes, error) {
	b, err := c.xattrs(a.Name)
	if err != nil {
		return nil, err
	}
	v, err := b.GetXattr(ctx, c.cur.cred, c.cur.h, a.Name)
	if err != nil {
		return nil, err
	}
	return &nfs4.GetxattrRes{Value: v}, nil
}

// opSetxattr sets one: RFC 8276 8.4.2.
func opSetxattr(ctx context.Context, c *compound, a *nfs4.SetxattrArgs) (*nfs4.SetxattrRes, error) {
	b, err := c.xattrs(a.Name)
	if err != nil {
		return nil, err
	}
	if a.Option > nfs4.SETXATTR4_REPLACE {
		return nil, nfs4.NFS4ERR_INVAL
	}
	if err := c.touch(ctx, c.cur.handle, state.TouchChange); err != nil {
		return nil, err
	}
	change, err := b.SetXattr(ctx, c.cur.cred, c.cur.h, a.Name, a.Value, fs.XattrSet(a.Option))
	if err != nil {
		return nil, err
	}
	return &nfs4.SetxattrRes{Cinfo: cinfo(change)}, nil
}

// opListxattrs lists the names in order; a cookie is how many came before: RFC 8276 8.4.3.
func opListxattrs(ctx context.Context, c *compound, a *nfs4.ListxattrsArgs) (*nfs4.ListxattrsRes, error) {
	b, err := c.xattrs("any")
	if err != nil {
		return nil, err
	}
	names, err := b.ListXattrs(ctx, c.cur.cred, c.cur.h)
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	if a.Cookie > uint64(len(names)) {
		return nil, nfs4.NFS4ERR_BAD_COOKIE
	}
	res := &nfs4.ListxattrsRes{Cookie: a.Cookie}
	room := min(int(min(a.MaxCount, 1<<30)), c.left()-8) - 8 - 4 - 4 // cookie, length, eof
	for _, n := range names[a.Cookie:] {
		size := 4 + (len(n)+3)&^3
		if size > room {
			if len(res.Names) == 0 {
				return nil, nfs4.NFS4ERR_TOOSMALL
			}
			return res, nil
		}
		room -= size
		res.Names = append(res.Names, n)
		res.Cookie++
	}
	res.EOF = true
	return res, nil
}

// opRemovexattr removes one: RFC 8276 8.4.4.
func opRemovexattr(ctx context.Context, c *compound, a *nfs4.RemovexattrArgs) (*nfs4.RemovexattrRes, error) {
	b, err := c.xattrs(a.Name)
	if err != nil {
		return nil, err
	}
	if err := c.touch(ctx, c.cur.handle, state.TouchChange); err != nil {
		return nil, err
	}
	change, err := b.RemoveXattr(ctx, c.cur.cred, c.cur.h, a.Name)
	if err != nil {
		return nil, err
	}
	return &nfs4.RemovexattrRes{Cinfo: cinfo(change)}, nil
}
