package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/nfsup"
)

// recoverySettings are the flags of "bench recovery".
type recoverySettings struct {
	settings
	locks   []int
	clients int
	modes   []string // settings of serve for the boots that are measured
	cost    bool
}

func parseRecovery(args []string) (*recoverySettings, error) {
	s := &recoverySettings{}
	f := flag.NewFlagSet("bench recovery", flag.ContinueOnError)
	locks := f.String("locks", "1000,10000,100000", "how many locks are held; a line for each")
	f.IntVar(&s.clients, "clients", 1000, "clients that hold them, each on a file of its own")
	modes := f.String("modes", "recovery=reclaim,restart=auto;recovery=resume,restart=auto;recovery=reclaim,restart=grace;recovery=resume,restart=grace", "flags of serve to measure, as name=value,name=value;...")
	f.BoolVar(&s.cost, "cost", true, "measure what the journal costs")
	f.StringVar(&s.binary, "binary", "bin/holdfast", "the program to measure")
	f.StringVar(&s.dir, "dir", "", "where the scratch directory is made")
	f.BoolVar(&s.keep, "keep", false, "leave the scratch directory, with the daemons' logs")
	f.DurationVar(&s.time, "time", 3*time.Second, "measured time of a round of -cost")
	f.IntVar(&s.rounds, "n", 3, "rounds of -cost")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	for _, n := range strings.Split(*locks, ",") {
		v, err := strconv.Atoi(n)
		if err != nil || v < 1 {
			return nil, fmt.Errorf("-locks: %q is no number", n)
		}
		s.locks = append(s.locks, v)
	}
	s.modes = strings.Split(*modes, ";")
	if s.clients < 1 || s.rounds < 1 {
		return nil, errors.New("-clients and -n must be positive")
	}
	s.warm = 500 * time.Millisecond
	return s, nil
}

// runRecovery measures how long clients wait when the re-export server is killed and started again.
func runRecovery(ctx context.Context, args []string) (err error) {
	s, err := parseRecovery(args)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("must run as root: the daemons do")
	}
	if s.dir, err = os.MkdirTemp(s.dir, "holdfast-bench-"); err != nil {
		return err
	}
	if !s.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	}
	if s.binary, err = filepath.Abs(s.binary); err != nil {
		return err
	}
	if s.cost {
		if err := journalCost(ctx, &s.settings); err != nil {
			return err
		}
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	fmt.Printf("\nload average before: %s\n", strings.Join(strings.Fields(string(load))[:3], " "))
	fmt.Printf("%-9s %-8s %-30s %10s %12s %12s %11s %10s %11s %6s\n", "locks", "clients", "serve", "ready", "first grant", "all granted", "reclaims/s", "serve CPU", "origin CPU", "lost")
	for _, n := range s.locks {
		if err := s.recovery(ctx, n); err != nil {
			return err
		}
	}
	fmt.Println("\nTimes are from the start of the new process. A grant is a new lock of a client that held locks before,")
	fmt.Println("so it comes after the client's own recovery; \"all\" is when the last client got one. No lock may be lost.")
	fmt.Println("CPU is what the two processes used from the start to the last grant; on one machine they share its cores.")
	return nil
}

var benchCred = &rpc.Cred{Flavor: rpc.AUTH_SYS, Machine: "bench"}

func upOwner(kind string, n int) nfsup.UpOwner {
	return sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, n))
}

// A holder is a client with its locks.
type holder struct {
	c     *nfsup.Client
	fh    nfs4.FH
	n     int // of itself
	locks int
	spare uint64 // the next range that it has not locked yet

	mu   sync.Mutex
	last nfsup.Recovery
	lost int
}

// Ranges of a lock-owner, so that there are owners and ranges in a ratio that is seen in practice.
const rangesPerOwner = 10

