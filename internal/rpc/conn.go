package rpc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/xdr"
)

// Options are the settings of a connection. Zero values mean the defaults; a negative time means none.
type Options struct {
	// MaxRecord is the size in bytes of the largest record that is read, by default 1 MiB + 64 KiB.
	// A larger one ends the connection.
	MaxRecord int

	// Handler serves the calls of the peer. Without one they get PROG_UNAVAIL.
	Handler Handler

	// MaxInflight is how many calls are served at once, by default 256, until their replies are written.
	// Beyond it reading pauses, replies to our own calls included: where handlers wait for such
	// replies, as a recall of a delegation does, it must be more than the slots of the sessions.
	MaxInflight int

	// MaxHeld is how many bytes the calls that are being served and the replies that wait to be
	// written may take before reading pauses, by default 32 MiB. One more call and its reply, and the
	// replies to those being served, come on top.
	MaxHeld int

	// IdleTimeout ends a connection on which no call was read, is served or awaits its answer. Default: none.
	IdleTimeout time.Duration

	// ReadTimeout is how long a record may take from its first byte to its last. Default: 60 s.
	ReadTimeout time.Duration

	// WriteTimeout is how long a MiB of output may take. Default: 60 s.
	WriteTimeout time.Duration

	// OnClose, if set, is called once when the connection has ended and nothing is read from it any
	// more, with the reason: io.EOF if the peer closed it, ErrClosed if we did. Handlers may still
	// run; their context has ended.
	OnClose func(error)
}

func (o *Options) setDefaults() {
	if o.MaxRecord <= 0 {
		o.MaxRecord = 1<<20 + 64<<10
	}
	if o.MaxInflight <= 0 {
		o.MaxInflight = 256
	}
	if o.MaxHeld <= 0 {
		o.MaxHeld = 32 << 20
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = time.Minute
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = time.Minute
	}
}

// keepWorkers is how many idle workers stay for the next calls.
const keepWorkers = 32

// A Conn is a connection on which both sides can call. Its methods are safe for concurrent use.
type Conn struct {
	nc     net.Conn
	opts   Options
	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when err is set
	wake   chan struct{} // of one: there is something in out
	work   chan *InCall  // to idle workers
	xid    atomic.Uint32
	idle   atomic.Int32 // workers waiting for work

	// Of the reader only.
	lastCred      Cred
	lastCredBytes []byte // what lastCred was parsed from
	idleSet       time.Time
	active        time.Time

	// mu guards what follows. It is never held across I/O, nor when code of others runs.
	mu       sync.Mutex
	cond     sync.Cond // on mu: inflight or held sank, the queue is empty, err is set
	err      error     // what ended the connection
	draining bool
	pending  map[uint32]*pendingCall
	out      []*outMsg // from outHead
	outHead  int
	writing  bool
	inflight int // calls being served, or whose replies wait
	held     int // bytes of both
}

// NewConn makes a Conn of a stream, which it owns from then on, and starts its goroutines.
func NewConn(nc net.Conn, opts Options) *Conn {
	c := newConn(nc, opts)
	c.start()
	return c
}

func newConn(nc net.Conn, opts Options) *Conn {
	opts.setDefaults()
	c := &Conn{
		nc:      nc,
		opts:    opts,
		done:    make(chan struct{}),
		wake:    make(chan struct{}, 1),
		work:    make(chan *InCall),
		pending: make(map[uint32]*pendingCall),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.cond.L = &c.mu
	// Not what an earlier connection from the same port used: duplicate request caches go by it.
	c.xid.Store(rand.Uint32())
	return c
}

func (c *Conn) start() {
	go c.readLoop()
	go c.writeLoop()
}

// RemoteAddr is the address of the peer.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// LocalAddr is our own address.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// Done is closed when the connection has died. Err then tells why.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is what ended the connection, or nil.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Context ends with the connection.
func (c *Conn) Context() context.Context { return c.ctx }

// Close ends the connection at once. Calls without an answer get a *ConnError.
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	return nil
}

// CloseWithError is Close with a reason, for the log.
func (c *Conn) CloseWithError(err error) { c.fail(err) }

