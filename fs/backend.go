package fs

import "context"

// A Backend answers everything about files. All methods may be called at once from many
// goroutines, may block on disk or network, and end early with Interrupted when ctx ends. Errors
// carry a [Code]. Strings that name entries are bytes: anything but '/' and NUL, 1 to 255 bytes
// (longer: NameTooLong); "." and ".." are BadName.
//
// Optional abilities are interfaces of their own: [Xattrs], [ACLs], [Sparse], [Copier], [Cloner], [Delegator],
// [BulkReclaimer].
type Backend interface {
	Names
	Attrs
	Data
	Locks
	// Subscribe adds a listener; there are a handful (the NFS server, the FUSE layer), added
	// before the first request. The listener must not block and must not call back.
	Subscribe(Listener)
	// Close gives everything back, state upstream included, and ends the backend.
	Close(ctx context.Context) error
}

// Names is the tree.
type Names interface {
	// Root is the handle of the exported directory. It answers from memory; that of a mount may change with its
	// origin.
	Root(ctx context.Context) (Handle, error)
	Lookup(ctx context.Context, cred *Cred, dir Handle, name string) (Handle, *Attr, error)
	// LookupParent gives the parent of a directory; for the root NoEnt.
	LookupParent(ctx context.Context, cred *Cred, dir Handle) (Handle, *Attr, error)
	Readlink(ctx context.Context, cred *Cred, link Handle) (string, error)
	// Create makes anything but a regular file; those are made by Open.
	Create(ctx context.Context, cred *Cred, dir Handle, name string, req *CreateRequest) (Handle, *Attr, ChangeInfo, error)
	// Remove removes an entry of the kind asked for.
	Remove(ctx context.Context, cred *Cred, dir Handle, name string, kind RemoveKind) (ChangeInfo, error)
	Rename(ctx context.Context, cred *Cred, fromDir Handle, from string, toDir Handle, to string) (source, target ChangeInfo, err error)
	Link(ctx context.Context, cred *Cred, file, dir Handle, name string) (ChangeInfo, error)
	// ReadDir calls emit for each entry after cookie, in a stable order, until emit returns false,
	// the directory ends (eof), or the backend has no more at hand (eof false). Cookie 0 is the
	// start; 1 and 2 are never cookies of entries (RFC 8881 18.23). "." and ".." are not emitted.
	// A cookie stays good while the directory changes. wantAttr asks for Attr in the entries.
	ReadDir(ctx context.Context, cred *Cred, dir Handle, cookie uint64, wantAttr bool, emit func(*DirEntry) bool) (eof bool, err error)
}

// CreateRequest says what Create is to make.
type CreateRequest struct {
	Type   FileType // Directory, Symlink, Block, Char, Socket or FIFO
	Target string   // of a symbolic link
	Rdev   Rdev
	Attr   SetAttr // Mode and the rest; Size is Inval
}

// RemoveKind says what Remove may remove.
type RemoveKind uint8

// The kinds of Remove: NFSv4's REMOVE takes any, unlink and rmdir do not.
const (
	RemoveAny RemoveKind = iota
	RemoveFile
	RemoveDir
)

// DirEntry is an entry of a directory. Handle and Attr are set if attributes were asked for and
// could be had; an entry that vanished meanwhile has neither.
type DirEntry struct {
	Cookie uint64
	Name   string
	FileID uint64
	Type   FileType
	Handle Handle
	Attr   *Attr
}

// Attrs is about attributes.
type Attrs interface {
	GetAttr(ctx context.Context, cred *Cred, h Handle) (*Attr, error)
	// SetAttr changes attributes and returns the new ones. io names the open under which Size is
	// changed; zero means by permission alone.
	SetAttr(ctx context.Context, cred *Cred, io IORef, set *SetAttr) (*Attr, error)
	// Access returns which of the wanted bits are granted to cred.
	Access(ctx context.Context, cred *Cred, h Handle, want uint32) (granted uint32, err error)
	FSStat(ctx context.Context, cred *Cred, h Handle) (*FSStat, error)
	FSInfo(ctx context.Context, h Handle) (*FSInfo, error)
}

// IORef says on which file and under which state I/O is done. The zero owners mean the anonymous
// stateid of RFC 8881 8.2.3: no open, permission is checked for each call.
type IORef struct {
	Handle Handle
	Open   Owner // the open-owner
	Lock   Owner // the lock-owner, if the client used a lock stateid
}

// Stability is stable_how4 of RFC 8881 18.32.
type Stability uint32

// How stable a write is, or is to be.
const (
	Unstable Stability = 0
	DataSync Stability = 1
	FileSync Stability = 2
)

