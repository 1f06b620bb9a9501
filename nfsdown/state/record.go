package state

import (
	"holdfast/fs"
	"holdfast/journal"
)

// An entry's record says at least what is held: live, held, and on its way. What came from the
// journal counts only while it can be reclaimed. While there is nothing of this epoch in it, it
// keeps the old epoch, so that the end of grace makes it void.

// openModes is what the record of o is to say. file.mu is held.
func (s *Server) openModes(o *open) (access, deny fs.Share, epoch uint32) {
	access, deny = o.wanted()
	if o.pend != nil {
		access |= o.pend.access
		deny |= o.pend.deny
	}
	epoch = s.cfg.Epoch
	if access == 0 && o.epoch != 0 {
		epoch = o.epoch
	}
	if s.reclaimable() {
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
	if access == 0 {
		b.DeleteOpen(o.owner, o.file.handle)
		return
	}
	r := &journal.OpenRecord{Owner: o.owner, File: o.file.handle, Access: access, Deny: deny, Name: o.name, Epoch: epoch, Since: o.since}
	if o.cred != nil {
		r.UID, r.GID, r.Groups = o.cred.UID, o.cred.GID, o.cred.Groups
	}
	b.PutOpen(r)
}

// lockSet is what the record of l is to say. file.mu is held.
func (s *Server) lockSet(l *lock) (fs.RangeSet, uint32) {
	set := l.wanted()
	if l.pend != nil {
		set = atLeast(set, l.pend.r, l.pend.t)
	}
	epoch := s.cfg.Epoch
	if len(set) == 0 && l.epoch != 0 {
		epoch = l.epoch
	}
	if s.reclaimable() {
		set = strongest(set, l.heldSet(true))
	}
	return set, epoch
}

// putLock writes the record of l, or deletes it. file.mu is held.
func (s *Server) putLock(b *journal.Batch, l *lock) {
	l.puts++
	set, epoch := s.lockSet(l)
	if len(set) == 0 {
		b.DeleteLock(l.owner, l.open.file.handle)
		return
	}
	b.PutLock(&journal.Lock{Owner: l.owner, OpenOwner: l.open.owner, File: l.open.file.handle, Ranges: set, Epoch: epoch, Since: l.since})
}

// putAll writes the records of o and of all locks under it. file.mu is held.
func (s *Server) putAll(b *journal.Batch, o *open) {
	s.putOpen(b, o)
	for l := range o.locks {
		s.putLock(b, l)
	}
}

// event adds to the audit trail.
func (s *Server) event(b *journal.Batch, e journal.Event) {
	e.Time = s.now()
	b.AddEvent(&e)
}
