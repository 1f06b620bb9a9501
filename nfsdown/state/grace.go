package state

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// GracePhase is where the server's own grace period stands.
type GracePhase uint8

// The phases.
const (
	GraceNone   GracePhase = iota // there was nothing to reclaim
	GraceActive                   // reclaims are taken
	GraceEnding                   // no more reclaims; the end is on its way to the journal and upstream
	GraceOver
)

func (p GracePhase) String() string { return [...]string{"none", "active", "ending", "over"}[p%4] }

// grace is the server's own grace period, RFC 8881 8.4.2.1. A reclaim enters it and leaves it, so
// that it cannot end in the middle of one (invariant I5).
type grace struct {
	phase    atomic.Uint32 // a GracePhase; changes under mu
	complete bool          // immutable: the journal was

	mu      sync.Mutex     // a leaf
	end     time.Time      // guarded by mu
	latest  time.Time      // immutable; where reclaims that keep coming cannot move the end any more
	refs    int            // guarded by mu; reclaims on their way
	refsAt  map[uint32]int // guarded by mu; those of them that are about files of a part
	closing bool           // guarded by mu; it is to end: nobody enters any more
	// closingAt, guarded by mu: parts where it is to end, or has ended, before it does so everywhere.
	closingAt map[uint32]bool
	expected  map[string]bool // guarded by mu; co_ownerids that had something: are they done?
	lost      []Lost          // guarded by mu; in parts where it has ended, then all
	// parts are those of closingAt that nothing keeps from ending any more: Ending or Over. A map that was stored
	// does not change; stored under mu.
	parts atomic.Pointer[map[uint32]GracePhase]

	granted, refused atomic.Int64
}

// graceMore is how long grace lasts at least after a reclaim, as a part of the grace period, but not less
// than graceMoreLeast. It is what a client may take from one reclaim to the next on a slow machine.
const (
	graceMorePart  = 9
	graceMoreLeast = 2 * time.Second
)

// Lost is a lock or an open that was not reclaimed in time.
type Lost struct {
	Owner        fs.Owner // the lock-owner, or the open-owner
	File         fs.Handle
	Name         string
	Locks        fs.RangeSet // nil for an open
	Access, Deny fs.Share
}

// load fills the server from the journal.
func (s *Server) load(snap *journal.Snapshot) {
	g := &s.grace
	g.expected, g.refsAt, g.closingAt = map[string]bool{}, map[uint32]int{}, map[uint32]bool{}
	g.complete = snap == nil || snap.Complete
	if snap == nil {
		return
	}
	if s.cfg.Restore && snap.Whole {
		if s.restore.visible = visible(snap); s.restore.visible == "" {
			s.restoreAll(snap)
			return
		}
	}
	now := s.now()
	for i := range snap.Clients {
		p := s.partyOf(snap.Clients[i].Owner)
		p.rec, p.recorded = snap.Clients[i], true
		p.expired = p.rec.Expired
	}
	for i := range snap.Opens {
		if r := &snap.Opens[i]; !strings.HasPrefix(r.Owner.Client, fs.LocalClient) {
			o := s.loadOpen(r.Owner, r.File)
			o.held = []heldShare{{access: r.Access, deny: r.Deny, since: now, server: true}}
			o.epoch, o.name, o.since = r.Epoch, r.Name, r.Since
			o.cred = &fs.Cred{UID: r.UID, GID: r.GID, Groups: r.Groups}
		}
	}
	for i := range snap.Locks {
		if r := &snap.Locks[i]; !strings.HasPrefix(r.Owner.Client, fs.LocalClient) && len(r.Ranges) > 0 {
			o := s.loadOpen(r.OpenOwner, r.File)
			l := o.file.lockOf(o, r.Owner)
			l.held = []heldRange{{set: r.Ranges, since: now, server: true}}
			l.epoch, l.since = r.Epoch, r.Since
		}
	}
	for owner, p := range s.parties {
		if len(p.opens) > 0 {
			g.expected[owner] = false
		} else {
			s.tidyParty(p)
		}
	}
	if len(g.expected) > 0 || !g.complete {
		g.end = now.Add(s.cfg.Grace)
		g.latest = g.end.Add(s.cfg.Grace)
		g.phase.Store(uint32(GraceActive))
		return
	}
	s.forgetExpired()
}

