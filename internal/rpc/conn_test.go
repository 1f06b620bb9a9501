package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"holdfast/internal/xdr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	procNull  = 0
	procEcho  = 1 // an opaque comes back
	procBlock = 2 // waits for ctx or for the test
)

var test = Call{Prog: 400000, Vers: 1}

func proc(n uint32) *Call {
	c := test
	c.Proc = n
	return &c
}

// echo answers procNull and procEcho.
func echo(_ context.Context, _ *Conn, call *InCall) {
	var b []byte
	switch call.Proc {
	case procNull:
		_ = call.Reply(nil)
	case procEcho:
		call.Body.Payload(&b, 4<<20)
		if call.Body.Err() != nil {
			_ = call.Error(GARBAGE_ARGS, 0, 0)
			return
		}
		_ = call.Reply(func(c *xdr.Codec) { c.Payload(&b, 4<<20) })
	default:
		_ = call.Error(PROC_UNAVAIL, 0, 0)
	}
}

// pipe returns two ends of a connection in memory, closed at the end of the test.
func pipe(t testing.TB, a, b Options) (*Conn, *Conn) {
	x, y := net.Pipe()
	ca, cb := NewConn(x, a), NewConn(y, b)
	t.Cleanup(func() { ca.Close(); cb.Close() })
	return ca, cb
}

// tcp is pipe over the loopback.
func tcp(t testing.TB, a, b Options) (*Conn, *Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	x, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	y, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ca, cb := NewConn(x, a), NewConn(y, b)
	t.Cleanup(func() { ca.Close(); cb.Close() })
	return ca, cb
}

func callEcho(ctx context.Context, c *Conn, b []byte) ([]byte, error) {
	var got []byte
	err := c.Call(ctx, proc(procEcho), func(e *xdr.Codec) { e.Payload(&b, 4<<20) }, func(d *xdr.Codec) error {
		d.Payload(&got, 4<<20)
		got = bytes.Clone(got)
		return d.Err()
	})
	return got, err
}

func TestEcho(t *testing.T) {
	for name, dial := range map[string]func(testing.TB, Options, Options) (*Conn, *Conn){"pipe": pipe, "tcp": tcp} {
		c, _ := dial(t, Options{MaxRecord: 4 << 20}, Options{MaxRecord: 4 << 20, Handler: HandlerFunc(echo)})
		for _, n := range []int{0, 1, 5000, 65536, 1 << 20, 3 << 20} {
			want := pattern(n)
			got, err := callEcho(t.Context(), c, want)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes came back as %d, %v", name, n, len(got), err)
			}
		}
	}
}

func TestAnswers(t *testing.T) {
	var cred Cred
	h := HandlerFunc(func(_ context.Context, _ *Conn, call *InCall) {
		cred = call.Cred
		switch call.Proc {
		case 1:
			_ = call.Error(PROG_MISMATCH, 3, 4)
		case 2:
			_ = call.AuthError(AUTH_TOOWEAK)
		case 3: // no answer
		case 4:
			if call.Reply(func(c *xdr.Codec) { c.Failf("broken") }) == nil {
				t.Error("Reply hides the error of encode")
			}
		case 5:
			_ = call.Reply(nil)
			if err := call.Reply(nil); err != ErrReplied {
				t.Errorf("a second Reply: %v", err)
			}
			if err := call.AuthError(AUTH_FAILED); err != ErrReplied {
				t.Errorf("AuthError after Reply: %v", err)
			}
		case 6:
			_ = call.Reply(func(c *xdr.Codec) { c.Fixed(make([]byte, 4)) })
		}
	})
	c, _ := pipe(t, Options{}, Options{Handler: h})
	for _, tc := range []struct {
		proc uint32
		want string
	}{
		{1, "rpc: peer has versions 3 to 4 only"},
		{2, "rpc: peer rejects the credential: AUTH_TOOWEAK"},
		{3, "rpc: peer answers SYSTEM_ERR"},
		{4, "rpc: peer answers SYSTEM_ERR"},
		{5, ""},
		{6, "xdr: record too short"},
	} {
		call := proc(tc.proc)
		call.Cred = Cred{Flavor: AUTH_SYS, UID: 5, Machine: "m"}
		err := c.Call(t.Context(), call, nil, func(d *xdr.Codec) error {
			if tc.proc == 6 {
				d.Fixed(make([]byte, 8))
			}
			return d.Err()
		})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("procedure %d: %q, want %q", tc.proc, got, tc.want)
		}
		if cred.UID != 5 || cred.Machine != "m" {
			t.Errorf("procedure %d was called by %+v", tc.proc, cred)
		}
	}
	if err := c.Call(t.Context(), proc(5), func(e *xdr.Codec) { e.Failf("broken") }, nil); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("arguments that cannot be encoded: %v", err)
	}
	none, _ := pipe(t, Options{}, Options{})
	var accept *AcceptError
	if err := none.Call(t.Context(), proc(0), nil, nil); !errors.As(err, &accept) || accept.Stat != PROG_UNAVAIL {
		t.Errorf("without a handler: %v", err)
	}
}

