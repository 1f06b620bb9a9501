package nfsup

import (
	"context"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// Open opens a file. A nil error means: the server holds the open, and so do the tables. If ctx ends
// first, whatever the server granted is given back in the background, except a reclaim, which may be
// repeated.
func (c *Client) Open(ctx context.Context, cred *rpc.Cred, a *OpenArgs) (*OpenReply, error) {
	leave, err := c.state.enterReclaim(nfs4.OP_OPEN, a.Reclaim)
	if err != nil {
		return nil, err
	}
	reply, again, err := c.claimOpen(a)
	if reply != nil || err != nil {
		leave()
		return reply, err
	}
	args := *a // the caller may go before we are done
	if again {
		args.Reclaim = false
	}
	return detach(c, ctx, func(ctx context.Context, commit func() bool) (*OpenReply, error) {
		defer leave()
		if again {
			return c.openFile(ctx, cred, &args, func() bool { commit(); return true })
		}
		return c.openFile(ctx, cred, &args, commit)
	})
}

// openFile is OPEN, and looks twice at a denial that may be due to an OPEN of the same owner.
func (c *Client) openFile(ctx context.Context, cred *rpc.Cred, a *OpenArgs, commit func() bool) (*OpenReply, error) {
	reply, lost, err := c.sendOpen(ctx, cred, a, commit)
	if s, _ := StatusOf(err); s != nfs4.NFS4ERR_SHARE_DENIED || a.Reclaim {
		return reply, err
	}
	mine, again := c.sentAgain(ctx, cred, a, lost)
	switch {
	case mine != nil:
		commit()
		return mine, nil
	case again:
		reply, _, err = c.sendOpen(ctx, cred, a, commit)
	}
	return reply, err
}

// sendOpen is OPEN (18.16), GETFH and GETATTR in one round trip. lost says that an earlier try has no answer.
func (c *Client) sendOpen(ctx context.Context, cred *rpc.Cred, a *OpenArgs, commit func() bool) (_ *OpenReply, lost bool, _ error) {
	m := mode(a.Access, a.Deny)
	var (
		reply  OpenReply
		fail   error
		inc    uint32
		opened *openState
		before modes
		landed uint64
		gone   []Revocation
	)
	r := &request{cred: cred, sticky: true, all: true, patient: c.cfg.DelayTime}
	refuse := func(res []nfs4.Res) error {
		last := res[len(res)-1]
		fail = &StatusError{Op: last.Op(), Status: last.Stat(), Index: len(res) - 1, Uncertain: r.uncertain}
		return nil
	}
	r.build = func(sess *session) ([]nfs4.Args, error) {
		inc = sess.incarnation
		return c.openOps(a), nil
	}
	r.use = func(res []nfs4.Res) error {
		reply, fail = OpenReply{}, nil
		r, ok := res[min(1, len(res)-1)].(*nfs4.OpenRes)
		if !ok || r.Status != nfs4.NFS4_OK {
			return refuse(res)
		}
		reply.FH, reply.Rflags = a.FH, r.Rflags
		if a.Name != "" {
			reply.Change, reply.AttrSet = r.Cinfo, r.AttrSet
		}
		for _, r := range res[2:] {
			switch r := r.(type) {
			case *nfs4.GetfhRes:
				if r.Status == nfs4.NFS4_OK {
					reply.FH = r.FH
				}
			case *nfs4.GetattrRes:
				if r.Status == nfs4.NFS4_OK {
					reply.Attrs = r.Attrs
				}
			}
		}
		if reply.FH == "" {
			// It is open, but nobody knows which file it is: GETFH does not fail on any server.
			return refuse(res)
		}
		opened, before, landed, gone = c.state.opened(openKey{a.Owner, reply.FH}, cred, inc, r.Stateid, m)
		reply.WriteDelegation = c.delegated(cred, reply.FH, &r.Delegation, inc, a.Want != DelegNone)
		return nil
	}
	f := c.state.takeOff(a.Owner)
	err := c.run(ctx, r)
	c.state.land(a.Owner, f)
	for i := range gone {
		c.lost(nil, &gone[i])
	}
	if err == nil {
		err = fail
	}
	if err != nil {
		return nil, r.uncertain, err
	}
	if !commit() && !a.Reclaim {
		c.undoOpen(opened, before, landed)
	}
	return &reply, r.uncertain, nil
}

func (c *Client) openOps(a *OpenArgs) []nfs4.Args {
	c.state.mu.Lock()
	owner := c.state.owner(a.Owner)
	c.state.mu.Unlock()
	open := &nfs4.OpenArgs{
		ShareAccess: a.Access | a.Want.want(),
		ShareDeny:   a.Deny,
		Owner:       owner,
	}
	ops := []nfs4.Args{&nfs4.PutfhArgs{FH: a.FH}, open}
	switch {
	case a.Name != "":
		ops[0] = &nfs4.PutfhArgs{FH: a.Dir}
		open.How = a.How
		open.Claim = nfs4.OpenClaim{Type: nfs4.CLAIM_NULL, File: a.Name}
		ops = append(ops, &nfs4.GetfhArgs{})
	case a.Reclaim:
		open.ShareAccess = a.Access
		open.Claim = nfs4.OpenClaim{Type: nfs4.CLAIM_PREVIOUS}
	default:
		open.Claim = nfs4.OpenClaim{Type: nfs4.CLAIM_FH}
	}
	if !a.Attrs.IsZero() {
		ops = append(ops, &nfs4.GetattrArgs{Request: a.Attrs})
	}
	return ops
}

// undoOpen takes back an OPEN whose caller has gone, unless the same owner has opened the file again.
func (c *Client) undoOpen(o *openState, before modes, landed uint64) {
	if o.turn.take(c.ctx, true) != nil {
		return
	}
	defer o.turn.give(true)
	c.state.mu.Lock()
	mine := c.state.opens[o.key] == o && o.landed == landed && o.modes != before
	c.state.mu.Unlock()
	if !mine {
		return
	}
	var err error
	if before == 0 {
		err = c.shrink(c.ctx, o, 0, 0)
	} else {
		access, deny := before.wire()
		err = c.shrink(c.ctx, o, access, deny)
	}
	if err != nil {
		c.cfg.Logger.Warn("an open that nobody waits for any more stays at the origin", "fh", o.key.fh, "err", err)
	}
}

// dropDelegation gives back a delegation that was not asked for. It does not block.
func (c *Client) dropDelegation(cred *rpc.Cred, fh nfs4.FH, d *nfs4.OpenDelegation) {
	if d.Type != nfs4.OPEN_DELEGATE_READ && d.Type != nfs4.OPEN_DELEGATE_WRITE {
		return
	}
	sid := d.Stateid
	c.spawn(func() {
		err := c.Compound(c.ctx, cred, []nfs4.Args{&nfs4.PutfhArgs{FH: fh}, &nfs4.DelegreturnArgs{Stateid: sid}}, nil)
		if err != nil && c.ctx.Err() == nil {
			c.cfg.Logger.Warn("a delegation stays at the origin", "fh", fh, "err", err)
		}
	})
}
