package state

import (
	"encoding/binary"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// An invisible restart: the journal says all that the clients were told (RFC 8881 8.4.2.1.1), so the
// server comes back with the same client IDs, owners and stateids. Only sessions are gone: a client finds
// BADSESSION, makes a session on its old client ID, and goes on. There is no grace period.
//
// The backend has yet to be asked for what the clients have. Until that is done (Restoring) the caller
// must let no request pass that relies on state, no lease ends, and no client's restart is confirmed.
// What the backend refuses is told to Revoke.

// restore is where an invisible restart stands.
type restore struct {
	running atomic.Bool
	done    bool          // immutable after New: there was one
	visible string        // immutable after New: why there was none though the journal is whole
	items   []RestoreItem // immutable after New
	stale   Effects       // records that nothing stands behind any more, to be deleted
}

// A RestoreItem is an open, with the locks under it, that the backend is to be asked for: as reclaims,
// the open first.
type RestoreItem struct {
	Owner        fs.Owner
	File         fs.Handle
	Access, Deny fs.Share
	// Before is what to ask for if that is refused: an OPEN was on its way that may not have come to
	// anything. No modes: then there was nothing before it.
	Pending                  bool
	BeforeAccess, BeforeDeny fs.Share
	Cred                     *fs.Cred
	Name                     string
	Locks                    []RestoreLock
}

// A RestoreLock is what one lock-owner has under an open.
type RestoreLock struct {
	Owner   fs.Owner
	Ranges  fs.RangeSet
	Pending bool // as for the open
	// Before and After are what there was before a LOCK that was on its way, and what there is if it made
	// less of that (journal.Lock).
	Before, After fs.RangeSet
}

// A RestorePart is a range that the backend is asked for by itself, so that none is asked for twice.
type RestorePart struct {
	Range fs.Range
	Types []fs.LockType // to ask for, one after the other, until one is granted
	Need  fs.LockType   // less is a loss; NoLock: the client was not told of any
}

// Parts are what l is made of. With a LOCK on its way these are the ranges that can differ by what became of it.
func (l *RestoreLock) Parts() (list []RestorePart) {
	for _, r := range l.Ranges {
		if !l.Pending {
			list = append(list, RestorePart{r.Range, []fs.LockType{r.Type}, r.Type})
			continue
		}
		rest := fs.RangeSet{r}
		for _, set := range []fs.RangeSet{l.Before, l.After} {
			cut := fs.RangeSet{}
			for _, k := range rest {
				cut = append(cut, overlapOf(set, k.Range)...)
				cut = append(cut, minus(fs.RangeSet{k}, set)...)
			}
			rest = cut
		}
		for _, k := range rest {
			before, after := typeAt(l.Before, k.Range), r.Type
			if len(l.After) > 0 {
				after = typeAt(l.After, k.Range)
			}
			p := RestorePart{Range: k.Range, Types: []fs.LockType{r.Type}, Need: min(before, after)}
			if r.Type == fs.WriteLock && (before == fs.ReadLock || after == fs.ReadLock) {
				p.Types = append(p.Types, fs.ReadLock)
			}
			list = append(list, p)
		}
	}
	return list
}

// typeAt is what a set has of a range that none of its ends divides.
func typeAt(set fs.RangeSet, r fs.Range) fs.LockType {
	if l := overlapOf(set, r); len(l) > 0 {
		return l[0].Type
	}
	return fs.NoLock
}

// Restoring tells whether the backend is still being asked for what the clients have.
func (s *Server) Restoring() bool { return s.restore.running.Load() }

// Restored lists what the backend is to be asked for, and tells whether the restart is an invisible one.
// The Effects delete the records of those that ended with the last incarnation.
func (s *Server) Restored() ([]RestoreItem, *Effects, bool) {
	return s.restore.items, &s.restore.stale, s.restore.done
}

// Visible tells why clients are to see the restart although the journal is whole; empty otherwise.
func (s *Server) Visible() string { return s.restore.visible }

// visible tells whose state cannot come back unseen. What a client of NFSv4.0 may send next depends on
// seqids of owners and on the answers that they replay (RFC 7530 9.1.7), and the lock manager knows its
// locks by stateids; both are in memory only. In a grace period both reclaim.
func visible(snap *journal.Snapshot) string {
	kind := map[string]string{}
	for i := range snap.Clients {
		switch r := &snap.Clients[i]; {
		case r.V40:
			kind[r.Owner] = "a client of NFSv4.0 has state, and the order of its requests is not recorded"
		case r.Permanent:
			kind[r.Owner] = "a client of NFSv3 has locks, and must be told to reclaim them"
		}
	}
	for i := range snap.Opens {
		if why := kind[snap.Opens[i].Owner.Client]; why != "" {
			return why
		}
	}
	return ""
}

// EndRestore says that the backend was asked for everything. Leases begin anew.
func (s *Server) EndRestore() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	now := s.now().UnixNano()
	for _, c := range s.byID {
		c.renewed.Store(now)
	}
	s.restore.running.Store(false)
}

