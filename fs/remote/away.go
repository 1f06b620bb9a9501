package remote

import (
	"context"
	"time"

	"holdfast/fs"
)

// Away is what becomes of reads of cached data while the origin does not answer.
type Away string

// Block waits for the origin, as a hard mount does. Serve goes on with the data that was valid when the
// origin was last heard of, for opens that it has granted; status shows how old that is.
const (
	AwayBlock Away = "block"
	AwayServe Away = "serve"
)

// awayOr asks, once for all who ask at the same time. If the origin does not answer and the setting is
// AwayServe, the last known attributes are the answer.
func (r *Remote) awayOr(ctx context.Context, h fs.Handle, ask func(context.Context) (*fs.Attr, error)) (*fs.Attr, error) {
	d := r.data
	// The question outlives the one who asked first, for those who wait beside him.
	got := d.asking.DoChan(string(h), func() (any, error) {
		a, err := ask(r.ctx)
		return a, err
	})
	old := r.cache.lastAttr(h)
	var patience <-chan time.Time
	if r.cfg.Away == AwayServe && old != nil && old.Type == fs.Regular {
		wait := awayAfter
		if r.isAway() {
			wait = 0
		}
		t := make(chan time.Time, 1)
		timer := r.cfg.Clock.AfterFunc(wait, func() { t <- time.Time{} })
		defer timer.Stop()
		patience = t
	}
	select {
	case res := <-got:
		if res.Err != nil {
			if r.cfg.Away == AwayServe && old != nil && fs.CodeOf(res.Err) == fs.Unreachable {
				return r.servedStale(old), nil
			}
			return nil, res.Err
		}
		return res.Val.(*fs.Attr), nil
	case <-patience:
		return r.servedStale(old), nil
	case <-ctx.Done():
		return nil, fs.E("GETATTR", fs.Interrupted, context.Cause(ctx))
	}
}

func (r *Remote) servedStale(a *fs.Attr) *fs.Attr {
	r.data.c.stale.Add(1)
	r.data.c.lastStale.Store(r.now().UnixNano())
	return a
}

// isAway tells that no connection to the origin is up.
func (r *Remote) isAway() bool {
	info := r.up.Info()
	for _, c := range info.Conns {
		if c.Up {
			return false
		}
	}
	return len(info.Conns) > 0
}
