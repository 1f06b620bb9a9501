package state

import (
	"sync"

	"holdfast/internal/nfs4"
)

// Session is a session, RFC 8881 2.10: slots and channels of a client.
type Session struct {
	srv        *Server
	client     *Client
	id         nfs4.SessionID
	flags      uint32
	fore, back nfs4.ChannelAttrs

	mu      sync.Mutex
	slots   []slot                  // guarded by mu
	running int                     // guarded by mu; slots that are busy
	dead    bool                    // guarded by mu
	program uint32                  // guarded by mu
	sec     []nfs4.CallbackSecParms // guarded by mu

	wantsBack bool // guarded by mu; it has, or had, or asked for a back channel
	conns     int  // guarded by mu; connections of the back channel
	fault     bool // guarded by mu
}

// Session finds a session: BADSESSION.
func (s *Server) Session(id nfs4.SessionID) (*Session, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if ss := s.sessions[id]; ss != nil {
		return ss, nil
	}
	return nil, nfs4.NFS4ERR_BADSESSION
}

// ID is the session ID.
func (ss *Session) ID() nfs4.SessionID { return ss.id }

// Client is whose session it is.
func (ss *Session) Client() *Client { return ss.client }

// Fore is the fore channel as it was granted.
func (ss *Session) Fore() nfs4.ChannelAttrs { return ss.fore }

// Back is the back channel as it was granted.
func (ss *Session) Back() nfs4.ChannelAttrs { return ss.back }

// Callback is the callback program and the credentials to use, as CREATE_SESSION or the last
// BACKCHANNEL_CTL gave them.
func (ss *Session) Callback() (program uint32, sec []nfs4.CallbackSecParms) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.program, ss.sec
}

// SetCallback is BACKCHANNEL_CTL, RFC 8881 18.33.
func (ss *Session) SetCallback(program uint32, sec []nfs4.CallbackSecParms) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.program, ss.sec = program, sec
}

// SetBackChannel tells how many connections the back channel has now; zero shows in the status
// flags of SEQUENCE if the client ever asked for a back channel.
func (ss *Session) SetBackChannel(conns int) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.dead {
		return
	}
	switch {
	case ss.conns == 0 && conns > 0:
		ss.client.backs.Add(1)
		ss.client.wantsBack.Store(true)
		ss.wantsBack = true
	case ss.conns > 0 && conns == 0:
		ss.client.backs.Add(-1)
	}
	ss.conns = conns
}

// SetTried says that the client has answered a callback: it can be given what has to be recalled.
func (c *Client) SetTried() { c.tried.Store(true) }

// Tried tells whether SetTried was called.
func (c *Client) Tried() bool { return c.tried.Load() }

// SetBackChannelFault makes SEQUENCE say SEQ4_STATUS_BACKCHANNEL_FAULT from now on.
func (ss *Session) SetBackChannelFault() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.fault = true
}

// BindConn is BIND_CONN_TO_SESSION, RFC 8881 18.34: dir is a CDFC4 value, granted a CDFS4 value, as
// much as the client wants. Tell SetBackChannel about the connection then. There is no RDMA.
func (s *Server) BindConn(id nfs4.SessionID, dir uint32, _ bool) (ss *Session, granted uint32, err error) {
	if ss, err = s.Session(id); err != nil {
		return nil, 0, err
	}
	switch dir {
	case nfs4.CDFC4_FORE:
		return ss, nfs4.CDFS4_FORE, nil
	case nfs4.CDFC4_BACK:
		return ss, nfs4.CDFS4_BACK, nil
	case nfs4.CDFC4_FORE_OR_BOTH, nfs4.CDFC4_BACK_OR_BOTH:
		return ss, nfs4.CDFS4_BOTH, nil
	}
	return nil, 0, nfs4.NFS4ERR_INVAL
}

// DestroySession is DESTROY_SESSION, RFC 8881 18.37: DELAY while requests run in it, other than via
// (the request that asks; nil if it came without SEQUENCE). So OK means that nothing of it runs any
// more. bound tells whether the connection is bound to the session: CONN_NOT_BOUND_TO_SESSION.
func (s *Server) DestroySession(id nfs4.SessionID, via *Request, bound bool) (*Effects, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ss := s.sessions[id]
	if ss == nil {
		return nil, nfs4.NFS4ERR_BADSESSION
	}
	if !bound {
		return nil, nfs4.NFS4ERR_CONN_NOT_BOUND_TO_SESSION
	}
	ss.mu.Lock()
	busy := ss.running
	if via != nil && via.session == ss {
		busy--
	}
	if busy > 0 {
		ss.mu.Unlock()
		return nil, nfs4.NFS4ERR_DELAY
	}
	ss.close()
	ss.mu.Unlock()
	eff := &Effects{}
	s.unlist(ss, eff)
	return eff, nil
}

// close ends the session for requests. ss.mu is held.
func (ss *Session) close() {
	ss.dead = true
	if ss.conns > 0 {
		ss.client.backs.Add(-1)
		ss.conns = 0
	}
}

// unlist lets the session be found no more. s.mu is held.
func (s *Server) unlist(ss *Session, eff *Effects) {
	delete(s.sessions, ss.id)
	c := ss.client
	c.mu.Lock()
	delete(c.sessions, ss)
	c.mu.Unlock()
	if c.csSession == ss {
		c.csSession = nil
	}
	eff.Closed = append(eff.Closed, ss)
}

func (c *Client) allSessions() []*Session {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make([]*Session, 0, len(c.sessions))
	for ss := range c.sessions {
		out = append(out, ss)
	}
	return out
}

// Sessions lists the client's sessions, for callbacks.
func (c *Client) Sessions() []*Session { return c.allSessions() }

func (c *Client) hasSessions() bool { return len(c.allSessions()) > 0 }
