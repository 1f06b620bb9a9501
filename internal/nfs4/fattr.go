package nfs4

import (
	"errors"
	"fmt"

	"holdfast/internal/xdr"
)

// ErrUnknownAttr says that a mask has an attribute whose layout is not known. What follows the
// attributes could still be decoded, so it is NFS4ERR_ATTRNOTSUPP rather than NFS4ERR_BADXDR.
var ErrUnknownAttr = errors.New("nfs4: unknown attribute")

// A Fattr is fattr4: the attributes named by Mask. A field whose attribute is not in Mask is not
// sent, and is left alone when decoding; set both. Numbers, owners and times are as on the wire: RFC 8881 section 5.
type Fattr struct {
	Mask Bitmap

	SupportedAttrs    Bitmap
	Type              FileType
	FHExpireType      uint32
	Change            uint64
	Size              uint64
	LinkSupport       bool
	SymlinkSupport    bool
	NamedAttr         bool
	FSID              FSID
	UniqueHandles     bool
	LeaseTime         uint32 // seconds
	RdattrError       Status
	ACL               []ACE
	ACLSupport        uint32
	Archive           bool
	CanSetTime        bool
	CaseInsensitive   bool
	CasePreserving    bool
	ChownRestricted   bool
	Filehandle        FH
	FileID            uint64
	FilesAvail        uint64
	FilesFree         uint64
	FilesTotal        uint64
	FSLocations       *FSLocations // decoded: not nil if in Mask
	Hidden            bool
	Homogeneous       bool
	MaxFileSize       uint64
	MaxLink           uint32
	MaxName           uint32
	MaxRead           uint64
	MaxWrite          uint64
	MimeType          string
	Mode              uint32
	NoTrunc           bool
	NumLinks          uint32
	Owner             string
	OwnerGroup        string
	QuotaAvailHard    uint64
	QuotaAvailSoft    uint64
	QuotaUsed         uint64
	RawDev            SpecData
	SpaceAvail        uint64 // bytes, as the next three
	SpaceFree         uint64
	SpaceTotal        uint64
	SpaceUsed         uint64
	System            bool
	TimeAccess        Time
	TimeAccessSet     SetTime
	TimeBackup        Time
	TimeCreate        Time
	TimeDelta         Time
	TimeMetadata      Time
	TimeModify        Time
	TimeModifySet     SetTime
	MountedOnFileID   uint64
	DirNotifDelay     Time
	DirentNotifDelay  Time
	DACL              *ACL41
	SACL              *ACL41
	ChangePolicy      FSID // cp_major, cp_minor
	FSStatus          *FSStatus
	FSLayoutTypes     []uint32
	LayoutHint        *TypedBody
	LayoutTypes       []uint32
	LayoutBlkSize     uint32
	LayoutAlignment   uint32
	FSLocationsInfo   *FSLocationsInfo
	MDSThreshold      []ThresholdItem
	RetentionGet      *RetentionGet
	RetentionSet      *RetentionSet
	RetenteventGet    *RetentionGet
	RetenteventSet    *RetentionSet
	RetentionHold     uint64
	ModeSetMasked     ModeMasked
	SuppattrExclcreat Bitmap
	FSCharsetCap      uint32
	CloneBlkSize      uint32
	SpaceFreed        uint64
	ChangeAttrType    uint32
	SecLabel          *SecLabel
	ModeUmask         ModeUmask
	XattrSupport      bool

	// Draft draft-cel-nfsv4-state-retention, in seconds.
	RetainAbsenceLimit uint32
	RetainReclaimCap   uint32
}

// XDR codes f: its mask, and the attributes in ascending order of their numbers.
func (f *Fattr) XDR(c *xdr.Codec) {
	f.Mask.XDR(c)
	if !c.Decoding() {
		mark := c.Mark()
		var length uint32
		c.Uint32(&length)
		f.values(c)
		c.PatchUint32(mark, uint32(c.Mark()-mark-4))
		return
	}
	var list []byte
	c.Opaque(&list, maxData)
	if c.Err() != nil {
		return
	}
	var sub xdr.Codec
	sub.ResetDecoder(list)
	f.values(&sub)
	if err := sub.Err(); err != nil {
		c.Fail(err)
	} else if sub.Len() != 0 {
		c.Failf("%d bytes after the attributes", sub.Len())
	}
}

