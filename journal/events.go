package journal

import (
	"context"
	"fmt"
	"iter"
)

// eventChunk is how many entries are read at a time, so that a slow reader holds nothing back.
const eventChunk = 256

// LastEvent is the number of the newest entry, 0 if there was none yet.
func (j *Journal) LastEvent() uint64 {
	last, _ := j.lastEvent()
	return last
}

// lastEvent also returns a channel that is closed when there are newer ones.
func (j *Journal) lastEvent() (uint64, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.head.nextEvent - 1, j.news
}

// Events returns the entries from number from on for which filter (nil: all) returns true, oldest
// first, up to the newest at the time of the call. An error ends it.
func (j *Journal) Events(from uint64, filter func(*Event) bool) iter.Seq2[Event, error] {
	last := j.LastEvent()
	return func(yield func(Event, error) bool) {
		j.events(from, last, func(e *Event, err error) bool {
			if err != nil {
				return yield(Event{}, err)
			}
			return filter != nil && !filter(e) || yield(*e, nil)
		})
	}
}

// Follow is Events that waits for more, until ctx ends (with its cause as error) or the journal is
// closed (with ErrClosed).
func (j *Journal) Follow(ctx context.Context, from uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		next := from
		for {
			last, news := j.lastEvent()
			if last >= next {
				more := j.events(next, last, func(e *Event, err error) bool {
					if err != nil {
						yield(Event{}, err)
						return false
					}
					next = e.Seq + 1
					return yield(*e, nil)
				})
				if !more {
					return
				}
				next = max(next, last+1)
			}
			select {
			case <-news:
			case <-ctx.Done():
				yield(Event{}, context.Cause(ctx))
				return
			case <-j.closed:
				yield(Event{}, ErrClosed)
				return
			}
		}
	}
}

// events calls f for the entries from and to and all between, and tells whether f wants more. After
// an error there is no more.
func (j *Journal) events(from, to uint64, f func(*Event, error) bool) bool {
	for from <= to {
		var chunk []*Event
		err := j.store.view(func(v view) error {
			return v.scan([]byte{kindEvent}, eventKey(from), func(key, value []byte) (bool, error) {
				body, _, err := unseal(key, value)
				if err != nil {
					return false, err
				}
				e, err := decodeEvent(key, body)
				if err != nil {
					return false, err
				}
				if e.Seq > to {
					return false, nil
				}
				chunk = append(chunk, e)
				return len(chunk) < eventChunk, nil
			})
		})
		for _, e := range chunk {
			if !f(e, nil) {
				return false
			}
			from = e.Seq + 1
		}
		if err != nil {
			f(nil, fmt.Errorf("journal %s: events: %w", j.dir, err))
			return false
		}
		if len(chunk) < eventChunk {
			return true
		}
	}
	return true
}