// restoreAll makes everything as the journal says. Nobody else has s.
func (s *Server) restoreAll(snap *journal.Snapshot) {
	s.restore.done = true
	for i := range snap.Clients {
		switch r := &snap.Clients[i]; {
		case r.V40, r.Permanent: // it has nothing, or this would be a grace period
			s.restore.stale.noteParty(s, r.Owner, nil)
		case !r.Expired && r.ClientID != 0:
			s.restoreClient(r)
		}
	}
	now := s.now()
	for i := range snap.Opens {
		r := &snap.Opens[i]
		c := s.restoredClient(r.Owner)
		if c == nil || r.Access == 0 {
			s.restore.stale.recordsOf(s, r.File).opens[r.Owner] = struct{}{}
			continue
		}
		s.restoreOpen(c, r, now)
	}
	pending := map[OwnerFile]*journal.Lock{}
	pendingOpens := map[OwnerFile]*journal.OpenRecord{}
	for i := range snap.Opens {
		if r := &snap.Opens[i]; r.Pending {
			pendingOpens[OwnerFile{r.Owner, r.File}] = r
		}
	}
	for i := range snap.Locks {
		r := &snap.Locks[i]
		if r.Pending {
			pending[OwnerFile{r.Owner, r.File}] = r
		}
		c := s.restoredClient(r.Owner)
		if c == nil || !s.restoreLock(c, r, now) {
			s.restore.stale.recordsOf(s, r.File).locks[r.Owner] = struct{}{}
		}
	}
	for _, f := range s.files.all() {
		for _, o := range f.opens {
			s.restore.items = append(s.restore.items, o.item(pendingOpens, pending))
		}
		s.files.put(f)
	}
	for _, p := range s.parties {
		if c := p.confirmed; c != nil {
			c.retained = p.retained()
		}
	}
	s.restore.running.Store(len(s.restore.items) > 0)
}

func (s *Server) restoreClient(r *journal.Client) {
	p := s.partyOf(r.Owner)
	p.rec, p.recorded, p.restored = *r, true, true
	c := &Client{
		srv: s, party: p, id: r.ClientID, verifier: r.Verifier, principal: r.Principal, retain: r.Retain,
		since: r.Since, addr: r.Addr, impl: r.Impl, complete: r.Complete, confirmed: true,
		csSeq: r.CsaSequence, csAnew: true, csRes: nfs4.CreateSessionRes{Status: nfs4.NFS4ERR_SEQ_MISORDERED},
		sessions: map[*Session]struct{}{}, stateids: map[[12]byte]*stateid{},
	}
	c.renewed.Store(s.now().UnixNano())
	p.confirmed = c
	s.byID[c.id] = c
	// The low half of a client ID is in stateids, without the boot that gave it.
	s.counter.Store(max(s.counter.Load(), uint32(c.id)))
}

// restoredClient is the client of an owner that goes on; nil for those that ended with the last
// incarnation: local applications, and clients that expired.
func (s *Server) restoredClient(owner fs.Owner) *Client {
	if p := s.parties[owner.Client]; p != nil && !strings.HasPrefix(owner.Client, fs.LocalClient) {
		return p.confirmed
	}
	return nil
}

// stateidOf makes the stateid of a record: nil if it has none, or one of an earlier incarnation of the client,
// whose state is held for the present one.
func (c *Client) stateidOf(w journal.Stateid, o *open, l *lock) *stateid {
	if w == (journal.Stateid{}) || binary.BigEndian.Uint32(w.Other[4:]) != uint32(c.id) {
		return nil
	}
	sid := &stateid{other: w.Other, client: c, file: o.file, open: o, lock: l, seqid: w.Seqid, restored: true}
	c.stateids[sid.other] = sid
	return sid
}

func (s *Server) restoreOpen(c *Client, r *journal.OpenRecord, now time.Time) {
	o := s.loadOpen(r.Owner, r.File)
	o.name, o.since, o.atBackend = r.Name, r.Since, true
	o.cred = &fs.Cred{UID: r.UID, GID: r.GID, Groups: r.Groups}
	heldA, heldD := r.HeldAccess, r.HeldDeny
	if r.LiveAccess != 0 {
		o.sid = c.stateidOf(r.Stateid, o, nil)
	}
	if o.sid == nil {
		heldA, heldD = r.Access, r.Deny
	} else {
		o.client, o.access, o.deny, o.reclaimed = c, r.LiveAccess, r.LiveDeny, r.Reclaimed
		o.seenAccess, o.seenDeny = uint8(r.Seen), uint8(r.Seen>>8)
		if o.isDeleg() {
			o.beginDeleg(s, o.access)
		}
	}
	if heldA != 0 {
		o.held = []heldShare{{access: heldA, deny: heldD, since: now}}
	}
}

