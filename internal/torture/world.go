package torture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/faultnet"
	"holdfast/internal/torture/judge"
)

// Config says what to torture, and for how long. Binary and Dir are needed.
type Config struct {
	Binary string        // the holdfast to run
	Dir    string        // scratch, which is not removed
	Seed   uint64        // of the plan and of the workers
	Time   time.Duration // how long; zero: one round
	Round  time.Duration // how long until all is repaired, judged, and begun anew; default 40 s
	Pause  time.Duration // the longest that a worker rests between steps; default 30 ms
	Log    io.Writer     // what happens; nil: nothing

	// Lease is that of end clients; the origin's is half as much again. Default 10 s.
	Lease time.Duration
	// Rough adds outages that outlast leases. Without them each loss is a violation.
	Rough bool
	// Kernels is how many Linux clients in VMs work beside ours, not with Rough: they are not told of each loss.
	// VM is the program that runs VMs.
	Kernels int
	VM      string
	// Plan, if not empty, is what is done, in turn, in place of a drawn plan: see actions.
	Plan []string
	// Serve and Origin are more arguments of the processes.
	Serve, Origin []string
	// Stop ends the run after the first round that has a violation.
	Stop bool
}

// A Report is what came of it.
type Report struct {
	Seed           uint64
	Took           time.Duration
	Rounds         int
	Kills          map[string]int // by process; those at crash points too
	Faults         map[string]int // by action
	Locks          int64          // grants, a cell at a time
	Kernels        int64          // of them, those of kernel clients
	Opens          int64
	Reads, Writes  int64
	Denied         int64
	Renames        int64
	Checked        int64 // operations that the judge has seen
	Lost           int64 // holds that clients were told are lost, each with a reason
	Violations     []string
	Stories        []string // files
	Unjudged       int      // cells whose history took too long to judge
	ServeRestarts  int
	OriginRestarts int
}

// String is the report for people.
func (r *Report) String() string {
	names := make([]string, 0, len(r.Faults))
	for f := range r.Faults {
		names = append(names, f)
	}
	sort.Strings(names)
	s := fmt.Sprintf("seed %d: %v in %d rounds: kills survived: %v; locks granted %d (%d to kernel clients), opens %d, denied %d, reads %d and writes %d under locks, renames %d; "+
		"operations judged %d, unjudged cells %d; losses with a reason %d; violations %d\nfaults:",
		r.Seed, r.Took.Round(time.Second), r.Rounds, r.Kills, r.Locks, r.Kernels, r.Opens, r.Denied, r.Reads, r.Writes, r.Renames, r.Checked, r.Unjudged, r.Lost, len(r.Violations))
	for _, f := range names {
		s += fmt.Sprintf(" %s %d,", f, r.Faults[f])
	}
	for _, v := range r.Violations {
		s += "\nVIOLATION " + v
	}
	return s
}

type tally struct{ locks, kernels, opens, reads, writes, denied, renames, lost atomic.Int64 }

// world is all there is.
type world struct {
	cfg     Config
	rng     *rand.Rand // of the plan: used by one goroutine
	begun   time.Time
	origin  *proc
	serves  []*proc
	procs   map[string]*proc
	links   map[string]*faultnet.Link
	clients []*client
	kernels []*kernel
	history history
	outages outages
	tally   tally

	lockFiles, shareFiles []string

	mu         sync.Mutex
	byFH       map[string]string // client and file handle -> file; guarded by mu
	violations []string          // guarded by mu
	stories    []string          // guarded by mu
	pending    []loss            // guarded by mu; judged when the outages are known
	kills      map[string]int    // guarded by mu
	faults     map[string]int    // guarded by mu
	recent     []string          // guarded by mu; what happened in this round
}

type loss struct {
	c    *client
	who  string
	cell string
	text string
	from time.Duration
	to   time.Duration
}

func (w *world) since() time.Duration { return time.Since(w.begun) }

func (w *world) count(n *atomic.Int64, by int64) { n.Add(by) }