func (s *Server) loadOpen(owner fs.Owner, h fs.Handle) *open {
	f := s.files.get(h)
	o := f.openOf(s.partyOf(owner.Client), owner)
	s.files.put(f)
	return o
}

// Phase tells where grace stands. In some parts it may be over already: PhaseAt.
func (s *Server) Phase() GracePhase { return GracePhase(s.grace.phase.Load()) }

// PhaseAt tells where grace stands for a file.
func (s *Server) PhaseAt(h fs.Handle) GracePhase {
	p := s.Phase()
	if m := s.grace.parts.Load(); m != nil && (p == GraceActive || p == GraceEnding) {
		if early, ok := (*m)[s.cfg.Part(h)]; ok {
			return early
		}
	}
	return p
}

// reclaimable tells whether what the journal held can still be reclaimed, somewhere.
func (s *Server) reclaimable() bool { return s.Phase() == GraceActive }

// reclaimableAt tells whether what the journal held of a file can still be reclaimed.
func (s *Server) reclaimableAt(h fs.Handle) bool { return s.PhaseAt(h) == GraceActive }

// stalled tells whether nothing but reclaims of a file is taken: in grace, when we cannot know what might be
// reclaimed, and nobody behind us knows either (RFC 8881 8.4.2.1); or where that is wished.
func (s *Server) stalled(h fs.Handle) bool {
	p := s.PhaseAt(h)
	unknown := !s.grace.complete && s.cfg.UnknownReclaim == UnknownRefuse
	return (unknown || s.cfg.ReclaimsOnly) && (p == GraceActive || p == GraceEnding)
}

// enter takes a reference for a reclaim of a file of a part: false if grace is over there, or about to be.
func (s *Server) enter(part uint32) bool {
	g := &s.grace
	g.mu.Lock()
	defer g.mu.Unlock()
	now := s.now()
	if g.refs > 0 {
		s.extend(now) // one that takes long holds grace for those that come meanwhile
	}
	if !s.reclaimable() || g.closing || g.closingAt[part] || !now.Before(g.end) {
		return false
	}
	s.extend(now)
	g.refs++
	g.refsAt[part]++
	return true
}

// extend lets grace last as long as reclaims keep coming, up to twice its time, as RFC 8881 8.4.2.1
// allows: who is in the middle of its reclaims is not cut off. g.mu is held.
func (s *Server) extend(now time.Time) {
	g := &s.grace
	more := now.Add(max(graceMoreLeast, s.cfg.Grace/graceMorePart))
	if more.After(g.latest) {
		more = g.latest
	}
	if more.After(g.end) {
		g.end = more
	}
}

// leave gives the reference back.
func (s *Server) leave(part uint32, eff *Effects) {
	g := &s.grace
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refs--
	g.refsAt[part]--
	s.extend(s.now()) // the next one comes after the answer
	if g.refs == 0 && s.mayEnd() || g.refsAt[part] == 0 && g.closingAt[part] {
		eff.GraceMayEnd = true
	}
}

// mayEnd tells whether nothing but a reclaim under way keeps grace from ending. g.mu is held.
func (s *Server) mayEnd() bool {
	g := &s.grace
	if !s.reclaimable() {
		return false
	}
	if g.closing || !s.now().Before(g.end) {
		return true
	}
	if !g.complete {
		return false // there may be clients that we do not know of
	}
	for _, done := range g.expected {
		if !done {
			return false
		}
	}
	return true
}

// clientDone notes that nothing more is expected of a client.
func (s *Server) clientDone(owner string, eff *Effects) {
	g := &s.grace
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.expected[owner]; ok {
		g.expected[owner] = true
		if g.refs == 0 && s.mayEnd() {
			eff.GraceMayEnd = true
		}
	}
}

