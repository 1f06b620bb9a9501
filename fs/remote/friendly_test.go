package remote_test

import (
	"context"
	"net"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/fs/fstest/memfs"
	"holdfast/fs/local"
	"holdfast/fs/remote"
	"holdfast/journal"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

// A server is an NFS server in this process.
type server struct {
	*nfsdown.Server
	j    *journal.Journal
	done chan struct{}
	addr string
}

// serve starts the NFS server over a backend, with the journal in dir. addr may be empty.
func serve(t *testing.T, b fs.Backend, dir string, j *journal.Journal, addr string, st state.Config) *server {
	t.Helper()
	if j == nil {
		var err error
		j, _, err = journal.Open(dir, journal.Options{})
		must(t, err)
	}
	rw := nfsdown.Access{RW: true, Squash: nfsdown.NoRootSquash}
	srv, err := nfsdown.New(nfsdown.Config{
		Exports: []nfsdown.Export{{Path: "/export", Backend: b, Clients: []nfsdown.ClientRule{{Pattern: "*", Access: rw}}}},
		Journal: j, Logger: testLog(t), State: st,
	})
	must(t, err)
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	must(t, err)
	s := &server{Server: srv, j: j, done: make(chan struct{}), addr: l.Addr().String()}
	go func() {
		defer close(s.done)
		_ = srv.Serve(context.Background(), l) // ends with stop
	}()
	t.Cleanup(s.stop)
	return s
}

// stop ends the server; what clients hold stays in the journal.
func (s *server) stop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // at once
	_ = s.Shutdown(ctx)
	<-s.done
	s.j.Close()
}

// directory is a directory of this machine as backend.
func directory(t *testing.T) fs.Backend {
	t.Helper()
	b, err := local.New(t.Context(), local.Config{Dir: t.TempDir(), StateDir: t.TempDir(), Logger: testLog(t)})
	if err != nil {
		t.Skipf("this machine cannot export a directory: %v", err)
	}
	t.Cleanup(func() { b.Close(context.Background()) })
	return b
}

// friendly starts an origin in this process, re-export friendly.
func friendly(t *testing.T, b fs.Backend, policy state.RetainPolicy) site {
	t.Helper()
	s := serve(t, b, t.TempDir(), nil, "", state.Config{Lease: 30 * time.Second, Retain: policy})
	return site{s.addr, "/export"}
}

func TestFriendlyOrigin(t *testing.T) {
	t.Run("directory", func(t *testing.T) { testOrigin(t, friendly(t, directory(t), state.RetainAlways)) })
	t.Run("memory", func(t *testing.T) { testOrigin(t, friendly(t, memfs.New(), state.RetainAlways)) })
}

func open(o fs.Owner, f fs.Handle, access fs.Share, reclaim bool) *fs.OpenRequest {
	return &fs.OpenRequest{Owner: o, Access: access, File: f, Reclaim: reclaim}
}

// TestReboot: what was held is held after kill -9 and reclaims, and nothing else is (I1, I2, I3).
func TestReboot(t *testing.T) {
	for name, policy := range map[string]state.RetainPolicy{"for everybody": state.RetainAlways, "negotiated": state.RetainNegotiated} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			s := friendly(t, directory(t), policy)
			dir := t.TempDir()
			m := s.mount(t, dir, nil)
			must(t, m.ReclaimComplete(ctx))
			d := m.workdir(t)
			f := m.create(t, d, "f", owner("o"))
			g := m.create(t, d, "g", owner("o"))
			never := m.create(t, d, "never", owner("x"))
			must(t, m.CloseFile(ctx, owner("x"), never))
			must(t, m.lock(t, f, owner("o"), owner("l"), 0, 99, false))
			must(t, m.lock(t, g, owner("o"), owner("l"), 0, 99, false))

			rival := s.mount(t, t.TempDir(), nil)
			must(t, rival.ReclaimComplete(ctx))
			rd := rival.find(t, m, d)
			rf, rg := rival.create(t, rd, "f", owner("r")), rival.create(t, rd, "g", owner("r"))
			denied := func(file fs.Handle, when string) {
				t.Helper()
				err := rival.lock(t, file, owner("r"), owner("rl"), 50, 60, false)
				if fs.CodeOf(err) != fs.Denied {
					t.Fatalf("%s: the rival got %v (I1)", when, err)
				}
			}
			denied(rf, "while it is held")
			for boot := range 3 {
				m.crash()
				denied(rf, "while we are away")
				m = s.mount(t, dir, nil)
				denied(rf, "before it is reclaimed")
				if _, err := m.GetAttr(ctx, root, f); err != nil {
					t.Fatalf("a handle did not survive: %v", err)
				}
				// A lock only under its reclaimed open; and no more than was held (I3).
				wants(t, m.lock(t, f, owner("o"), owner("l"), 0, 99, true), fs.BadStateid, fs.ReclaimBad)
				_, err := m.Open(ctx, root, open(owner("x"), never, fs.ShareBoth, true))
				wants(t, err, fs.ReclaimBad, fs.NoGrace)
				_, err = m.Open(ctx, root, open(owner("o"), f, fs.ShareBoth, true))
				must(t, err)
				wants(t, m.lock(t, f, owner("o"), owner("l"), 0, 100, true), fs.ReclaimBad)
				wants(t, m.lock(t, f, owner("o"), owner("other"), 0, 9, true), fs.ReclaimBad)
				must(t, m.lock(t, f, owner("o"), owner("l"), 0, 99, true))
				denied(rf, "after it was reclaimed")
				denied(rg, "while it may still be reclaimed")
				if st := m.Status(); st.Reclaims.Opens != 1 || st.Reclaims.Locks != 1 || st.Phase != remote.PhaseRecovering {
					t.Fatalf("boot %d: %+v", boot, st)
				}
			}
			must(t, m.ReclaimComplete(ctx))
			denied(rf, "after the end of grace")
			must(t, rival.lock(t, rg, owner("r"), owner("rl"), 50, 60, false)) // it was not reclaimed
			_, err := m.Open(ctx, root, open(owner("o"), g, fs.ShareBoth, true))
			wants(t, err, fs.NoGrace)
			must(t, m.Unlock(ctx, root, owner("l"), f, fs.Range{First: 0, Last: 99}))
			must(t, rival.lock(t, rf, owner("r"), owner("rl"), 50, 60, false))
			must(t, m.Close(ctx))
			must(t, rival.Close(ctx))
		})
	}
}