// WriteVerifier changes when unstable writes may have been lost, RFC 8881 18.3.
type WriteVerifier [8]byte

// WriteResult is the answer to Write. N may be less than was asked for.
type WriteResult struct {
	N         int
	Committed Stability // at least what was asked for
	Verifier  WriteVerifier
}

// Data is I/O. Offsets are bytes.
type Data interface {
	// Read fills dst from offset off; n < len(dst) only at the end of the file, or if the origin
	// gave less. eof tells that off+n is at or past the end.
	Read(ctx context.Context, cred *Cred, io IORef, off uint64, dst []byte) (n int, eof bool, err error)
	// Write does not keep data after it returned.
	Write(ctx context.Context, cred *Cred, io IORef, off uint64, data []byte, how Stability) (WriteResult, error)
	// Commit makes unstable writes durable (I7); count 0 means to the end of the file.
	Commit(ctx context.Context, cred *Cred, h Handle, off uint64, count uint64) (WriteVerifier, error)
}

// CreateMode is how Open treats a file that is not there, or is: createmode4 of RFC 8881 18.16.
type CreateMode uint8

// The ways to create in Open.
const (
	NoCreate  CreateMode = iota
	Unchecked            // open what is there, or create
	Guarded              // Exist if it is there
	Exclusive            // as Guarded, but the same Verifier again finds its own file
)

// OpenRequest opens a file for an open-owner. A second Open of the same owner and file adds its
// modes to the open (RFC 8881 9.7, "upgrade"). A grant is held, upstream too, until Close.
type OpenRequest struct {
	Owner  Owner
	Access Share // at least one bit
	Deny   Share

	// By name: Dir and Name. By handle (CLAIM_FH, and reclaims): File, and Name empty.
	Dir  Handle
	Name string
	File Handle

	Create   CreateMode
	Attr     SetAttr // of the file that is created; Size 0 truncates one that is there (Unchecked)
	Verifier [8]byte // Exclusive

	// Reclaim says that the owner held this open before a reboot of somebody on the way: OPEN with
	// CLAIM_PREVIOUS. It must reach the origin as a reclaim, or fail; it must never become an
	// ordinary open. Fails with NoGrace, ReclaimBad or ReclaimConflict if it cannot be granted.
	// Only by handle.
	Reclaim bool
}

// OpenResult is the answer to Open.
type OpenResult struct {
	File    Handle
	Attr    *Attr // after the open
	Change  ChangeInfo
	Created bool
	// MayNotify promises that a lock that is denied with Wait will be announced by LockAvailable.
	MayNotify bool
}

// LockRequest asks for a byte-range lock of LockOwner, under the open of OpenOwner.
type LockRequest struct {
	File      Handle
	OpenOwner Owner
	LockOwner Owner
	Range     Range
	Type      LockType
	// Wait says that the caller would wait: a denied request takes a place in the origin's queue
	// where it has one (LOCK with READW_LT or WRITEW_LT, RFC 8881 9.6). The call does not block.
	Wait bool
	// Reclaim says that LockOwner held this before a reboot of somebody on the way. It must reach
	// the origin as a reclaim under a reclaimed open, or fail; never become an ordinary lock.
	Reclaim bool
}

// Locks is opens and byte-range locks.
type Locks interface {
	Open(ctx context.Context, cred *Cred, req *OpenRequest) (*OpenResult, error)
	// Downgrade reduces an open to the modes given, RFC 8881 18.18.
	Downgrade(ctx context.Context, owner Owner, file Handle, access, deny Share) error
	// CloseFile ends the open of (owner, file), and drops the locks taken under it. BadStateid if
	// there is none.
	CloseFile(ctx context.Context, owner Owner, file Handle) error
	// Lock returns nil if the lock is held now, upstream too; *DeniedError if another has it.
	// Grace and Delay mean: later.
	Lock(ctx context.Context, cred *Cred, req *LockRequest) error
	// Unlock gives a range back. Unlocking what is not held is no error.
	Unlock(ctx context.Context, cred *Cred, lockOwner Owner, file Handle, r Range) error
	// TestLock returns *DeniedError if a Lock by that owner would be denied now.
	TestLock(ctx context.Context, cred *Cred, owner Owner, file Handle, r Range, t LockType) error
	// ReleaseLockOwner forgets an owner that holds no lock on file any more (FREE_STATEID).
	ReleaseLockOwner(ctx context.Context, lockOwner Owner, file Handle) error
	// CancelWait takes a denied request with Wait out of the queue.
	CancelWait(owner Owner, file Handle, r Range)

	// ReclaimComplete promises that no reclaim follows; upstream it becomes one RECLAIM_COMPLETE
	// (RFC 8881 18.51), and what was held before a reboot and was not reclaimed is gone. Called
	// again in the same incarnation it does nothing (I5).
	ReclaimComplete(ctx context.Context) error
}

