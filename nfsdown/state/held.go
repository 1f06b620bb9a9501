package state

import (
	"fmt"
	"time"

	"holdfast/fs"
	"holdfast/journal"
)

// killMode says what becomes of a client's state when the client ends.
type killMode uint8

const (
	killRelease killMode = iota // all of the owner's is given back
	killHold                    // it becomes held state: the friendly origin (DESIGN 5)
	killRestart                 // what is live or held over a restart is given back; what waits from our own restart stays
)

// bury takes a client out of the tables: its sessions and stateids are no more, whatever still runs.
// strip then deals with its state. s.mu is held.
func (s *Server) bury(c *Client, eff *Effects) {
	c.mu.Lock()
	c.dead = true
	c.mu.Unlock()
	s.unlistClient(c, eff)
}

// buryIdle is bury if no request of c runs; else it is false and nothing happened. s.mu is held.
func (s *Server) buryIdle(c *Client, eff *Effects) bool {
	c.mu.Lock()
	idle := c.running.Load() == 0
	if idle {
		c.dead = true
	}
	c.mu.Unlock()
	if idle {
		s.unlistClient(c, eff)
	}
	return idle
}

func (s *Server) unlistClient(c *Client, eff *Effects) {
	for _, ss := range c.allSessions() {
		ss.mu.Lock()
		ss.close()
		ss.mu.Unlock()
		s.unlist(ss, eff)
	}
	delete(s.byID, c.id)
	if c.party.confirmed == c {
		c.party.confirmed = nil
	}
	if c.party.unconfirmed == c {
		c.party.unconfirmed = nil
	}
	c.mu.Lock()
	clear(c.stateids)
	c.mu.Unlock()
}

// strip turns the live state of a buried client into held state, or releases it.
func (s *Server) strip(c *Client, mode killMode, eff *Effects) {
	now := s.now()
	for _, o := range c.party.entries() {
		f := o.file
		f.mu.Lock()
		s.dropWaiters(f, func(w *waiter) bool { return w.owner.Client == c.party.owner }, eff)
		switch {
		case mode == killHold && !o.isDeleg():
			o.hold(c, now)
			for l := range o.locks {
				if len(l.held) == 0 { // the record was only about the stateid
					s.noteLock(eff, l)
				}
			}
		default:
			// A client that restarts does not know what was delegated to it: 10.2.1, without CLAIM_DELEGATE_PREV.
			if s.letGo(o, c, mode == killRelease || o.isDeleg(), eff) {
				s.noteAll(eff, o)
			}
		}
		s.wake(f, eff)
		f.tidyOpen(o)
		f.mu.Unlock()
		s.files.drop(f)
	}
}

// hold makes what c has live in o held: others conflict with it as before, and the next incarnation
// may reclaim it. Each piece's clock begins now, and goes on over further restarts: what is not
// reclaimed keeps its piece. file.mu is held.
func (o *open) hold(c *Client, now time.Time) {
	if o.client != c {
		return
	}
	o.held = append(o.held, heldShare{access: o.access, deny: o.deny, since: now})
	for l := range o.locks {
		if len(l.live) > 0 {
			l.held = append(l.held, heldRange{set: l.live, since: now})
		}
		l.live, l.sid, l.reclaimed = nil, nil, false
	}
	o.endLive()
}

// endLive ends the live part. file.mu is held.
func (o *open) endLive() {
	if o.client != nil && o.isDeleg() {
		o.endDeleg()
	}
	o.client, o.sid, o.access, o.deny, o.seenAccess, o.seenDeny, o.reclaimed = nil, nil, 0, 0, 0, 0, false
	o.lostLocks = false
}

// letGo releases what c has live in o and what is held; what waits from the journal only if all is
// said. It tells whether anything changed. file.mu is held.
func (s *Server) letGo(o *open, c *Client, all bool, eff *Effects) bool {
	changed := o.client == c
	if changed {
		o.goneAccess |= o.access
		o.goneDeny |= o.deny
		o.endLive()
	}
	o.held = letHeld(o.held, func(h heldShare) bool {
		if h.server && !all {
			return true
		}
		changed = true
		if !h.server || h.asked {
			o.goneAccess |= h.access
			o.goneDeny |= h.deny
			o.atBackend = true
		}
		return false
	})
	for l := range o.locks {
		if o.client == nil { // c had it, or nobody
			changed = changed || len(l.live) > 0
			l.gone = strongest(l.gone, l.live)
			l.live, l.sid, l.reclaimed = nil, nil, false
		}
		l.held = letHeld(l.held, func(h heldRange) bool {
			if h.server && !all {
				return true
			}
			changed = true
			if !h.server || h.asked {
				l.gone = strongest(l.gone, h.set)
			}
			return false
		})
	}
	if changed && o.atBackend {
		s.releaseOpen(eff, o)
	}
	return changed
}

