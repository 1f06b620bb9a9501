package loadgen

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// A Workload is one thing to measure.
type Workload struct {
	Name  string
	About string
	Lanes int // rounds at once
	Trips int // requests of a round, one after the other, by NFS
	Bytes int // payload of a round; 0: the rate is in rounds per second

	nfs   func(*nfsEnv) (*task, error)
	local func(*localEnv) (*task, error)
}

// A task is a workload that is ready to run: a step for each lane, and what is to be undone after.
type task struct {
	steps []func() error
	clean func() error
}

// Sizes of reads and writes.
const (
	large = 1 << 20
	small = 4 << 10
)

// workDir is the directory that all workloads use, below the one that they are given.
const workDir = "bench"

// Workloads returns all workloads, in the order in which they are reported.
func Workloads() []*Workload {
	return []*Workload{
		{Name: "lock+unlock, 1 owner", About: "LOCK and LOCKU of 4 KiB, exclusive, of one file", Lanes: 1, Trips: 2, nfs: nfsLocks(false), local: localLocks},
		{Name: "lock+unlock, 64 owners", About: "the same by 64 open-owners with a lock-owner each, other ranges of one file", Lanes: 64, Trips: 2, nfs: nfsLocks(false), local: localLocks},
		{Name: "lock+unlock, 64 owners, 1 open", About: "the same by 64 lock-owners of one open, as processes of one user of a client are", Lanes: 64, Trips: 2, nfs: nfsLocks(true)},
		{Name: "open+close", About: "OPEN by name to read, with GETFH and GETATTR, and CLOSE", Lanes: 1, Trips: 2, nfs: nfsOpens, local: localOpens},
		{Name: "open+close, depth 16", About: "the same by 16 open-owners with a file each", Lanes: 16, Trips: 2, nfs: nfsOpens, local: localOpens},
		{Name: "getattr, depth 16", About: "GETATTR of what a Linux client asks for, 16 files; fstat in a directory", Lanes: 16, Trips: 1, nfs: nfsGetattrs, local: localGetattrs},
		{Name: "create+close+unlink", About: "OPEN that creates, CLOSE, REMOVE", Lanes: 1, Trips: 3, nfs: nfsCreates(true), local: localCreates(true)},
		{Name: "create+close, 64 owners", About: "OPEN that creates, CLOSE, by 64 open-owners in one directory", Lanes: 64, Trips: 2, nfs: nfsCreates(false), local: localCreates(false)},
		{Name: "read 1 MiB sequential, depth 8", About: "from the page cache of the server, not of a mount", Lanes: 8, Trips: 1, Bytes: large, nfs: nfsReads(large, false), local: localReads(large, false)},
		{Name: "write 1 MiB sequential, depth 8", About: "overwrites; UNSTABLE4, and what COMMIT takes is not counted", Lanes: 8, Trips: 1, Bytes: large, nfs: nfsWrites(large), local: localWrites(large)},
		{Name: "write 4 KiB sequential, depth 16", About: "the same", Lanes: 16, Trips: 1, nfs: nfsWrites(small), local: localWrites(small)},
		{Name: "read 4 KiB random, depth 1", About: "from the page cache of the server, not of a mount", Lanes: 1, Trips: 1, nfs: nfsReads(small, true), local: localReads(small, true)},
		{Name: "read 4 KiB random, depth 16", About: "the same", Lanes: 16, Trips: 1, nfs: nfsReads(small, true), local: localReads(small, true)},
	}
}

// Find returns the workload of a name, or nil.
func Find(name string) *Workload {
	for _, w := range Workloads() {
		if w.Name == name {
			return w
		}
	}
	return nil
}

// ErrNoLocal says that a workload makes sense by NFS only.
var ErrNoLocal = errors.New("loadgen: not a workload for a directory")

// NFS measures the workload against a server, below path, by a client of its own.
func (w *Workload) NFS(ctx context.Context, addr, path string, o Options) (r Result, err error) {
	o.setDefaults()
	c, err := Dial(ctx, Config{Addr: addr, Lanes: w.Lanes, Conns: o.Conns})
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", w.Name, err)
	}
	defer func() {
		if err == nil {
			err = c.Close(ctx)
			r.Delays = c.Delays()
		} else {
			c.hangUp()
		}
	}()
	e := &nfsEnv{ctx: ctx, c: c, o: &o, lanes: c.Lanes}
	root, err := c.Lanes[0].lookup(ctx, path)
	if err == nil {
		e.dir, err = c.Lanes[0].mkdir(ctx, root, workDir)
	}
	if err != nil {
		return Result{}, fmt.Errorf("%s: prepare: %w", w.Name, err)
	}
	t, err := w.nfs(e)
	return w.run(ctx, t, err, &o)
}

// Local measures the workload with system calls in a directory.
func (w *Workload) Local(ctx context.Context, dir string, o Options) (Result, error) {
	if w.local == nil {
		return Result{}, ErrNoLocal
	}
	o.setDefaults()
	dir = filepath.Join(dir, workDir)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return Result{}, err
	}
	t, err := w.local(&localEnv{dir: dir, o: &o, lanes: w.Lanes})
	return w.run(ctx, t, err, &o)
}

func (w *Workload) run(ctx context.Context, t *task, err error, o *Options) (Result, error) {
	if err != nil {
		return Result{}, fmt.Errorf("%s: prepare: %w", w.Name, err)
	}
	r, err := measure(ctx, t.steps, o)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", w.Name, err)
	}
	if err := t.clean(); err != nil {
		return Result{}, fmt.Errorf("%s: clean up: %w", w.Name, err)
	}
	r.Workload = w.Name
	if w.Bytes > 0 {
		r.Rate, r.Unit = r.Rate*float64(w.Bytes)/1e6, "MB/s"
	}
	return r, nil
}

// HasLocal tells whether there is such a workload for a directory.
func (w *Workload) HasLocal() bool { return w.local != nil }
