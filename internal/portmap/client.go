package portmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
)

// ErrNone says that a program is not registered.
var ErrNone = errors.New("portmap: the program is not registered")

// callTimeout is how long one question may take. By UDP it is asked tries times.
const (
	callTimeout = 3 * time.Second
	udpTries    = 3
)

// A Dialer reaches RPC programs. The zero value is ready.
type Dialer struct {
	// Local is the address to call from, since some peers know us by it; not valid: any.
	Local netip.Addr
	// Port is the portmapper's: 111.
	Port uint16
}

func (d *Dialer) dial(ctx context.Context, network string, to netip.AddrPort) (*rpc.Conn, error) {
	var err error
	// From a port that only root may use, as some peers ask for.
	for _, port := range []int{1021, 983, 947, 911, 877, 839, 797, 0} {
		nd := net.Dialer{Timeout: callTimeout}
		ip := net.IP(nil)
		if d.Local.IsValid() && d.Local.Is4() == to.Addr().Is4() {
			ip = d.Local.AsSlice()
		}
		if network == "udp" {
			nd.LocalAddr = &net.UDPAddr{IP: ip, Port: port}
		} else {
			nd.LocalAddr = &net.TCPAddr{IP: ip, Port: port}
		}
		var nc net.Conn
		if nc, err = nd.DialContext(ctx, network, to.String()); err == nil {
			opts := rpc.Options{MaxRecord: 64 << 10}
			if network == "udp" {
				return rpc.NewPacketClient(nc, opts), nil
			}
			return rpc.NewConn(nc, opts), nil
		}
		if ctx.Err() != nil || port == 0 {
			break
		}
		if !busyPort(err) {
			break
		}
	}
	return nil, err
}

// call asks once over TCP, and some times over UDP.
func call(ctx context.Context, c *rpc.Conn, network string, what *rpc.Call, encode func(*xdr.Codec), decode func(*xdr.Codec) error) error {
	tries := 1
	if network == "udp" {
		tries = udpTries
	}
	var err error
	for range tries {
		try, stop := context.WithTimeout(ctx, callTimeout)
		err = c.Call(try, what, encode, decode)
		stop()
		if err == nil || !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			break
		}
	}
	return err
}

// Dial finds a program of a host and connects to it, by TCP or, if it is not there, by UDP.
func (d *Dialer) Dial(ctx context.Context, host netip.Addr, prog, vers uint32) (*rpc.Conn, error) {
	var errs []error
	for _, network := range []string{"tcp", "udp"} {
		port, err := d.GetPort(ctx, host, prog, vers, network)
		if err == nil {
			var c *rpc.Conn
			if c, err = d.dial(ctx, network, netip.AddrPortFrom(host, port)); err == nil {
				return c, nil
			}
		}
		errs = append(errs, fmt.Errorf("%s: %w", network, err))
	}
	return nil, errors.Join(errs...)
}

// GetPort asks a host's portmapper for the port of a program; network is tcp or udp.
func (d *Dialer) GetPort(ctx context.Context, host netip.Addr, prog, vers uint32, network string) (uint16, error) {
	at := netip.AddrPortFrom(host, Port)
	if d.Port != 0 {
		at = netip.AddrPortFrom(host, d.Port)
	}
	var last error
	for _, by := range []string{"tcp", "udp"} {
		c, err := d.dial(ctx, by, at)
		if err != nil {
			last = err
			continue
		}
		port, err := getPort(ctx, c, by, host, prog, vers, network)
		_ = c.Close()
		if err == nil || errors.Is(err, ErrNone) {
			return port, err
		}
		last = err
	}
	return 0, last
}

func getPort(ctx context.Context, c *rpc.Conn, by string, host netip.Addr, prog, vers uint32, network string) (port uint16, err error) {
	if !host.Unmap().Is4() { // version 2 knows IPv4 only
		var addr string
		b := Binding{Prog: prog, Vers: vers, Netid: network + "6"}
		err = call(ctx, c, by, &rpc.Call{Prog: Program, Vers: V4, Proc: procGetaddr}, b.XDR, func(x *xdr.Codec) error {
			x.String(&addr, maxString)
			return x.Err()
		})
		switch {
		case err != nil:
			return 0, err
		case addr == "":
			return 0, ErrNone
		}
		a, err := ParseUaddr(addr)
		return a.Port(), err
	}
	m := Mapping{Prog: prog, Vers: vers, Prot: TCP}
	if network == "udp" {
		m.Prot = UDP
	}
	var n uint32
	err = call(ctx, c, by, &rpc.Call{Prog: Program, Vers: V2, Proc: procGetport}, m.XDR, func(x *xdr.Codec) error {
		x.Uint32(&n)
		return x.Err()
	})
	switch {
	case err != nil:
		return 0, err
	case n == 0 || n > 65535:
		return 0, ErrNone
	}
	return uint16(n), nil
}
