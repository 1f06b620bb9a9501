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

// TestServe serves a directory, or (without HOLDFAST_DIR) memory, to real clients until it is interrupted:
//
//	HOLDFAST_SERVE=ADDR:PORT HOLDFAST_DIR=/srv/x HOLDFAST_STATE=/var/lib/x go test -run TestServe -timeout 0 ./nfsdown
func TestServe(t *testing.T) {
	addr, dir, stateDir := os.Getenv("HOLDFAST_SERVE"), os.Getenv("HOLDFAST_DIR"), os.Getenv("HOLDFAST_STATE")
	if addr == "" {
		t.Skip("set HOLDFAST_SERVE=address:port, HOLDFAST_DIR and HOLDFAST_STATE to serve a directory")
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	j, report, err := journal.Open(filepath.Join(stateDir, "journal"), journal.Options{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("journal", "report", report)
	var b fs.Backend = memfs.New()
	if dir != "" {
		if b, err = local.New(ctx, local.Config{Dir: dir, StateDir: filepath.Join(stateDir, "local")}); err != nil {
			t.Fatal(err)
		}
	}
	lease := 90 * time.Second
	if l, err := time.ParseDuration(os.Getenv("HOLDFAST_LEASE")); err == nil {
		lease = l
	}
	cfg := nfsdown.Config{
		Exports: []nfsdown.Export{{Path: "/export", Backend: b, Clients: []nfsdown.ClientRule{{Pattern: "*", Access: nfsdown.Access{RW: true, Squash: nfsdown.NoRootSquash}}}}},
		Journal: j, Logger: log,
	}
	cfg.State.Lease = lease
	srv, err := nfsdown.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	log.Info("serving", "addr", l.Addr(), "grace", srv.Phase())
	_ = srv.Serve(ctx, l)
	for _, s := range srv.OpStats() {
		log.Info("stats", "op", s.Op, "count", s.Count, "errors", s.Errors, "in", s.In, "out", s.Out, "exe", time.Duration(s.Nanos))
	}
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		t.Error(err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}
