package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"holdfast/internal/faultnet"
)

// An action breaks something and repairs it, all but what its outage leaves behind.
type action struct {
	weight int
	rough  bool // only where losses are expected
	do     func(w *world, ctx context.Context) error
}

// crashPoints are places to die at; those of a boot and of the end of grace are passed once in a life.
var crashPoints = []string{"journal.intent", "journal.committed", "journal.marked", "journal.answered"}

var bootPoints = []string{"journal.epoch.before", "journal.epoch.after", "journal.endgrace.before", "journal.endgrace.after",
	"journal.compact.before", "journal.compact.mid", "remote.identity", "remote.session"}

// actions are what a plan is made of.
var actions = map[string]action{
	"kill-serve":    {weight: 14, do: func(w *world, ctx context.Context) error { return w.killed(ctx, w.serve(), w.short()) }},
	"kill-origin":   {weight: 5, do: func(w *world, ctx context.Context) error { return w.killed(ctx, w.origin, w.short()) }},
	"kill-both":     {weight: 2, do: (*world).killBoth},
	"kill-in-grace": {weight: 5, do: (*world).killInGrace},
	"crash-serve":   {weight: 5, do: func(w *world, ctx context.Context) error { return w.crashPoint(ctx, w.serve(), crashPoints, 40) }},
	"crash-origin":  {weight: 2, do: func(w *world, ctx context.Context) error { return w.crashPoint(ctx, w.origin, crashPoints, 40) }},
	"crash-in-boot": {weight: 4, do: func(w *world, ctx context.Context) error { return w.crashPoint(ctx, w.serve(), bootPoints, 1) }},
	"stop-serve":    {weight: 3, do: func(w *world, ctx context.Context) error { return w.stopped(ctx, w.serve(), w.short()) }},
	"stop-origin":   {weight: 2, do: func(w *world, ctx context.Context) error { return w.stopped(ctx, w.origin, w.short()) }},
	"reset-link":    {weight: 3, do: func(w *world, ctx context.Context) error { return w.faulty(ctx, faultnet.Fault{}, 0) }},
	"cut-link":      {weight: 3, do: func(w *world, ctx context.Context) error { return w.faulty(ctx, faultnet.Fault{Cut: true}, w.short()) }},
	"stall-link":    {weight: 3, do: func(w *world, ctx context.Context) error { return w.faulty(ctx, w.stall(), w.short()) }},
	"slow-link": {weight: 2, do: func(w *world, ctx context.Context) error {
		return w.faulty(ctx, faultnet.Fault{Delay: 30 * time.Millisecond}, w.short())
	}},
	"late-packets":    {weight: 5, do: (*world).latePackets},
	"client-dies":     {weight: 4, do: func(w *world, ctx context.Context) error { return w.pickClient().die(ctx, 0) }},
	"clock-jumps":     {weight: 2, do: (*world).clockJump},
	"journal-fails":   {weight: 2, do: (*world).journalFails},
	"long-kill-serve": {weight: 5, rough: true, do: func(w *world, ctx context.Context) error { return w.killed(ctx, w.serve(), w.long()) }},
	"long-kill-origin": {weight: 2, rough: true, do: func(w *world, ctx context.Context) error {
		return w.killed(ctx, w.origin, w.long())
	}},
	"long-stop-serve":  {weight: 4, rough: true, do: func(w *world, ctx context.Context) error { return w.stopped(ctx, w.serve(), w.long()) }},
	"long-stop-origin": {weight: 1, rough: true, do: func(w *world, ctx context.Context) error { return w.stopped(ctx, w.origin, w.long()) }},
	"long-stall-link":  {weight: 6, rough: true, do: func(w *world, ctx context.Context) error { return w.faulty(ctx, w.stall(), w.long()) }},
	"long-cut-link": {weight: 4, rough: true, do: func(w *world, ctx context.Context) error {
		return w.faulty(ctx, faultnet.Fault{Cut: true}, w.long())
	}},
	"client-dies-long": {weight: 2, rough: true, do: func(w *world, ctx context.Context) error { return w.pickClient().die(ctx, w.long()) }},
}

func (w *world) serve() *proc        { return w.serves[w.rng.IntN(len(w.serves))] }
func (w *world) pickClient() *client { return w.clients[w.rng.IntN(len(w.clients))] }

