package nfsdown

import (
	"context"

	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// lock40 is LOCK of NFSv4.0, RFC 7530 16.10. The first one of a lock-owner is in the order of the open-owner, and
// begins that of the lock-owner.
func lock40(ctx context.Context, c *compound, a *nfs4.LockArgs) (nfs4.Res, error) {
	l := &a.Locker
	if !l.NewLockOwner {
		if r, err := c.lockOrder(ctx, nfs4.OP_LOCK, l.LockStateid, l.LockSeqid); r != nil || err != nil {
			return r, err
		}
	} else {
		if _, r, err := c.openOrder(ctx, nfs4.OP_LOCK, l.OpenStateid, l.OpenSeqid); r != nil || err != nil {
			return r, err
		}
		if l.LockOwner.ClientID != c.client.ID() {
			return nil, nfs4.NFS4ERR_STALE_CLIENTID
		}
		q, err := c.s.state.NewLockSeq40(ctx, c.client, l.LockOwner.Owner, l.LockSeqid)
		if err != nil {
			return nil, err
		}
		c.v40.seqs = append(c.v40.seqs, q)
	}
	res, err := opLock(ctx, c, a)
	if err == nil && a.Reclaim && res.Status == nfs4.NFS4_OK {
		c.reclaimed40()
	}
	return result(res, err)
}

// locku40 is LOCKU of NFSv4.0, RFC 7530 16.12.
func locku40(ctx context.Context, c *compound, a *nfs4.LockuArgs) (nfs4.Res, error) {
	if r, err := c.lockOrder(ctx, nfs4.OP_LOCKU, a.LockStateid, a.Seqid); r != nil || err != nil {
		return r, err
	}
	return result(opLocku(ctx, c, a))
}

// lockt40 is LOCKT of NFSv4.0, RFC 7530 16.11.
func lockt40(ctx context.Context, c *compound, a *nfs4.LocktArgs) (nfs4.Res, error) {
	if err := c.byID(a.Owner.ClientID); err != nil {
		return nil, err
	}
	return result(opLockt(ctx, c, a))
}

// lockOrder takes the client of a lock stateid, and the turn of its lock-owner. A result is the answer to a
// repetition.
func (c *compound) lockOrder(ctx context.Context, op nfs4.OpNum, sid nfs4.Stateid, seqid uint32) (nfs4.Res, error) {
	if state.IsSpecial(sid) {
		return nil, nfs4.NFS4ERR_BAD_STATEID
	}
	if err := c.byStateid(sid); err != nil {
		return nil, err
	}
	_, owner, ok := c.client.OwnerOf40(sid)
	if !ok || owner == "" {
		return nil, nfs4.NFS4ERR_BAD_STATEID
	}
	q, err := c.s.state.LockSeq40(ctx, c.client, owner, op, seqid)
	if err != nil {
		return nil, err
	}
	return c.inOrder(ctx, op, q)
}

// opReleaseLockowner forgets a lock-owner that has no locks: RFC 7530 16.37.
func opReleaseLockowner(_ context.Context, c *compound, a *nfs4.ReleaseLockownerArgs) (*nfs4.ReleaseLockownerRes, error) {
	if err := c.byID(a.Owner.ClientID); err != nil {
		return nil, err
	}
	eff, err := c.s.state.ReleaseLockOwner(c.client, a.Owner.Owner)
	c.effects(eff)
	return new(nfs4.ReleaseLockownerRes), err
}
