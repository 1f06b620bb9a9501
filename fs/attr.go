package fs

import "time"

// Attr is what is known of a file. All fields are always valid; see Btime for the exception.
type Attr struct {
	Type     FileType
	Mode     uint32 // permission and set-id bits, 07777
	Nlink    uint32
	UID, GID uint32
	Size     uint64 // bytes
	Used     uint64 // bytes on disk
	Rdev     Rdev
	FSID     FSID
	FileID   uint64
	// MountedOn is the file id of the directory that a mount point covers, else FileID.
	MountedOn uint64
	// Change differs after every change of data, attributes or entries, and never goes back:
	// not within a clock tick, not over a restart. RFC 8881 5.8.1.4.
	Change uint64
	Atime  time.Time
	Mtime  time.Time
	Ctime  time.Time
	Btime  time.Time // zero where the file system has none
}

// Rdev is the device number of a block or character device.
type Rdev struct{ Major, Minor uint32 }

// A TimeSet says what to do with a timestamp.
type TimeSet uint8

// The ways to set a time.
const (
	TimeKeep   TimeSet = iota // leave it
	TimeServer                // to the server's clock, now
	TimeClient                // to the value given
)

// SetAttr is a change of attributes. Nil pointers leave the attribute as it is.
type SetAttr struct {
	Mode     *uint32
	UID, GID *uint32
	Size     *uint64
	AtimeSet TimeSet
	Atime    time.Time
	MtimeSet TimeSet
	Mtime    time.Time
	// Umask, if not nil, is applied to Mode at creation unless the directory has a default ACL:
	// mode_umask of RFC 8275.
	Umask *uint32
}

// IsZero tells that nothing is to be set.
func (s *SetAttr) IsZero() bool {
	return s.Mode == nil && s.UID == nil && s.GID == nil && s.Size == nil && s.AtimeSet == TimeKeep && s.MtimeSet == TimeKeep
}

// ChangeInfo is a directory's change attribute around an operation, RFC 8881 3.3.3. Atomic says
// that nothing else changed the directory between the two.
type ChangeInfo struct {
	Atomic        bool
	Before, After uint64
}

// FSStat is the state of a file system: bytes and inodes, total, free, and free for this user.
type FSStat struct {
	TotalBytes, FreeBytes, AvailBytes uint64
	TotalFiles, FreeFiles, AvailFiles uint64
	NameMax                           uint32
}

// FSInfo is what does not change about a file system.
type FSInfo struct {
	// MaxRead and MaxWrite are the largest transfers, in bytes, that one call can do.
	MaxRead, MaxWrite uint32
	MaxFileSize       uint64
	MaxLink, MaxName  uint32
	TimeDelta         time.Duration // the granularity of timestamps
	Symlinks, Links   bool
	CaseInsensitive   bool
	ChownRestricted   bool
	NoTrunc           bool
	Xattrs            bool
	// Monotonic says that Change never goes back: change_attr_type of RFC 7862 12.2.3.
	Monotonic bool
}

// Permission bits of Access, numbered as RFC 8881 18.1 and RFC 8276 8.5 number them.
const (
	AccessRead    uint32 = 0x01
	AccessLookup  uint32 = 0x02
	AccessModify  uint32 = 0x04
	AccessExtend  uint32 = 0x08
	AccessDelete  uint32 = 0x10
	AccessExecute uint32 = 0x20
	AccessXARead  uint32 = 0x40
	AccessXAWrite uint32 = 0x80
	AccessXAList  uint32 = 0x100
)
