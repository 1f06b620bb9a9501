package state

import (
	"context"
	"slices"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// OpenTicket is an open by name on its way: the backend opens a file whose handle is not known yet.
// Meanwhile the same owner may close that file, and which of the two the backend did last cannot be
// known. The ticket notices, and the file is then opened again, by handle and under the turn.
type OpenTicket struct {
	party   *party
	owner   string
	touched map[fs.Handle]bool // guarded by party.mu
}

// BeginOpen judges an open by name as far as can be done without the handle (GRACE), before the
// backend is asked. End the ticket after Settle, or when the backend refused.
func (s *Server) BeginOpen(c *Client, owner string) (*OpenTicket, error) {
	if err := s.admit(c, false); err != nil {
		return nil, err
	}
	t := &OpenTicket{party: c.party, owner: owner}
	c.party.mu.Lock()
	defer c.party.mu.Unlock()
	c.party.tickets[owner] = append(c.party.tickets[owner], t)
	return t, nil
}

// End ends the ticket. Again is harmless.
func (t *OpenTicket) End() {
	t.party.mu.Lock()
	defer t.party.mu.Unlock()
	list := slices.DeleteFunc(t.party.tickets[t.owner], func(o *OpenTicket) bool { return o == t })
	if len(list) == 0 {
		delete(t.party.tickets, t.owner)
		return
	}
	t.party.tickets[t.owner] = list
}

func (t *OpenTicket) saw(file fs.Handle) bool {
	t.party.mu.Lock()
	defer t.party.mu.Unlock()
	return t.touched[file]
}

// CheckOpen judges a non-reclaim open of a file without doing it: SHARE_DENIED or GRACE. The Effects
// evict what stands in the way only by courtesy; run them, and if the error is nil ask the backend
// (again). Call it before an open by name that truncates, and after the backend said ShareDenied.
func (s *Server) CheckOpen(ctx context.Context, c *Client, owner string, file fs.Handle, access, deny fs.Share) (evict *Effects, err error) {
	if err := s.admit(c, false); err != nil {
		return nil, err
	}
	ev := &eviction{}
	f := s.files.get(file)
	defer s.files.put(f)
	for {
		now := s.now()
		f.mu.Lock()
		v := f.judgeOpen(s, fs.Owner{Client: c.party.owner, Owner: owner}, access, deny, now, ev)
		st, err := v.next(s, now, ev)
		f.mu.Unlock()
		if st == stepAgain {
			if err = v.again(ctx, s, ev); err == nil {
				continue
			}
		}
		return ev.effects(), err
	}
}

// OpenPlan is an open on its way.
type OpenPlan struct {
	Batch *journal.Batch // to Commit
	Evict *Effects       // to run before the backend is asked; may be nil
	// Call says how to ask the backend. For an open by name it is CallNone, or CallNormal: the file
	// must be opened once more, by handle.
	Call    Call
	Request fs.OpenRequest // by handle, for Call

	srv     *Server
	client  *Client
	open    *open
	reclaim *reclaim // nil if it is none
	byName  bool
	puts    int
}

// PrepareOpen judges an open of a file. For an open by name (Ticket set) the backend has it already.
// The Effects are to be run whatever the error is: they undo such an open. Errors: SHARE_DENIED,
// GRACE, NO_GRACE, RECLAIM_BAD, RECLAIM_CONFLICT, DELAY, or that of ctx.
func (s *Server) PrepareOpen(ctx context.Context, c *Client, req *OpenRequest) (*OpenPlan, *Effects, error) {
	p := &OpenPlan{srv: s, client: c, byName: req.Ticket != nil}
	p.Request = fs.OpenRequest{Owner: fs.Owner{Client: c.party.owner, Owner: req.Owner}, Access: req.Access, Deny: req.Deny, File: req.File, Reclaim: req.Reclaim}
	f := s.files.get(req.File)
	defer s.files.put(f)
	f.mu.Lock()
	p.open = f.openOf(c.party, p.Request.Owner)
	p.open.users++
	f.mu.Unlock()

	ev := &eviction{}
	err := p.prepare(ctx, req, ev)
	if err == nil {
		p.Evict = ev.effects()
		if p.Evict != nil && p.Evict.Batch != nil {
			// Durable with the grant that it makes room for, or neither.
			p.Evict.Batch.Append(p.Batch)
			p.Batch, p.Evict.Batch = p.Evict.Batch, nil
		}
		return p, nil, nil
	}
	eff := &ev.eff
	f.mu.Lock()
	if p.byName {
		p.undo(eff)
	}
	p.open.users--
	f.tidyOpen(p.open)
	f.mu.Unlock()
	if p.reclaim != nil {
		s.endReclaim(c, p.reclaim, false, eff)
		s.event(eff.batch(), journal.Event{Type: "reclaim", Client: c.party.owner, Owner: req.Owner, File: req.File, Name: req.Name,
			Result: "refused", Text: "open: " + err.Error()})
	}
	return nil, eff, err
}

// undo lets the backend's open go back to what is wanted. file.mu is held.
func (p *OpenPlan) undo(eff *Effects) {
	p.open.atBackend = true
	p.open.goneAccess |= p.Request.Access
	p.open.goneDeny |= p.Request.Deny
	p.srv.releaseOpen(eff, p.open)
}

// prepare returns with the turn if it returns no error.
func (p *OpenPlan) prepare(ctx context.Context, req *OpenRequest, ev *eviction) (err error) {
	s, c, o, f := p.srv, p.client, p.open, p.open.file
	if req.Reclaim {
		if p.reclaim, err = s.beginReclaim(c); err != nil {
			return err
		}
	} else if err := s.admit(c, false); err != nil {
		return err
	}
	for {
		if err := o.turn.take(ctx, true); err != nil {
			return err
		}
		now := s.now()
		f.mu.Lock()
		v := f.judgeOpen(s, o.owner, req.Access, req.Deny, now, ev)
		st, err := stepGrant, error(nil)
		switch {
		case c.isDead():
			st, err = stepRefuse, nfs4.NFS4ERR_EXPIRED
		case p.reclaim == nil:
			st, err = v.next(s, now, ev)
			p.Call = CallNormal
			if p.byName && !req.Ticket.saw(f.handle) {
				p.Call = CallNone
			}
		default:
			st, err = p.judgeReclaim(&v)
		}
		if st == stepGrant {
			o.pend = &pendShare{access: req.Access, deny: req.Deny, done: make(chan struct{})}
			o.note(req, now)
			if p.Call == CallReclaim {
				o.asked()
			}
			p.Batch = &journal.Batch{}
			s.putOpen(p.Batch, o)
			p.puts = o.puts
			f.mu.Unlock()
			return nil
		}
		f.mu.Unlock()
		o.turn.give(true)
		if st == stepRefuse {
			return err
		}
		if err := v.again(ctx, s, ev); err != nil {
			return err
		}
	}
}

// note keeps what people and the journal want to know. file.mu is held.
func (o *open) note(req *OpenRequest, now time.Time) {
	if req.Cred != nil {
		o.cred = req.Cred
	}
	if req.Name != "" {
		o.name = req.Name
	}
	if o.since.IsZero() {
		o.since = now
	}
}

// asked marks what waits from the journal: the backend may get it. file.mu is held.
func (o *open) asked() {
	for i := range o.held {
		o.held[i].asked = true
	}
}

// judgeReclaim is the match of DESIGN 5: the same owner and file, no more than was held. What is held
// by the backend already needs no call. file.mu is held.
func (p *OpenPlan) judgeReclaim(v *verdict) (step, error) {
	o := p.open
	a, d := o.wanted()
	if o.client != nil && !o.reclaimed {
		// A fresh open is no reason to reclaim; what is held beside it is.
		a, d = o.heldModes(false)
	}
	access, deny := p.Request.Access, p.Request.Deny
	p.Call = CallNone
	if access&^a != 0 || deny&^d != 0 {
		p.Call = CallReclaim
		sa, sd := fs.Share(0), fs.Share(0)
		if p.reclaim.inGrace {
			sa, sd = o.heldModes(true)
		}
		if access&^(a|sa) != 0 || deny&^(d|sd) != 0 {
			if err := p.srv.unknown(p.client, p.reclaim); err != nil {
				return stepRefuse, err
			}
		}
	}
	switch {
	case v.denied != nil || len(v.clients)+len(v.shares) > 0:
		return stepRefuse, nfs4.NFS4ERR_RECLAIM_CONFLICT
	case v.delay:
		return stepRefuse, nfs4.NFS4ERR_DELAY
	case v.wait != nil:
		return stepAgain, nil
	}
	return stepGrant, nil
}

// Settle ends the plan with what the backend said (nil if it was not asked) and the journal. The
// error is the one to answer with.
func (p *OpenPlan) Settle(backendErr, journalErr error) (nfs4.Stateid, *Effects, error) {
	s, c, o, f, eff := p.srv, p.client, p.open, p.open.file, &Effects{}
	err := backendErr
	if err == nil {
		err = journalErr
	}
	f.mu.Lock()
	close(o.pend.done)
	o.pend = nil
	if err == nil && c.isDead() {
		err = nfs4.NFS4ERR_EXPIRED
	}
	had := p.Call == CallNone && !p.byName
	if p.reclaim == nil && (p.byName || backendErr == nil || ambiguous(backendErr)) && !had || backendErr == nil {
		o.atBackend = true
	}
	var wire nfs4.Stateid
	if err == nil {
		wire = p.grant()
		if o.puts != p.puts {
			s.putOpen(eff.batch(), o) // another record was written after ours
		}
	} else {
		s.putOpen(eff.batch(), o)
		if p.reclaim == nil && !had && (p.byName || backendErr == nil || ambiguous(backendErr)) {
			p.undo(eff)
		}
		s.reclaimRefused(p.Call, backendErr, eff)
	}
	s.wake(f, eff)
	o.users--
	f.tidyOpen(o)
	f.mu.Unlock()
	o.turn.give(true)
	s.files.drop(f)
	if p.reclaim != nil {
		s.endReclaim(c, p.reclaim, err == nil, eff)
		s.event(eff.batch(), reclaimEvent(o.owner, f.handle, o.name, fs.Lock{}, err))
	}
	return wire, eff, err
}

func reclaimEvent(owner fs.Owner, file fs.Handle, name string, l fs.Lock, err error) journal.Event {
	e := journal.Event{Type: "reclaim", Client: owner.Client, Owner: owner.Owner, File: file, Name: name, Range: l.Range, Lock: l.Type, Result: "granted"}
	if err != nil {
		e.Result, e.Text = "refused", err.Error()
	}
	return e
}

// grant makes the open live. file.mu is held.
func (p *OpenPlan) grant() nfs4.Stateid {
	o := p.open
	if o.client != p.client {
		o.endLive()
		o.client = p.client
		o.sid = p.client.newStateid(o, nil)
	} else {
		o.sid.bump()
	}
	o.access |= p.Request.Access
	o.deny |= p.Request.Deny
	o.seenAccess |= 1 << p.Request.Access
	o.seenDeny |= 1 << p.Request.Deny
	o.reclaimed = o.reclaimed || p.reclaim != nil
	o.epoch = 0
	return o.sid.wire()
}

// takeOpen finds the open of an open stateid and takes its turn alone.
func (s *Server) takeOpen(ctx context.Context, c *Client, sid nfs4.Stateid, file fs.Handle) (*open, *stateid, error) {
	st := c.find(sid)
	if IsSpecial(sid) || st == nil || st.lock != nil || st.file.handle != file {
		return nil, nil, nfs4.NFS4ERR_BAD_STATEID
	}
	o, f := st.open, st.file
	f.mu.Lock()
	if err := st.check(0); err != nil {
		f.mu.Unlock()
		return nil, nil, err
	}
	o.users++
	f.mu.Unlock()
	err := o.turn.take(ctx, true)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		if err = st.check(sid.Seqid); err == nil {
			return o, st, nil
		}
		o.turn.give(true)
	}
	o.users--
	f.tidyOpen(o)
	return nil, nil, err
}

