package remote

import (
	"context"
	"math"
	"sync"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// fsCaps is what does not change about one of the origin's file systems.
type fsCaps struct {
	info      fs.FSInfo
	supported nfs4.Bitmap
	// aclSupport is aclsupport of RFC 8881 6.2.2.
	aclSupport uint32
	exclcreat  nfs4.Bitmap // what EXCLUSIVE4_1 may set
	expire     uint32      // fh_expire_type
	counter    bool        // each change adds 1 to the change attribute
}

func (c *fsCaps) umask() bool { return c.supported.Has(nfs4.FATTR4_MODE_UMASK) }

// capsTable has the file systems that were met. It is forgotten when the origin restarts (8.4.2).
type capsTable struct {
	mu sync.Mutex
	// +checklocks:mu
	known map[fs.FSID]*fsCaps
}

// maxFS bounds the table; an origin with more mounted file systems is asked again.
const maxFS = 1024

func (t *capsTable) get(id fs.FSID) *fsCaps {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known[id]
}

func (t *capsTable) put(id fs.FSID, c *fsCaps) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil || len(t.known) >= maxFS {
		t.known = make(map[fs.FSID]*fsCaps)
	}
	t.known[id] = c
}

func (t *capsTable) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known = nil
}

var capsWanted = nfs4.Bits(
	nfs4.FATTR4_SUPPORTED_ATTRS, nfs4.FATTR4_FH_EXPIRE_TYPE, nfs4.FATTR4_LINK_SUPPORT, nfs4.FATTR4_SYMLINK_SUPPORT,
	nfs4.FATTR4_FSID, nfs4.FATTR4_CASE_INSENSITIVE, nfs4.FATTR4_CHOWN_RESTRICTED, nfs4.FATTR4_MAXFILESIZE, nfs4.FATTR4_MAXLINK,
	nfs4.FATTR4_MAXNAME, nfs4.FATTR4_MAXREAD, nfs4.FATTR4_MAXWRITE, nfs4.FATTR4_NO_TRUNC, nfs4.FATTR4_TIME_DELTA,
	nfs4.FATTR4_SUPPATTR_EXCLCREAT, nfs4.FATTR4_ACLSUPPORT)

// capsWanted42 are those that not every server knows. They are asked for only where they are supported:
// nfs-ganesha 4 answers INVAL to a question about an attribute that it never heard of.
var capsWanted42 = nfs4.Bits(nfs4.FATTR4_CHANGE_ATTR_TYPE, nfs4.FATTR4_XATTR_SUPPORT)

// capsFor tells about the file system of a file, with a round trip for the first file of each.
func (r *Remote) capsFor(ctx context.Context, h fs.Handle) (*fsCaps, error) {
	if a := r.cache.lastAttr(h); a != nil {
		if c := r.caps.get(a.FSID); c != nil {
			return c, nil
		}
	}
	fh, err := r.resolve(ctx, h)
	if err != nil {
		return nil, err
	}
	var f nfs4.Fattr
	ask := func(want nfs4.Bitmap) error {
		ops := []nfs4.Args{putfh(fh), &nfs4.GetattrArgs{Request: want}}
		return r.up.Compound(ctx, r.id.cred(), ops, func(res []nfs4.Res) error {
			got := fattrAt(res, 1)
			mask := f.Mask.Or(got.Mask)
			if f.Mask.IsZero() {
				f = *got
			} else {
				f.ChangeAttrType, f.XattrSupport = got.ChangeAttrType, got.XattrSupport
			}
			f.Mask = mask
			return nil
		})
	}
	err = ask(capsWanted)
	if more := f.SupportedAttrs.And(capsWanted42); err == nil && !more.IsZero() {
		err = ask(more)
	}
	if err != nil {
		return nil, r.fail("GETATTR", err, h)
	}
	c := capsFrom(&f)
	id := fs.FSID{Major: f.FSID.Major, Minor: f.FSID.Minor}
	upInfo := r.up.Info()
	c.info.MaxRead = transfer(c.info.MaxRead, upInfo.MaxRead)
	c.info.MaxWrite = transfer(c.info.MaxWrite, upInfo.MaxWrite)
	r.caps.put(id, &c)
	return &c, nil
}

// transfer is the size of one READ or WRITE that both the file system and the session take.
func transfer(fsMax uint32, session int) uint32 {
	if session > 0 && uint32(session) < fsMax {
		return uint32(session)
	}
	return fsMax
}

