package state

import (
	"strings"

	"holdfast/internal/nfs4"
)

// slot is an entry of a session's reply cache, RFC 8881 2.10.6.1.
type slot struct {
	seq         uint32 // of the last request that was executed; 0 if none was
	used        bool   // a request was executed
	busy        bool
	fingerprint uint64
	res         nfs4.SequenceRes // the answer to the SEQUENCE itself is always kept
	reply       []byte           // the whole answer; nil if it was not to be kept
}

// SequenceResult says what is to become of a COMPOUND.
type SequenceResult struct {
	Res nfs4.SequenceRes // the answer to SEQUENCE itself
	// Request is set if the rest of the COMPOUND is to run; call Done when it has.
	Request *Request
	// Replay is the whole answer to a retry, the bytes that Done was given. Do not change them.
	Replay []byte
	// Uncached: a retry whose answer was not kept. Answer Res, and RETRY_UNCACHED_REP to the
	// second operation if there is one (RFC 8881 2.10.6.1.3).
	Uncached bool
}

// Request is a COMPOUND that runs in a slot. Its client's lease does not end meanwhile.
type Request struct {
	session *Session
	slot    uint32
	cache   bool
}

// Session is where the request runs.
func (r *Request) Session() *Session { return r.session }

// Client is whose request it is.
func (r *Request) Client() *Client { return r.session.client }

// CacheThis tells whether the reply is to be kept: one longer than the session's
// MaxResponseSizeCached is then REP_TOO_BIG_TO_CACHE.
func (r *Request) CacheThis() bool { return r.cache }

// Sequence is SEQUENCE, RFC 8881 18.46. fingerprint is a hash of the whole request and of its user;
// a retry with another one is SEQ_FALSE_RETRY. Errors: BADSESSION, BADSLOT, BAD_HIGH_SLOT,
// SEQ_MISORDERED, SEQ_FALSE_RETRY, DELAY (the first one still runs). An error leaves slot and lease
// as they were.
func (s *Server) Sequence(a *nfs4.SequenceArgs, fingerprint uint64) (*SequenceResult, error) {
	ss, err := s.Session(a.SessionID)
	if err != nil {
		return nil, err
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	switch n := uint32(len(ss.slots)); {
	case ss.dead:
		return nil, nfs4.NFS4ERR_BADSESSION
	case a.SlotID >= n:
		return nil, nfs4.NFS4ERR_BADSLOT
	case a.HighestSlotID >= n:
		return nil, nfs4.NFS4ERR_BAD_HIGH_SLOT
	}
	sl := &ss.slots[a.SlotID]
	switch {
	case a.SequenceID == sl.seq && !sl.used:
		return nil, nfs4.NFS4ERR_SEQ_MISORDERED // nothing was executed yet: 18.36.4, phase 4
	case a.SequenceID == sl.seq && sl.fingerprint != fingerprint:
		return nil, nfs4.NFS4ERR_SEQ_FALSE_RETRY
	case a.SequenceID == sl.seq && sl.busy:
		return nil, nfs4.NFS4ERR_DELAY
	case a.SequenceID == sl.seq:
		return ss.retry(sl)
	case a.SequenceID != sl.seq+1 || sl.busy:
		return nil, nfs4.NFS4ERR_SEQ_MISORDERED
	}
	if !ss.client.begin() {
		return nil, nfs4.NFS4ERR_BADSESSION
	}
	ss.running++
	*sl = slot{seq: a.SequenceID, used: true, busy: true, fingerprint: fingerprint, res: nfs4.SequenceRes{
		SessionID: ss.id, SequenceID: a.SequenceID, SlotID: a.SlotID,
		HighestSlotID: uint32(len(ss.slots)) - 1, TargetHighestSlotID: uint32(len(ss.slots)) - 1,
		StatusFlags: ss.statusFlags(),
	}}
	return &SequenceResult{Res: sl.res, Request: &Request{session: ss, slot: a.SlotID, cache: a.CacheThis}}, nil
}

// retry answers a request that was executed already. It renews the lease, as any SEQUENCE that is OK.
// ss.mu is held.
func (ss *Session) retry(sl *slot) (*SequenceResult, error) {
	if !ss.client.begin() {
		return nil, nfs4.NFS4ERR_BADSESSION
	}
	ss.client.end()
	return &SequenceResult{Res: sl.res, Replay: sl.reply, Uncached: sl.reply == nil}, nil
}

// statusFlags are sr_status_flags. ss.mu is held.
func (ss *Session) statusFlags() uint32 {
	c, flags := ss.client, uint32(0)
	if c.wantsBack.Load() && c.backs.Load() == 0 {
		flags |= nfs4.SEQ4_STATUS_CB_PATH_DOWN
	}
	if ss.wantsBack && ss.conns == 0 {
		flags |= nfs4.SEQ4_STATUS_CB_PATH_DOWN_SESSION
	}
	if ss.fault {
		flags |= nfs4.SEQ4_STATUS_BACKCHANNEL_FAULT
	}
	if c.losesAllByFlags() {
		return flags
	}
	if c.admin.Load() > 0 {
		flags |= nfs4.SEQ4_STATUS_ADMIN_STATE_REVOKED
	}
	if c.delegs.Load() > 0 {
		flags |= nfs4.SEQ4_STATUS_RECALLABLE_STATE_REVOKED
	}
	if c.expired.Load() > 0 {
		flags |= nfs4.SEQ4_STATUS_EXPIRED_SOME_STATE_REVOKED
	}
	return flags
}

// losesAllByFlags tells a client that must not be told by the flags that some of its state was revoked (18.46.3),
// against the letter of the RFC. Linux, seen with 6.1, takes all its locks for lost then, on every file, and never
// frees the stateids, so that the flags stay, and whatever it locks next is lost with the next request. Worse,
// until its recovery has come to the lock that is lost, it writes under the open instead of failing (I2). Without
// the flags it tests the one lock-owner's stateid when a request is answered with ADMIN_REVOKED or EXPIRED, frees it,
// and gives EIO to the one application.
func (c *Client) losesAllByFlags() bool { return strings.HasPrefix(c.party.owner, "Linux NFSv4.") }

// Done ends the request with the reply that is about to be sent; reply is kept, not copied, if it
// is to be cached. The lease is renewed. Done is called once, also when no reply could be made (nil).
func (r *Request) Done(reply []byte) {
	ss := r.session
	ss.mu.Lock()
	sl := &ss.slots[r.slot]
	sl.busy = false
	if r.cache {
		sl.reply = reply
	}
	ss.running--
	ss.mu.Unlock()
	ss.client.end()
}
