package nfsup

import (
	"context"
	"slices"
	"sync/atomic"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// Delegations, RFC 8881 10.2 and 10.4: while the server has given us one of a file, nobody else changes
// the file (or, of a write delegation, opens it) without the server calling us back first. There is one
// for each file at most. Opens and locks go to the server all the same, under their own owners, as the
// retention draft asks of a gateway; what a delegation saves is asking whether anything has changed.

// DelegKind is what kind of delegation.
type DelegKind uint8

// The kinds.
const (
	DelegNone DelegKind = iota
	DelegRead
	DelegWrite
)

func (k DelegKind) String() string {
	return [...]string{"none", "read", "write"}[k%3]
}

func delegKind(typ uint32) DelegKind {
	switch typ {
	case nfs4.OPEN_DELEGATE_READ:
		return DelegRead
	case nfs4.OPEN_DELEGATE_WRITE:
		return DelegWrite
	}
	return DelegNone
}

// want is the bits of share_access that ask for a delegation.
func (k DelegKind) want() uint32 {
	switch k {
	case DelegRead:
		return nfs4.OPEN4_SHARE_ACCESS_WANT_READ_DELEG
	case DelegWrite:
		return nfs4.OPEN4_SHARE_ACCESS_WANT_ANY_DELEG
	}
	return nfs4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG
}

// A delegState is one delegation. stateTable.mu guards it.
type delegState struct {
	fh       nfs4.FH
	kind     DelegKind
	cred     *rpc.Cred
	stateid  nfs4.Stateid
	inc      uint32 // the incarnation that it is held in
	serial   uint64 // see WriteDelegation
	recalled bool   // it must go back
}

// Delegation is a delegation that is held, for people and for checks.
type Delegation struct {
	FH       nfs4.FH
	Kind     DelegKind
	Recalled bool
	Stateid  nfs4.Stateid
}

// Delegated tells which delegation of a file is held and was not recalled. It is worth something only
// while the lease is: see Info.LeaseExpires and [Client.LeaseValid].
func (c *Client) Delegated(fh nfs4.FH) DelegKind {
	t := &c.state
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.delegs[fh]; d != nil && !d.recalled {
		return d.kind
	}
	return DelegNone
}

// serials numbers delegations in the order in which they were granted, upgraded or reclaimed, over all clients of
// the process.
var serials atomic.Uint64

// WriteDelegation is the number of the write delegation of a file that is held, was not recalled, and whose lease
// is certainly not over; 0 if there is none. While it stays the same nobody else has changed the file: one that was
// lost and granted again, to whichever client of this process, has another number.
func (c *Client) WriteDelegation(fh nfs4.FH) uint64 {
	t := &c.state
	t.mu.Lock()
	d, serial := t.delegs[fh], uint64(0)
	if d != nil && d.kind == DelegWrite && !d.recalled {
		serial = d.serial
	}
	t.mu.Unlock()
	if serial == 0 || !c.LeaseValid() {
		return 0
	}
	return serial
}

// Delegations lists what is held, by handle.
func (c *Client) Delegations() []Delegation {
	t := &c.state
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Delegation, 0, len(t.delegs))
	for _, d := range t.delegs {
		list = append(list, Delegation{d.fh, d.kind, d.recalled, d.stateid})
	}
	slices.SortFunc(list, func(a, b Delegation) int {
		if a.FH < b.FH {
			return -1
		}
		return 1
	})
	return list
}

// LeaseValid tells whether the lease is certainly not over, and no recovery is under way: only then
// does the server keep others from changing what it has delegated.
func (c *Client) LeaseValid() bool {
	c.mu.Lock()
	ready := c.ready
	c.mu.Unlock()
	return ready && c.cfg.Clock.Now().Before(c.LeaseExpires())
}

// delegated takes the delegation that came with the answer to an OPEN, and returns its number if it is one for
// writing that is kept. It does not block.
func (c *Client) delegated(cred *rpc.Cred, fh nfs4.FH, r *nfs4.OpenDelegation, inc uint32, wanted bool) (write uint64) {
	kind := delegKind(r.Type)
	if kind == DelegNone {
		return 0
	}
	t := &c.state
	t.mu.Lock()
	old := t.delegs[fh]
	switch {
	case old != nil && old.stateid.Other == r.Stateid.Other: // told again, or upgraded
		if newer(r.Stateid.Seqid, old.stateid.Seqid) {
			old.stateid = r.Stateid
		}
		if old.kind != kind || old.inc != inc {
			old.kind, old.inc, old.serial = kind, inc, serials.Add(1)
		}
		if kind == DelegWrite {
			write = old.serial
		}
		recall := r.Recall && !old.recalled
		old.recalled = old.recalled || r.Recall
		t.mu.Unlock()
		if recall {
			c.tellRecall(fh)
		}
		return write
	case !wanted, r.Recall, t.isEarly(r.Stateid.Other), old != nil && old.inc == inc:
		// Nobody asked for it, or it is recalled already; or there is one already, which stays.
		t.mu.Unlock()
		c.dropDelegation(cred, fh, r)
		return 0
	}
	d := &delegState{fh: fh, kind: kind, cred: cred, stateid: r.Stateid, inc: inc, serial: serials.Add(1)}
	t.delegs[fh] = d
	t.mu.Unlock()
	if kind == DelegWrite {
		write = d.serial
	}
	return write
}