// NoGrace ends grace early: the origin takes no reclaims. Call EndGrace when the Effects say so.
// What was not reclaimed is lost.
func (s *Server) NoGrace() *Effects {
	eff := &Effects{}
	g := &s.grace
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.reclaimable() {
		g.closing = true
		eff.GraceMayEnd = g.refs == 0
	}
	return eff
}

// GraceEnd is the end of grace on its way: Record, then Commit the Batch, then Backend.ReclaimComplete, then Done.
type GraceEnd struct {
	Batch *journal.Batch // with EndGrace(epoch), and an event for each thing that is lost
	Lost  []Lost
	srv   *Server
}

// maxLostEvents is how many losses the journal names one by one: a batch has its limits.
const maxLostEvents = 1000

// EndGrace ends grace if it may end: nil if there is none, if clients are still expected and time is
// not over, or if a reclaim is under way (then Effects say GraceMayEnd when it is done).
// force ends it now, as soon as no reclaim is under way.
func (s *Server) EndGrace(force bool) *GraceEnd {
	g := &s.grace
	g.mu.Lock()
	if force && s.reclaimable() {
		g.closing = true
	}
	ok := g.refs == 0 && s.mayEnd()
	if ok {
		g.closing = true
		g.phase.Store(uint32(GraceEnding))
	}
	g.mu.Unlock()
	if !ok {
		return nil
	}
	e := &GraceEnd{Batch: &journal.Batch{}, srv: s}
	e.Batch.EndGrace(s.cfg.Epoch)
	s.eachServerHeld(func(o *open) {
		if !s.endsEarly(o.file.handle) { // else it is named there
			e.Lost = append(e.Lost, o.lost()...)
		}
	})
	s.lostEvents(e.Batch, e.Lost)
	g.mu.Lock()
	g.lost = append(g.lost, e.Lost...)
	lost := len(g.lost)
	g.mu.Unlock()
	s.event(e.Batch, journal.Event{Type: "grace", Result: "ended", Text: fmt.Sprintf("%d reclaims granted, %d refused, %d lost",
		g.granted.Load(), g.refused.Load(), lost)})
	return e
}

// Record posts those records that the mark does not make void though they say something that can be reclaimed no
// more. It does so with the mutexes held: requests go on meanwhile, and a record that was made before and came after
// that of a lock would not know of it (I2).
func (e *GraceEnd) Record(h Host) {
	s := e.srv
	s.eachServerHeld(func(o *open) {
		b := &journal.Batch{}
		if s.putMixed(b, o) > 0 {
			h.Post(b)
		}
	})
}

// lostEvents names what was not reclaimed.
func (s *Server) lostEvents(b *journal.Batch, list []Lost) {
	for i, l := range list {
		if i == maxLostEvents {
			s.event(b, journal.Event{Type: "lost", Result: "not reclaimed", Text: fmt.Sprintf("and %d more", len(list)-i)})
			break
		}
		ev := journal.Event{Type: "lost", Client: l.Owner.Client, Owner: l.Owner.Owner, File: l.File, Name: l.Name, Result: "not reclaimed"}
		if len(l.Locks) == 0 {
			ev.Text = fmt.Sprintf("open, access %d, deny %d", l.Access, l.Deny)
			s.event(b, ev)
		}
		for _, k := range l.Locks {
			ev.Range, ev.Lock = k.Range, k.Type
			s.event(b, ev)
		}
	}
}

// lost names what of o waits from the journal. file.mu is held.
func (o *open) lost() []Lost {
	var out []Lost
	if o.isDeleg() {
		return nil // what was done under it is in opens and locks, or was the client's alone
	}
	a, d := o.heldModes(true)
	if o.client != nil {
		a, d = a&^o.access, d&^o.deny
	}
	if a|d != 0 {
		out = append(out, Lost{Owner: o.owner, File: o.file.handle, Name: o.name, Access: a, Deny: d})
	}
	for l, set := range o.heldLocks(true) {
		out = append(out, Lost{Owner: l.owner, File: o.file.handle, Name: o.name, Locks: set})
	}
	return out
}

