package loadgen

import (
	"math/bits"
	"time"
)

// Sub-buckets per power of two: a bucket is at most 1/16 wide.
const (
	histBits = 4
	histSubs = 1 << histBits
)

// A hist counts durations in buckets whose width is at most 1/16 of what they hold.
type hist struct {
	count [64 * histSubs]uint32
	n     uint64
	max   time.Duration
}

// bucket of d: below 16 ns it is d, then 16 buckets for each power of two.
func bucket(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < histSubs {
		return int(v)
	}
	e := bits.Len64(v) - histBits - 1
	return (e+1)<<histBits + int(v>>e)&(histSubs-1)
}

// upper is the largest duration of a bucket.
func upper(b int) time.Duration {
	if b < histSubs {
		return time.Duration(b)
	}
	e := b>>histBits - 1
	return time.Duration((uint64(histSubs+b&(histSubs-1))+1)<<e - 1)
}

func (h *hist) add(d time.Duration) {
	h.count[bucket(d)]++
	h.n++
	h.max = max(h.max, d)
}

func (h *hist) merge(o *hist) {
	for i, c := range o.count {
		h.count[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// quantile returns an upper bound, at most 1/16 too large, of what a part q in (0, 1] of the durations
// do not exceed. It is 0 if there are none.
func (h *hist) quantile(q float64) time.Duration {
	want := uint64(q*float64(h.n) + 0.999999)
	var seen uint64
	for i, c := range h.count {
		if seen += uint64(c); seen >= want && c > 0 {
			return min(upper(i), h.max)
		}
	}
	return h.max
}