// recovery takes n locks, and kills and boots serve once for each mode.
func (s *recoverySettings) recovery(ctx context.Context, n int) (err error) {
	set := s.settings
	set.dir = filepath.Join(s.dir, fmt.Sprint(n))
	data := filepath.Join(set.dir, "data")
	if err := os.MkdirAll(data, 0o777); err != nil {
		return err
	}
	f := &fleet{s: &set}
	defer func() { err = errors.Join(err, f.stop()) }()
	original, origin, err := f.holdfast("origin", "origin", data, "--lease", "90s", "--grace", "90s", "--retain", "always")
	if err != nil {
		return err
	}
	host, port, _ := strings.Cut(origin, ":")
	args := []string{host + ":/data", "-o", "port=" + port, "--lease", "90s", "--grace", "90s"}
	serve, addr, err := f.holdfast("serve", "serve", append(args, flagsOf(s.modes[0])...)...)
	if err != nil {
		return err
	}
	clients := min(s.clients, max(n/rangesPerOwner, 1))
	holders := make([]*holder, clients)
	defer func() {
		for _, h := range holders {
			if h != nil && h.c != nil {
				h.c.Abandon()
			}
		}
	}()
	begin := time.Now()
	err = each(clients, func(i int) error {
		h := &holder{n: i, locks: n/clients + btoi(i < n%clients)}
		holders[i] = h
		return h.take(ctx, addr)
	})
	if err != nil {
		return err
	}
	took := time.Since(begin)
	for i, mode := range s.modes {
		if err := serve.cmd.Process.Signal(syscall.SIGKILL); err != nil {
			return err
		}
		<-serve.exited
		begin, used := time.Now(), cpuTime([]*daemon{original})
		grants := make(chan time.Duration, clients)
		failed := make(chan error, clients)
		for _, h := range holders {
			go func() {
				if err := h.more(ctx); err != nil {
					failed <- err
					return
				}
				grants <- time.Since(begin)
			}()
		}
		f.daemons = f.daemons[:1]
		serve, _, err = f.holdfastAt(addr, "serve", "serve", append(args, flagsOf(mode)...)...)
		if err != nil {
			return err
		}
		ready := time.Since(begin)
		var first, last time.Duration
		for i := range holders {
			select {
			case last = <-grants:
			case err := <-failed:
				return fmt.Errorf("%s: %w\n%s", mode, err, serve.tail())
			case <-time.After(5 * time.Minute):
				return fmt.Errorf("%s: %d of %d clients got no lock within 5 minutes\n%s", mode, clients-i, clients, serve.tail())
			}
			if i == 0 {
				first = last
			}
		}
		served, used := cpuTime([]*daemon{serve}), cpuTime([]*daemon{original})-used
		lost := 0
		for _, h := range holders {
			h.mu.Lock()
			lost += h.lost
			h.lost = 0
			h.mu.Unlock()
		}
		fmt.Printf("%-9d %-8d %-30s %10s %12s %12s %11.0f %10s %11s %6d\n", n, clients, strings.ReplaceAll(mode, ",", " "), ms(ready), ms(first), ms(last), float64(n)/last.Seconds(), ms(served), ms(used), lost)
		if lost > 0 {
			return fmt.Errorf("%s: %d locks were lost", mode, lost)
		}
		if err := s.rival(ctx, addr, holders, i); err != nil {
			return err
		}
	}
	fmt.Printf("%-9s (%d locks were taken in %s: %.0f/s)\n", "", n, ms(took), float64(n)/took.Seconds())
	return nil
}

// flagsOf turns name=value,... into flags.
func flagsOf(mode string) (list []string) {
	for _, m := range strings.Split(mode, ",") {
		if m != "" {
			list = append(list, "--"+m)
		}
	}
	return list
}

