package portmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
)

// sockets are where a local rpcbind listens; it knows root by them.
var sockets = []string{"/run/rpcbind.sock", "/var/run/rpcbind.sock"}

// ErrNoRpcbind says that no rpcbind runs on this host.
var ErrNoRpcbind = errors.New("portmap: no rpcbind answers on this host")

// A Registry is the host's own rpcbind.
type Registry struct {
	c       *rpc.Conn
	network string
}

// OpenRegistry connects to the host's rpcbind: ErrNoRpcbind if there is none.
func OpenRegistry(ctx context.Context) (*Registry, error) {
	for _, path := range sockets {
		nc, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			continue
		}
		r := &Registry{rpc.NewConn(nc, rpc.Options{}), "unix"}
		if r.ping(ctx) == nil {
			return r, nil
		}
		_ = r.c.Close()
	}
	c, err := new(Dialer).dial(ctx, "tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), Port))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRpcbind, err)
	}
	r := &Registry{c, "tcp"}
	if err := r.ping(ctx); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("%w: %w", ErrNoRpcbind, err)
	}
	return r, nil
}

func (r *Registry) ping(ctx context.Context) error {
	return call(ctx, r.c, r.network, &rpc.Call{Prog: Program, Vers: V2, Proc: procNull}, nil, nil)
}

// Close ends the connection; what was registered stays.
func (r *Registry) Close() error { return r.c.Close() }

// Taken tells on which port somebody else is registered for a program, 0 if nobody is. One who does not answer any
// more does not count.
func (r *Registry) Taken(ctx context.Context, m Mapping) (uint16, error) {
	port, err := getPort(ctx, r.c, r.network, netip.AddrFrom4([4]byte{127, 0, 0, 1}), m.Prog, m.Vers, networkOf(m.Prot))
	if errors.Is(err, ErrNone) || err == nil && uint32(port) == m.Port {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	d := new(Dialer)
	c, err := d.dial(ctx, networkOf(m.Prot), netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
	if err != nil {
		return 0, nil
	}
	defer c.Close()
	err = call(ctx, c, networkOf(m.Prot), &rpc.Call{Prog: m.Prog, Vers: m.Vers}, nil, nil)
	var accept *rpc.AcceptError
	var auth *rpc.AuthError
	if err == nil || errors.As(err, &accept) || errors.As(err, &auth) {
		return port, nil
	}
	return 0, nil
}

func networkOf(prot uint32) string {
	v4, _ := netids(prot)
	return v4
}

// Set registers a program, for IPv4 and IPv6, in place of what was registered.
func (r *Registry) Set(ctx context.Context, m Mapping) error {
	r.Unset(ctx, m)
	v4, v6 := netids(m.Prot)
	n4, err := r.set(ctx, &Binding{m.Prog, m.Vers, v4, Uaddr(netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(m.Port))), "superuser"})
	var mismatch *rpc.AcceptError
	if errors.As(err, &mismatch) { // an old portmapper
		var ok bool
		err = call(ctx, r.c, r.network, &rpc.Call{Prog: Program, Vers: V2, Proc: procSet}, m.XDR, func(x *xdr.Codec) error { x.Bool(&ok); return x.Err() })
		n4 = ok
	}
	if err == nil && !n4 {
		err = fmt.Errorf("portmap: rpcbind refuses to register program %d version %d on port %d", m.Prog, m.Vers, m.Port)
	}
	if err != nil {
		return err
	}
	// A host without IPv6 refuses, and needs none.
	_, _ = r.set(ctx, &Binding{m.Prog, m.Vers, v6, Uaddr(netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(m.Port))), "superuser"})
	return nil
}

func (r *Registry) set(ctx context.Context, b *Binding) (ok bool, err error) {
	err = call(ctx, r.c, r.network, &rpc.Call{Prog: Program, Vers: V4, Proc: procSet}, b.XDR, func(x *xdr.Codec) error { x.Bool(&ok); return x.Err() })
	return ok, err
}

// Unset takes a registration back, if there is one and it is root's.
func (r *Registry) Unset(ctx context.Context, m Mapping) {
	v4, v6 := netids(m.Prot)
	for _, id := range []string{v4, v6} {
		b := &Binding{m.Prog, m.Vers, id, "", "superuser"}
		// Nothing to take back is no error, and nobody could do anything about another.
		_ = call(ctx, r.c, r.network, &rpc.Call{Prog: Program, Vers: V4, Proc: procUnset}, b.XDR, nil)
	}
}
