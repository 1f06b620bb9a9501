package portmap

import (
	"context"
	"net"
	"net/netip"

	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
)

// A Server is a portmapper for programs that are known from the start, where no rpcbind runs. Nobody can register.
type Server struct {
	list []Mapping
	rpc  rpc.Server
}

// NewServer makes one for list; the portmapper's own programs are added.
func NewServer(list []Mapping) *Server {
	s := &Server{list: list}
	for vers := uint32(V2); vers <= V4; vers++ {
		for _, prot := range []uint32{TCP, UDP} {
			s.list = append(s.list, Mapping{Program, vers, prot, Port})
		}
	}
	s.rpc.MaxConns = 256
	return s
}

const (
	idle      = 30e9 // ns
	maxRecord = 16 << 10
)

func (s *Server) options(nc net.Conn) (rpc.Options, error) {
	var local netip.Addr
	if a, err := netip.ParseAddrPort(nc.LocalAddr().String()); err == nil {
		local = a.Addr().Unmap()
	}
	return rpc.Options{MaxRecord: maxRecord, MaxInflight: 16, IdleTimeout: idle, Handler: rpc.HandlerFunc(
		func(_ context.Context, _ *rpc.Conn, in *rpc.InCall) { s.serve(in, local) })}, nil
}

// Serve answers on both until ctx ends or Close is called.
func (s *Server) Serve(ctx context.Context, l net.Listener, pc net.PacketConn) error {
	done := make(chan error, 1)
	go func() { done <- s.rpc.ServePacket(ctx, pc, s.options) }()
	err := s.rpc.Serve(ctx, l, s.options)
	_ = pc.Close()
	<-done
	return err
}

// Close ends it.
func (s *Server) Close() error { return s.rpc.Close() }

// find is the mapping of a program: one of the version if there is, else of any, as RFC 1833 has it.
func (s *Server) find(prog, vers, prot uint32) (Mapping, bool) {
	var any Mapping
	for _, m := range s.list {
		if m.Prog == prog && m.Prot == prot {
			if m.Vers == vers {
				return m, true
			}
			any = m
		}
	}
	return any, any.Port != 0
}

func (s *Server) serve(in *rpc.InCall, local netip.Addr) {
	switch {
	case in.Prog != Program:
		_ = in.Error(rpc.PROG_UNAVAIL, 0, 0)
	case in.Vers < V2 || in.Vers > V4:
		_ = in.Error(rpc.PROG_MISMATCH, V2, V4)
	case in.Proc == procNull:
		_ = in.Reply(nil)
	case in.Proc == procSet || in.Proc == procUnset:
		no := false
		_ = in.Reply(func(c *xdr.Codec) { c.Bool(&no) })
	case in.Vers == V2 && in.Proc == procGetport:
		var m Mapping
		if m.XDR(in.Body); in.Body.Err() != nil {
			_ = in.Error(rpc.GARBAGE_ARGS, 0, 0)
			return
		}
		got, _ := s.find(m.Prog, m.Vers, m.Prot)
		_ = in.Reply(func(c *xdr.Codec) { c.Uint32(&got.Port) })
	case in.Vers == V2 && in.Proc == procDump:
		_ = in.Reply(func(c *xdr.Codec) { l := s.list; list(c, &l) })
	case in.Vers >= V3 && (in.Proc == procGetaddr || in.Vers == V4 && in.Proc == procVersaddr):
		var b Binding
		if b.XDR(in.Body); in.Body.Err() != nil {
			_ = in.Error(rpc.GARBAGE_ARGS, 0, 0)
			return
		}
		addr := s.address(&b, in.Proc == procVersaddr, local)
		_ = in.Reply(func(c *xdr.Codec) { c.String(&addr, maxString) })
	case in.Vers >= V3 && in.Proc == procDump:
		var all []Binding
		for _, m := range s.list {
			v4, v6 := netids(m.Prot)
			all = append(all, Binding{m.Prog, m.Vers, v4, Uaddr(netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(m.Port))), "superuser"},
				Binding{m.Prog, m.Vers, v6, Uaddr(netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(m.Port))), "superuser"})
		}
		_ = in.Reply(func(c *xdr.Codec) { list(c, &all) })
	default:
		_ = in.Error(rpc.PROC_UNAVAIL, 0, 0)
	}
}

// address is the universal address of a program, as this caller can reach it; "" if there is none.
func (s *Server) address(b *Binding, exact bool, local netip.Addr) string {
	prot := uint32(TCP)
	any := netip.IPv4Unspecified()
	switch b.Netid {
	case "tcp":
	case "udp":
		prot = UDP
	case "tcp6":
		any = netip.IPv6Unspecified()
	case "udp6":
		prot, any = UDP, netip.IPv6Unspecified()
	default:
		return ""
	}
	m, ok := s.find(b.Prog, b.Vers, prot)
	if !ok || exact && m.Vers != b.Vers {
		return ""
	}
	if local.IsValid() && !local.IsUnspecified() && local.Is4() == any.Is4() {
		any = local
	}
	return Uaddr(netip.AddrPortFrom(any, uint16(m.Port)))
}
