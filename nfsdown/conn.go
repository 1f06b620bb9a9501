package nfsdown

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// A conn is a connection of a client: where it comes from, and which sessions it is bound to.
type conn struct {
	s    *Server
	addr netip.Addr
	port uint16
	// local is the address that the client called, not valid if that is not known; datagrams tells UDP.
	local     netip.Addr
	datagrams bool
	rpc       atomic.Pointer[rpc.Conn] // known from the first call on

	mu sync.Mutex
	// fore are the sessions whose fore channel the connection is bound to.
	// +checklocks:mu
	fore map[nfs4.SessionID]struct{}
	// granted is what exports allow this client, asked once per export and reload.
	// +checklocks:mu
	granted map[*export]Access
	// +checklocks:mu
	names []string
	// +checklocks:mu
	namesKnown bool
}

func (s *Server) newConn(nc net.Conn) *conn {
	c := &conn{s: s, fore: map[nfs4.SessionID]struct{}{}, granted: map[*export]Access{}}
	if a, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil {
		c.addr, c.port = a.Addr().Unmap(), a.Port()
	}
	if a, err := netip.ParseAddrPort(nc.LocalAddr().String()); err == nil && !a.Addr().IsUnspecified() {
		c.local = a.Addr().Unmap()
	}
	c.datagrams = nc.LocalAddr().Network() == "udp"
	return c
}

// access is what the client may do with an export.
func (c *conn) access(x *export) Access {
	c.mu.Lock()
	a, ok := c.granted[x]
	c.mu.Unlock()
	if ok {
		return a
	}
	a = x.access(c.s.cfg.who(c.s.ctx, c.addr, c.hostNames))
	if a.SecurePort && c.port >= 1024 {
		a = Access{Denied: true}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.granted) > 4*len(c.s.tree.Load().list)+16 {
		clear(c.granted) // exports of earlier reloads
	}
	c.granted[x] = a
	return a
}

// hostNames are the host names of the client, looked up once per connection.
func (c *conn) hostNames() []string {
	c.mu.Lock()
	known, names := c.namesKnown, c.names
	c.mu.Unlock()
	if known {
		return names
	}
	names = c.s.cfg.LookupNames(c.s.ctx, c.addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.namesKnown, c.names = true, names
	return names
}

// bind notes that the connection carries the fore channel of a session; RFC 8881 2.10.3.1 lets any
// connection with a SEQUENCE do that where the state is not protected.
func (c *conn) bind(id nfs4.SessionID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fore[id] = struct{}{}
}

func (c *conn) bound(id nfs4.SessionID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.fore[id]
	return ok
}

// unbind forgets a session that is no more.
func (c *conn) unbind(id nfs4.SessionID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.fore, id)
}

// ServeRPC serves a call.
func (c *conn) ServeRPC(_ context.Context, rc *rpc.Conn, call *rpc.InCall) {
	if c.rpc.Load() == nil {
		c.rpc.Store(rc)
	}
	low, high := uint32(nfs4.Version), uint32(nfs4.Version)
	p := c.s.programs[call.Prog]
	switch {
	case p != nil && call.Prog == nfs4.Program:
		low, _ = p.Versions()
	case p != nil:
		low, high = p.Versions()
	case call.Prog != nfs4.Program:
		_ = call.Error(rpc.PROG_UNAVAIL, 0, 0)
		return
	}
	switch {
	case call.Prog == nfs4.Program && c.datagrams: // RFC 8881 2.9.1, and no client of today wants v3 so
		_ = call.Error(rpc.PROG_UNAVAIL, 0, 0)
	case call.Vers < low || call.Vers > high:
		_ = call.Error(rpc.PROG_MISMATCH, low, high)
	case call.Prog != nfs4.Program || call.Vers != nfs4.Version:
		c.s.program(p, c, rc, call)
	case call.Proc == nfs4.ProcNull:
		_ = call.Reply(nil)
	case call.Proc == nfs4.ProcCompound:
		c.s.compound(c, rc, call)
	default:
		_ = call.Error(rpc.PROC_UNAVAIL, 0, 0)
	}
}