func ms(d time.Duration) string { return d.Round(time.Millisecond).String() }

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// each runs f for 0 to n-1, 64 at a time, and returns the first error.
func each(n int, f func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, min(n, 64))
	for w := range errs {
		wg.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				errs[w] = f(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// take connects the client and takes its locks.
func (h *holder) take(ctx context.Context, addr string) (err error) {
	h.c, err = nfsup.Dial(ctx, nfsup.Config{
		Addr: addr, OwnerID: fmt.Appendf(nil, "bench client %d", h.n), Verifier: [8]byte{1}, Cred: benchCred,
		Events: nfsup.Events{
			Recovered: func(r nfsup.Recovery) {
				h.mu.Lock()
				h.last = r
				h.lost += r.LostLocks + r.LostOpens
				h.mu.Unlock()
			},
		},
	})
	if err != nil {
		return err
	}
	if err := h.c.ReclaimComplete(ctx); err != nil {
		return err
	}
	var dir nfs4.FH
	err = h.c.CompoundAll(ctx, benchCred, []nfs4.Args{&nfs4.PutrootfhArgs{}, &nfs4.LookupArgs{Name: "data"}, &nfs4.GetfhArgs{}},
		func(res []nfs4.Res) error { dir = res[2].(*nfs4.GetfhRes).FH; return nil })
	if err != nil {
		return err
	}
	owners := (h.locks + rangesPerOwner - 1) / rangesPerOwner
	return each(owners, func(o int) error {
		r, err := h.c.Open(ctx, benchCred, &nfsup.OpenArgs{Owner: upOwner("open", o), Access: 3, Dir: dir, Name: fmt.Sprint(h.n),
			How: nfs4.OpenHow{Type: nfs4.OPEN4_CREATE, Mode: nfs4.UNCHECKED4, Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 0o666}}})
		if err != nil {
			return err
		}
		if o == 0 {
			h.fh = r.FH
		}
		for i := o * rangesPerOwner; i < min((o+1)*rangesPerOwner, h.locks); i++ {
			if err := h.lock(ctx, r.FH, o, uint64(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (h *holder) lock(ctx context.Context, fh nfs4.FH, o int, n uint64) error {
	return h.c.Lock(ctx, benchCred, &nfsup.LockArgs{FH: fh, OpenOwner: upOwner("open", o), LockOwner: upOwner("lock", o), Range: lockRange(n), Write: true})
}

// lockRange is the n-th range; there are gaps, so that ranges do not merge.
func lockRange(n uint64) nfsup.Range { return nfsup.Range{First: n * 10, Last: n*10 + 8} }

// more takes one lock more: what an application sees of a reboot.
func (h *holder) more(ctx context.Context) error {
	h.spare++
	for {
		err := h.lock(ctx, h.fh, 0, uint64(h.locks)+h.spare)
		if s, _ := nfsup.StatusOf(err); s != nfs4.NFS4ERR_GRACE && s != nfs4.NFS4ERR_DELAY {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// rival tries to get some of the locks, which it must not.
func (s *recoverySettings) rival(ctx context.Context, addr string, holders []*holder, boot int) (err error) {
	r := &holder{n: -1 - boot}
	if err := r.take(ctx, addr); err != nil {
		return err
	}
	// It gives its opens back: a grace period of the next boot would wait for it.
	defer func() { err = errors.Join(err, r.c.Close(ctx)) }()
	for i := 0; i < len(holders); i += max(len(holders)/10, 1) {
		h := holders[i]
		if _, err := r.c.Open(ctx, benchCred, &nfsup.OpenArgs{Owner: upOwner("rival", 0), Access: 3, FH: h.fh}); err != nil {
			return err
		}
		for n := 0; n < h.locks; n += max(h.locks/10, 1) {
			err := r.c.Lock(ctx, benchCred, &nfsup.LockArgs{FH: h.fh, OpenOwner: upOwner("rival", 0), LockOwner: upOwner("rival", 1), Range: lockRange(uint64(n)), Write: true})
			var denied *nfsup.DeniedError
			if !errors.As(err, &denied) {
				return fmt.Errorf("a rival asked for lock %d of client %d, and heard %v", n, i, err)
			}
		}
	}
	return nil
}
