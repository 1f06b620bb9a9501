package state

import (
	"maps"

	"holdfast/fs"
	"holdfast/journal"
)

// An entry's record says at least what is held: live, held, and on its way. What came from the
// journal counts only while it can be reclaimed. While there is nothing of this epoch in it, it
// keeps the old epoch, so that the end of grace makes it void.

// openModes is what the record of o is to say. file.mu is held.
func (s *Server) openModes(o *open) (access, deny fs.Share, epoch uint32) {
	access, deny = o.wanted()
	if o.lower != nil && o.client != nil {
		access, deny = o.heldModes(false)
		access, deny = access|o.lower.toAccess, deny|o.lower.toDeny
	}
	if o.pend != nil {
		access |= o.pend.access
		deny |= o.pend.deny
	}
	epoch = s.cfg.Epoch
	if access == 0 && o.epoch != 0 {
		epoch = o.epoch
	}
	if s.reclaimableAt(o.file.handle) {
		a, d := o.heldModes(true)
		access |= a
		deny |= d
	}
	return access, deny, epoch
}

// putOpen writes the record of o, or deletes it. file.mu is held.
func (s *Server) putOpen(b *journal.Batch, o *open) {
	o.puts++
	access, deny, epoch := s.openModes(o)
	if access == 0 || o.closing {
		b.DeleteOpen(o.owner, o.file.handle)
		return
	}
	r := &journal.OpenRecord{Owner: o.owner, File: o.file.handle, Access: access, Deny: deny, Name: o.name, Epoch: epoch, Since: o.since, Reclaimed: o.reclaimed}
	o.describe(r)
	if o.cred != nil {
		r.UID, r.GID, r.Groups = o.cred.UID, o.cred.GID, o.cred.Groups
	}
	b.PutOpen(r)
}

// lockSet is what the record of l is to say. file.mu is held.
func (s *Server) lockSet(l *lock) (fs.RangeSet, uint32) {
	set := l.wanted()
	if l.leaving != nil {
		set = set.With(*l.leaving, fs.NoLock)
	}
	if l.pend != nil {
		set = set.Strongest(fs.RangeSet{{Range: l.pend.r, Type: l.pend.t}})
	}
	epoch := s.cfg.Epoch
	if len(set) == 0 && l.epoch != 0 {
		epoch = l.epoch
	}
	if s.reclaimableAt(l.open.file.handle) {
		set = strongest(set, l.heldSet(true))
	}
	return set, epoch
}

// putLock writes the record of l, or deletes it. file.mu is held.
func (s *Server) putLock(b *journal.Batch, l *lock) {
	l.puts++
	if l.open.closing && l.pend == nil {
		b.DeleteLock(l.owner, l.open.file.handle)
		return
	}
	set, epoch := s.lockSet(l)
	r := &journal.Lock{Owner: l.owner, OpenOwner: l.open.owner, File: l.open.file.handle, Ranges: set, Epoch: epoch, Since: l.since, Reclaimed: l.reclaimed}
	l.describe(r)
	b.PutLock(r) // deletes it if there is neither range nor stateid
}

// describe says what of the record the client has, by which stateid, and what is held for it. A plan on
// its way counts as done: its answer may be the last thing that this incarnation sends. file.mu is held.
func (o *open) describe(r *journal.OpenRecord) {
	r.HeldAccess, r.HeldDeny = o.heldModes(false)
	seenA, seenD := o.seenAccess, o.seenDeny
	if o.client != nil {
		r.LiveAccess, r.LiveDeny = o.access, o.deny
		r.Stateid = journal.Stateid{Other: o.sid.other, Seqid: o.sid.seqid}
	}
	if p := o.lower; p != nil && o.client != nil {
		r.LiveAccess, r.LiveDeny = p.toAccess, p.toDeny
		seenA, seenD = within(seenA, p.toAccess), within(seenD, p.toDeny)
		r.Stateid.Seqid = o.sid.next()
	}
	if p := o.pend; p != nil {
		r.Pending = true
		r.BeforeAccess, r.BeforeDeny = o.wanted()
		seenA, seenD = seenA|1<<p.access, seenD|1<<p.deny
		r.LiveAccess, r.LiveDeny = r.LiveAccess|p.access, r.LiveDeny|p.deny
		switch {
		case p.sid != nil:
			r.Stateid = journal.Stateid{Other: p.sid.other, Seqid: p.sid.seqid}
		case o.sid != nil:
			r.Stateid.Seqid = o.sid.next()
		}
	}
	r.Seen = uint16(seenD)<<8 | uint16(seenA)
}

