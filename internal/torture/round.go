package torture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/torture/judge"
	"holdfast/nfsup"
)

// judgeTime bounds the judgement of one cell.
const judgeTime = 30 * time.Second

// round has workers work on files of its own while the plan goes on, then repairs all, has everything given
// back, looks whether it is, and judges.
func (w *world) round(ctx context.Context, r *Report) error {
	n := r.Rounds
	w.mu.Lock()
	w.recent = nil
	w.mu.Unlock()
	if err := w.files(ctx, n); err != nil {
		if !errors.Is(err, errStuck) {
			return err
		}
		w.violated("the files of round %d cannot be found: %v", n, err)
		return w.dump(ctx)
	}
	processes, err := w.processes(n)
	if err != nil {
		return err
	}

	work, stop := context.WithTimeout(ctx, w.cfg.Round)
	defer stop()
	var workers, plan sync.WaitGroup
	for i, c := range w.clients {
		for j := range 3 {
			name, step := fmt.Sprintf("r%d-%d", n, j), lockStep
			if j == 2 {
				step = shareStep
			}
			seed := w.cfg.Seed<<16 + uint64(n)<<8 + uint64(i*3+j)
			k := &worker{c: c, o: c.newOwner(name), rng: rand.New(rand.NewPCG(seed, 2)), life: c.lives, opened: map[string]bool{}}
			workers.Go(func() { k.run(work, step) })
		}
	}
	for _, p := range processes {
		workers.Go(func() { p.run(work) })
	}
	plan.Go(func() { w.wreck(work) })
	plan.Wait()
	if err := w.repair(ctx); err != nil {
		stop()
		return err
	}
	workers.Wait()
	w.settle(ctx)
	w.sweep(ctx)
	ops := w.history.take()
	w.judgeLosses(ops)
	if w.outages.any(w.cfg.Lease / 2) {
		ops = promised(ops)
	}
	r.Checked += int64(len(ops))
	for _, f := range judge.Judge(ops, judgeTime) {
		if f.Verdict == judge.Unknown {
			r.Unjudged++
			w.note("the history of %s takes too long to judge", f.Cell)
			continue
		}
		w.story(n, f)
	}
	for name, p := range w.procs {
		if err := p.panicked(); err != nil {
			w.violated("%s: %v", name, err)
		}
	}
	w.note("round %d is over: %d operations judged", n, len(ops))
	return nil
}

// promised leaves out opens without a deny mode. One that was lost in a long outage is made anew, by our clients and
// by the servers, and nobody is told: its owner was promised nothing about others.
func promised(ops []judge.Op) []judge.Op {
	return slices.DeleteFunc(ops, func(o judge.Op) bool { return o.Kind == judge.Open && o.Mode>>2 == 0 })
}

// errStuck says that servers do not answer although all is well.
var errStuck = errors.New("a client is stuck")

// dump has all servers say what they do, into their logs, and boots them again.
func (w *world) dump(ctx context.Context) error {
	for _, p := range append([]*proc{w.origin}, w.serves...) {
		p.dump()
		if err := w.bootUntil(ctx, p, w.since()); err != nil {
			return err
		}
	}
	return nil
}

// files makes the files of round n, and has each client look them up.
func (w *world) files(ctx context.Context, n int) error {
	w.lockFiles, w.shareFiles = nil, nil
	for i := range 2 {
		w.lockFiles = append(w.lockFiles, fmt.Sprintf("r%d-f%d", n, i))
		w.shareFiles = append(w.shareFiles, fmt.Sprintf("r%d-s%d", n, i))
	}
	all := append(append([]string(nil), w.lockFiles...), w.shareFiles...)
	for _, f := range all {
		path := filepath.Join(w.cfg.Dir, "export", f)
		if err := os.WriteFile(path, make([]byte, cells*cellSize), 0o666); err != nil {
			return err
		}
		if err := os.Chmod(path, 0o666); err != nil { // whatever the umask is
			return err
		}
	}
	for _, c := range w.clients {
		limited, stop := context.WithTimeout(ctx, w.settleLimit())
		c.life.RLock()
		err := c.lookup(limited, all)
		c.life.RUnlock()
		stop()
		if err != nil {
			return fmt.Errorf("%w: %w", errStuck, err)
		}
		w.mu.Lock()
		for f, fh := range c.files {
			w.byFH[c.name+string(fh)] = f
		}
		w.mu.Unlock()
	}
	return nil
}

// settleLimit bounds how long all clients may take to recover after everything was repaired, and to give
// back what they hold.
func (w *world) settleLimit() time.Duration { return 6*w.cfg.Lease + time.Minute }

// settle has each client give back all that it holds, and so learn of what it lost.
func (w *world) settle(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, w.settleLimit())
	defer stop()
	var wg sync.WaitGroup
	for _, c := range w.clients {
		wg.Go(func() {
			c.life.RLock()
			defer c.life.RUnlock()
			// Its state is checked first, as each renewal does.
			if err := c.retry(ctx, func(ctx context.Context) error {
				return c.up.Compound(ctx, cred, []nfs4.Args{&nfs4.PutrootfhArgs{}}, nil)
			}); err != nil {
				w.violated("%s does not come back after all was repaired: %v", c.name, err)
				return
			}
			for _, o := range c.all() {
				c.giveBack(ctx, o)
			}
			c.finish()
		})
	}
	wg.Wait()
}

