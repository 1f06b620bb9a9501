package remote

import (
	"context"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// Far from the origin a CLOSE costs its user a round trip for an answer that says nothing. So an open that denies
// nothing and has no locks is closed here at once, and at the origin in the background. Until that is done the origin
// has an open that nobody wants. It stands in the way of one that denies what it allows: that waits for it, if it
// comes through us, as the owner's next open of the file does. If we are killed in between, the next incarnation finds
// the open unclaimed, and gives it back.
const (
	farAway       = 5 * time.Millisecond // from which round trip on
	maxClosesLate = 1024                 // under way; beyond that a CLOSE waits for its answer
)

// closeLater begins to close an open at the origin. false: it must be waited for.
func (r *Remote) closeLater(owner fs.Owner, up UpOwner, file fs.Handle, fh nfs4.FH) bool {
	if r.up.Info().RTT < farAway || r.ctx.Err() != nil {
		return false
	}
	a := r.cache.lastAttr(file)
	s, locks, _ := r.owners.idle(up, file)
	if !s.held || s.deny != 0 || locks || a == nil || a.Nlink == 0 {
		return false
	}
	c := &r.covers
	key := parkedKey{up, file}
	cl := &closing{begun: true, done: make(chan struct{})}
	c.mu.Lock()
	if len(c.closing) >= maxClosesLate || c.closing[key] != nil {
		c.mu.Unlock()
		return false
	}
	c.closing[key] = cl
	c.mu.Unlock()
	r.owners.closed(up, file)
	r.dataClosed(owner, file)
	r.fetching.Add(1)
	go func() {
		defer r.fetching.Done()
		r.closeUnwanted(r.ctx, key, fh, cl)
	}()
	return true
}

// isClosing tells whether an open is closed here, and on its way to be closed at the origin.
func (c *covers) isClosing(key parkedKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.closing[key]
	return cl != nil && cl.begun
}

// awaitCloses waits for what is being closed at the origin and would be in the way of an open: that of the same owner,
// and, if it denies something, those of all. An open by a name that is not known here goes on; see settleParked.
func (r *Remote) awaitCloses(ctx context.Context, up UpOwner, req *fs.OpenRequest) error {
	c := &r.covers
	file := req.File
	if req.Name != "" {
		file = r.cache.hint(req.Dir, req.Name)
	}
	var list []*closing
	c.mu.Lock()
	if cl := c.closing[parkedKey{up, file}]; cl != nil && cl.begun {
		list = append(list, cl)
	}
	if req.Deny != 0 {
		for key, cl := range c.closing {
			// Which file a name is that is not known here nobody can say before the origin has: all are waited for.
			if cl.begun && (key.file == file || file == "") {
				list = append(list, cl)
			}
		}
	}
	c.mu.Unlock()
	for _, cl := range list {
		select {
		case <-cl.done:
		case <-ctx.Done():
			return fs.E("OPEN", fs.Interrupted, context.Cause(ctx))
		}
	}
	return nil
}
