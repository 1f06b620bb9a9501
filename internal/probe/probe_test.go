package probe_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"holdfast/fs/fstest/memfs"
	"holdfast/internal/probe"
	"holdfast/journal"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

// server starts an NFS server over memory with a policy of retention, and returns its address.
func server(t *testing.T, policy state.RetainPolicy) (addr string, s *nfsdown.Server) {
	t.Helper()
	j, _, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err = nfsdown.New(nfsdown.Config{
		Exports: []nfsdown.Export{{Path: "/export", Backend: memfs.New(),
			Clients: []nfsdown.ClientRule{{Pattern: "*", Access: nfsdown.Access{RW: true, Squash: nfsdown.NoRootSquash}}}}},
		Journal: j, State: state.Config{Lease: 20 * time.Second, Retain: policy, AbsenceLimit: 30 * time.Second, ReclaimCap: 40 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(context.Background(), l) // ends with Shutdown
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx) // ctx has ended: connections are cut
		<-done
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), s
}

func run(t *testing.T, addr, path string) (*probe.Report, error) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	return probe.Run(ctx, probe.Options{Addr: addr, Path: path})
}

// TestFriendly: what a server is like is found out, and nothing is left behind.
func TestFriendly(t *testing.T) {
	for _, c := range []struct {
		policy          state.RetainPolicy
		friendly, draft probe.Answer
		recovery        string
		budget          time.Duration
	}{
		{state.RetainAlways, probe.Yes, probe.Yes, "reclaim", 50 * time.Second},
		{state.RetainNegotiated, probe.Yes, probe.Yes, "reclaim", 50 * time.Second},
		{state.RetainNever, probe.No, probe.No, "resume", 20 * time.Second},
	} {
		addr, s := server(t, c.policy)
		r, err := run(t, addr, "/export")
		if err != nil {
			t.Fatalf("%v: %v", c.policy, err)
		}
		if r.Locks.Answer != probe.Yes || r.Resume.Answer != probe.Yes || r.Friendly.Answer != c.friendly || r.Draft != c.draft || r.Courtesy.Answer != probe.Unknown {
			t.Errorf("%v: %+v", c.policy, r)
		}
		if r.Recovery != c.recovery || r.Budget != c.budget {
			t.Errorf("%v: recovery %s, a reboot may take %v; want %s, %v", c.policy, r.Recovery, r.Budget, c.recovery, c.budget)
		}
		if r.Minor != 2 || r.Lease != 20*time.Second || r.HandleBytes == 0 || r.MaxRead == 0 || r.Operations["SEEK"] != probe.Yes {
			t.Errorf("%v: %+v", c.policy, r)
		}
		if n := len(s.Clients()); n != 0 {
			t.Errorf("%v: %d clients are left", c.policy, n)
		}
		if _, err := run(t, addr, "/export/none"); err == nil || !strings.Contains(err.Error(), "NOENT") {
			t.Errorf("a directory that is not there: %v", err)
		}
		if n := len(s.Clients()); n != 0 {
			t.Errorf("%v: %d clients are left after an error", c.policy, n)
		}
	}
}

// TestNobodyThere: a peer that hangs up, or speaks no RPC, is an error and not a hang.
func TestNobodyThere(t *testing.T) {
	for _, say := range []string{"", "HTTP/1.1 400 Bad Request\r\n\r\n", "\x80\x00\x00\x04abcd"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, say) // the prober may be gone
				_ = c.Close()
			}
		}()
		if r, err := run(t, l.Addr().String(), "/"); err == nil || r.Recovery != "none" {
			t.Errorf("%q: %+v, %v", say, r, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
