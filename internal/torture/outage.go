package torture

import (
	"slices"
	"sort"
	"sync"
	"time"
)

// recovery is how long after a fault is over its effects last: a boot's first requests, reconnecting with
// backoff, reclaims. Two outages that are no further apart are one.
const recovery = 2500 * time.Millisecond

// outages is what was broken when. Times are since the run began.
type outages struct {
	mu   sync.Mutex
	list []outage // guarded by mu
}

type outage struct {
	what     string // a process or a link
	from, to time.Duration
}

func (o *outages) add(what string, from, to time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, outage{what, from, to})
}

// any tells whether something was broken for that long.
func (o *outages) any(limit time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.list, func(x outage) bool { return x.to-x.from >= limit })
}

// longest is the longest time without a break of at least recovery that something of path was broken for,
// between from and to.
func (o *outages) longest(path []string, from, to time.Duration) time.Duration {
	on := map[string]bool{"machine": true}
	for _, p := range path {
		on[p] = true
	}
	o.mu.Lock()
	var mine []outage
	for _, x := range o.list {
		if on[x.what] && x.to+recovery > from && x.from < to {
			mine = append(mine, x)
		}
	}
	o.mu.Unlock()
	sort.Slice(mine, func(i, j int) bool { return mine[i].from < mine[j].from })
	var best time.Duration
	var begin, end time.Duration
	for i, x := range mine {
		if i == 0 || x.from > end {
			begin, end = x.from, x.to+recovery
		}
		end = max(end, x.to+recovery)
		best = max(best, end-begin)
	}
	return best
}

// watch notes when this machine itself stood still: nobody can keep a lease then.
func (o *outages) watch(since func() time.Duration, stop <-chan struct{}) {
	const beat, late = 50 * time.Millisecond, 500 * time.Millisecond
	t := time.NewTicker(beat)
	defer t.Stop()
	last := since()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		now := since()
		if now-last > late {
			o.add("machine", last, now)
		}
		last = now
	}
}