// eachServerHeld calls f, with file.mu held, for every open that has something from the journal.
func (s *Server) eachServerHeld(f func(*open)) {
	for _, file := range s.files.all() {
		file.mu.Lock()
		for _, o := range file.opens {
			if o.hasServer() {
				f(o)
				for l := range o.locks {
					file.tidyLock(l)
				}
			}
			file.tidyOpen(o)
		}
		file.mu.Unlock()
		s.files.put(file)
	}
}

// Done says that the end is durable and the origin knows. What was not reclaimed no longer conflicts.
func (e *GraceEnd) Done() *Effects {
	s, eff := e.srv, &Effects{}
	s.eachServerHeld(func(o *open) {
		s.dropServer(o, eff)
		if o.client != nil {
			s.noteAll(eff, o) // the last word, whatever was posted meanwhile
		}
		s.wake(o.file, eff)
	})
	s.grace.mu.Lock()
	s.grace.phase.Store(uint32(GraceOver))
	s.grace.mu.Unlock()
	s.mu.Lock()
	s.forgetExpired()
	s.mu.Unlock()
	return eff
}

// forgetExpired drops the notes of who must not reclaim, when nobody can any more. s.mu is held, or
// nobody else has s.
func (s *Server) forgetExpired() {
	for _, p := range s.parties {
		p.mu.Lock()
		p.expired = false
		p.mu.Unlock()
		s.tidyParty(p)
	}
}

// dropServer forgets what of o waits from the journal. What the backend may have got of it by a
// reclaim without an answer is released. file.mu is held.
func (s *Server) dropServer(o *open, eff *Effects) {
	asked := false
	o.held = letHeld(o.held, func(h heldShare) bool {
		if h.server && h.asked {
			asked = true
			o.goneAccess |= h.access
			o.goneDeny |= h.deny
			o.atBackend = true
		}
		return !h.server
	})
	for l := range o.locks {
		l.held = letHeld(l.held, func(h heldRange) bool {
			if h.server && h.asked {
				asked = true
				l.gone = strongest(l.gone, h.set)
			}
			return !h.server
		})
	}
	if asked {
		s.releaseOpen(eff, o)
	}
}

// A CompletePlan is a RECLAIM_COMPLETE that is to become durable.
type CompletePlan struct {
	Batch  *journal.Batch // to Commit
	srv    *Server
	client *Client
	opens  []*open
}

// PrepareReclaimComplete is RECLAIM_COMPLETE, RFC 8881 18.51. COMPLETE_ALREADY for the second one,
// DELAY while a reclaim or another RECLAIM_COMPLETE of the client is on its way. oneFS has no effect
// here (no migration): the plan is nil and so is the error.
func (s *Server) PrepareReclaimComplete(c *Client, oneFS bool) (*CompletePlan, error) {
	if oneFS {
		return nil, nil
	}
	c.mu.Lock()
	switch {
	case c.complete:
		c.mu.Unlock()
		return nil, nfs4.NFS4ERR_COMPLETE_ALREADY
	case c.completing || c.reclaiming > 0:
		c.mu.Unlock()
		return nil, nfs4.NFS4ERR_DELAY
	}
	c.completing = true
	c.mu.Unlock()
	p := &CompletePlan{srv: s, client: c}
	for _, o := range c.party.entries() {
		o.file.mu.Lock()
		if o.hasHeld() {
			if p.Batch == nil {
				p.Batch = &journal.Batch{}
			}
			p.opens = append(p.opens, o)
			o.users++
			s.putMixed(p.Batch, o)
		}
		o.file.mu.Unlock()
	}
	if p.Batch == nil {
		p.Batch = &journal.Batch{}
	}
	c.party.writeClient(p.Batch, func(r *journal.Client) {
		if r.Complete = true; !c.party.restored {
			r.CompleteEpoch, r.Epoch = s.cfg.Epoch, s.cfg.Epoch
		}
	})
	s.event(p.Batch, journal.Event{Type: "reclaim", Client: c.party.owner, Result: "complete"})
	return p, nil
}