// TestMultiplexing: answers in another order than the calls reach their callers.
func TestMultiplexing(t *testing.T) {
	const n = 64
	var mu sync.Mutex
	var waiting []*InCall
	all := make(chan struct{})
	h := HandlerFunc(func(ctx context.Context, conn *Conn, call *InCall) {
		mu.Lock()
		waiting = append(waiting, call)
		last := len(waiting) == n
		mu.Unlock()
		if last {
			close(all)
		}
		<-all
		mu.Lock()
		defer mu.Unlock()
		echo(ctx, conn, call)
	})
	c, _ := tcp(t, Options{}, Options{Handler: h})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			want := pattern(100 * i)
			if got, err := callEcho(t.Context(), c, want); err != nil || !bytes.Equal(got, want) {
				t.Errorf("call %d: %d bytes came back as %d, %v", i, len(want), len(got), err)
			}
		})
	}
	wg.Wait()
}

// TestBothDirections: while a call is served, its handler calls back on the same connection.
func TestBothDirections(t *testing.T) {
	server := HandlerFunc(func(ctx context.Context, conn *Conn, call *InCall) {
		var b []byte
		call.Body.Payload(&b, 1<<20)
		got, err := callEcho(ctx, conn, b)
		if err != nil {
			t.Error(err)
		}
		_ = call.Reply(func(c *xdr.Codec) { c.Payload(&got, 1<<20) })
	})
	c, _ := tcp(t, Options{Handler: HandlerFunc(echo)}, Options{Handler: server})
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			want := pattern(i * 3000)
			if got, err := callEcho(t.Context(), c, want); err != nil || !bytes.Equal(got, want) {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// TestRelease: payloads are given back after they were written, and when they never will be.
func TestRelease(t *testing.T) {
	var released atomic.Int32
	dropped := make(chan struct{})
	h := HandlerFunc(func(_ context.Context, _ *Conn, call *InCall) {
		buf := GetBuffer(1 << 20)
		for i := range buf.B {
			buf.B[i] = byte(call.Proc)
		}
		call.Release(func() {
			clear(buf.B) // whoever still reads it sees that
			buf.Free()
			released.Add(1)
		})
		switch call.Proc {
		case 200:
			call.Drop()
			close(dropped)
		case 201:
			_ = call.Error(SYSTEM_ERR, 0, 0)
		default:
			_ = call.Reply(func(c *xdr.Codec) { c.Payload(&buf.B, 1<<20) })
		}
	})
	c, s := tcp(t, Options{}, Options{Handler: h})
	var wg sync.WaitGroup
	for i := range uint32(16) {
		wg.Go(func() {
			err := c.Call(t.Context(), proc(i+1), nil, func(d *xdr.Codec) error {
				var b []byte
				d.Payload(&b, 1<<20)
				if len(b) != 1<<20 || bytes.Count(b, []byte{byte(i + 1)}) != len(b) {
					t.Errorf("payload %d was changed", i+1)
				}
				return d.Err()
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() { _ = c.Call(ctx, proc(200), nil, nil) })
	if err := c.Call(t.Context(), proc(201), nil, nil); err == nil {
		t.Error("no error")
	}
	<-dropped
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	wg.Wait()
	if n := released.Load(); n != 18 {
		t.Errorf("%d buffers were given back, want 18", n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != 0 || s.inflight != 0 {
		t.Errorf("at the end %d bytes are held and %d calls in flight", s.held, s.inflight)
	}
}

func TestConnectionDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		reasons := make(chan error, 2)
		h := HandlerFunc(func(ctx context.Context, _ *Conn, call *InCall) {
			<-ctx.Done()
			ended.Add(1)
		})
		c, s := pipe(t, Options{OnClose: func(err error) { reasons <- err }}, Options{Handler: h, OnClose: func(err error) { reasons <- err }})
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				var ce *ConnError
				if err := c.Call(t.Context(), proc(procBlock), nil, nil); !errors.As(err, &ce) || !ce.Sent || !errors.Is(err, io.EOF) {
					t.Errorf("a call that was sent: %v", err)
				}
			})
		}
		synctest.Wait()
		s.Close()
		wg.Wait()
		<-c.Done()
		synctest.Wait()
		if ended.Load() != 5 {
			t.Errorf("the context of %d of 5 handlers ended", ended.Load())
		}
		var ce *ConnError
		if err := c.Call(t.Context(), proc(procBlock), nil, nil); !errors.As(err, &ce) || ce.Sent {
			t.Errorf("a call on a dead connection: %v", err)
		}
		a, b := <-reasons, <-reasons
		if !(a == ErrClosed && b == io.EOF || a == io.EOF && b == ErrClosed) {
			t.Errorf("OnClose was told %v and %v", a, b)
		}
	})
}

// TestUnsent: of the calls that a dead connection leaves, those not yet written say so.
func TestUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := net.Pipe() // nobody reads at y
		c := NewConn(x, Options{})
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = c.Call(t.Context(), proc(0), nil, nil) })
			synctest.Wait()
		}
		c.Close()
		wg.Wait()
		for i, err := range errs {
			var ce *ConnError
			if !errors.As(err, &ce) || ce.Sent != (i == 0) || !errors.Is(err, ErrClosed) {
				t.Errorf("call %d: %#v", i, err)
			}
		}
		y.Close()
	})
}

