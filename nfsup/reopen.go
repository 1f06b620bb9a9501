package nfsup

import (
	"context"

	"golang.org/x/sync/errgroup"

	"holdfast/internal/nfs4"
)

// An open without a deny mode promises its owner nothing about others, so one that cannot be reclaimed, because
// the server has let it go and is not in grace, is made anew: RFC 8881 8.4.2.1 leaves that to the client, and
// a user who only reads and writes need not hear of it. The locks under it are lost all the same: others may have
// had them meanwhile (I1).

// refused is an open whose reclaim the server refused, and why.
type refused struct {
	open *openState
	why  error
}

// mayReopen tells whether an open whose reclaim was refused with err may be made anew.
func (c *Client) mayReopen(o *openState, err error) bool {
	switch s, _ := StatusOf(err); s {
	case nfs4.NFS4ERR_NO_GRACE, nfs4.NFS4ERR_RECLAIM_BAD, nfs4.NFS4ERR_RECLAIM_CONFLICT:
	default:
		return false
	}
	_, deny := c.state.modesOf(o).wire()
	return deny == nfs4.OPEN4_SHARE_DENY_NONE
}

// reopenAll makes opens anew, and tells of the locks that were under them. completed says that the server has
// had RECLAIM_COMPLETE: until then it refuses whatever is no reclaim (18.51), and the opens are lost.
func (c *Client) reopenAll(ctx context.Context, sess *session, list []refused, completed bool, rec *Recovery) error {
	limit, _, _ := sess.slots.use()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(limit, 64))
	for _, r := range list {
		if !completed {
			c.lose(r.open, r.why, rec)
			continue
		}
		g.Go(func() error { return c.reopen(ctx, sess, r, rec) })
	}
	return g.Wait()
}

// reopen makes one open anew: OPEN with CLAIM_FH (18.16).
func (c *Client) reopen(ctx context.Context, sess *session, r refused, rec *Recovery) error {
	o := r.open
	for _, l := range c.state.dropLocksUnder(o, r.why) {
		c.lost(rec, &l)
	}
	if err := c.openAgain(ctx, sess, o, nfs4.CLAIM_FH); err != nil {
		if aborted(ctx, err) {
			return err
		}
		c.lose(o, err, rec)
		return nil
	}
	c.state.finish(o, sess.incarnation)
	c.state.count(func() { rec.Reopened++ })
	return nil
}
