package nfsdown

import (
	"context"
	"errors"
	"math"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
	"holdfast/nfsdown/state"
)

// recallWait is how long a request waits for a delegation to come back before its client is told DELAY: most
// come in a round trip or two, and a client that is told to wait does so for much longer.
const recallWait = 2 * time.Second

// touchedAttrs are what the holder of a write delegation knows better.
var touchedAttrs = nfs4.Bits(nfs4.FATTR4_CHANGE, nfs4.FATTR4_SIZE, nfs4.FATTR4_SPACE_USED, nfs4.FATTR4_TIME_MODIFY, nfs4.FATTR4_TIME_METADATA)

// delegate grants a delegation of a file that was just opened, or says why there is none: RFC 8881 18.16.3.
func (o *opening) delegate(ctx context.Context, file ref) nfs4.OpenDelegation {
	c := o.c
	want := o.a.ShareAccess & nfs4.OPEN4_SHARE_ACCESS_WANT_DELEG_MASK
	kind := state.ReadDeleg
	switch {
	case c.minor == 0:
		return nfs4.OpenDelegation{Type: nfs4.OPEN_DELEGATE_NONE}
	case want == nfs4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG:
		return noDelegation(nfs4.WND4_NOT_WANTED)
	case want == nfs4.OPEN4_SHARE_ACCESS_WANT_CANCEL:
		return noDelegation(nfs4.WND4_CANCELLED)
	case want == nfs4.OPEN4_SHARE_ACCESS_WANT_WRITE_DELEG, want != nfs4.OPEN4_SHARE_ACCESS_WANT_READ_DELEG && o.a.ShareAccess&nfs4.OPEN4_SHARE_ACCESS_WRITE != 0:
		kind = state.WriteDeleg
	}
	d, why := o.grantDelegation(ctx, file, kind)
	switch {
	case d.Type != nfs4.OPEN_DELEGATE_NONE:
		return d
	case want == nfs4.OPEN4_SHARE_ACCESS_WANT_NO_PREFERENCE:
		return nfs4.OpenDelegation{Type: nfs4.OPEN_DELEGATE_NONE}
	}
	return noDelegation(why)
}

func noDelegation(why uint32) nfs4.OpenDelegation {
	return nfs4.OpenDelegation{Type: nfs4.OPEN_DELEGATE_NONE_EXT, Why: why}
}

// grantDelegation makes a delegation; OPEN_DELEGATE_NONE if it cannot be had, which is no error of the OPEN.
func (o *opening) grantDelegation(ctx context.Context, file ref, kind state.Deleg) (nfs4.OpenDelegation, uint32) {
	c := o.c
	none := nfs4.OpenDelegation{Type: nfs4.OPEN_DELEGATE_NONE}
	keeper, ok := file.b.(fs.Delegator)
	if !ok || !keeper.Delegates(file.h, kind == state.WriteDeleg) {
		if kind == state.WriteDeleg {
			return none, nfs4.WND4_WRITE_DELEG_NOT_SUPP_FTYPE
		}
		return none, nfs4.WND4_NOT_SUPP_FTYPE
	}
	p, why := c.s.state.PrepareDelegation(ctx, c.client, &state.DelegRequest{File: file.handle, Kind: kind, Cred: file.cred, Name: o.a.Claim.File})
	if p == nil {
		return none, why
	}
	req := p.Request
	req.File = file.h
	berr, jerr := c.s.both(ctx, p.Batch, false, func() error {
		if _, err := file.b.Open(ctx, file.cred, &req); err != nil {
			return err
		}
		// An open that the backend will not keep others away from is given back by Settle: the outcome is
		// as unknown as if the connection had broken.
		if err := keeper.Delegate(ctx, req.Owner, file.h, kind == state.WriteDeleg, false); err != nil {
			return fs.E("OPEN", fs.Unreachable, err)
		}
		return nil
	})
	sid, eff, err := p.Settle(berr, jerr)
	c.effects(eff)
	if err != nil {
		c.s.log.Debug("no delegation", "kind", kind, "err", err)
		return none, nfs4.WND4_CONTENTION
	}
	return delegation(sid, kind, false), 0
}

