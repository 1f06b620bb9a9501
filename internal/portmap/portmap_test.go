package portmap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
)

// serve runs a Server on a port of its own, by TCP and UDP.
func serve(t *testing.T, maps []Mapping) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(maps)
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l, pc) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

func TestServerAndClient(t *testing.T) {
	at := serve(t, []Mapping{{100003, 3, TCP, 2049}, {100021, 4, UDP, 2050}, {100021, 4, TCP, 2049}})
	d := Dialer{Port: at.Port()}
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	for _, c := range []struct {
		prog, vers uint32
		network    string
		port       uint16
	}{{100003, 3, "tcp", 2049}, {100003, 4, "tcp", 2049}, {100003, 3, "udp", 0}, {100021, 4, "udp", 2050}, {100021, 1, "tcp", 2049}, {7, 1, "tcp", 0}} {
		got, err := d.GetPort(ctx, at.Addr(), c.prog, c.vers, c.network)
		if got != c.port || (c.port == 0) != errors.Is(err, ErrNone) {
			t.Errorf("%+v: port %d, %v", c, got, err)
		}
	}
	for _, network := range []string{"tcp", "udp"} {
		c, err := d.dial(ctx, network, at)
		if err != nil {
			t.Fatal(err)
		}
		b := Binding{Prog: 100021, Vers: 4, Netid: "udp", Owner: "x"}
		var addr string
		err = call(ctx, c, network, &rpc.Call{Prog: Program, Vers: V4, Proc: procGetaddr}, b.XDR, func(x *xdr.Codec) error { x.String(&addr, 99); return x.Err() })
		if err != nil || addr != "127.0.0.1.8.2" {
			t.Errorf("%s: GETADDR says %q, %v", network, addr, err)
		}
		var all []Mapping
		err = call(ctx, c, network, &rpc.Call{Prog: Program, Vers: V2, Proc: procDump}, nil, func(x *xdr.Codec) error { list(x, &all); return x.Err() })
		if err != nil || len(all) != 9 {
			t.Errorf("%s: DUMP: %v, %v", network, all, err)
		}
		ok := true
		m := Mapping{9, 9, TCP, 9}
		err = call(ctx, c, network, &rpc.Call{Prog: Program, Vers: V2, Proc: procSet}, m.XDR, func(x *xdr.Codec) error { x.Bool(&ok); return x.Err() })
		if err != nil || ok {
			t.Errorf("%s: a stranger may register: %v", network, err)
		}
		var accept *rpc.AcceptError
		if err = call(ctx, c, network, &rpc.Call{Prog: Program, Vers: 1}, nil, nil); !errors.As(err, &accept) || accept.Low != 2 || accept.High != 4 {
			t.Errorf("%s: version 1: %v", network, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestUaddr(t *testing.T) {
	for _, s := range []string{"127.0.0.1.8.1", "fe80::1.0.111", "::.255.255"} {
		a, err := ParseUaddr(s)
		if err != nil || Uaddr(a) != s {
			t.Errorf("%s: %v %v", s, a, err)
		}
	}
	for _, s := range []string{"", ".", "1.2", "1.2.3.4", "1.2.3.4.5", "1.2.3.4.256.0", "x.1.1"} {
		if a, err := ParseUaddr(s); err == nil {
			t.Errorf("%q is %v", s, a)
		}
	}
}

func FuzzDecode(f *testing.F) {
	e := xdr.NewEncoder(nil)
	all := []Binding{{1, 2, "tcp", "127.0.0.1.0.1", "o"}, {}}
	list(e, &all)
	f.Add(e.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		var l, again []Binding
		d := xdr.NewDecoder(b)
		if list(d, &l); d.Err() != nil {
			return
		}
		for _, x := range l {
			_, _ = ParseUaddr(x.Addr)
		}
		e := xdr.NewEncoder(nil)
		list(e, &l)
		if list(xdr.NewDecoder(e.Bytes()), &again); !reflect.DeepEqual(l, again) {
			t.Fatalf("%v became %v", l, again)
		}
	})
}
