package local

import (
	"log/slog"

	"holdfast/internal/clock"
)

// Config says what New is to export, and how.
type Config struct {
	// Dir is the exported directory. Mounts below it are not exported: the directories that they
	// cover are seen, as a knfsd export without crossmnt shows them.
	Dir string
	// StateDir holds what must outlive the process: the key of the handles, the epoch of the change
	// attribute, the handle table. Mode 0700 is enough, it is made if it is not there, and it must
	// not be below Dir. It belongs to this export alone: handles of an export whose StateDir is lost
	// are BadHandle.
	StateDir string
	// Async leaves the directories to the operating system: a name that was created, renamed or
	// removed may be lost in a power cut after the client was told of it. False is what NFS asks
	// for. Data is not meant: FileSync, DataSync and Commit are always obeyed.
	Async bool
	// HandleTable forces the handle table that is otherwise used only where the file system cannot
	// open by handle. See table.go for what it can do less.
	HandleTable bool
	// Unprivileged allows to run without the capabilities of root: then everything is done as the
	// user of the daemon, whoever asks, and the handle table is used. Without it New refuses.
	Unprivileged bool
	// MaxFiles bounds the descriptors that are kept open; 0 means half of RLIMIT_NOFILE, which New
	// raises as far as it is allowed to. Half of them may have locks, of any number of owners each.
	MaxFiles int
	// Delegate says what clients may be promised of files: fs.Delegator.
	Delegate DelegatePolicy
	// Logger hears what is worth knowing; nil is slog.Default.
	Logger *slog.Logger
	// Clock drives timers; nil is the clock of the machine.
	Clock clock.Clock
}

// DelegatePolicy says which delegations a directory is good for.
type DelegatePolicy uint8

// The policies.
const (
	DelegateNever     DelegatePolicy = iota
	DelegateLeases                   // for reading, guarded by leases of the kernel against programs of this host
	DelegateExclusive                // also for writing: no program of this host uses the files
)
