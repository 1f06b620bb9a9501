package state

import (
	"sync"

	"holdfast/fs"
	"holdfast/journal"
)

// party is all we know under one co_ownerid, over the restarts of the client and of ours.
type party struct {
	owner string // immutable

	// guarded by Server.mu
	confirmed   *Client
	unconfirmed *Client
	confirming  bool // one incarnation is being ended; until that is done there is no next

	mu       sync.Mutex               // a leaf: nothing is locked under it
	rec      journal.Client           // guarded by mu; the record, as last written
	recorded bool                     // guarded by mu; there is one
	opens    map[*open]struct{}       // guarded by mu; every entry of the owner
	tickets  map[string][]*OpenTicket // guarded by mu; opens by name on their way, by open-owner
	restored bool                     // immutable; it is as the last incarnation left it
	expired  bool                     // guarded by mu; the journal says: must not reclaim
	yielded  bool                     // guarded by mu; held state was given up to a conflict
}

func (p *party) add(o *open) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opens[o] = struct{}{}
}

func (p *party) remove(o *open) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.opens, o)
}

// entries lists the opens: a copy, as each has a mutex that comes before p.mu.
func (p *party) entries() []*open {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*open, 0, len(p.opens))
	for o := range p.opens {
		out = append(out, o)
	}
	return out
}

func (p *party) empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.opens) == 0 && !p.expired
}

// closed tells the opens by name that are on their way that this file's open was closed or reduced
// meanwhile: which of the two the backend did last cannot be known, so they open it again.
func (p *party) closed(owner string, file fs.Handle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.tickets[owner] {
		if t.touched == nil {
			t.touched = map[fs.Handle]bool{}
		}
		t.touched[file] = true
	}
}

// holds tells whether anything of the party is live or held.
func (p *party) holds() bool {
	for _, o := range p.entries() {
		o.file.mu.Lock()
		some := o.client != nil || len(o.held) > 0
		for l := range o.locks {
			some = some || len(l.live)+len(l.held) > 0
		}
		o.file.mu.Unlock()
		if some {
			return true
		}
	}
	return false
}

// holdsServer tells whether something from the journal is not reclaimed yet.
func (p *party) holdsServer() bool {
	for _, o := range p.entries() {
		o.file.mu.Lock()
		some := o.hasServer()
		o.file.mu.Unlock()
		if some {
			return true
		}
	}
	return false
}

// hasServer tells whether the entry has something from the journal. file.mu is held.
func (o *open) hasServer() bool {
	for _, h := range o.held {
		if h.server {
			return true
		}
	}
	for l := range o.locks {
		for _, h := range l.held {
			if h.server {
				return true
			}
		}
	}
	return false
}

// writeClient puts the client's record as change makes it.
func (p *party) writeClient(b *journal.Batch, change func(*journal.Client)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.rec)
	p.recorded = true
	rec := p.rec
	b.PutClient(&rec)
}
