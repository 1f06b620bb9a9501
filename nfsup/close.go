package nfsup

import (
	"context"
	"errors"
	"math"

	"golang.org/x/sync/errgroup"

	"holdfast/internal/nfs4"
)

// Downgrade reduces the open of (owner, fh) to the modes given, RFC 8881 18.18. They must be those of
// some of the Opens that made it. An Open of the same owner that was answered meanwhile keeps its modes.
func (c *Client) Downgrade(ctx context.Context, owner UpOwner, fh nfs4.FH, access, deny uint32) error {
	_, err := detach(c, ctx, func(ctx context.Context, _ func() bool) (struct{}, error) {
		o, err := c.state.takeOpen(ctx, owner, fh, true)
		if err != nil {
			return struct{}{}, err
		}
		defer o.turn.give(true)
		return struct{}{}, c.shrink(ctx, o, access, deny)
	})
	return err
}

// CloseFile gives back the locks under the open of (owner, fh), and the open. ErrNoState if there is
// none. An Open of the same owner that was answered meanwhile stays, with its own modes only.
func (c *Client) CloseFile(ctx context.Context, owner UpOwner, fh nfs4.FH) error {
	_, err := detach(c, ctx, func(ctx context.Context, _ func() bool) (struct{}, error) {
		o, err := c.state.takeOpen(ctx, owner, fh, true)
		if err != nil {
			return struct{}{}, err
		}
		defer o.turn.give(true)
		return struct{}{}, c.shrink(ctx, o, 0, 0)
	})
	return err
}

// tries bounds how often a state operation is built again because its stateid had changed.
const tries = 8

// shrink reduces an open, whose exclusive turn the caller has, to the modes given, or closes it if
// they are none. The stateid carries its exact seqid, so that an OPEN by name of the same owner, which
// has no turn, cannot be closed by accident: OLD_STATEID then makes us wait for its answer and
// spare its modes (8.2.2).
func (c *Client) shrink(ctx context.Context, o *openState, access, deny uint32) error {
	c.state.count(func() { o.closing, o.late = true, 0 })
	defer c.state.count(func() { o.closing = false })
	for try := 0; ; try++ {
		s := &shrinking{c: c, o: o, access: access, deny: deny, blind: try >= tries/2}
		err := c.run(ctx, &request{
			cred:    c.credOf(o),
			sticky:  true,
			all:     true,
			patient: c.cfg.DelayTime,
			build:   s.build,
			use:     s.use,
		})
		switch {
		case errors.Is(err, errNothingToDo):
			return nil
		case err != nil:
			return err
		case s.more:
			try-- // it was not in vain
			continue
		case s.fail == nil:
			return nil
		}
		status := s.fail.Status
		if try >= tries || !stateError(status) {
			return s.fail
		}
		if status == nfs4.NFS4ERR_OLD_STATEID {
			if err := c.state.awaitFlights(c.ctx, o.key.owner); err != nil {
				return err
			}
			continue
		}
		if s.stale() {
			continue
		}
		// The server says that it is gone: find out what else is, and tell. Closing what is gone is done.
		c.checkOpen(o, true)
		if c.state.open(o.key.owner, o.key.fh) != o {
			if access == 0 && status != nfs4.NFS4ERR_EXPIRED && status != nfs4.NFS4ERR_ADMIN_REVOKED {
				return nil
			}
			return s.fail
		}
	}
}

var errNothingToDo = errors.New("nfsup: nothing to do")

// A shrinking is one try of CLOSE or OPEN_DOWNGRADE, with the LOCKUs before it.
type shrinking struct {
	c            *Client
	o            *openState
	access, deny uint32
	blind        bool // exact seqids have failed again and again

	toAccess, toDeny uint32
	locks            []*lockState // one for each LOCKU, in order
	sent             []nfs4.Stateid
	fail             *StatusError
	more             bool // too many lock-owners for one COMPOUND: CLOSE is still to come
}

