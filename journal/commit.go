package journal

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/crash"
)

var (
	crashIntent      = crash.Register("journal.intent")
	crashCommitted   = crash.Register("journal.committed")
	crashSynced      = crash.Register("journal.synced")
	crashMarked      = crash.Register("journal.marked")
	crashAnswered    = crash.Register("journal.answered")
	crashGraceBefore = crash.Register("journal.endgrace.before")
	crashGraceAfter  = crash.Register("journal.endgrace.after")
)

const (
	postDelay = 5 * time.Millisecond
	// markDelay is how old the mark on disk may get; see the package comment.
	markDelay = 3 * time.Second
	// freeDelay is how long a look at the free space is good for; MinFree is far more than what can be
	// written meanwhile.
	freeDelay = 100 * time.Millisecond
)

// A request is a batch that waits for its group.
type request struct {
	b      *Batch
	answer chan error // of size 1; nil for a posted batch
	early  bool       // the answer is due when it is written, not when it is synced
}

// Commit makes b durable: all of it or nothing, after everything that was given to Commit or Post
// before. It waits for at most ctx; if ctx ends first the outcome is open. Concurrent calls share
// one fsync. ErrTooLarge and errors about b itself leave the journal as it was; a *FailedError is
// the end of it: see Failed. An empty b waits for what was posted before. b must not be changed or
// used again.
func (j *Journal) Commit(ctx context.Context, b *Batch) error { return j.wait(ctx, b, false) }

// Write is Commit without the fsync: when it returns nil, b and all before it are in the log, as far as
// the page cache, which outlives this process but not the kernel. It is what an answer has to wait for
// that takes something from a client at its own wish: after a kill the record must not say that the
// client still has it, and after a power cut nobody relies on that (Snapshot.Whole).
func (j *Journal) Write(ctx context.Context, b *Batch) error { return j.wait(ctx, b, true) }

func (j *Journal) wait(ctx context.Context, b *Batch, early bool) error {
	if ctx.Err() != nil {
		return fmt.Errorf("journal: commit: %w", context.Cause(ctx))
	}
	answer := make(chan error, 1)
	if err := j.enqueue(&request{b: b, answer: answer, early: early}); err != nil {
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
	if j.disk == nil {
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
			if err := j.disk.syncMark(); err != nil {
				j.fail(j.head.seq, nil, err)
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
			answer(group, false)
			crashAnswered.Hit()
		}
	}
}

// answer tells those who wait for the write (early), or for the sync, that it went well.
func answer(group []*request, early bool) {
	for _, r := range group {
		if r.answer != nil && r.early == early {
			r.answer <- nil
			if early {
				r.answer = nil
			}
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
	// What was written last may or may not be there: the next boot must not take it for complete.
	m := mark{layout: layoutVersion, seq: j.head.seq, epoch: j.epoch}
	if werr := j.disk.writeMark(m); werr != nil {
		j.o.Logger.Error("the mark cannot be written", "dir", j.dir, "err", werr)
	}
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
	txn := j.disk.begin()
	defer txn.discard()
	w := groupWriter{j: j, txn: txn, h: &h}
	for _, r := range group {
		if err := w.add(r.b); err != nil {
			return h, err
		}
	}
	if !w.changed {
		answer(group, true)
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
	if err := txn.commit(); err != nil {
		return h, err
	}
	if err := crash.Fault("journal.sync", unix.EIO); err != nil {
		return h, err
	}
	crashCommitted.Hit()
	answer(group, true)
	if err := j.disk.sync(); err != nil {
		return h, err
	}
	crashSynced.Hit()
	if err := j.disk.writeMark(j.markOf(&h)); err != nil {
		return h, err
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
	if time.Since(j.freeSeen) < freeDelay {
		return nil
	}
	j.freeSeen = time.Now()
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
	txn       transaction
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
		if err := w.txn.set(key, seal(key, value, w.h.seq)); err != nil {
			return err
		}
		w.changed = true
		// Two old ones go for each new one while there are too many.
		for range 2 {
			if w.h.nextEvent-w.h.firstEvent <= uint64(w.j.o.MaxEvents) {
				break
			}
			if err := w.txn.delete(eventKey(w.h.firstEvent)); err != nil {
				return err
			}
			w.h.firstEvent++
		}
	}
	if b.inGrace {
		w.changed, w.h.graceSince = true, w.h.epoch
	}
	if b.endGrace > 0 {
		w.changed, w.endsGrace = true, true
		w.h.endedGrace = max(w.h.endedGrace, b.endGrace)
		w.h.graceSince = 0
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
		return w.txn.delete(o.key)
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
	return w.txn.set(o.key, value)
}

// finish writes the head.
func (w *groupWriter) finish() error {
	return w.txn.set(headKey, seal(headKey, encodeHead(w.h), w.h.seq))
}
