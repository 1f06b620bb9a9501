package state

import (
	"context"
	"errors"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// DeniedError is NFS4ERR_DENIED with the holder, for LOCK4denied. errors.Is(err, nfs4.NFS4ERR_DENIED).
type DeniedError struct {
	Range    fs.Range
	Type     fs.LockType
	ClientID uint64 // 0 if the holder is not a client of ours
	Owner    string // the lock-owner's bytes

	client string // the holder's co_ownerid, until the client ID is looked up
}

func (e *DeniedError) Error() string { return "DENIED" }

// Unwrap gives the status.
func (e *DeniedError) Unwrap() error { return nfs4.NFS4ERR_DENIED }

func deniedBy(l fs.Lock, owner fs.Owner) *DeniedError {
	return &DeniedError{Range: l.Range, Type: l.Type, Owner: owner.Owner, client: owner.Client}
}

// named fills in the client ID of a holder. No mutex is held.
func (s *Server) named(err error) error {
	var d *DeniedError
	if errors.As(err, &d) && d.ClientID == 0 && d.client != "" {
		d.ClientID = s.clientIDOf(d.client)
	}
	return err
}

// LockPlan is a LOCK on its way.
type LockPlan struct {
	Batch   *journal.Batch // to Commit; nil if nothing changes
	Evict   *Effects       // to run before the backend is asked; may be nil
	Call    Call
	Request fs.LockRequest

	s       *Server
	c       *Client
	l       *lock
	reclaim bool
	inGrace bool
	part    uint32      // of the file
	asked   bool        // an earlier reclaim of it has no answer
	puts    int         // of the entry, when Batch was made
	sid     *stateid    // that it will have, if not the one it has
	intent  fs.RangeSet // what Batch says
}

// lockConflict looks for what stands in the way of a lock: as shareConflict.
func (s *Server) lockConflict(f *file, owner fs.Owner, r fs.Range, t fs.LockType, evict *Effects) (wait <-chan struct{}, again bool, err error) {
	now := s.now()
	var victim *Client
	var past []*lock // with something held past its limit
	for _, l := range f.locks {
		if l.owner == owner {
			continue
		}
		if k, ok := l.live.Conflict(r, t); ok {
			if l.open.client == nil || !l.open.client.yields(now) {
				return nil, false, deniedBy(k, l.owner)
			}
			victim = l.open.client
		}
		stale := false
		for _, h := range l.held {
			k, ok := h.set.Conflict(r, t)
			switch {
			case !ok:
			case h.server:
				err = nfs4.NFS4ERR_GRACE
			case s.stale(h.since, now):
				stale = true
			default:
				return nil, false, deniedBy(k, l.owner)
			}
		}
		if stale {
			past = append(past, l)
		}
		if l.pend != nil && l.pend.r.Overlaps(r) && l.pend.t.Conflicts(t) {
			wait = l.pend.done
		}
		if _, ok := l.gone.Conflict(r, t); ok {
			rel := l.release
			if rel == nil {
				rel = l.open.release
			}
			switch {
			case rel == nil, evict.releases(rel):
			case rel.failed:
				return nil, false, nfs4.NFS4ERR_DELAY
			default:
				wait = rel.done
			}
		}
	}
	if err != nil {
		return nil, false, err
	}
	if w := f.ahead(owner, r, t, now.Add(-s.cfg.WaiterHold)); w != nil {
		return nil, false, deniedBy(fs.Lock{Range: w.r, Type: w.t}, w.owner)
	}
	if victim != nil {
		f.mu.Unlock()
		s.evict(victim, "its lease was over and another client locked what it had", evict)
		f.mu.Lock()
		return nil, true, nil
	}
	for _, l := range past {
		if busy := l.open.busy(); busy != nil {
			wait = busy
		}
	}
	if wait == nil {
		for _, l := range past {
			s.yieldRanges(l, now, evict)
		}
	}
	return wait, false, nil
}

// freeRange makes room for a lock: as freeShare.
func (s *Server) freeRange(f *file, owner fs.Owner, r fs.Range, t fs.LockType, evict *Effects) (wait <-chan struct{}, err error) {
	for again := true; again && err == nil; {
		wait, again, err = s.lockConflict(f, owner, r, t, evict)
	}
	return wait, err
}

// findLock finds or makes the entry that a LOCK is about, in use until giveLock. f.mu is not held.
func (s *Server) findLock(c *Client, req *LockRequest) (*lock, *stateid, error) {
	kind := kindLock
	if req.NewOwner {
		kind = kindOpen
	}
	st, err := c.resolve(req.Stateid, req.File, kind)
	if err != nil {
		return nil, nil, err
	}
	f := st.file
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := st.check(req.Stateid.Seqid); err != nil {
		return nil, nil, err
	}
	l := st.lock
	if req.NewOwner {
		l = f.lockOf(st.open, fs.Owner{Client: c.party.owner, Owner: req.LockOwner})
		if l.open != st.open && l.sid == nil && l.users == 0 && len(l.live)+len(l.held)+len(l.gone) == 0 {
			old := l.open
			delete(old.locks, l)
			l.open = st.open
			l.open.locks[l] = struct{}{}
			f.tidyOpen(old)
		}
	}
	l.users++
	l.open.users++
	return l, st, nil
}

// takeLock takes the turns of a lock that findLock found.
func (s *Server) takeLock(ctx context.Context, l *lock) error {
	if err := l.open.turn.take(ctx, false); err != nil {
		return err
	}
	if err := l.turn.take(ctx, true); err != nil {
		l.open.turn.give(false)
		return err
	}
	return nil
}

// giveLock ends findLock, and takeLock if that went well. eff is nil if nothing changed: nobody is
// to be woken. file.mu is held.
func (s *Server) giveLock(l *lock, turns bool, eff *Effects) {
	o := l.open
	l.users--
	o.users--
	if turns {
		l.turn.give(true)
		o.turn.give(false)
	}
	if eff != nil {
		s.wake(o.file, eff)
	}
	o.file.tidyLock(l)
	o.file.tidyOpen(o)
}

// PrepareLock judges LOCK, RFC 8881 18.10. A request with Wait that is denied takes a place in the
// queue. The Effects are to be run whatever the error is. Errors: *DeniedError, GRACE, NO_GRACE,
// RECLAIM_BAD, RECLAIM_CONFLICT, OPENMODE, those of stateids, or that of ctx.
func (s *Server) PrepareLock(ctx context.Context, c *Client, req *LockRequest) (*LockPlan, *Effects, error) {
	eff := &Effects{}
	p := &LockPlan{s: s, c: c, reclaim: req.Reclaim, part: s.cfg.Part(req.File), Evict: &Effects{}}
	if req.Reclaim {
		if err := c.beginReclaim(); err != nil {
			s.grace.refused.Add(1)
			return nil, eff, err
		}
		p.inGrace = s.enter(p.part)
	} else if err := s.judgeNew(c, req.File, true); err != nil {
		return nil, eff, err
	}
	l, st, err := s.findLock(c, req)
	if err != nil {
		p.leave(eff)
		return nil, eff, err
	}
	p.l = l
	f := l.open.file
	defer s.files.drop(f)
	turns, err := p.judge(ctx, st, req)
	if err != nil {
		if req.Reclaim {
			s.grace.refused.Add(1)
		}
		var denied *DeniedError
		if req.Wait && errors.As(err, &denied) && !c.isDead() {
			s.enqueue(f, c, l, req.Range, req.Type, false)
		}
		eff.Add(p.Evict)
		s.giveLock(l, turns, eff)
		f.mu.Unlock()
		p.leave(eff)
		return nil, eff, s.named(err)
	}
	p.Request = fs.LockRequest{File: req.File, OpenOwner: l.open.owner, LockOwner: l.owner, Range: req.Range, Type: req.Type, Wait: req.Wait, Reclaim: req.Reclaim}
	if l.sid == nil && !req.Reclaim {
		l.since = s.now()
	}
	if p.Call == CallReclaim {
		p.asked = l.isAsked(req.Range)
		l.setAsked(req.Range, true)
	}
	l.pend = &pendRange{r: req.Range, t: req.Type, done: make(chan struct{})}
	if l.sid == nil {
		l.pend.sid = c.newStateid(l.open, l)
	}
	p.sid = l.pend.sid
	// What is held for its owner is in the record already, of this epoch: the answer waits until the record says
	// who has it now, but not for the disk.
	if !l.live.Covers(req.Range, req.Type) && (!req.Reclaim || p.Call != CallNone) {
		p.Batch = &journal.Batch{}
		s.putLock(p.Batch, l)
		p.intent, _ = s.lockSet(l)
	}
	p.puts = l.puts
	f.mu.Unlock()
	return p, eff, nil
}

// judge takes the turns and applies the rules. It returns with file.mu held, and tells whether it has
// the turns.
func (p *LockPlan) judge(ctx context.Context, st *stateid, req *LockRequest) (turns bool, err error) {
	s, l, f := p.s, p.l, p.l.open.file
	for {
		err := s.takeLock(ctx, l)
		f.mu.Lock()
		if err != nil {
			return false, err
		}
		var wait <-chan struct{}
		if err = st.check(req.Stateid.Seqid); err == nil {
			wait, err = s.judgeLock(p, req, f)
		}
		if err == nil {
			err = p.c.ready(p.reclaim)
		}
		if wait == nil || err != nil {
			return true, err
		}
		f.mu.Unlock()
		l.turn.give(true)
		l.open.turn.give(false)
		if err := await(ctx, wait); err != nil {
			f.mu.Lock()
			return false, err
		}
	}
}

// judgeLock applies the rules to a lock whose turn it is. file.mu is held.
func (s *Server) judgeLock(p *LockPlan, req *LockRequest, f *file) (wait <-chan struct{}, err error) {
	l := p.l
	need := fs.ShareRead
	if req.Type == fs.WriteLock {
		need = fs.ShareWrite
	}
	switch {
	case l.open.client != p.c && req.Reclaim: // it was taken under another open, which comes first
		return nil, nfs4.NFS4ERR_RECLAIM_BAD
	case l.open.client != p.c:
		return nil, nfs4.NFS4ERR_BAD_STATEID
	case l.open.access&need == 0:
		return nil, nfs4.NFS4ERR_OPENMODE
	case req.Reclaim:
		p.Call, err = s.matchLock(p, req, f)
		return nil, err
	case l.live.Covers(req.Range, req.Type):
		return nil, nil // it has it; nobody needs to be asked
	}
	p.Call = CallNormal
	return s.freeRange(f, l.owner, req.Range, req.Type, p.Evict)
}

// leave ends the plan's hold on grace.
func (p *LockPlan) leave(eff *Effects) {
	if p.reclaim {
		p.c.endReclaim()
	}
	if p.inGrace {
		p.s.leave(p.part, eff)
	}
}

func (l *lock) isAsked(r fs.Range) bool {
	for _, h := range l.held {
		if h.server && h.asked && h.set.Overlaps(r) {
			return true
		}
	}
	return false
}

func (l *lock) setAsked(r fs.Range, asked bool) {
	for i := range l.held {
		if h := &l.held[i]; h.server && h.set.Overlaps(r) {
			h.asked = asked
		}
	}
}

// matchLock judges a LOCK reclaim: only under an open that this incarnation reclaimed, and only what
// is covered by what the owner has held; smaller or weaker is fine. file.mu is held.
func (s *Server) matchLock(p *LockPlan, req *LockRequest, f *file) (Call, error) {
	l := p.l
	if l.sid != nil && l.sid.restored && l.live.Covers(req.Range, req.Type) {
		return CallNone, nil // our restart came between the reclaim and its answer
	}
	if !l.open.reclaimed {
		return CallNone, s.noMatch(p.c, p.inGrace)
	}
	have := l.heldSet(false)
	if l.reclaimed {
		have = strongest(have, l.live)
	}
	if have.Covers(req.Range, req.Type) {
		return CallNone, nil // the backend has it
	}
	if coversAtLeast(have, req.Range, req.Type) {
		return CallNormal, nil // the backend has some of it exclusive; sharing it is always granted
	}
	known := p.inGrace && coversAtLeast(strongest(have, l.heldSet(true)), req.Range, req.Type)
	if !known && !s.forwards(l.open.party, p.inGrace) {
		return CallNone, s.noMatch(p.c, p.inGrace)
	}
	// What the journal knows cannot conflict with what was granted since; what it does not know can.
	for _, x := range f.locks {
		if x == l {
			continue
		}
		if _, ok := x.live.Conflict(req.Range, req.Type); ok {
			return CallNone, nfs4.NFS4ERR_RECLAIM_CONFLICT
		}
		if x.pend != nil && x.pend.r.Overlaps(req.Range) && x.pend.t.Conflicts(req.Type) {
			return CallNone, nfs4.NFS4ERR_DELAY
		}
	}
	return CallReclaim, nil
}

// Settle ends the plan. If the backend said Denied, the error is a *DeniedError.
func (p *LockPlan) Settle(backendErr, journalErr error) (nfs4.Stateid, *Effects, error) {
	s, l, eff := p.s, p.l, &Effects{}
	f := l.open.file
	defer s.files.drop(f)
	f.mu.Lock()
	close(l.pend.done)
	l.pend = nil
	err := backendErr
	switch {
	case backendErr != nil:
	case journalErr != nil:
		err = journalErr
	case p.c.isDead() || l.open.client != p.c:
		err = nfs4.NFS4ERR_BADSESSION
	}
	r, t := p.Request.Range, p.Request.Type
	var w nfs4.Stateid
	if err == nil {
		l.live = l.live.With(r, t)
		l.consume(r)
		l.reclaimed = l.reclaimed || p.reclaim
		said := p.sid == nil || l.sid == nil // the record names the right stateid
		switch {
		case l.sid != nil:
			l.sid.bump()
		case p.sid != nil:
			l.sid = p.sid
			p.c.addStateid(l.sid)
		default: // it was revoked meanwhile
			l.sid, said = p.c.newStateid(l.open, l), false
			p.c.addStateid(l.sid)
		}
		w = l.sid.wire()
		if p.reclaim {
			s.grace.granted.Add(1)
		}
		s.dropWaiters(f, func(w *waiter) bool { return w.owner == l.owner && w.r.Overlaps(r) }, eff)
		// The record made for the way may say more than what has come of it, as for a downgrade.
		if set, _ := s.lockSet(l); p.Batch == nil || !said || l.puts != p.puts || !set.Equal(p.intent) {
			s.noteLock(eff, l)
		} else {
			eff.noteGranted(s, f.handle).locks[l.owner] = struct{}{}
		}
	} else {
		certain := backendErr != nil && refused(backendErr)
		if p.Call == CallReclaim && certain && !p.asked {
			l.setAsked(r, false)
		}
		// What may have been reclaimed can be reclaimed once more, if it is known here.
		if p.Call != CallNone && !certain && (!p.reclaim || len(l.held) == 0) {
			l.gone = strongest(l.gone, fs.RangeSet{{Range: r, Type: t}})
			s.releaseLock(eff, l)
		}
		if p.reclaim {
			s.grace.refused.Add(1)
		}
		if p.Batch != nil {
			s.noteLock(eff, l)
		}
		if errors.Is(backendErr, fs.Denied) {
			err = p.denied(backendErr)
		}
	}
	s.giveLock(l, true, eff)
	f.mu.Unlock()
	p.leave(eff)
	return w, eff, s.named(err)
}

// denied makes the backend's Denied our own. A reclaim conflicts; a request that waits gets a place
// in the queue. file.mu is held.
func (p *LockPlan) denied(backendErr error) error {
	if p.reclaim {
		return nfs4.NFS4ERR_RECLAIM_CONFLICT
	}
	r, t := p.Request.Range, p.Request.Type
	if p.Request.Wait && !p.c.isDead() {
		p.s.enqueue(p.l.open.file, p.c, p.l, r, t, true)
	}
	var d *fs.DeniedError
	if errors.As(backendErr, &d) {
		return deniedBy(fs.Lock{Range: d.Range, Type: d.Type}, d.Owner)
	}
	return deniedBy(fs.Lock{Range: r, Type: t}, fs.Owner{})
}

// UnlockPlan is a LOCKU on its way: Locks.Unlock(Owner, File, Range) unless Call is CallNone.
type UnlockPlan struct {
	// Batch is to be written (journal.Write) before the backend is asked: the record shrinks first, so
	// that a restart in between does not take again what the client gave back.
	Batch *journal.Batch
	Call  Call
	Owner fs.Owner
	File  fs.Handle
	Range fs.Range

	s    *Server
	l    *lock
	puts int // of the entry, when Batch was made
}

// PrepareUnlock judges LOCKU, RFC 8881 18.12.
func (s *Server) PrepareUnlock(ctx context.Context, c *Client, sid nfs4.Stateid, file fs.Handle, r fs.Range) (*UnlockPlan, error) {
	l, st, err := s.findLock(c, &LockRequest{File: file, Stateid: sid})
	if err != nil {
		return nil, err
	}
	f := l.open.file
	err = s.takeLock(ctx, l)
	defer s.files.drop(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	turns := err == nil
	if err == nil {
		err = st.check(sid.Seqid)
	}
	if err != nil {
		s.giveLock(l, turns, nil)
		return nil, err
	}
	p := &UnlockPlan{Owner: l.owner, File: file, Range: r, s: s, l: l}
	if l.wanted().Overlaps(r) || l.gone.Overlaps(r) {
		p.Call = CallNormal
	}
	l.leaving = &p.Range
	p.Batch = &journal.Batch{}
	s.putLock(p.Batch, l)
	p.puts = l.puts
	return p, nil
}

// Settle ends the plan. What the backend may have unlocked is held no more: the client wants it gone,
// and would otherwise reclaim after a restart what nobody has. If the backend has it still, it is
// asked again.
func (p *UnlockPlan) Settle(backendErr error) (nfs4.Stateid, *Effects, error) {
	s, l, eff := p.s, p.l, &Effects{}
	f := l.open.file
	defer s.files.drop(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	l.leaving = nil
	err := backendErr
	var w nfs4.Stateid
	if !ended(backendErr) {
		s.noteLock(eff, l) // it is held still
	} else {
		err = nil
		if !released(backendErr) {
			l.gone = strongest(l.gone, overlapOf(l.wanted(), p.Range))
			if len(l.gone) > 0 {
				s.releaseLock(eff, l)
			}
		}
		l.live = l.live.With(p.Range, fs.NoLock)
		l.consume(p.Range)
		if l.puts != p.puts || l.sid == nil {
			s.noteLock(eff, l)
		}
		if l.sid == nil {
			err = nfs4.NFS4ERR_BAD_STATEID // it was revoked, or the client ended, meanwhile
		} else {
			l.sid.bump()
			w = l.sid.wire()
		}
	}
	s.giveLock(l, true, eff)
	return w, eff, err
}

// TestLock is our part of LOCKT, RFC 8881 18.11: *DeniedError or GRACE. If it is nil ask the backend.
func (s *Server) TestLock(c *Client, lockOwner string, file fs.Handle, r fs.Range, t fs.LockType) error {
	if s.stalled(file) {
		return nfs4.NFS4ERR_GRACE
	}
	f := s.files.peek(file)
	if f == nil {
		return nil
	}
	defer s.files.put(f)
	return s.named(s.testLock(f, fs.Owner{Client: c.party.owner, Owner: lockOwner}, r, t))
}

func (s *Server) testLock(f *file, owner fs.Owner, r fs.Range, t fs.LockType) (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := s.now()
	for _, l := range f.locks {
		if l.owner == owner {
			continue
		}
		if k, ok := l.live.Conflict(r, t); ok && (l.open.client == nil || !l.open.client.yields(now)) {
			return deniedBy(k, l.owner)
		}
		for _, h := range l.held {
			k, ok := h.set.Conflict(r, t)
			switch {
			case !ok || !h.server && s.stale(h.since, now):
			case h.server:
				err = nfs4.NFS4ERR_GRACE
			default:
				return deniedBy(k, l.owner)
			}
		}
	}
	return err
}
