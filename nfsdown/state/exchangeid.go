package state

import (
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// validExchangeFlags are the bits that eia_flags may have: RFC 8881 18.35.3, RFC 7862 14.1, and the
// retention draft.
const validExchangeFlags = nfs4.EXCHGID4_FLAG_SUPP_MOVED_REFER | nfs4.EXCHGID4_FLAG_SUPP_MOVED_MIGR |
	nfs4.EXCHGID4_FLAG_SUPP_FENCE_OPS | nfs4.EXCHGID4_FLAG_RETAIN_STATE | nfs4.EXCHGID4_FLAG_BIND_PRINC_STATEID |
	nfs4.EXCHGID4_FLAG_MASK_PNFS | nfs4.EXCHGID4_FLAG_UPD_CONFIRMED_REC_A

// ExchangeID is EXCHANGE_ID, RFC 8881 18.35.4, all nine cases. The result's Status tells the outcome.
// Only SP4_NONE is known here: others are INVAL.
func (s *Server) ExchangeID(a *nfs4.ExchangeIDArgs, who Caller) (*nfs4.ExchangeIDRes, *Effects) {
	eff := &Effects{}
	refuse := func(st nfs4.Status) (*nfs4.ExchangeIDRes, *Effects) { return &nfs4.ExchangeIDRes{Status: st}, eff }
	if a.Flags&^validExchangeFlags != 0 || a.Owner.ID == "" || a.StateProtect.How != nfs4.SP4_NONE {
		return refuse(nfs4.NFS4ERR_INVAL)
	}
	update := a.Flags&nfs4.EXCHGID4_FLAG_UPD_CONFIRMED_REC_A != 0
	now := s.now()

	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parties[a.Owner.ID]
	var old *Client
	if p != nil {
		if p.confirming {
			return refuse(nfs4.NFS4ERR_DELAY)
		}
		old = p.confirmed
	}
	if update {
		switch {
		case old == nil || old.v40 != nil: // case 7
			return refuse(nfs4.NFS4ERR_NOENT)
		case old.verifier != a.Owner.Verifier: // case 8
			return refuse(nfs4.NFS4ERR_NOT_SAME)
		case old.principal != who.Principal: // case 9
			return refuse(nfs4.NFS4ERR_PERM)
		}
		old.describe(a, who) // case 6
		s.recordClient(eff, old)
		return s.exchanged(a, old, true), eff
	}
	if old != nil && (old.permanent || old.principal != who.Principal) { // case 3
		if old.permanent || !old.yields(now) && (p.holds() || old.hasSessions()) {
			return refuse(nfs4.NFS4ERR_CLID_INUSE)
		}
		s.bury(old, eff)
		s.strip(old, killRelease, eff)
		s.tidyParty(p)
		old = nil
	}
	// A client that had NFSv4.0 goes on with 4.1 as if it had restarted: 2.4.1.
	if old != nil && old.v40 == nil && old.verifier == a.Owner.Verifier { // case 2
		return s.exchanged(a, old, true), eff
	}
	if old == nil && p != nil && s.guards(p, who) {
		return refuse(nfs4.NFS4ERR_CLID_INUSE)
	}
	if old != nil && a.Flags&nfs4.EXCHGID4_FLAG_SUPP_FENCE_OPS != 0 && old.running.Load() > 0 {
		// RFC 7862 14.1: the answer to a new verifier says that nothing of the old one still runs.
		eff.Interrupt = append(eff.Interrupt, old.allSessions()...)
		return refuse(nfs4.NFS4ERR_DELAY)
	}
	if len(s.byID) >= s.cfg.MaxClients {
		return refuse(nfs4.NFS4ERR_DELAY)
	}
	// Cases 1, 4 and 5: a new unconfirmed record, beside a confirmed one if there is one.
	p = s.partyOf(a.Owner.ID)
	if p.unconfirmed != nil {
		delete(s.byID, p.unconfirmed.id)
	}
	c := s.newClient(p, who)
	c.verifier = a.Owner.Verifier
	c.retain = a.Flags&nfs4.EXCHGID4_FLAG_RETAIN_STATE != 0
	c.describe(a, who)
	c.csRes = nfs4.CreateSessionRes{Status: nfs4.NFS4ERR_SEQ_MISORDERED}
	p.unconfirmed = c
	return s.exchanged(a, c, false), eff
}

// guards tells whether what the journal holds for p belongs to another principal, who may yet come
// to reclaim it: a confirmed record with state, as it were. s.mu is held.
func (s *Server) guards(p *party, who Caller) bool {
	p.mu.Lock()
	principal := p.rec.Principal
	p.mu.Unlock()
	return s.reclaimable() && principal != "" && principal != who.Principal && p.holdsServer()
}

// describe notes what the client says of itself.
func (c *Client) describe(a *nfs4.ExchangeIDArgs, who Caller) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addr = who.Addr
	if a.ImplID != nil {
		c.impl = a.ImplID.Name
	}
}

// exchanged is the answer. s.mu is held.
func (s *Server) exchanged(a *nfs4.ExchangeIDArgs, c *Client, confirmed bool) *nfs4.ExchangeIDRes {
	res := &nfs4.ExchangeIDRes{
		ClientID:    c.id,
		SequenceID:  c.csSeq + 1,
		Flags:       s.cfg.ExchangeFlags | a.Flags&nfs4.EXCHGID4_FLAG_SUPP_FENCE_OPS,
		ServerOwner: s.cfg.ServerOwner,
		ServerScope: s.cfg.ServerScope,
		ImplID:      s.cfg.ImplID,
	}
	if confirmed {
		res.Flags |= nfs4.EXCHGID4_FLAG_CONFIRMED_R
	}
	if c.retains() && a.Flags&nfs4.EXCHGID4_FLAG_RETAIN_STATE != 0 {
		res.Flags |= nfs4.EXCHGID4_FLAG_RETAIN_STATE
		// A hint only: there is, or at confirmation will be, something to reclaim.
		if c.party.holds() && !c.Complete() {
			res.Flags |= nfs4.EXCHGID4_FLAG_RECLAIMABLE_R
		}
	}
	return res
}

// recordClient writes the client's record. What the owner had in earlier epochs is void, unless it
// still waits to be reclaimed. s.mu is held.
func (s *Server) recordClient(eff *Effects, c *Client) {
	waits := s.reclaimable() && c.party.holdsServer()
	c.mu.RLock()
	addr, impl := c.addr, c.impl
	c.mu.RUnlock()
	s.noteClient(eff, c.party, func(r *journal.Client) {
		r.Verifier, r.Principal, r.ClientID = c.verifier, c.principal, c.id
		r.Addr, r.Impl = addr, impl
		r.Retain, r.Epoch, r.Since = c.retain, s.cfg.Epoch, c.since
		r.Complete, r.Permanent, r.V40, r.CsaSequence = c.Complete(), c.permanent, c.v40 != nil, c.csSeq
		if !waits && !c.party.restored {
			r.CompleteEpoch = s.cfg.Epoch
		}
		r.Expired = false
	})
}
