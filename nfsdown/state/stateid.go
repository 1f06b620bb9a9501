package state

import (
	"encoding/binary"
	"math"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// stateid is what a stateid4 of ours stands for: the live part of an open or of a lock. Its "other"
// is epoch, client and a number; nothing in it means anything to anybody else. After a restart that
// clients do not see it is the same.
type stateid struct {
	other  [12]byte // immutable
	client *Client
	file   *file
	open   *open
	lock   *lock // nil for an open stateid

	seqid uint32 // guarded by file.mu
	// restored, guarded by file.mu: seqid is from the journal. The answer may or may not have reached the
	// client, so what the client says counts until the stateid changes.
	restored    bool
	unconfirmed bool        // guarded by file.mu; NFSv4.0: OPEN_CONFIRM has to come first
	revoked     nfs4.Status // guarded by file.mu; EXPIRED or ADMIN_REVOKED; then it stands for nothing
}

// splitOther takes the bytes of a stateid apart.
func splitOther(b [12]byte) (epoch, client, n uint32) {
	return binary.BigEndian.Uint32(b[:]), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
}

// wire is the stateid4.
func (sid *stateid) wire() nfs4.Stateid {
	return nfs4.Stateid{Seqid: sid.seqid, Other: sid.other}
}

// bump is the next seqid: 0 is skipped, RFC 8881 8.2.2.
func (sid *stateid) bump() { sid.seqid, sid.restored = sid.next(), false }

func (sid *stateid) next() uint32 {
	if n := sid.seqid + 1; n != 0 {
		return n
	}
	return 1
}

// newStateid makes one with seqid 1, which add lets be found. The record of a grant names it before the
// client hears of it. c.mu is not held.
func (c *Client) newStateid(o *open, l *lock) *stateid {
	c.mu.Lock()
	defer c.mu.Unlock()
	sid := &stateid{client: c, file: o.file, open: o, lock: l, seqid: 1}
	binary.BigEndian.PutUint32(sid.other[:], c.srv.cfg.Epoch)
	binary.BigEndian.PutUint32(sid.other[4:], uint32(c.id))
	for {
		c.nextSID++
		binary.BigEndian.PutUint32(sid.other[8:], c.nextSID)
		if _, taken := c.stateids[sid.other]; !taken && c.nextSID != 0 {
			return sid
		}
	}
}

// addStateid lets a stateid be found. c.mu is not held.
func (c *Client) addStateid(sid *stateid) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stateids[sid.other] = sid
}

// freeStateid forgets it.
func (c *Client) freeStateid(sid *stateid) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stateids[sid.other] == sid {
		delete(c.stateids, sid.other)
	}
}

// live tells whether sid still stands for its state. file.mu is held.
func (sid *stateid) live() bool {
	if sid.lock != nil {
		return sid.lock.sid == sid
	}
	return sid.open.sid == sid
}

// check judges the stateid as the client sent it. file.mu is held.
func (sid *stateid) check(seqid uint32) error {
	switch {
	case sid.revoked != 0:
		return sid.revoked
	case !sid.live() || sid.unconfirmed:
		return nfs4.NFS4ERR_BAD_STATEID
	case sid.restored:
		if int32(seqid-sid.seqid) > 0 && seqid != 0 {
			sid.seqid = seqid
		}
		return nil
	case seqid == 0 || seqid == sid.seqid: // 0 is the newest, RFC 8881 8.2.2
		return nil
	case int32(seqid-sid.seqid) < 0:
		return nfs4.NFS4ERR_OLD_STATEID
	}
	return nfs4.NFS4ERR_BAD_STATEID
}

var (
	zeroOther = [12]byte{}
	onesOther = [12]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}
)

// invalidStateid is what CLOSE returns, RFC 8881 8.2.3.
var invalidStateid = nfs4.Stateid{Seqid: math.MaxUint32}

// IsSpecial tells whether sid is a special stateid, RFC 8881 8.2.3. The current stateid is the
// caller's to replace.
func IsSpecial(sid nfs4.Stateid) bool { return sid.Other == zeroOther || sid.Other == onesOther }

func anonymous(sid nfs4.Stateid) bool { return sid.Other == zeroOther && sid.Seqid == 0 }
func bypass(sid nfs4.Stateid) bool    { return sid.Other == onesOther && sid.Seqid == math.MaxUint32 }

