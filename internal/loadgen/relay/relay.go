// Package relay is a TCP relay that makes a connection longer: what comes in at one end goes out at the
// other after half of a round-trip time, in order and complete, and as fast as it came. So it is a
// long link, not a narrow one.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Memory of each direction of a connection: no more bytes are on their way. It bounds throughput to
// window / (RTT / 2), 6.7 GB/s at 20 ms.
const window = 64 << 20

// chunk is the most that is read at once, in bytes.
const chunk = 256 << 10

// A Relay forwards connections to a target.
type Relay struct {
	Target string // host:port

	rtt      atomic.Int64
	up, down atomic.Int64
}

// Bytes is what was passed on so far, to the target and from it.
func (r *Relay) Bytes() (up, down int64) { return r.up.Load(), r.down.Load() }

// Start relays from a free port of the loopback, addr, to target. stop ends that, and says how it went.
func Start(target string, rtt time.Duration) (r *Relay, addr string, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, err
	}
	r = &Relay{Target: target}
	r.SetRTT(rtt)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, l) }()
	return r, l.Addr().String(), func() error { cancel(); return <-done }, nil
}

// SetRTT sets the round-trip time that is added, at least 0. What is on its way already keeps its time.
func (r *Relay) SetRTT(d time.Duration) { r.rtt.Store(int64(max(d, 0))) }

// Serve relays the connections that l accepts until ctx ends, and closes them and l.
func (r *Relay) Serve(ctx context.Context, l net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // Accept tells
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("relay: %w", err)
		}
		wg.Go(func() { r.connect(ctx, c) })
	}
}

// connect relays one connection. If the target cannot be reached it ends at once, as a refused one does.
func (r *Relay) connect(ctx context.Context, c net.Conn) {
	var d net.Dialer
	t, err := d.DialContext(ctx, "tcp", r.Target)
	if err != nil {
		_ = c.Close()
		return
	}
	r.Join(ctx, c, t)
}

// Join relays between a and b, the target's end, until both directions have ended or ctx has, and closes both.
func (r *Relay) Join(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() { _, _ = a.Close(), b.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { r.forward(a, b, &r.up) })
	wg.Go(func() { r.forward(b, a, &r.down) })
	wg.Wait()
	_, _ = a.Close(), b.Close()
}

// A piece is bytes on their way.
type piece struct {
	b   []byte
	due time.Time
}

// forward is one direction, until from ends or to does not take it.
func (r *Relay) forward(from, to net.Conn, count *atomic.Int64) {
	q := &queue{}
	q.cond.L = &q.mu
	go func() {
		defer q.end()
		for q.room() {
			b := pool.Get().(*[]byte)
			n, err := from.Read(*b)
			if n > 0 {
				q.put(piece{(*b)[:n], time.Now().Add(time.Duration(r.rtt.Load() / 2))})
			}
			if err != nil {
				return
			}
		}
	}()
	for p, ok := q.get(); ok; p, ok = q.get() {
		if d := time.Until(p.due); d > 0 {
			time.Sleep(d)
		}
		if _, err := to.Write(p.b); err != nil {
			// The other end is gone: so is this one, as soon as it notices.
			q.stop()
			_ = from.Close()
			return
		}
		count.Add(int64(len(p.b)))
		full := p.b[:cap(p.b)]
		pool.Put(&full)
		q.done(len(p.b))
	}
	halfClose(to)
}

var pool = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

// halfClose passes on that nothing follows.
func halfClose(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
		return
	}
	if h, ok := c.(io.Closer); ok {
		_ = h.Close()
	}
}

// A queue is what is on its way in one direction.
type queue struct {
	mu      sync.Mutex
	cond    sync.Cond // on mu
	pieces  []piece
	held    int // bytes that are not written yet
	ended   bool
	stopped bool
}

// room waits until there is room. It is false when nobody writes any more.
func (q *queue) room() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.held >= window && !q.stopped {
		q.cond.Wait()
	}
	return !q.stopped
}

func (q *queue) put(p piece) {
	q.mu.Lock()
	q.pieces = append(q.pieces, p)
	q.held += len(p.b)
	q.mu.Unlock()
	q.cond.Broadcast()
}

// get waits for the next piece; false means that there are no more.
func (q *queue) get() (piece, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.pieces) == 0 && !q.ended {
		q.cond.Wait()
	}
	if len(q.pieces) == 0 {
		return piece{}, false
	}
	p := q.pieces[0]
	q.pieces[0] = piece{}
	q.pieces = q.pieces[1:]
	return p, true
}

func (q *queue) done(n int) {
	q.mu.Lock()
	q.held -= n
	q.mu.Unlock()
	q.cond.Broadcast()
}

func (q *queue) end() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	q.cond.Broadcast()
}

func (q *queue) stop() {
	q.mu.Lock()
	q.stopped = true
	q.mu.Unlock()
	q.cond.Broadcast()
}
