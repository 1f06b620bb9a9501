package nfsdown

import (
	"context"

	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// open40 is OPEN of NFSv4.0, RFC 7530 16.16: as in 4.1, in the order of the open-owner. An owner that we do not
// know has to confirm, as its OPEN may be a delayed duplicate.
func open40(ctx context.Context, c *compound, a *nfs4.OpenArgs) (nfs4.Res, error) {
	if err := c.byID(a.Owner.ClientID); err != nil {
		return nil, err
	}
	q, err := c.s.state.OpenSeq40(ctx, c.client, a.Owner.Owner, nfs4.OP_OPEN, a.Seqid)
	if err != nil {
		return nil, err
	}
	if r, err := c.inOrder(ctx, nfs4.OP_OPEN, q); r != nil || err != nil {
		return r, err
	}
	if a.ShareAccess > nfs4.OPEN4_SHARE_ACCESS_BOTH || a.Claim.Type > nfs4.CLAIM_DELEGATE_PREV ||
		a.How.Type == nfs4.OPEN4_CREATE && a.How.Mode > nfs4.EXCLUSIVE4 {
		return nil, nfs4.NFS4ERR_INVAL
	}
	reclaim := a.Claim.Type == nfs4.CLAIM_PREVIOUS
	if !q.Confirmed() {
		for _, sid := range c.s.state.Unconfirmed40(c.client, a.Owner.Owner) {
			if err := c.cancel40(ctx, sid); err != nil {
				return nil, err
			}
		}
		c.v40.unconfirmed = !reclaim
	}
	defer func() { c.v40.unconfirmed = false }()
	res, err := opOpen(ctx, c, a)
	if err != nil {
		return nil, err
	}
	res.Rflags &^= nfs4.OPEN4_RESULT_MAY_NOTIFY_LOCK
	switch {
	case reclaim:
		q.SetConfirmed() // the owner is one from before: 16.18.5
		c.reclaimed40()
	case !q.Confirmed():
		res.Rflags |= nfs4.OPEN4_RESULT_CONFIRM
	}
	return res, nil
}

// openConfirm40 is OPEN_CONFIRM, RFC 7530 16.18.
func openConfirm40(ctx context.Context, c *compound, a *nfs4.OpenConfirmArgs) (nfs4.Res, error) {
	q, r, err := c.openOrder(ctx, nfs4.OP_OPEN_CONFIRM, a.OpenStateid, a.Seqid)
	if r != nil || err != nil {
		return r, err
	}
	sid, err := c.s.state.ConfirmOpen(c.client, a.OpenStateid)
	if err != nil {
		return nil, err
	}
	q.SetConfirmed()
	return &nfs4.OpenConfirmRes{OpenStateid: sid}, nil
}

// openDowngrade40 is OPEN_DOWNGRADE of NFSv4.0, RFC 7530 16.19.
func openDowngrade40(ctx context.Context, c *compound, a *nfs4.OpenDowngradeArgs) (nfs4.Res, error) {
	if _, r, err := c.openOrder(ctx, nfs4.OP_OPEN_DOWNGRADE, a.OpenStateid, a.Seqid); r != nil || err != nil {
		return r, err
	}
	if a.ShareAccess > nfs4.OPEN4_SHARE_ACCESS_BOTH {
		return nil, nfs4.NFS4ERR_INVAL
	}
	return result(opOpenDowngrade(ctx, c, a))
}

// close40 is CLOSE of NFSv4.0, RFC 7530 16.2. It can be repeated although the stateid is no more.
func close40(ctx context.Context, c *compound, a *nfs4.CloseArgs) (nfs4.Res, error) {
	q, r, err := c.openOrder(ctx, nfs4.OP_CLOSE, a.OpenStateid, a.Seqid)
	if r != nil || err != nil {
		return r, err
	}
	res, err := opClose(ctx, c, a)
	if err != nil {
		return nil, err
	}
	q.NoteClosed(a.OpenStateid)
	return res, nil
}

// openOrder takes the client of an open stateid, and the turn of its open-owner. A result is the answer to a
// repetition.
func (c *compound) openOrder(ctx context.Context, op nfs4.OpNum, sid nfs4.Stateid, seqid uint32) (*state.Seq, nfs4.Res, error) {
	if state.IsSpecial(sid) {
		return nil, nil, nfs4.NFS4ERR_BAD_STATEID
	}
	if err := c.byStateid(sid); err != nil {
		return nil, nil, err
	}
	owner, lock, ok := c.client.OwnerOf40(sid)
	var q *state.Seq
	var err error
	switch {
	case !ok:
		q, err = c.s.state.ClosedSeq40(ctx, c.client, sid, op, seqid)
	case lock != "":
		err = nfs4.NFS4ERR_BAD_STATEID
	default:
		q, err = c.s.state.OpenSeq40(ctx, c.client, owner, op, seqid)
	}
	if err != nil {
		return nil, nil, err
	}
	r, err := c.inOrder(ctx, op, q)
	return q, r, err
}
