// Package faultnet is a network that breaks on command: a TCP relay whose connections can be cut, reset,
// stalled in one direction or in both, and made slow.
//
// A stall is what a partition looks like to TCP: nothing arrives, nothing fails, and what was sent arrives
// late, after the partition, which is what a fence must stand. A cut is a host that is gone or a
// firewall that answers: connections end, and new ones are refused.
package faultnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// A Fault is what is wrong with a link.
type Fault struct {
	Cut bool // connections end at once, and new ones as soon as they are made
	// StallUp and StallDown hold what goes to the target, and what comes from it. New connections are
	// made, and silent.
	StallUp, StallDown bool
	Delay              time.Duration // of each piece, in either direction; no less bandwidth
}

// A Link is a relay to a target. All methods may be called at once.
type Link struct {
	target string
	ln     net.Listener
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	fault   Fault                 // guarded by mu
	changed chan struct{}         // guarded by mu; closed when fault changes
	conns   map[net.Conn]struct{} // guarded by mu; both sides of each connection
	cohort  *cohort               // guarded by mu; of the connections that are made now
}

// A cohort is the connections that were made between two calls of Freeze.
type cohort struct{ frozen, thawed chan struct{} }

func newCohort() *cohort { return &cohort{make(chan struct{}), make(chan struct{})} }

// Listen makes a link from a free port of loopback to target.
func Listen(target string) (*Link, error) { return ListenOn("127.0.0.1", target) }

// ListenOn is Listen at another address of this host.
func ListenOn(host, target string) (*Link, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, fmt.Errorf("faultnet: %w", err)
	}
	l := &Link{target: target, ln: ln, changed: make(chan struct{}), cohort: newCohort(), conns: map[net.Conn]struct{}{}}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.wg.Go(l.accept)
	return l, nil
}

// Addr is where to connect to.
func (l *Link) Addr() string { return l.ln.Addr().String() }

// Set sets what is wrong from now on; the zero Fault is a link as it should be.
func (l *Link) Set(f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
	close(l.changed)
	l.changed = make(chan struct{})
	if f.Cut {
		l.hangUp()
	}
}

// Freeze stalls the connections that there are, in both directions, until thaw is called; new ones work. So
// what a host sent before it died arrives when its next life is well under way.
func (l *Link) Freeze() (thaw func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.cohort
	close(old.frozen)
	l.cohort = newCohort()
	return sync.OnceFunc(func() { close(old.thawed) })
}

// Reset ends all connections once; new ones work.
func (l *Link) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hangUp()
}

// hangUp closes all, by RST where TCP lets us. l.mu is held.
func (l *Link) hangUp() {
	for c := range l.conns {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // then Close sends RST; if it is closed already that is all we want
		}
		_ = c.Close()
	}
}

// Close ends the link and all its connections.
func (l *Link) Close() error {
	l.stop()
	err := l.ln.Close()
	l.Reset()
	l.wg.Wait()
	return err
}

func (l *Link) accept() {
	for {
		c, err := l.ln.Accept()
		if err != nil {
			if l.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of descriptors; some will be given back
			continue
		}
		l.wg.Go(func() { l.join(c) })
	}
}

// now is the fault, and a channel that is closed when it is another.
func (l *Link) now() (Fault, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault, l.changed
}

// keep notes a connection so that hangUp ends it; false if there are to be none.
func (l *Link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault.Cut || l.ctx.Err() != nil {
		_ = c.Close()
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *Link) drop(c net.Conn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	_ = c.Close()
}

func (l *Link) join(c net.Conn) {
	if !l.keep(c) {
		return
	}
	defer l.drop(c)
	l.mu.Lock()
	mates := l.cohort
	l.mu.Unlock()
	// A SYN does not cross a stalled link either.
	if !l.pass(mates, func(f Fault) bool { return f.StallUp || f.StallDown }) {
		return
	}
	var d net.Dialer
	t, err := d.DialContext(l.ctx, "tcp", l.target)
	if err != nil {
		return // the client sees its connection end, as if it were refused
	}
	if !l.keep(t) {
		return
	}
	defer l.drop(t)
	done := make(chan struct{}, 2)
	for _, way := range []struct {
		from, to net.Conn
		stalled  func(Fault) bool
	}{
		{c, t, func(f Fault) bool { return f.StallUp }},
		{t, c, func(f Fault) bool { return f.StallDown }},
	} {
		l.wg.Go(func() {
			l.forward(mates, way.from, way.to, way.stalled)
			done <- struct{}{}
		})
	}
	<-done // an end in one direction ends both; what is on its way in the other is lost, as in a reset
}

// piece is bytes that are on their way.
type piece struct {
	b   []byte
	due time.Time
}

// forward relays one direction until an end breaks.
func (l *Link) forward(mates *cohort, from, to net.Conn, stalled func(Fault) bool) {
	pieces := make(chan piece, 256)
	gone := make(chan struct{})
	defer close(gone)
	l.wg.Go(func() {
		defer close(pieces)
		for {
			b := make([]byte, 64<<10)
			n, err := from.Read(b)
			if n > 0 {
				f, _ := l.now()
				select {
				case pieces <- piece{b[:n], time.Now().Add(f.Delay)}:
				case <-gone:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	for p := range pieces {
		if !l.pass(mates, stalled) || !l.sleep(time.Until(p.due)) {
			return
		}
		if _, err := to.Write(p.b); err != nil {
			return
		}
	}
	l.pass(mates, stalled) // neither does a FIN
}

// pass waits while the link is stalled; false if it was cut or closed meanwhile.
func (l *Link) pass(mates *cohort, stalled func(Fault) bool) bool {
	for {
		select {
		case <-mates.frozen:
			select {
			case <-mates.thawed:
			case <-l.ctx.Done():
				return false
			}
		default:
		}
		f, changed := l.now()
		if f.Cut {
			return false
		}
		if !stalled(f) {
			return l.ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-l.ctx.Done():
			return false
		}
	}
}

func (l *Link) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}
