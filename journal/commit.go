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
func (j *Journal) Commit(ctx context.Context, b *Batch) error {
	return j.start(ctx, b, false).Wait(ctx)
}

// Write is Commit without the fsync: when it returns nil, b and all before it are in the log, as far as
// the page cache, which outlives this process but not the kernel. It is what an answer has to wait for
// that takes something from a client at its own wish: after a kill the record must not say that the
// client still has it, and after a power cut nobody relies on that (Snapshot.Whole).
func (j *Journal) Write(ctx context.Context, b *Batch) error { return j.start(ctx, b, true).Wait(ctx) }

// BeginCommit begins a Commit, whose outcome the Pending gives: so that its caller can do something else
// meanwhile, without another goroutine. BeginWrite begins a Write.
func (j *Journal) BeginCommit(b *Batch) Pending { return j.start(context.Background(), b, false) }

// BeginWrite is a Write as BeginCommit is a Commit.
func (j *Journal) BeginWrite(b *Batch) Pending { return j.start(context.Background(), b, true) }

// A Pending is a Commit or a Write under way. It goes on whether somebody waits or not.
type Pending struct {
	answer <-chan error
	err    error // it was refused at once
}

// Wait returns the outcome, once. It waits for at most ctx; if ctx ends first the outcome is open.
func (p Pending) Wait(ctx context.Context) error {
	if p.answer == nil {
		return p.err
	}
	select {
	case err := <-p.answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("journal: commit: %w", context.Cause(ctx))
	}
}