// TestAbandon: a call whose context ends is forgotten, before it is sent and after, and its payload is
// not used any more.
func TestAbandon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := net.Pipe()
		c := NewConn(x, Options{})
		big := pattern(100000)
		encode := func(e *xdr.Codec) { e.Payload(&big, 1<<20) }
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		var first, second error
		done := make(chan int, 2)
		go func() { first = c.Call(ctx, proc(1), encode, nil); done <- 1 }()
		synctest.Wait() // the writer is stuck in the first
		go func() { second = c.Call(ctx, proc(2), encode, nil); done <- 2 }()
		synctest.Wait()
		cancel(cause)
		synctest.Wait()
		if n := <-done; n != 2 || second != cause {
			t.Fatalf("call %d returned first: %v", n, second)
		}
		select {
		case <-done:
			t.Fatal("a call returned while its payload was being written")
		default:
		}
		r := newReader(y, 1<<20)
		rec, err := r.next()
		if err != nil || !bytes.Contains(rec.B, big) {
			t.Fatalf("the first call came broken: %v", err)
		}
		<-done
		if first != cause {
			t.Errorf("first call: %v", first)
		}
		// Its answer comes, and nobody minds; the next call is the next that is sent.
		xid := binary.BigEndian.Uint32(rec.B)
		rec.Free()
		reply := func(xid uint32) {
			e := xdr.NewEncoder(nil)
			encodeAccept(e, xid, SUCCESS)
			finish(e)
			if _, err := y.Write(e.Bytes()); err != nil {
				t.Error(err)
			}
		}
		reply(xid)
		go func() { first = c.Call(t.Context(), proc(3), nil, nil); done <- 3 }()
		if rec, err = r.next(); err != nil || rec.B[23] != 3 {
			t.Fatalf("after the abandoned calls came %x, %v", rec.B, err)
		}
		reply(binary.BigEndian.Uint32(rec.B))
		rec.Free()
		<-done
		if first != nil {
			t.Errorf("a call after abandoned ones: %v", first)
		}
		c.Close()
		y.Close()
	})
}

