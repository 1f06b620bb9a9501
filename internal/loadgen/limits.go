package loadgen

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// What a message of a small request has, about.
const (
	pingSize   = 160
	streamSize = 1 << 20
)

// A Limit is what the machine can do without us. Its Peer, in the case of TCP, is another process.
type Limit struct {
	Name string
	Run  func(ctx context.Context, peer string, dir string, o Options) (Result, error)
}

// Limits returns all limits: a stream by one connection, messages of 160 bytes that a peer sends back
// when they come, and durable appends of 200 bytes to a file in dir. peer is the address of [ServePeer].
func Limits() []Limit {
	list := []Limit{{"TCP stream, 1 MiB writes", streamLimit}}
	for _, d := range []struct {
		name  string
		depth int
	}{{"TCP round trips, depth 1", 1}, {"TCP round trips, depth 16", 16}, {"TCP round trips, depth 64", 64}} {
		list = append(list, Limit{d.name, func(ctx context.Context, peer, _ string, o Options) (Result, error) {
			return pingLimit(ctx, peer, d.depth, o)
		}})
	}
	return append(list, Limit{"append 200 B + fdatasync", syncLimit})
}

// ServePeer is the other end of the TCP limits, until l is closed: a connection that begins with 's' is
// drained, all else is sent back.
func ServePeer(l net.Listener) error {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go servePeer(c)
	}
}

func servePeer(c net.Conn) {
	// The peer sees what goes wrong, as a connection that ends.
	defer func() { _ = c.Close() }()
	b := make([]byte, streamSize)
	if _, err := io.ReadFull(c, b[:1]); err != nil {
		return
	}
	drain := b[0] == 's'
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if !drain {
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
		}
	}
}

func dialPeer(ctx context.Context, peer string, kind byte) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", peer)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write([]byte{kind}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func streamLimit(ctx context.Context, peer, _ string, o Options) (Result, error) {
	o.setDefaults()
	c, err := dialPeer(ctx, peer, 's')
	if err != nil {
		return Result{}, err
	}
	b := make([]byte, streamSize)
	r, err := measure(ctx, []func() error{func() error {
		_, err := c.Write(b)
		return err
	}}, &o)
	r.Rate, r.Unit = r.Rate*streamSize/1e6, "MB/s"
	return r, errors.Join(err, c.Close())
}

// pingLimit keeps depth messages on their way on one connection. As a good server, both sides write
// all they have with one system call.
func pingLimit(ctx context.Context, peer string, depth int, o Options) (r Result, err error) {
	o.setDefaults()
	c, err := dialPeer(ctx, peer, 'p')
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	b := make([]byte, depth*pingSize)
	if _, err := c.Write(b); err != nil {
		return Result{}, err
	}
	var rounds uint64
	var h hist
	begin := time.Now()
	warm, rest := begin.Add(o.Warm), 0
	for now, sent := begin, begin; o.Rounds == 0 && now.Before(warm.Add(o.Time)) || o.Rounds > 0 && rounds < uint64(o.Rounds); {
		n, err := c.Read(b)
		if err != nil {
			return Result{}, err
		}
		now = time.Now()
		if rest += n; now.After(warm) || o.Rounds > 0 {
			rounds += uint64(rest / pingSize)
			h.add(now.Sub(sent))
		} else {
			begin = now
		}
		rest %= pingSize
		sent = now
		if _, err := c.Write(b[:n]); err != nil {
			return Result{}, err
		}
	}
	r = Result{Rounds: rounds, Elapsed: time.Since(begin), Unit: "/s", P50: h.quantile(0.5), P90: h.quantile(0.9), P99: h.quantile(0.99), Max: h.max}
	r.Rate = float64(rounds) / r.Elapsed.Seconds()
	return r, ctx.Err()
}

func syncLimit(ctx context.Context, _, dir string, o Options) (r Result, err error) {
	o.setDefaults()
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	b := make([]byte, 200)
	return measure(ctx, []func() error{func() error {
		if _, err := f.Write(b); err != nil {
			return err
		}
		return again(func() error { return unix.Fdatasync(int(f.Fd())) })
	}}, &o)
}
