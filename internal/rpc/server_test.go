package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
)

func serve(t *testing.T, s *Server, h Handler) (addr string, done chan error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done = make(chan error, 1)
	go func() {
		done <- s.Serve(t.Context(), l, func(net.Conn) (Options, error) { return Options{Handler: h}, nil })
	}()
	t.Cleanup(func() { s.Close() })
	return l.Addr().String(), done
}

func dial(t *testing.T, addr string) *Conn {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := NewConn(nc, Options{})
	t.Cleanup(func() { c.Close() })
	return c
}

func TestServerLimit(t *testing.T) {
	s := &Server{MaxConns: 2}
	addr, _ := serve(t, s, HandlerFunc(echo))
	a, b := dial(t, addr), dial(t, addr)
	for _, c := range []*Conn{a, b} {
		if err := c.Call(t.Context(), proc(procNull), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	third := dial(t, addr)
	<-third.Done()
	if s.Refused() != 1 || len(s.Conns()) != 2 {
		t.Errorf("%d connections refused, %d open", s.Refused(), len(s.Conns()))
	}
	// One leaves, and there is room again.
	var closed *Conn
	for _, c := range s.Conns() {
		if c.RemoteAddr().String() == a.LocalAddr().String() {
			closed = c
		}
	}
	a.Close()
	<-closed.Done()
	for len(s.Conns()) > 1 {
		runtime.Gosched() // the reader is on its way to forget it
	}
	if err := dial(t, addr).Call(t.Context(), proc(procNull), nil, nil); err != nil {
		t.Error(err)
	}
}

func TestServerShutdown(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	h := HandlerFunc(func(_ context.Context, _ *Conn, call *InCall) {
		close(started)
		<-finish
		_ = call.Reply(nil)
	})
	s := &Server{}
	addr, done := serve(t, s, h)
	c := dial(t, addr)
	answer := make(chan error, 1)
	go func() { answer <- c.Call(t.Context(), proc(0), nil, nil) }()
	<-started

	down := make(chan error, 1)
	go func() { down <- s.Shutdown(t.Context()) }()
	if err := <-done; err != ErrServerClosed {
		t.Errorf("Serve returned %v", err)
	}
	if nc, err := net.Dial("tcp", addr); err == nil {
		// A connection that the kernel took before the listener was closed is not served.
		if _, err := nc.Read(make([]byte, 1)); err == nil {
			t.Error("a connection was served after Shutdown")
		}
		nc.Close()
	}
	close(finish)
	if err := <-answer; err != nil {
		t.Errorf("the call that was being served: %v", err)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	<-c.Done()
	if c.Err() != io.EOF {
		t.Errorf("the client saw %v", c.Err())
	}
	if err := s.Serve(t.Context(), listen(t), nil); err != ErrServerClosed {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

func listen(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestShutdownGivesUp: a handler that does not end is not waited for longer than asked.
func TestShutdownGivesUp(t *testing.T) {
	started := make(chan struct{})
	h := HandlerFunc(func(ctx context.Context, _ *Conn, call *InCall) {
		close(started)
		<-ctx.Done()
	})
	s := &Server{}
	addr, _ := serve(t, s, h)
	c := dial(t, addr)
	go func() { _ = c.Call(t.Context(), proc(0), nil, nil) }()
	<-started
	cause := errors.New("no patience")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := s.Shutdown(ctx); !errors.Is(err, cause) {
		t.Error(err)
	}
	<-c.Done()
}

func TestServeEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- new(Server).Serve(ctx, listen(t), func(net.Conn) (Options, error) { return Options{}, nil })
	}()
	cancel()
	if err := <-done; err != context.Canceled {
		t.Error(err)
	}
}

func TestOptionsRefuse(t *testing.T) {
	l := listen(t)
	s := &Server{}
	defer s.Close()
	go func() {
		_ = s.Serve(t.Context(), l, func(net.Conn) (Options, error) { return Options{}, errors.New("not you") })
	}()
	c := dial(t, l.Addr().String())
	<-c.Done()
	if len(s.Conns()) != 0 {
		t.Error("a refused connection is open")
	}
}