func capsFrom(f *nfs4.Fattr) fsCaps {
	has := f.Mask.Has
	c := fsCaps{
		supported:  f.SupportedAttrs,
		aclSupport: f.ACLSupport,
		exclcreat:  f.SuppattrExclcreat,
		expire:     f.FHExpireType,
		info: fs.FSInfo{
			MaxRead:         1 << 20,
			MaxWrite:        1 << 20,
			MaxFileSize:     math.MaxInt64,
			MaxLink:         32000,
			MaxName:         255,
			TimeDelta:       time.Nanosecond,
			Symlinks:        f.SymlinkSupport,
			Links:           f.LinkSupport,
			CaseInsensitive: f.CaseInsensitive,
			ChownRestricted: f.ChownRestricted || !has(nfs4.FATTR4_CHOWN_RESTRICTED),
			NoTrunc:         f.NoTrunc || !has(nfs4.FATTR4_NO_TRUNC),
			Xattrs:          f.XattrSupport,
		},
	}
	if has(nfs4.FATTR4_MAXREAD) && f.MaxRead > 0 {
		c.info.MaxRead = uint32(min(f.MaxRead, 1<<30))
	}
	if has(nfs4.FATTR4_MAXWRITE) && f.MaxWrite > 0 {
		c.info.MaxWrite = uint32(min(f.MaxWrite, 1<<30))
	}
	if has(nfs4.FATTR4_MAXFILESIZE) && f.MaxFileSize > 0 {
		c.info.MaxFileSize = f.MaxFileSize
	}
	if has(nfs4.FATTR4_MAXLINK) && f.MaxLink > 0 {
		c.info.MaxLink = f.MaxLink
	}
	if has(nfs4.FATTR4_MAXNAME) && f.MaxName > 0 {
		c.info.MaxName = f.MaxName
	}
	if has(nfs4.FATTR4_TIME_DELTA) {
		if d := time.Duration(f.TimeDelta.Sec)*time.Second + time.Duration(f.TimeDelta.Nsec); d > 0 {
			c.info.TimeDelta = d
		}
	}
	if has(nfs4.FATTR4_CHANGE_ATTR_TYPE) {
		switch f.ChangeAttrType {
		case nfs4.NFS4_CHANGE_TYPE_IS_MONOTONIC_INCR, nfs4.NFS4_CHANGE_TYPE_IS_VERSION_COUNTER, nfs4.NFS4_CHANGE_TYPE_IS_VERSION_COUNTER_NOPNFS:
			c.info.Monotonic = true
			c.counter = f.ChangeAttrType != nfs4.NFS4_CHANGE_TYPE_IS_MONOTONIC_INCR
		}
	}
	return c
}

// FSInfo tells what does not change about the file system of h.
func (r *Remote) FSInfo(ctx context.Context, h fs.Handle) (*fs.FSInfo, error) {
	c, err := r.capsFor(ctx, h)
	if err != nil {
		return nil, err
	}
	info := c.info
	return &info, nil
}

var statWanted = nfs4.Bits(
	nfs4.FATTR4_FILES_AVAIL, nfs4.FATTR4_FILES_FREE, nfs4.FATTR4_FILES_TOTAL, nfs4.FATTR4_MAXNAME,
	nfs4.FATTR4_SPACE_AVAIL, nfs4.FATTR4_SPACE_FREE, nfs4.FATTR4_SPACE_TOTAL)

// FSStat tells how full the file system of h is.
func (r *Remote) FSStat(ctx context.Context, cred *fs.Cred, h fs.Handle) (*fs.FSStat, error) {
	fh, err := r.resolve(ctx, h)
	if err != nil {
		return nil, err
	}
	var st fs.FSStat
	ops := []nfs4.Args{putfh(fh), &nfs4.GetattrArgs{Request: statWanted}}
	err = r.up.Compound(ctx, r.upCred(cred), ops, func(res []nfs4.Res) error {
		f := fattrAt(res, 1)
		st = fs.FSStat{
			TotalBytes: f.SpaceTotal, FreeBytes: f.SpaceFree, AvailBytes: f.SpaceAvail,
			TotalFiles: f.FilesTotal, FreeFiles: f.FilesFree, AvailFiles: f.FilesAvail,
			NameMax: f.MaxName,
		}
		return nil
	})
	if err != nil {
		return nil, r.fail("GETATTR", err, h)
	}
	if st.NameMax == 0 {
		st.NameMax = 255
	}
	return &st, nil
}