// DowngradePlan is an OPEN_DOWNGRADE on its way.
type DowngradePlan struct {
	Call         Call
	Owner        fs.Owner
	File         fs.Handle
	Access, Deny fs.Share

	srv  *Server
	open *open
	sid  *stateid
}

// PrepareDowngrade judges OPEN_DOWNGRADE, RFC 8881 18.18: INVAL if the modes are not those of a
// subset of the opens done.
func (s *Server) PrepareDowngrade(ctx context.Context, c *Client, sid nfs4.Stateid, file fs.Handle, access, deny fs.Share) (*DowngradePlan, error) {
	if access == 0 || access > fs.ShareBoth || deny > fs.ShareBoth {
		return nil, nfs4.NFS4ERR_INVAL
	}
	o, st, err := s.takeOpen(ctx, c, sid, file)
	if err != nil {
		return nil, err
	}
	p := &DowngradePlan{Call: CallNormal, Owner: o.owner, File: file, Access: access, Deny: deny, srv: s, open: o, sid: st}
	o.file.mu.Lock()
	defer o.file.mu.Unlock()
	switch {
	case unionWithin(o.seenAccess, access) != access || unionWithin(o.seenDeny, deny) != deny:
		o.users--
		o.turn.give(true)
		return nil, nfs4.NFS4ERR_INVAL
	case access == o.access && deny == o.deny:
		p.Call = CallNone
	}
	return p, nil
}

