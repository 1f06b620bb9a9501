package state

import (
	"context"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// Delegations to clients, RFC 8881 10.4. A delegation is an entry of a file as an open is, of an open-owner
// that no client can have: it has a stateid, a record in the journal and an open at the backend, under which its
// I/O is done, and so goes through restarts, reclaims, leases and revocation as opens do. What is its own is how
// it conflicts: whoever wants what it excludes is told DELAY, and it is recalled.

// DelegOwner is the open-owner of all delegations of a client. An OPEN that names it is refused.
const DelegOwner = "\x00delegation"

// Deleg is a kind of delegation.
type Deleg uint8

// The kinds. A read delegation promises that nobody else writes, a write delegation that nobody else has the
// file open at all.
const (
	NoDeleg Deleg = iota
	ReadDeleg
	WriteDeleg
)

func (d Deleg) access() fs.Share {
	if d == WriteDeleg {
		return fs.ShareBoth
	}
	return fs.ShareRead
}

func delegOf(access fs.Share) Deleg {
	switch {
	case access&fs.ShareWrite != 0:
		return WriteDeleg
	case access != 0:
		return ReadDeleg
	}
	return NoDeleg
}

// isDeleg tells whether the entry is a delegation.
func (o *open) isDeleg() bool { return o.owner.Owner == DelegOwner }

// RecallError says that a request must wait for a delegation to come back: DELAY.
type RecallError struct {
	Returned <-chan struct{} // closed when one of those in the way is gone
}

func (e *RecallError) Error() string { return "a delegation is being recalled" }

// Unwrap is the status for the client.
func (e *RecallError) Unwrap() error { return nfs4.NFS4ERR_DELAY }

// A Recall is a CB_RECALL to send. Say by Asked what became of it.
type Recall struct {
	Client  *Client
	Stateid nfs4.Stateid
	File    fs.Handle

	srv *Server
	o   *open
	sid *stateid
}

// Asked says whether the client has answered that it obeys. If not it is asked again.
func (r *Recall) Asked(ok bool) {
	r.o.file.mu.Lock()
	defer r.o.file.mu.Unlock()
	if r.o.sid == r.sid {
		r.o.asking, r.o.told = false, ok
	}
}

// recall begins to take a delegation back. file.mu is held.
func (s *Server) recall(o *open, eff *Effects) *RecallError {
	if o.returned == nil {
		o.returned, o.recalled = make(chan struct{}), s.now()
		s.delegMu.Lock()
		s.recalls[o] = struct{}{}
		s.contended[o.file.handle] = o.recalled
		s.delegMu.Unlock()
		s.recallCount.Add(1)
		s.ask(o, eff)
	}
	return &RecallError{o.returned}
}

func (s *Server) ask(o *open, eff *Effects) {
	o.asking = true
	eff.Recalls = append(eff.Recalls, &Recall{Client: o.client, Stateid: o.sid.wire(), File: o.file.handle, srv: s, o: o, sid: o.sid})
}

// bars tells whether a delegation of that access excludes what another client wants to open.
func bars(d Deleg, access, deny fs.Share) bool {
	return d == WriteDeleg || d == ReadDeleg && (access&fs.ShareWrite != 0 || deny&fs.ShareRead != 0)
}

// delegConflict looks for delegations in the way of what client does to access and deny. As for shareConflict:
// what to wait for, whom to end because its lease was over, or an error. f.mu is held.
func (s *Server) delegConflict(f *file, client string, access, deny fs.Share, now time.Time, eff *Effects) (wait <-chan struct{}, victim *Client, err error) {
	if !s.cfg.Delegations {
		return nil, nil, nil
	}
	var recall *RecallError
	for _, o := range f.opens {
		if !o.isDeleg() {
			continue
		}
		// Its own delegation is in a client's way only if it denies what the backend has open for that.
		own := o.owner.Client == client
		bars := func(has fs.Share) bool { return own && has&deny != 0 || !own && bars(delegOf(has), access, deny) }
		if o.client != nil && bars(o.access) {
			if o.client.yields(now) {
				victim = o.client
			} else {
				recall = s.recall(o, eff)
			}
		}
		if a, _ := o.heldModes(true); bars(a) {
			err = nfs4.NFS4ERR_GRACE
		}
		if o.pend != nil && bars(o.pend.access) {
			wait = o.pend.done
		}
	}
	if recall != nil {
		err = recall
	}
	return wait, victim, err
}

// Touch is what is about to be done to a file otherwise than under an open.
type Touch uint8

// The kinds: to look at data, locks or attributes, which a write delegation may have newer, or to change
// anything of the file, its names included.
const (
	TouchLook Touch = iota
	TouchChange
)

// Delegated tells whether there may be a delegation of any file.
func (s *Server) Delegated() bool { return s.delegs.Load() > 0 || s.cfg.Delegations && s.reclaimable() }

// Touch recalls what other clients than c have of file that is in the way; c is nil for requests of nobody known.
// Until done is called no delegation is granted that it would be in the way of. The Effects are to be run whatever
// the error is: a RecallError, GRACE, or that of ctx; done is nil then.
func (s *Server) Touch(ctx context.Context, c *Client, h fs.Handle, what Touch) (done func(), eff *Effects, err error) {
	nothing := func() {}
	if !s.cfg.Delegations || what == TouchLook && s.writeDelegs.Load() == 0 && !s.reclaimable() {
		return nothing, nil, nil
	}
	client := ""
	if c != nil {
		client = c.party.owner
	}
	access := fs.ShareRead
	if what == TouchChange {
		access = fs.ShareWrite
	}
	eff = &Effects{}
	f := s.files.get(h)
	for {
		f.mu.Lock()
		wait, victim, err := s.delegConflict(f, client, access, 0, s.now(), eff)
		if wait == nil && victim == nil && err == nil && what == TouchChange {
			if f.touched == nil {
				f.touched = map[string]int{}
			}
			f.touched[client]++
		}
		f.mu.Unlock()
		switch {
		case err != nil:
		case victim != nil:
			s.evict(victim, "its lease was over and another client used what was delegated to it", eff)
			continue
		case wait != nil:
			if err = await(ctx, wait); err == nil {
				continue
			}
		}
		if err != nil || what == TouchLook {
			s.files.put(f)
			return nothing, eff, err
		}
		return func() {
			f.mu.Lock()
			if f.touched[client]--; f.touched[client] == 0 {
				delete(f.touched, client)
			}
			f.mu.Unlock()
			s.files.put(f)
		}, eff, nil
	}
}

// DelegRequest asks for a delegation of a file that the client has just opened.
type DelegRequest struct {
	File fs.Handle
	Kind Deleg
	Cred *fs.Cred
	Name string
}

// recallHold is how long a file whose delegation was recalled has none, so that it does not go to and fro.
const recallHold = 30 * time.Second

// PrepareDelegation reserves a delegation, as PrepareOpen does an open: the plan is to be settled after the backend
// has opened the file with the plan's Request. A nil plan is none, and why is why_no_delegation4. It never waits.
func (s *Server) PrepareDelegation(ctx context.Context, c *Client, req *DelegRequest) (p *OpenPlan, why uint32) {
	switch {
	case !s.cfg.Delegations, c.permanent, c.v40 != nil, c.backs.Load() == 0, !c.tried.Load(), s.Restoring(),
		s.delegs.Load() >= int64(s.cfg.MaxDelegations):
		return nil, nfs4.WND4_RESOURCE
	case s.PhaseAt(req.File) == GraceActive, s.PhaseAt(req.File) == GraceEnding:
		return nil, nfs4.WND4_RESOURCE // of others it is not known yet what they had
	}
	s.delegMu.Lock()
	since, hot := s.contended[req.File]
	s.delegMu.Unlock()
	if hot && s.now().Before(since.Add(min(recallHold, s.cfg.Lease))) {
		return nil, nfs4.WND4_CONTENTION
	}
	f := s.files.get(req.File)
	defer s.files.put(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	owner := fs.Owner{Client: c.party.owner, Owner: DelegOwner}
	if f.opens[owner] != nil {
		return nil, nfs4.WND4_RESOURCE // it has one, or gives one back
	}
	for client := range f.touched {
		if client != owner.Client {
			return nil, nfs4.WND4_CONTENTION
		}
	}
	opened := false
	for _, o := range f.opens {
		if o.owner.Client == owner.Client {
			opened = opened || o.client == c && !o.isDeleg()
			if o.deny&req.Kind.access() != 0 || o.pend != nil && o.pend.deny&req.Kind.access() != 0 {
				return nil, nfs4.WND4_CONTENTION
			}
			continue
		}
		a, d := o.heldModes(true)
		a, d = a|o.access|o.goneAccess, d|o.deny|o.goneDeny
		if x, y := o.heldModes(false); x|y != 0 {
			a, d = a|x, d|y
		}
		if o.pend != nil {
			a, d = a|o.pend.access, d|o.pend.deny
		}
		if req.Kind == WriteDeleg && a != 0 || a&fs.ShareWrite != 0 || d != 0 {
			return nil, nfs4.WND4_CONTENTION
		}
	}
	if !opened || c.ready(false) != nil {
		return nil, nfs4.WND4_RESOURCE
	}
	o := f.openOf(c.party, owner)
	o.users++
	if err := o.turn.take(ctx, true); err != nil { // nobody has it
		o.users--
		f.tidyOpen(o)
		return nil, nfs4.WND4_RESOURCE
	}
	p = &OpenPlan{s: s, c: c, o: o, Call: CallNormal, Batch: &journal.Batch{}}
	p.Request = fs.OpenRequest{Owner: owner, File: req.File, Access: req.Kind.access()}
	o.atBackend, o.cred, o.name, o.since = true, req.Cred, req.Name, s.now()
	o.pend = &pendShare{access: p.Request.Access, sid: c.newStateid(o, nil), done: make(chan struct{})}
	p.sid = o.pend.sid
	s.putOpen(p.Batch, o)
	p.puts = o.puts
	return p, 0
}

// Delegation is what c has of a file. recalled tells that it is to come back.
func (s *Server) Delegation(c *Client, h fs.Handle) (sid nfs4.Stateid, kind Deleg, recalled bool) {
	f := s.files.peek(h)
	if f == nil {
		return sid, NoDeleg, false
	}
	defer s.files.put(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	if o := f.opens[fs.Owner{Client: c.party.owner, Owner: DelegOwner}]; o != nil && o.client == c {
		return o.sid.wire(), delegOf(o.access), o.returned != nil
	}
	return sid, NoDeleg, false
}

// CheckDelegation judges the stateid of CLAIM_DELEGATE_CUR. One that is being recalled is as good as any.
func (s *Server) CheckDelegation(c *Client, sid nfs4.Stateid) (fs.Handle, error) {
	st := c.find(sid)
	if IsSpecial(sid) || st == nil || !st.open.isDeleg() {
		return "", nfs4.NFS4ERR_BAD_STATEID
	}
	st.file.mu.Lock()
	defer st.file.mu.Unlock()
	return st.file.handle, st.check(sid.Seqid)
}

// PrepareReclaimDelegation is CLAIM_PREVIOUS of a delegation. It is judged as the open of its owner.
func (s *Server) PrepareReclaimDelegation(ctx context.Context, c *Client, req *DelegRequest) (*OpenPlan, *Effects, error) {
	return s.prepareOpen(ctx, c, &OpenRequest{Owner: DelegOwner, File: req.File, Access: req.Kind.access(), Reclaim: true, Cred: req.Cred})
}

// PrepareDelegReturn is DELEGRETURN, RFC 8881 18.6. The plan is that of a CLOSE.
func (s *Server) PrepareDelegReturn(ctx context.Context, c *Client, sid nfs4.Stateid, file fs.Handle) (*ClosePlan, error) {
	return s.prepareClose(ctx, c, sid, file, kindDeleg)
}

// RecallAll recalls every delegation of a file, or with TouchLook those for writing: the backend can no longer promise
// what they do. If one is being granted it tells when that is done: then it is to be called once more.
func (s *Server) RecallAll(h fs.Handle, what Touch) (eff *Effects, granting <-chan struct{}) {
	eff = &Effects{}
	f := s.files.peek(h)
	if f == nil {
		return eff, nil
	}
	defer s.files.put(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.opens {
		if !o.isDeleg() {
			continue
		}
		counts := func(access fs.Share) bool { return what == TouchChange || delegOf(access) == WriteDeleg }
		if o.pend != nil && counts(o.pend.access) {
			granting = o.pend.done
		}
		if o.client != nil && counts(o.access) {
			s.recall(o, eff)
		}
	}
	return eff, granting
}

// expireRecalls sends again what was not heard, and takes away what did not come back in a lease period: 10.4.5.
func (s *Server) expireRecalls(now time.Time, eff *Effects) {
	s.delegMu.Lock()
	for h, since := range s.contended {
		if now.After(since.Add(recallHold)) {
			delete(s.contended, h)
		}
	}
	list := make([]*open, 0, len(s.recalls))
	for o := range s.recalls {
		list = append(list, o)
	}
	s.delegMu.Unlock()
	for _, o := range list {
		o.file.mu.Lock()
		switch {
		case o.returned == nil || o.client == nil: // it is on its way out of the list
		case s.held.Load() || s.Restoring():
		case now.After(o.recalled.Add(s.cfg.Lease)):
			s.revokeDeleg(o, nfs4.NFS4ERR_DELEG_REVOKED, "the client did not return its delegation", eff)
		case !o.asking && !o.told:
			s.ask(o, eff)
		}
		o.file.mu.Unlock()
		s.files.drop(o.file)
	}
}

// revokeDeleg takes a delegation away. file.mu is held.
func (s *Server) revokeDeleg(o *open, st nfs4.Status, why string, eff *Effects) {
	o.client.revoke(o.sid, st)
	s.event(eff.batch(), journal.Event{Type: "lost", Client: o.owner.Client, File: o.file.handle, Name: o.name, Result: st.String(), Text: why})
	s.revokeCount.Add(1)
	o.goneAccess |= o.access
	o.endLive()
	s.releaseOpen(eff, o)
	s.noteOpen(eff, o)
	s.wake(o.file, eff)
	o.file.tidyOpen(o)
}

// beginDeleg and endDeleg count a delegation that is granted, and that is no more. file.mu is held.
func (o *open) beginDeleg(s *Server, access fs.Share) {
	s.delegs.Add(1)
	if delegOf(access) == WriteDeleg {
		s.writeDelegs.Add(1)
	}
}

func (o *open) endDeleg() {
	s := o.client.srv
	s.delegs.Add(-1)
	if delegOf(o.access) == WriteDeleg {
		s.writeDelegs.Add(-1)
	}
	if o.returned != nil {
		close(o.returned)
		o.returned, o.recalled, o.asking, o.told = nil, time.Time{}, false, false
		s.delegMu.Lock()
		delete(s.recalls, o)
		s.delegMu.Unlock()
	}
}

// DelegInfo is a delegation for people.
type DelegInfo struct {
	Owner    string // the co_ownerid
	File     fs.Handle
	Name     string
	Kind     Deleg
	Held     bool // not reclaimed yet
	Recalled time.Time
	Since    time.Time
}

// Delegations lists what is delegated to clients, by file and owner.
func (s *Server) Delegations() []DelegInfo {
	var out []DelegInfo
	s.eachFile(func(f *file) {
		for _, o := range f.opens {
			if !o.isDeleg() {
				continue
			}
			i := DelegInfo{Owner: o.owner.Client, File: f.handle, Name: o.name, Recalled: o.recalled, Since: o.since, Kind: delegOf(o.access)}
			if o.client == nil {
				a, _ := o.heldModes(true)
				i.Kind, i.Held = delegOf(a), true
			}
			if i.Kind != NoDeleg {
				out = append(out, i)
			}
		}
	})
	return out
}

// DelegCounts is how many delegations there are, and how many were recalled and revoked since the start.
type DelegCounts struct {
	Read, Write       int64
	Recalled, Revoked uint64
}

// DelegCounts counts.
func (s *Server) DelegCounts() DelegCounts {
	w := s.writeDelegs.Load()
	return DelegCounts{Read: s.delegs.Load() - w, Write: w, Recalled: s.recallCount.Load(), Revoked: s.revokeCount.Load()}
}
