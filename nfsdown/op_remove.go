package nfsdown

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// opRemove removes an entry of any kind: RFC 8881 18.25. One that an export covers is in use.
func opRemove(ctx context.Context, c *compound, a *nfs4.RemoveArgs) (*nfs4.RemoveRes, error) {
	if err := checkName(a.Name); err != nil {
		return nil, err
	}
	if c.cur.onWay(a.Name) {
		return nil, nfs4.NFS4ERR_FILE_OPEN
	}
	if err := c.touchName(ctx, &c.cur, a.Name); err != nil {
		return nil, err
	}
	change, err := c.cur.b.Remove(ctx, c.cur.cred, c.cur.h, a.Name, fs.RemoveAny)
	if err != nil {
		return nil, err
	}
	return &nfs4.RemoveRes{Cinfo: cinfo(change)}, nil
}

// onWay tells whether the entry of an export's directory is, or leads to, another export.
func (r *ref) onWay(name string) bool { return r.x != nil && r.n != nil && r.n.children[name] != nil }

// opRename moves an entry of the saved directory into the current one: RFC 8881 18.26.
func opRename(ctx context.Context, c *compound, a *nfs4.RenameArgs) (*nfs4.RenameRes, error) {
	if err := checkName(a.OldName); err != nil {
		return nil, err
	}
	if err := checkName(a.NewName); err != nil {
		return nil, err
	}
	switch {
	case c.saved.x != c.cur.x:
		return nil, nfs4.NFS4ERR_XDEV
	case c.saved.onWay(a.OldName), c.cur.onWay(a.NewName):
		return nil, nfs4.NFS4ERR_FILE_OPEN
	}
	if err := c.touchName(ctx, &c.saved, a.OldName); err != nil {
		return nil, err
	}
	if err := c.touchName(ctx, &c.cur, a.NewName); err != nil {
		return nil, err
	}
	source, target, err := c.cur.b.Rename(ctx, c.cur.cred, c.saved.h, a.OldName, c.cur.h, a.NewName)
	if err != nil {
		return nil, err
	}
	return &nfs4.RenameRes{SourceCinfo: cinfo(source), TargetCinfo: cinfo(target)}, nil
}

// opLink gives the saved file another name in the current directory: RFC 8881 18.9.
func opLink(ctx context.Context, c *compound, a *nfs4.LinkArgs) (*nfs4.LinkRes, error) {
	if err := checkName(a.NewName); err != nil {
		return nil, err
	}
	switch {
	case c.saved.x != c.cur.x:
		return nil, nfs4.NFS4ERR_XDEV
	case c.cur.junction(a.NewName) != nil:
		return nil, nfs4.NFS4ERR_EXIST
	}
	if err := c.touch(ctx, c.saved.handle, state.TouchChange); err != nil {
		return nil, err
	}
	change, err := c.cur.b.Link(ctx, c.cur.cred, c.saved.h, c.cur.h, a.NewName)
	if err != nil {
		return nil, err
	}
	return &nfs4.LinkRes{Cinfo: cinfo(change)}, nil
}
