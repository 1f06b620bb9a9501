package journal

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"

	"holdfast/internal/crash"
)

var (
	crashIntent      = crash.Register("journal.intent")
	crashCommitted   = crash.Register("journal.committed")
	crashMarked      = crash.Register("journal.marked")
	crashAnswered    = crash.Register("journal.answered")
	crashGraceBefore = crash.Register("journal.endgrace.before")
	crashGraceAfter  = crash.Register("journal.endgrace.after")
)

const (
	postDelay = 5 * time.Millisecond
	// markDelay is how old the mark on disk may get; see the package comment.
	markDelay = 3 * time.Second
)

// A request is a batch that waits for its group.
type request struct {
	b      *Batch
	answer chan error // of size 1; nil for a posted batch
}

// Commit makes b durable: all of it or nothing, after everything that was given to Commit or Post
// before. It waits for at most ctx; if ctx ends first the outcome is open. Concurrent calls share
// one fsync. ErrTooLarge and errors about b itself leave the journal as it was; a *FailedError is
// the end of it: see Failed. An empty b waits for what was posted before. b must not be changed or
// used again.
func (j *Journal) Commit(ctx context.Context, b *Batch) error {
	if ctx.Err() != nil {
		return fmt.Errorf("journal: commit: %w", context.Cause(ctx))
	}
	answer := make(chan error, 1)
	if err := j.enqueue(&request{b: b, answer: answer}); err != nil {
		return err
	}
	j.wake()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("journal: commit: %w", context.Cause(ctx))
	}
}

// Post is Commit without waiting: b becomes durable in order, with the next commit or within 5 ms.
// The error is only about b itself, or says that the journal failed or is closed.
func (j *Journal) Post(b *Batch) error {
	if b.Empty() {
		return nil
	}
	return j.enqueue(&request{b: b})
}

func (j *Journal) enqueue(r *request) error {
	if j.db == nil {
		return ErrReadOnly
	}
	if err := r.b.check(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.err != nil:
		return j.err
	case j.closing:
		return ErrClosed
	}
	j.queue = append(j.queue, r)
	if r.answer == nil && !j.posting {
		j.posting = true
		j.o.Clock.AfterFunc(postDelay, func() {
			j.mu.Lock()
			j.posting = false
			j.mu.Unlock()
			j.wake()
		})
	}
	return nil
}

// wake tells the committer to look.
func (j *Journal) wake() {
	select {
	case j.kick <- struct{}{}:
	default:
	}
}

// commitLoop is the committer: it alone writes.
func (j *Journal) commitLoop() {
	defer close(j.done)
	marks := make(chan struct{}, 1)
	aging := false // a timer for the mark is running
	for {
		select {
		case <-j.kick:
		case <-marks:
			aging = false
			if err := j.mark.Sync(); err != nil {
				j.fail(j.head.seq, nil, fmt.Errorf("sync mark: %w", err))
				return
			}
			continue
		}
		runtime.Gosched() // let those who were answered just now queue up again
		for {
			group, ending := j.take()
			if len(group) == 0 {
				if ending {
					return
				}
				break
			}
			h, err := j.commitGroup(group)
			if err != nil {
				j.fail(h.seq, group, err)
				return
			}
			if !aging {
				aging = true
				j.o.Clock.AfterFunc(markDelay, func() { marks <- struct{}{} })
			}
			for _, r := range group {
				if r.answer != nil {
					r.answer <- nil
				}
			}
			crashAnswered.Hit()
		}
	}
}

// take takes the next group off the queue. ending says that the journal is being closed.
func (j *Journal) take() (group []*request, ending bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	n, entries, size := 0, 0, 0
	for _, r := range j.queue {
		entries += r.b.entries()
		size += r.b.size
		if n > 0 && (entries > maxGroupOps || size > maxGroupBytes) {
			break
		}
		n++
	}
	group = slices.Clone(j.queue[:n])
	clear(j.queue[:n])
	j.queue = j.queue[n:]
	if len(j.queue) == 0 {
		j.queue = nil
	}
	return group, j.closing
}

// fail ends the journal: group and all that waits get the error.
func (j *Journal) fail(seq uint64, group []*request, err error) {
	j.mu.Lock()
	j.err = &FailedError{Seq: seq, Err: err}
	group = append(group, j.queue...)
	j.queue = nil
	close(j.failed)
	j.mu.Unlock()
	j.o.Logger.Error("the journal failed; nothing more is granted", "dir", j.dir, "commit", seq, "err", err)
	for _, r := range group {
		if r.answer != nil {
			r.answer <- j.err
		}
	}
}

