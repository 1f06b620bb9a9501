package state

import (
	"errors"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// Expire drops what is over: leases, courtesy, unconfirmed clients, waiters' turns, and tries failed
// releases again. Call it at NextDeadline, or every second or so.
func (s *Server) Expire() *Effects {
	eff := &Effects{}
	now := s.now()
	s.mu.Lock()
	eff.Releases = append(eff.Releases, s.failed...)
	s.failed = nil
	var over []*Client
	for _, c := range s.byID {
		switch {
		case !c.confirmed:
			if now.After(c.leaseEnd()) && c.running.Load() == 0 {
				s.bury(c, eff)
				s.tidyParty(c.party)
			}
		case c.lapsed(now):
			over = append(over, c)
		}
	}
	s.mu.Unlock()
	for _, c := range over {
		s.lapse(c, now, eff)
	}
	s.tidy40(now)
	s.expireHeld(now, eff)
	s.expireWaiters(eff)
	s.expireRecalls(now, eff)
	s.grace.mu.Lock()
	if s.grace.refs == 0 && s.mayEnd() {
		eff.GraceMayEnd = true
	}
	s.grace.mu.Unlock()
	return eff
}

// lapse ends a client whose lease is over, unless it is kept by courtesy or by negotiation.
func (s *Server) lapse(c *Client, now time.Time, eff *Effects) {
	holds := c.party.holds()
	keep := time.Duration(0)
	if holds {
		keep = s.cfg.CourtesyLimit
		if c.retains() {
			keep = max(keep, s.cfg.AbsenceLimit)
		}
	}
	if !now.After(c.leaseEnd().Add(keep)) {
		return
	}
	s.mu.Lock()
	c.mu.Lock()
	ok := !c.dead && c.lapsed(now)
	if ok {
		c.dead = true
	}
	c.mu.Unlock()
	if ok {
		s.unlistClient(c, eff)
		c.party.confirming = true // until expired or forget is done
	}
	s.mu.Unlock()
	switch {
	case !ok:
	case holds:
		s.expired(c, "its lease is over", eff)
	default:
		s.strip(c, killRelease, eff)
		s.forget(c.party, eff)
	}
}

// expireHeld gives up what is held over a client's restart and was not reclaimed for long: past its
// limit it yields to a conflict, and after the time of courtesy it goes without one.
func (s *Server) expireHeld(now time.Time, eff *Effects) {
	s.mu.RLock()
	list := make([]*party, 0, len(s.parties))
	for _, p := range s.parties {
		list = append(list, p)
	}
	s.mu.RUnlock()
	old := now.Add(-s.cfg.CourtesyLimit)
	for _, p := range list {
		for _, o := range p.entries() {
			o.file.mu.Lock()
			for l := range o.locks {
				s.yieldRanges(l, old, eff)
				o.file.tidyLock(l)
			}
			s.yieldShares(o, old, eff)
			s.wake(o.file, eff)
			o.file.tidyOpen(o)
			o.file.mu.Unlock()
			s.files.drop(o.file)
		}
	}
}

// NextDeadline is when Expire will have something to do; at the latest in a lease period, at the
// earliest in a second.
func (s *Server) NextDeadline() time.Time {
	now := s.now()
	next := now.Add(s.cfg.Lease)
	s.waitMu.Lock()
	if len(s.waiting) > 0 {
		next = now.Add(min(s.cfg.WaiterHold, s.cfg.Lease))
	}
	s.waitMu.Unlock()
	s.delegMu.Lock()
	if len(s.recalls) > 0 {
		next = now
	}
	s.delegMu.Unlock()
	s.mu.RLock()
	if len(s.failed) > 0 {
		next = now
	}
	for _, c := range s.byID {
		if end := c.leaseEnd(); !c.permanent && end.Before(next) {
			next = end
		}
	}
	s.mu.RUnlock()
	s.grace.mu.Lock()
	if s.reclaimable() && s.grace.end.Before(next) {
		next = s.grace.end
	}
	s.grace.mu.Unlock()
	if soon := now.Add(time.Second); next.Before(soon) {
		return soon
	}
	return next
}

// HoldLeases stops (true) and resumes (false) the end of leases: while we ourselves wait for the
// origin nobody's lease ends. When resumed every lease starts anew.
func (s *Server) HoldLeases(hold bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !hold {
		now := s.now().UnixNano()
		for _, c := range s.byID {
			c.renewed.Store(now)
		}
	}
	s.held.Store(hold)
}

// DestroyClientID is DESTROY_CLIENTID, RFC 8881 18.50: CLIENTID_BUSY while it has sessions or state.
// via is the request it came in, or nil.
func (s *Server) DestroyClientID(id uint64, via *Request) (*Effects, error) {
	eff := &Effects{}
	s.mu.Lock()
	c := s.byID[id]
	if c == nil || c.permanent || c.v40 != nil {
		s.mu.Unlock()
		return eff, nfs4.NFS4ERR_STALE_CLIENTID
	}
	if c.hasSessions() || c.confirmed && c.party.holds() || via != nil && via.Client() == c {
		s.mu.Unlock()
		return eff, nfs4.NFS4ERR_CLIENTID_BUSY
	}
	if c.party.confirming {
		s.mu.Unlock()
		return eff, nfs4.NFS4ERR_DELAY
	}
	confirmed := c.confirmed
	s.bury(c, eff)
	c.party.confirming = confirmed // until forget is done
	s.tidyParty(c.party)
	s.mu.Unlock()
	if confirmed {
		s.strip(c, killRelease, eff)
		s.forget(c.party, eff)
	}
	return eff, nil
}

// Revoke is the backend's news that state was taken away (fs.Listener). The stateids that stand for
// it say ADMIN_REVOKED (or EXPIRED, if why is fs.Expired) until FREE_STATEID; locks is nil if the
// whole open went. The audit trail names each lock that its owner had, and an open only if it says more
// than its locks do.
func (s *Server) Revoke(owner fs.Owner, file fs.Handle, locks fs.RangeSet, why error) *Effects {
	eff := &Effects{}
	f := s.files.peek(file)
	if f == nil {
		return eff
	}
	defer s.files.put(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	if locks != nil {
		if l := f.locks[owner]; l != nil {
			s.revokeLock(l, locks, why, eff)
			o := l.open
			f.tidyLock(l)
			f.tidyOpen(o)
		}
	} else if o := f.opens[owner]; o != nil {
		for l := range o.locks {
			s.revokeLock(l, strongest(l.live, l.heldSet(false)), why, eff)
			l.held, l.gone = nil, nil
			s.noteLock(eff, l)
		}
		if o.client != nil {
			o.client.revoke(o.sid, revokedStatus(why))
			if o.deny != 0 || !o.lostLocks {
				s.event(eff.batch(), LostEvent(owner, file, o.name, nil, why))
			}
		}
		o.party.closed(owner.Owner, file) // an open by name on its way must look again
		o.endLive()
		o.held, o.goneAccess, o.goneDeny, o.atBackend = nil, 0, 0, false
		s.noteOpen(eff, o)
		f.tidyOpen(o)
	}
	s.wake(f, eff)
	return eff
}

// revokedStatus is what the stateid of lost state says.
func revokedStatus(why error) nfs4.Status {
	if errors.Is(why, fs.Expired) {
		return nfs4.NFS4ERR_EXPIRED
	}
	return nfs4.NFS4ERR_ADMIN_REVOKED
}

// revokeLock takes ranges away from a lock-owner. A stateid is revoked as a whole, so what else it
// stood for is given back. file.mu is held.
func (s *Server) revokeLock(l *lock, lost fs.RangeSet, why error, eff *Effects) {
	has := strongest(l.live, l.heldSet(false))
	rest := minus(l.live, lost)
	for _, k := range minus(has, rest) {
		s.event(eff.batch(), LostEvent(l.owner, l.open.file.handle, l.open.name, &k, why))
		l.open.lostLocks = true
	}
	for _, k := range rest {
		e := LostEvent(l.owner, l.open.file.handle, l.open.name, &k, why)
		e.Text = "the lock is given back: another one under the same stateid is lost"
		s.event(eff.batch(), e)
	}
	if l.sid != nil && l.open.client != nil {
		l.open.client.revoke(l.sid, revokedStatus(why))
	}
	l.live, l.sid, l.reclaimed = nil, nil, false
	l.held = letHeld(l.held, func(h heldRange) bool { return h.server })
	l.gone = minus(l.gone, lost)
	if len(rest) > 0 {
		l.gone = strongest(l.gone, rest)
		s.releaseLock(eff, l)
	}
	s.noteLock(eff, l)
}

// revoke marks a stateid; it waits for FREE_STATEID. file.mu is held.
func (c *Client) revoke(sid *stateid, st nfs4.Status) {
	if sid == nil || sid.revoked != 0 {
		return
	}
	sid.revoked = st
	switch st {
	case nfs4.NFS4ERR_EXPIRED:
		c.expired.Add(1)
	case nfs4.NFS4ERR_DELEG_REVOKED:
		c.delegs.Add(1)
	default:
		c.admin.Add(1)
	}
}
