package nfsdown

import (
	"context"
	"errors"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsdown/state"
)

// openBits are all bits of share_access that have a meaning.
const openBits = nfs4.OPEN4_SHARE_ACCESS_BOTH | nfs4.OPEN4_SHARE_ACCESS_WANT_DELEG_MASK |
	nfs4.OPEN4_SHARE_ACCESS_WANT_SIGNAL_DELEG_WHEN_RESRC_AVAIL | nfs4.OPEN4_SHARE_ACCESS_WANT_PUSH_DELEG_WHEN_UNCONTENDED

// opOpen opens, creates, or reclaims an open of, a regular file: RFC 8881 18.16. A delegation may come with it.
func opOpen(ctx context.Context, c *compound, a *nfs4.OpenArgs) (*nfs4.OpenRes, error) {
	if a.ShareAccess&nfs4.OPEN4_SHARE_ACCESS_BOTH == 0 || a.ShareAccess&^openBits != 0 || a.ShareDeny > nfs4.OPEN4_SHARE_DENY_BOTH {
		return nil, nfs4.NFS4ERR_INVAL
	}
	o := &opening{c: c, a: a, res: new(nfs4.OpenRes)}
	switch a.Claim.Type {
	case nfs4.CLAIM_NULL:
		if err := o.writable(); err != nil {
			return nil, err
		}
		return o.res, o.byName(ctx)
	case nfs4.CLAIM_FH, nfs4.CLAIM_PREVIOUS:
		if a.How.Type != nfs4.OPEN4_NOCREATE {
			return nil, nfs4.NFS4ERR_INVAL
		}
		if a.Claim.Type == nfs4.CLAIM_PREVIOUS {
			o.reclaimDelegation(ctx)
			return o.res, o.byHandle(ctx, true)
		}
		if err := o.writable(); err != nil {
			return nil, err
		}
		if _, err := c.regular(ctx, &c.cur); err != nil {
			return nil, err
		}
		return o.res, o.byHandle(ctx, false)
	case nfs4.CLAIM_DELEGATE_CUR, nfs4.CLAIM_DELEG_CUR_FH:
		// The client did this open by itself: it is made here as any other. 10.2.1: the delegation covers it.
		h, err := c.s.state.CheckDelegation(c.client, c.stateid(a.Claim.DelegateStateid))
		switch {
		case err != nil:
			return nil, err
		case a.Claim.Type == nfs4.CLAIM_DELEGATE_CUR:
			return o.res, o.byName(ctx)
		case h != c.cur.handle:
			return nil, nfs4.NFS4ERR_BAD_STATEID
		}
		return o.res, o.byHandle(ctx, false)
	}
	return nil, nfs4.NFS4ERR_NOTSUPP
}

// An opening is an OPEN on its way.
type opening struct {
	c   *compound
	a   *nfs4.OpenArgs
	res *nfs4.OpenRes
	set nfs4.Bitmap
	// size is what a new file gets; 0 is nothing to do.
	size  uint64
	given bool // a list was, which a new file gets when it is there
}

// writable refuses to write to, or create in, a read-only export.
func (o *opening) writable() error {
	c, a := o.c, o.a
	if c.cur.x != nil && !c.cur.acc.RW && (a.ShareAccess&nfs4.OPEN4_SHARE_ACCESS_WRITE != 0 || a.How.Type == nfs4.OPEN4_CREATE) {
		return nfs4.NFS4ERR_ROFS
	}
	return nil
}

func (o *opening) owner() fs.Owner {
	return fs.Owner{Client: o.c.client.Owner(), Owner: o.a.Owner.Owner}
}

