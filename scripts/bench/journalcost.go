package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"holdfast/fs"
	"holdfast/fs/fstest/memfs"
	"holdfast/fs/remote"
	"holdfast/internal/loadgen"
	"holdfast/journal"
	"holdfast/nfsdown"
)

// A behind is what the server of journalCost stands in front of. j is nil without a journal.
type behind struct {
	name string
	open func(ctx context.Context, j *journal.Journal) (fs.Backend, func(context.Context) error, error)
}

func inMemory(context.Context, *journal.Journal) (fs.Backend, func(context.Context) error, error) {
	return memfs.New(), func(context.Context) error { return nil }, nil
}

// atOrigin mounts an origin in another process.
func atOrigin(addr string) func(context.Context, *journal.Journal) (fs.Backend, func(context.Context) error, error) {
	return func(ctx context.Context, j *journal.Journal) (fs.Backend, func(context.Context) error, error) {
		r, err := remote.Mount(ctx, remote.Config{Name: "origin", Server: addr, Path: "/data", Journal: j})
		if err != nil {
			return nil, nil, err
		}
		return r, r.Close, nil
	}
}

// journalCost measures what it costs that each grant is durable before the client hears of it: the
// same server with the journal and without, in turns, over a backend in memory, where nearly all that a grant
// takes is the journal, and over an origin that has a journal of its own in either case.
func journalCost(ctx context.Context, s *settings) (err error) {
	set := *s
	set.dir = filepath.Join(s.dir, "journalcost")
	data := filepath.Join(set.dir, "data")
	if err := os.MkdirAll(data, 0o777); err != nil {
		return err
	}
	f := &fleet{s: &set}
	defer func() { err = errors.Join(err, f.stop()) }()
	_, addr, err := f.holdfast("origin", "origin", data)
	if err != nil {
		return err
	}
	fmt.Printf("%-9s %-28s %12s %12s %7s\n", "journal", "", "off", "on", "ratio")
	n := 0
	for _, b := range []behind{{"memory", inMemory}, {"origin", atOrigin(addr)}} {
		for _, name := range []string{"lock+unlock, 1 owner", "lock+unlock, 64 owners", "open+close, depth 16"} {
			w := loadgen.Find(name)
			var off, on []float64
			for range s.rounds {
				for _, durable := range []bool{false, true} {
					n++
					rate, err := journalRate(ctx, s, &b, w, filepath.Join(set.dir, fmt.Sprint("journal-", n)), durable)
					if err != nil {
						return fmt.Errorf("%s, %s: %w", b.name, name, err)
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
				return fmt.Errorf("%s, %s: nothing was measured", b.name, name)
			}
			fmt.Printf("%-9s %-28s %10.0f/s %10.0f/s %7.2f\n", b.name, name, without, with, with/without)
		}
	}
	return nil
}

func journalRate(ctx context.Context, s *settings, b *behind, w *loadgen.Workload, dir string, durable bool) (rate float64, err error) {
	cfg := nfsdown.Config{}
	if durable {
		j, _, err := journal.Open(dir, journal.Options{})
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, j.Close()) }()
		cfg.Journal = j
	}
	backend, leave, err := b.open(ctx, cfg.Journal)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, leave(ctx)) }()
	cfg.Exports = []nfsdown.Export{{Path: "/data", Backend: backend,
		Clients: []nfsdown.ClientRule{{Pattern: "*", Access: nfsdown.Access{RW: true, Squash: nfsdown.NoRootSquash}}}}}
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
