package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/internal/loadgen"
	"holdfast/internal/loadgen/relay"
)

// What a farm far from its filer sees: `run farm`. Each line is a target of its own, measured once; what it counts
// on the way to the origin is counted by the relay that makes the way long.

// A farm is an origin, the way to it, and serve.
type farm struct {
	fleet
	link       *relay.Relay
	host, port string
	serve      *daemon
	addr       string
	lines      [][]string
}

func runFarm(ctx context.Context, args []string) (err error) {
	f := flag.NewFlagSet("farm", flag.ContinueOnError)
	size := f.Int64("size", 1024, "MiB of the file that all read")
	clients := f.Int("clients", 100, "end clients that read it")
	binary := f.String("binary", "bin/holdfast", "the program to measure")
	dir := f.String("dir", "", "where the scratch directory is made (default: that for temporary files)")
	write := f.Bool("write", false, "write docs/bench/farm.md")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 || *size < 1 || *clients < 1 {
		return errors.New("farm: -size and -clients must be positive, and there are no arguments")
	}
	s := &settings{conns: 1}
	if s.binary, err = filepath.Abs(*binary); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp(*dir, "holdfast-farm-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	m := &farm{fleet: fleet{s: s}}
	defer func() { err = errors.Join(err, m.stop()) }()
	if err := m.begin(); err != nil {
		return err
	}
	for _, step := range []func(context.Context, int64, int) error{m.together, m.far, m.again, m.creates} {
		if err := step(ctx, *size<<20, *clients); err != nil {
			return err
		}
		if err := m.alive(); err != nil {
			return err
		}
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	var md strings.Builder
	md.WriteString("# A farm far from its filer\n\nWritten by `scripts/bench/run farm -write`; see [README.md](README.md).\n\n| what | measured | target | |\n| --- | --- | --- | --- |\n")
	for _, l := range m.lines {
		fmt.Fprintln(t, strings.Join(l, "\t"))
		fmt.Fprintf(&md, "| %s |\n", strings.Join(l, " | "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if *write {
		return os.WriteFile("docs/bench/farm.md", []byte(md.String()), 0o644)
	}
	return nil
}

// begin starts the origin, the way, and serve with an empty cache.
func (m *farm) begin() error {
	data := filepath.Join(m.s.dir, "data")
	if err := os.MkdirAll(data, 0o777); err != nil {
		return err
	}
	_, addr, err := m.holdfast("origin", "origin", data)
	if err != nil {
		return err
	}
	if m.link, addr, err = m.startRelay(addr); err != nil {
		return err
	}
	if m.host, m.port, err = net.SplitHostPort(addr); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	m.addr = fmt.Sprintf("127.0.0.1:%d", port)
	return m.startServe()
}

// age lets the files become older than what serve takes for settled (DESIGN I6), as what a farm reads mostly is: it
// knows the origin's clock by what it has seen of it.
func (m *farm) age(ctx context.Context) error {
	if err := m.file("clock", 1); err != nil {
		return err
	}
	if _, err := loadgen.ReadFile(ctx, m.addr, "/data/clock", 1); err != nil {
		return err
	}
	select {
	case <-time.After(1500 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (m *farm) startServe(more ...string) (err error) {
	m.serve, _, err = m.holdfastAt(m.addr, "serve", "serve", append([]string{m.host + ":/data", "-o", "port=" + m.port}, more...)...)
	return err
}

// restart ends serve and starts it on what it left.
func (m *farm) restart(more ...string) error {
	if err := m.serve.stop(); err != nil {
		return err
	}
	m.daemons = slices.DeleteFunc(m.daemons, func(d *daemon) bool { return d == m.serve })
	return m.startServe(more...)
}

// file makes a file at the origin without its being asked.
func (m *farm) file(name string, size int64) error {
	f, err := os.Create(filepath.Join(m.s.dir, "data", name))
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 7 >> 3)
	}
	for off := int64(0); off < size; off += int64(len(block)) {
		if _, err := f.WriteAt(block[:min(int64(len(block)), size-off)], off); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

func (m *farm) line(what, measured, target string, ok bool) {
	verdict := "met"
	if !ok {
		verdict = "missed"
	}
	m.lines = append(m.lines, []string{what, measured, target, verdict})
}

// fromOrigin is how many bytes f brings from the origin.
func (m *farm) fromOrigin(f func() error) (int64, error) {
	_, before := m.link.Bytes()
	err := f()
	_, after := m.link.Bytes()
	return after - before, err
}

// together: many clients read one cold file at once.
func (m *farm) together(ctx context.Context, size int64, clients int) error {
	if err := m.file("frame", size); err != nil {
		return err
	}
	if err := m.age(ctx); err != nil {
		return err
	}
	begun := time.Now()
	n, err := m.fromOrigin(func() error {
		g, ctx := errgroup.WithContext(ctx)
		for range clients {
			g.Go(func() error {
				_, err := loadgen.ReadFile(ctx, m.addr, "/data/frame", 2)
				return err
			})
		}
		return g.Wait()
	})
	if err != nil {
		return err
	}
	took := time.Since(begun)
	m.line(fmt.Sprintf("%d clients read one cold file of %d MiB", clients, size>>20),
		fmt.Sprintf("%.3f times its size from the origin; %.0f MB/s for all of them", float64(n)/float64(size), float64(size)*float64(clients)/1e6/took.Seconds()),
		"<= 1.02", float64(n) <= 1.02*float64(size))
	return nil
}

// far: one client reads a cold file from an origin 50 ms away.
func (m *farm) far(ctx context.Context, size int64, _ int) error {
	size = min(size, 512<<20)
	if err := m.file("far", size); err != nil {
		return err
	}
	if err := m.age(ctx); err != nil {
		return err
	}
	m.link.SetRTT(50 * time.Millisecond)
	defer m.link.SetRTT(0)
	r, err := loadgen.ReadFile(ctx, m.addr, "/data/far", 8)
	if err != nil {
		return err
	}
	rate := float64(r.Bytes) / 1e6 / r.Elapsed.Seconds()
	m.line(fmt.Sprintf("cold read of %d MiB in sequence, origin 50 ms away", size>>20),
		fmt.Sprintf("%.0f MB/s, %.2f of 1 Gbit/s", rate, rate/125), ">= 0.8 of 1 Gbit/s", rate >= 100)
	return nil
}

// again: the same file after a restart, in the mode strict.
func (m *farm) again(ctx context.Context, _ int64, _ int) error {
	if err := m.restart("--consistency", "strict"); err != nil {
		return err
	}
	const rtt = 50 * time.Millisecond
	m.link.SetRTT(rtt)
	defer m.link.SetRTT(0)
	var r loadgen.FileRead
	n, err := m.fromOrigin(func() (err error) {
		r, err = loadgen.ReadFile(ctx, m.addr, "/data/far", 8)
		return err
	})
	if err != nil {
		return err
	}
	m.line("the same after a restart, strict: first byte", fmt.Sprintf("%.2f round trips", float64(r.First)/float64(rtt)), "<= 2", r.First <= 2*rtt+rtt/5)
	m.line("the same: data from the origin", fmt.Sprintf("%d kB of %d MB", n/1000, r.Bytes/1000000), "none", n < 1<<20)
	return nil
}

// creates: 64 clients make files in one directory, with the origin 200 ms away.
func (m *farm) creates(ctx context.Context, _ int64, _ int) error {
	if err := m.restart(); err != nil {
		return err
	}
	m.link.SetRTT(200 * time.Millisecond)
	defer m.link.SetRTT(0)
	one := *loadgen.Find("create+close, 64 owners")
	one.Lanes = 1
	var rates [64]float64
	g, ctx := errgroup.WithContext(ctx)
	for i := range rates {
		g.Go(func() error {
			r, err := one.NFS(ctx, m.addr, "/data", loadgen.Options{Warm: 2 * time.Second, Time: 6 * time.Second})
			rates[i] = r.Rate
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	m.line("files created and closed in one directory by 64 clients, origin 200 ms away", amount(sum, "/s"), ">= 250/s", sum >= 250)
	return nil
}
