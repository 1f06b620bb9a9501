package journal

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"

	"holdfast/internal/clock"
)

// Errors of this package. Others come from the file system.
var (
	ErrClosed   = errors.New("journal: closed")
	ErrReadOnly = errors.New("journal: opened for reading only")
	// ErrTooLarge is about one batch or record; the journal goes on.
	ErrTooLarge = errors.New("journal: batch too large")
)

// An InUseError says that another process has the journal open.
type InUseError struct {
	Dir string
	PID int // 0 if it is not known
}

// A FailedError is what everything returns after a group commit failed.
type FailedError struct {
	Seq uint64 // the group commit that failed
	Err error  // why
}

// A VersionError says that the journal was written by a newer Holdfast.
type VersionError struct {
	Dir   string
	Found uint32
	Known uint32
}

// Options of a journal. The zero value is good.
type Options struct {
	Clock  clock.Clock  // nil: clock.Real
	Logger *slog.Logger // nil: nothing is logged
	// MaxEvents is how many entries of the event log are kept, at least; 0: 100,000.
	MaxEvents int
	// MinFree is how many bytes must be free in the file system for a commit; with less it fails with
	// ENOSPC before anything is half written. 0: 64 MiB; negative: no check.
	MinFree int64
	// BeforeCommit, if not nil, is called before each group commit. An error counts as the commit's
	// own, so that tests can have a full disk or a failing fsync.
	BeforeCommit func(seq uint64) error
}

// A Journal is open. Methods may be called from many goroutines.
type Journal struct{}

var errTODO = errors.New("journal: not there yet")

// Open opens the journal in dir for writing, and makes one if there is none. It finds out whether
// acknowledged records were lost before anything is changed, and begins a new epoch, durably.
//
// Damage is no error: the journal is open with what is left, the Report says so, and
// Snapshot.Complete is false until the grace period has ended. Errors are *InUseError,
// *VersionError, and those of the file system.
func Open(dir string, o Options) (*Journal, *Report, error) { return nil, nil, errTODO }

// OpenReadOnly opens the journal of a stopped or crashed instance, and changes nothing in dir.
// Load and Events work, Commit and Post return ErrReadOnly. It reads all into memory.
func OpenReadOnly(dir string) (*Journal, *Report, error) { return nil, nil, errTODO }

// Verify reads everything in dir, checks every checksum, and changes nothing.
func Verify(dir string) (*Report, error) { return nil, errTODO }

// Restore makes a journal in dir, which must be empty or absent, from what Backup wrote. As there
// may be locks that were granted after the backup, the journal is incomplete until the next grace
// period has ended.
func Restore(dir string, r io.Reader) error { return errTODO }

// Epoch is the boot count: one more at each Open.
func (j *Journal) Epoch() uint32 { return 0 }

// Load returns what is held, as of now. Void records are left out:
//   - clients, opens and locks of an epoch before the last EndGrace;
//   - opens and locks of a client from an epoch before its CompleteEpoch;
//   - opens and locks of a client that is Expired.
func (j *Journal) Load() (*Snapshot, error) { return nil, errTODO }

// Handle looks up a HandleMap; false if there is none.
func (j *Journal) Handle(digest [16]byte) (HandleMap, bool, error) {
	return HandleMap{}, false, errTODO
}

// Commit makes b durable: all of it or nothing, after everything that was given to Commit or Post
// before. It waits for at most ctx; if ctx ends first the outcome is open. Concurrent calls share
// one fsync. ErrTooLarge and errors about b itself leave the journal as it was; a *FailedError is
// the end of it: see Failed. b must not be changed or used again.
func (j *Journal) Commit(ctx context.Context, b *Batch) error { return errTODO }

// Post is Commit without waiting: b becomes durable in order, with the next commit or within 5 ms.
// The error is only about b itself, or says that the journal failed or is closed.
func (j *Journal) Post(b *Batch) error { return errTODO }

// Failed is closed when a group commit has failed. What was in it may or may not survive a restart,
// so nothing may be granted any more. Reading goes on.
func (j *Journal) Failed() <-chan struct{} { return nil }

// Err is nil, or the *FailedError after Failed.
func (j *Journal) Err() error { return nil }

// Events returns the entries from number from on for which filter (nil: all) returns true, oldest
// first, up to the newest at the time of the call. An error ends it.
func (j *Journal) Events(from uint64, filter func(*Event) bool) iter.Seq2[Event, error] { return nil }

// LastEvent is the number of the newest entry, 0 if there was none yet.
func (j *Journal) LastEvent() uint64 { return 0 }

// Follow is Events that waits for more, until ctx ends (with its error) or the journal is closed
// (with ErrClosed).
func (j *Journal) Follow(ctx context.Context, from uint64) iter.Seq2[Event, error] { return nil }

// Compact deletes void records, a chunk at a time. Ending it anywhere is harmless. It returns how
// many it deleted.
func (j *Journal) Compact(ctx context.Context) (int, error) { return 0, errTODO }

// Backup writes all records as of now to w. It does not stop commits.
func (j *Journal) Backup(w io.Writer) error { return errTODO }

// Stats are counts since Open.
type Stats struct {
	Commits uint64 `json:"commits"` // group commits
	Batches uint64 `json:"batches"` // that were in them
	Records uint64 `json:"records"` // live records now, void ones included
	Events  uint64 `json:"events"`  // entries of the event log now
	Seq     uint64 `json:"seq"`     // the last durable group commit
	// CommitNanos is the time spent in group commits, altogether.
	CommitNanos uint64 `json:"commit_ns"`
}

// Stats returns the counts.
func (j *Journal) Stats() Stats { return Stats{} }

// Close makes durable what was posted and ends. A second call does nothing.
func (j *Journal) Close() error { return nil }
