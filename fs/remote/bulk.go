package remote

import (
	"context"
	"sync"

	"holdfast/fs"
	"holdfast/internal/broken"
	"holdfast/internal/rpc"
	"holdfast/nfsup"
)

var _ fs.BulkReclaimer = (*Remote)(nil)

// A bulkUpstream is an upstream that takes many reclaims at once.
type bulkUpstream interface {
	ReclaimMany(ctx context.Context, cred *rpc.Cred, list []*nfsup.BulkReclaim) error
}

var _ bulkUpstream = (*nfsup.Client)(nil)

// ReclaimMany asks the origin for many opens and locks at once, as reclaims. An error of it is nobody's: what
// was not granted is asked for one by one by the caller.
func (r *Remote) ReclaimMany(ctx context.Context, list []*fs.BulkReclaim) {
	if broken.ReclaimAsLock {
		return
	}
	leave, err := r.enter(ctx, "OPEN", true)
	if err != nil {
		return
	}
	defer leave()
	byCred := map[string][]*fs.BulkReclaim{}
	for _, x := range list {
		k := credKey(orAnonymous(x.Cred))
		byCred[k] = append(byCred[k], x)
	}
	for _, some := range byCred {
		r.reclaimMany(ctx, some)
	}
}

// reclaimMany is ReclaimMany for one user.
func (r *Remote) reclaimMany(ctx context.Context, list []*fs.BulkReclaim) {
	cred := list[0].Cred
	ups := make([]*nfsup.BulkReclaim, len(list))
	perClient := map[bulkUpstream][]*nfsup.BulkReclaim{}
	for n, x := range list {
		x.Opened, x.Locked = false, make([]bool, len(x.Locks))
		fh, err := r.resolve(ctx, x.Open.File)
		if err != nil {
			continue // it is asked for alone, and that tells why
		}
		open := r.openUp(x.Open.Owner)
		u := r.bulkOf(open)
		if u == nil {
			continue
		}
		r.owners.begin(open, x.Open.Owner)
		defer r.owners.end(open)
		b := &nfsup.BulkReclaim{Open: nfsup.OpenArgs{
			Owner: open, FH: fh, Reclaim: true, Access: uint32(x.Open.Access & fs.ShareBoth), Deny: uint32(x.Open.Deny & fs.ShareBoth),
		}}
		var lock UpOwner
		for i := range x.Locks {
			l := &x.Locks[i]
			if unspeakable(l.Range) {
				b.Locks = nil // it is asked for in another way
				break
			}
			if i == 0 || l.LockOwner != x.Locks[i-1].LockOwner {
				lock = r.lockUp(l.LockOwner, fh)
			}
			r.owners.begin(lock, l.LockOwner)
			defer r.owners.end(lock)
			b.Locks = append(b.Locks, nfsup.LockArgs{
				FH: fh, OpenOwner: open, LockOwner: lock, Range: nfsup.Range(l.Range), Write: l.Type == fs.WriteLock, Reclaim: true,
			})
		}
		ups[n] = b
		perClient[u] = append(perClient[u], b)
	}
	var wg sync.WaitGroup
	for u, some := range perClient {
		wg.Go(func() {
			if err := u.ReclaimMany(ctx, r.upCred(cred), some); err != nil {
				r.log.Debug("many reclaims at once ended early", "err", err)
			}
		})
	}
	wg.Wait()
	for n, b := range ups {
		if b == nil || !b.Opened {
			continue
		}
		x := list[n]
		x.Opened = true
		r.countReclaim(nil, &r.stats.reclaimedOpens)
		// Whether the origin promises CB_NOTIFY_LOCK is not known here: it is asked.
		r.owners.opened(b.Open.Owner, x.Open.File, x.Open.Access&fs.ShareBoth, x.Open.Deny&fs.ShareBoth, false)
		r.dataOpened(x.Open.Owner, cred, x.Open.File, x.Open.Access)
		for i := range b.Locks {
			if !b.Locked[i] {
				continue
			}
			x.Locked[i] = true
			r.countReclaim(nil, &r.stats.reclaimedLocks)
			r.owners.locked(b.Locks[i].LockOwner, b.Open.Owner, x.Open.File)
			r.dataLocked(x.Open.Owner, x.Open.File)
		}
	}
}

// bulkOf is the upstream client of an owner; nil if it takes no bulk.
func (r *Remote) bulkOf(up UpOwner) bulkUpstream {
	u := r.up
	if s, ok := u.(*shards); ok {
		u = s.of(up)
	}
	b, _ := u.(bulkUpstream)
	return b
}