// short is an outage that every lease outlives, long one that most do not.
func (w *world) short() time.Duration { return time.Duration(w.rng.Int64N(int64(w.cfg.Lease / 12))) }
func (w *world) long() time.Duration {
	return w.cfg.Lease*3/4 + time.Duration(w.rng.Int64N(int64(2*w.cfg.Lease)))
}

func (w *world) stall() faultnet.Fault {
	return []faultnet.Fault{{StallUp: true}, {StallDown: true}, {StallUp: true, StallDown: true}}[w.rng.IntN(3)]
}

// draw picks an action by weight.
func (w *world) draw() string {
	names, total := make([]string, 0, len(actions)), 0
	for n, a := range actions {
		if !a.rough || w.cfg.Rough {
			names = append(names, n)
			total += a.weight
		}
	}
	sort.Strings(names)
	x := w.rng.IntN(total)
	for _, n := range names {
		if x -= actions[n].weight; x < 0 {
			return n
		}
	}
	return names[0]
}

// wreck does one action after another until ctx ends. Everything random about it comes from w.rng.
func (w *world) wreck(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		if !rest(ctx, time.Duration(w.rng.Int64N(int64(1500*time.Millisecond)))) {
			return
		}
		name := w.draw()
		if len(w.cfg.Plan) > 0 {
			name = w.cfg.Plan[i%len(w.cfg.Plan)]
		}
		a, ok := actions[name]
		if !ok {
			w.violated("there is no action %s", name)
			return
		}
		w.mu.Lock()
		w.faults[name]++
		w.mu.Unlock()
		w.note("%s", name)
		if err := a.do(w, ctx); err != nil && ctx.Err() == nil {
			w.violated("%s: %v", name, err)
		}
	}
}

// rest waits; false if ctx ended.
func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *world) countKill(p *proc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kills[strings.TrimRight(p.name, "0123456789")]++
}

// killed kills p, and boots it after a while.
func (w *world) killed(ctx context.Context, p *proc, absent time.Duration, env ...string) error {
	from := w.since()
	p.kill()
	w.countKill(p)
	w.note("  %s is killed for %v %v", p.name, absent.Round(time.Millisecond), env)
	rest(ctx, absent)
	return w.bootUntil(ctx, p, from, env...)
}

// bootUntil boots p, again if it dies on the way, until it is ready, and notes the outage.
func (w *world) bootUntil(ctx context.Context, p *proc, from time.Duration, env ...string) error {
	defer func() { w.outages.add(p.name, from, w.since()) }()
	for try := 0; try < 5; try++ {
		ok, err := p.boot(bootLimit, env...)
		if err != nil {
			return err
		}
		if ok {
			w.note("  %s is back", p.name)
			return nil
		}
		select {
		case <-p.gone(): // its pipe ends a moment before it
		case <-time.After(time.Second):
			return fmt.Errorf("%s is not ready after %v", p.name, bootLimit)
		}
		if len(env) > 0 {
			w.countKill(p)
		}
		env = nil
	}
	return fmt.Errorf("%s does not start", p.name)
}

func (w *world) killBoth(ctx context.Context) error {
	s := w.serve()
	from := w.since()
	s.kill()
	w.countKill(s)
	if err := w.killed(ctx, w.origin, w.short()); err != nil {
		return err
	}
	return w.bootUntil(ctx, s, from)
}

// killInGrace kills a server again, once or twice, before it can have taken all reclaims.
func (w *world) killInGrace(ctx context.Context) error {
	s := w.serve()
	from := w.since()
	s.kill()
	w.countKill(s)
	for range 1 + w.rng.IntN(2) {
		if err := s.launch(); err != nil {
			return err
		}
		s.waitReady(bootLimit)
		rest(ctx, time.Duration(w.rng.Int64N(int64(600*time.Millisecond))))
		s.kill()
		w.countKill(s)
		w.note("  %s is killed again", s.name)
	}
	return w.bootUntil(ctx, s, from)
}