func TestDeadContext(t *testing.T) {
	c, _ := pipe(t, Options{}, Options{Handler: HandlerFunc(echo)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Call(ctx, proc(0), nil, nil); err != context.Canceled {
		t.Error(err)
	}
}

// TestInflight: no more calls are served at once than the options say, and all are in the end.
func TestInflight(t *testing.T) {
	for _, o := range []Options{{MaxInflight: 3}, {MaxHeld: 3000}} {
		synctest.Test(t, func(t *testing.T) {
			var now, most, served int32
			release := make(chan struct{})
			h := HandlerFunc(func(_ context.Context, _ *Conn, call *InCall) {
				n := atomic.AddInt32(&now, 1)
				for m := atomic.LoadInt32(&most); n > m && !atomic.CompareAndSwapInt32(&most, m, n); m = atomic.LoadInt32(&most) {
				}
				<-release
				atomic.AddInt32(&now, -1)
				atomic.AddInt32(&served, 1)
				_ = call.Reply(nil)
			})
			o.Handler = h
			c, _ := pipe(t, Options{}, o)
			arg := make([]byte, 950) // a call of about 1000 bytes
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					if err := c.Call(t.Context(), proc(1), func(e *xdr.Codec) { e.Opaque(&arg, 1000) }, nil); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			if most > 4 || most < 3 {
				t.Errorf("%d calls are served at once", most)
			}
			close(release)
			wg.Wait()
			if served != 20 || most > 4 {
				t.Errorf("%d calls were served, %d at once", served, most)
			}
		})
	}
}

// TestSlowRecord: a record must end in ReadTimeout, however steadily it trickles.
func TestSlowRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := net.Pipe()
		c := NewConn(x, Options{ReadTimeout: 10 * time.Second, Handler: HandlerFunc(echo)})
		time.Sleep(time.Hour) // nothing has begun: no timeout
		if c.Err() != nil {
			t.Fatalf("a connection without a record: %v", c.Err())
		}
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, b := range fragment(make([]byte, 1000), true) {
				if _, err := y.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		<-c.Done()
		if d := time.Since(start); d != 10*time.Second || !errors.Is(c.Err(), ErrRecord) {
			t.Errorf("after %v: %v", d, c.Err())
		}
		y.Close()
		wg.Wait()
	})
}

// TestStuckPeer: a peer that does not read is given up after WriteTimeout.
func TestStuckPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := net.Pipe()
		c := NewConn(x, Options{WriteTimeout: 10 * time.Second})
		err := c.Call(t.Context(), proc(0), nil, nil)
		var ce *ConnError
		if !errors.As(err, &ce) || !ce.Sent {
			t.Error(err)
		}
		y.Close()
	})
}

// TestIdle: IdleTimeout counts only while nothing is under way.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := HandlerFunc(func(_ context.Context, _ *Conn, call *InCall) {
			time.Sleep(time.Hour)
			_ = call.Reply(nil)
		})
		c, s := pipe(t, Options{IdleTimeout: time.Minute}, Options{IdleTimeout: time.Minute, Handler: h})
		if err := c.Call(t.Context(), proc(0), nil, nil); err != nil {
			t.Fatalf("a call of an hour: %v", err)
		}
		start := time.Now()
		<-s.Done()
		if d := time.Since(start); d > 3*time.Minute || !errors.Is(s.Err(), ErrIdle) && !errors.Is(s.Err(), io.EOF) {
			t.Errorf("idle for %v: %v", d, s.Err())
		}
	})
}

// raw sends bytes to a connection and returns what it answers until it closes, or after n bytes.
func raw(t *testing.T, o Options, in []byte, n int) []byte {
	t.Helper()
	x, y := net.Pipe()
	c := NewConn(x, o)
	defer c.Close()
	go func() { _, _ = y.Write(in) }() // an error shows in what is read
	out := make([]byte, n)
	n, _ = io.ReadFull(y, out)
	y.Close()
	return out[:n]
}

