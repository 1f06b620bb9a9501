// Package clock makes time an argument, so that a lease can be seen to expire without waiting.
package clock

import (
	"os"
	"sync"
	"time"
)

// A Clock tells the time and calls back. Methods may be called from many goroutines.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f once, in a goroutine of its own, when d has passed; d <= 0 means at once.
	AfterFunc(d time.Duration, f func()) Timer
}

// A Timer is a pending call.
type Timer interface {
	// Stop cancels the call, and tells whether it did: false if f has been started or was stopped.
	Stop() bool
}

// OffsetEnv is the environment variable that sets Real off by a duration, as 25h or -3m: tests boot a host
// whose clock was set meanwhile.
const OffsetEnv = "HOLDFAST_CLOCK"

// Real is the clock of the machine.
var Real Clock = realClock{}

type realClock struct{}

var offset = parseOffset(os.Getenv(OffsetEnv))

// parseOffset reads a duration; what is none is no offset.
func parseOffset(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0
	}
	return d
}

func (realClock) Now() time.Time                            { return time.Now().Add(offset) }
func (realClock) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

// A Fake is a clock that moves only by Advance.
type Fake struct {
	mu     sync.Mutex
	now    time.Time             // guarded by mu
	timers map[*fakeTimer]uint64 // guarded by mu; the value orders those that fire at one instant
	serial uint64                // guarded by mu
}

type fakeTimer struct {
	clock *Fake
	at    time.Time
	f     func()
}

// NewFake makes a clock that stands at t.
func NewFake(t time.Time) *Fake {
	return &Fake{now: t, timers: make(map[*fakeTimer]uint64)}
}

// Now is the time that Advance has reached.
func (c *Fake) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc is of Clock. Unlike those of Real, calls are made by Advance in its own goroutine, one
// after another, so that a test sees their effects when Advance returns. With d <= 0 the next
// Advance, even by 0, makes the call.
func (c *Fake) AfterFunc(d time.Duration, f func()) Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &fakeTimer{clock: c, at: c.now.Add(d), f: f}
	c.serial++
	c.timers[t] = c.serial
	return t
}

// Stop is of Timer.
func (t *fakeTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	_, pending := t.clock.timers[t]
	delete(t.clock.timers, t)
	return pending
}

// Advance moves the clock by d and makes the calls that are due, in the order of their times; while
// one runs, Now is its time. A call that sets a timer within d has it fire as well.
func (c *Fake) Advance(d time.Duration) {
	c.mu.Lock()
	end := c.now.Add(d)
	for {
		next := c.due(end)
		if next == nil {
			break
		}
		delete(c.timers, next)
		if next.at.After(c.now) {
			c.now = next.at
		}
		c.mu.Unlock()
		next.f()
		c.mu.Lock()
	}
	if end.After(c.now) {
		c.now = end
	}
	c.mu.Unlock()
}

// due returns the first timer that fires at or before end, or nil. c.mu is held.
func (c *Fake) due(end time.Time) *fakeTimer {
	var first *fakeTimer
	for t, serial := range c.timers {
		switch {
		case t.at.After(end):
		case first == nil, t.at.Before(first.at), t.at.Equal(first.at) && serial < c.timers[first]:
			first = t
		}
	}
	return first
}

// Pending is the number of calls that wait.
func (c *Fake) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.timers)
}
