package nfsdown

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
	"holdfast/nfsdown/state"
)

// Callbacks of NFSv4.0 go over a connection that we make to the client: RFC 7530 10.2.1 and 16.33. We make
// it to the address that the client speaks from only, so that nobody can send us elsewhere.

// probe40 looks whether a client of NFSv4.0 can be called back: CB_NULL. It does not wait.
func (s *Server) probe40(c *state.Client) {
	s.background(func(ctx context.Context) {
		ctx, stop := context.WithTimeout(ctx, s.cfg.CallbackTimeout)
		defer stop()
		err := s.with40(ctx, c, func(rc *rpc.Conn, cb state.Callback40) error {
			return rc.Call(ctx, &rpc.Call{Prog: cb.Program, Vers: nfs4.CBVersion, Proc: nfs4.ProcNull}, func(*xdr.Codec) {}, func(*xdr.Codec) error { return nil })
		})
		c.SetCallback40(err == nil)
		if err != nil {
			s.log.Debug("no callbacks to the client", "client", c.Owner(), "err", err)
		}
	})
}

// callback40 calls one operation at a client of NFSv4.0 and returns its status.
func (s *Server) callback40(ctx context.Context, c *state.Client, op nfs4.CBArgs) (st nfs4.Status, err error) {
	ops := []nfs4.CBArgs{op}
	err = s.with40(ctx, c, func(rc *rpc.Conn, cb state.Callback40) error {
		call := &rpc.Call{Prog: cb.Program, Vers: nfs4.CBVersion, Proc: nfs4.ProcCompound}
		return rc.Call(ctx, call, func(e *xdr.Codec) { nfs4.EncodeCBCompound(e, "", 0, cb.Ident, ops) }, func(d *xdr.Codec) error {
			_, list, err := nfs4.DecodeCBCompoundRes(d, ops)
			switch {
			case err != nil:
				return err
			case len(list) == 0:
				return nfs4.NFS4ERR_SERVERFAULT
			}
			st = list[0].Stat()
			return nil
		})
	})
	c.SetCallback40(err == nil)
	return st, err
}

// with40 calls f with a connection to the client's callback program.
func (s *Server) with40(ctx context.Context, c *state.Client, f func(*rpc.Conn, state.Callback40) error) error {
	cb, ok := c.Callback40()
	if !ok {
		return errNoPath
	}
	to, err := parseUaddr(cb.Addr)
	if err != nil {
		return err
	}
	if from, err := netip.ParseAddr(c.Addr()); err != nil || from.Unmap() != to.Addr() {
		return fmt.Errorf("%w: the client speaks from %s and wants to be called at %s", errNoPath, c.Addr(), to)
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	rc := rpc.NewConn(nc, rpc.Options{})
	return errors.Join(f(rc, cb), rc.Close())
}

// parseUaddr reads a universal address: RFC 5665 5.2.3. The last two numbers are the port.
func parseUaddr(a nfs4.NetAddr) (netip.AddrPort, error) {
	bad := func() (netip.AddrPort, error) {
		return netip.AddrPort{}, fmt.Errorf("%w: %q %q is no address", errNoPath, a.NetID, a.Addr)
	}
	if a.NetID != "tcp" && a.NetID != "tcp6" {
		return bad()
	}
	host, low, ok := cutLast(a.Addr)
	if !ok {
		return bad()
	}
	host, high, ok := cutLast(host)
	if !ok {
		return bad()
	}
	h, err1 := strconv.ParseUint(high, 10, 8)
	l, err2 := strconv.ParseUint(low, 10, 8)
	addr, err3 := netip.ParseAddr(host)
	if err := errors.Join(err1, err2, err3); err != nil || h == 0 && l == 0 {
		return bad()
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(h<<8|l)), nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}
