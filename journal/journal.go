package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/crash"
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
	// ENOSPC before anything is half written; looked at ten times a second. 0: 64 MiB; negative: no check.
	MinFree int64
	// BeforeCommit, if not nil, is called before each group commit. An error counts as the commit's
	// own, so that tests can have a full disk or a failing fsync.
	BeforeCommit func(seq uint64) error
}

func (o *Options) setDefaults() {
	if o.Clock == nil {
		o.Clock = clock.Real
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxEvents == 0 {
		o.MaxEvents = 100_000
	}
	if o.MinFree == 0 {
		o.MinFree = 64 << 20
	}
}

// A Journal is open. Methods may be called from many goroutines.
type Journal struct {
	dir   string   // immutable
	o     Options  // immutable
	epoch uint32   // immutable
	store store    // immutable
	lock  *os.File // immutable; nil if it is in memory

	partial string  // immutable: why it is not whole; see Snapshot
	kernel  [8]byte // immutable

	// Of a journal that is open for writing; immutable but for the second.
	disk     disk
	freeSeen time.Time     // used by the committer only: when there was enough space
	kick     chan struct{} // of size 1: there is something to write
	toSync   chan struct{} // of size 1: there is something to sync
	failed   chan struct{} // closed with err
	done     chan struct{} // closed when both stages of the committer have ended

	index map[uint64]uint64 // used by the committer only; see tally

	mu      sync.Mutex
	queue   []*request    // guarded by mu: what is not in a group yet, in order
	written []*written    // guarded by mu: what is in the log and waits for the disk
	posting bool          // guarded by mu: a timer for posted batches is running
	closing bool          // guarded by mu
	err     *FailedError  // guarded by mu
	head    head          // guarded by mu: of the last durable group
	stats   Stats         // guarded by mu
	news    chan struct{} // guarded by mu: closed and replaced when there are new events
	closed  chan struct{} // closed by Close, immutable

	complete bool // immutable; of a journal opened for reading only
}

var (
	crashEpochBefore = crash.Register("journal.epoch.before")
	crashEpochAfter  = crash.Register("journal.epoch.after")
)

// Open opens the journal in dir for writing, and makes one if there is none. It finds out whether
// acknowledged records were lost before anything is changed, and begins a new epoch, durably.
//
// Damage is no error: the journal is open with what is left, the Report says so, and
// Snapshot.Complete is false until the grace period has ended. Errors are *InUseError,
// *VersionError, and those of the file system.
func Open(dir string, o Options) (*Journal, *Report, error) {
	o.setDefaults()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("journal: %w", err)
	}
	lock, err := lockDir(dir, true)
	if err != nil {
		return nil, nil, err
	}
	j, r, err := open(dir, o, lock)
	if err != nil {
		return nil, nil, errors.Join(err, unlockDir(dir, lock, true))
	}
	return j, r, nil
}

// open is Open with the directory locked.
func open(dir string, o Options, lock *os.File) (*Journal, *Report, error) {
	m, ms, err := readMark(dir)
	if err != nil {
		return nil, nil, err
	}
	if err := finishSwap(dir); err != nil {
		return nil, nil, err
	}
	r := &Report{Dir: dir}
	in, err := repair(dir, m, r, o.Logger)
	if err != nil {
		return nil, nil, fmt.Errorf("journal %s: %w", dir, err)
	}
	path := filepath.Join(dir, dbName)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, nil, err
	}
	d, err := openBadger(dir, badgerOptions(path, o.Logger))
	if err != nil {
		return nil, nil, fmt.Errorf("journal %s: %w", dir, err)
	}
	j, err := start(dir, o, lock, d, r, in, m, ms)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("journal %s: %w", dir, err), d.close(false))
	}
	r.say(o.Logger)
	go j.commitLoop()
	return j, r, nil
}

// start makes a journal of what is on a disk and begins its epoch.
func start(dir string, o Options, lock *os.File, d disk, r *Report, in *inspection, m mark, ms markState) (*Journal, error) {
	j := &Journal{
		dir: dir, o: o, store: d, lock: lock, disk: d, kernel: kernelBoot(),
		kick: make(chan struct{}, 1), toSync: make(chan struct{}, 1), failed: make(chan struct{}), done: make(chan struct{}),
		news: make(chan struct{}), closed: make(chan struct{}),
	}
	if err := j.begin(r, in, m, ms); err != nil {
		return nil, err
	}
	return j, nil
}

