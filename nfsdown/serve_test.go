package nfsdown_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/fs/fstest/memfs"
	"holdfast/fs/local"
	"holdfast/journal"
	"holdfast/nfsdown"
)

// TestServe serves a directory, or (without HOLDFAST_DIR) memory, to real clients until it is interrupted.
// Memory loses its opens and locks at SIGHUP, and the server reboots from its journal:
//
//	HOLDFAST_SERVE=ADDR:PORT HOLDFAST_DIR=/srv/x HOLDFAST_STATE=/var/lib/x go test -run TestServe -timeout 0 ./nfsdown
func TestServe(t *testing.T) {
	addr, dir, stateDir := os.Getenv("HOLDFAST_SERVE"), os.Getenv("HOLDFAST_DIR"), os.Getenv("HOLDFAST_STATE")
	if addr == "" {
		t.Skip("set HOLDFAST_SERVE=address:port, HOLDFAST_DIR and HOLDFAST_STATE to serve a directory")
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	mem := memfs.New()
	var b fs.Backend = mem
	if dir != "" {
		var err error
		if b, err = local.New(ctx, local.Config{Dir: dir, StateDir: filepath.Join(stateDir, "local"), Logger: log}); err != nil {
			t.Fatal(err)
		}
	}
	for ctx.Err() == nil {
		life, end := signal.NotifyContext(ctx, syscall.SIGHUP)
		serveOnce(life, t, log, addr, filepath.Join(stateDir, "journal"), b)
		end()
		mem.Restart()
	}
	if err := b.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func serveOnce(ctx context.Context, t *testing.T, log *slog.Logger, addr, journalDir string, b fs.Backend) {
	t.Helper()
	j, report, err := journal.Open(journalDir, journal.Options{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("journal", "report", report)
	cfg := nfsdown.Config{
		Exports: []nfsdown.Export{{Path: "/export", Backend: b, Clients: []nfsdown.ClientRule{{Pattern: "*", Access: nfsdown.Access{RW: true, Squash: nfsdown.NoRootSquash}}}}},
		Journal: j, Logger: log,
	}
	if l, err := time.ParseDuration(os.Getenv("HOLDFAST_LEASE")); err == nil {
		cfg.State.Lease = l
	}
	srv, err := nfsdown.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	log.Info("serving", "addr", l.Addr(), "grace", srv.Phase())
	_ = srv.Serve(ctx, l) // it ends with ctx
	for _, s := range srv.OpStats() {
		log.Info("stats", "op", s.Op, "count", s.Count, "errors", s.Errors, "in", s.In, "out", s.Out, "exe", time.Duration(s.Nanos))
	}
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		t.Error(err)
	}
	for e, err := range j.Events(1, nil) {
		if err != nil {
			t.Fatal(err)
		}
		log.Info("event", "epoch", e.Epoch, "type", e.Type, "client", e.Client, "owner", e.Owner, "range", e.Range, "lock", e.Lock, "result", e.Result, "text", e.Text)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}