// describe is that of a lock. file.mu is held.
func (l *lock) describe(r *journal.Lock) {
	r.Held = l.heldSet(false)
	if l.sid != nil {
		r.Stateid = journal.Stateid{Other: l.sid.other, Seqid: l.sid.seqid}
	}
	if l.leaving != nil {
		r.Held = r.Held.With(*l.leaving, fs.NoLock)
		if l.sid != nil {
			r.Stateid.Seqid = l.sid.next()
		}
	}
	if p := l.pend; p != nil {
		r.Pending, r.Before = true, l.wanted()
		if p.t == fs.ReadLock {
			r.After = r.Before.With(p.r, p.t)
		}
		r.Held = r.Held.With(p.r, fs.NoLock)
		switch {
		case p.sid != nil:
			r.Stateid = journal.Stateid{Other: p.sid.other, Seqid: p.sid.seqid}
		case l.sid != nil:
			r.Stateid.Seqid = l.sid.next()
		}
	}
}

// fileRecords are the owners whose records of a file are to be posted.
type fileRecords struct {
	opens, locks map[fs.Owner]struct{}
}

// recordsLimit is how many records go into one batch that is posted: far below what the journal
// takes, since a record is up to some KiB.
const recordsLimit = 100

// A record that is posted is made when Effects run, under the file's mutex, and posted under it: it
// says what is true then. One made before, when the plan was settled, could come to the journal after
// the record of the owner's next request and say less than what that was granted (invariant I2).

// noteOpen lets the record of o be posted. file.mu is held.
func (s *Server) noteOpen(eff *Effects, o *open) {
	eff.recordsOf(s, o.file.handle).opens[o.owner] = struct{}{}
}

// noteLock lets the record of l be posted. file.mu is held.
func (s *Server) noteLock(eff *Effects, l *lock) {
	eff.recordsOf(s, l.open.file.handle).locks[l.owner] = struct{}{}
}

// noteGranted lets the record of what was granted just now be posted in its own time: until then it
// says that the grant is pending, which counts as given unless the backend says otherwise after a restart.
func (e *Effects) noteGranted(s *Server, h fs.Handle) *fileRecords {
	e.srv = s
	if e.granted == nil {
		e.granted = map[fs.Handle]*fileRecords{}
	}
	r := e.granted[h]
	if r == nil {
		r = &fileRecords{map[fs.Owner]struct{}{}, map[fs.Owner]struct{}{}}
		e.granted[h] = r
	}
	return r
}

// noteAll lets the records of o and of all locks under it be posted. file.mu is held.
func (s *Server) noteAll(eff *Effects, o *open) {
	s.noteOpen(eff, o)
	for l := range o.locks {
		s.noteLock(eff, l)
	}
}

// noteClient lets the client's record be posted as change makes it.
func (s *Server) noteClient(eff *Effects, p *party, change func(*journal.Client)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.rec)
	p.recorded = true
	rec := p.rec
	eff.noteParty(s, p.owner, &rec)
}

func (e *Effects) noteParty(s *Server, owner string, rec *journal.Client) {
	e.srv = s
	if e.clients == nil {
		e.clients = map[string]*journal.Client{}
	}
	e.clients[owner] = rec
}