func (j *Journal) start(ctx context.Context, b *Batch, early bool) Pending {
	if ctx.Err() != nil {
		return Pending{err: fmt.Errorf("journal: commit: %w", context.Cause(ctx))}
	}
	answer := make(chan error, 1)
	if err := j.enqueue(&request{b: b, answer: answer, early: early}); err != nil {
		return Pending{err: err}
	}
	j.wake()
	return Pending{answer: answer}
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

// A written group is in the log and not known to be on disk.
type written struct {
	group     []*request
	head      head
	changed   bool // or there was nothing to write, and its answers wait for the groups before it only
	endsGrace bool
	began     time.Time
	err       error // the group could not be written, and nothing comes after it
	end       bool  // the journal was closed, and nothing comes after it
}

// commitLoop is the first stage of the committer: it alone writes. It does not wait for the disk, which
// syncLoop does meanwhile. While a group waits for its turn at the disk only those who wait for the log
// alone get another one: the others gather.
func (j *Journal) commitLoop() {
	h := j.head
	ended := make(chan struct{})
	defer close(ended)
	go j.syncLoop(ended)
	for range j.kick {
		runtime.Gosched() // let those who were answered just now queue up again
		for {
			group, ending := j.take()
			if len(group) == 0 {
				if ending {
					j.hand(&written{end: true})
					return
				}
				break
			}
			w := &written{group: group, head: h, began: time.Now()}
			if w.err = j.writeGroup(w); w.err == nil {
				h = w.head
				answer(group, true)
			}
			if !j.hand(w) || w.err != nil {
				return
			}
		}
	}
}

// hand gives a group to the second stage; false if that has failed meanwhile, and all is over.
func (j *Journal) hand(w *written) bool {
	j.mu.Lock()
	if j.err == nil || w.end {
		j.written = append(j.written, w)
		j.mu.Unlock()
		j.wakeSync()
		return true
	}
	err := j.err
	j.mu.Unlock()
	refuse(w.group, err)
	return false
}

func (j *Journal) wakeSync() {
	select {
	case j.toSync <- struct{}{}:
	default:
	}
}

// syncLoop is the second stage: all groups that were written meanwhile share one sync.
func (j *Journal) syncLoop(writer <-chan struct{}) {
	defer close(j.done)
	defer func() { <-writer }() // it ends before us, or because of our failure
	marks := make(chan struct{}, 1)
	aging := false // a timer for the mark is running
	for {
		select {
		case <-j.toSync:
		case <-marks:
			aging = false
			if err := j.disk.syncMark(); err != nil {
				j.fail(j.head.seq, nil, err)
				return
			}
			continue
		}
		j.mu.Lock()
		list := j.written
		j.written = nil
		j.mu.Unlock()
		j.wake() // who has gathered may be written now
		if len(list) == 0 {
			continue
		}
		var last *written
		if n := len(list) - 1; list[n].err != nil || list[n].end {
			last, list = list[n], list[:n]
		}
		changed, err := j.syncGroups(list)
		if err != nil {
			var groups []*request
			for _, w := range list {
				groups = append(groups, w.group...)
			}
			if last != nil {
				groups = append(groups, last.group...)
			}
			j.fail(list[len(list)-1].head.seq, groups, err)
			return
		}
		if changed && !aging {
			aging = true
			j.o.Clock.AfterFunc(markDelay, func() { marks <- struct{}{} })
		}
		for _, w := range list {
			answer(w.group, false)
		}
		if changed {
			crashAnswered.Hit()
		}
		switch {
		case last == nil:
		case last.end:
			return
		default:
			j.fail(last.head.seq, last.group, last.err)
			return
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
	if j.err != nil {
		return nil, true
	}
	if len(j.written) > 0 && !slices.ContainsFunc(j.queue, func(r *request) bool { return r.early && r.answer != nil }) {
		return nil, false // syncLoop wakes us
	}
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
	for _, w := range j.written {
		group = append(group, w.group...)
	}
	group = append(group, j.queue...)
	j.written, j.queue = nil, nil
	close(j.failed)
	j.mu.Unlock()
	// What was written last may or may not be there: the next boot must not take it for complete.
	m := mark{layout: layoutVersion, seq: j.head.seq, epoch: j.epoch}
	if werr := j.disk.writeMark(m); werr != nil {
		j.o.Logger.Error("the mark cannot be written", "dir", j.dir, "err", werr)
	}
	j.o.Logger.Error("the journal failed; nothing more is granted", "dir", j.dir, "commit", seq, "err", err)
	refuse(group, j.err)
	j.wake() // the first stage is to end
}

// refuse tells those who still wait that the journal has failed.
func refuse(group []*request, err error) {
	for _, r := range group {
		if r.answer != nil {
			r.answer <- err
		}
	}
}

// writeGroup writes a group into the log. The head is that of the group before, and becomes its own.
func (j *Journal) writeGroup(w *written) error {
	before := w.head
	w.head.seq++
	txn := j.disk.begin()
	defer txn.discard()
	g := groupWriter{j: j, txn: txn, h: &w.head}
	for _, r := range w.group {
		if err := g.add(r.b); err != nil {
			return err
		}
	}
	if !g.changed {
		w.head = before
		return nil
	}
	w.changed, w.endsGrace = true, g.endsGrace
	if err := g.finish(); err != nil {
		return err
	}
	if err := j.mayWrite(w.head.seq); err != nil {
		return err
	}
	if w.endsGrace {
		crashGraceBefore.Hit()
	}
	crashIntent.Hit()
	if err := txn.commit(); err != nil {
		return err
	}
	crashCommitted.Hit()
	return nil
}

// syncGroups makes groups durable; there may be none, or none that changed anything.
func (j *Journal) syncGroups(list []*written) (changed bool, err error) {
	var last *written
	endsGrace := false
	for _, w := range list {
		if w.changed {
			last, endsGrace = w, endsGrace || w.endsGrace
		}
	}
	if last == nil {
		return false, nil
	}
	if err := crash.Fault("journal.sync", unix.EIO); err != nil {
		return false, err
	}
	if err := j.disk.sync(); err != nil {
		return false, err
	}
	crashSynced.Hit()
	if err := j.disk.writeMark(j.markOf(&last.head)); err != nil {
		return false, err
	}
	crashMarked.Hit()
	if endsGrace {
		crashGraceAfter.Hit()
	}
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	if last.head.nextEvent != j.head.nextEvent {
		close(j.news)
		j.news = make(chan struct{})
	}
	j.head = last.head
	j.stats.Seq = last.head.seq
	for _, w := range list {
		if w.changed {
			j.stats.Commits++
			j.stats.Batches += uint64(len(w.group))
			j.stats.CommitNanos += uint64(now.Sub(w.began))
		}
	}
	return true, nil
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
