package nfsdown

import (
	"context"
	"math"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// The attributes of RFC 8881 section 5 that are there. ACLs are, where the backend keeps them (acl.go); quotas, layouts, retention and labels are not.
var (
	attrs41 = nfs4.Bits(
		nfs4.FATTR4_SUPPORTED_ATTRS, nfs4.FATTR4_TYPE, nfs4.FATTR4_FH_EXPIRE_TYPE, nfs4.FATTR4_CHANGE, nfs4.FATTR4_SIZE,
		nfs4.FATTR4_LINK_SUPPORT, nfs4.FATTR4_SYMLINK_SUPPORT, nfs4.FATTR4_NAMED_ATTR, nfs4.FATTR4_FSID,
		nfs4.FATTR4_UNIQUE_HANDLES, nfs4.FATTR4_LEASE_TIME, nfs4.FATTR4_RDATTR_ERROR, nfs4.FATTR4_CANSETTIME,
		nfs4.FATTR4_CASE_INSENSITIVE, nfs4.FATTR4_CASE_PRESERVING, nfs4.FATTR4_CHOWN_RESTRICTED, nfs4.FATTR4_FILEHANDLE,
		nfs4.FATTR4_FILEID, nfs4.FATTR4_FILES_AVAIL, nfs4.FATTR4_FILES_FREE, nfs4.FATTR4_FILES_TOTAL,
		nfs4.FATTR4_FS_LOCATIONS, nfs4.FATTR4_HOMOGENEOUS, nfs4.FATTR4_MAXFILESIZE, nfs4.FATTR4_MAXLINK,
		nfs4.FATTR4_MAXNAME, nfs4.FATTR4_MAXREAD, nfs4.FATTR4_MAXWRITE, nfs4.FATTR4_MODE, nfs4.FATTR4_NO_TRUNC,
		nfs4.FATTR4_NUMLINKS, nfs4.FATTR4_OWNER, nfs4.FATTR4_OWNER_GROUP, nfs4.FATTR4_RAWDEV, nfs4.FATTR4_SPACE_AVAIL,
		nfs4.FATTR4_SPACE_FREE, nfs4.FATTR4_SPACE_TOTAL, nfs4.FATTR4_SPACE_USED, nfs4.FATTR4_TIME_ACCESS,
		nfs4.FATTR4_TIME_ACCESS_SET, nfs4.FATTR4_TIME_CREATE, nfs4.FATTR4_TIME_DELTA, nfs4.FATTR4_TIME_METADATA,
		nfs4.FATTR4_TIME_MODIFY, nfs4.FATTR4_TIME_MODIFY_SET, nfs4.FATTR4_MOUNTED_ON_FILEID,
		nfs4.FATTR4_SUPPATTR_EXCLCREAT)
	attrs40 = without(attrs41, nfs4.FATTR4_SUPPATTR_EXCLCREAT)
	attrs42 = attrs41.Or(nfs4.Bits(nfs4.FATTR4_CLONE_BLKSIZE, nfs4.FATTR4_CHANGE_ATTR_TYPE, nfs4.FATTR4_MODE_UMASK,
		nfs4.FATTR4_XATTR_SUPPORT))
	attrsRetain = nfs4.Bits(nfs4.FATTR4_RETAIN_ABSENCE_LIMIT, nfs4.FATTR4_RETAIN_RECLAIM_CAP)

	// writeOnly can only be set.
	writeOnly = nfs4.Bits(nfs4.FATTR4_TIME_ACCESS_SET, nfs4.FATTR4_TIME_MODIFY_SET, nfs4.FATTR4_MODE_UMASK)
	// settable are those of SETATTR and of creation; mode_umask is for creation only (RFC 8275).
	settable = nfs4.Bits(nfs4.FATTR4_SIZE, nfs4.FATTR4_MODE, nfs4.FATTR4_OWNER, nfs4.FATTR4_OWNER_GROUP,
		nfs4.FATTR4_TIME_ACCESS_SET, nfs4.FATTR4_TIME_MODIFY_SET)
	// exclcreat are those that EXCLUSIVE4_1 takes: the times may hold the verifier.
	exclcreat = nfs4.Bits(nfs4.FATTR4_SIZE, nfs4.FATTR4_MODE, nfs4.FATTR4_OWNER, nfs4.FATTR4_OWNER_GROUP, nfs4.FATTR4_MODE_UMASK)

	needStat = nfs4.Bits(nfs4.FATTR4_FILES_AVAIL, nfs4.FATTR4_FILES_FREE, nfs4.FATTR4_FILES_TOTAL, nfs4.FATTR4_SPACE_AVAIL,
		nfs4.FATTR4_SPACE_FREE, nfs4.FATTR4_SPACE_TOTAL)
	needInfo = nfs4.Bits(nfs4.FATTR4_LINK_SUPPORT, nfs4.FATTR4_SYMLINK_SUPPORT, nfs4.FATTR4_CASE_INSENSITIVE,
		nfs4.FATTR4_CHOWN_RESTRICTED, nfs4.FATTR4_MAXFILESIZE, nfs4.FATTR4_MAXLINK, nfs4.FATTR4_MAXNAME, nfs4.FATTR4_MAXREAD,
		nfs4.FATTR4_MAXWRITE, nfs4.FATTR4_NO_TRUNC, nfs4.FATTR4_TIME_DELTA, nfs4.FATTR4_XATTR_SUPPORT,
		nfs4.FATTR4_CHANGE_ATTR_TYPE)
)

// without is a set less one attribute.
func without(set nfs4.Bitmap, bit uint32) nfs4.Bitmap {
	set.Clear(bit)
	return set
}

// cloneBlock is clone_blksize in bytes: what copy-on-write file systems want at least.
const cloneBlock = 4096

// supported are the attributes that a file of the ref has in this minor version.
func (c *compound) supported(r *ref) nfs4.Bitmap {
	set := attrs41
	if c.minor == 0 {
		set = attrs40
	}
	if c.minor >= 2 {
		set = attrs42.Or(attrsRetain)
		if _, ok := r.b.(fs.Cloner); !ok {
			set.Clear(nfs4.FATTR4_CLONE_BLKSIZE)
		}
	}
	return set
}

// attrEnv is what attributes of many files of one file system share. It is asked for when it is wanted.
type attrEnv struct {
	stat *fs.FSStat
	info *fs.FSInfo
}

// fill makes f hold the attributes of want that are supported. a may be nil: then it is asked for if wanted.
func (c *compound) fill(ctx context.Context, f *nfs4.Fattr, want nfs4.Bitmap, r *ref, a *fs.Attr, env *attrEnv) error {
	supported, acls, err := c.supportedOf(ctx, r, want)
	if err != nil {
		return err
	}
	want = want.And(supported)
	if r.moved() {
		// Who asks for fs_locations gets what there is; anybody else is told to do so (RFC 8881 11.4.1).
		if !want.Has(nfs4.FATTR4_FS_LOCATIONS) && !want.Has(nfs4.FATTR4_RDATTR_ERROR) {
			return nfs4.NFS4ERR_MOVED
		}
		want = want.And(absentAttrs)
	}
	f.Mask = want
	if a == nil {
		if a, err = r.b.GetAttr(ctx, r.cred, r.h); err != nil {
			return err
		}
	}
	if env.stat == nil && !want.And(needStat).IsZero() {
		st, err := r.b.FSStat(ctx, r.cred, r.h)
		if err != nil {
			return err
		}
		env.stat = st
	}
	if env.info == nil && !want.And(needInfo).IsZero() {
		in, err := r.b.FSInfo(ctx, r.h)
		if err != nil {
			return err
		}
		env.info = in
	}
	if a.Btime.IsZero() {
		f.Mask.Clear(nfs4.FATTR4_TIME_CREATE)
	}
	f.SupportedAttrs = supported
	f.ACLSupport = acls
	if want.Has(nfs4.FATTR4_ACL) {
		if f.ACL, err = c.getACL(ctx, r); err != nil {
			return err
		}
	}
	f.SuppattrExclcreat = exclcreat.And(supported)
	f.Type = nfs4.FileType(a.Type)
	f.FHExpireType = nfs4.FH4_PERSISTENT
	f.Change = a.Change
	f.Size = a.Size
	f.NamedAttr = false
	f.UniqueHandles = true
	f.LeaseTime = uint32(c.s.cfg.State.Lease / time.Second)
	f.RdattrError = nfs4.NFS4_OK
	if r.moved() {
		f.RdattrError = nfs4.NFS4ERR_MOVED
	}
	f.CanSetTime = true
	f.CasePreserving = true
	f.Filehandle = nfs4.FH(r.handle)
	f.FileID = a.FileID
	f.MountedOnFileID = a.MountedOn
	f.FSID = nfs4.FSID(a.FSID)
	if r.x != nil {
		f.FSID = nfs4.FSID(r.x.fsid(a.FSID))
		if r.isRoot() && r.x.node.parent != nil {
			f.MountedOnFileID = r.x.node.id
		}
	}
	f.Homogeneous = true
	f.Mode = a.Mode & 0o7777
	f.NumLinks = a.Nlink
	if want.Has(nfs4.FATTR4_OWNER) {
		f.Owner = c.s.ownerString(a.UID, false)
	}
	if want.Has(nfs4.FATTR4_OWNER_GROUP) {
		f.OwnerGroup = c.s.ownerString(a.GID, true)
	}
	f.RawDev = nfs4.SpecData(a.Rdev)
	f.SpaceUsed = a.Used
	f.TimeAccess = toTime(a.Atime)
	f.TimeCreate = toTime(a.Btime)
	f.TimeMetadata = toTime(a.Ctime)
	f.TimeModify = toTime(a.Mtime)
	f.CloneBlkSize = cloneBlock
	f.RetainAbsenceLimit = uint32(c.s.cfg.State.AbsenceLimit / time.Second)
	f.RetainReclaimCap = uint32(c.s.cfg.State.ReclaimCap / time.Second)
	if want.Has(nfs4.FATTR4_FS_LOCATIONS) {
		f.FSLocations = &nfs4.FSLocations{}
		if r.x != nil {
			f.FSLocations = r.x.locations()
		}
	}
	if st := env.stat; st != nil {
		f.FilesAvail, f.FilesFree, f.FilesTotal = st.AvailFiles, st.FreeFiles, st.TotalFiles
		f.SpaceAvail, f.SpaceFree, f.SpaceTotal = st.AvailBytes, st.FreeBytes, st.TotalBytes
	}
	if in := env.info; in != nil {
		f.LinkSupport, f.SymlinkSupport = in.Links, in.Symlinks
		f.CaseInsensitive = in.CaseInsensitive
		f.ChownRestricted = in.ChownRestricted
		f.NoTrunc = in.NoTrunc
		f.MaxFileSize = in.MaxFileSize
		f.MaxLink = in.MaxLink
		f.MaxName = min(in.MaxName, nameMax)
		f.MaxRead = uint64(min(in.MaxRead, c.s.cfg.MaxIO))
		f.MaxWrite = uint64(min(in.MaxWrite, c.s.cfg.MaxIO))
		f.TimeDelta = nfs4.Time{Sec: int64(in.TimeDelta / time.Second), Nsec: uint32(in.TimeDelta % time.Second)}
		_, able := r.b.(fs.Xattrs)
		f.XattrSupport = in.Xattrs && able
		f.ChangeAttrType = nfs4.NFS4_CHANGE_TYPE_IS_UNDEFINED
		if in.Monotonic {
			f.ChangeAttrType = nfs4.NFS4_CHANGE_TYPE_IS_MONOTONIC_INCR
		}
	}
	return nil
}

func toTime(t time.Time) nfs4.Time {
	if t.IsZero() {
		return nfs4.Time{}
	}
	return nfs4.Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

func fromTime(t nfs4.Time) (time.Time, error) {
	if t.Nsec >= 1e9 {
		return time.Time{}, nfs4.NFS4ERR_INVAL
	}
	return time.Unix(t.Sec, int64(t.Nsec)), nil
}

// setAttr understands the attributes that SETATTR or a creation sets. The bitmap is what was understood, which
// is all of it: attrsset if it succeeds.
func (c *compound) setAttr(ctx context.Context, r *ref, f *nfs4.Fattr, creating bool) (fs.SetAttr, nfs4.Bitmap, error) {
	var s fs.SetAttr
	m := f.Mask
	known, _, err := c.supportedOf(ctx, r, m)
	if err != nil {
		return s, nfs4.Bitmap{}, err
	}
	if !known.Contains(m) {
		return s, nfs4.Bitmap{}, nfs4.NFS4ERR_ATTRNOTSUPP
	}
	allowed := settable
	if creating {
		allowed.Set(nfs4.FATTR4_MODE_UMASK)
	}
	if !allowed.Contains(m) || m.Has(nfs4.FATTR4_MODE) && m.Has(nfs4.FATTR4_MODE_UMASK) {
		return s, nfs4.Bitmap{}, nfs4.NFS4ERR_INVAL
	}
	if m.Has(nfs4.FATTR4_SIZE) {
		if f.Size > math.MaxInt64 {
			return s, nfs4.Bitmap{}, nfs4.NFS4ERR_FBIG
		}
		s.Size = &f.Size
	}
	if m.Has(nfs4.FATTR4_MODE) {
		if f.Mode&^0o7777 != 0 {
			return s, nfs4.Bitmap{}, nfs4.NFS4ERR_INVAL
		}
		s.Mode = &f.Mode
	}
	if m.Has(nfs4.FATTR4_MODE_UMASK) {
		if f.ModeUmask.Mode&^0o7777 != 0 || f.ModeUmask.Umask&^0o777 != 0 {
			return s, nfs4.Bitmap{}, nfs4.NFS4ERR_INVAL
		}
		s.Mode, s.Umask = &f.ModeUmask.Mode, &f.ModeUmask.Umask
	}
	for _, o := range []struct {
		bit   uint32
		value string
		to    **uint32
		group bool
	}{{nfs4.FATTR4_OWNER, f.Owner, &s.UID, false}, {nfs4.FATTR4_OWNER_GROUP, f.OwnerGroup, &s.GID, true}} {
		if m.Has(o.bit) {
			id, err := c.s.ownerID(o.value, o.group)
			if err != nil {
				return s, nfs4.Bitmap{}, err
			}
			*o.to = &id
		}
	}
	for _, o := range []struct {
		bit  uint32
		from *nfs4.SetTime
		how  *fs.TimeSet
		to   *time.Time
	}{{nfs4.FATTR4_TIME_ACCESS_SET, &f.TimeAccessSet, &s.AtimeSet, &s.Atime}, {nfs4.FATTR4_TIME_MODIFY_SET, &f.TimeModifySet, &s.MtimeSet, &s.Mtime}} {
		if !m.Has(o.bit) {
			continue
		}
		*o.how = fs.TimeServer
		if o.from.How == nfs4.SET_TO_CLIENT_TIME4 {
			*o.how = fs.TimeClient
			if *o.to, err = fromTime(o.from.Time); err != nil {
				return s, nfs4.Bitmap{}, err
			}
		}
	}
	return s, m, nil
}

func cinfo(c fs.ChangeInfo) nfs4.ChangeInfo { return nfs4.ChangeInfo(c) }
