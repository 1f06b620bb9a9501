package nfsdown

import (
	"time"

	"holdfast/nfsdown/state"
)

// Status is a server in one screen.
type Status struct {
	Since    time.Time
	Epoch    uint32
	Grace    GraceInfo
	Exports  []ExportStatus
	Conns    int
	Refused  int // connections beyond MaxConns
	Sessions int
	Clients  int
	Opens    int
	Locks    int // (lock-owner, file)
	Waiters  int
	Lease    time.Duration
	Restart  RestartInfo
	Degraded error // not nil: nothing is granted any more, and why
}

// ExportStatus is an export for people.
type ExportStatus struct {
	Path     string
	ID       uint32
	ReadOnly bool
	Clients  []ClientRule
}

// Status tells how the server is.
func (s *Server) Status() Status {
	st := Status{
		Since: s.born, Epoch: s.cfg.State.Epoch, Grace: s.GraceInfo(), Conns: len(s.rpc.Conns()), Refused: s.rpc.Refused(),
		Clients: len(s.state.Clients()), Opens: len(s.state.Opens()), Locks: len(s.state.Locks()), Waiters: len(s.state.Waiters()),
		Lease: s.cfg.State.Lease,
	}
	s.mu.Lock()
	st.Restart = s.restart
	s.mu.Unlock()
	s.chanMu.Lock()
	st.Sessions = len(s.channels)
	s.chanMu.Unlock()
	for _, x := range s.tree.Load().list {
		st.Exports = append(st.Exports, ExportStatus{x.Path, x.ID, x.ReadOnly, x.Clients})
	}
	if s.cfg.Journal != nil && s.cfg.Journal.Err() != nil {
		st.Degraded = errJournal
	}
	return st
}

// OpStats returns the counters of the operations that were used: those of NFSv4, then those of each other program.
func (s *Server) OpStats() []OpStat {
	list := s.stats.snapshot()
	for _, p := range s.procStats {
		list = p.snapshot(list)
	}
	return list
}

// Clients lists the clients.
func (s *Server) Clients() []state.ClientInfo { return s.state.Clients() }

// Opens lists the opens. Files are handles as clients know them.
func (s *Server) Opens() []state.OpenInfo { return s.state.Opens() }

// Locks lists the locks.
func (s *Server) Locks() []state.LockInfo { return s.state.Locks() }

// Waiters lists who waits for a lock.
func (s *Server) Waiters() []state.WaiterInfo { return s.state.Waiters() }

// State is the protocol state, for other protocols that share it.
func (s *Server) State() *state.Server { return s.state }

// HoldLeases stops, and resumes, the end of leases while the origin does not answer.
func (s *Server) HoldLeases(hold bool) { s.state.HoldLeases(hold) }