// delegation is open_delegation4. Who may use the file is asked by ACCESS, as before.
func delegation(sid nfs4.Stateid, kind state.Deleg, recall bool) nfs4.OpenDelegation {
	d := nfs4.OpenDelegation{Type: nfs4.OPEN_DELEGATE_READ, Stateid: sid, Recall: recall,
		Permissions: nfs4.ACE{Type: nfs4.ACE4_ACCESS_ALLOWED_ACE_TYPE, Who: "EVERYONE@"}}
	if kind == state.WriteDeleg {
		d.Type = nfs4.OPEN_DELEGATE_WRITE
		d.SpaceLimit = nfs4.SpaceLimit{By: nfs4.NFS_LIMIT_SIZE, FileSize: math.MaxInt64}
	}
	return d
}

// reclaimDelegation is the delegation of CLAIM_PREVIOUS, before the open: opens that the client did by itself are
// reclaimed under it. A client that cannot have it back is told so by there being none.
func (o *opening) reclaimDelegation(ctx context.Context) {
	c, file := o.c, o.c.cur
	kind := state.ReadDeleg
	switch o.a.Claim.DelegateType {
	case nfs4.OPEN_DELEGATE_READ:
	case nfs4.OPEN_DELEGATE_WRITE:
		kind = state.WriteDeleg
	default:
		return
	}
	if _, have, _ := c.s.state.Delegation(c.client, file.handle); have != state.NoDeleg {
		return // another open of the file brought it
	}
	p, eff, err := c.s.state.PrepareReclaimDelegation(ctx, c.client, &state.DelegRequest{File: file.handle, Kind: kind, Cred: file.cred})
	c.posted = eff.Record(c.s) || c.posted
	c.s.runEffects(eff)
	if err == nil {
		c.s.evict(p.Evict)
		var call func() error
		if p.Call != state.CallNone {
			req := p.Request
			req.File, req.Reclaim = file.h, p.Call == state.CallReclaim
			call = func() error { _, err := file.b.Open(ctx, file.cred, &req); return err }
		}
		berr, jerr := c.s.both(ctx, p.Batch, false, call)
		_, eff, err = p.Settle(berr, jerr)
		c.effects(eff)
		if err == nil {
			c.s.keepDelegation(ctx, file.b, p.Request.Owner, file.h, file.handle, kind == state.WriteDeleg)
		}
	}
	c.s.reclaimed(c, "delegation", "", file.handle, fs.Range{}, fs.NoLock, err)
}

// keepDelegation asks the backend for its promise anew, after a restart. If it makes none the delegation is as before
// for its client's opens and locks, but it must come back: others may have changed the file.
func (s *Server) keepDelegation(ctx context.Context, b fs.Backend, owner fs.Owner, inner, h fs.Handle, write bool) {
	k, ok := b.(fs.Delegator)
	var err error
	if ok {
		err = k.Delegate(ctx, owner, inner, write, true)
	}
	if !ok || err != nil {
		s.log.Info("a delegation of before the restart is recalled", "client", owner.Client, "err", err)
		s.recallAll(h, true)
	}
}

// recallAll recalls all delegations of a file, or those for writing. It does not wait for them.
func (s *Server) recallAll(h fs.Handle, change bool) {
	what := state.TouchLook
	if change {
		what = state.TouchChange
	}
	s.background(func(ctx context.Context) {
		for {
			eff, granting := s.state.RecallAll(h, what)
			s.runEffects(eff)
			if granting == nil {
				return
			}
			select { // one is on its way: its promise is as old as ours
			case <-granting:
			case <-ctx.Done():
				return
			}
		}
	})
}

// reclaimed is the delegation of the answer to CLAIM_PREVIOUS.
func (o *opening) reclaimed(file ref) nfs4.OpenDelegation {
	if o.a.Claim.DelegateType != nfs4.OPEN_DELEGATE_READ && o.a.Claim.DelegateType != nfs4.OPEN_DELEGATE_WRITE {
		return nfs4.OpenDelegation{Type: nfs4.OPEN_DELEGATE_NONE}
	}
	sid, kind, recalled := o.c.s.state.Delegation(o.c.client, file.handle)
	if kind == state.NoDeleg {
		return nfs4.OpenDelegation{Type: nfs4.OPEN_DELEGATE_NONE}
	}
	return delegation(sid, kind, recalled)
}

// opDelegreturn gives a delegation back: RFC 8881 18.6.
func opDelegreturn(ctx context.Context, c *compound, a *nfs4.DelegreturnArgs) (*nfs4.DelegreturnRes, error) {
	p, err := c.s.state.PrepareDelegReturn(ctx, c.client, c.stateid(a.Stateid), c.cur.handle)
	if err != nil {
		return nil, err
	}
	c.s.written(p.Batch)
	_, eff, err := p.Settle(c.cur.b.CloseFile(ctx, p.Owner, c.cur.h))
	c.effects(eff)
	if err != nil {
		return nil, err
	}
	return new(nfs4.DelegreturnRes), nil
}