// isEarly tells whether the delegation was recalled before it came.
//
// +checklocks:t.mu
func (t *stateTable) isEarly(other [12]byte) bool { return slices.Contains(t.early, other) }

// maxEarly bounds what is remembered of recalls that overtook the answer to their OPEN.
const maxEarly = 256

// recall is CB_RECALL, 20.2. It is answered at once, whatever the requests of the fore channel wait for:
// giving back is somebody else's work.
func (c *Client) recall(a *nfs4.CBRecallArgs) nfs4.Status {
	t := &c.state
	t.mu.Lock()
	d := t.delegs[a.FH]
	switch {
	case d != nil && d.stateid.Other == a.Stateid.Other:
		news := !d.recalled
		d.recalled = true
		t.mu.Unlock()
		if news {
			c.tellRecall(a.FH)
		}
		return nfs4.NFS4_OK
	case len(t.flights) > 0:
		// It may be in the answer to an OPEN that is on its way: then it goes back at once (2.10.6.3).
		if !t.isEarly(a.Stateid.Other) {
			if len(t.early) >= maxEarly {
				t.early = t.early[1:]
			}
			t.early = append(t.early, a.Stateid.Other)
		}
		t.mu.Unlock()
		return nfs4.NFS4ERR_DELAY
	}
	t.mu.Unlock()
	if a.Stateid != (nfs4.Stateid{}) {
		// Of the incarnation that we resumed, or its answer was lost: nobody here relies on it, and
		// somebody there waits for it.
		c.dropDelegation(c.cfg.Cred, a.FH, &nfs4.OpenDelegation{Type: nfs4.OPEN_DELEGATE_READ, Stateid: a.Stateid})
	}
	return nfs4.NFS4ERR_BAD_STATEID
}

// tellRecall passes a recall on, or obeys it if there is nobody to.
func (c *Client) tellRecall(fh nfs4.FH) {
	if f := c.cfg.Events.Recall; f != nil {
		f(fh, false)
		return
	}
	c.spawn(func() {
		if err := c.ReturnDelegation(c.ctx, fh); err != nil && c.ctx.Err() == nil {
			c.cfg.Logger.Warn("a recalled delegation stays at the origin", "fh", fh, "err", err)
		}
	})
}

// ReturnDelegation gives the delegation of a file back: DELEGRETURN, 18.6. From when it is called the
// delegation counts no more. Without one it does nothing.
func (c *Client) ReturnDelegation(ctx context.Context, fh nfs4.FH) error {
	t := &c.state
	t.mu.Lock()
	d := t.delegs[fh]
	if d != nil {
		d.recalled = true
	}
	t.mu.Unlock()
	if d == nil {
		return nil
	}
	_, err := detach(c, ctx, func(ctx context.Context, _ func() bool) (struct{}, error) {
		err := c.run(ctx, &request{
			cred:    d.cred,
			sticky:  true,
			patient: reclaimPatience,
			build: func(*session) ([]nfs4.Args, error) {
				t.mu.Lock()
				defer t.mu.Unlock()
				if t.delegs[fh] != d {
					return nil, ErrNoState
				}
				return []nfs4.Args{&nfs4.PutfhArgs{FH: fh}, &nfs4.DelegreturnArgs{Stateid: newest(d.stateid)}}, nil
			},
		})
		if s, answered := StatusOf(err); answered {
			c.cfg.Logger.Debug("DELEGRETURN", "fh", fh, "status", s)
			err = nil // the server has it no more, or will take it away
		}
		if err == nil || err == ErrNoState {
			t.mu.Lock()
			if t.delegs[fh] == d {
				delete(t.delegs, fh)
			}
			t.mu.Unlock()
			return struct{}{}, nil
		}
		return struct{}{}, err
	})
	return err
}

// claimType is what a reclaim of an open of fh says about the delegation: the one that is held in an
// earlier incarnation is asked for again.
func (t *stateTable) claimType(fh nfs4.FH, inc uint32) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.delegs[fh]
	if d == nil || d.inc == inc || d.recalled {
		return nfs4.OPEN_DELEGATE_NONE
	}
	if d.kind == DelegWrite {
		return nfs4.OPEN_DELEGATE_WRITE
	}
	return nfs4.OPEN_DELEGATE_READ
}