// unionWithin is the union of those modes seen that are within limit.
func unionWithin(seen uint8, limit fs.Share) (u fs.Share) {
	for m := fs.Share(0); m <= fs.ShareBoth; m++ {
		if seen&(1<<m) != 0 && m&^limit == 0 {
			u |= m
		}
	}
	return u
}

// within keeps those modes seen that are within limit.
func within(seen uint8, limit fs.Share) (kept uint8) {
	for m := fs.Share(0); m <= fs.ShareBoth; m++ {
		if m&^limit == 0 {
			kept |= seen & (1 << m)
		}
	}
	return kept
}

// Settle ends the plan.
func (p *DowngradePlan) Settle(backendErr error) (nfs4.Stateid, *Effects, error) {
	s, o, eff, wire := p.srv, p.open, &Effects{}, nfs4.Stateid{}
	f := o.file
	o.party.closed(o.owner.Owner, f.handle)
	f.mu.Lock()
	err := backendErr
	if err == nil {
		err = p.sid.check(0) // it may have been revoked meanwhile
	}
	if err == nil {
		o.access, o.deny = p.Access, p.Deny
		o.seenAccess, o.seenDeny = within(o.seenAccess, p.Access), within(o.seenDeny, p.Deny)
		p.sid.bump()
		wire = p.sid.wire()
		if p.Call != CallNone {
			s.putOpen(eff.batch(), o)
		}
	}
	o.users--
	f.tidyOpen(o)
	f.mu.Unlock()
	o.turn.give(true)
	s.files.drop(f)
	return wire, eff, err
}

