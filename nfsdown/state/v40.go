package state

import (
	"context"
	"crypto/rand"
	"math"
	"sync/atomic"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// NFSv4.0 (RFC 7530) has clients, opens and locks as NFSv4.1 has, and the same engine keeps them. It has
// no sessions: requests name their client by a client ID or a stateid, each owner's requests are put in
// order by a seqid of its own (v40seq.go), and there is no RECLAIM_COMPLETE: a client may reclaim until our
// grace ends, and is complete when it does.

// Callback40 is where a client of NFSv4.0 wants to be called: RFC 7530 16.33.
type Callback40 struct {
	Program uint32
	Addr    nfs4.NetAddr
	Ident   uint32
}

// client40 is what a client of NFSv4.0 has more than others.
type client40 struct {
	// guarded by Server.mu
	confirm nfs4.Verifier // what SETCLIENTID_CONFIRM has to bring, or brought
	back    Callback40
	// An update of the callback that waits for its confirmation: case 1.
	updating      bool
	updateConfirm nfs4.Verifier
	updateBack    Callback40

	reachable atomic.Bool // the last callback was answered
	owners    seqOwners
}

// SetCallback40 notes whether the client could be called back.
func (c *Client) SetCallback40(ok bool) {
	if c.v40 != nil {
		c.v40.reachable.Store(ok)
	}
}

// Reachable40 tells whether a client of NFSv4.0 can be called back, so that it may have a delegation.
func (c *Client) Reachable40() bool { return c.v40 != nil && c.v40.reachable.Load() }

// V40 tells whether it is a client of NFSv4.0.
func (c *Client) V40() bool { return c.v40 != nil }

// Callback40 is where the client wants to be called. ok is false for clients of other versions.
func (c *Client) Callback40() (cb Callback40, ok bool) {
	if c.v40 == nil {
		return Callback40{}, false
	}
	c.srv.mu.RLock()
	defer c.srv.mu.RUnlock()
	return c.v40.back, true
}

// Addr is where the client was last seen.
func (c *Client) Addr() string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.addr
}

// newConfirm makes a verifier that no other record has.
func newConfirm() (v nfs4.Verifier, err error) {
	_, err = rand.Read(v[:])
	return v, err
}

// SetClientID is SETCLIENTID, RFC 7530 16.33.5. The result's Status tells the outcome: CLID_INUSE if another
// principal has the id, DELAY while an incarnation of it is being ended.
func (s *Server) SetClientID(a *nfs4.SetclientidArgs, who Caller) *nfs4.SetclientidRes {
	refuse := func(st nfs4.Status) *nfs4.SetclientidRes { return &nfs4.SetclientidRes{Status: st} }
	if a.Client.ID == "" {
		return refuse(nfs4.NFS4ERR_INVAL)
	}
	confirm, err := newConfirm()
	if err != nil {
		return refuse(nfs4.NFS4ERR_SERVERFAULT)
	}
	back := Callback40{Program: a.Callback.Program, Addr: a.Callback.Location, Ident: a.CallbackIdent}
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parties[a.Client.ID]
	var old *Client
	if p != nil {
		if p.confirming {
			return refuse(nfs4.NFS4ERR_DELAY)
		}
		old = p.confirmed
	}
	switch {
	case old == nil:
		if p != nil && s.guards(p, who) {
			return refuse(nfs4.NFS4ERR_CLID_INUSE)
		}
	case old.permanent, old.principal != who.Principal && !old.yields(now) && (p.holds() || old.hasSessions()):
		// "If the principal does not match, and there is state": 16.33.5.
		old.mu.RLock()
		defer old.mu.RUnlock()
		return &nfs4.SetclientidRes{Status: nfs4.NFS4ERR_CLID_INUSE, ClientUsing: nfs4.NetAddr{NetID: "tcp", Addr: old.addr}}
	case old.v40 != nil && old.verifier == a.Client.Verifier && old.principal == who.Principal:
		// Case 1, and a retry of it: the callback is to change. Nothing else does, so the ID stays.
		if p.unconfirmed != nil {
			delete(s.byID, p.unconfirmed.id)
			p.unconfirmed = nil
		}
		old.v40.updating, old.v40.updateConfirm, old.v40.updateBack = true, confirm, back
		return &nfs4.SetclientidRes{ClientID: old.id, Confirm: confirm}
	}
	if len(s.byID) >= s.cfg.MaxClients {
		return refuse(nfs4.NFS4ERR_DELAY)
	}
	// Cases 2 to 4: a new unconfirmed record, beside a confirmed one if there is one.
	p = s.partyOf(a.Client.ID)
	if p.unconfirmed != nil {
		delete(s.byID, p.unconfirmed.id)
	}
	if old != nil && old.v40 != nil {
		old.v40.updating = false
	}
	c := s.newClient(p, who)
	c.verifier = a.Client.Verifier
	c.v40 = &client40{confirm: confirm, back: back}
	c.v40.owners.init()
	p.unconfirmed = c
	return &nfs4.SetclientidRes{ClientID: c.id, Confirm: confirm}
}