// letHeld keeps the pieces for which keep is true.
func letHeld[T any](in []T, keep func(T) bool) []T {
	out := in[:0]
	for _, h := range in {
		if keep(h) {
			out = append(out, h)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// evict ends a client whose lease is over because somebody wants what it has: all of it goes. It
// does nothing if the client came back meanwhile.
func (s *Server) evict(c *Client, why string, eff *Effects) {
	s.mu.Lock()
	c.mu.Lock()
	ok := !c.dead && c.yields(s.now())
	if ok {
		c.dead = true
	}
	c.mu.Unlock()
	if ok {
		s.unlistClient(c, eff)
		c.party.confirming = true // until expired is done
	}
	s.mu.Unlock()
	if ok {
		s.expired(c, why, eff)
	}
}

// expired releases a buried client's state and notes that it must not reclaim it: RFC 8881 8.4.3.
func (s *Server) expired(c *Client, why string, eff *Effects) {
	s.noteClient(eff, c.party, func(r *journal.Client) { r.Expired, r.Epoch = true, s.cfg.Epoch })
	s.event(eff.batch(), journal.Event{Type: "client", Client: c.party.owner, Result: "expired", Text: why})
	s.tellExpired(c, why, eff)
	s.strip(c, killRelease, eff)
	if s.reclaimable() {
		c.party.mu.Lock()
		c.party.expired = true
		c.party.mu.Unlock()
	}
	s.clientDone(c.party.owner, eff)
	s.mu.Lock()
	c.party.confirming = false
	s.noteExpired40(c)
	s.tidyParty(c.party)
	s.mu.Unlock()
}

// tellExpired names what an expired client loses, one by one up to a limit, as the end of grace does.
func (s *Server) tellExpired(c *Client, why string, eff *Effects) {
	n := 0
	lost := func(e journal.Event) {
		if n++; n <= maxLostEvents {
			e.Type, e.Result = "lost", "expired"
			s.event(eff.batch(), e)
		}
	}
	for _, o := range c.party.entries() {
		f := o.file
		f.mu.Lock()
		if o.client == nil || o.client == c {
			locks := 0
			for l := range o.locks {
				for _, k := range strongest(l.wanted(), l.heldSet(true)) {
					locks++
					lost(journal.Event{Client: l.owner.Client, Owner: l.owner.Owner, File: f.handle, Name: o.name, Range: k.Range, Lock: k.Type, Text: why})
				}
			}
			// Opens by the thousand say nothing; one that kept others out was a lock.
			if _, deny := o.wanted(); deny != 0 && locks == 0 {
				lost(journal.Event{Client: o.owner.Client, Owner: o.owner.Owner, File: f.handle, Name: o.name, Text: fmt.Sprintf("open, deny %d: %s", deny, why)})
			}
		}
		f.mu.Unlock()
	}
	if n > maxLostEvents {
		s.event(eff.batch(), journal.Event{Type: "lost", Client: c.party.owner, Result: "expired", Text: fmt.Sprintf("and %d more", n-maxLostEvents)})
	}
}

// forget drops the client's record.
func (s *Server) forget(p *party, eff *Effects) {
	s.clientDone(p.owner, eff)
	s.mu.Lock()
	p.confirming = false
	if p.confirmed == nil {
		p.mu.Lock()
		p.recorded = false
		p.mu.Unlock()
		eff.noteParty(s, p.owner, nil)
	}
	s.tidyParty(p)
	s.mu.Unlock()
}

// stale tells whether a held piece has come to its limit and must give way to a conflict: not while
// the origin does not answer, as for leases.
func (s *Server) stale(since time.Time, now time.Time) bool {
	return !s.held.Load() && !s.Restoring() && now.After(since.Add(s.cfg.ReclaimCap))
}

// yieldShares gives up the held modes of o that are at their limit. file.mu is held.
func (s *Server) yieldShares(o *open, now time.Time, eff *Effects) *Release {
	changed := false
	o.held = letHeld(o.held, func(h heldShare) bool {
		if h.server || !s.stale(h.since, now) {
			return true
		}
		o.goneAccess |= h.access
		o.goneDeny |= h.deny
		o.atBackend, changed = true, true
		return false
	})
	if !changed {
		return nil
	}
	if a, _ := o.wanted(); a == 0 {
		// Locks are held under an open: they go with it, in the record too.
		for l := range o.locks {
			l.gone = strongest(l.gone, l.wanted())
			l.held = letHeld(l.held, func(h heldRange) bool { return h.server })
		}
	}
	o.party.gaveUp()
	s.noteAll(eff, o)
	s.event(eff.batch(), journal.Event{Type: "lost", Client: o.owner.Client, Owner: o.owner.Owner, File: o.file.handle, Name: o.name,
		Result: "limit", Text: "held open gave way to a conflict"})
	return s.releaseOpen(eff, o)
}

// yieldRanges gives up the held ranges of l that are at their limit. file.mu is held.
func (s *Server) yieldRanges(l *lock, now time.Time, eff *Effects) *Release {
	var gone fs.RangeSet
	l.held = letHeld(l.held, func(h heldRange) bool {
		if h.server || !s.stale(h.since, now) {
			return true
		}
		gone = strongest(gone, h.set)
		return false
	})
	if len(gone) == 0 {
		return nil
	}
	l.gone = strongest(l.gone, gone)
	l.open.party.gaveUp()
	s.noteLock(eff, l)
	for _, g := range gone {
		s.event(eff.batch(), journal.Event{Type: "lost", Client: l.owner.Client, Owner: l.owner.Owner, File: l.open.file.handle, Name: l.open.name,
			Range: g.Range, Lock: g.Type, Result: "limit", Text: "held lock gave way to a conflict"})
	}
	return s.releaseLock(eff, l)
}

func (p *party) gaveUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.yielded = true
}