// Shutdown reads no more calls, waits until those being served are answered, and closes. If ctx ends
// before that, it closes at once and returns the cause.
func (c *Conn) Shutdown(ctx context.Context) error {
	c.mu.Lock()
	c.draining = true
	// The reader returns from its read. An error means that the connection is dead already.
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	c.cond.Broadcast()
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cond.Broadcast()
	})
	defer stop()
	for c.err == nil && ctx.Err() == nil && (c.inflight > 0 || c.outHead < len(c.out) || c.writing) {
		c.cond.Wait()
	}
	busy := c.err == nil && ctx.Err() != nil
	c.mu.Unlock()
	c.fail(ErrClosed)
	if busy {
		return context.Cause(ctx)
	}
	return nil
}

// fail ends the connection, once.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	for _, pc := range c.pending {
		sent := pc.msg == nil || pc.msg.taken
		pc.answer <- answer{err: &ConnError{Sent: sent, Err: err}}
	}
	c.pending = nil
	unsent := c.out[c.outHead:]
	c.out, c.outHead = nil, 0
	close(c.done)
	c.cond.Broadcast()
	c.mu.Unlock()

	c.cancel(err)
	// Nobody can do anything about an error here.
	_ = c.nc.Close()
	c.letGo(unsent)
}

// served takes calls and bytes off what is held.
func (c *Conn) served(calls, bytes int) {
	if calls == 0 && bytes == 0 {
		return
	}
	c.mu.Lock()
	c.inflight -= calls
	c.held -= bytes
	c.cond.Broadcast()
	c.mu.Unlock()
}

// admit waits until one more call may be served, and counts it. It fails when the connection has died.
func (c *Conn) admit(bytes int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && (c.inflight >= c.opts.MaxInflight || c.held >= c.opts.MaxHeld) {
		c.cond.Wait()
	}
	if c.err != nil {
		return c.err
	}
	c.inflight++
	c.held += bytes
	return nil
}

// errDraining ends the reader, not the connection.
var errDraining = errors.New("rpc: shutting down")

func (c *Conn) readLoop() {
	r := &recordReader{
		br:    bufio.NewReaderSize(c.nc, readBuffer),
		max:   c.opts.MaxRecord,
		idle:  c.waitIdle,
		begun: c.waitRecord,
	}
	err := c.readRecords(r)
	if err == errDraining {
		<-c.done
	} else {
		c.fail(err)
	}
	if c.opts.OnClose != nil {
		c.opts.OnClose(c.Err())
	}
}

func (c *Conn) readRecords(r *recordReader) error {
	c.active = time.Now()
	for {
		rec, err := r.next()
		if err != nil {
			if err = c.readError(err); err != nil {
				return err
			}
			continue
		}
		if c.opts.IdleTimeout > 0 {
			c.active = time.Now()
		}
		if err := c.received(rec); err != nil {
			return err
		}
	}
}

// readError judges an error of the reader: nil means to go on.
func (c *Conn) readError(err error) error {
	c.mu.Lock()
	draining := c.draining
	busy := c.inflight > 0 || len(c.pending) > 0
	c.mu.Unlock()
	switch {
	case draining:
		return errDraining
	case errors.Is(err, os.ErrDeadlineExceeded) && !c.idleSet.IsZero():
		// The deadline of waiting for a record: nothing of one has been read.
		c.idleSet = time.Time{}
		if busy || time.Since(c.active) < c.opts.IdleTimeout {
			return nil
		}
		return ErrIdle
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: not complete after %v: %w", ErrRecord, c.opts.ReadTimeout, err)
	case errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		if e := c.Err(); e != nil {
			return e
		}
	}
	return err
}

// waitIdle sets the deadline for the beginning of a record.
func (c *Conn) waitIdle() error {
	now := time.Now()
	if c.opts.IdleTimeout <= 0 {
		// None, but that of a record that took its time must not stay.
		if c.idleSet.IsZero() {
			c.idleSet = now
			return c.setReadDeadline(time.Time{})
		}
		return nil
	}
	if now.Sub(c.idleSet) > c.opts.IdleTimeout/8 {
		c.idleSet = now
		return c.setReadDeadline(now.Add(c.opts.IdleTimeout))
	}
	return nil
}

