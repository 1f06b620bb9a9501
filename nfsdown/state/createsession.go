package state

import (
	"crypto/rand"
	"encoding/binary"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

const validSessionFlags = nfs4.CREATE_SESSION4_FLAG_PERSIST | nfs4.CREATE_SESSION4_FLAG_CONN_BACK_CHAN | nfs4.CREATE_SESSION4_FLAG_CONN_RDMA

// CreateSession is CREATE_SESSION, RFC 8881 18.36.4: look-up, its own reply cache, confirmation, the
// session. The session is nil if it failed; a replayed answer comes with the session it made, if that
// still exists.
//
// If the confirmation ends an incarnation of the client, its requests that still run are waited for:
// the answer is DELAY, the Effects interrupt them, and the sequence number is not used up (as Linux's
// client and server have it; a number that is used up would replay the DELAY for ever).
func (s *Server) CreateSession(a *nfs4.CreateSessionArgs, who Caller) (*nfs4.CreateSessionRes, *Session, *Effects) {
	eff := &Effects{}
	refuse := func(st nfs4.Status) (*nfs4.CreateSessionRes, *Session, *Effects) {
		return &nfs4.CreateSessionRes{Status: st}, nil, eff
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.byID[a.ClientID] // phase 1
	if c == nil || c.permanent || c.v40 != nil {
		return refuse(nfs4.NFS4ERR_STALE_CLIENTID)
	}
	switch { // phase 2
	case a.Sequence == c.csSeq && !c.csAnew:
		res := c.csRes
		return &res, c.csSession, eff
	case a.Sequence == c.csSeq, a.Sequence == c.csSeq+1:
	default:
		return refuse(nfs4.NFS4ERR_SEQ_MISORDERED)
	}
	p := c.party
	var old *Client
	if !c.confirmed {
		old = p.confirmed
	}
	if p.confirming || old != nil && (old.running.Load() > 0 || s.Restoring()) {
		if old != nil {
			eff.Interrupt = append(eff.Interrupt, old.allSessions()...)
		}
		return refuse(nfs4.NFS4ERR_DELAY)
	}
	res := &nfs4.CreateSessionRes{}
	ss := (*Session)(nil)
	if c.principal != who.Principal { // phase 3
		res.Status = nfs4.NFS4ERR_CLID_INUSE
	} else if ss, res.Status = s.makeSession(c, a); res.Status == nfs4.NFS4_OK {
		if !c.confirmed && !s.confirm(c, old, eff) {
			return refuse(nfs4.NFS4ERR_DELAY)
		}
		s.publish(c, ss)
		res.SessionID, res.Sequence, res.Flags = ss.id, a.Sequence, ss.flags
		res.ForeChan, res.BackChan = ss.fore, ss.back
	}
	c.csSeq, c.csRes, c.csSession, c.csAnew = a.Sequence, *res, ss, false
	if c.confirmed {
		s.noteClient(eff, p, func(r *journal.Client) { r.CsaSequence = a.Sequence })
	}
	return res, ss, eff
}

// confirm makes c the incarnation that speaks for its owner, and ends old: its state becomes held
// state, or is released. s.mu is held, but given up meanwhile: other clients go on. False if a
// request of old began in the last moment.
func (s *Server) confirm(c, old *Client, eff *Effects) bool {
	p := c.party
	if old != nil && !s.buryIdle(old, eff) {
		eff.Interrupt = append(eff.Interrupt, old.allSessions()...)
		return false
	}
	mode := killRestart
	if s.retainsFor(c) {
		mode = killHold
	}
	p.confirming = true
	c.renewed.Store(s.now().UnixNano()) // it does not expire unconfirmed meanwhile
	s.mu.Unlock()
	if old != nil {
		s.strip(old, mode, eff)
	}
	retained := p.retained()
	s.mu.Lock()
	p.confirming = false
	p.confirmed, p.unconfirmed = c, nil
	c.confirmed = true
	c.mu.Lock()
	c.retained = retained
	c.mu.Unlock()
	c.renewed.Store(s.now().UnixNano())
	s.recordClient(eff, c)
	text := "new client"
	if old != nil {
		text = "client restarted; its state was released"
		if mode == killHold {
			text = "client restarted; its state is held until it reclaims"
		}
	}
	s.event(eff.batch(), journal.Event{Type: "client", Client: p.owner, Result: "confirmed", Text: text})
	return true
}

// retainsFor tells whether the state of c's predecessor is kept for c to reclaim.
func (s *Server) retainsFor(c *Client) bool {
	// A client of NFSv4.0 has no way to say that it reclaims no more, or ever will.
	return c.v40 == nil && (s.cfg.Retain == RetainAlways || c.retains())
}

// retained tells whether something is held that the backend has.
func (p *party) retained() bool {
	for _, o := range p.entries() {
		o.file.mu.Lock()
		a, _ := o.heldModes(false)
		n := len(o.heldLocks(false))
		o.file.mu.Unlock()
		if a != 0 || n > 0 {
			return true
		}
	}
	return false
}

// heldLocks lists the locks under o that have something held of one sort. file.mu is held.
func (o *open) heldLocks(server bool) map[*lock]fs.RangeSet {
	out := map[*lock]fs.RangeSet{}
	for l := range o.locks {
		if set := l.heldSet(server); len(set) > 0 {
			out[l] = set
		}
	}
	return out
}

// makeSession makes the session without letting it be found yet. s.mu is held.
func (s *Server) makeSession(c *Client, a *nfs4.CreateSessionArgs) (*Session, nfs4.Status) {
	if a.Flags&^validSessionFlags != 0 || a.ForeChan.MaxRequests == 0 || a.ForeChan.MaxOperations == 0 {
		return nil, nfs4.NFS4ERR_INVAL
	}
	// A SEQUENCE with its headers and one small operation must fit.
	if a.ForeChan.MaxRequestSize < 256 || a.ForeChan.MaxResponseSize < 256 {
		return nil, nfs4.NFS4ERR_TOOSMALL
	}
	// So must a CB_SEQUENCE, if there is to be a back channel: a client that wants none may leave it empty.
	if back := &a.BackChan; (back.MaxRequestSize > 0 || a.Flags&nfs4.CREATE_SESSION4_FLAG_CONN_BACK_CHAN != 0) && back.MaxRequestSize < 128 {
		return nil, nfs4.NFS4ERR_TOOSMALL
	}
	c.mu.RLock()
	n := len(c.sessions)
	c.mu.RUnlock()
	if n >= s.cfg.MaxSessions {
		return nil, nfs4.NFS4ERR_NOSPC
	}
	ss := &Session{srv: s, client: c, flags: a.Flags & nfs4.CREATE_SESSION4_FLAG_CONN_BACK_CHAN, program: a.CBProgram, sec: a.SecParms}
	binary.BigEndian.PutUint64(ss.id[:], c.id)
	if _, err := rand.Read(ss.id[8:]); err != nil {
		return nil, nfs4.NFS4ERR_SERVERFAULT
	}
	ss.fore, ss.back = a.ForeChan, a.BackChan
	ss.fore.HeaderPadSize, ss.fore.RDMAIrd, ss.back.RDMAIrd = 0, nil, nil
	ss.fore.MaxRequestSize = min(ss.fore.MaxRequestSize, s.cfg.MaxRequest)
	ss.fore.MaxResponseSize = min(ss.fore.MaxResponseSize, s.cfg.MaxResponse)
	ss.fore.MaxResponseSizeCached = min(ss.fore.MaxResponseSizeCached, s.cfg.MaxCached, ss.fore.MaxResponseSize)
	ss.fore.MaxOperations = min(ss.fore.MaxOperations, s.cfg.MaxOps)
	ss.fore.MaxRequests = min(ss.fore.MaxRequests, s.cfg.Slots)
	ss.back.HeaderPadSize = 0
	ss.back.MaxRequestSize = min(ss.back.MaxRequestSize, s.cfg.MaxRequest)
	ss.back.MaxResponseSize = min(ss.back.MaxResponseSize, s.cfg.MaxResponse)
	ss.back.MaxResponseSizeCached = min(ss.back.MaxResponseSizeCached, s.cfg.MaxCached)
	ss.back.MaxOperations = min(ss.back.MaxOperations, s.cfg.MaxOps)
	ss.back.MaxRequests = min(ss.back.MaxRequests, s.cfg.Slots)
	ss.slots = make([]slot, ss.fore.MaxRequests)
	return ss, nfs4.NFS4_OK
}

// publish lets the session be found. s.mu is held.
func (s *Server) publish(c *Client, ss *Session) {
	if ss.flags&nfs4.CREATE_SESSION4_FLAG_CONN_BACK_CHAN != 0 {
		c.wantsBack.Store(true)
		ss.wantsBack = true
		ss.conns = 1
		c.backs.Add(1)
	}
	c.mu.Lock()
	c.sessions[ss] = struct{}{}
	c.mu.Unlock()
	c.renewed.Store(s.now().UnixNano())
	s.sessions[ss.id] = ss
}
