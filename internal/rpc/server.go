package rpc

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// A Server accepts connections and keeps track of them. The zero value is ready; set MaxConns before Serve.
type Server struct {
	// MaxConns is how many connections are open at once. Further ones are closed as they come.
	// Zero means no limit.
	MaxConns int

	mu        sync.Mutex
	stopped   bool                        // guarded by mu
	conns     map[*Conn]struct{}          // guarded by mu
	listeners map[net.Listener]struct{}   // guarded by mu
	packets   map[net.PacketConn]struct{} // guarded by mu
	refused   int                         // guarded by mu
}

// ErrServerClosed is returned by Serve after Shutdown or Close.
var ErrServerClosed = errors.New("rpc: server closed")

// Serve accepts connections from l until ctx ends, l is closed, or the server is shut down, and closes
// l. options gives the settings of a connection; an error from it refuses the connection, which is then
// closed. Serve can run for several listeners. Connections outlive it, until Shutdown or Close.
func (s *Server) Serve(ctx context.Context, l net.Listener, options func(net.Conn) (Options, error)) error {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		_ = l.Close()
		return ErrServerClosed
	}
	if s.listeners == nil {
		s.listeners = make(map[net.Listener]struct{})
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer func() {
		stop()
		_ = l.Close()
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()

	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = 0
			s.accept(nc, options)
			continue
		}
		s.mu.Lock()
		stopped := s.stopped
		s.mu.Unlock()
		switch {
		case stopped:
			return ErrServerClosed
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !passing(err):
			return err
		}
		// As long as descriptors are short, or a peer went away too soon.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// passing tells whether accept may work later.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOBUFS, syscall.ENOMEM, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *Server) accept(nc net.Conn, options func(net.Conn) (Options, error)) {
	s.mu.Lock()
	full := s.MaxConns > 0 && len(s.conns) >= s.MaxConns
	if full {
		s.refused++
	}
	s.mu.Unlock()
	if full {
		_ = nc.Close()
		return
	}
	opts, err := options(nc)
	if err != nil {
		_ = nc.Close()
		return
	}
	var c *Conn
	onClose := opts.OnClose
	opts.OnClose = func(err error) {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		if onClose != nil {
			onClose(err)
		}
	}
	c = newConn(nc, opts)
	s.mu.Lock()
	if s.conns == nil {
		s.conns = make(map[*Conn]struct{})
	}
	stopped := s.stopped
	if !stopped {
		s.conns[c] = struct{}{}
	}
	s.mu.Unlock()
	c.start()
	if stopped {
		_ = c.Close()
	}
}

// Conns returns the connections that are open.
func (s *Server) Conns() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// Refused is how many connections were closed because of MaxConns.
func (s *Server) Refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// stop closes the listeners and lets no new connection in.
func (s *Server) stop() []*Conn {
	s.mu.Lock()
	s.stopped = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for pc := range s.packets {
		_ = pc.Close()
	}
	s.mu.Unlock()
	return s.Conns()
}

// Shutdown accepts no more connections and calls, waits until those being served are answered, and
// closes all. If ctx ends before that, it closes at once and returns the cause.
func (s *Server) Shutdown(ctx context.Context) error {
	var wg sync.WaitGroup
	conns := s.stop()
	errs := make([]error, len(conns))
	for i, c := range conns {
		wg.Go(func() { errs[i] = c.Shutdown(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Close closes all at once.
func (s *Server) Close() error {
	for _, c := range s.stop() {
		_ = c.Close()
	}
	return nil
}