// byName is CLAIM_NULL. The backend opens first, since the handle is not known; then our own rules are
// applied, and if they refuse, the open is undone.
func (o *opening) byName(ctx context.Context) error {
	c, a := o.c, o.a
	name := a.Claim.File
	if err := checkName(name); err != nil {
		return err
	}
	if c.cur.junction(name) != nil {
		return nfs4.NFS4ERR_ISDIR
	}
	req := &fs.OpenRequest{Owner: o.owner(), Access: share(a.ShareAccess), Deny: share(a.ShareDeny), Dir: c.cur.h, Name: name}
	if err := o.how(ctx, req); err != nil {
		return err
	}
	ticket, err := c.s.state.BeginOpen(c.client, a.Owner.Owner, c.cur.handle)
	if err != nil {
		return err
	}
	defer ticket.End()
	truncates := req.Create == fs.Unchecked && req.Attr.Size != nil
	if truncates || c.s.state.Delegated() {
		// It truncates, which cannot be undone, or somebody has a delegation: judge it before, if the file is there.
		if h, _, err := c.cur.b.Lookup(ctx, c.cur.cred, c.cur.h, name); err == nil {
			if _, err := o.check(ctx, h); err != nil {
				return err
			}
			if truncates {
				if err := c.touch(ctx, wrapOf(&c.cur, h), state.TouchChange); err != nil {
					return err
				}
			}
		}
	}
	out, err := c.cur.b.Open(ctx, c.cur.cred, req)
	if errors.Is(err, fs.ShareDenied) {
		// Perhaps by something that is only kept by courtesy.
		if h, _, lerr := c.cur.b.Lookup(ctx, c.cur.cred, c.cur.h, name); lerr == nil {
			evicted, cerr := o.check(ctx, h)
			if cerr != nil {
				return cerr
			}
			if evicted {
				out, err = c.cur.b.Open(ctx, c.cur.cred, req)
			}
		}
	}
	if err != nil {
		return err
	}
	plan := &state.OpenRequest{Owner: a.Owner.Owner, Access: req.Access, Deny: req.Deny, Name: name, Ticket: ticket}
	file, err := c.sub(ctx, &c.cur, out.File)
	if err != nil {
		if c.cur.x != nil { // in the pseudo file system nothing is ever open
			plan.File = wrap(c.cur.x.ID, out.File)
			c.effects(c.s.state.UndoOpen(c.client, plan))
		}
		return err
	}
	o.res.Cinfo = cinfo(out.Change)
	switch {
	case out.Created && a.How.Mode >= nfs4.EXCLUSIVE4:
		// The verifier may be kept in the times, which the client then sets.
		o.res.AttrSet = o.set.Or(nfs4.Bits(nfs4.FATTR4_TIME_ACCESS, nfs4.FATTR4_TIME_MODIFY))
	case out.Created:
		o.res.AttrSet = o.set
	case a.How.Type == nfs4.OPEN4_CREATE && a.How.Mode >= nfs4.EXCLUSIVE4:
		o.res.AttrSet = o.set.Or(nfs4.Bits(nfs4.FATTR4_TIME_ACCESS, nfs4.FATTR4_TIME_MODIFY)) // our own, asked again
	case req.Create == fs.Unchecked && req.Attr.Size != nil:
		o.res.AttrSet = nfs4.Bits(nfs4.FATTR4_SIZE)
	}
	plan.File, plan.Cred = file.handle, file.cred
	err = o.settle(ctx, file, plan, out)
	if err == nil && out.Created {
		o.grow(ctx, &file)
		o.protect(ctx, &file)
	}
	return err
}

// byHandle is CLAIM_FH and CLAIM_PREVIOUS: our rules first, then journal and backend side by side.
func (o *opening) byHandle(ctx context.Context, reclaim bool) error {
	c, a := o.c, o.a
	return o.settle(ctx, c.cur, &state.OpenRequest{
		Owner: a.Owner.Owner, File: c.cur.handle, Access: share(a.ShareAccess), Deny: share(a.ShareDeny), Reclaim: reclaim, Cred: c.cur.cred,
	}, nil)
}

