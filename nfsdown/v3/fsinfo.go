package v3

import (
	"context"

	"holdfast/internal/nfs3"
)

// fsstat is FSSTAT, RFC 1813 3.3.18.
func fsstat(ctx context.Context, c *call, a *nfs3.FHArgs, r *nfs3.FsstatRes) error {
	f, err := c.file(ctx, a.FH)
	if err != nil {
		return err
	}
	st, err := f.Backend.FSStat(ctx, f.Cred, f.Inner)
	if err != nil {
		return err
	}
	r.Attr = attrs(ctx, f)
	r.Tbytes, r.Fbytes, r.Abytes = st.TotalBytes, st.FreeBytes, st.AvailBytes
	r.Tfiles, r.Ffiles, r.Afiles = st.TotalFiles, st.FreeFiles, st.AvailFiles
	return nil
}

// prefer is how much a client should read or write at once, in bytes, if that is possible; dirPrefer of a directory.
const (
	prefer    = 1 << 20
	dirPrefer = 64 << 10
)

// fsinfo is FSINFO, RFC 1813 3.3.19.
func fsinfo(ctx context.Context, c *call, a *nfs3.FHArgs, r *nfs3.FsinfoRes) error {
	f, err := c.file(ctx, a.FH)
	if err != nil {
		return err
	}
	in, err := f.Backend.FSInfo(ctx, f.Inner)
	if err != nil {
		return err
	}
	if r.Attr = attrs(ctx, f); r.Attr == nil {
		_, err := f.Backend.GetAttr(ctx, f.Cred, f.Inner)
		return err
	}
	r.Rtmax, r.Wtmax = min(in.MaxRead, c.s.maxIO), min(in.MaxWrite, c.s.maxIO)
	r.Rtpref, r.Wtpref, r.Dtpref = min(r.Rtmax, prefer), min(r.Wtmax, prefer), min(c.s.maxIO, dirPrefer)
	r.Rtmult, r.Wtmult = 4096, 4096
	r.MaxFileSize = in.MaxFileSize
	r.TimeDelta = nfs3.Time{Sec: uint32(in.TimeDelta / 1e9), Nsec: uint32(in.TimeDelta % 1e9)}
	r.Properties = nfs3.FSFHomogeneous | nfs3.FSFCanSetTime
	if in.Links {
		r.Properties |= nfs3.FSFLink
	}
	if in.Symlinks {
		r.Properties |= nfs3.FSFSymlink
	}
	return nil
}

// pathconf is PATHCONF, RFC 1813 3.3.20.
func pathconf(ctx context.Context, c *call, a *nfs3.FHArgs, r *nfs3.PathconfRes) error {
	f, err := c.file(ctx, a.FH)
	if err != nil {
		return err
	}
	in, err := f.Backend.FSInfo(ctx, f.Inner)
	if err != nil {
		return err
	}
	r.Attr = attrs(ctx, f)
	r.LinkMax, r.NameMax = in.MaxLink, min(in.MaxName, 255)
	r.NoTrunc, r.ChownRestricted = in.NoTrunc, in.ChownRestricted
	r.CaseInsensitive, r.CasePreserving = in.CaseInsensitive, true
	return nil
}