// hasHeld tells whether the entry has anything held. file.mu is held.
func (o *open) hasHeld() bool {
	if len(o.held) > 0 {
		return true
	}
	for l := range o.locks {
		if len(l.held) > 0 {
			return true
		}
	}
	return false
}

// Settle ends the plan: what was held for the client and was not reclaimed is released, and can
// never be reclaimed.
func (p *CompletePlan) Settle(journalErr error) (*Effects, error) {
	s, c, eff := p.srv, p.client, &Effects{}
	for _, o := range p.opens {
		o.file.mu.Lock()
		o.users--
		if journalErr == nil {
			s.dropHeld(o, eff)
			s.wake(o.file, eff)
		}
		s.noteAll(eff, o)
		o.file.tidyOpen(o)
		o.file.mu.Unlock()
		s.files.drop(o.file)
	}
	c.mu.Lock()
	c.completing = false
	c.complete = c.complete || journalErr == nil
	c.mu.Unlock()
	if journalErr == nil {
		s.clientDone(c.party.owner, eff)
	}
	return eff, journalErr
}

// dropHeld releases what is held in o and keeps what is live. file.mu is held.
func (s *Server) dropHeld(o *open, eff *Effects) {
	for _, h := range o.held {
		if !h.server || h.asked {
			o.goneAccess |= h.access &^ o.access
			o.goneDeny |= h.deny &^ o.deny
			o.atBackend = true
		}
	}
	o.held = nil
	gone := o.goneAccess|o.goneDeny != 0
	for l := range o.locks {
		for _, h := range l.held {
			if !h.server || h.asked {
				l.gone = strongest(l.gone, h.set)
				gone = true
			}
		}
		l.held = nil
	}
	if gone {
		s.releaseOpen(eff, o)
	}
}

// GraceInfo is the state of recovery.
type GraceInfo struct {
	Phase    GracePhase
	Left     time.Duration
	Complete bool     // the journal was complete
	Expected int      // clients that had something
	Done     int      // of these, complete
	Missing  []string // co_ownerids of those that are not
	// Reclaims of this incarnation: granted, refused, and items not reclaimed so far.
	Granted, Refused, Remaining int
	Lost                        []Lost // after the end; before it, what would be lost if it ended now
	// LostEarly is what was lost, while grace lasts, in the parts where it has ended. After the end it is in Lost.
	LostEarly []Lost
}

// GraceInfo tells how recovery stands.
func (s *Server) GraceInfo() GraceInfo {
	g := &s.grace
	g.mu.Lock()
	i := GraceInfo{Phase: s.Phase(), Complete: g.complete, Expected: len(g.expected), Lost: g.lost,
		Granted: int(g.granted.Load()), Refused: int(g.refused.Load())}
	if i.Phase == GraceActive {
		i.Left = max(0, g.end.Sub(s.now()))
	}
	for owner, done := range g.expected {
		if done {
			i.Done++
		} else {
			i.Missing = append(i.Missing, owner)
		}
	}
	g.mu.Unlock()
	sort.Strings(i.Missing)
	if i.Phase == GraceActive {
		i.Lost, i.LostEarly = nil, slices.Clone(i.Lost)
		s.eachServerHeld(func(o *open) {
			if !s.endsEarly(o.file.handle) {
				i.Lost = append(i.Lost, o.lost()...)
			}
		})
		sortLost(i.Lost)
		sortLost(i.LostEarly)
		i.Remaining = len(i.Lost)
	}
	return i
}

func sortLost(l []Lost) {
	sort.Slice(l, func(i, j int) bool {
		if l[i].File != l[j].File {
			return l[i].File < l[j].File
		}
		if l[i].Owner != l[j].Owner {
			return l[i].Owner.Client+"\x00"+l[i].Owner.Owner < l[j].Owner.Client+"\x00"+l[j].Owner.Owner
		}
		return l[i].Locks == nil && l[j].Locks != nil
	})
}