// commitGroup makes a group durable. The head returned is that of the group.
func (j *Journal) commitGroup(group []*request) (head, error) {
	began := time.Now()
	h := j.head // only the committer changes it
	h.seq++
	txn := j.db.NewTransaction(true)
	defer txn.Discard()
	w := groupWriter{j: j, txn: txn, h: &h}
	for _, r := range group {
		if err := w.add(r.b); err != nil {
			return h, err
		}
	}
	if !w.changed {
		return h, nil
	}
	if err := w.finish(); err != nil {
		return h, err
	}
	if err := j.mayWrite(h.seq); err != nil {
		return h, err
	}
	if w.endsGrace {
		crashGraceBefore.Hit()
	}
	crashIntent.Hit()
	if err := txn.Commit(); err != nil {
		return h, err
	}
	if err := crash.Fault("journal.sync", unix.EIO); err != nil {
		return h, err
	}
	crashCommitted.Hit()
	if err := writeMark(j.mark, mark{layout: layoutVersion, seq: h.seq, epoch: h.epoch}); err != nil {
		return h, fmt.Errorf("write mark: %w", err)
	}
	crashMarked.Hit()
	if w.endsGrace {
		crashGraceAfter.Hit()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if h.nextEvent != j.head.nextEvent {
		close(j.news)
		j.news = make(chan struct{})
	}
	j.head = h
	j.stats.Seq = h.seq
	j.stats.Commits++
	j.stats.Batches += uint64(len(group))
	j.stats.CommitNanos += uint64(time.Since(began))
	return h, nil
}

// mayWrite fails if the disk is nearly full: Badger's log is a sparse mapped file, and a page that
// cannot be had there would take the process down.
func (j *Journal) mayWrite(seq uint64) error {
	if j.o.BeforeCommit != nil {
		if err := j.o.BeforeCommit(seq); err != nil {
			return err
		}
	}
	if err := crash.Fault("journal.full", unix.ENOSPC); err != nil {
		return err
	}
	if j.o.MinFree < 0 {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(j.dir, &st); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < uint64(j.o.MinFree) {
		return fmt.Errorf("%w: %d bytes free, %d wanted", unix.ENOSPC, free, j.o.MinFree)
	}
	return nil
}

// A groupWriter puts batches into one transaction and keeps the head in step.
type groupWriter struct {
	j         *Journal
	txn       *badger.Txn
	h         *head
	changed   bool
	endsGrace bool
}

func (w *groupWriter) add(b *Batch) error {
	for i := range b.ops {
		if err := w.change(&b.ops[i]); err != nil {
			return err
		}
	}
	for i := range b.events {
		e := &b.events[i]
		e.Seq, e.Epoch = w.h.nextEvent, w.h.epoch
		if e.Time.IsZero() {
			e.Time = w.j.o.Clock.Now()
		}
		w.h.nextEvent++
		key, value := encodeEvent(e)
		if err := w.txn.Set(key, seal(key, value, w.h.seq)); err != nil {
			return err
		}
		w.changed = true
		// Two old ones go for each new one while there are too many.
		for range 2 {
			if w.h.nextEvent-w.h.firstEvent <= uint64(w.j.o.MaxEvents) {
				break
			}
			if err := w.txn.Delete(eventKey(w.h.firstEvent)); err != nil {
				return err
			}
			w.h.firstEvent++
		}
	}
	if b.endGrace > 0 {
		w.changed, w.endsGrace = true, true
		w.h.endedGrace = max(w.h.endedGrace, b.endGrace)
		if b.endGrace >= w.h.incompleteSince {
			w.h.incompleteSince = 0
		}
	}
	return nil
}

func (w *groupWriter) change(o *op) error {
	kh := keyHash(o.key)
	old, had := w.j.index[kh]
	if o.value == nil {
		if !had || o.only != 0 && o.only != old {
			return nil
		}
		w.changed = true
		w.h.count--
		w.h.sum -= old
		delete(w.j.index, kh)
		return w.txn.Delete(o.key)
	}
	value := seal(o.key, o.value, w.h.seq)
	r := recordHash(kh, value)
	if had {
		w.h.sum -= old
	} else {
		w.h.count++
	}
	w.h.sum += r
	w.j.index[kh] = r
	w.changed = true
	return w.txn.Set(o.key, value)
}

// finish writes the head.
func (w *groupWriter) finish() error {
	return w.txn.Set(headKey, seal(headKey, encodeHead(w.h), w.h.seq))
}