// SetClientIDConfirm is SETCLIENTID_CONFIRM, RFC 7530 16.34.5: STALE_CLIENTID if nothing matches, CLID_INUSE
// for another principal, DELAY while requests of the incarnation that ends still run. The client is the one
// that is confirmed now.
func (s *Server) SetClientIDConfirm(id uint64, confirm nfs4.Verifier, who Caller) (*Client, *Effects, error) {
	eff := &Effects{}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.byID[id]
	switch {
	case c == nil || c.v40 == nil:
		return nil, eff, nfs4.NFS4ERR_STALE_CLIENTID
	case c.confirmed && c.v40.updating && c.v40.updateConfirm == confirm: // case 1
		if c.principal != who.Principal {
			return nil, eff, nfs4.NFS4ERR_CLID_INUSE
		}
		c.v40.confirm, c.v40.back, c.v40.updating = confirm, c.v40.updateBack, false
	case c.v40.confirm != confirm:
		return nil, eff, nfs4.NFS4ERR_STALE_CLIENTID
	case c.principal != who.Principal:
		return nil, eff, nfs4.NFS4ERR_CLID_INUSE
	case c.confirmed: // case 2: it asks again
	default: // case 3: new, or the successor of an incarnation that ends here
		old := c.party.confirmed
		if c.party.confirming || old != nil && old.running.Load() > 0 {
			if old != nil {
				eff.Interrupt = append(eff.Interrupt, old.allSessions()...)
			}
			return nil, eff, nfs4.NFS4ERR_DELAY
		}
		if !s.confirm(c, old, eff) {
			return nil, eff, nfs4.NFS4ERR_DELAY
		}
	}
	c.mu.Lock()
	c.addr = who.Addr
	c.mu.Unlock()
	c.renewed.Store(s.now().UnixNano())
	return c, eff, nil
}

// Begin40 begins a request of a client of NFSv4.0 by its client ID: STALE_CLIENTID if there is no such
// client, or it is not confirmed, EXPIRED if it lost its state with its lease. The lease is renewed and does not end before End40.
func (s *Server) Begin40(id uint64) (*Client, error) {
	s.mu.RLock()
	c := s.byID[id]
	ok := c != nil && c.v40 != nil && c.confirmed
	_, expired := s.expired40[id]
	s.mu.RUnlock()
	switch {
	case expired:
		return nil, nfs4.NFS4ERR_EXPIRED
	case !ok || !c.begin():
		return nil, nfs4.NFS4ERR_STALE_CLIENTID
	}
	return c, nil
}

// maxExpired40 is how many client IDs are remembered for the answer EXPIRED; others get STALE_CLIENTID.
const maxExpired40 = 4096

// noteExpired40 remembers that a client lost its state because its lease was over. s.mu is held.
func (s *Server) noteExpired40(c *Client) {
	if c.v40 == nil {
		return
	}
	if s.expired40 == nil || len(s.expired40) >= maxExpired40 {
		s.expired40 = map[uint64]struct{}{}
	}
	s.expired40[c.id] = struct{}{}
}

// End40 ends what Begin40 or Stateid40 began.
func (c *Client) End40() { c.end() }

// Stateid40 begins a request by a stateid that is not a special one. Errors: STALE_STATEID for a stateid of another
// start of ours (RFC 7530 9.1.4.4; a later one too: our journal may be an older copy), EXPIRED for one of a client that
// is no more (9.6.3), BAD_STATEID for one that never was.
func (s *Server) Stateid40(sid nfs4.Stateid) (*Client, error) {
	epoch, client, n := splitOther(sid.Other)
	switch {
	case IsSpecial(sid):
		return nil, nfs4.NFS4ERR_BAD_STATEID
	case epoch != s.cfg.Epoch:
		return nil, nfs4.NFS4ERR_STALE_STATEID
	case client == 0, client > s.counter.Load(), n == 0:
		return nil, nfs4.NFS4ERR_BAD_STATEID
	case sid.Seqid == 0: // not "the newest" here: the first is 1
		return nil, nfs4.NFS4ERR_OLD_STATEID
	}
	c, err := s.Begin40(uint64(epoch)<<32 | uint64(client))
	if err != nil {
		return nil, nfs4.NFS4ERR_EXPIRED
	}
	return c, nil
}

// waits40 tells whether a client of NFSv4.0 may yet reclaim: what it asks for anew has to wait, as we cannot
// know whether it means the same thing. h is the file, or one of its part.
func (c *Client) waits40(h fs.Handle) bool { return c.srv.reclaimableAt(h) && c.party.unreclaimed() }

// unreclaimed tells whether something from the journal would be lost if grace ended now.
func (p *party) unreclaimed() bool {
	for _, o := range p.entries() {
		o.file.mu.Lock()
		n := len(o.lost())
		o.file.mu.Unlock()
		if n > 0 {
			return true
		}
	}
	return false
}

// Reclaimed40 is to be called when a client of NFSv4.0 has reclaimed something: when that was all that it had,
// grace need not wait for it. It says itself at no time that it is complete.
func (s *Server) Reclaimed40(c *Client) *Effects {
	eff := &Effects{}
	if s.reclaimable() && !c.party.unreclaimed() {
		s.clientDone(c.party.owner, eff)
	}
	return eff
}

