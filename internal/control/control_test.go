package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnswersStreamsAndErrors(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "s")
	if err := Dial(path).Get(ctx, "/x", nil, nil); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("no socket: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil { // what a killed instance leaves
		t.Fatal(err)
	}
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v %v", st.Mode(), err)
	}
	s.Get("/echo", func(_ context.Context, q url.Values) (any, error) { return map[string]string{"a": q.Get("a")}, nil })
	s.Post("/refuse", func(context.Context, url.Values) (any, error) { return nil, &Error{4, "would lose locks"} })
	s.Stream("/count", func(_ context.Context, _ url.Values, emit func(any) error) error {
		for i := range 3 {
			if err := emit(i); err != nil {
				return err
			}
		}
		return nil
	})
	s.Bytes("/broken", func(_ context.Context, w io.Writer) error {
		_, _ = w.Write([]byte("half"))
		return errors.New("disk")
	})
	done := make(chan error)
	go func() { done <- s.Serve() }()

	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another instance") {
		t.Errorf("second instance: %v", err)
	}
	c := Dial(path)
	var got map[string]string
	if err := c.Get(ctx, "/echo", url.Values{"a": {"ü&"}}, &got); err != nil || got["a"] != "ü&" {
		t.Errorf("%v %v", got, err)
	}
	var e *Error
	if err := c.Post(ctx, "/refuse", nil, nil); !errors.As(err, &e) || e.Exit != 4 {
		t.Errorf("%v", err)
	}
	n := 0
	if err := c.Stream(ctx, "/count", nil, func([]byte) error { n++; return nil }); err != nil || n != 3 {
		t.Errorf("%d %v", n, err)
	}
	var out bytes.Buffer
	if err := c.Download(ctx, "/broken", &out); err == nil {
		t.Error("half a download passed for a whole one")
	}
	if err := c.Get(ctx, "/nothing", nil, nil); err == nil {
		t.Error("unknown path")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
