package fs

// MaxHandle is the longest handle in bytes, NFS4_FHSIZE of RFC 8881 3.1.
const MaxHandle = 128

// A Handle names a file within one Backend for as long as the file exists: over restarts of the
// backend, of its origin, and over renames. It is opaque and comparable, 1 to MaxHandle bytes.
// Handles come from clients too, so a Backend must treat an unknown one as hostile: BadHandle if
// it cannot be one of its own, Stale if the file is gone.
type Handle string

// FSID names a file system within a server, RFC 8881 5.8.1.9.
type FSID struct{ Major, Minor uint64 }

// FileType is the type of a file, numbered as nfs_ftype4 of RFC 8881 3.3.13.
type FileType uint32

// The types of files.
const (
	Regular   FileType = 1
	Directory FileType = 2
	Block     FileType = 3
	Char      FileType = 4
	Symlink   FileType = 5
	Socket    FileType = 6
	FIFO      FileType = 7
)
