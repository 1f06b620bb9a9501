package loadgen

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Options say how long to measure.
type Options struct {
	Warm time.Duration // not counted
	Time time.Duration // counted; default 1 s
	// Rounds, if not 0, is how many rounds each lane does, all of them counted; Warm and Time are then ignored.
	Rounds int
	// FileSize is the size in bytes of the files that are read and written, a multiple of 1 MiB;
	// default 256 MiB.
	FileSize int64
	// Drop makes reads in a directory miss this kernel's page cache: what a mount has cached is not what
	// its server can do. In a bare directory it would measure the disk.
	Drop bool
	// Phase, if set, is called when the counted time begins (true) and when it ends.
	Phase func(counting bool) `json:"-"`
	// Conns is how many connections an NFS session has; default 1.
	Conns int
}

func (o *Options) setDefaults() {
	if o.Time <= 0 {
		o.Time = time.Second
	}
	if o.FileSize < 1<<20 {
		o.FileSize = 256 << 20
	}
	o.FileSize &^= 1<<20 - 1
	if o.Conns <= 0 {
		o.Conns = 1
	}
}

// A Result is what was measured.
type Result struct {
	Workload string        `json:"workload"`
	Rounds   uint64        `json:"rounds"`
	Elapsed  time.Duration `json:"elapsed_ns"`
	Rate     float64       `json:"rate"` // in Unit
	Unit     string        `json:"unit"` // "/s", or "MB/s" of 10^6 bytes
	P50      time.Duration `json:"p50_ns"`
	P90      time.Duration `json:"p90_ns"`
	P99      time.Duration `json:"p99_ns"`
	Max      time.Duration `json:"max_ns"`
	// Delays is how many requests were put off by the server (NFS4ERR_DELAY, NFS4ERR_GRACE), in preparation and measurement.
	Delays uint64 `json:"delays,omitempty"`
}

const (
	warming = iota
	counting
	stopping
)

// measure runs all steps at once, each again and again, and counts the rounds that end in the measured time.
func measure(ctx context.Context, steps []func() error, o *Options) (Result, error) {
	var phase atomic.Int32
	var wg sync.WaitGroup
	hists := make([]hist, len(steps))
	errs := make([]error, len(steps))
	ctx, failed := context.WithCancel(ctx)
	defer failed()
	tell := func(counting bool) {
		if o.Phase != nil {
			o.Phase(counting)
		}
	}
	if o.Rounds > 0 {
		tell(true)
		phase.Store(counting)
	}
	begin := time.Now()
	for i, step := range steps {
		wg.Go(func() {
			h := &hists[i]
			for n := 0; (o.Rounds == 0 || n < o.Rounds) && phase.Load() != stopping; n++ {
				start := time.Now()
				if errs[i] = step(); errs[i] != nil {
					failed()
					return
				}
				if phase.Load() == counting {
					h.add(time.Since(start))
				}
			}
		})
	}
	if o.Rounds == 0 {
		pause(ctx, o.Warm)
		tell(true)
		begin = time.Now()
		phase.Store(counting)
		pause(ctx, o.Time)
		phase.Store(stopping)
	} else {
		wg.Wait()
	}
	end := time.Now()
	tell(false)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return Result{}, err
	}
	if err := context.Cause(ctx); err != nil {
		return Result{}, err
	}
	var all hist
	for i := range hists {
		all.merge(&hists[i])
	}
	if all.n == 0 {
		return Result{}, fmt.Errorf("not one round in %v", o.Time)
	}
	r := Result{Rounds: all.n, Elapsed: end.Sub(begin), P50: all.quantile(0.5), P90: all.quantile(0.9), P99: all.quantile(0.99), Max: all.max}
	r.Rate, r.Unit = float64(all.n)/r.Elapsed.Seconds(), "/s"
	return r, nil
}

// pause waits for d, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
