// Command bench measures what holdfast does to the speed of an NFS server. It starts an original server
// over a scratch directory, a re-export of it with a local mount, and, if it is installed,
// nfs-ganesha, each on loopback ports of its own, and does the same workloads on all of them, one
// right after the other, in each of several rounds. What a reader should look at is the ratios: they
// are made within a round, where the machine is the same.
//
// Run it as root by scripts/bench/run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/loadgen"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	switch role {
	case "worker":
		err = worker(ctx, os.Args[2:])
	case "farm":
		err = runFarm(ctx, os.Args[2:])
	case "recovery":
		err = runRecovery(ctx, os.Args[2:])
	default:
		err = run(ctx, os.Args[1:])
	}
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	short, write, keep, limits bool
	rounds                     int
	time, warm                 time.Duration
	size                       int64
	conns                      int
	rtts                       []time.Duration
	match                      *regexp.Regexp
	targets                    []string
	binary, dir                string
	hold                       time.Duration
	other                      string
}

// Targets that need no address; otherTarget is the server of -other.
var allTargets = []string{"origin", "serve", "delegated", "fuse", "ganesha", "proxy", "dir"}

const otherTarget = "other"

func parse(args []string) (*settings, error) {
	s := &settings{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.BoolVar(&s.short, "short", false, "one short round, under a minute in all")
	f.BoolVar(&s.write, "write", false, "write docs/bench/results.md and .json, and plots")
	f.BoolVar(&s.keep, "keep", false, "leave the scratch directory, with the daemons' logs")
	f.IntVar(&s.rounds, "n", 5, "rounds")
	f.DurationVar(&s.time, "time", time.Second, "measured time of a workload")
	f.DurationVar(&s.warm, "warm", 200*time.Millisecond, "time before that")
	size := f.Int64("size", 256, "size of the data files in MiB")
	f.IntVar(&s.conns, "conns", 1, "connections of the load generator, and of serve to the origin")
	rtt := f.String("rtt", "0", "round-trip times to the origin, as 0,10ms: a table for each")
	match := f.String("run", "", "only the workloads that match this regular expression")
	targets := f.String("targets", strings.Join(allTargets, ","), "what to measure; dir is the bare directory")
	f.StringVar(&s.binary, "binary", "bin/holdfast", "the program to measure")
	f.StringVar(&s.dir, "dir", "", "where the scratch directory is made (default: that for temporary files)")
	f.DurationVar(&s.hold, "profile", 0, "profile each daemon by perf for this long in each workload, and print where the time goes")
	f.BoolVar(&s.limits, "limits", true, "measure what the machine can do")
	f.StringVar(&s.other, "other", "", "also measure this NFSv4.1 server, as HOST:PORT/PATH")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("no arguments are expected, but there is %q", f.Arg(0))
	}
	if s.short {
		set := map[string]bool{}
		f.Visit(func(f *flag.Flag) { set[f.Name] = true })
		for name, v := range map[string]string{"n": "1", "time": "350ms", "warm": "100ms", "size": "64"} {
			if !set[name] {
				if err := f.Set(name, v); err != nil {
					return nil, err
				}
			}
		}
	}
	s.size = *size << 20
	if s.rounds < 1 || s.size < 1<<20 || s.time <= 0 || s.conns < 1 {
		return nil, errors.New("-n, -size, -time and -conns must be positive")
	}
	for _, t := range strings.Split(*rtt, ",") {
		d, err := time.ParseDuration(t)
		if err != nil || d < 0 {
			return nil, fmt.Errorf("-rtt: %q is no time", t)
		}
		s.rtts = append(s.rtts, d)
	}
	if *targets != "" {
		s.targets = strings.Split(*targets, ",")
	}
	for _, t := range s.targets {
		if !slices.Contains(allTargets, t) {
			return nil, fmt.Errorf("-targets: %q is none of %s", t, strings.Join(allTargets, ", "))
		}
	}
	var err error
	s.match, err = regexp.Compile(*match)
	return s, err
}

func (s *settings) wants(target string) bool { return slices.Contains(s.targets, target) }

func (s *settings) options() loadgen.Options {
	return loadgen.Options{Warm: s.warm, Time: s.time, FileSize: s.size, Conns: s.conns}
}

func run(ctx context.Context, args []string) (err error) {
	s, err := parse(args)
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
	rep := newReport(s)
	for _, rtt := range s.rtts {
		if err := measureAll(ctx, s, rep.section(rtt)); err != nil {
			return err
		}
	}
	if err := rep.print(os.Stdout); err != nil {
		return err
	}
	if s.write {
		if err := rep.write("docs/bench"); err != nil {
			return err
		}
	}
	return rep.failure()
}