// ReleaseLockOwner is RELEASE_LOCKOWNER, RFC 7530 16.37: LOCKS_HELD if the owner has locks.
func (s *Server) ReleaseLockOwner(c *Client, owner string) (*Effects, error) {
	eff := &Effects{}
	var own []*lock
	entries := c.party.entries()
	for _, o := range entries {
		o.file.mu.Lock()
		for l := range o.locks {
			if l.owner.Owner != owner {
				continue
			}
			if len(l.live) > 0 || l.pend != nil {
				o.file.mu.Unlock()
				return eff, nfs4.NFS4ERR_LOCKS_HELD
			}
			own = append(own, l)
		}
		o.file.mu.Unlock()
	}
	for _, l := range own {
		f := l.open.file
		f.mu.Lock()
		if l.sid != nil && len(l.live) == 0 && l.pend == nil && l.users == 0 {
			c.freeStateid(l.sid)
			l.sid = nil
			eff.Forget = append(eff.Forget, OwnerFile{l.owner, f.handle})
			f.tidyLock(l)
		}
		f.mu.Unlock()
		s.files.drop(f)
	}
	c.v40.owners.forgetLock(owner)
	return eff, nil
}

// ConfirmOpen is OPEN_CONFIRM, RFC 7530 16.18, for an open whose owner's turn it is: BAD_STATEID if there is
// nothing to confirm.
func (s *Server) ConfirmOpen(c *Client, sid nfs4.Stateid) (nfs4.Stateid, error) {
	st := c.find(sid)
	if st == nil || st.lock != nil {
		return nfs4.Stateid{}, nfs4.NFS4ERR_BAD_STATEID
	}
	f := st.file
	f.mu.Lock()
	defer f.mu.Unlock()
	if !st.unconfirmed || !st.live() {
		return nfs4.Stateid{}, nfs4.NFS4ERR_BAD_STATEID
	}
	if sid.Seqid != st.seqid {
		if int32(sid.Seqid-st.seqid) < 0 {
			return nfs4.Stateid{}, nfs4.NFS4ERR_OLD_STATEID
		}
		return nfs4.Stateid{}, nfs4.NFS4ERR_BAD_STATEID
	}
	st.unconfirmed = false
	st.bump()
	return st.wire(), nil
}

// Unconfirmed40 lists the opens of an owner that were never confirmed. When it opens again they are to be
// closed: the OPEN may have been a delayed duplicate (RFC 7530 16.18.5). Close each with PrepareCancel.
func (s *Server) Unconfirmed40(c *Client, owner string) []nfs4.Stateid {
	var out []nfs4.Stateid
	for _, o := range c.party.entries() {
		o.file.mu.Lock()
		if o.owner.Owner == owner && o.client == c && o.sid != nil && o.sid.unconfirmed {
			out = append(out, o.sid.wire())
		}
		o.file.mu.Unlock()
	}
	return out
}

// PrepareCancel is PrepareClose for an open that was never confirmed.
func (s *Server) PrepareCancel(ctx context.Context, c *Client, sid nfs4.Stateid) (*ClosePlan, fs.Handle, error) {
	st := c.find(sid)
	if st == nil {
		return nil, "", nfs4.NFS4ERR_BAD_STATEID
	}
	st.file.mu.Lock()
	st.unconfirmed = false
	file := st.file.handle
	st.file.mu.Unlock()
	p, err := s.PrepareClose(ctx, c, sid, file)
	return p, file, err
}

// OpenedBy is the user whose OPEN a stateid stands for; nil if it stands for nothing.
func (c *Client) OpenedBy(sid nfs4.Stateid) *fs.Cred {
	st := c.find(sid)
	if st == nil {
		return nil
	}
	st.file.mu.Lock()
	defer st.file.mu.Unlock()
	return st.open.cred
}

// idle40 is how long an owner without state is remembered, so that its last request can be repeated.
func (s *Server) idle40() time.Duration { return s.cfg.Lease }

// tidy40 forgets owners of NFSv4.0 that have had nothing for long.
func (s *Server) tidy40(now time.Time) {
	s.mu.RLock()
	var list []*Client
	for _, c := range s.byID {
		if c.v40 != nil && c.confirmed {
			list = append(list, c)
		}
	}
	s.mu.RUnlock()
	for _, c := range list {
		if c.v40.owners.due(now, s.idle40()) {
			open, lock := c.party.owners()
			c.v40.owners.tidy(now.Add(-s.idle40()), open, lock)
		}
	}
}

// owners are the open-owners and lock-owners that have something.
func (p *party) owners() (open, lock map[string]bool) {
	open, lock = map[string]bool{}, map[string]bool{}
	for _, o := range p.entries() {
		o.file.mu.Lock()
		open[o.owner.Owner] = true
		for l := range o.locks {
			lock[l.owner.Owner] = true
		}
		o.file.mu.Unlock()
	}
	return open, lock
}

// maxOwners40 is how many owners of one client are remembered at once.
const maxOwners40 = math.MaxUint16
