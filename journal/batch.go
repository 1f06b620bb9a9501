package journal

import "holdfast/fs"

// A Batch is changes that become durable together. The zero Batch is empty and ready. It is used by
// one goroutine, and once: Commit or Post take it over. Later changes of one record win.
type Batch struct {
	ops      []op
	events   []Event
	endGrace uint32
	inGrace  bool  // BeginGrace
	size     int   // bytes, about
	err      error // of a bad record; Commit and Post return it
}

// An op is one change.
type op struct {
	key   []byte
	value []byte // without trailer; nil: delete
	// only, if not 0, is the hash that the record must still have for a delete to happen.
	only uint64
}

// A group becomes one Badger transaction. Badger's limits, with the memtable size that we use, are
// 1.2 MB and about 13,000 entries.
const (
	maxGroupOps   = 4096
	maxGroupBytes = 800_000
	maxBatchOps   = 8000
	maxBatchBytes = 900_000
	opOverhead    = trailerSize + 24
)

// Empty tells whether there is nothing in it.
func (b *Batch) Empty() bool {
	return len(b.ops) == 0 && len(b.events) == 0 && b.endGrace == 0 && !b.inGrace && b.err == nil
}

// Append adds all changes of o after those of b. o must not be used afterwards.
func (b *Batch) Append(o *Batch) {
	b.ops = append(b.ops, o.ops...)
	b.events = append(b.events, o.events...)
	b.endGrace = max(b.endGrace, o.endGrace)
	b.inGrace = b.inGrace || o.inGrace
	b.size += o.size
	if b.err == nil {
		b.err = o.err
	}
}

// entries is how many entries it takes in a transaction.
func (b *Batch) entries() int { return len(b.ops) + 2*len(b.events) }

func (b *Batch) check() error {
	if b.err == nil && (b.entries() > maxBatchOps || b.size > maxBatchBytes) {
		return ErrTooLarge
	}
	return b.err
}

func (b *Batch) put(key, value []byte, err error) {
	if err == nil {
		b.ops = append(b.ops, op{key: key, value: value})
		b.size += len(key) + len(value) + opOverhead
	} else if b.err == nil {
		b.err = err
	}
}

func (b *Batch) delete(key []byte, err error) { b.put(key, nil, err) }

// PutClient adds or replaces a client.
func (b *Batch) PutClient(r *Client) { b.put(encodeClient(r)) }

// DeleteClient removes a client; its opens and locks stay.
func (b *Batch) DeleteClient(owner string) { b.delete(nameKey(kindClient, "client owner", owner)) }

// PutOpen adds or replaces an open.
func (b *Batch) PutOpen(r *OpenRecord) { b.put(encodeOpen(r)) }

// DeleteOpen removes an open; locks stay.
func (b *Batch) DeleteOpen(owner fs.Owner, file fs.Handle) {
	b.delete(ownerKey(kindOpen, owner, file))
}

// PutLock adds or replaces all that an owner holds on a file. With neither Ranges nor a Stateid it is
// DeleteLock.
func (b *Batch) PutLock(r *Lock) {
	if len(r.Ranges) == 0 && r.Stateid == (Stateid{}) {
		b.DeleteLock(r.Owner, r.File)
		return
	}
	b.put(encodeLock(r))
}

// DeleteLock removes all that an owner holds on a file.
func (b *Batch) DeleteLock(owner fs.Owner, file fs.Handle) {
	b.delete(ownerKey(kindLock, owner, file))
}

// PutUpstream adds or replaces who we are at an origin.
func (b *Batch) PutUpstream(r *Upstream) { b.put(encodeUpstream(r)) }

// DeleteUpstream forgets an origin.
func (b *Batch) DeleteUpstream(name string) { b.delete(nameKey(kindUpstream, "origin name", name)) }

// PutUpState adds or replaces a state at an origin.
func (b *Batch) PutUpState(r *UpState) { b.put(encodeUpState(r)) }

// DeleteUpState removes a state at an origin.
func (b *Batch) DeleteUpState(name string, kind StateKind, upOwner [32]byte, file []byte) {
	b.delete(upStateKey(name, kind, &upOwner, file))
}

// PutHandle adds or replaces an upstream handle.
func (b *Batch) PutHandle(r *HandleMap) { b.put(encodeHandle(r)) }

// PutMonitor adds or replaces a host to notify.
func (b *Batch) PutMonitor(r *Monitor) { b.put(encodeMonitor(r)) }

// DeleteMonitor removes a host to notify.
func (b *Batch) DeleteMonitor(host string) { b.delete(nameKey(kindMonitor, "host name", host)) }

// AddEvent appends to the event log. Seq and Epoch are set by the journal, Time if it is zero.
func (b *Batch) AddEvent(e *Event) {
	b.events = append(b.events, *e)
	b.size += eventSize(e) + 2*opOverhead
}

// EndGrace marks the end of the grace period of an epoch: from then on clients, opens and locks of
// earlier epochs are void. It is made durable before RECLAIM_COMPLETE goes upstream. It also ends
// the time in which a damaged journal counts as incomplete.
func (b *Batch) EndGrace(epoch uint32) { b.endGrace = max(b.endGrace, epoch) }

// BeginGrace notes, before anything is served, that clients are made to reclaim: until EndGrace no
// restart can go on where the last one stood, see Snapshot.Whole.
func (b *Batch) BeginGrace() { b.inGrace = true }
