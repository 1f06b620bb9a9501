package nfsup

import (
	"context"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// IOStateid is the stateid for READ, WRITE and SETATTR of size: that of the locks if lockOwner has any on
// fh, else that of the open; false without either, and then it is the anonymous one. Its seqid is 0,
// the newest (8.2.2).
func (c *Client) IOStateid(openOwner, lockOwner UpOwner, fh nfs4.FH) (nfs4.Stateid, bool) {
	sid, _ := c.ioState(openOwner, lockOwner, fh)
	return sid, sid != nfs4.AnonymousStateid
}

// ioState also gives the open, nil without one.
func (c *Client) ioState(openOwner, lockOwner UpOwner, fh nfs4.FH) (nfs4.Stateid, *openState) {
	t := &c.state
	t.mu.Lock()
	defer t.mu.Unlock()
	if lockOwner != (UpOwner{}) {
		if l := t.locks[lockKey{lockOwner, fh}]; l != nil && l.has {
			if _, lost := l.open.bereft[lockOwner]; lost {
				return nfs4.AnonymousStateid, nil
			}
			return newest(l.stateid), l.open
		}
	}
	if openOwner != (UpOwner{}) {
		if o := t.opens[openKey{openOwner, fh}]; o != nil {
			if _, lost := o.bereft[lockOwner]; lost {
				return nfs4.AnonymousStateid, nil
			}
			return newest(o.stateid), o
		}
	}
	return nfs4.AnonymousStateid, nil
}

// IO is Compound for operations that carry a stateid: ops is called with the newest one for
// (openOwner, lockOwner, fh), as from IOStateid, and again when the state got a new one in a recovery.
// Without such state it fails with ErrNoState, except that two zero owners mean the anonymous stateid; so it does
// when the open, or any lock of lockOwner, was lost since the caller looked (I2), though there may be another by now.
// If the server says that the state is gone, that is checked, reported by Events.Revoked, and returned.
// If ctx ends first, the request may still be executed.
func (c *Client) IO(ctx context.Context, cred *rpc.Cred, openOwner, lockOwner UpOwner, fh nfs4.FH, ops func(nfs4.Stateid) []nfs4.Args, use func(res []nfs4.Res) error) error {
	anonymous := openOwner == (UpOwner{}) && lockOwner == (UpOwner{})
	var first *openState
	for try := 0; ; try++ {
		var sent nfs4.Stateid
		var o *openState
		err := c.run(ctx, &request{
			cred:    cred,
			use:     use,
			patient: c.cfg.DelayTime,
			build: func(*session) ([]nfs4.Args, error) {
				sent, o = c.ioState(openOwner, lockOwner, fh)
				if !anonymous && (o == nil || first != nil && o != first) {
					return nil, ErrNoState
				}
				first = o
				return ops(sent), nil
			},
		})
		s, answered := StatusOf(err)
		if err == nil || !answered || !stateError(s) || o == nil || try >= tries {
			return err
		}
		if now, _ := c.ioState(openOwner, lockOwner, fh); now != sent {
			continue
		}
		c.checkOpen(o, false)
		if now, still := c.ioState(openOwner, lockOwner, fh); still == nil || now == sent {
			return err
		}
	}
}