// repair makes the files fit for Badger.
func repair(dir string, m mark, r *Report, logger *slog.Logger) (*inspection, error) {
	path := filepath.Join(dir, dbName)
	in, err := inspect(path, false)
	if err != nil {
		return nil, err
	}
	if in.broken || in.behind(m.seq) {
		keep, err := inspect(path, true)
		if err != nil {
			return nil, err
		}
		if err := build(dir, keep.collect(true), logger); err != nil {
			return nil, err
		}
		r.SetAside, err = swap(dir)
		return in, err
	}
	for _, name := range in.junk {
		if err := os.Remove(filepath.Join(path, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return in, nil
}

// begin judges what is there and starts the epoch.
func (j *Journal) begin(r *Report, in *inspection, m mark, ms markState) error {
	t, err := take(j.store)
	if err != nil {
		return err
	}
	r.judge(t, in, m, ms)
	h := head{firstEvent: 1, nextEvent: 1}
	if t.head != nil {
		h = *t.head
	}
	if t.last >= h.nextEvent { // numbers are never used twice
		h.nextEvent = t.last + 1
		if t.head == nil {
			h.firstEvent = t.first
		}
	}
	h.seq = max(h.seq, m.seq, t.seq) + 1
	h.epoch = r.Epoch + 1
	if h.epoch == 0 {
		return errors.New("boot count overflow")
	}
	if r.State == Damaged {
		h.incompleteSince = h.epoch
	}
	if r.State >= Repaired {
		h.base = h.seq
	}
	if r.LostEvents > 0 { // the gap is reported once
		h.firstEvent = h.nextEvent
		if t.last == h.nextEvent-1 {
			h.firstEvent -= t.run
		}
	}
	h.count, h.sum = t.count, t.sum
	if j.partial = partial(r, m, &h, j.kernel); j.partial != "" {
		h.graceSince = h.epoch // if we die now, the next boot must know it too
	}
	crashEpochBefore.Hit()
	if err := j.writeEpoch(t, &h); err != nil {
		return err
	}
	crashEpochAfter.Hit()
	if err := j.disk.settle(j.markOf(&h)); err != nil {
		return err
	}
	j.index, j.head, j.epoch = t.index, h, h.epoch
	j.stats.Seq = h.seq
	r.Epoch, r.IncompleteSince = h.epoch, h.incompleteSince
	return nil
}

// writeEpoch writes the head of a new epoch, without the records that can never be read.
func (j *Journal) writeEpoch(t *tally, h *head) error {
	txn := j.disk.begin()
	defer txn.discard()
	for _, k := range t.bad {
		if err := txn.delete(k); err != nil {
			return err
		}
	}
	if err := txn.set(headKey, seal(headKey, encodeHead(h), h.seq)); err != nil {
		return err
	}
	return txn.commit()
}

// tighten takes permissions away from files that Badger made; the directory admits only us anyway.
func tighten(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Chmod(filepath.Join(dir, e.Name()), 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Epoch is the boot count: one more at each Open. It never goes back, and jumps after a Restore.
func (j *Journal) Epoch() uint32 { return j.epoch }

// Failed is closed when a group commit has failed. What was in it may or may not survive a restart,
// so nothing may be granted any more. Reading goes on.
func (j *Journal) Failed() <-chan struct{} { return j.failed }

// Err is nil, or the *FailedError after Failed.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	return nil
}

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
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.stats
	s.Records = j.head.count
	s.Events = j.head.nextEvent - j.head.firstEvent
	return s
}

// Close makes durable what was posted and ends. A second call does nothing.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closing {
		j.mu.Unlock()
		return nil
	}
	j.closing = true
	j.mu.Unlock()
	close(j.closed)
	if j.disk == nil {
		return unlockDir(j.dir, j.lock, false)
	}
	j.wake()
	<-j.done
	failure := j.Err()
	err := errors.Join(failure, j.disk.close(failure != nil))
	if j.lock == nil {
		return err
	}
	return errors.Join(err, unlockDir(j.dir, j.lock, true))
}