// crashPoint boots p so that it dies at a crash point, then without.
func (w *world) crashPoint(ctx context.Context, p *proc, points []string, most int) error {
	env := fmt.Sprintf("HOLDFAST_CRASH=%s:%d", points[w.rng.IntN(len(points))], 1+w.rng.IntN(most))
	if err := w.killed(ctx, p, 0, env); err != nil {
		return err
	}
	// It may die a while later, or never get there: then it stays as it is, and may die in a later action.
	select {
	case <-p.gone():
		from := w.since()
		w.countKill(p)
		w.note("  %s died at %s", p.name, env)
		return w.bootUntil(ctx, p, from)
	case <-time.After(2 * time.Second):
		return w.killed(ctx, p, 0)
	case <-ctx.Done():
		return nil
	}
}

func (w *world) stopped(ctx context.Context, p *proc, d time.Duration) error {
	from := w.since()
	p.signal(syscall.SIGSTOP)
	w.note("  %s is stopped for %v", p.name, d.Round(time.Millisecond))
	rest(ctx, d)
	p.signal(syscall.SIGCONT)
	w.outages.add(p.name, from, w.since())
	return nil
}

// faulty has a link broken for a while; with no time, reset once.
func (w *world) faulty(ctx context.Context, f faultnet.Fault, d time.Duration) error {
	names := make([]string, 0, len(w.links))
	for n := range w.links {
		names = append(names, n)
	}
	sort.Strings(names)
	name := names[w.rng.IntN(len(names))]
	from := w.since()
	w.note("  %s: %+v for %v", name, f, d.Round(time.Millisecond))
	if d == 0 {
		w.links[name].Reset()
	} else {
		w.links[name].Set(f)
		rest(ctx, d)
		w.links[name].Set(faultnet.Fault{})
	}
	w.outages.add(name, from, w.since())
	return nil
}

// latePackets kills a server while what it sent is held up on the way to the origin, where it arrives when the
// server's next life is under way: the dead must not write.
func (w *world) latePackets(ctx context.Context) error {
	s := w.serve()
	from := w.since()
	thaw := w.links["link "+s.name].Freeze()
	defer thaw()
	rest(ctx, time.Duration(w.rng.Int64N(int64(300*time.Millisecond))))
	s.kill()
	w.countKill(s)
	if err := w.bootUntil(ctx, s, from); err != nil {
		return err
	}
	rest(ctx, time.Duration(w.rng.Int64N(int64(3*time.Second))))
	w.note("  what %s sent before arrives", s.name)
	return nil
}

// clockJump kills a process; when it is back its clock is another.
func (w *world) clockJump(ctx context.Context) error {
	p := append([]*proc{w.origin}, w.serves...)[w.rng.IntN(1+len(w.serves))]
	by := time.Duration(w.rng.Int64N(int64(48*time.Hour))) - 24*time.Hour
	return w.killed(ctx, p, 0, fmt.Sprintf("HOLDFAST_CLOCK=%v", by))
}

// journalFails boots a process whose journal's disk will soon be full, or fail to sync. It must stop by
// itself and say so; the next boot finds all that was acknowledged.
func (w *world) journalFails(ctx context.Context) error {
	p := append([]*proc{w.origin}, w.serves...)[w.rng.IntN(1+len(w.serves))]
	fault := []string{"full", "sync"}[w.rng.IntN(2)]
	if err := w.killed(ctx, p, 0, fmt.Sprintf("HOLDFAST_FAULT=journal.%s:%d", fault, 1+w.rng.IntN(30))); err != nil {
		return err
	}
	select {
	case <-p.gone():
		from := w.since()
		w.countKill(p)
		w.note("  %s ended when its journal failed", p.name)
		return w.bootUntil(ctx, p, from)
	case <-time.After(2 * time.Second): // there was nothing to write; or it takes its time to stop
		return w.killed(ctx, p, 0)
	case <-ctx.Done():
		return nil
	}
}

// repair makes everything work again.
func (w *world) repair(ctx context.Context) error {
	for _, l := range w.links {
		l.Set(faultnet.Fault{})
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(w.procs))
	for _, p := range append([]*proc{w.origin}, w.serves...) {
		p.signal(syscall.SIGCONT)
		wg.Go(func() {
			// What was booted with a fault may still carry it, so it is booted once more without.
			errs <- w.killed(ctx, p, 0)
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Seed draws a seed for who has none.
func Seed() uint64 { return rand.Uint64() >> 40 }