func (e *Effects) recordsOf(s *Server, h fs.Handle) *fileRecords {
	e.srv = s
	if e.records == nil {
		e.records = map[fs.Handle]*fileRecords{}
	}
	r := e.records[h]
	if r == nil {
		r = &fileRecords{map[fs.Owner]struct{}{}, map[fs.Owner]struct{}{}}
		e.records[h] = r
	}
	return r
}

func (e *Effects) addRecords(o *Effects) {
	for owner, rec := range o.clients {
		e.noteParty(o.srv, owner, rec)
	}
	for h, r := range o.records {
		into := e.recordsOf(o.srv, h)
		maps.Copy(into.opens, r.opens)
		maps.Copy(into.locks, r.locks)
	}
	for h, r := range o.granted {
		into := e.noteGranted(o.srv, h)
		maps.Copy(into.opens, r.opens)
		maps.Copy(into.locks, r.locks)
	}
}

// postRecords posts what was noted: clients first, as they can make all the rest void.
func (e *Effects) postRecords(h Host) {
	for owner, rec := range e.clients {
		e.srv.postClient(h, owner, rec)
	}
	for file, r := range e.records {
		e.srv.postFile(h, file, r)
	}
}

// postClient posts the record of a client as it is now; rec is what it was when nothing is known of
// it any more, nil if it is to be forgotten.
func (s *Server) postClient(h Host, owner string, rec *journal.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parties[owner]; p != nil {
		p.mu.Lock()
		if p.recorded {
			now := p.rec
			rec = &now
		}
		p.mu.Unlock()
	}
	b := &journal.Batch{}
	if rec != nil {
		b.PutClient(rec)
	} else {
		b.DeleteClient(owner)
	}
	h.Post(b)
}

// postFile posts the records of a file as they are now.
func (s *Server) postFile(h Host, handle fs.Handle, r *fileRecords) {
	f := s.files.get(handle)
	defer s.files.put(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	b, n := &journal.Batch{}, 0
	next := func() {
		if n++; n%recordsLimit == 0 {
			h.Post(b)
			b = &journal.Batch{}
		}
	}
	for owner := range r.opens {
		if o := f.opens[owner]; o != nil {
			s.putOpen(b, o)
		} else {
			b.DeleteOpen(owner, handle)
		}
		next()
	}
	for owner := range r.locks {
		if l := f.locks[owner]; l != nil {
			s.putLock(b, l)
		} else {
			b.DeleteLock(owner, handle)
		}
		next()
	}
	if !b.Empty() {
		h.Post(b)
	}
}

// putMixed writes those records of o that say something of this epoch and something else that waits
// from the journal, as they are without the latter. The others of the journal have their old epoch
// and become void by that. file.mu is held.
func (s *Server) putMixed(b *journal.Batch, o *open) (n int) {
	shares := o.held
	o.held = letHeld(append([]heldShare(nil), shares...), func(h heldShare) bool { return !h.server })
	a, d, _ := s.openModes(o)
	if sa, sd := serverModes(shares); a != 0 && (sa&^a != 0 || sd&^d != 0) {
		s.putOpen(b, o)
		n++
	}
	o.held = shares
	for l := range o.locks {
		ranges := l.held
		l.held = letHeld(append([]heldRange(nil), ranges...), func(h heldRange) bool { return !h.server })
		if set, _ := s.lockSet(l); len(set) > 0 && len(l.held) < len(ranges) {
			s.putLock(b, l)
			n++
		}
		l.held = ranges
	}
	return n
}

func serverModes(list []heldShare) (access, deny fs.Share) {
	for _, h := range list {
		if h.server {
			access |= h.access
			deny |= h.deny
		}
	}
	return access, deny
}

// event adds to the audit trail.
func (s *Server) event(b *journal.Batch, e journal.Event) {
	e.Time = s.now()
	b.AddEvent(&e)
}
