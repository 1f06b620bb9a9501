package remote

import (
	"time"

	"holdfast/fs/remote/diskcache"
)

// Readahead follows up to maxStreams sequential readers of a file. Its window begins at the product of
// bandwidth and delay, both measured, and doubles each time a reader has caught up with it and has to
// wait. So it is as large as the link asks for, and a random reader has none.
const (
	maxStreams  = 4
	minWindow   = 1 << 20
	maxWindow   = 64 << 20
	maxAhead    = 256 << 20 // of all files
	firstGuess  = 125 << 20 // bytes a second, before anything was measured
	outOfOrder  = 16        // how many reads of one stream may be under way: clients send several at once
	maxSlack    = 16 << 20  // and how far they may be apart
	aheadOfSlot = 2         // readahead of one file takes at most 1/2 of the slots
)

// A stream is a sequential reader.
type stream struct {
	high   int64 // up to where it has read
	ahead  int64 // up to where was fetched for it
	window int64
	run    int64 // bytes that were read in order
	turn   int
}

// readAhead takes note of a read of [off, end), and fetches ahead of it if it is one of a row. waited says
// that it had to wait for what was fetched ahead.
func (r *Remote) readAhead(f *dataFile, rd *reader, obj *diskcache.Object, off, end int64, waited bool) {
	size := int64(rd.v.attr.Size)
	f.mu.Lock()
	f.turn++
	slack := min(outOfOrder*(end-off), maxSlack)
	var s *stream
	oldest := &f.streams[0]
	for i := range f.streams {
		t := &f.streams[i]
		if t.turn != 0 && off <= t.high+slack && off >= t.high-slack {
			s = t
			break
		}
		if t.turn < oldest.turn {
			oldest = t
		}
	}
	if s == nil {
		*oldest = stream{high: end, ahead: end, run: end - off, turn: f.turn}
		if off != 0 {
			f.mu.Unlock()
			return // the next one tells
		}
		s = oldest
	} else {
		s.turn = f.turn
		if end > s.high {
			s.run += end - s.high
			s.high = end
		}
	}
	if s.window == 0 {
		s.window = r.bandwidthDelay()
	} else if waited {
		s.window = min(2*s.window, maxWindow)
	}
	// Not more ahead than was read already, so that the head of a file does not fetch all of it.
	window := min(s.window, max(4*s.run, 256<<10))
	to := min(s.high+window, size)
	from := max(s.ahead, end)
	if to-from < min(window/4, size-from) || from >= size {
		f.mu.Unlock()
		return
	}
	s.ahead = to
	f.mu.Unlock()

	info := r.up.Info()
	limit := int64(r.maxTransfer(r.ctx, f.handle, false)) &^ (diskcache.BlockSize - 1)
	for from < to {
		start, stop := obj.NextMissing(from, to, rd.v.seq)
		if start >= stop {
			return
		}
		for start < stop {
			d := r.data
			f.mu.Lock()
			busy := len(f.fetches)
			f.mu.Unlock()
			if d.inFlight.Load() > maxAhead || info.Slots > 0 && busy >= max(info.Slots/aheadOfSlot, 1) {
				f.mu.Lock()
				s.ahead = min(s.ahead, start)
				f.mu.Unlock()
				return
			}
			// Whole transfers, at places that others choose as well.
			cut := min(start-start%limit+limit, size)
			if cut > stop {
				_, cut = obj.NextMissing(start, cut, rd.v.seq)
			}
			x, joined := r.startFetch(f, rd, obj, start, cut, start, true)
			if x == nil {
				break // it has come meanwhile: look again
			}
			if !joined {
				n := x.stop - x.start
				d.inFlight.Add(n)
				go func() { <-x.done; d.inFlight.Add(-n); x.release() }()
			} else {
				x.release()
			}
			start = x.stop
		}
		from = start
	}
}

// bandwidthDelay is how many bytes fill the link.
func (r *Remote) bandwidthDelay() int64 {
	rate := max(r.data.rate.Load(), firstGuess)
	rtt := r.up.Info().RTT
	return min(max(int64(float64(rate)*rtt.Seconds()*2), minWindow), maxWindow)
}

// measured takes in how long a fetch took while so much was under way.
func (d *dataCache) measured(n int64, took time.Duration, around int64) {
	rate := int64(float64(max(n, around)) / took.Seconds())
	old := d.rate.Load()
	if rate > old {
		d.rate.Store(rate)
	} else {
		d.rate.Store(old - old/64 + rate/64)
	}
}