// waitRecord sets the deadline for the end of a record.
func (c *Conn) waitRecord() error {
	c.idleSet = time.Time{}
	if c.opts.ReadTimeout <= 0 {
		return c.setReadDeadline(time.Time{})
	}
	return c.setReadDeadline(time.Now().Add(c.opts.ReadTimeout))
}

func (c *Conn) setReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining {
		return errDraining
	}
	return c.nc.SetReadDeadline(t)
}

// received deals with a record. An error ends the connection: what comes next cannot be trusted.
func (c *Conn) received(rec *Buffer) error {
	var dec xdr.Codec
	dec.ResetDecoder(rec.B)
	var xid, kind uint32
	dec.Uint32(&xid)
	dec.Uint32(&kind)
	switch {
	case dec.Err() != nil:
		rec.Free()
		return fmt.Errorf("%w: %d bytes are no message", ErrRecord, len(rec.B))
	case kind == msgReply:
		c.answered(xid, rec)
		return nil
	case kind != msgCall:
		rec.Free()
		return fmt.Errorf("%w: message of type %d", ErrRecord, kind)
	}
	ic := &InCall{Xid: xid, conn: c, rec: rec, charged: len(rec.B), body: dec}
	ic.Body = &ic.body
	if err := c.admit(ic.charged); err != nil {
		rec.Free()
		return err
	}
	c.begin(ic)
	return nil
}

// begin decodes the header of a call and gives it to a worker, or rejects it.
func (c *Conn) begin(ic *InCall) {
	var vers, credFlavor, verfFlavor uint32
	var cred, verf []byte
	d := ic.Body
	d.Uint32(&vers)
	if d.Err() == nil && vers != rpcVersion {
		_ = ic.deny(deniedMismatch, rpcVersion, rpcVersion)
		ic.end(0)
		return
	}
	d.Uint32(&ic.Prog)
	d.Uint32(&ic.Vers)
	d.Uint32(&ic.Proc)
	d.Uint32(&credFlavor)
	if d.Err() != nil {
		_ = ic.Error(GARBAGE_ARGS, 0, 0)
		ic.end(0)
		return
	}
	stat := AUTH_BADCRED
	if d.Opaque(&cred, MaxAuth); d.Err() == nil {
		if ic.Cred, stat = c.cred(credFlavor, cred); stat == AUTH_OK {
			d.Uint32(&verfFlavor)
			if d.Opaque(&verf, MaxAuth); d.Err() != nil {
				stat = AUTH_BADVERF
			}
		}
	}
	switch {
	case stat != AUTH_OK:
		_ = ic.AuthError(stat)
		ic.end(0)
	case c.opts.Handler == nil:
		_ = ic.Error(PROG_UNAVAIL, 0, 0)
		ic.end(0)
	default:
		select {
		case c.work <- ic:
		default:
			go c.worker(ic)
		}
	}
}

// cred is ParseCred, which it spares when the credential is that of the call before.
func (c *Conn) cred(flavor uint32, body []byte) (Cred, AuthStat) {
	if flavor == AUTH_SYS && c.lastCred.Flavor == AUTH_SYS && bytes.Equal(body, c.lastCredBytes) {
		return c.lastCred, AUTH_OK
	}
	cred, stat := ParseCred(flavor, body)
	if stat == AUTH_OK && flavor == AUTH_SYS {
		c.lastCred, c.lastCredBytes = cred, append(c.lastCredBytes[:0], body...)
	}
	return cred, stat
}

// worker serves a call, and stays for more unless enough others do.
func (c *Conn) worker(ic *InCall) {
	for {
		ic.serve()
		if c.idle.Add(1) > keepWorkers {
			c.idle.Add(-1)
			return
		}
		select {
		case ic = <-c.work:
			c.idle.Add(-1)
		case <-c.done:
			return
		}
	}
}
