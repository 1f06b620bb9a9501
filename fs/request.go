package fs

import (
	"context"
	"sync/atomic"
)

// moments counts what happens in this process.
var moments atomic.Uint64

// Tick is a moment, later than all before it in this process.
func Tick() uint64 { return moments.Add(1) }

type requestKey uint8

const (
	begunKey requestKey = iota
	sourceKey
)

// Begin marks a context as that of a request that begins now: a COMPOUND, a call of the kernel. What a
// backend has learnt since then is as new as the request can ask for, so several operations of one request
// need not ask for the same thing twice, however strict the backend is.
func Begin(ctx context.Context) context.Context {
	return context.WithValue(ctx, begunKey, Tick())
}

// Begun is the moment of Begin; 0 if nobody has said it.
func Begun(ctx context.Context) uint64 {
	m, _ := ctx.Value(begunKey).(uint64)
	return m
}

// From marks requests as those of one source that keeps a cache of its own, such as a local mount. See
// [ChangeListener].
func From(ctx context.Context, source any) context.Context {
	return context.WithValue(ctx, sourceKey, source)
}

// SourceOf is what From said; nil if nothing.
func SourceOf(ctx context.Context) any { return ctx.Value(sourceKey) }

// A ChangeListener is a Listener that also hears of changes that were made through the backend.
type ChangeListener interface {
	Listener
	// ChangedHere says that a request from source has changed a file, its attributes, data or entries, or
	// may have. It comes before the request is answered. As all of a Listener's it must not block, nor call
	// back.
	ChangedHere(file Handle, source any)
}