// Listener hears what a Backend learns by itself.
type Listener interface {
	// LockAvailable says that a lock that was denied with Wait may be free now.
	LockAvailable(file Handle, lockOwner Owner, r Range)
	// Changed says that a file was changed by somebody else: its attributes, data or entries in
	// any cache are old.
	Changed(file Handle)
	// Revoked says that state of owner on file was lost or taken away upstream. It is never
	// silently taken again: the holder must be told. locks is nil if the whole open went.
	Revoked(owner Owner, file Handle, locks RangeSet, why error)
}

// A BulkReclaimer takes back much in few round trips.
type BulkReclaimer interface {
	// ReclaimMany asks for all of the list as Open and Lock with Reclaim do, and notes in it what was granted.
	// What was not, for whatever reason, is to be asked for by these, which tell why.
	ReclaimMany(ctx context.Context, list []*BulkReclaim)
}

// A BulkReclaim is an open by handle, and locks under it. Opened and Locked, of the length of Locks, are the
// result; of a lock request only LockOwner, Range and Type count.
type BulkReclaim struct {
	Cred  *Cred
	Open  OpenRequest
	Locks []LockRequest

	Opened bool
	Locked []bool
}

// Xattrs is extended attributes of the user namespace, without the "user." prefix: RFC 8276.
type Xattrs interface {
	GetXattr(ctx context.Context, cred *Cred, h Handle, name string) ([]byte, error)
	SetXattr(ctx context.Context, cred *Cred, h Handle, name string, value []byte, how XattrSet) (ChangeInfo, error)
	ListXattrs(ctx context.Context, cred *Cred, h Handle) ([]string, error)
	RemoveXattr(ctx context.Context, cred *Cred, h Handle, name string) (ChangeInfo, error)
}

// XattrSet is setxattr_option4 of RFC 8276 8.4.2.
type XattrSet uint32

// The ways to set an extended attribute.
const (
	XattrEither  XattrSet = 0
	XattrCreate  XattrSet = 1 // Exist if it is there
	XattrReplace XattrSet = 2 // NoXattr if it is not
)

// Sparse is holes: RFC 7862 15.1, 15.4, 15.11.
type Sparse interface {
	Allocate(ctx context.Context, cred *Cred, io IORef, off, length uint64) error
	Deallocate(ctx context.Context, cred *Cred, io IORef, off, length uint64) error
	// Seek finds the next data (hole false) or hole (true) at or after off. NXIO if off is at or
	// past the end; eof if no data follows.
	Seek(ctx context.Context, cred *Cred, io IORef, off uint64, hole bool) (pos uint64, eof bool, err error)
}

// Copier copies within the backend, without the data coming here: RFC 7862 15.2. length 0 means to
// the end of the source. It may copy less than asked for.
type Copier interface {
	Copy(ctx context.Context, cred *Cred, from, to IORef, fromOff, toOff, length uint64) (WriteResult64, error)
}

// WriteResult64 is WriteResult for copies, which may be larger than an int.
type WriteResult64 struct {
	N         uint64
	Committed Stability
	Verifier  WriteVerifier
}

// Cloner shares blocks: RFC 7862 15.13. All or nothing; NotSupp where the file system cannot.
type Cloner interface {
	Clone(ctx context.Context, cred *Cred, from, to IORef, fromOff, toOff, length uint64) error
}

// Delegator can vouch that a file does not change but through the server, or say when it is about to. What the
// server does itself, for other clients, is not its concern.
type Delegator interface {
	// Delegates tells whether a file could be delegated now, for writing (nobody else may look either) or for
	// reading. It answers from memory.
	Delegates(file Handle, write bool) bool
	// Delegate is asked for one file, which owner has opened for it. A nil error is a promise: before anybody
	// beside the server changes the file, or opens it if write is set, the [Recaller] hears of it and the file is
	// not touched until owner has closed its open, or for long. It holds until that close. With reclaim it is to
	// have held since before this server restarted.
	Delegate(ctx context.Context, owner Owner, file Handle, write, reclaim bool) error
}

// Recaller is a [Listener] that hears when a promise of a [Delegator] is about to end.
type Recaller interface {
	// Recall asks for the delegations of file back; only those for writing if change is false. It must not block.
	Recall(file Handle, change bool)
}