// ClosePlan is a CLOSE on its way: Locks.CloseFile(Owner, File).
type ClosePlan struct {
	Owner fs.Owner
	File  fs.Handle

	srv  *Server
	open *open
	sid  *stateid
}

// PrepareClose judges CLOSE, RFC 8881 18.2. Locks under the open go with it, and what of it was held
// and not reclaimed.
func (s *Server) PrepareClose(ctx context.Context, c *Client, sid nfs4.Stateid, file fs.Handle) (*ClosePlan, error) {
	o, st, err := s.takeOpen(ctx, c, sid, file)
	if err != nil {
		return nil, err
	}
	return &ClosePlan{Owner: o.owner, File: file, srv: s, open: o, sid: st}, nil
}

// Settle ends the plan. A backend that knows no such open (BadStateid) has closed it.
func (p *ClosePlan) Settle(backendErr error) (nfs4.Stateid, *Effects, error) {
	s, o, eff := p.srv, p.open, &Effects{}
	f := o.file
	o.party.closed(o.owner.Owner, f.handle)
	f.mu.Lock()
	err := backendErr
	if released(err) {
		err = nil
		if o.sid == p.sid {
			o.client.freeStateid(o.sid)
		}
		for l := range o.locks {
			if l.sid != nil {
				o.client.freeStateid(l.sid)
				eff.Forget = append(eff.Forget, OwnerFile{l.owner, f.handle})
			}
			l.live, l.sid, l.held, l.gone, l.reclaimed = nil, nil, nil, nil, false
			s.putLock(eff.batch(), l)
			s.dropWaiters(f, func(w *waiter) bool { return w.owner == l.owner }, eff)
		}
		o.endLive()
		o.held, o.goneAccess, o.goneDeny, o.atBackend = nil, 0, 0, false
		s.putOpen(eff.batch(), o)
		s.wake(f, eff)
	}
	o.users--
	f.tidyOpen(o)
	f.mu.Unlock()
	o.turn.give(true)
	s.files.drop(f)
	if err != nil {
		return nfs4.Stateid{}, eff, err
	}
	return invalidStateid, eff, nil
}
