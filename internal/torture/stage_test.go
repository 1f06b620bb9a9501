package torture

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/faultnet"
	"holdfast/internal/nfs4"
	"holdfast/internal/torture/judge"
)

// A stage is a world without a plan: a test says what happens, and when. Clients c00 and c01 mount serve0,
// c10 mounts serve1, and direct the origin.
type stage struct {
	*world
	t   *testing.T
	ctx context.Context
}

// stageLimit bounds each wait of a story.
const stageLimit = 90 * time.Second

const stageFile = "r0-f0"

// play builds a world, lets story happen in it, has everything given back, and judges. It returns the violations.
func play(t *testing.T, cfg Config, story func(*stage)) []string {
	t.Helper()
	var s *stage
	cfg.Time = 0
	w, err := perform(t.Context(), cfg, func(ctx context.Context, w *world) error {
		if err := w.files(ctx, 0); err != nil {
			return err
		}
		s = &stage{w, t, ctx}
		story(s)
		w.settle(ctx)
		for _, f := range judge.Judge(w.history.take(), judgeTime) {
			w.story(0, f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return w.violations
}

// by gives a client.
func (s *stage) by(name string) *client {
	for _, c := range s.clients {
		if c.name == name {
			return c
		}
	}
	s.t.Fatalf("there is no client %s", name)
	return nil
}

// worker is an owner of a client that has the file open.
func (s *stage) worker(client, name string) *worker {
	s.t.Helper()
	return s.workerOf(s.by(client), name)
}

func (s *stage) workerOf(c *client, name string) *worker {
	s.t.Helper()
	k := &worker{c: c, o: c.newOwner(name), rng: rand.New(rand.NewPCG(1, 1)), life: c.lives, opened: map[string]bool{}}
	s.until(k.o.name+" opens", func() bool { return k.openFile(stageFile, k.c.files[stageFile]) })
	return k
}

// until repeats f, as real processes need their time.
func (s *stage) until(what string, f func() bool) {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.ctx, stageLimit)
	defer stop()
	for !f() {
		if !rest(ctx, 50*time.Millisecond) {
			s.t.Fatalf("not in time: %s", what)
		}
	}
	s.note("story: %s", what)
}

func (k *worker) has(cell int) bool {
	k.o.mu.Lock()
	defer k.o.mu.Unlock()
	_, ok := k.o.held[cellOf(stageFile, cell)]
	return ok
}

// tries asks for a cell once, exclusively.
func (k *worker) tries(cell int) bool {
	if !k.opened[stageFile] && !k.openFile(stageFile, k.c.files[stageFile]) {
		return false
	}
	k.lock(stageFile, k.c.files[stageFile], cell, cell, true)
	return k.has(cell)
}

// gets asks for a cell until it is granted.
func (s *stage) gets(k *worker, cell int) {
	s.t.Helper()
	s.until(k.o.name+" gets the lock", func() bool { return k.tries(cell) })
}

// refused wants that a cell is not granted.
func (s *stage) refused(k *worker, cell int, when string) {
	s.t.Helper()
	if k.tries(cell) {
		s.t.Errorf("%s got the lock %s", k.o.name, when)
	}
}

// frees unlocks a cell.
func (s *stage) frees(k *worker, cell int) {
	s.t.Helper()
	s.until(k.o.name+" unlocks", func() bool { return k.unlock(stageFile, k.c.files[stageFile], cell, cell) })
}

// writes puts the next number into a cell.
func (s *stage) writes(k *worker, cell int) {
	s.t.Helper()
	s.until(k.o.name+" writes", func() bool { return s.writesOnce(k, cell) })
}

// writesOnce tries that once.
func (s *stage) writesOnce(k *worker, cell int) bool {
	fh := k.c.files[stageFile]
	v, ok := k.read(cellOf(stageFile, cell), fh, cell)
	if ok {
		k.write(cellOf(stageFile, cell), fh, cell, v+1)
	}
	return ok
}

// returns waits until a client has an answer, and knows what became of its state.
func (s *stage) returns(c *client) {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.ctx, stageLimit)
	defer stop()
	if err := c.retry(ctx, func(ctx context.Context) error {
		return c.up.Compound(ctx, cred, []nfs4.Args{&nfs4.PutrootfhArgs{}}, nil)
	}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) keeps(k *worker, cell int, when string) {
	s.t.Helper()
	s.returns(k.c)
	if !k.has(cell) {
		s.t.Errorf("%s lost its lock %s (I2)", k.o.name, when)
		return
	}
	s.writes(k, cell)
}

// loses waits until a client is told of its loss.
func (s *stage) loses(k *worker, cell int, when string) {
	s.t.Helper()
	s.until(k.o.name+" is told that it lost its lock "+when, func() bool { s.returns(k.c); return !k.has(cell) })
}

func (s *stage) cut(c *client) {
	c.link.Set(faultnet.Fault{Cut: true})
	s.note("story: %s is cut off", c.name)
}
func (s *stage) heal(c *client) { c.link.Set(faultnet.Fault{}); s.note("story: %s is back", c.name) }

func (s *stage) kill(p *proc) { p.kill(); s.countKill(p); s.note("story: %s is killed", p.name) }

func (s *stage) boot(p *proc) {
	s.t.Helper()
	if err := s.bootUntil(s.ctx, p, s.since()); err != nil {
		s.t.Fatal(err)
	}
}

// peeked notes what a cell is in the origin's file.
func (s *stage) peeked() { s.peek(stageFile) }

// scripted is the setting of a story.
func scripted(t *testing.T, lease time.Duration) Config {
	binary := need(t)
	return Config{Binary: binary, Dir: filepath.Clean(t.TempDir()), Seed: 1, Lease: lease}
}
