// Package control is how the command line talks to a running instance: HTTP over a unix socket,
// with the same JSON that the commands print. Every object carries "schema": 1; streams are one
// object a line. The socket is mode 0600 in a directory that only the owner can write.
package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrNotRunning says that nobody answers on the socket.
var ErrNotRunning = errors.New("not running")

// An Error is a failure with the exit code that the command is to end with.
type Error struct {
	Exit int    `json:"exit"`
	Text string `json:"error"`
}

func (e *Error) Error() string { return e.Text }

// A Server answers on the socket.
type Server struct {
	mux  *http.ServeMux
	http *http.Server
	ln   net.Listener
	path string
}

// Listen makes the socket. A socket that a killed instance left behind is replaced; one that
// answers is not.
func Listen(path string) (*Server, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		return nil, errors.Join(fmt.Errorf("another instance answers on %s; stop it, or use another --instance", path), c.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	old := syscall.Umask(0o177)
	ln, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	s := &Server{mux: mux, ln: ln, path: path, http: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}}
	return s, nil
}

// Serve answers until Close.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close ends all requests and removes the socket.
func (s *Server) Close() error { return s.http.Close() }

// Get registers a question. f returns what is printed as JSON.
func (s *Server) Get(path string, f func(ctx context.Context, q url.Values) (any, error)) {
	s.handle("GET "+path, f)
}

// Post registers an action.
func (s *Server) Post(path string, f func(ctx context.Context, q url.Values) (any, error)) {
	s.handle("POST "+path, f)
}

func (s *Server) handle(pattern string, f func(ctx context.Context, q url.Values) (any, error)) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r.Context(), r.URL.Query())
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		// a write error means that the asker went away
		_ = json.NewEncoder(w).Encode(v)
	})
}

// Stream registers a question with many answers; each emitted object is sent at once.
func (s *Server) Stream(path string, f func(ctx context.Context, q url.Values, emit func(any) error) error) {
	s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		enc, flush := json.NewEncoder(w), http.NewResponseController(w)
		sent := false
		err := f(r.Context(), r.URL.Query(), func(v any) error {
			sent = true
			if err := enc.Encode(v); err != nil {
				return err
			}
			return flush.Flush()
		})
		if err != nil && !sent {
			fail(w, err)
		}
	})
}

// Bytes registers a download.
func (s *Server) Bytes(path string, f func(ctx context.Context, w io.Writer) error) {
	s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		if err := f(r.Context(), w); err != nil {
			panic(http.ErrAbortHandler) // the reader must see that the download is not whole
		}
	})
}

func fail(w http.ResponseWriter, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{1, err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusConflict)
	_ = json.NewEncoder(w).Encode(e)
}

// A Client asks a running instance.
type Client struct {
	path string
	http *http.Client
}

// Dial returns a client of the socket; nothing is sent yet.
func Dial(path string) *Client {
	return &Client{path, &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}}
}

func (c *Client) do(ctx context.Context, method, path string, q url.Values) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://holdfast"+path+"?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("%w: no instance answers on %s", ErrNotRunning, c.path)
		}
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var e Error
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(b, &e) != nil || e.Text == "" {
		return nil, fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return nil, &e
}

// Get asks and decodes the answer into v. A *[]byte gets the JSON as it is.
func (c *Client) Get(ctx context.Context, path string, q url.Values, v any) error {
	return c.once(ctx, "GET", path, q, v)
}

// Post acts and decodes the answer into v.
func (c *Client) Post(ctx context.Context, path string, q url.Values, v any) error {
	return c.once(ctx, "POST", path, q, v)
}

func (c *Client) once(ctx context.Context, method, path string, q url.Values, v any) error {
	resp, err := c.do(ctx, method, path, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if raw, ok := v.(*[]byte); ok {
		*raw = b
		return nil
	}
	if v == nil {
		return nil
	}
	return json.NewDecoder(bytes.NewReader(b)).Decode(v)
}

// Stream calls f with each object until the stream ends.
func (c *Client) Stream(ctx context.Context, path string, q url.Values, f func([]byte) error) error {
	resp, err := c.do(ctx, "GET", path, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if err := f(lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// Download copies the answer to w.
func (c *Client) Download(ctx context.Context, path string, w io.Writer) error {
	resp, err := c.do(ctx, "GET", path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(w, resp.Body)
	return err
}