func TestRejected(t *testing.T) {
	const null = "00000000 00000000"
	for _, tc := range []struct{ name, call, want string }{
		{"version 3 of RPC", "00000007 00000000 00000003", "80000018 00000007 00000001 00000001 00000000 00000002 00000002"},
		{"RPCSEC_GSS", "00000007 00000000 00000002 00000001 00000001 00000000 00000006 00000000" + null, "80000014 00000007 00000001 00000001 00000001 00000002"},
		{"AUTH_TLS", "00000007 00000000 00000002 00000001 00000001 00000000 00000007 00000000" + null, "80000014 00000007 00000001 00000001 00000001 00000002"},
		{"an AUTH_SYS without a body", "00000007 00000000 00000002 00000001 00000001 00000000 00000001 00000000" + null, "80000014 00000007 00000001 00000001 00000001 00000001"},
		{"a credential of 404 bytes", "00000007 00000000 00000002 00000001 00000001 00000000 00000001 00000194" + strings.Repeat("00", 404), "80000014 00000007 00000001 00000001 00000001 00000001"},
		{"a verifier cut short", "00000007 00000000 00000002 00000001 00000001 00000000 " + null + "00000000 00000004", "80000014 00000007 00000001 00000001 00000001 00000003"},
		{"a call cut short", "00000007 00000000 00000002 00000001", "80000018 00000007 00000001 00000000 00000000 00000000 00000004"},
		{"a NULL call, for comparison", "00000007 00000000 00000002 00000001 00000001 00000000" + null + null, "80000018 00000007 00000001 00000000 00000000 00000000 00000000"},
	} {
		call, err := hex.DecodeString(strings.ReplaceAll(tc.call, " ", ""))
		if err != nil {
			t.Fatal(tc.name, err)
		}
		want := strings.ReplaceAll(tc.want, " ", "")
		got := hex.EncodeToString(raw(t, Options{Handler: HandlerFunc(echo)}, fragment(call, true), len(want)/2))
		if got != want {
			t.Errorf("%s: got %s, want %s", tc.name, got, want)
		}
	}
}

// TestNonsense: after a record that is no message the connection ends.
func TestNonsense(t *testing.T) {
	for name, rec := range map[string][]byte{
		"an empty record":            fragment(nil, true),
		"a record of four bytes":     fragment(make([]byte, 4), true),
		"a message of type 2":        fragment([]byte{0, 0, 0, 1, 0, 0, 0, 2}, true),
		"a record over the maximum":  fragment(make([]byte, 2000), true),
		"a web browser's first line": []byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		x, y := net.Pipe()
		c := NewConn(x, Options{MaxRecord: 1000})
		_, _ = y.Write(rec) // the other side may close before it is all read
		<-c.Done()
		if !errors.Is(c.Err(), ErrRecord) {
			t.Errorf("%s: %v", name, c.Err())
		}
		y.Close()
	}
}

// TestStrangeReplies: a reply that nobody waits for is ignored, a broken one fails its call only.
func TestStrangeReplies(t *testing.T) {
	x, y := net.Pipe()
	c := NewConn(x, Options{})
	defer c.Close()
	defer y.Close()
	go func() {
		r := newReader(y, 1000)
		for _, body := range []string{"00000009", "00000000 00000000 00000191", "00000000 00000000", "00000001 00000001 0000000d", "00000000 00000000 00000000 00000000"} {
			rec, err := r.next()
			if err != nil {
				return
			}
			b, _ := hex.DecodeString(strings.ReplaceAll(body, " ", ""))
			out := fragment([]byte{1, 2, 3, 4, 0, 0, 0, 1}, true)
			out = append(out, fragment(append(append(bytes.Clone(rec.B[:4]), 0, 0, 0, 1), b...), true)...)
			if _, err := y.Write(out); err != nil {
				return
			}
		}
	}()
	for _, want := range []string{"reply_stat is 9", "length 401 is over 400", "too short", "RPCSEC_GSS_CREDPROBLEM", ""} {
		err := c.Call(t.Context(), proc(0), nil, nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// memConn is a connection whose peer has sent everything already.
type memConn struct {
	net.Conn
	in io.Reader
}

func (m memConn) Read(b []byte) (int, error)       { return m.in.Read(b) }
func (memConn) Write(b []byte) (int, error)        { return len(b), nil }
func (memConn) Close() error                       { return nil }
func (memConn) SetReadDeadline(time.Time) error    { return nil }
func (memConn) SetWriteDeadline(t time.Time) error { return nil }

// FuzzConn: no stream of a peer does harm, and none leaves anything held.
func FuzzConn(f *testing.F) {
	call, _ := hex.DecodeString("0000000700000000000000020000000100000001000000010000000000000000000000000000000000000004aabbccdd")
	f.Add(fragment(call, true))
	f.Add(append(fragment(call, true), fragment([]byte{0, 0, 0, 1, 0, 0, 0, 1}, true)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := NewConn(memConn{in: bytes.NewReader(b)}, Options{MaxRecord: 1 << 16, Handler: HandlerFunc(echo)})
		<-c.Done()
		c.mu.Lock()
		for c.inflight > 0 || c.held > 0 {
			c.cond.Wait()
		}
		c.mu.Unlock()
	})
}