// restoreLock is false if there is nothing to hold it by.
func (s *Server) restoreLock(c *Client, r *journal.Lock, now time.Time) bool {
	f := s.files.peek(r.File)
	if f == nil {
		return false
	}
	defer s.files.put(f)
	o := f.opens[r.OpenOwner]
	if o == nil {
		return false
	}
	l := f.lockOf(o, r.Owner)
	l.since = r.Since
	held := r.Held
	if o.client == c {
		l.sid = c.stateidOf(r.Stateid, o, l)
	}
	if l.sid == nil {
		held = r.Ranges
	} else {
		l.live, l.reclaimed = minus(r.Ranges, held), r.Reclaimed
	}
	if len(held) > 0 {
		l.held = []heldRange{{set: held, since: now}}
	}
	f.tidyLock(l)
	return l.sid != nil || len(held) > 0
}

// item is what of o the backend is to be asked for.
func (o *open) item(opens map[OwnerFile]*journal.OpenRecord, locks map[OwnerFile]*journal.Lock) RestoreItem {
	i := RestoreItem{Owner: o.owner, File: o.file.handle, Cred: o.cred, Name: o.name}
	i.Access, i.Deny = o.wanted()
	if r := opens[OwnerFile{o.owner, o.file.handle}]; r != nil {
		i.Pending, i.BeforeAccess, i.BeforeDeny = true, r.BeforeAccess, r.BeforeDeny
	}
	for l := range o.locks {
		if set := l.wanted(); len(set) > 0 {
			k := RestoreLock{Owner: l.owner, Ranges: set}
			if r := locks[OwnerFile{l.owner, o.file.handle}]; r != nil {
				k.Pending, k.Before, k.After = true, r.Before, r.After
			}
			i.Locks = append(i.Locks, k)
		}
	}
	return i
}

// NotGranted says that an OPEN which was on its way when the last incarnation died came to nothing: the
// backend has the open with the modes of before, or not at all if there were none. The client knows of no
// more, so nothing was lost.
func (s *Server) NotGranted(i *RestoreItem) *Effects {
	eff := &Effects{}
	f := s.files.peek(i.File)
	if f == nil {
		return eff
	}
	defer s.files.put(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.opens[i.Owner]
	if o == nil {
		return eff
	}
	if i.BeforeAccess == 0 {
		for l := range o.locks {
			if o.client != nil && l.sid != nil {
				o.client.freeStateid(l.sid)
			}
			l.live, l.sid, l.held, l.gone, l.reclaimed = nil, nil, nil, nil, false
		}
		s.noteAll(eff, o)
		if o.client != nil {
			o.client.freeStateid(o.sid)
		}
		o.endLive()
		o.held, o.atBackend = nil, false
	} else {
		o.access, o.deny = o.access&i.BeforeAccess, o.deny&i.BeforeDeny // never a delegation: that has no upgrade
		o.seenAccess, o.seenDeny = within(o.seenAccess, o.access), within(o.seenDeny, o.deny)
		if o.client != nil && o.access == 0 { // all there was before is held for the client
			o.client.freeStateid(o.sid)
			o.endLive()
		}
	}
	s.noteOpen(eff, o)
	f.tidyOpen(o)
	return eff
}

// LockNotGranted is that of a LOCK: the owner has no more than the ranges given.
func (s *Server) LockNotGranted(file fs.Handle, owner fs.Owner, has fs.RangeSet) *Effects {
	eff := &Effects{}
	f := s.files.peek(file)
	if f == nil {
		return eff
	}
	defer s.files.put(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.locks[owner]
	if l == nil {
		return eff
	}
	live := fs.RangeSet{}
	for _, k := range has {
		for _, part := range overlapOf(l.live, k.Range) {
			live = live.With(part.Range, min(part.Type, k.Type))
		}
	}
	l.live = live
	if o := l.open; len(has) == 0 && o.client != nil && l.sid != nil && l.sid.seqid == 1 {
		o.client.freeStateid(l.sid)
		l.sid = nil
	}
	s.noteLock(eff, l)
	o := l.open
	f.tidyLock(l)
	f.tidyOpen(o)
	return eff
}
