package state

import (
	"cmp"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// Server is all state of one NFS server.
type Server struct {
	cfg   Config
	files fileTable
	grace grace

	held    atomic.Bool // HoldLeases
	restore restore
	counter atomic.Uint32

	mu       sync.RWMutex
	byID     map[uint64]*Client          // guarded by mu; confirmed or not
	parties  map[string]*party           // guarded by mu
	sessions map[nfs4.SessionID]*Session // guarded by mu
	// expired40, guarded by mu: client IDs of NFSv4.0 whose state went with their lease.
	expired40 map[uint64]struct{}
	failed    []*Release         // guarded by mu; to be tried again
	waiting   map[*file]struct{} // guarded by waitMu
	waitMu    sync.Mutex         // a leaf

	delegs, writeDelegs      atomic.Int64 // delegations that clients have
	recallCount, revokeCount atomic.Uint64
	delegMu                  sync.Mutex              // a leaf
	recalls                  map[*open]struct{}      // guarded by delegMu; delegations on their way back
	contended                map[fs.Handle]time.Time // guarded by delegMu; when files were last recalled
}

// New makes a server out of what the journal holds; nil is an intact and empty journal. If there is
// something to reclaim, or the journal does not know, the server is in its grace period when New
// returns; Phase tells. Else tell the backend ReclaimComplete before anything is served.
func New(cfg Config, snap *journal.Snapshot) *Server {
	cfg.defaults()
	s := &Server{
		cfg:      cfg,
		byID:     map[uint64]*Client{},
		parties:  map[string]*party{},
		sessions: map[nfs4.SessionID]*Session{},
		waiting:  map[*file]struct{}{},
		recalls:  map[*open]struct{}{}, contended: map[fs.Handle]time.Time{},
	}
	s.files.seed = maphash.MakeSeed()
	s.load(snap)
	return s
}

func (c *Config) defaults() {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Part == nil {
		c.Part = func(fs.Handle) uint32 { return 0 }
	}
	c.Epoch = max(c.Epoch, 1)
	c.Lease = cmp.Or(c.Lease, 90*time.Second)
	c.Grace = cmp.Or(c.Grace, c.Lease)
	c.AbsenceLimit = cmp.Or(c.AbsenceLimit, c.Lease)
	c.ReclaimCap = cmp.Or(c.ReclaimCap, c.Lease)
	c.WaiterHold = cmp.Or(c.WaiterHold, 5*time.Second)
	c.Slots = cmp.Or(c.Slots, 64)
	c.MaxRequest = cmp.Or(c.MaxRequest, 1<<20+1<<16)
	c.MaxResponse = cmp.Or(c.MaxResponse, 1<<20+1<<16)
	c.MaxCached = cmp.Or(c.MaxCached, 8<<10)
	c.MaxOps = cmp.Or(c.MaxOps, 64)
	c.MaxSessions = cmp.Or(c.MaxSessions, 64)
	c.MaxClients = cmp.Or(c.MaxClients, 65536)
	c.MaxDelegations = cmp.Or(c.MaxDelegations, 65536)
	c.ExchangeFlags = cmp.Or(c.ExchangeFlags, nfs4.EXCHGID4_FLAG_USE_NON_PNFS)
}

func (s *Server) now() time.Time { return s.cfg.Now() }

// Lease is the lease time: the attribute lease_time.
func (s *Server) Lease() time.Duration { return s.cfg.Lease }

// AbsenceLimit and ReclaimCap are the attributes 92 and 93 of the retention draft.
func (s *Server) AbsenceLimit() time.Duration { return s.cfg.AbsenceLimit }

// ReclaimCap is the other one.
func (s *Server) ReclaimCap() time.Duration { return s.cfg.ReclaimCap }

// partyOf finds or makes a party. s.mu is held.
func (s *Server) partyOf(owner string) *party {
	p := s.parties[owner]
	if p == nil {
		p = &party{owner: owner, opens: map[*open]struct{}{}, tickets: map[string][]*OpenTicket{}}
		p.rec.Owner = owner
		s.parties[owner] = p
	}
	return p
}

// tidyParty forgets a party of which nothing is left. s.mu is held.
func (s *Server) tidyParty(p *party) {
	if p.confirmed == nil && p.unconfirmed == nil && !p.confirming && p.empty() {
		delete(s.parties, p.owner)
	}
}

// ClientByID finds a client, for LOCK4denied and the command line; nil if there is none.
func (s *Server) ClientByID(id uint64) *Client {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byID[id]
}

// clientIDOf is the client ID that now stands for a co_ownerid, 0 if none does. s.mu is not held.
func (s *Server) clientIDOf(owner string) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if p := s.parties[owner]; p != nil && p.confirmed != nil {
		return p.confirmed.id
	}
	return 0
}
