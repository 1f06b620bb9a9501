package state

import (
	"context"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// sidKind is what a stateid stands for.
type sidKind uint8

const (
	kindOpen sidKind = iota
	kindLock
	kindDeleg
)

func (sid *stateid) kind() sidKind {
	switch {
	case sid.lock != nil:
		return kindLock
	case sid.open.isDeleg():
		return kindDeleg
	}
	return kindOpen
}

// resolve finds the state that a stateid stands for, of the sort that is wanted.
func (c *Client) resolve(sid nfs4.Stateid, file fs.Handle, kind sidKind) (*stateid, error) {
	if IsSpecial(sid) {
		return nil, nfs4.NFS4ERR_BAD_STATEID
	}
	st := c.find(sid)
	if st == nil || st.file.handle != file || st.kind() != kind {
		return nil, nfs4.NFS4ERR_BAD_STATEID
	}
	return st, nil
}

// takeOpen finds an open by its stateid and takes its turn alone. The entry is in use until giveOpen.
func (s *Server) takeOpen(ctx context.Context, c *Client, sid nfs4.Stateid, file fs.Handle, kind sidKind) (*open, error) {
	st, err := c.resolve(sid, file, kind)
	if err != nil {
		return nil, err
	}
	o, f := st.open, st.file
	f.mu.Lock()
	if err := st.check(sid.Seqid); err != nil {
		f.mu.Unlock()
		return nil, err
	}
	o.users++
	f.mu.Unlock()
	err = o.turn.take(ctx, true)
	defer s.files.drop(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		// an OPEN or CLOSE that had the turn before may have made the stateid old, or ended it
		if err = st.check(sid.Seqid); err == nil {
			return o, nil
		}
		o.turn.give(true)
	}
	o.users--
	f.tidyOpen(o)
	return nil, err
}

// giveOpen ends takeOpen. eff is nil if nothing changed: nobody is to be woken. file.mu is held.
func (s *Server) giveOpen(o *open, eff *Effects) {
	o.users--
	o.turn.give(true)
	if eff != nil {
		s.wake(o.file, eff)
	}
	o.file.tidyOpen(o)
}

// ClosePlan is a CLOSE on its way: Locks.CloseFile(Owner, File).
type ClosePlan struct {
	// Batch is to be written (journal.Write) before the backend is asked, as for LOCKU: the records go
	// first. If the backend refuses, they come back before the answer.
	Batch *journal.Batch
	Owner fs.Owner
	File  fs.Handle
	s     *Server
	o     *open
}

// PrepareClose judges CLOSE, RFC 8881 18.2. Locks under the open go with it.
func (s *Server) PrepareClose(ctx context.Context, c *Client, sid nfs4.Stateid, file fs.Handle) (*ClosePlan, error) {
	return s.prepareClose(ctx, c, sid, file, kindOpen)
}

func (s *Server) prepareClose(ctx context.Context, c *Client, sid nfs4.Stateid, file fs.Handle, kind sidKind) (*ClosePlan, error) {
	o, err := s.takeOpen(ctx, c, sid, file, kind)
	if err != nil {
		return nil, err
	}
	p := &ClosePlan{Batch: &journal.Batch{}, Owner: o.owner, File: file, s: s, o: o}
	o.file.mu.Lock()
	defer o.file.mu.Unlock()
	o.closing = true
	p.Batch.DeleteOpen(o.owner, file)
	o.puts++
	for l := range o.locks {
		p.Batch.DeleteLock(l.owner, file)
		l.puts++
	}
	return p, nil
}

// Settle ends the plan. A backend that knows no such open (BadStateid) has closed it. One that may
// have closed it is asked again: nobody has it any more, or it could be reclaimed after a restart of
// the client without the backend having it.
func (p *ClosePlan) Settle(backendErr error) (nfs4.Stateid, *Effects, error) {
	s, o, f, eff := p.s, p.o, p.o.file, &Effects{}
	defer s.files.drop(f)
	// Also if it failed: it may have been done.
	o.party.closed(o.owner.Owner, f.handle)
	f.mu.Lock()
	defer f.mu.Unlock()
	o.closing = false
	if !ended(backendErr) {
		s.noteAll(eff, o)
		s.giveOpen(o, eff)
		return nfs4.Stateid{}, eff, backendErr
	}
	done := released(backendErr)
	c := o.client
	for l := range o.locks {
		if c != nil && l.sid != nil {
			c.freeStateid(l.sid)
		}
		if l.gone = strongest(l.gone, l.wanted()); done {
			l.gone = nil
		}
		l.live, l.sid, l.held, l.reclaimed = nil, nil, nil, false
	}
	s.dropWaiters(f, func(w *waiter) bool { return w.open == o.owner }, eff)
	if c != nil && o.sid != nil {
		c.freeStateid(o.sid)
	}
	a, d := o.wanted()
	o.goneAccess, o.goneDeny = o.goneAccess|a, o.goneDeny|d
	o.endLive()
	o.held = nil
	if done {
		o.goneAccess, o.goneDeny, o.atBackend = 0, 0, false
	} else {
		s.releaseOpen(eff, o)
	}
	s.noteAll(eff, o)
	s.giveOpen(o, eff)
	return invalidStateid, eff, nil
}

// DowngradePlan is an OPEN_DOWNGRADE on its way: Locks.Downgrade(Owner, File, Access, Deny) unless
// Call is CallNone.
type DowngradePlan struct {
	// Batch is to be written (journal.Write) before the backend is asked, as for LOCKU.
	Batch        *journal.Batch
	Call         Call
	Owner        fs.Owner
	File         fs.Handle
	Access, Deny fs.Share

	s                *Server
	o                *open
	toAccess, toDeny fs.Share
	puts             int
}

// PrepareDowngrade judges OPEN_DOWNGRADE, RFC 8881 18.18: INVAL if the modes are not those of a
// subset of the opens done.
func (s *Server) PrepareDowngrade(ctx context.Context, c *Client, sid nfs4.Stateid, file fs.Handle, access, deny fs.Share) (*DowngradePlan, error) {
	o, err := s.takeOpen(ctx, c, sid, file, kindOpen)
	if err != nil {
		return nil, err
	}
	o.file.mu.Lock()
	defer o.file.mu.Unlock()
	if access == 0 || access&^o.access != 0 || deny&^o.deny != 0 || !made(o.seenAccess, access) || !made(o.seenDeny, deny) {
		s.giveOpen(o, nil)
		return nil, nfs4.NFS4ERR_INVAL
	}
	p := &DowngradePlan{Owner: o.owner, File: file, s: s, o: o, toAccess: access, toDeny: deny}
	a, d := o.heldModes(false)
	p.Access, p.Deny = access|a, deny|d
	if hasA, hasD := o.wanted(); p.Access != hasA || p.Deny != hasD {
		p.Call = CallNormal
	}
	o.lower, p.Batch = p, &journal.Batch{}
	s.putOpen(p.Batch, o)
	p.puts = o.puts
	return p, nil
}

// made tells whether modes is the union of some of those that were seen.
func made(seen uint8, modes fs.Share) bool {
	var union fs.Share
	for m := fs.Share(0); m <= fs.ShareBoth; m++ {
		if seen&(1<<m) != 0 && m&^modes == 0 {
			union |= m
		}
	}
	return union == modes
}

// within keeps the seen modes that are within modes.
func within(seen uint8, modes fs.Share) uint8 {
	for m := fs.Share(0); m <= fs.ShareBoth; m++ {
		if m&^modes != 0 {
			seen &^= 1 << m
		}
	}
	return seen
}

// Settle ends the plan. What the backend may have done is done here, and it is asked again.
func (p *DowngradePlan) Settle(backendErr error) (nfs4.Stateid, *Effects, error) {
	s, o, f, eff := p.s, p.o, p.o.file, &Effects{}
	defer s.files.drop(f)
	o.party.closed(o.owner.Owner, f.handle)
	f.mu.Lock()
	defer f.mu.Unlock()
	o.lower = nil
	if backendErr != nil && !refused(backendErr) {
		o.goneAccess |= o.access &^ p.toAccess
		o.goneDeny |= o.deny &^ p.toDeny
		s.releaseOpen(eff, o)
		backendErr = nil
	}
	if backendErr == nil && o.sid == nil {
		backendErr = nfs4.NFS4ERR_BAD_STATEID // it was revoked, or the client ended, meanwhile
	}
	var w nfs4.Stateid
	if backendErr == nil {
		o.access, o.deny = p.toAccess, p.toDeny
		o.seenAccess, o.seenDeny = within(o.seenAccess, o.access), within(o.seenDeny, o.deny)
		o.sid.bump()
		w = o.sid.wire()
	}
	if backendErr != nil || o.puts != p.puts {
		s.noteOpen(eff, o) // it is as it was, or somebody wrote it meanwhile
	}
	s.giveOpen(o, eff)
	return w, eff, backendErr
}