// settle makes the open of a file state. opened is set if the backend has it already.
func (o *opening) settle(ctx context.Context, file ref, req *state.OpenRequest, opened *fs.OpenResult) error {
	c := o.c
	req.Unconfirmed, req.Session = c.v40.unconfirmed, c.sessionID()
	p, eff, err := c.s.state.PrepareOpen(ctx, c.client, req)
	c.posted = eff.Record(c.s) || c.posted
	c.s.runEffects(eff)
	if err != nil {
		if req.Reclaim {
			c.s.reclaimed(c, "open", req.Owner, file.handle, fs.Range{}, fs.NoLock, err)
		}
		return err
	}
	c.s.evict(p.Evict)
	var call func() error
	if p.Call != state.CallNone {
		breq := p.Request
		breq.File, breq.Reclaim = file.h, p.Call == state.CallReclaim
		call = func() error {
			out, err := file.b.Open(ctx, file.cred, &breq)
			if err == nil {
				opened = out
			}
			return err
		}
	}
	berr, jerr := c.s.bothOpen(ctx, p, p.Weak, call)
	sid, eff, err := p.Settle(berr, jerr)
	c.effects(eff)
	if req.Reclaim {
		c.s.reclaimed(c, "open", req.Owner, file.handle, fs.Range{}, fs.NoLock, err)
		if errors.Is(berr, fs.NoGrace) {
			c.s.noGrace(c.cur.x)
		}
	}
	if err != nil {
		return err
	}
	o.res.Stateid = sid
	o.res.Rflags = nfs4.OPEN4_RESULT_LOCKTYPE_POSIX
	if opened == nil || opened.MayNotify {
		o.res.Rflags |= nfs4.OPEN4_RESULT_MAY_NOTIFY_LOCK
	}
	switch a := o.a; {
	case req.Reclaim:
		o.res.Delegation = o.reclaimed(file)
	case a.Claim.Type == nfs4.CLAIM_DELEGATE_CUR, a.Claim.Type == nfs4.CLAIM_DELEG_CUR_FH:
		o.res.Delegation = nfs4.OpenDelegation{Type: nfs4.OPEN_DELEGATE_NONE}
	default:
		o.res.Delegation = o.delegate(ctx, file)
	}
	c.set(file)
	c.curSid = sid
	return nil
}

// grow gives a new file its size. If that fails the file is open all the same, and attrset does not name the size.
func (o *opening) grow(ctx context.Context, file *ref) {
	if o.size == 0 {
		return
	}
	io := fs.IORef{Handle: file.h}
	if o.a.ShareAccess&nfs4.OPEN4_SHARE_ACCESS_WRITE != 0 {
		io.Open = o.owner()
	}
	if _, err := file.b.SetAttr(ctx, file.cred, io, &fs.SetAttr{Size: &o.size}); err != nil {
		o.res.AttrSet.Clear(nfs4.FATTR4_SIZE)
		o.c.s.log.Warn("a new file did not get its size", "size", o.size, "err", err)
	}
}

// protect gives a new file its list. If that fails nobody but the superuser can open it a second time, and attrset
// does not name the list.
func (o *opening) protect(ctx context.Context, file *ref) {
	if !o.given {
		return
	}
	if err := o.c.setACL(ctx, file, o.a.How.Attrs.ACL); err != nil {
		o.c.s.log.Warn("a new file did not get its ACL", "err", err)
		return
	}
	o.res.AttrSet.Set(nfs4.FATTR4_ACL)
}

// check judges an open without doing it, and takes away what stands in its way only by courtesy.
func (o *opening) check(ctx context.Context, h fs.Handle) (evicted bool, err error) {
	c := o.c
	r, err := c.sub(ctx, &c.cur, h)
	if err != nil {
		return false, err
	}
	evict, err := c.s.state.CheckOpen(ctx, c.client, &state.OpenRequest{
		Owner: o.a.Owner.Owner, File: r.handle, Access: share(o.a.ShareAccess), Deny: share(o.a.ShareDeny), Session: c.sessionID(),
	})
	if err != nil {
		c.s.evict(evict)
		return false, err
	}
	evicted = !evict.Empty()
	c.s.evict(evict)
	return evicted, nil
}

// how is the way to create.
func (o *opening) how(ctx context.Context, req *fs.OpenRequest) error {
	h := &o.a.How
	if h.Type != nfs4.OPEN4_CREATE {
		return nil
	}
	switch h.Mode {
	case nfs4.UNCHECKED4:
		req.Create = fs.Unchecked
	case nfs4.GUARDED4:
		req.Create = fs.Guarded
	case nfs4.EXCLUSIVE4, nfs4.EXCLUSIVE4_1:
		req.Create, req.Verifier = fs.Exclusive, h.Verf
	}
	if h.Mode == nfs4.EXCLUSIVE4 {
		return nil
	}
	if h.Mode == nfs4.EXCLUSIVE4_1 && !exclcreat.Contains(h.Attrs.Mask.And(o.c.supported(&o.c.cur))) {
		return nfs4.NFS4ERR_INVAL
	}
	set, bits, given, err := o.c.createAttr(ctx, h.Attrs)
	if err != nil {
		return err
	}
	if set.Size != nil && *set.Size != 0 {
		// Of a file that is there only zero counts, and means that it is truncated (18.16.3); a new one gets
		// its size when it is open.
		o.size, set.Size = *set.Size, nil
	}
	req.Attr, o.set, o.given = set, bits, given
	return nil
}
