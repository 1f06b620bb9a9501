package state

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// OpenTicket is an open by name on its way: the backend opens a file whose handle is not known yet.
type OpenTicket struct {
	party *party
	owner string // the open-owner's bytes
	// touched, guarded by party.mu: files whose open by this owner was closed or reduced meanwhile.
	touched map[fs.Handle]bool
}

// judgeNew judges a non-reclaim OPEN or LOCK before the file, or what is of its part, is looked at: RFC 8881 8.4.2.1, 18.51.3.
// A client for which state is held over its restart may open before its RECLAIM_COMPLETE, and lock
// unless it negotiated retention (draft; DESIGN 5).
func (s *Server) judgeNew(c *Client, h fs.Handle, lock bool) error {
	if s.stalled(h) {
		return nfs4.NFS4ERR_GRACE
	}
	if c.v40 != nil {
		if c.waits40(h) {
			return nfs4.NFS4ERR_GRACE
		}
		return nil
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.complete || c.permanent || c.retained && !(lock && c.retain) {
		return nil
	}
	return nfs4.NFS4ERR_GRACE
}

// BeginOpen judges an open by name as far as can be done without the handle (GRACE), before the
// backend is asked. dir is the directory. End the ticket after Settle, or when the backend refused.
func (s *Server) BeginOpen(c *Client, owner string, dir fs.Handle) (*OpenTicket, error) {
	if owner == DelegOwner {
		return nil, nfs4.NFS4ERR_INVAL
	}
	if err := s.judgeNew(c, dir, false); err != nil {
		return nil, err
	}
	t := &OpenTicket{party: c.party, owner: owner}
	c.party.mu.Lock()
	defer c.party.mu.Unlock()
	c.party.tickets[owner] = append(c.party.tickets[owner], t)
	return t, nil
}

// End ends the ticket.
func (t *OpenTicket) End() {
	p := t.party
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.tickets[t.owner]
	for i, o := range list {
		if o == t {
			list = append(list[:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(p.tickets, t.owner)
	} else {
		p.tickets[t.owner] = list
	}
}

func (t *OpenTicket) wasTouched(f fs.Handle) bool {
	t.party.mu.Lock()
	defer t.party.mu.Unlock()
	return t.touched[f]
}

// shareConflict looks for what stands in the way of an open by owner. What does only by courtesy,
// or past its limit, is taken away into evict. It returns a channel to wait on before it is looked
// again, or an error, or neither: the way is free. f.mu is held, and is given up for an eviction,
// after which again is true.
func (s *Server) shareConflict(f *file, owner fs.Owner, via nfs4.SessionID, access, deny fs.Share, evict *Effects) (_ <-chan struct{}, again bool, _ error) {
	now := s.now()
	wait, victim, err := s.delegConflict(f, owner.Client, access, deny, now, evict)
	clash := func(a, d fs.Share) bool { return a&deny != 0 || d&access != 0 }
	var past []*open // with something held past its limit
	for _, o := range f.opens {
		if o.isDeleg() {
			continue
		}
		if o.owner == owner {
			// What the owner denies it denies itself (RFC 8881 9.7, RFC 7530 9.9). Not so in NLM, where a SHARE that is
			// repeated takes the place of the one before, and not if this may be an OPEN that was granted already.
			if o.client != nil && !o.client.permanent && !o.answerLost(via, access, deny) && clash(o.access, o.deny) {
				return nil, false, nfs4.NFS4ERR_SHARE_DENIED
			}
			continue
		}
		if o.client != nil && clash(o.access, o.deny) {
			if !o.client.yields(now) {
				return nil, false, nfs4.NFS4ERR_SHARE_DENIED
			}
			victim = o.client
		}
		stale := false
		for _, h := range o.held {
			switch {
			case !clash(h.access, h.deny):
			case h.server:
				err = nfs4.NFS4ERR_GRACE
			case s.stale(h.since, now):
				stale = true
			default:
				return nil, false, nfs4.NFS4ERR_SHARE_DENIED
			}
		}
		if stale {
			past = append(past, o)
		}
		if o.pend != nil && clash(o.pend.access, o.pend.deny) {
			wait = o.pend.done
		}
		if o.release != nil && clash(o.goneAccess, o.goneDeny) && !evict.releases(o.release) {
			if o.release.failed {
				return nil, false, nfs4.NFS4ERR_DELAY
			}
			wait = o.release.done
		}
	}
	if err != nil {
		return nil, false, err
	}
	if victim != nil {
		f.mu.Unlock()
		s.evict(victim, "its lease was over and another client opened what it had", evict)
		f.mu.Lock()
		return nil, true, nil
	}
	for _, o := range past {
		if busy := o.busy(); busy != nil {
			wait = busy
		}
	}
	if wait == nil {
		for _, o := range past {
			s.yieldShares(o, now, evict)
		}
	}
	return wait, false, nil
}

// answerLost tells whether an OPEN over the session via may be one that was granted before, and is sent again
// because its answer was lost with our restart or with the session that it was sent over: in a new session there
// is no reply cache to know it by (RFC 8881 2.10.6.2). file.mu is held.
func (o *open) answerLost(via nfs4.SessionID, access, deny fs.Share) bool {
	return (o.sid.restored || o.via != via) && access&^o.access == 0 && deny&^o.deny == 0
}

// busy is what to wait for before something of o is given up, nil if nothing: a plan that is on its
// way has the turn that the release will need, and may itself have to release what we have. As nobody
// gives up anything of an entry with a plan, such waits never make a circle. file.mu is held.
func (o *open) busy() <-chan struct{} {
	if o.pend != nil {
		return o.pend.done
	}
	for l := range o.locks {
		if l.pend != nil {
			return l.pend.done
		}
	}
	return nil
}

// releases tells whether a release is among what e is about to do.
func (e *Effects) releases(r *Release) bool {
	for _, x := range e.Releases {
		if x == r {
			return true
		}
	}
	return false
}

// freeShare makes room for an open where that takes no waiting; else it returns what to wait for
// before it is tried again. f.mu is held, and given up meanwhile.
func (s *Server) freeShare(f *file, owner fs.Owner, via nfs4.SessionID, access, deny fs.Share, evict *Effects) (wait <-chan struct{}, err error) {
	for again := true; again && err == nil; {
		wait, again, err = s.shareConflict(f, owner, via, access, deny, evict)
	}
	return wait, err
}

// await waits for what stands in the way. No mutex and no turn is held: what is waited for may need
// the turn. The error is the context's.
func await(ctx context.Context, wait <-chan struct{}) error {
	select {
	case <-wait:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// CheckOpen judges a non-reclaim open of a file without doing it: SHARE_DENIED or GRACE. The Effects
// evict what stands in the way only by courtesy; run them and (if the error is nil) ask the backend
// (again). Call it before an open by name that truncates, and after the backend said ShareDenied.
func (s *Server) CheckOpen(ctx context.Context, c *Client, req *OpenRequest) (*Effects, error) {
	evict := &Effects{}
	if err := s.judgeNew(c, req.File, false); err != nil {
		return evict, err
	}
	f := s.files.peek(req.File)
	if f == nil {
		return evict, nil
	}
	defer s.files.put(f)
	for {
		f.mu.Lock()
		wait, err := s.freeShare(f, fs.Owner{Client: c.party.owner, Owner: req.Owner}, req.Session, req.Access, req.Deny, evict)
		f.mu.Unlock()
		if wait == nil || err != nil {
			return evict, err
		}
		if err := await(ctx, wait); err != nil {
			return evict, err
		}
	}
}

// OpenPlan is an open on its way.
type OpenPlan struct {
	Batch *journal.Batch // to Commit; nil if nothing changes
	// Weak says that the open denies nobody anything: it is enough that Batch is in the log (journal.Write) before
	// the client is told. Power lost before it is on disk, within 5 ms or with the next lock, costs the client
	// a new OPEN; a lock is never on disk before the open that it is under.
	Weak    bool
	Evict   *Effects       // to run before the backend is asked; may be nil
	Call    Call           // also for an open by name: CallNormal says that it must be opened again, by handle
	Request fs.OpenRequest // by handle, for Call

	s       *Server
	c       *Client
	o       *open
	named   bool // the backend opened it by name
	unconf  bool // OPEN_CONFIRM has to follow
	reclaim bool
	via     nfs4.SessionID
	inGrace bool     // a reference on grace
	part    uint32   // of the file
	asked   bool     // an earlier reclaim of it has no answer
	puts    int      // of the entry, when Batch was made
	sid     *stateid // that it will have, if not the one it has
}

// PrepareOpen judges an open of a file. For an open by name (Ticket set) the backend has it already.
// The Effects are to be run whatever the error is: they undo such an open. Errors: SHARE_DENIED,
// GRACE, NO_GRACE, RECLAIM_BAD, RECLAIM_CONFLICT, or that of ctx.
func (s *Server) PrepareOpen(ctx context.Context, c *Client, req *OpenRequest) (*OpenPlan, *Effects, error) {
	if req.Owner == DelegOwner {
		return nil, &Effects{}, nfs4.NFS4ERR_INVAL
	}
	return s.prepareOpen(ctx, c, req)
}

func (s *Server) prepareOpen(ctx context.Context, c *Client, req *OpenRequest) (*OpenPlan, *Effects, error) {
	eff := &Effects{}
	owner := fs.Owner{Client: c.party.owner, Owner: req.Owner}
	p := &OpenPlan{s: s, c: c, named: req.Ticket != nil, unconf: req.Unconfirmed, reclaim: req.Reclaim, via: req.Session, part: s.cfg.Part(req.File), Evict: &Effects{}}
	p.Request = fs.OpenRequest{Owner: owner, File: req.File, Access: req.Access, Deny: req.Deny, Reclaim: req.Reclaim}
	if req.Reclaim {
		if err := c.beginReclaim(); err != nil {
			s.grace.refused.Add(1)
			return nil, eff, err
		}
		p.inGrace = s.enter(p.part)
	} else if !p.named {
		if err := s.judgeNew(c, req.File, false); err != nil {
			return nil, eff, err
		}
	}
	f := s.files.get(req.File)
	defer s.files.put(f)
	f.mu.Lock()
	o := f.openOf(c.party, owner)
	o.users++
	f.mu.Unlock()
	p.o = o

	turn, err := p.judge(ctx, req)
	defer f.mu.Unlock()
	if err != nil {
		if req.Reclaim {
			s.grace.refused.Add(1)
		}
		eff.Add(p.Evict)
		p.undo(eff)
		if turn {
			o.turn.give(true)
		}
		p.leave(eff)
		return nil, eff, err
	}
	if p.Call != CallNone || p.named {
		o.atBackend = true
	}
	o.cred = req.Cred
	if req.Name != "" {
		o.name = req.Name
	}
	if o.client == nil && (!req.Reclaim || o.since.IsZero()) {
		o.since = s.now()
	}
	if p.Call == CallReclaim {
		p.asked = o.isAsked()
		o.setAsked(true)
	}
	same := o.client == c && req.Access&^o.access == 0 && req.Deny&^o.deny == 0
	o.pend = &pendShare{access: req.Access, deny: req.Deny, done: make(chan struct{})}
	if o.client != c {
		o.pend.sid = c.newStateid(o, nil)
	}
	p.sid = o.pend.sid
	if !same && (!req.Reclaim || p.Call != CallNone) { // as in PrepareLock
		p.Batch = &journal.Batch{}
		s.putOpen(p.Batch, o)
		p.Weak = req.Deny&^o.deny == 0
	}
	p.puts = o.puts
	return p, eff, nil
}

// UndoOpen gives back an open by name that the backend granted and that PrepareOpen will not hear of. What
// the owner has open of the file by other requests stays. The Effects are to be run.
func (s *Server) UndoOpen(c *Client, req *OpenRequest) *Effects {
	eff := &Effects{}
	owner := fs.Owner{Client: c.party.owner, Owner: req.Owner}
	p := &OpenPlan{s: s, c: c, named: true}
	p.Request = fs.OpenRequest{Owner: owner, File: req.File, Access: req.Access, Deny: req.Deny}
	f := s.files.get(req.File)
	defer s.files.put(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	p.o = f.openOf(c.party, owner)
	p.o.users++
	p.undo(eff)
	p.leave(eff)
	return eff
}

// judge takes the turn and applies the rules. It returns with file.mu held, and tells whether it has
// the turn.
func (p *OpenPlan) judge(ctx context.Context, req *OpenRequest) (turn bool, err error) {
	s, o, f := p.s, p.o, p.o.file
	for {
		err := o.turn.take(ctx, true)
		f.mu.Lock()
		if err != nil {
			return false, err
		}
		var wait <-chan struct{}
		if req.Reclaim {
			p.Call, err = s.matchOpen(p, f)
		} else {
			wait, err = s.freeShare(f, o.owner, req.Session, req.Access, req.Deny, p.Evict)
			if p.Call = CallNormal; p.named && !req.Ticket.wasTouched(req.File) {
				p.Call = CallNone
			}
		}
		if err == nil {
			err = p.c.ready(p.reclaim)
		}
		if wait == nil || err != nil {
			return true, err
		}
		f.mu.Unlock()
		o.turn.give(true)
		if err := await(ctx, wait); err != nil {
			f.mu.Lock()
			return false, err
		}
	}
}

// undo gives back what the backend opened by name, or may have opened. file.mu is held.
func (p *OpenPlan) undo(eff *Effects) {
	if !p.named {
		return
	}
	p.o.goneAccess |= p.Request.Access
	p.o.goneDeny |= p.Request.Deny
	p.o.atBackend = true
	p.s.releaseOpen(eff, p.o)
}

// leave ends the plan's hold on the entry and on grace. file.mu is held.
func (p *OpenPlan) leave(eff *Effects) {
	p.o.users--
	p.s.wake(p.o.file, eff)
	p.o.file.tidyOpen(p.o)
	if p.reclaim {
		p.c.endReclaim()
	}
	if p.inGrace {
		p.s.leave(p.part, eff)
	}
}

func (o *open) isAsked() bool {
	for _, h := range o.held {
		if h.server && h.asked {
			return true
		}
	}
	return false
}

func (o *open) setAsked(asked bool) {
	for i := range o.held {
		if o.held[i].server {
			o.held[i].asked = asked
		}
	}
}

// beginReclaim notes a reclaim on its way: none passes after RECLAIM_COMPLETE.
func (c *Client) beginReclaim() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.complete || c.completing {
		return nfs4.NFS4ERR_NO_GRACE
	}
	c.reclaiming++
	return nil
}

func (c *Client) endReclaim() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reclaiming--
}

// noMatch is the refusal of a reclaim that matches nothing: RECLAIM_BAD where we know that it was
// not held, NO_GRACE where we know nothing, or no longer.
func (s *Server) noMatch(c *Client, inGrace bool) error {
	p := c.party
	p.mu.Lock()
	gone := p.expired || p.yielded
	p.mu.Unlock()
	c.mu.RLock()
	retained := c.retained
	c.mu.RUnlock()
	switch {
	case gone: // RFC 8881 8.4.3: somebody may have had it meanwhile
		return nfs4.NFS4ERR_NO_GRACE
	case inGrace && s.grace.complete, retained:
		return nfs4.NFS4ERR_RECLAIM_BAD
	}
	return nfs4.NFS4ERR_NO_GRACE
}

// forwards tells whether a reclaim that the journal does not know goes to the backend: the journal
// is incomplete, and somebody behind us can judge it.
func (s *Server) forwards(p *party, inGrace bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return inGrace && !s.grace.complete && s.cfg.UnknownReclaim == UnknownForward && !p.expired
}

// matchOpen judges CLAIM_PREVIOUS. The modes must be within what the owner has held; what it has
// reclaimed already counts, as a client may reclaim an open mode by mode. file.mu is held.
func (s *Server) matchOpen(p *OpenPlan, f *file) (Call, error) {
	o, want, wantDeny := p.o, p.Request.Access, p.Request.Deny
	haveA, haveD := o.heldModes(false)
	if o.client == p.c && (o.reclaimed || o.sid.restored) { // restored: our restart came before the answer
		haveA |= o.access
		haveD |= o.deny
	}
	if want&^haveA == 0 && wantDeny&^haveD == 0 {
		return CallNone, nil // the backend has it
	}
	known := false
	if p.inGrace {
		a, d := o.heldModes(true)
		known = want&^(haveA|a) == 0 && wantDeny&^(haveD|d) == 0
	}
	if !known && p.underDeleg(f) {
		return CallNormal, nil
	}
	if !known && !s.forwards(o.party, p.inGrace) {
		return CallNone, s.noMatch(p.c, p.inGrace)
	}
	// What the journal knows cannot conflict with what was granted since; what it does not know can.
	clash := func(a, d fs.Share) bool { return a&wantDeny != 0 || d&want != 0 }
	for _, x := range f.opens {
		switch {
		case x == o:
		case x.client != nil && clash(x.access, x.deny):
			return CallNone, nfs4.NFS4ERR_RECLAIM_CONFLICT
		case x.pend != nil && clash(x.pend.access, x.pend.deny):
			return CallNone, nfs4.NFS4ERR_DELAY
		}
	}
	return CallReclaim, nil
}

// underDeleg tells whether the client may have opened the file by itself, under a delegation that it has
// reclaimed: nobody could come between, and for the backend it is a new open. file.mu is held.
func (p *OpenPlan) underDeleg(f *file) bool {
	d := f.opens[fs.Owner{Client: p.o.owner.Client, Owner: DelegOwner}]
	return d != nil && d != p.o && d.client == p.c && p.Request.Deny == 0 && p.Request.Access&^d.access == 0
}

// ended tells whether after err of a call that gives something back the backend may have it no more.
func ended(err error) bool { return released(err) || !refused(err) }

// refused tells whether err says for certain that the backend has not done it.
func refused(err error) bool {
	switch fs.CodeOf(err) {
	case fs.Interrupted, fs.ServerFault, fs.IO, fs.Unreachable:
		return false
	}
	return true
}

// Settle ends the plan with what the backend said (nil if it was not asked) and the journal. The
// error is the one to answer with.
func (p *OpenPlan) Settle(backendErr, journalErr error) (nfs4.Stateid, *Effects, error) {
	s, o, f, eff := p.s, p.o, p.o.file, &Effects{}
	defer s.files.drop(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	close(o.pend.done)
	o.pend = nil
	err := backendErr
	switch {
	case backendErr != nil:
	case journalErr != nil:
		err = journalErr
	case p.c.isDead():
		err = nfs4.NFS4ERR_BADSESSION
	}
	var w nfs4.Stateid
	if err == nil {
		sid := p.sid
		if sid == nil {
			sid = o.sid
		}
		w = p.granted()
		if p.reclaim {
			s.grace.granted.Add(1)
		}
		if p.Batch == nil || o.puts != p.puts || o.sid != sid {
			s.noteOpen(eff, o) // another record was written beside ours, or none: this is the last word
		} else {
			eff.noteGranted(s, f.handle).opens[o.owner] = struct{}{}
		}
	} else {
		certain := backendErr != nil && refused(backendErr)
		if p.Call == CallReclaim && certain && !p.asked {
			o.setAsked(false)
		}
		if p.named || p.Call != CallNone && !certain {
			o.goneAccess |= p.Request.Access
			o.goneDeny |= p.Request.Deny
			// What may have been reclaimed can be reclaimed once more, if it is known here.
			if p.Call != CallReclaim || len(o.held) == 0 {
				s.releaseOpen(eff, o)
			}
		}
		if p.reclaim {
			s.grace.refused.Add(1)
		}
		s.noteOpen(eff, o)
	}
	o.turn.give(true)
	p.leave(eff)
	return w, eff, err
}

// granted makes the open live. file.mu is held.
func (p *OpenPlan) granted() nfs4.Stateid {
	o, access, deny := p.o, p.Request.Access, p.Request.Deny
	if o.client != p.c {
		o.endLive()
		o.client = p.c
		if o.sid = p.sid; o.sid == nil { // it was revoked meanwhile
			o.sid = p.c.newStateid(o, nil)
		}
		o.sid.unconfirmed = p.unconf
		p.c.addStateid(o.sid)
		if o.isDeleg() {
			o.beginDeleg(p.s, access)
		}
	} else {
		o.sid.bump()
	}
	o.access |= access
	o.deny |= deny
	o.via = p.via
	o.seenAccess |= 1 << access
	o.seenDeny |= 1 << deny
	o.reclaimed = o.reclaimed || p.reclaim
	return o.sid.wire()
}