// all lists the owners, each once.
func (c *client) all() []*owner {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*owner
	for key, o := range c.owners {
		if key == o.lock {
			list = append(list, o)
		}
	}
	return list
}

// giveBack unlocks and closes everything of o.
func (c *client) giveBack(ctx context.Context, o *owner) {
	k := &worker{c: c, o: o, opened: map[string]bool{}}
	for _, f := range c.w.lockFiles {
		fh := c.files[f]
		if err := c.retry(ctx, func(context.Context) error {
			if !k.unlock(f, fh, 0, cells-1) {
				return fmt.Errorf("%s cannot unlock %s", o.name, f)
			}
			return nil
		}); err != nil {
			c.w.violated("%v", err)
		}
	}
	opens, _ := c.up.State()
	for _, x := range opens {
		if x.Owner != o.open {
			continue
		}
		call := c.w.since()
		err := c.up.CloseFile(ctx, o.open, x.FH)
		now := c.w.since()
		c.w.mu.Lock()
		file := c.w.byFH[c.name+string(x.FH)]
		c.w.mu.Unlock()
		o.mu.Lock()
		if _, ok := o.held[file]; ok && err == nil {
			delete(o.held, file)
			c.w.history.add(judge.Op{Cell: file, Owner: o.name, Kind: judge.Close, Call: int64(call), Return: int64(now)})
		}
		o.mu.Unlock()
		if err != nil && !refused(err) {
			c.w.violated("%s cannot close: %v", o.name, err)
		}
	}
}

// finish ends what has no answer, and forgets the owners of the round.
func (c *client) finish() {
	now := int64(c.w.since())
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, op := range c.open {
		op.Return = now
		c.w.history.add(op)
	}
	c.open = nil
	for key, o := range c.owners {
		o.mu.Lock()
		for cell, h := range o.held {
			if key != o.open {
				break // it is there twice
			}
			// What it believes to hold although it gave everything back.
			c.w.note("%s still believes that it has %s, since %v", o.name, cell, h.call)
			c.w.history.add(judge.Op{Cell: cell, Owner: o.name, Kind: judge.Loss, Call: int64(h.call), Return: now})
		}
		o.mu.Unlock()
		delete(c.owners, key)
	}
}

// sweep has a client that never had anything lock everything, through each server in turn: nothing may
// be left, and what it reads is the last word about what was written.
func (w *world) sweep(ctx context.Context) {
	all := ctx
	ctx, stop := context.WithTimeout(ctx, w.settleLimit())
	defer stop()
	for _, c := range w.clients {
		if ctx.Err() != nil {
			w.violated("the files are not looked at through %s and the next: the time is over", c.name)
			break
		}
		o := c.newOwner("sweep")
		k := &worker{c: c, o: o, rng: rand.New(rand.NewPCG(1, 1)), opened: map[string]bool{}}
		c.life.RLock()
		for _, f := range w.lockFiles {
			fh := c.files[f]
			if err := c.retry(ctx, func(ctx context.Context) error {
				if _, err := c.up.Open(ctx, cred, &nfsup.OpenArgs{Owner: o.open, Access: 3, FH: fh}); err != nil {
					return err
				}
				k.lock(f, fh, 0, cells-1, true)
				o.mu.Lock()
				defer o.mu.Unlock()
				if len(o.held) < cells {
					return fmt.Errorf("%s: somebody still holds locks on %s", o.name, f)
				}
				return nil
			}); err != nil {
				w.leaked(all, f, err)
				continue
			}
			for i := range cells {
				k.read(cellOf(f, i), fh, i)
			}
			k.unlock(f, fh, 0, cells-1)
		}
		for _, f := range w.shareFiles {
			if err := c.retry(ctx, func(ctx context.Context) error {
				_, err := c.up.Open(ctx, cred, &nfsup.OpenArgs{Owner: o.open, Access: 3, Deny: 3, FH: c.files[f]})
				return err
			}); err != nil {
				w.leaked(all, f, fmt.Errorf("somebody still has %s open: %w", f, err))
			}
		}
		c.giveBack(ctx, o)
		c.finish()
		c.life.RUnlock()
	}
	for _, f := range w.lockFiles {
		w.peek(f)
	}
}

// leaked notes that a file cannot be had although nobody has it, and what each server says about that.
func (w *world) leaked(ctx context.Context, file string, why error) {
	text := fmt.Sprintf("leak: %v", why)
	for _, p := range append([]*proc{w.origin}, w.serves...) {
		text += fmt.Sprintf("\n%s says: %s", p.name, p.asked(ctx, "why", "/data/"+file))
	}
	w.violated("%s", text)
}

// peek reads the file at the origin itself.
func (w *world) peek(file string) {
	path := filepath.Join(w.cfg.Dir, "export", file)
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		b, err = os.ReadFile(path + renamed)
	}
	if err != nil || len(b) != cells*cellSize {
		w.violated("%s: %d bytes, %v", file, len(b), err)
		return
	}
	now := int64(w.since())
	for i := range cells {
		w.history.add(judge.Op{Cell: cellOf(file, i), Owner: "file", Kind: judge.Peek, Value: binary.BigEndian.Uint64(b[i*cellSize:]), Call: now, Return: now})
	}
}
