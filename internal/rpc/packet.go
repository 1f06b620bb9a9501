package rpc

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// RPC over datagrams, RFC 5531 section 10: a message is a datagram, without a record mark. Here a peer's datagrams
// become a stream, one end of a net.Pipe, so that all the rest is as for TCP. Datagrams may be lost: who calls must
// call again.

const (
	maxDatagram = 65507
	// packetPeers is how many peers are remembered at once; the one that was silent longest makes room.
	packetPeers = 256
	// packetQueue is how many datagrams of a peer wait to be read; more are dropped, as a full socket drops them.
	packetQueue = 64
	// packetIdle is how long a silent peer is remembered.
	packetIdle = 30 * time.Second
)

// packetStream is the stream of one peer.
type packetStream struct {
	net.Conn // our end
	remote   net.Addr
	local    net.Addr

	in   chan []byte
	done chan struct{}
	once sync.Once
	far  net.Conn // the other end
	seen time.Time
}

func newPacketStream(remote, local net.Addr, send func([]byte) error) *packetStream {
	s := &packetStream{remote: remote, local: local, in: make(chan []byte, packetQueue), done: make(chan struct{})}
	s.Conn, s.far = net.Pipe()
	go s.pumpIn()
	go s.pumpOut(send)
	return s
}

// RemoteAddr is the peer.
func (s *packetStream) RemoteAddr() net.Addr { return s.remote }

// LocalAddr is the socket.
func (s *packetStream) LocalAddr() net.Addr { return s.local }

// Close ends both ends.
func (s *packetStream) Close() error {
	s.once.Do(func() { close(s.done) })
	return errors.Join(s.Conn.Close(), s.far.Close())
}

// got takes a datagram, unless too many wait.
func (s *packetStream) got(b []byte) {
	select {
	case s.in <- b:
	default:
	}
}

// pumpIn makes records of datagrams.
func (s *packetStream) pumpIn() {
	for {
		select {
		case b := <-s.in:
			rec := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), lastFragment|uint32(len(b)))
			if _, err := s.far.Write(append(rec, b...)); err != nil {
				return
			}
		case <-s.done:
			return
		}
	}
}

// pumpOut makes datagrams of records. One that is too large for a datagram, or that cannot be sent, is lost.
func (s *packetStream) pumpOut(send func([]byte) error) {
	r := bufio.NewReader(s.far)
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		n := int64(binary.BigEndian.Uint32(head[:]) &^ lastFragment)
		if n > maxDatagram {
			if _, err := io.CopyN(io.Discard, r, n); err != nil {
				return
			}
			continue
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		_ = send(b) // the peer asks again
	}
}

// ServePacket serves the datagrams of pc until ctx ends or the server is shut down, and closes pc. options is as
// for Serve, but a silent peer is soon forgotten.
func (s *Server) ServePacket(ctx context.Context, pc net.PacketConn, options func(net.Conn) (Options, error)) error {
	stop := context.AfterFunc(ctx, func() { _ = pc.Close() })
	defer stop()
	defer pc.Close()
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return ErrServerClosed
	}
	if s.packets == nil {
		s.packets = make(map[net.PacketConn]struct{})
	}
	s.packets[pc] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.packets, pc)
		s.mu.Unlock()
	}()

	var mu sync.Mutex
	peers := make(map[string]*packetStream)
	buf := make([]byte, maxDatagram+1)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			s.mu.Lock()
			stopped := s.stopped
			s.mu.Unlock()
			switch {
			case stopped:
				return ErrServerClosed
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case errors.Is(err, net.ErrClosed):
				return err
			}
			continue // an ICMP error of an earlier reply
		}
		key := from.String()
		mu.Lock()
		p := peers[key]
		if p == nil {
			if len(peers) >= packetPeers {
				oldest(peers).Close()
			}
			p = newPacketStream(from, pc.LocalAddr(), func(b []byte) error {
				_, err := pc.WriteTo(b, from)
				return err
			})
			peers[key] = p
			mu.Unlock()
			s.accept(p, func(nc net.Conn) (Options, error) {
				o, err := options(nc)
				o.IdleTimeout = packetIdle
				onClose := o.OnClose
				o.OnClose = func(err error) {
					_ = p.Close()
					mu.Lock()
					if peers[key] == p {
						delete(peers, key)
					}
					mu.Unlock()
					if onClose != nil {
						onClose(err)
					}
				}
				return o, err
			})
			mu.Lock()
			if peers[key] == p && p.closed() { // refused
				delete(peers, key)
			}
		}
		p.seen = time.Now()
		mu.Unlock()
		p.got(append([]byte(nil), buf[:n]...))
	}
}

func (s *packetStream) closed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// oldest takes the peer that was silent longest out of the map.
func oldest(peers map[string]*packetStream) *packetStream {
	var key string
	for k, p := range peers {
		if key == "" || p.seen.Before(peers[key].seen) {
			key = k
		}
	}
	p := peers[key]
	delete(peers, key)
	return p
}

// NewPacketClient makes a Conn of a connected datagram socket, which it owns from then on.
func NewPacketClient(nc net.Conn, opts Options) *Conn {
	p := newPacketStream(nc.RemoteAddr(), nc.LocalAddr(), func(b []byte) error {
		_, err := nc.Write(b)
		return err
	})
	onClose := opts.OnClose
	opts.OnClose = func(err error) {
		_ = p.Close()
		_ = nc.Close()
		if onClose != nil {
			onClose(err)
		}
	}
	go func() {
		buf := make([]byte, maxDatagram+1)
		for !p.closed() {
			n, err := nc.Read(buf)
			switch {
			case err == nil:
				p.got(append([]byte(nil), buf[:n]...))
			case errors.Is(err, net.ErrClosed):
				return
			default: // nobody listens there, says ICMP
				_ = p.Close()
			}
		}
		_ = nc.Close()
	}()
	return NewConn(p, opts)
}
