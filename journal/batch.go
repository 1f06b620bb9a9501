package journal

import "holdfast/fs"

// A Batch is changes that become durable together. The zero Batch is empty and ready. It is used by
// one goroutine, and once: Commit or Post take it over. Later changes of one record win.
type Batch struct {
	ops      []op
	events   []Event
	endGrace uint32
	size     int
	err      error // of a bad record; Commit and Post return it
}

type op struct {
	key, value []byte // value nil: delete
}

// Empty tells whether there is nothing in it.
func (b *Batch) Empty() bool { return len(b.ops) == 0 && len(b.events) == 0 && b.endGrace == 0 }

// Append adds all changes of o after those of b.
func (b *Batch) Append(o *Batch) {}

// PutClient adds or replaces a client.
func (b *Batch) PutClient(r *Client) {}

// DeleteClient removes a client; its opens and locks stay.
func (b *Batch) DeleteClient(owner string) {}

// PutOpen adds or replaces an open.
func (b *Batch) PutOpen(r *OpenRecord) {}

// DeleteOpen removes an open; locks stay.
func (b *Batch) DeleteOpen(owner fs.Owner, file fs.Handle) {}

// PutLock adds or replaces all that an owner holds on a file. With no Ranges it is DeleteLock.
func (b *Batch) PutLock(r *Lock) {}

// DeleteLock removes all that an owner holds on a file.
func (b *Batch) DeleteLock(owner fs.Owner, file fs.Handle) {}

// PutUpstream adds or replaces who we are at an origin.
func (b *Batch) PutUpstream(r *Upstream) {}

// DeleteUpstream forgets an origin.
func (b *Batch) DeleteUpstream(name string) {}

// PutUpState adds or replaces a state at an origin.
func (b *Batch) PutUpState(r *UpState) {}

// DeleteUpState removes a state at an origin.
func (b *Batch) DeleteUpState(name string, kind StateKind, upOwner [32]byte, file []byte) {}

// PutHandle adds or replaces an upstream handle.
func (b *Batch) PutHandle(r *HandleMap) {}

// PutMonitor adds or replaces a host to notify.
func (b *Batch) PutMonitor(r *Monitor) {}

// DeleteMonitor removes a host to notify.
func (b *Batch) DeleteMonitor(host string) {}

// AddEvent appends to the event log. Seq and Epoch are set by the journal, Time if it is zero.
func (b *Batch) AddEvent(e *Event) {}

// EndGrace marks the end of the grace period of an epoch: from then on clients, opens and locks of
// earlier epochs are void. It is made durable before RECLAIM_COMPLETE goes upstream. It also ends
// the time in which a damaged journal counts as incomplete.
func (b *Batch) EndGrace(epoch uint32) {}