// opGetDirDelegation says that there is none, and that there will be no signal: RFC 8881 18.39.
func opGetDirDelegation(context.Context, *compound, *nfs4.GetDirDelegationArgs) (*nfs4.GetDirDelegationRes, error) {
	return &nfs4.GetDirDelegationRes{NonFatal: nfs4.GDD4_UNAVAIL}, nil
}

// Touch recalls what is delegated of a file to others than c (nil: to anybody), because it is about to be used
// otherwise than under an open. Until done is called no delegation in the way of it is granted. The error is Delay,
// in the end.
func (s *Server) Touch(ctx context.Context, c *state.Client, h fs.Handle, what state.Touch) (done func(), err error) {
	done, eff, err := s.state.Touch(ctx, c, h, what)
	s.evict(eff)
	return done, err
}

// touch is Touch until the operation is done.
func (c *compound) touch(ctx context.Context, h fs.Handle, what state.Touch) error {
	done, err := c.s.Touch(ctx, c.client, h, what)
	if err == nil {
		c.leave = append(c.leave, done)
	}
	return err
}

// touchName is touch of what a name stands for, if there is such a file.
func (c *compound) touchName(ctx context.Context, dir *ref, name string) error {
	if !c.s.state.Delegated() {
		return nil
	}
	h, a, err := dir.b.Lookup(ctx, dir.cred, dir.h, name)
	if err != nil || a != nil && a.Type != fs.Regular {
		return nil // the operation will say what is wrong
	}
	r, err := c.sub(ctx, dir, h)
	if err != nil {
		return nil
	}
	return c.touch(ctx, r.handle, state.TouchChange)
}

// untouch ends what touch began.
func (c *compound) untouch() {
	for _, done := range c.leave {
		done()
	}
	c.leave = c.leave[:0]
}

// again tells whether an operation that failed with err is to be run once more, because the delegation in its way
// has come back before the deadline.
func (c *compound) again(ctx context.Context, err error, deadline <-chan struct{}) bool {
	var r *state.RecallError
	if !errors.As(err, &r) {
		return false
	}
	c.flush()
	select {
	case <-r.Returned:
		return true
	case <-deadline:
	case <-ctx.Done():
	}
	return false
}

// Recall is of state.Host: it sends CB_RECALL, RFC 8881 20.2, and does not wait for the answer.
func (s *Server) Recall(r *state.Recall) {
	s.background(func(ctx context.Context) {
		ctx, stop := context.WithTimeout(ctx, s.cfg.CallbackTimeout)
		defer stop()
		st, err := s.callback(ctx, r.Client, &nfs4.CBRecallArgs{Stateid: r.Stateid, FH: nfs4.FH(r.File)})
		if err == nil && st != nfs4.NFS4_OK {
			err = st
		}
		if err != nil {
			s.log.Debug("a client was not told that its delegation is recalled", "client", fs.Owner{Client: r.Client.Owner()}, "err", err)
		}
		r.Asked(err == nil)
	})
}

// probe looks whether a client can be called back: CB_NULL, which needs no session that the client knows already.
func (s *Server) probe(ch *channel, rc *rpc.Conn) {
	if !s.cfg.State.Delegations {
		return
	}
	s.background(func(ctx context.Context) {
		ctx, stop := context.WithTimeout(ctx, s.cfg.CallbackTimeout)
		defer stop()
		program, sec := ch.ss.Callback()
		err := rc.Call(ctx, &rpc.Call{Prog: program, Vers: nfs4.CBVersion, Proc: nfs4.ProcNull, Cred: backCred(sec)}, func(*xdr.Codec) {}, func(*xdr.Codec) error { return nil })
		if err != nil {
			s.log.Debug("no callbacks to the client", "client", fs.Owner{Client: ch.ss.Client().Owner()}, "err", err)
			return
		}
		ch.ss.Client().SetTried()
	})
}

// wrapOf is a backend's handle as package state knows it.
func wrapOf(dir *ref, h fs.Handle) fs.Handle {
	if dir.x == nil {
		return h
	}
	return wrap(dir.x.ID, h)
}
