package nfsup

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"holdfast/internal/nfs4"
)

// Finding out what the server still holds: TEST_STATEID (RFC 8881 18.48), and FREE_STATEID (18.38) to
// acknowledge what it revoked.

// A suspect is a stateid that may be gone.
type suspect struct {
	open *openState
	lock *lockState // nil: the open's own
	sid  nfs4.Stateid
	mine bool // whoever asks is the one that is closing it
	// restored says that what was written down is asked about, and may be behind.
	restored bool
}

// checkAll tests everything. restored says that nothing has changed since it was restored.
func (c *Client) checkAll(ctx context.Context, sess *session, restored bool) error {
	t := &c.state
	t.mu.Lock()
	var list []suspect
	for _, o := range t.opens {
		list = append(list, suspect{open: o, sid: o.stateid, restored: restored})
	}
	for _, l := range t.locks {
		if l.has {
			list = append(list, suspect{open: l.open, lock: l, sid: l.stateid, restored: restored})
		}
	}
	t.mu.Unlock()
	if err := c.checkDelegs(ctx, sess); err != nil {
		return err
	}
	return c.check(ctx, sess, list)
}

// checkOpen tests an open and its locks, after the server has refused one of their stateids. closing
// says that the caller is closing it.
func (c *Client) checkOpen(o *openState, closing bool) {
	sess, err := c.gate(c.ctx)
	if err != nil {
		return
	}
	t := &c.state
	t.mu.Lock()
	list := []suspect{{open: o, sid: o.stateid, mine: closing}}
	for l := range o.locks {
		if l.has {
			list = append(list, suspect{open: o, lock: l, sid: l.stateid, mine: closing})
		}
	}
	t.mu.Unlock()
	if err := c.check(c.ctx, sess, list); err != nil && c.ctx.Err() == nil && err != errSessionDead {
		c.cfg.Logger.Warn("cannot find out what the origin still holds", "fh", o.key.fh, "err", err)
	}
}

// check tests suspects, many to a COMPOUND, and drops those that are gone.
func (c *Client) check(ctx context.Context, sess *session, list []suspect) error {
	const perCall = 64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for some := range slices.Chunk(list, perCall) {
		g.Go(func() error { return c.checkSome(ctx, sess, some) })
	}
	return g.Wait()
}

func (c *Client) checkSome(ctx context.Context, sess *session, some []suspect) error {
	args := &nfs4.TestStateidArgs{}
	for _, s := range some {
		args.Stateids = append(args.Stateids, newest(s.sid))
	}
	var codes []nfs4.Status
	err := c.runOn(ctx, sess, &request{
		cred:    c.cfg.Cred,
		patient: c.cfg.DelayTime,
		build:   fixed([]nfs4.Args{args}),
		use: func(res []nfs4.Res) error {
			codes = res[0].(*nfs4.TestStateidRes).StatusCodes
			return nil
		},
	})
	if err != nil {
		return err
	}
	for i, code := range codes {
		if i < len(some) && code != nfs4.NFS4_OK && code != nfs4.NFS4ERR_OLD_STATEID {
			c.gone(ctx, sess, some[i], code)
		}
	}
	return nil
}

// gone drops state that the server does not hold, unless it is being closed, or was replaced, meanwhile.
func (c *Client) gone(ctx context.Context, sess *session, s suspect, why nfs4.Status) {
	t := &c.state
	var told []Revocation
	t.mu.Lock()
	switch {
	case s.open.closing && !s.mine:
		// The answer to CLOSE is on its way.
	case s.lock != nil && s.lock.has && s.lock.stateid.Other == s.sid.Other:
		if r := t.dropLock(s.lock, why); r != nil {
			told = append(told, *r)
		}
	case s.lock == nil && t.opens[s.open.key] == s.open && s.open.stateid.Other == s.sid.Other:
		told = t.dropLocked(s.open, why)
	}
	// An open without locks that the server does not know any more, and does not call revoked, was closed by the
	// last incarnation, which died before it was written down.
	closed := s.restored && why == nfs4.NFS4ERR_BAD_STATEID && len(told) == 1 && told[0].Kind == KindOpen
	if len(told) > 0 && !closed {
		t.taint(c, why)
	}
	t.mu.Unlock()
	for i := range told {
		c.lost(nil, &told[i])
	}
	if why == nfs4.NFS4ERR_BAD_STATEID {
		return // there is nothing to acknowledge
	}
	err := c.runOn(ctx, sess, &request{
		cred:    c.cfg.Cred,
		patient: c.cfg.DelayTime,
		build:   fixed([]nfs4.Args{&nfs4.FreeStateidArgs{Stateid: newest(s.sid)}}),
	})
	if _, answered := StatusOf(err); err != nil && !answered {
		c.cfg.Logger.Debug("FREE_STATEID", "stateid", s.sid, "err", err)
	}
}