// TestMountWithoutReexport: what the last incarnation held is gone with the first open (DESIGN 3.9, I5).
func TestMountWithoutReexport(t *testing.T) {
	ctx := t.Context()
	s := friendly(t, directory(t), state.RetainAlways)
	dir := t.TempDir()
	plain := func(c *remote.Config) { c.Reexport = false }
	m := s.mount(t, dir, plain)
	d := m.workdir(t)
	app := fs.Owner{Client: fs.LocalClient + "1", Owner: "o"}
	f := m.create(t, d, "f", app)
	must(t, m.lock(t, f, app, app, 0, 9, false))
	rival := s.mount(t, t.TempDir(), plain)
	rf := rival.create(t, rival.find(t, m, d), "f", owner("r"))
	wants(t, rival.lock(t, rf, owner("r"), owner("r"), 0, 9, false), fs.Denied)
	m.crash()
	m = s.mount(t, dir, plain)
	wants(t, rival.lock(t, rf, owner("r"), owner("r"), 0, 9, false), fs.Denied)
	m.create(t, d, "other", fs.Owner{Client: fs.LocalClient + "2", Owner: "o"})
	if m.Status().Phase != remote.PhaseRunning {
		t.Error("the first open did not send RECLAIM_COMPLETE")
	}
	must(t, rival.lock(t, rf, owner("r"), owner("r"), 0, 9, false))
	must(t, m.Close(ctx))
	must(t, rival.Close(ctx))
}

// TestReexport is the whole of it: an end client, the re-export server, and the origin. The re-export
// server dies and comes back; the end client has its lock, and nobody else ever had it.
func TestReexport(t *testing.T) {
	ctx := t.Context()
	origin := friendly(t, directory(t), state.RetainAlways)
	dir := t.TempDir()
	middle := origin.mount(t, dir, nil)
	st := state.Config{Lease: 30 * time.Second, Grace: 30 * time.Second}
	down := serve(t, middle.Remote, "", middle.j, "", st)
	addr := down.addr

	end := site{addr, "/export"}.mount(t, t.TempDir(), nil)
	must(t, end.ReclaimComplete(ctx))
	d := end.workdir(t)
	f := end.create(t, d, "f", owner("app"))
	must(t, end.lock(t, f, owner("app"), owner("lock"), 0, 99, false))
	told := &hears{free: make(chan fs.Owner, 9), revoked: make(chan fs.Owner, 9)}
	end.Subscribe(told)

	rival := origin.mount(t, t.TempDir(), nil)
	must(t, rival.ReclaimComplete(ctx))
	rf := rival.create(t, rival.find(t, end, d), "f", owner("r"))
	denied := func(when string) {
		t.Helper()
		if err := rival.lock(t, rf, owner("r"), owner("rl"), 50, 60, false); fs.CodeOf(err) != fs.Denied {
			t.Fatalf("%s: the rival got %v (I1)", when, err)
		}
	}
	denied("before")
	io := fs.IORef{Handle: f, Open: owner("app"), Lock: owner("lock")}
	for range 2 {
		middle.Abandon()
		down.stop()
		denied("while the re-export server is down")
		middle = origin.mount(t, dir, nil)
		denied("before the re-export server serves")
		down = serve(t, middle.Remote, "", middle.j, addr, st)
		// The end client notices, and reclaims, by itself.
		for {
			_, err := end.Write(ctx, root, io, 0, []byte("still mine"), fs.FileSync)
			if c := fs.CodeOf(err); c != fs.Grace && c != fs.Delay {
				must(t, err)
				break
			}
		}
		denied("after the end client is back")
		for middle.Status().Phase != remote.PhaseRunning { // all known clients are complete
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				t.Fatal("grace does not end")
			}
		}
		denied("after grace")
		if r := middle.Status().Reclaims; r.Opens != 1 || r.Locks != 1 || r.Refused != 0 {
			t.Fatalf("reclaims through the re-export server: %+v", r)
		}
	}
	if len(told.revoked) != 0 {
		t.Errorf("the end client was told that it lost %v", <-told.revoked)
	}
	must(t, end.Unlock(ctx, root, owner("lock"), f, fs.Range{First: 0, Last: 99}))
	must(t, rival.lock(t, rf, owner("r"), owner("rl"), 50, 60, false))
	must(t, end.Close(ctx))
	must(t, rival.Close(ctx))
}
