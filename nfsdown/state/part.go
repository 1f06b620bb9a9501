package state

import (
	"context"
	"fmt"
	"maps"

	"holdfast/fs"
	"holdfast/journal"
)

// A server may stand before several origins. When one of them takes no reclaims, grace ends for the files that are
// there, which are a part of the server (Config.Part), and goes on for the others. As at the end of the whole, what
// was not reclaimed is first void in the journal, then RECLAIM_COMPLETE goes to that origin, and only then does it no
// longer conflict. But no mark can say it, since that counts for all: the records are deleted, or written without
// what waits from the journal. Each by itself is then reclaimable or void, wherever a crash comes.

// NoGraceAt ends grace early for the files of a part: their origin takes no reclaims. Call EndGraceAt when the
// Effects say so, by GraceMayEnd. What was not reclaimed of them is lost.
func (s *Server) NoGraceAt(part uint32) *Effects {
	eff := &Effects{}
	g := &s.grace
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.reclaimable() {
		g.closingAt[part] = true
		eff.GraceMayEnd = g.refsAt[part] == 0
	}
	return eff
}

// EndedAt tells whether grace has ended for a part, or is to, by NoGraceAt.
func (s *Server) EndedAt(part uint32) bool {
	g := &s.grace
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closingAt[part]
}

// endsEarly tells whether grace for a file ends, or has ended, before it does so for all.
func (s *Server) endsEarly(h fs.Handle) bool {
	m := s.grace.parts.Load()
	if m == nil {
		return false
	}
	_, ok := (*m)[s.cfg.Part(h)]
	return ok
}

// PartEnd is the end of grace for a part on its way: Record, then Commit the Batch, then the ReclaimComplete of
// the part's backend, then Done. If one of these fails the part stays as it is: nothing more is reclaimed, and what
// was not still conflicts.
type PartEnd struct {
	Part  uint32
	Batch *journal.Batch // an event for each thing that is lost
	Lost  []Lost

	srv   *Server
	opens []*open // that had something to reclaim; in use until Done
}

// EndGraceAt begins the end of grace for one of the parts that NoGraceAt named, when no reclaim there is under way;
// nil if there is none.
func (s *Server) EndGraceAt() *PartEnd {
	part, ok := s.partToEnd()
	if !ok {
		return nil
	}
	e := &PartEnd{Part: part, Batch: &journal.Batch{}, srv: s}
	s.eachServerHeld(func(o *open) {
		if s.cfg.Part(o.file.handle) == part {
			e.Lost = append(e.Lost, o.lost()...)
			o.users++
			e.opens = append(e.opens, o)
		}
	})
	s.lostEvents(e.Batch, e.Lost)
	s.event(e.Batch, journal.Event{Type: "grace", Result: "ended in part", Text: fmt.Sprintf("%d lost", len(e.Lost))})
	g := &s.grace
	g.mu.Lock()
	g.lost = append(g.lost, e.Lost...)
	g.mu.Unlock()
	return e
}

// partToEnd finds a part that may end, and lets it.
func (s *Server) partToEnd() (uint32, bool) {
	g := &s.grace
	g.mu.Lock()
	defer g.mu.Unlock()
	if !s.reclaimable() || g.closing {
		return 0, false // it ends everywhere
	}
	for part := range g.closingAt {
		if g.refsAt[part] == 0 && g.setPart(part, GraceEnding) {
			return part, true
		}
	}
	return 0, false
}

// setPart moves a part on; false if it is there already. g.mu is held.
func (g *grace) setPart(part uint32, to GracePhase) bool {
	now := map[uint32]GracePhase{}
	if m := g.parts.Load(); m != nil {
		maps.Copy(now, *m)
	}
	if now[part] >= to {
		return false
	}
	now[part] = to
	g.parts.Store(&now)
	return true
}

// Record posts the records of the part without what can be reclaimed no more. It waits for the requests that are
// about the same owners and files: what they wrote down before the end may still name it. The error is that of ctx.
func (e *PartEnd) Record(ctx context.Context, h Host) error {
	for _, o := range e.opens {
		if err := o.turn.take(ctx, true); err != nil {
			return err
		}
		eff := &Effects{}
		o.file.mu.Lock()
		e.srv.noteAll(eff, o)
		o.file.mu.Unlock()
		o.turn.give(true)
		eff.Record(h)
	}
	return nil
}

// Done says that the end is durable and the origin knows. What was not reclaimed no longer conflicts, and grace need
// not wait for clients that had no more than that.
func (e *PartEnd) Done() *Effects {
	s, eff := e.srv, &Effects{}
	had := map[*party]bool{}
	for _, o := range e.opens {
		f := o.file
		f.mu.Lock()
		s.dropServer(o, eff)
		s.wake(f, eff)
		o.users--
		for l := range o.locks {
			f.tidyLock(l)
		}
		f.tidyOpen(o)
		f.mu.Unlock()
		s.files.drop(f)
		had[o.party] = true
	}
	s.grace.mu.Lock()
	s.grace.setPart(e.Part, GraceOver)
	s.grace.mu.Unlock()
	for p := range had {
		if !s.expects(p) {
			s.clientDone(p.owner, eff)
		}
		s.mu.Lock()
		s.tidyParty(p)
		s.mu.Unlock()
	}
	return eff
}

// expects tells whether something of a client can still be reclaimed. One that says RECLAIM_COMPLETE is waited for
// until it does so, if it has anything from before at all.
func (s *Server) expects(p *party) bool {
	s.mu.RLock()
	c := p.confirmed
	s.mu.RUnlock()
	if c != nil && (c.v40 != nil || c.permanent) {
		return p.unreclaimed()
	}
	return p.holdsServer()
}
