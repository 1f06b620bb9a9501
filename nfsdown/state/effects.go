package state

import (
	"context"

	"holdfast/fs"
	"holdfast/journal"
)

// Effects is what is to be done after a decision, with no mutex held: collected under a mutex, run
// after it. The zero value and nil are nothing to do. Run them with a context that does not end
// with the request: what is to be released must be, even if the client went away.
type Effects struct {
	Batch       *journal.Batch // to Post; nil if nothing
	Releases    []*Release     // state to give back to the backend
	Notify      []LockNotice   // CB_NOTIFY_LOCK to send
	Recalls     []*Recall      // CB_RECALL to send
	Cancel      []WaitCancel   // backend queues to leave
	Forget      []OwnerFile    // lock-owners to ReleaseLockOwner
	Interrupt   []*Session     // requests that run in these should end: their contexts are to be cancelled
	Closed      []*Session     // sessions that are no more
	GraceMayEnd bool           // call EndGrace now

	// What records are to be posted after Batch, see record.go.
	srv     *Server
	records map[fs.Handle]*fileRecords
	clients map[string]*journal.Client
	granted map[fs.Handle]*fileRecords // to be posted, but no answer waits for them
}

// OwnerFile names state at the fs border.
type OwnerFile struct {
	Owner fs.Owner
	File  fs.Handle
}

// LockNotice asks for a CB_NOTIFY_LOCK to a client: its lock-owner may now get what it waits for.
type LockNotice struct {
	Client    *Client
	LockOwner string // the owner's bytes
	File      fs.Handle
}

// WaitCancel is a call of Locks.CancelWait.
type WaitCancel struct {
	Owner fs.Owner
	File  fs.Handle
	Range fs.Range
}

// Releaser is the part of fs.Locks that gives state back. Handles are downstream handles.
type Releaser interface {
	Downgrade(ctx context.Context, owner fs.Owner, file fs.Handle, access, deny fs.Share) error
	CloseFile(ctx context.Context, owner fs.Owner, file fs.Handle) error
	Unlock(ctx context.Context, cred *fs.Cred, lockOwner fs.Owner, file fs.Handle, r fs.Range) error
	ReleaseLockOwner(ctx context.Context, lockOwner fs.Owner, file fs.Handle) error
	CancelWait(owner fs.Owner, file fs.Handle, r fs.Range)
}

// Host is what Effects are run on: the NFS server that owns this state.
type Host interface {
	Releaser
	// Post gives a batch to the journal without waiting: mutexes of this package are held.
	Post(*journal.Batch)
	// NotifyLock sends CB_NOTIFY_LOCK if there is a back channel; it does not wait for the answer.
	NotifyLock(LockNotice)
	// Recall sends CB_RECALL and says what became of it by Asked, later: it does not wait.
	Recall(*Recall)
	// Interrupt cancels the contexts of the requests that run in the session.
	Interrupt(*Session)
	// Closed forgets the connections of a session that is no more.
	Closed(*Session)
	// GraceMayEnd is to call EndGrace, soon and not from within.
	GraceMayEnd()
	// Each runs f(0) to f(n-1), as many side by side as it likes, and returns when all are done.
	Each(n int, f func(int))
}

// Empty tells whether there is nothing to do.
func (e *Effects) Empty() bool {
	return e == nil || (e.Batch == nil || e.Batch.Empty()) && len(e.records)+len(e.clients)+len(e.granted)+len(e.Releases)+len(e.Notify)+len(e.Recalls)+len(e.Cancel)+len(e.Forget)+len(e.Interrupt)+len(e.Closed) == 0 && !e.GraceMayEnd
}

// batch is the Batch, made if there is none.
func (e *Effects) batch() *journal.Batch {
	if e.Batch == nil {
		e.Batch = &journal.Batch{}
	}
	return e.Batch
}

// Add appends what o has to do. o may be nil.
func (e *Effects) Add(o *Effects) {
	if o == nil {
		return
	}
	if o.Batch != nil && !o.Batch.Empty() {
		e.batch().Append(o.Batch)
	}
	e.addRecords(o)
	e.Releases = append(e.Releases, o.Releases...)
	e.Notify = append(e.Notify, o.Notify...)
	e.Recalls = append(e.Recalls, o.Recalls...)
	e.Cancel = append(e.Cancel, o.Cancel...)
	e.Forget = append(e.Forget, o.Forget...)
	e.Interrupt = append(e.Interrupt, o.Interrupt...)
	e.Closed = append(e.Closed, o.Closed...)
	e.GraceMayEnd = e.GraceMayEnd || o.GraceMayEnd
}

// Run does it all: the batch first, then the releases, then the rest, and what the releases lead to.
func (e *Effects) Run(ctx context.Context, h Host) {
	for e := e; !e.Empty(); {
		e = e.runOnce(ctx, h)
	}
}

// Record does the first part of Run: it posts the batch and the records, and tells whether there were
// any. An answer to a client waits until they are written (journal.Write).
func (e *Effects) Record(h Host) (posted bool) {
	if e.Batch != nil && !e.Batch.Empty() {
		h.Post(e.Batch)
		posted = true
	}
	posted = posted || len(e.records)+len(e.clients) > 0
	e.postRecords(h)
	e.Batch, e.records, e.clients = nil, nil, nil
	return posted
}

func (e *Effects) runOnce(ctx context.Context, h Host) *Effects {
	e.Record(h)
	for file, r := range e.granted {
		e.srv.postFile(h, file, r)
	}
	for _, r := range e.Recalls {
		h.Recall(r)
	}
	for _, ss := range e.Interrupt {
		h.Interrupt(ss)
	}
	for _, ss := range e.Closed {
		h.Closed(ss)
	}
	for _, w := range e.Cancel {
		h.CancelWait(w.Owner, w.File, w.Range)
	}
	next := make([]*Effects, len(e.Releases))
	if len(e.Releases) > 0 {
		h.Each(len(e.Releases), func(i int) { next[i] = e.Releases[i].Run(ctx, h) })
	}
	for _, n := range e.Notify {
		h.NotifyLock(n)
	}
	for _, of := range e.Forget {
		// Forgetting saves the backend memory; a failure changes nothing that anybody relies on.
		_ = h.ReleaseLockOwner(ctx, of.Owner, of.File)
	}
	if e.GraceMayEnd {
		h.GraceMayEnd()
	}
	after := &Effects{}
	for _, n := range next {
		after.Add(n)
	}
	return after
}