// delegReclaimed takes the delegation in the answer to a reclaim (18.16.3, CLAIM_PREVIOUS).
func (c *Client) delegReclaimed(cred *rpc.Cred, fh nfs4.FH, r *nfs4.OpenDelegation, inc uint32) {
	kind := delegKind(r.Type)
	t := &c.state
	t.mu.Lock()
	d := t.delegs[fh]
	if d != nil && d.inc == inc && d.stateid.Other == r.Stateid.Other {
		t.mu.Unlock() // another open of the file brought it
		return
	}
	if kind == DelegNone || d == nil || d.inc == inc || kind != d.kind {
		t.mu.Unlock()
		c.dropDelegation(cred, fh, r)
		return
	}
	d.stateid, d.inc, d.serial = r.Stateid, inc, serials.Add(1)
	d.recalled = d.recalled || r.Recall
	t.mu.Unlock()
	if r.Recall {
		c.tellRecall(fh)
	}
}

// dropOldDelegs forgets the delegations that a recovery did not get back. Without an open that is
// reclaimed there is no way to ask for them.
func (c *Client) dropOldDelegs(inc uint32) {
	c.loseDelegs(func(d *delegState) bool { return d.inc != inc })
}

// loseDelegs forgets delegations, and tells.
func (c *Client) loseDelegs(which func(*delegState) bool) {
	t := &c.state
	t.mu.Lock()
	var lost []nfs4.FH
	for fh, d := range t.delegs {
		if which(d) {
			delete(t.delegs, fh)
			lost = append(lost, fh)
		}
	}
	t.mu.Unlock()
	for _, fh := range lost {
		c.cfg.Logger.Info("a delegation is gone", "fh", fh)
		if f := c.cfg.Events.DelegationLost; f != nil {
			f(fh)
		}
	}
}

// checkDelegs finds out which delegations the server has revoked (SEQ4_STATUS_RECALLABLE_STATE_REVOKED)
// and acknowledges that: 10.2.1, 18.38.
func (c *Client) checkDelegs(ctx context.Context, sess *session) error {
	list := c.Delegations()
	const perCall = 64
	for len(list) > 0 {
		some := list[:min(perCall, len(list))]
		list = list[len(some):]
		args := &nfs4.TestStateidArgs{}
		for _, d := range some {
			args.Stateids = append(args.Stateids, newest(d.Stateid))
		}
		var codes []nfs4.Status
		err := c.runOn(ctx, sess, &request{
			cred:    c.cfg.Cred,
			patient: c.cfg.DelayTime,
			build:   fixed([]nfs4.Args{args}),
			use: func(res []nfs4.Res) error {
				codes = slices.Clone(res[0].(*nfs4.TestStateidRes).StatusCodes)
				return nil
			},
		})
		if err != nil {
			return err
		}
		for i, code := range codes {
			if i >= len(some) || code == nfs4.NFS4_OK || code == nfs4.NFS4ERR_OLD_STATEID {
				continue
			}
			sid := some[i].Stateid
			c.loseDelegs(func(d *delegState) bool { return d.stateid.Other == sid.Other })
			if code == nfs4.NFS4ERR_BAD_STATEID {
				continue
			}
			err := c.runOn(ctx, sess, &request{
				cred:    c.cfg.Cred,
				patient: c.cfg.DelayTime,
				build:   fixed([]nfs4.Args{&nfs4.FreeStateidArgs{Stateid: newest(sid)}}),
			})
			if _, answered := StatusOf(err); err != nil && !answered {
				return err
			}
		}
	}
	return nil
}

// returnAll gives all delegations back, many at once.
func (c *Client) returnAll(ctx context.Context) {
	done := make(chan struct{}, 32)
	list := c.Delegations()
	for i, d := range list {
		if i >= cap(done) {
			<-done
		}
		ok := c.spawn(func() {
			if err := c.ReturnDelegation(ctx, d.FH); err != nil {
				c.cfg.Logger.Debug("DELEGRETURN", "fh", d.FH, "err", err)
			}
			done <- struct{}{}
		})
		if !ok {
			return
		}
	}
	for range min(len(list), cap(done)) {
		<-done
	}
}

// delegAttr answers CB_GETATTR, 20.1: what we know of a file that is delegated to us for writing. We
// write through, so the server knows nothing less.
func (c *Client) delegAttr(a *nfs4.CBGetattrArgs) nfs4.CBRes {
	if c.Delegated(a.FH) != DelegWrite || c.cfg.Events.DelegationAttr == nil {
		return nfs4.CBErrRes(a.Op(), nfs4.NFS4ERR_BADHANDLE)
	}
	change, size, ok := c.cfg.Events.DelegationAttr(a.FH)
	if !ok {
		return nfs4.CBErrRes(a.Op(), nfs4.NFS4ERR_BADHANDLE)
	}
	res := &nfs4.CBGetattrRes{}
	res.Attrs.Mask = a.Request.And(nfs4.Bits(nfs4.FATTR4_CHANGE, nfs4.FATTR4_SIZE))
	res.Attrs.Change, res.Attrs.Size = change, size
	return res
}