// build makes PUTFH, LOCKU for each lock-owner if all modes go, and CLOSE or OPEN_DOWNGRADE.
func (s *shrinking) build(sess *session) ([]nfs4.Args, error) {
	t := &s.c.state
	t.mu.Lock()
	defer t.mu.Unlock()
	o := s.o
	if t.opens[o.key] != o {
		return nil, ErrNoState
	}
	s.locks, s.sent, s.fail, s.more = nil, nil, nil, false
	ops := []nfs4.Args{&nfs4.PutfhArgs{FH: o.key.fh}}
	room := sess.maxOps - 3
	if s.access == 0 {
		for l := range o.locks {
			if !l.has || len(l.set) == 0 || len(s.locks) == room {
				continue
			}
			s.locks = append(s.locks, l)
			s.sent = append(s.sent, l.stateid)
			ops = append(ops, &nfs4.LockuArgs{LockType: nfs4.WRITE_LT, LockStateid: l.stateid, Offset: 0, Length: math.MaxUint64})
		}
		if len(s.locks) == room {
			s.more = true
			return ops, nil
		}
	}
	la, ld := o.late.wire()
	s.toAccess, s.toDeny = s.access|la, s.deny|ld
	sid := o.stateid
	if s.blind {
		sid.Seqid = 0
	}
	s.sent = append(s.sent, o.stateid)
	if s.toAccess == 0 {
		return append(ops, &nfs4.CloseArgs{OpenStateid: sid}), nil
	}
	if a, d := o.modes.wire(); a == s.toAccess && d == s.toDeny {
		if len(ops) == 1 {
			return nil, errNothingToDo
		}
		return ops, nil
	}
	return append(ops, &nfs4.OpenDowngradeArgs{OpenStateid: sid, ShareAccess: s.toAccess, ShareDeny: s.toDeny}), nil
}

// use takes the answers as far as they came.
func (s *shrinking) use(res []nfs4.Res) error {
	t := &s.c.state
	for i, r := range res {
		if st := r.Stat(); st != nfs4.NFS4_OK {
			s.more = false
			s.fail = &StatusError{Op: r.Op(), Status: st, Index: i}
			return nil
		}
		switch r := r.(type) {
		case *nfs4.LockuRes:
			t.unlocked(s.locks[i-1], Range{0, math.MaxUint64}, r.LockStateid)
		case *nfs4.CloseRes:
			t.closed(s.o)
		case *nfs4.OpenDowngradeRes:
			t.mu.Lock()
			if r.OpenStateid.Other == s.o.stateid.Other && newer(r.OpenStateid.Seqid, s.o.stateid.Seqid) {
				s.o.stateid = r.OpenStateid
			}
			s.o.modes = s.o.modes.within(s.toAccess, s.toDeny) | mode(s.toAccess, s.toDeny)
			if s.o.resumed {
				s.o.claimed = s.o.claimed.within(s.toAccess, s.toDeny) | mode(s.toAccess, s.toDeny)
			}
			t.touch(s.o.key)
			t.mu.Unlock()
		}
	}
	return nil
}

// stale tells whether a stateid that was sent is not the newest any more.
func (s *shrinking) stale() bool {
	t := &s.c.state
	t.mu.Lock()
	defer t.mu.Unlock()
	i := s.fail.Index - 1
	switch {
	case i < 0 || i >= len(s.sent):
		return false
	case i < len(s.locks):
		return s.sent[i] != s.locks[i].stateid
	}
	return s.sent[i] != s.o.stateid
}

// stateError tells whether a status is about a stateid.
func stateError(s nfs4.Status) bool {
	switch s {
	case nfs4.NFS4ERR_BAD_STATEID, nfs4.NFS4ERR_OLD_STATEID, nfs4.NFS4ERR_STALE_STATEID,
		nfs4.NFS4ERR_EXPIRED, nfs4.NFS4ERR_ADMIN_REVOKED, nfs4.NFS4ERR_DELEG_REVOKED:
		return true
	}
	return false
}

// closeState closes everything, many at once.
func (c *Client) closeState(ctx context.Context) error {
	opens, _ := c.State()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for _, o := range opens {
		g.Go(func() error {
			err := c.CloseFile(ctx, o.Owner, o.FH)
			if errors.Is(err, ErrNoState) {
				return nil
			}
			return err
		})
	}
	return g.Wait()
}
