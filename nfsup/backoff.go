package nfsup

import (
	"context"
	"math/rand/v2"
	"time"

	"holdfast/internal/clock"
)

// A backoff is how long to wait before the next try: first, then twice as long each time, up to max.
type backoff struct {
	first, max, next time.Duration
}

// wait sleeps a little less than its turn, so that many do not come back at once. The error is the
// cause of ctx.
func (b *backoff) wait(ctx context.Context, c clock.Clock) error { return b.waitOr(ctx, c, nil) }

// waitOr is wait that ends early, without an error, when stop is closed.
func (b *backoff) waitOr(ctx context.Context, c clock.Clock, stop <-chan struct{}) error {
	b.next = min(max(b.next*2, b.first), b.max)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ch, cancel := after(c, b.next-time.Duration(rand.Int64N(int64(b.next)/4+1)))
	defer cancel()
	select {
	case <-ch:
		return nil
	case <-stop:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reset starts again from first.
func (b *backoff) reset() { b.next = 0 }

// after is a channel that closes after d, unless stop was called.
func after(c clock.Clock, d time.Duration) (ch <-chan struct{}, stop func()) {
	done := make(chan struct{})
	t := c.AfterFunc(d, func() { close(done) })
	return done, func() { t.Stop() }
}