// A target is what is measured: by NFS if it has an address, else as a directory.
type target struct {
	name       string
	addr, path string
	dir        string
	daemons    []*daemon // that work for it, the one that is asked first
	only       *regexp.Regexp
}

// measureAll starts everything, and measures all workloads on all targets, round by round.
func measureAll(ctx context.Context, s *settings, sec *section) (err error) {
	set := &fleet{s: s, rtt: sec.rtt}
	defer func() { err = errors.Join(err, set.stop()) }()
	if err := set.start(ctx); err != nil {
		return err
	}
	sec.Notes = append(sec.Notes, set.notes...)
	for round := range s.rounds {
		for _, l := range loadgen.Limits() {
			if !s.limits {
				break
			}
			r, err := l.Run(ctx, set.peer, s.dir, s.options())
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			sec.add(round, "limit", l.Name, outcome{Result: r}, err)
		}
		for _, w := range workloads {
			if !s.match.MatchString(w.Name) {
				continue
			}
			for _, t := range set.targets {
				if t.only != nil && !t.only.MatchString(w.Name) {
					continue
				}
				progress("round %d of %d: %s: %s", round+1, s.rounds, w.Name, t.name)
				r, err := measureOne(ctx, s, w, t)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if !errors.Is(err, loadgen.ErrNoLocal) {
					sec.add(round, t.name, w.Name, r, err)
				}
				if err := set.alive(); err != nil {
					return err
				}
			}
		}
	}
	progress("")
	return nil
}

// progress shows what goes on, if somebody watches.
func progress(format string, a ...any) {
	if _, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS); err == nil {
		fmt.Fprintf(os.Stderr, "\r\033[K"+format, a...)
	}
}

// measureTime is the longest that a measurement may take, with preparation.
func measureTime(s *settings) time.Duration { return s.warm + s.time + 90*time.Second }

func measureOne(ctx context.Context, s *settings, w *loadgen.Workload, t *target) (outcome, error) {
	ctx, stop := context.WithTimeoutCause(ctx, measureTime(s), fmt.Errorf("not done in %v", measureTime(s)))
	defer stop()
	o := s.options()
	var begin, end time.Duration
	o.Phase = func(counting bool) {
		if counting {
			begin = cpuTime(t.daemons)
		} else {
			end = cpuTime(t.daemons)
		}
	}
	profiled := make(chan error, 1)
	if s.hold > 0 && len(t.daemons) > 0 {
		o.Warm, o.Time = 0, max(o.Time, s.hold+500*time.Millisecond)
		go func() { profiled <- profile(ctx, s, w.Name, t) }()
	} else {
		profiled <- nil
	}
	var r loadgen.Result
	var err error
	if t.addr != "" {
		r, err = w.NFS(ctx, t.addr, t.path, o)
	} else {
		o.Drop = len(t.daemons) > 0
		r, err = localWorker(ctx, w, t.dir, o)
	}
	out := outcome{Result: r}
	if r.Rounds > 0 {
		out.CPU = (end - begin) / time.Duration(r.Rounds)
	}
	return out, errors.Join(err, <-profiled)
}

// cpuTime is how long daemons have run on a CPU until now. One that has ended counts as nothing; that is
// noticed elsewhere.
func cpuTime(list []*daemon) time.Duration {
	var sum time.Duration
	for _, d := range list {
		var t unix.Timespec
		// A process's CPU clock is named by its number: see clock_getcpuclockid(3).
		if unix.ClockGettime(int32(^d.cmd.Process.Pid<<3|2), &t) == nil {
			sum += time.Duration(t.Nano())
		}
	}
	return sum
}

// profile prints what the daemon of a target does in a workload.
func profile(ctx context.Context, s *settings, name string, t *target) error {
	pause := time.NewTimer(400 * time.Millisecond) // the preparation
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	file := filepath.Join(s.dir, "perf.data")
	pid := fmt.Sprint(t.daemons[0].cmd.Process.Pid)
	out, err := exec.CommandContext(ctx, "perf", "record", "-q", "-g", "-F", "1500", "-o", file, "-p", pid, "--", "sleep", fmt.Sprint(s.hold.Seconds())).CombinedOutput()
	if err != nil {
		return fmt.Errorf("perf record: %w: %s", err, out)
	}
	for _, order := range []string{"--no-children", "--children"} {
		out, err := exec.CommandContext(ctx, "perf", "report", "--stdio", "-g", "none", order, "--percent-limit", "1", "-i", file).Output()
		if err != nil {
			return fmt.Errorf("perf report: %w", err)
		}
		fmt.Printf("\n=== %s, %s, %s\n%s", name, t.name, order, out)
	}
	return nil
}
