package conform_test

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/fs/fstest/memfs"
	"holdfast/internal/conform"
	"holdfast/journal"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

// A world is a server over memory that can be killed and started again at the same address.
type world struct {
	t       *testing.T
	backend *memfs.FS
	dir     string
	addr    string
	policy  state.RetainPolicy
	stop    func()
}

func newWorld(t *testing.T, policy state.RetainPolicy, fault func(op string) error) *world {
	w := &world{t: t, backend: memfs.New(), dir: t.TempDir(), addr: "127.0.0.1:0", policy: policy}
	if fault != nil {
		w.backend.Hook = func(_ context.Context, op string) error { return fault(op) }
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) start() {
	t := w.t
	j, _, err := journal.Open(w.dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := nfsdown.New(nfsdown.Config{
		Exports: []nfsdown.Export{{Path: "/export", Backend: w.backend,
			Clients: []nfsdown.ClientRule{{Pattern: "*", Access: nfsdown.Access{RW: true, Squash: nfsdown.NoRootSquash}}}}},
		Journal: j, Logger: slog.New(slog.DiscardHandler), State: state.Config{Lease: 3 * time.Second, Grace: 3 * time.Second, Retain: w.policy, AbsenceLimit: 20 * time.Second, ReclaimCap: 3 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(context.Background(), l) // ends with Shutdown
	}()
	w.stop = func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx) // ctx has ended: connections are cut
		<-done
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
}

func (w *world) restart(context.Context) error {
	w.stop()
	w.backend.Restart()
	w.start()
	return nil
}

func run(t *testing.T, w *world, o conform.Options) *conform.Report {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	o.Addr, o.Path = w.addr, "/export"
	r, err := conform.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.Results); n == 0 || r.Passed+r.Failed+r.Skipped != n {
		t.Errorf("%d results, of which %d passed, %d failed and %d were skipped", n, r.Passed, r.Failed, r.Skipped)
	}
	return r
}

// TestOurs: our own server passes everything, restarts and leases that run out included. What waits for a
// lease has a server of its own, so that it waits beside the others.
func TestOurs(t *testing.T) {
	groups := map[string]func(string) bool{"quick": func(string) bool { return true }}
	for _, test := range conform.Tests() {
		if test.Slow {
			quick := groups["quick"]
			groups["quick"] = func(name string) bool { return name != test.Name && quick(name) }
			groups[test.Name] = func(name string) bool { return name == test.Name }
		}
	}
	for name, match := range groups {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, state.RetainNegotiated, nil)
			r := run(t, w, conform.Options{Restart: w.restart, Slow: true, Match: match})
			for _, res := range r.Results {
				if res.Outcome != conform.Pass {
					t.Errorf("%s %s: %s", res.Outcome, res.Name, res.Text)
				}
			}
		})
	}
}

// TestLeavesOut: what the server need not have is skipped and said, as is what was not allowed.
func TestLeavesOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.RetainNever, nil)
	var heard []string
	r := run(t, w, conform.Options{Minor: 1, Each: func(res *conform.Result) { heard = append(heard, res.Name) }})
	if len(heard) != len(conform.Tests()) || r.Minor != 1 || r.Retain {
		t.Errorf("%d tests were heard of; %+v", len(heard), r)
	}
	for _, res := range r.Results {
		why := ""
		switch {
		case res.Slow:
			why = "--slow"
		case res.Restart:
			why = "--restart-command"
		case strings.HasPrefix(res.Name, "retain/") && res.Name != "retain/flag" && res.Name != "retain/unasked":
			why = "does not agree to retain"
		}
		if want := map[bool]conform.Outcome{true: conform.Pass, false: conform.Skip}[why == ""]; res.Outcome != want || !strings.Contains(res.Text, why) {
			t.Errorf("%s: %s, %q; want %s, %q", res.Name, res.Outcome, res.Text, want, why)
		}
	}
}

// TestCatches: a server with a fault fails the tests that are about it, and no other.
func TestCatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault func(op string) error
		fails []string
	}{
		{"refuses to reclaim opens", func(op string) error {
			if op == "Reclaim" {
				return &fs.Error{Op: op, Code: fs.ReclaimBad}
			}
			return nil
		}, []string{"reboot/conflict", "reboot/reclaim", "reboot/share", "reboot/shared"}},
	} {
		w := newWorld(t, state.RetainNegotiated, c.fault)
		r := run(t, w, conform.Options{Restart: w.restart})
		var failed []string
		for _, res := range r.Results {
			if res.Outcome == conform.Fail {
				failed = append(failed, res.Name)
			}
		}
		slices.Sort(failed)
		if !slices.Equal(failed, c.fails) {
			t.Errorf("%s: %v failed, want %v", c.name, failed, c.fails)
		}
	}
}

// TestNobodyThere: without a server, or a directory in which files can be made, there is an error.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := conform.Run(t.Context(), conform.Options{Addr: l.Addr().String(), Path: "/"}); err == nil {
		t.Error("no server, and no error")
	}
	w := newWorld(t, state.RetainNever, nil)
	if _, err := conform.Run(t.Context(), conform.Options{Addr: w.addr, Path: "/export/none"}); err == nil || !strings.Contains(err.Error(), "NOENT") {
		t.Errorf("a directory that is not there: %v", err)
	}
}