// values codes the attributes of the mask. Each is a multiple of four bytes, so the list needs no padding.
func (f *Fattr) values(c *xdr.Codec) {
	for n := range f.Mask.All {
		f.value(c, n)
		if c.Err() != nil {
			return
		}
	}
}

// need makes a pointer field point to something, in both directions.
func need[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

func (f *Fattr) value(c *xdr.Codec, n uint32) {
	switch n {
	case FATTR4_SUPPORTED_ATTRS:
		f.SupportedAttrs.XDR(c)
	case FATTR4_TYPE:
		f.Type.XDR(c)
	case FATTR4_FH_EXPIRE_TYPE:
		c.Uint32(&f.FHExpireType)
	case FATTR4_CHANGE:
		c.Uint64(&f.Change)
	case FATTR4_SIZE:
		c.Uint64(&f.Size)
	case FATTR4_LINK_SUPPORT:
		c.Bool(&f.LinkSupport)
	case FATTR4_SYMLINK_SUPPORT:
		c.Bool(&f.SymlinkSupport)
	case FATTR4_NAMED_ATTR:
		c.Bool(&f.NamedAttr)
	case FATTR4_FSID:
		f.FSID.XDR(c)
	case FATTR4_UNIQUE_HANDLES:
		c.Bool(&f.UniqueHandles)
	case FATTR4_LEASE_TIME:
		c.Uint32(&f.LeaseTime)
	case FATTR4_RDATTR_ERROR:
		f.RdattrError.XDR(c)
	case FATTR4_ACL:
		xdr.List(c, &f.ACL, maxItems)
	case FATTR4_ACLSUPPORT:
		c.Uint32(&f.ACLSupport)
	case FATTR4_ARCHIVE:
		c.Bool(&f.Archive)
	case FATTR4_CANSETTIME:
		c.Bool(&f.CanSetTime)
	case FATTR4_CASE_INSENSITIVE:
		c.Bool(&f.CaseInsensitive)
	case FATTR4_CASE_PRESERVING:
		c.Bool(&f.CasePreserving)
	case FATTR4_CHOWN_RESTRICTED:
		c.Bool(&f.ChownRestricted)
	case FATTR4_FILEHANDLE:
		f.Filehandle.XDR(c)
	case FATTR4_FILEID:
		c.Uint64(&f.FileID)
	case FATTR4_FILES_AVAIL:
		c.Uint64(&f.FilesAvail)
	case FATTR4_FILES_FREE:
		c.Uint64(&f.FilesFree)
	case FATTR4_FILES_TOTAL:
		c.Uint64(&f.FilesTotal)
	case FATTR4_FS_LOCATIONS:
		need(&f.FSLocations).XDR(c)
	case FATTR4_HIDDEN:
		c.Bool(&f.Hidden)
	case FATTR4_HOMOGENEOUS:
		c.Bool(&f.Homogeneous)
	case FATTR4_MAXFILESIZE:
		c.Uint64(&f.MaxFileSize)
	case FATTR4_MAXLINK:
		c.Uint32(&f.MaxLink)
	case FATTR4_MAXNAME:
		c.Uint32(&f.MaxName)
	case FATTR4_MAXREAD:
		c.Uint64(&f.MaxRead)
	case FATTR4_MAXWRITE:
		c.Uint64(&f.MaxWrite)
	case FATTR4_MIMETYPE:
		c.String(&f.MimeType, maxName)
	case FATTR4_MODE:
		c.Uint32(&f.Mode)
	case FATTR4_NO_TRUNC:
		c.Bool(&f.NoTrunc)
	case FATTR4_NUMLINKS:
		c.Uint32(&f.NumLinks)
	case FATTR4_OWNER:
		c.String(&f.Owner, maxName)
	case FATTR4_OWNER_GROUP:
		c.String(&f.OwnerGroup, maxName)
	case FATTR4_QUOTA_AVAIL_HARD:
		c.Uint64(&f.QuotaAvailHard)
	case FATTR4_QUOTA_AVAIL_SOFT:
		c.Uint64(&f.QuotaAvailSoft)
	case FATTR4_QUOTA_USED:
		c.Uint64(&f.QuotaUsed)
	case FATTR4_RAWDEV:
		f.RawDev.XDR(c)
	case FATTR4_SPACE_AVAIL:
		c.Uint64(&f.SpaceAvail)
	case FATTR4_SPACE_FREE:
		c.Uint64(&f.SpaceFree)
	case FATTR4_SPACE_TOTAL:
		c.Uint64(&f.SpaceTotal)
	case FATTR4_SPACE_USED:
		c.Uint64(&f.SpaceUsed)
	case FATTR4_SYSTEM:
		c.Bool(&f.System)
	case FATTR4_TIME_ACCESS:
		f.TimeAccess.XDR(c)
	case FATTR4_TIME_ACCESS_SET:
		f.TimeAccessSet.XDR(c)
	case FATTR4_TIME_BACKUP:
		f.TimeBackup.XDR(c)
	case FATTR4_TIME_CREATE:
		f.TimeCreate.XDR(c)
	case FATTR4_TIME_DELTA:
		f.TimeDelta.XDR(c)
	case FATTR4_TIME_METADATA:
		f.TimeMetadata.XDR(c)
	case FATTR4_TIME_MODIFY:
		f.TimeModify.XDR(c)
	case FATTR4_TIME_MODIFY_SET:
		f.TimeModifySet.XDR(c)
	case FATTR4_MOUNTED_ON_FILEID:
		c.Uint64(&f.MountedOnFileID)
	case FATTR4_DIR_NOTIF_DELAY:
		f.DirNotifDelay.XDR(c)
	case FATTR4_DIRENT_NOTIF_DELAY:
		f.DirentNotifDelay.XDR(c)
	case FATTR4_DACL:
		need(&f.DACL).XDR(c)
	case FATTR4_SACL:
		need(&f.SACL).XDR(c)
	case FATTR4_CHANGE_POLICY:
		f.ChangePolicy.XDR(c)
	case FATTR4_FS_STATUS:
		need(&f.FSStatus).XDR(c)
	case FATTR4_FS_LAYOUT_TYPES:
		xdr.Slice(c, &f.FSLayoutTypes, maxItems, (*xdr.Codec).Uint32)
	case FATTR4_LAYOUT_HINT:
		need(&f.LayoutHint).XDR(c)
	case FATTR4_LAYOUT_TYPES:
		xdr.Slice(c, &f.LayoutTypes, maxItems, (*xdr.Codec).Uint32)
	case FATTR4_LAYOUT_BLKSIZE:
		c.Uint32(&f.LayoutBlkSize)
	case FATTR4_LAYOUT_ALIGNMENT:
		c.Uint32(&f.LayoutAlignment)
	case FATTR4_FS_LOCATIONS_INFO:
		need(&f.FSLocationsInfo).XDR(c)
	case FATTR4_MDSTHRESHOLD:
		xdr.List(c, &f.MDSThreshold, maxItems)
	case FATTR4_RETENTION_GET:
		need(&f.RetentionGet).XDR(c)
	case FATTR4_RETENTION_SET:
		need(&f.RetentionSet).XDR(c)
	case FATTR4_RETENTEVT_GET:
		need(&f.RetenteventGet).XDR(c)
	case FATTR4_RETENTEVT_SET:
		need(&f.RetenteventSet).XDR(c)
	case FATTR4_RETENTION_HOLD:
		c.Uint64(&f.RetentionHold)
	case FATTR4_MODE_SET_MASKED:
		c.Uint32(&f.ModeSetMasked.Value)
		c.Uint32(&f.ModeSetMasked.Mask)
	case FATTR4_SUPPATTR_EXCLCREAT:
		f.SuppattrExclcreat.XDR(c)
	case FATTR4_FS_CHARSET_CAP:
		c.Uint32(&f.FSCharsetCap)
	case FATTR4_CLONE_BLKSIZE:
		c.Uint32(&f.CloneBlkSize)
	case FATTR4_SPACE_FREED:
		c.Uint64(&f.SpaceFreed)
	case FATTR4_CHANGE_ATTR_TYPE:
		c.Uint32(&f.ChangeAttrType)
	case FATTR4_SEC_LABEL:
		need(&f.SecLabel).XDR(c)
	case FATTR4_MODE_UMASK:
		c.Uint32(&f.ModeUmask.Mode)
		c.Uint32(&f.ModeUmask.Umask)
	case FATTR4_XATTR_SUPPORT:
		c.Bool(&f.XattrSupport)
	case FATTR4_RETAIN_ABSENCE_LIMIT:
		c.Uint32(&f.RetainAbsenceLimit)
	case FATTR4_RETAIN_RECLAIM_CAP:
		c.Uint32(&f.RetainReclaimCap)
	default:
		c.Fail(fmt.Errorf("%w %d", ErrUnknownAttr, n))
	}
}
