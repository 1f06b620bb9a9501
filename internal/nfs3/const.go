package nfs3

import "fmt"

// Programs and versions.
const (
	Program = 100003
	Version = 3

	MountProgram = 100005
	MountV1      = 1
	MountV3      = 3
)

// Procedures of NFS, RFC 1813 3.3.
const (
	ProcNull = iota
	ProcGetattr
	ProcSetattr
	ProcLookup
	ProcAccess
	ProcReadlink
	ProcRead
	ProcWrite
	ProcCreate
	ProcMkdir
	ProcSymlink
	ProcMknod
	ProcRemove
	ProcRmdir
	ProcRename
	ProcLink
	ProcReaddir
	ProcReaddirplus
	ProcFsstat
	ProcFsinfo
	ProcPathconf
	ProcCommit
	NumProcs
)

// ProcNames are the names of the procedures.
var ProcNames = [NumProcs]string{"NULL", "GETATTR", "SETATTR", "LOOKUP", "ACCESS", "READLINK", "READ", "WRITE", "CREATE", "MKDIR", "SYMLINK",
	"MKNOD", "REMOVE", "RMDIR", "RENAME", "LINK", "READDIR", "READDIRPLUS", "FSSTAT", "FSINFO", "PATHCONF", "COMMIT"}

// Procedures of MOUNT, RFC 1813 5.2.
const (
	MountNull = iota
	MountMnt
	MountDump
	MountUmnt
	MountUmntall
	MountExport

	NumMountProcs
)

// MountNames are the names of the procedures of MOUNT.
var MountNames = [NumMountProcs]string{"NULL", "MNT", "DUMP", "UMNT", "UMNTALL", "EXPORT"}

// Sizes in bytes.
const (
	FHSize      = 64 // of a filehandle, at most
	FHSize2     = 32 // of one of MOUNT version 1, always
	MaxPath     = 1024
	MaxMntName  = 255
	maxLinkText = 4096
	maxName     = 4096 // more than any name that is served: the server says NAMETOOLONG
	maxData     = 1<<31 - 1
	maxItems    = 1<<31 - 1
)

// Status is nfsstat3, RFC 1813 2.6.
type Status uint32

// The values of Status.
const (
	OK             Status = 0
	ErrPerm        Status = 1
	ErrNoEnt       Status = 2
	ErrIO          Status = 5
	ErrNXIO        Status = 6
	ErrAcces       Status = 13
	ErrExist       Status = 17
	ErrXDev        Status = 18
	ErrNoDev       Status = 19
	ErrNotDir      Status = 20
	ErrIsDir       Status = 21
	ErrInval       Status = 22
	ErrFBig        Status = 27
	ErrNoSpc       Status = 28
	ErrROFS        Status = 30
	ErrMLink       Status = 31
	ErrNameTooLong Status = 63
	ErrNotEmpty    Status = 66
	ErrDQuot       Status = 69
	ErrStale       Status = 70
	ErrRemote      Status = 71
	ErrBadHandle   Status = 10001
	ErrNotSync     Status = 10002
	ErrBadCookie   Status = 10003
	ErrNotSupp     Status = 10004
	ErrTooSmall    Status = 10005
	ErrServerFault Status = 10006
	ErrBadType     Status = 10007
	ErrJukebox     Status = 10008
)

var statusNames = map[Status]string{OK: "NFS3_OK", ErrPerm: "NFS3ERR_PERM", ErrNoEnt: "NFS3ERR_NOENT", ErrIO: "NFS3ERR_IO", ErrNXIO: "NFS3ERR_NXIO",
	ErrAcces: "NFS3ERR_ACCES", ErrExist: "NFS3ERR_EXIST", ErrXDev: "NFS3ERR_XDEV", ErrNoDev: "NFS3ERR_NODEV", ErrNotDir: "NFS3ERR_NOTDIR",
	ErrIsDir: "NFS3ERR_ISDIR", ErrInval: "NFS3ERR_INVAL", ErrFBig: "NFS3ERR_FBIG", ErrNoSpc: "NFS3ERR_NOSPC", ErrROFS: "NFS3ERR_ROFS",
	ErrMLink: "NFS3ERR_MLINK", ErrNameTooLong: "NFS3ERR_NAMETOOLONG", ErrNotEmpty: "NFS3ERR_NOTEMPTY", ErrDQuot: "NFS3ERR_DQUOT",
	ErrStale: "NFS3ERR_STALE", ErrRemote: "NFS3ERR_REMOTE", ErrBadHandle: "NFS3ERR_BADHANDLE", ErrNotSync: "NFS3ERR_NOT_SYNC",
	ErrBadCookie: "NFS3ERR_BAD_COOKIE", ErrNotSupp: "NFS3ERR_NOTSUPP", ErrTooSmall: "NFS3ERR_TOOSMALL", ErrServerFault: "NFS3ERR_SERVERFAULT",
	ErrBadType: "NFS3ERR_BADTYPE", ErrJukebox: "NFS3ERR_JUKEBOX"}

func (s Status) String() string {
	if n, ok := statusNames[s]; ok {
		return n
	}
	return fmt.Sprintf("nfsstat3(%d)", uint32(s))
}

// Error makes a Status an error.
func (s Status) Error() string { return s.String() }

// File types, ftype3 of RFC 1813 2.5.
const (
	TypeReg  = 1
	TypeDir  = 2
	TypeBlk  = 3
	TypeChr  = 4
	TypeLnk  = 5
	TypeSock = 6
	TypeFifo = 7
)

// The ways to create, createmode3 of RFC 1813 3.3.8.
const (
	Unchecked = 0
	Guarded   = 1
	Exclusive = 2
)

// The ways to set a time, time_how of RFC 1813 2.5.
const (
	DontChange      = 0
	SetToServerTime = 1
	SetToClientTime = 2
)

// Properties of FSINFO, RFC 1813 3.3.19.
const (
	FSFLink        = 0x1
	FSFSymlink     = 0x2
	FSFHomogeneous = 0x8
	FSFCanSetTime  = 0x10
)
