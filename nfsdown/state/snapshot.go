package state

import (
	"sort"
	"time"

	"holdfast/fs"
)

// ClientInfo is a client for people.
type ClientInfo struct {
	ID                 uint64
	Owner              string
	Principal, Addr    string
	Impl               string
	Confirmed          bool
	Complete           bool // RECLAIM_COMPLETE was sent, or there is none and grace is over
	V40                bool // of NFSv4.0
	Retain             bool
	Courtesy           bool // its lease ended; kept by courtesy
	LeaseLeft          time.Duration
	Sessions           int
	Opens, Locks, Held int
	Delegs             int
	Revoked            int
}

// OpenInfo is an open for people.
type OpenInfo struct {
	Owner        fs.Owner
	File         fs.Handle
	Name         string
	Access, Deny fs.Share // live, or held
	Held         bool     // not reclaimed yet
	Reclaimed    bool
	Since        time.Time
}

// LockInfo is a lock-owner's locks on a file, for people.
type LockInfo struct {
	Owner, OpenOwner fs.Owner
	File             fs.Handle
	Name             string
	Live             fs.RangeSet
	Held             fs.RangeSet // not reclaimed yet
	Reclaimed        bool
	Since            time.Time
}

// WaiterInfo is somebody who waits for a lock.
type WaiterInfo struct {
	Owner    fs.Owner
	File     fs.Handle
	Range    fs.Range
	Type     fs.LockType
	Since    time.Time
	Notified bool // the range is kept for it
	Upstream bool // it waits in the origin's queue
}

// Clients lists the clients by owner.
func (s *Server) Clients() []ClientInfo {
	s.mu.RLock()
	list := make([]*Client, 0, len(s.byID))
	confirmed := map[*Client]bool{}
	for _, c := range s.byID {
		list = append(list, c)
		confirmed[c] = c.confirmed
	}
	s.mu.RUnlock()
	now := s.now()
	out := make([]ClientInfo, 0, len(list))
	for _, c := range list {
		c.mu.RLock()
		i := ClientInfo{ID: c.id, Owner: c.party.owner, Principal: c.principal, Addr: c.addr, Impl: c.impl, Confirmed: confirmed[c], Complete: c.complete || c.v40 != nil && !s.reclaimable(), V40: c.v40 != nil,
			Retain: c.retain, Courtesy: c.lapsed(now), LeaseLeft: max(0, c.leaseEnd().Sub(now)), Sessions: len(c.sessions)}
		c.mu.RUnlock()
		i.Revoked = int(c.admin.Load() + c.expired.Load() + c.delegs.Load())
		if i.Confirmed {
			for _, o := range c.party.entries() {
				o.file.mu.Lock()
				if o.client == c && o.isDeleg() {
					i.Delegs++
				} else if o.client == c {
					i.Opens++
				} else if len(o.held) > 0 {
					i.Held++
				}
				for l := range o.locks {
					i.Locks += len(l.live)
					i.Held += len(l.held)
				}
				o.file.mu.Unlock()
			}
		}
		out = append(out, i)
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Owner < out[j].Owner || out[i].Owner == out[j].Owner && out[i].ID < out[j].ID
	})
	return out
}

func before(a, b fs.Owner) bool {
	return a.Client < b.Client || a.Client == b.Client && a.Owner < b.Owner
}

// eachFile calls f with the mutex of each file held, in the order of the handles.
func (s *Server) eachFile(f func(*file)) {
	list := s.files.all()
	sort.Slice(list, func(i, j int) bool { return list[i].handle < list[j].handle })
	for _, x := range list {
		x.mu.Lock()
		f(x)
		x.mu.Unlock()
		s.files.put(x)
	}
}

// Opens lists the opens by file and owner.
func (s *Server) Opens() []OpenInfo {
	var out []OpenInfo
	s.eachFile(func(f *file) {
		n := len(out)
		for _, o := range f.opens {
			switch {
			case o.isDeleg():
			case o.client != nil:
				out = append(out, OpenInfo{o.owner, f.handle, o.name, o.access, o.deny, false, o.reclaimed, o.since})
			case len(o.held) > 0:
				a, d := o.heldModes(true)
				b, e := o.heldModes(false)
				out = append(out, OpenInfo{o.owner, f.handle, o.name, a | b, d | e, true, false, o.since})
			}
		}
		sort.Slice(out[n:], func(i, j int) bool { return before(out[n+i].Owner, out[n+j].Owner) })
	})
	return out
}

// Locks lists the locks by file and owner.
func (s *Server) Locks() []LockInfo {
	var out []LockInfo
	s.eachFile(func(f *file) {
		n := len(out)
		for _, l := range f.locks {
			held := strongest(l.heldSet(true), l.heldSet(false))
			if len(l.live)+len(held) > 0 {
				out = append(out, LockInfo{l.owner, l.open.owner, f.handle, l.open.name, l.live, held, l.reclaimed, l.since})
			}
		}
		sort.Slice(out[n:], func(i, j int) bool { return before(out[n+i].Owner, out[n+j].Owner) })
	})
	return out
}

// Waiters lists the waiters, file by file in their order.
func (s *Server) Waiters() []WaiterInfo {
	var out []WaiterInfo
	s.eachFile(func(f *file) {
		for _, w := range f.waiters {
			out = append(out, WaiterInfo{w.owner, f.handle, w.r, w.t, w.since, !w.notified.IsZero(), w.upstream})
		}
	})
	return out
}