// ResolveIO judges READ, WRITE or a SETATTR of the size under sid and gives the owners for the
// backend. c is nil for requests of other protocols, which have the anonymous stateid only. Errors:
// BAD_STATEID, OLD_STATEID, EXPIRED, ADMIN_REVOKED, OPENMODE, LOCKED, GRACE.
//
// Byte-range locks are advisory; deny modes hold against the special stateids, but for READ bypass.
func (s *Server) ResolveIO(c *Client, sid nfs4.Stateid, file fs.Handle, io IO) (fs.IORef, error) {
	ref := fs.IORef{Handle: file}
	need := fs.ShareRead
	if io != IORead {
		need = fs.ShareWrite
	}
	switch {
	case anonymous(sid), bypass(sid):
		if s.stalled(file) {
			return ref, nfs4.NFS4ERR_GRACE
		}
		if bypass(sid) && io == IORead {
			return ref, nil
		}
		_, err := s.anonymousIO("", file, need)
		return ref, err
	case c == nil || IsSpecial(sid):
		return ref, nfs4.NFS4ERR_BAD_STATEID
	}
	st := c.find(sid)
	if st == nil || st.file.handle != file {
		return ref, nfs4.NFS4ERR_BAD_STATEID
	}
	st.file.mu.Lock()
	defer st.file.mu.Unlock()
	if err := st.check(sid.Seqid); err != nil {
		return ref, err
	}
	if st.open.access&need == 0 {
		return ref, nfs4.NFS4ERR_OPENMODE
	}
	ref.Open = st.open.owner
	if st.lock != nil {
		ref.Lock = st.lock.owner
	}
	return ref, nil
}

// ResolveHostIO is ResolveIO with the anonymous stateid for a host that has opens with deny modes by its lock manager
// (RFC 1813 6.3.6), as owners of client: what it denies to others it may do itself, if the open is for that. The
// backend has the deny mode too, so it is done under that open.
func (s *Server) ResolveHostIO(client string, file fs.Handle, io IO) (fs.IORef, error) {
	ref := fs.IORef{Handle: file}
	need := fs.ShareRead
	if io != IORead {
		need = fs.ShareWrite
	}
	if s.stalled(file) {
		return ref, nfs4.NFS4ERR_GRACE
	}
	var err error
	ref.Open, err = s.anonymousIO(client, file, need)
	return ref, err
}

// anonymousIO checks I/O without an open against the deny modes of the opens. under is the open, if it has to be done
// under one of own, whose deny modes do not count where it has the access.
func (s *Server) anonymousIO(own string, file fs.Handle, need fs.Share) (under fs.Owner, err error) {
	f := s.files.peek(file)
	if f == nil {
		return under, nil
	}
	defer s.files.put(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	now := s.now()
	grace := false
	for _, o := range f.opens {
		if o.client != nil && o.deny&need != 0 && !o.client.yields(now) {
			if own == "" || o.owner.Client != own || o.access&need == 0 {
				return under, nfs4.NFS4ERR_LOCKED
			}
			under = o.owner
		}
		for _, h := range o.held {
			switch {
			case h.deny&need == 0:
			case h.server:
				grace = true
			case !s.stale(h.since, now):
				return under, nfs4.NFS4ERR_LOCKED
			}
		}
	}
	if grace {
		return under, nfs4.NFS4ERR_GRACE
	}
	return under, nil
}

// TestStateid is one of TEST_STATEID, RFC 8881 18.48.
func (s *Server) TestStateid(c *Client, sid nfs4.Stateid) nfs4.Status {
	st := c.find(sid)
	if IsSpecial(sid) || st == nil {
		return nfs4.NFS4ERR_BAD_STATEID
	}
	st.file.mu.Lock()
	defer st.file.mu.Unlock()
	if err := st.check(sid.Seqid); err != nil {
		return err.(nfs4.Status)
	}
	return nfs4.NFS4_OK
}

// FreeStateid is FREE_STATEID, RFC 8881 18.38: LOCKS_HELD if it stands for something. A revoked one
// is acknowledged with it.
func (s *Server) FreeStateid(c *Client, sid nfs4.Stateid) (*Effects, error) {
	st := c.find(sid)
	if IsSpecial(sid) || st == nil {
		return nil, nfs4.NFS4ERR_BAD_STATEID
	}
	f := st.file
	f.mu.Lock()
	defer s.files.drop(f)
	defer f.mu.Unlock()
	switch st.revoked {
	case nfs4.NFS4ERR_ADMIN_REVOKED:
		c.admin.Add(-1)
	case nfs4.NFS4ERR_EXPIRED:
		c.expired.Add(-1)
	case nfs4.NFS4ERR_DELEG_REVOKED:
		c.delegs.Add(-1)
	default:
		if err := st.check(sid.Seqid); err != nil {
			return nil, err
		}
		if st.lock == nil || len(st.lock.live) > 0 || st.lock.pend != nil || st.lock.users > 0 {
			return nil, nfs4.NFS4ERR_LOCKS_HELD
		}
		c.freeStateid(st)
		st.lock.sid = nil
		eff := &Effects{Forget: []OwnerFile{{st.lock.owner, f.handle}}}
		s.noteLock(eff, st.lock)
		f.tidyLock(st.lock)
		return eff, nil
	}
	st.revoked = nfs4.NFS4ERR_BAD_STATEID // a second FREE_STATEID finds nothing
	c.freeStateid(st)
	return nil, nil
}
