package nfsdown

import (
	"context"
	"errors"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// opLock takes, or reclaims, a byte-range lock: RFC 8881 18.10. It never blocks: a denied request that would
// wait has a place in the queue, and its owner hears by CB_NOTIFY_LOCK (9.6).
func opLock(ctx context.Context, c *compound, a *nfs4.LockArgs) (*nfs4.LockRes, error) {
	r, err := fs.MakeRange(a.Offset, a.Length)
	if err != nil {
		return nil, err
	}
	req := &state.LockRequest{
		File: c.cur.handle, Stateid: c.stateid(a.Locker.LockStateid), Range: r, Type: lockType(a.LockType),
		Wait: a.LockType.Waits() && !a.Reclaim, Reclaim: a.Reclaim,
	}
	if a.Locker.NewLockOwner {
		req.Stateid, req.NewOwner, req.LockOwner = c.stateid(a.Locker.OpenStateid), true, a.Locker.LockOwner.Owner
	}
	p, eff, err := c.s.state.PrepareLock(ctx, c.client, req)
	c.s.runEffects(eff)
	if err != nil {
		if a.Reclaim {
			c.s.reclaimed(c, "lock", req.LockOwner, c.cur.handle, r, req.Type, err)
		}
		return lockDenied(err)
	}
	c.s.evict(p.Evict)
	var call func() error
	if p.Call != state.CallNone {
		breq := p.Request
		breq.File, breq.Reclaim = c.cur.h, p.Call == state.CallReclaim
		call = func() error { return c.cur.b.Lock(ctx, c.cur.cred, &breq) }
	}
	berr, jerr := c.s.both(ctx, p.Batch, false, call)
	sid, eff, err := p.Settle(berr, jerr)
	c.effects(eff)
	if a.Reclaim {
		c.s.reclaimed(c, "lock", p.Request.LockOwner.Owner, c.cur.handle, r, req.Type, err)
		if errors.Is(berr, fs.NoGrace) {
			c.s.noGrace(c.cur.x)
		}
	}
	if err != nil {
		return lockDenied(err)
	}
	c.curSid = sid
	return &nfs4.LockRes{LockStateid: sid}, nil
}

func lockType(t nfs4.LockType) fs.LockType {
	if t.Exclusive() {
		return fs.WriteLock
	}
	return fs.ReadLock
}

// lockDenied makes the answer of a denied lock.
func lockDenied(err error) (*nfs4.LockRes, error) {
	if d, ok := denied(err); ok {
		return &nfs4.LockRes{Status: nfs4.NFS4ERR_DENIED, Denied: d}, nil
	}
	return nil, err
}

// denied is LOCK4denied: the holder, as far as it is known.
func denied(err error) (nfs4.LockDenied, bool) {
	var d *state.DeniedError
	var b *fs.DeniedError
	out := nfs4.LockDenied{}
	var r fs.Range
	var t fs.LockType
	switch {
	case errors.As(err, &d):
		r, t = d.Range, d.Type
		out.Owner = nfs4.StateOwner{ClientID: d.ClientID, Owner: d.Owner}
	case errors.As(err, &b):
		r, t = b.Range, b.Type
		out.Owner.Owner = b.Owner.Owner
	case errors.Is(err, fs.Denied), errors.Is(err, nfs4.NFS4ERR_DENIED):
		r, t = fs.Range{Last: fs.ToEOF}, fs.WriteLock
	default:
		return out, false
	}
	if len(out.Owner.Owner) > nfs4.OpaqueLimit {
		out.Owner.Owner = out.Owner.Owner[:nfs4.OpaqueLimit]
	}
	out.Offset, out.Length, out.LockType = r.First, r.Length(), nfs4.WRITE_LT
	if t == fs.ReadLock {
		out.LockType = nfs4.READ_LT
	}
	return out, true
}