// note says what happens.
func (w *world) note(format string, args ...any) {
	line := fmt.Sprintf("%8.3f ", w.since().Seconds()) + fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.recent = append(w.recent, line)
	if w.cfg.Log != nil {
		fmt.Fprintln(w.cfg.Log, line)
	}
}

func (w *world) violated(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.note("VIOLATION %s", text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, text)
}

// lost notes a loss, to be judged when it is known how long the outages around it were.
func (w *world) lost(c *client, o *owner, cell string, h hold, now time.Duration, why error) {
	w.tally.lost.Add(1)
	text := fmt.Sprintf("%s was told that it lost %s, which it had since %.3f: %v", o.name, cell, h.call.Seconds(), why)
	w.note("%s", text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = append(w.pending, loss{c, o.name, cell, text, h.call, now})
}

// judgeLosses finds losses without a reason (I2).
func (w *world) judgeLosses(ops []judge.Op) {
	w.mu.Lock()
	list := w.pending
	w.pending = nil
	w.mu.Unlock()
	limit := w.cfg.Lease / 2
	for _, l := range list {
		if out := w.outages.longest(l.c.path, l.from, l.to); out < limit {
			var own []judge.Op
			for _, o := range ops {
				if o.Owner == l.who && o.Cell == l.cell && o.Return >= int64(l.from) && o.Call <= int64(l.to) {
					own = append(own, o)
				}
			}
			w.violated("I2: %s; and nothing was broken for longer than %v, of a lease of %v. Its own operations:\n%s",
				l.text, out.Round(time.Millisecond), w.cfg.Lease, judge.Story(own))
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// build starts the processes and connects the clients.
func (w *world) build(ctx context.Context) error {
	export := filepath.Join(w.cfg.Dir, "export")
	if err := os.MkdirAll(export, 0o777); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	lease := func(d time.Duration) []string { return []string{"--lease", d.String(), "--grace", (d + d/2).String()} }
	clients := []string{"--export", "/data *(rw,no_root_squash,insecure)"}
	w.origin, err = newProc("origin", w.cfg.Binary, filepath.Join(w.cfg.Dir, "origin"), append(append(append([]string{"origin", export,
		"--listen", fmt.Sprintf("127.0.0.1:%d", port)}, clients...), lease(w.cfg.Lease*3/2)...), w.cfg.Origin...)...)
	if err != nil {
		return err
	}
	w.procs["origin"] = w.origin
	if ok, err := w.origin.boot(bootLimit); err != nil || !ok {
		return fmt.Errorf("the origin did not start: %w", err)
	}
	originAddr := fmt.Sprintf("127.0.0.1:%d", port)
	for i := range 2 {
		name := fmt.Sprint("serve", i)
		up, err := faultnet.Listen(originAddr)
		if err != nil {
			return err
		}
		w.links["link "+name] = up
		p, err := freePort()
		if err != nil {
			return err
		}
		args := append([]string{"serve", up.Addr() + ":/data", "--listen", fmt.Sprintf("127.0.0.1:%d", p)}, clients...)
		s, err := newProc(name, w.cfg.Binary, filepath.Join(w.cfg.Dir, name), append(append(args, lease(w.cfg.Lease)...), w.cfg.Serve...)...)
		if err != nil {
			return err
		}
		s.addr = fmt.Sprintf("127.0.0.1:%d", p)
		w.serves, w.procs[name] = append(w.serves, s), s
		if ok, err := s.boot(bootLimit); err != nil || !ok {
			return fmt.Errorf("%s did not start: %w", name, err)
		}
		for j := range 2 - i {
			c, err := w.newClient(fmt.Sprintf("c%d%d", i, j), s.addr, name, "link "+name, "origin")
			if err != nil {
				return err
			}
			w.clients = append(w.clients, c)
		}
	}
	c, err := w.newClient("direct", originAddr, "origin")
	if err != nil {
		return err
	}
	w.clients = append(w.clients, c)
	for _, c := range w.clients {
		c.life.Lock()
		err := c.connect(ctx)
		c.life.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// bootLimit is how long a process may take to be ready.
const bootLimit = 90 * time.Second

// Run tortures, and judges.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	r := &Report{Seed: cfg.Seed}
	if cfg.Kernels > 0 && cfg.Rough {
		return r, errors.New("kernel clients are not told of each loss: not with outages that outlast leases")
	}
	w, err := perform(ctx, cfg, func(ctx context.Context, w *world) (err error) {
		for err == nil && ctx.Err() == nil && (r.Rounds == 0 || w.since() < cfg.Time) {
			err = w.round(ctx, r)
			r.Rounds++
			if cfg.Stop && len(w.violations) > 0 {
				break
			}
		}
		return err
	})
	w.report(r)
	return r, err
}

// perform builds a world, lets something happen in it, and takes it down.
func perform(ctx context.Context, cfg Config, what func(context.Context, *world) error) (*world, error) {
	if cfg.Round <= 0 {
		cfg.Round = 40 * time.Second
	}
	if cfg.Pause <= 0 {
		cfg.Pause = 30 * time.Millisecond
	}
	if cfg.Lease <= 0 {
		cfg.Lease = 10 * time.Second
	}
	w := &world{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 1)), begun: time.Now(), procs: map[string]*proc{},
		links: map[string]*faultnet.Link{}, byFH: map[string]string{}, kills: map[string]int{}, faults: map[string]int{}}
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { w.outages.watch(w.since, stop) })
	err := w.build(ctx)
	// However it ends, as a test's story that fails: no process stays.
	defer func() {
		for _, p := range w.procs {
			p.abort()
		}
	}()
	leave := func() error { return nil }
	if err == nil {
		leave, err = w.bootKernels(ctx)
	}
	if err == nil {
		err = what(ctx, w)
	}
	err = errors.Join(err, leave())
	for _, c := range w.clients {
		if c.up != nil {
			c.up.Abandon()
		}
	}
	for _, name := range []string{"serve0", "serve1", "origin"} {
		if p := w.procs[name]; p != nil {
			if e := p.stop(); e != nil {
				w.violated("%v", e)
			}
		}
	}
	for _, l := range w.links {
		err = errors.Join(err, l.Close())
	}
	close(stop)
	watch.Wait()
	return w, err
}

func (w *world) report(r *Report) {
	r.Took = w.since()
	r.Kills, r.Faults, r.Violations, r.Stories = w.kills, w.faults, w.violations, w.stories
	t := &w.tally
	r.Locks, r.Kernels, r.Opens, r.Reads, r.Writes = t.locks.Load(), t.kernels.Load(), t.opens.Load(), t.reads.Load(), t.writes.Load()
	r.Denied, r.Renames, r.Lost = t.denied.Load(), t.renames.Load(), t.lost.Load()
}

// story writes what the judge found, and what was done, to a file that TestStories of package judge reads.
func (w *world) story(round int, f judge.Finding) {
	path := filepath.Join(w.cfg.Dir, fmt.Sprintf("violated-%d-%d-%s.txt", w.cfg.Seed, round, filepath.Base(filepath.Dir(f.Cell))+"-"+filepath.Base(f.Cell)))
	w.mu.Lock()
	text := fmt.Sprintf("# seed %d, round %d, cell %s. Times are in nanoseconds.\n", w.cfg.Seed, round, f.Cell)
	for _, line := range w.recent {
		text += "# " + line + "\n"
	}
	w.stories = append(w.stories, path)
	w.mu.Unlock()
	story := judge.Story(f.Ops)
	if err := os.WriteFile(path, []byte(text+story), 0o644); err != nil {
		w.violated("cannot write %s: %v", path, err)
	}
	w.violated("I1: what clients saw of %s cannot be; go test ./internal/torture/judge -run TestStories -story %s\n%s", f.Cell, path, story)
}
