package nfsup

import (
	"context"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// A BulkReclaim is an open, by handle, and locks under it that are to be reclaimed. Opened and Locked, of
// the length of Locks, are the result.
type BulkReclaim struct {
	Open  OpenArgs
	Locks []LockArgs

	Opened bool
	Locked []bool
}

// bulkOps bounds the operations of a COMPOUND that is made of many reclaims: its reply must fit into the reply
// cache (ca_maxresponsesize_cached), and no request should take the server long.
const bulkOps = 48

// ReclaimMany reclaims for one user, many to a COMPOUND: first all opens, then the locks under them. What was
// not granted, for whatever reason, may be asked for by Open and Lock. They can be reclaims again, and tell why.
// The error is one that would meet the rest as well.
func (c *Client) ReclaimMany(ctx context.Context, cred *rpc.Cred, list []*BulkReclaim) error {
	for _, x := range list {
		x.Opened, x.Locked = false, make([]bool, len(x.Locks))
	}
	leave, err := c.state.enterReclaim(nfs4.OP_OPEN, true)
	if err != nil {
		return err
	}
	defer leave()
	if c.resumed != nil {
		c.claimMany(list)
		return nil
	}
	if err := c.bulkOpen(ctx, cred, list); err != nil {
		return err
	}
	return c.bulkLocks(ctx, cred, list)
}

// claimMany takes what the tables have, without a word to the server.
func (c *Client) claimMany(list []*BulkReclaim) {
	for _, x := range list {
		reply, _, err := c.claimOpen(&x.Open)
		if x.Opened = reply != nil && err == nil; !x.Opened {
			continue
		}
		for i := range x.Locks {
			done, _, err := c.claimLock(&x.Locks[i])
			x.Locked[i] = done && err == nil
		}
	}
}

// bulkOpen is PUTFH and OPEN with CLAIM_PREVIOUS (RFC 8881 18.16) for each. One that is refused is left out.
func (c *Client) bulkOpen(ctx context.Context, cred *rpc.Cred, list []*BulkReclaim) error {
	for _, x := range list {
		f := c.state.takeOff(x.Open.Owner)
		defer c.state.land(x.Open.Owner, f)
	}
	for rest := list; len(rest) > 0; {
		var n, got int
		var inc uint32
		var lost []Revocation
		err := c.run(ctx, &request{
			cred:   cred,
			sticky: true,
			all:    true,
			build: func(sess *session) (ops []nfs4.Args, err error) {
				inc = sess.incarnation
				n = min(len(rest), max(1, min(bulkOps, sess.maxOps-1)/2))
				for _, x := range rest[:n] {
					a := x.Open
					a.Reclaim, a.Name, a.Attrs = true, "", nfs4.Bitmap{}
					ops = append(ops, c.openOps(&a)...)
				}
				return ops, nil
			},
			use: func(res []nfs4.Res) error {
				for got = 0; got < n && 2*got+1 < len(res); got++ {
					x := rest[got]
					o, ok := res[2*got+1].(*nfs4.OpenRes)
					if !ok || o.Status != nfs4.NFS4_OK {
						break
					}
					_, _, _, gone := c.state.opened(openKey{x.Open.Owner, x.Open.FH}, cred, inc, o.Stateid, mode(x.Open.Access, x.Open.Deny))
					lost = append(lost, gone...)
					c.delegated(cred, x.Open.FH, &o.Delegation, inc, false)
					x.Opened = true
				}
				return nil
			},
		})
		for i := range lost {
			c.lost(nil, &lost[i])
		}
		if err != nil {
			return err
		}
		if got < n {
			got++ // it was refused
		}
		rest = rest[got:]
	}
	return nil
}

// A bulkLock is one LOCK of many.
type bulkLock struct {
	open *openState
	lock *lockState
	args *LockArgs
	got  *bool
	done bool // granted or refused
}

// bulkLocks is LOCK with reclaim (18.10) for each range under the opens that were granted. The turns on all of
// it are taken first: nobody else changes it meanwhile.
func (c *Client) bulkLocks(ctx context.Context, cred *rpc.Cred, list []*BulkReclaim) error {
	var todo []*bulkLock
	taken := map[lockKey]*lockState{}
	for _, x := range list {
		if !x.Opened || len(x.Locks) == 0 {
			continue
		}
		o, err := c.state.takeOpen(ctx, x.Open.Owner, x.Open.FH, false)
		if err == ErrNoState {
			continue // it was lost again; Lock will tell
		}
		if err != nil {
			return err
		}
		defer o.turn.give(false)
		for i := range x.Locks {
			a := &x.Locks[i]
			key := lockKey{a.LockOwner, x.Open.FH}
			l := taken[key]
			if l == nil {
				if l, err = c.state.takeLock(ctx, a.LockOwner, x.Open.FH, o, cred); err != nil {
					return err
				}
				defer c.state.giveLock(l)
				taken[key] = l
				c.state.count(func() {
					if !l.has {
						c.state.moveLock(l, o)
					}
					l.cred = cred
				})
			}
			todo = append(todo, &bulkLock{open: o, lock: l, args: a, got: &x.Locked[i]})
		}
	}
	for len(todo) > 0 {
		var ops []nfs4.Args
		var of []*bulkLock // whose each of ops is
		err := c.run(ctx, &request{
			cred:   cred,
			sticky: true,
			all:    true,
			build: func(sess *session) ([]nfs4.Args, error) {
				ops, of = c.bulkLockOps(todo, min(bulkOps, sess.maxOps-1))
				return ops, nil
			},
			use: func(res []nfs4.Res) error {
				for i, r := range res[:min(len(res), len(of))] {
					lr, ok := r.(*nfs4.LockRes)
					switch {
					case r.Stat() != nfs4.NFS4_OK:
						of[i].done = true
					case ok:
						b := of[i]
						c.state.locked(b.lock, b.args.Range, b.args.Write, lr.LockStateid)
						*b.got, b.done = true, true
					}
				}
				return nil
			},
		})
		if err != nil {
			return err
		}
		rest := todo[:0]
		for _, b := range todo {
			if !b.done {
				rest = append(rest, b)
			}
		}
		if len(rest) == len(todo) {
			return nil // an answer that says nothing: one by one, then
		}
		todo = rest
	}
	return nil
}

// bulkLockOps makes up to room operations of what is to do. A lock-owner that the server does not know yet is
// introduced by its first LOCK, and until that is answered there is no stateid for the next one.
func (c *Client) bulkLockOps(todo []*bulkLock, room int) (ops []nfs4.Args, of []*bulkLock) {
	room = max(room, 2)
	introduced := map[*lockState]bool{}
	var cur nfs4.FH
	for _, b := range todo {
		a := c.state.lockArgs(b.open, b.lock, b.args.Range, b.args.Write, false, true)
		if a.Locker.NewLockOwner {
			if introduced[b.lock] {
				continue
			}
			introduced[b.lock] = true
		} else {
			a.Locker.LockStateid.Seqid = 0 // the one before in this COMPOUND changes it
		}
		fh := b.lock.key.fh
		if fh != cur {
			if len(ops)+2 > room {
				break
			}
			ops, of = append(ops, &nfs4.PutfhArgs{FH: fh}), append(of, b)
			cur = fh
		}
		if len(ops)+1 > room {
			break
		}
		ops, of = append(ops, a), append(of, b)
	}
	return ops, of
}
