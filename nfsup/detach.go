package nfsup

import (
	"context"
	"sync/atomic"
)

// detach runs f, which changes state at the server, so that it comes to its end even if ctx ends first:
// otherwise nobody would know what the server holds. The caller then leaves with the cause of ctx.
//
// f calls commit, while it still has its turn, when it has succeeded: false means that the caller has
// gone and will never hear of it, so f undoes what it did. Before it has sent anything, f ends with ctx.
func detach[T any](c *Client, ctx context.Context, f func(ctx context.Context, commit func() bool) (T, error)) (T, error) {
	if ctx.Done() == nil {
		return f(ctx, func() bool { return true })
	}
	type result struct {
		v   T
		err error
	}
	const (
		running = iota
		committed
		gone
	)
	var state atomic.Int32
	commit := func() bool { return state.CompareAndSwap(running, committed) || state.Load() == committed }
	ch := make(chan result, 1)
	ok := c.spawn(func() {
		v, err := f(ctx, commit)
		commit()
		ch <- result{v, err}
	})
	var zero T
	if !ok {
		return zero, ErrClosed
	}
	select {
	case r := <-ch:
		return r.v, r.err
	case <-ctx.Done():
		if state.CompareAndSwap(running, gone) {
			return zero, context.Cause(ctx)
		}
		r := <-ch
		return r.v, r.err
	}
}
