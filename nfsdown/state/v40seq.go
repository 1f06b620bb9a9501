package state

import (
	"context"
	"sync"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// seqOwners are the open-owners and lock-owners of a client of NFSv4.0. Each is a reply cache of one slot,
// RFC 7530 9.1.7.
type seqOwners struct {
	mu     sync.Mutex           // a leaf
	open   map[string]*SeqOwner // guarded by mu
	lock   map[string]*SeqOwner // guarded by mu
	closed map[uint32]*SeqOwner // guarded by mu; stateids that were closed last, each by its owner
	tidied time.Time            // guarded by mu
}

// SeqOwner is an owner of NFSv4.0 with the seqid and the answer of its last request.
type SeqOwner struct {
	turn turn // its requests run one after another

	// Guarded by the turn.
	used      bool // a request was executed
	seqid     uint32
	op        nfs4.OpNum
	reply     []byte
	handle    fs.Handle // the current filehandle after it, for OPEN
	confirmed bool      // of an open-owner: OPEN_CONFIRM was done, or not needed

	last   time.Time // guarded by seqOwners.mu
	users  int       // guarded by seqOwners.mu
	closed uint32    // guarded by seqOwners.mu; the stateid that its last CLOSE ended
}

func (w *seqOwners) init() {
	w.open, w.lock, w.closed = map[string]*SeqOwner{}, map[string]*SeqOwner{}, map[uint32]*SeqOwner{}
}

// get finds or makes an owner: RESOURCE if there are too many.
func (w *seqOwners) get(m map[string]*SeqOwner, name string) (*SeqOwner, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := m[name]
	if o == nil {
		if len(w.open)+len(w.lock) >= maxOwners40 {
			return nil, nfs4.NFS4ERR_RESOURCE
		}
		o = &SeqOwner{}
		m[name] = o
	}
	o.users++
	return o, nil
}

func (w *seqOwners) forgetLock(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o := w.lock[name]; o != nil && o.users == 0 {
		delete(w.lock, name)
	}
}

// due tells whether it is time to tidy, and notes that it is done now.
func (w *seqOwners) due(now time.Time, idle time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Before(w.tidied.Add(idle)) {
		return false
	}
	w.tidied = now
	return true
}

// tidy forgets the owners that have nothing and were last seen before.
func (w *seqOwners) tidy(before time.Time, open, lock map[string]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for m, has := range map[*map[string]*SeqOwner]map[string]bool{&w.open: open, &w.lock: lock} {
		for name, o := range *m {
			if !has[name] && o.users == 0 && o.last.Before(before) {
				delete(*m, name)
				if w.closed[o.closed] == o {
					delete(w.closed, o.closed)
				}
			}
		}
	}
}

// Seq is a request of an owner, with its turn. End it.
type Seq struct {
	c     *Client
	owner *SeqOwner
	op    nfs4.OpNum
	seqid uint32

	// Replay is the answer to the same request, if it was executed already: answer it, and End. Handle is the
	// current filehandle then, if the operation changed it.
	Replay []byte
	Handle fs.Handle
}

// OpenSeq40 begins a request of an open-owner. An owner that was not heard of begins with any seqid. Errors:
// BAD_SEQID, RESOURCE, or that of ctx.
func (s *Server) OpenSeq40(ctx context.Context, c *Client, owner string, op nfs4.OpNum, seqid uint32) (*Seq, error) {
	o, err := c.v40.owners.get(c.v40.owners.open, owner)
	if err != nil {
		return nil, err
	}
	q, err := s.beginSeq(ctx, c, o, op, seqid)
	if err == nil && q.Replay == nil && op == nfs4.OP_OPEN && !o.confirmed {
		// An owner that never confirmed begins again, with any seqid: 16.18.5.
		o.used = false
	}
	return q, err
}

// LockSeq40 begins a request of a lock-owner that has a lock stateid.
func (s *Server) LockSeq40(ctx context.Context, c *Client, owner string, op nfs4.OpNum, seqid uint32) (*Seq, error) {
	o, err := c.v40.owners.get(c.v40.owners.lock, owner)
	if err != nil {
		return nil, err
	}
	return s.beginSeq(ctx, c, o, op, seqid)
}

// NewLockSeq40 notes the first request of a lock-owner, a LOCK that is in its open-owner's order. It is to be
// ended together with that. An owner that has locks already goes on with its own seqid: BAD_SEQID.
func (s *Server) NewLockSeq40(ctx context.Context, c *Client, owner string, seqid uint32) (*Seq, error) {
	o, err := c.v40.owners.get(c.v40.owners.lock, owner)
	if err != nil {
		return nil, err
	}
	if err := o.turn.take(ctx, true); err != nil {
		c.v40.owners.put(o, s.now())
		return nil, err
	}
	q := &Seq{c: c, owner: o, op: nfs4.OP_LOCK, seqid: seqid}
	if o.used && seqid != o.seqid+1 && s.hasLocks(c, owner) {
		q.End(nil, "")
		return nil, nfs4.NFS4ERR_BAD_SEQID
	}
	return q, nil
}

// hasLocks tells whether a lock-owner has a lock stateid.
func (s *Server) hasLocks(c *Client, owner string) bool {
	for _, o := range c.party.entries() {
		o.file.mu.Lock()
		has := false
		for l := range o.locks {
			has = has || l.owner.Owner == owner && l.sid != nil
		}
		o.file.mu.Unlock()
		if has {
			return true
		}
	}
	return false
}

func (s *Server) beginSeq(ctx context.Context, c *Client, o *SeqOwner, op nfs4.OpNum, seqid uint32) (*Seq, error) {
	if err := o.turn.take(ctx, true); err != nil {
		c.v40.owners.put(o, s.now())
		return nil, err
	}
	q := &Seq{c: c, owner: o, op: op, seqid: seqid}
	switch {
	case !o.used, seqid == o.seqid+1:
		return q, nil
	case seqid == o.seqid && op == o.op && o.reply != nil:
		q.Replay, q.Handle = o.reply, o.handle
		return q, nil
	case op == nfs4.OP_OPEN && !o.confirmed:
		return q, nil
	}
	q.End(nil, "")
	return nil, nfs4.NFS4ERR_BAD_SEQID
}

// put ends get.
func (w *seqOwners) put(o *SeqOwner, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o.users--
	o.last = now
}

// Confirmed tells whether the open-owner is confirmed.
func (q *Seq) Confirmed() bool { return q.owner.confirmed }

// SetConfirmed notes that the open-owner is confirmed: by OPEN_CONFIRM, or because it reclaimed.
func (q *Seq) SetConfirmed() { q.owner.confirmed = true }

// End ends the request with the answer that is kept for a repetition; nil leaves the owner as it was, as the
// errors do that say that the request did not count (RFC 7530 9.1.7). handle is the current filehandle after it.
func (q *Seq) End(reply []byte, handle fs.Handle) {
	o := q.owner
	if reply != nil {
		o.used, o.seqid, o.op, o.reply, o.handle = true, q.seqid, q.op, reply, handle
	}
	o.turn.give(true)
	q.c.v40.owners.put(o, q.c.srv.now())
}

// Counts40 tells whether an answer with this status counts as the owner's last: RFC 7530 9.1.7 lists those after
// which the seqid stays.
func Counts40(st nfs4.Status) bool {
	switch st {
	case nfs4.NFS4ERR_STALE_CLIENTID, nfs4.NFS4ERR_STALE_STATEID, nfs4.NFS4ERR_BAD_STATEID, nfs4.NFS4ERR_BAD_SEQID,
		nfs4.NFS4ERR_BADXDR, nfs4.NFS4ERR_RESOURCE, nfs4.NFS4ERR_NOFILEHANDLE, nfs4.NFS4ERR_MOVED:
		return false
	}
	return true
}

// NoteClosed remembers that the owner's CLOSE ended a stateid, so that the CLOSE can be repeated.
func (q *Seq) NoteClosed(sid nfs4.Stateid) {
	_, _, n := splitOther(sid.Other)
	w := &q.c.v40.owners
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed[q.owner.closed] == q.owner {
		delete(w.closed, q.owner.closed)
	}
	q.owner.closed = n
	w.closed[n] = q.owner
}

// ClosedSeq40 begins a request by a stateid that is no more: if it repeats the CLOSE that ended it, Replay is
// set. Else it is BAD_STATEID.
func (s *Server) ClosedSeq40(ctx context.Context, c *Client, sid nfs4.Stateid, op nfs4.OpNum, seqid uint32) (*Seq, error) {
	_, _, n := splitOther(sid.Other)
	w := &c.v40.owners
	w.mu.Lock()
	o := w.closed[n]
	if o != nil {
		o.users++
	}
	w.mu.Unlock()
	if o == nil {
		return nil, nfs4.NFS4ERR_BAD_STATEID
	}
	q, err := s.beginSeq(ctx, c, o, op, seqid)
	switch {
	case err != nil:
		return nil, err
	case q.Replay == nil:
		q.End(nil, "")
		return nil, nfs4.NFS4ERR_BAD_STATEID
	}
	return q, nil
}

// OwnerOf40 is the owner whose order a stateid's requests are in: the open-owner of an open stateid, the
// lock-owner of a lock stateid. ok is false if the stateid stands for nothing.
func (c *Client) OwnerOf40(sid nfs4.Stateid) (open, lock string, ok bool) {
	st := c.find(sid)
	if st == nil {
		return "", "", false
	}
	if st.lock != nil {
		lock = st.lock.owner.Owner
	}
	return st.open.owner.Owner, lock, true
}
