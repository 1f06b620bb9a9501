package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"holdfast/fs/fstest/memfs"
	"holdfast/internal/loadgen"
	"holdfast/journal"
	"holdfast/nfsdown"
)

// journalCost measures what it costs that each grant is durable before the client hears of it: the
// same server over the same backend (memory), with the journal and without, in turns.
func journalCost(ctx context.Context, s *settings) error {
	fmt.Printf("%-32s %12s %12s %7s\n", "journal", "off", "on", "ratio")
	for _, name := range []string{"lock+unlock, 1 owner", "lock+unlock, 64 owners", "open+close, depth 16"} {
		w := loadgen.Find(name)
		var off, on []float64
		for round := range s.rounds {
			for _, durable := range []bool{false, true} {
				rate, err := journalRate(ctx, s, w, filepath.Join(s.dir, fmt.Sprintf("journal-%d-%s", round, w.Name)), durable)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				if durable {
					on = append(on, rate)
				} else {
					off = append(off, rate)
				}
			}
		}
		without, _, _, _ := median(off)
		with, _, _, ok := median(on)
		if !ok || without == 0 {
			return fmt.Errorf("%s: nothing was measured", name)
		}
		fmt.Printf("%-32s %10.0f/s %10.0f/s %7.2f\n", name, without, with, with/without)
	}
	return nil
}

func journalRate(ctx context.Context, s *settings, w *loadgen.Workload, dir string, durable bool) (rate float64, err error) {
	cfg := nfsdown.Config{Exports: []nfsdown.Export{{Path: "/data", Backend: memfs.New(),
		Clients: []nfsdown.ClientRule{{Pattern: "*", Access: nfsdown.Access{RW: true, Squash: nfsdown.NoRootSquash}}}}}}
	if durable {
		j, _, err := journal.Open(dir, journal.Options{})
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, j.Close()) }()
		cfg.Journal = j
	}
	srv, err := nfsdown.New(cfg)
	if err != nil {
		return 0, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, l) }()
	defer func() {
		stop, cancel := context.WithCancel(ctx)
		cancel() // connections are cut
		_ = srv.Shutdown(stop)
		<-done
	}()
	r, err := w.NFS(ctx, l.Addr().String(), "/data", s.options())
	return r.Rate, err
}
