package v3

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs3"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

// checkName refuses what cannot name an entry: "." and ".." are not made or removed.
func checkName(n string) error {
	if n == "" {
		return nfs3.ErrAcces // as other servers do; RFC 1813 3.2
	}
	return fs.CheckName(n)
}

// lookup is LOOKUP, RFC 1813 3.3.3. "." and ".." are entries here; ".." of an export's root is that root.
func lookup(ctx context.Context, c *call, a *nfs3.DiropArgs, r *nfs3.LookupRes) error {
	dir, err := c.file(ctx, a.What.Dir)
	if err != nil {
		return err
	}
	da, err := dir.Backend.GetAttr(ctx, dir.Cred, dir.Inner)
	if err != nil {
		return err
	}
	r.DirAttr = fattr(dir, da)
	if da.Type != fs.Directory {
		return nfs3.ErrNotDir
	}
	var f *nfsdown.File
	var at *fs.Attr
	switch name := a.What.Name; name {
	case ".":
		f, at = dir, da
	case "..":
		if f, err = c.parent(ctx, dir); err != nil {
			return err
		}
	default:
		if err := checkName(name); err != nil {
			return err
		}
		if f, at, err = c.Lookup(ctx, dir, name); err != nil {
			return err
		}
	}
	if len(f.Handle) > nfs3.FHSize {
		return nfs3.ErrServerFault
	}
	r.FH = nfs3.FH(f.Handle)
	if at != nil {
		r.Attr = fattr(f, at)
	} else {
		r.Attr = attrs(ctx, f)
	}
	return nil
}

// parent is "..": it does not lead out of an export, as MOUNT gave access to no more.
func (c *call) parent(ctx context.Context, dir *nfsdown.File) (*nfsdown.File, error) {
	up, err := c.Parent(ctx, dir)
	if err != nil {
		return nil, err
	}
	if !up.SameExport(dir) {
		return dir, nil
	}
	return up, nil
}

// readlink is READLINK, RFC 1813 3.3.5.
func readlink(ctx context.Context, c *call, a *nfs3.FHArgs, r *nfs3.ReadlinkRes) error {
	f, err := c.file(ctx, a.FH)
	if err != nil {
		return err
	}
	r.Target, err = f.Backend.Readlink(ctx, f.Cred, f.Inner)
	r.Attr = attrs(ctx, f)
	return err
}

// unlink is REMOVE and RMDIR.
func (c *call) unlink(ctx context.Context, a *nfs3.Dirop, r *nfs3.WccRes, kind fs.RemoveKind) error {
	dir, err := c.writable(ctx, a.Dir)
	if err != nil {
		return err
	}
	w := watch(ctx, dir)
	var ch fs.ChangeInfo
	defer func() { r.Wcc = w.wcc(ctx, ch) }()
	switch {
	case a.Name == "." && kind == fs.RemoveDir:
		return nfs3.ErrInval
	case a.Name == ".." && kind == fs.RemoveDir:
		return nfs3.ErrExist
	}
	if err := checkName(a.Name); err != nil {
		return err
	}
	if dir.OnWay(a.Name) {
		return nfs3.ErrAcces // another export covers it
	}
	done, err := c.touchName(ctx, dir, a.Name)
	if err != nil {
		return err
	}
	defer done()
	ch, err = dir.Backend.Remove(ctx, dir.Cred, dir.Inner, a.Name, kind)
	return err
}

// remove is REMOVE, RFC 1813 3.3.12.
func remove(ctx context.Context, c *call, a *nfs3.DiropArgs, r *nfs3.WccRes) error {
	return c.unlink(ctx, &a.What, r, fs.RemoveFile)
}

// rmdir is RMDIR, RFC 1813 3.3.13.
func rmdir(ctx context.Context, c *call, a *nfs3.DiropArgs, r *nfs3.WccRes) error {
	return c.unlink(ctx, &a.What, r, fs.RemoveDir)
}

// rename is RENAME, RFC 1813 3.3.14.
func rename(ctx context.Context, c *call, a *nfs3.RenameArgs, r *nfs3.RenameRes) error {
	from, err := c.writable(ctx, a.From.Dir)
	if err != nil {
		return err
	}
	to, err := c.writable(ctx, a.To.Dir)
	if err != nil {
		return err
	}
	wf, wt := watch(ctx, from), watch(ctx, to)
	var cf, ct fs.ChangeInfo
	defer func() {
		r.From, r.To = wf.wcc(ctx, cf), wt.wcc(ctx, ct)
	}()
	if err := checkName(a.From.Name); err != nil {
		return err
	}
	if err := checkName(a.To.Name); err != nil {
		return err
	}
	switch {
	case !from.SameExport(to):
		return nfs3.ErrXDev
	case from.OnWay(a.From.Name), to.OnWay(a.To.Name):
		return nfs3.ErrAcces
	}
	done, err := c.touchName(ctx, from, a.From.Name)
	if err != nil {
		return err
	}
	defer done()
	done2, err := c.touchName(ctx, to, a.To.Name)
	if err != nil {
		return err
	}
	defer done2()
	cf, ct, err = from.Backend.Rename(ctx, from.Cred, from.Inner, a.From.Name, to.Inner, a.To.Name)
	return err
}

// link is LINK, RFC 1813 3.3.15.
func link(ctx context.Context, c *call, a *nfs3.LinkArgs, r *nfs3.LinkRes) error {
	f, err := c.writable(ctx, a.File)
	if err != nil {
		return err
	}
	dir, err := c.writable(ctx, a.Link.Dir)
	if err != nil {
		return err
	}
	w := watch(ctx, dir)
	var ch fs.ChangeInfo
	defer func() {
		r.Attr, r.Wcc = attrs(ctx, f), w.wcc(ctx, ch)
	}()
	if err := checkName(a.Link.Name); err != nil {
		return err
	}
	switch {
	case !f.SameExport(dir):
		return nfs3.ErrXDev
	case dir.OnWay(a.Link.Name):
		return nfs3.ErrExist
	}
	done, err := c.touch(ctx, f, state.TouchChange)
	if err != nil {
		return err
	}
	defer done()
	ch, err = dir.Backend.Link(ctx, dir.Cred, f.Inner, dir.Inner, a.Link.Name)
	return err
}
