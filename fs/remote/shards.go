package remote

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sync/errgroup"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/journal"
	"holdfast/nfsup"
)

// Several upstream clients. knfsd and nfs-ganesha keep an expired client's state until somebody wants
// one piece of it; then they drop the whole client. If all end clients are one client upstream, one
// conflict during an outage costs everyone everything. So end clients are spread over shards, each a
// client of its own at the origin: owner, session, lease, journal record, recovery.

// MaxClients bounds Config.Clients.
const MaxClients = 64

// shardOf is the shard of an owner among n: its first two bytes are a hash of the end client (owner.go).
func shardOf(up UpOwner, n int) int { return int(binary.BigEndian.Uint16(up[:2])) % n }

// shardName is the journal's name of a shard. The first has that of the origin, so that one client is the
// case without shards.
func shardName(origin string, i int) string {
	if i == 0 {
		return origin
	}
	return fmt.Sprintf("%s #%d", origin, i)
}

// layout is how owners are named and spread; it must not change while anything is held.
type layout struct {
	version int // of the digest of owners
	clients int
}

const (
	capOwner   = "owner"   // version of the digest of owners; absent means 1
	capClients = "clients" // how many shards
)

// chooseLayout takes the layout that the journal was written with, unless nothing is held by it: then the
// one that is wanted. held is what the journal has.
func chooseLayout(before *journal.Upstream, held bool, want int) (l layout, kept bool) {
	l = layout{ownerVersion, want}
	if before == nil || !held {
		return l, false
	}
	old := layout{1, 1}
	if v, err := strconv.Atoi(before.Caps[capOwner]); err == nil && v > 0 {
		old.version = v
	}
	if n, err := strconv.Atoi(before.Caps[capClients]); err == nil && n > 0 && n <= MaxClients {
		old.clients = n
	}
	return old, old != l
}

// A shards is an upstream made of several: state goes by owner, what is about a file that is delegated to one of
// them to that one, because for the origin the others are somebody else, and all else to the first.
type shards struct{ list []upstream }

var _ upstream = (*shards)(nil)

func (s *shards) of(up UpOwner) upstream { return s.list[shardOf(up, len(s.list))] }

func (s *shards) Compound(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func([]nfs4.Res) error) error {
	return s.about(ctx, ops).Compound(ctx, cred, ops, use)
}

func (s *shards) CompoundAll(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func([]nfs4.Res) error) error {
	return s.about(ctx, ops).CompoundAll(ctx, cred, ops, use)
}

// about is who is to ask.
func (s *shards) about(ctx context.Context, ops []nfs4.Args) upstream {
	fh, ok := ctx.Value(aboutKey{}).(nfs4.FH)
	for i := 0; !ok && i < len(ops); i++ {
		if a, is := ops[i].(*nfs4.PutfhArgs); is {
			fh, ok = a.FH, true
		}
	}
	if ok {
		for _, u := range s.list {
			if d, is := u.(delegator); is && d.Delegated(fh) != nfsup.DelegNone {
				return u
			}
		}
	}
	return s.list[0]
}

// aboutKey is the key of the file that a request is about, where its operations do not say so.
type aboutKey struct{}

// aboutName says that a request is about the file that a name is thought to lead to.
func (r *Remote) aboutName(ctx context.Context, dir fs.Handle, name string) context.Context {
	if r.deleg == nil {
		return ctx
	}
	if child := r.cache.hint(dir, name); child != "" && r.hasCover(child) {
		if fh, err := r.resolve(ctx, child); err == nil {
			return context.WithValue(ctx, aboutKey{}, fh)
		}
	}
	return ctx
}

func (s *shards) ofIO(open, lock UpOwner) upstream {
	switch {
	case lock != UpOwner{}:
		return s.of(lock)
	case open != UpOwner{}:
		return s.of(open)
	}
	return s.list[0]
}

func (s *shards) IO(ctx context.Context, cred *rpc.Cred, open, lock UpOwner, fh nfs4.FH, ops func(nfs4.Stateid) []nfs4.Args, use func([]nfs4.Res) error) error {
	return s.ofIO(open, lock).IO(ctx, cred, open, lock, fh, ops, use)
}

func (s *shards) IOStateid(open, lock UpOwner, fh nfs4.FH) (nfs4.Stateid, bool) {
	return s.ofIO(open, lock).IOStateid(open, lock, fh)
}

func (s *shards) Open(ctx context.Context, cred *rpc.Cred, a *nfsup.OpenArgs) (*nfsup.OpenReply, error) {
	return s.of(a.Owner).Open(ctx, cred, a)
}

func (s *shards) Downgrade(ctx context.Context, owner UpOwner, fh nfs4.FH, access, deny uint32) error {
	return s.of(owner).Downgrade(ctx, owner, fh, access, deny)
}

func (s *shards) CloseFile(ctx context.Context, owner UpOwner, fh nfs4.FH) error {
	return s.of(owner).CloseFile(ctx, owner, fh)
}

func (s *shards) Lock(ctx context.Context, cred *rpc.Cred, a *nfsup.LockArgs) error {
	return s.denied(s.of(a.LockOwner).Lock(ctx, cred, a))
}

func (s *shards) Unlock(ctx context.Context, owner UpOwner, fh nfs4.FH, r nfsup.Range) error {
	return s.of(owner).Unlock(ctx, owner, fh, r)
}

func (s *shards) TestLock(ctx context.Context, cred *rpc.Cred, owner UpOwner, fh nfs4.FH, r nfsup.Range, write bool) error {
	return s.denied(s.of(owner).TestLock(ctx, cred, owner, fh, r, write))
}

func (s *shards) FreeLockOwner(ctx context.Context, owner UpOwner, fh nfs4.FH) error {
	return s.of(owner).FreeLockOwner(ctx, owner, fh)
}

// denied knows a holder that is of another shard as ours.
func (s *shards) denied(err error) error {
	var d *nfsup.DeniedError
	if !errors.As(err, &d) || d.Ours || len(d.Owner.Owner) != len(UpOwner{}) {
		return err
	}
	for _, u := range s.list {
		if u.Identity().ClientID == d.Owner.ClientID {
			ours := *d
			ours.Ours = true
			copy(ours.Holder[:], d.Owner.Owner)
			return &ours
		}
	}
	return err
}

// all calls f for each at once.
func (s *shards) all(f func(upstream) error) error {
	var g errgroup.Group
	for _, u := range s.list {
		g.Go(func() error { return f(u) })
	}
	return g.Wait()
}

func (s *shards) ReclaimComplete(ctx context.Context) error {
	return s.all(func(u upstream) error { return u.ReclaimComplete(ctx) })
}

func (s *shards) Close(ctx context.Context) error {
	return s.all(func(u upstream) error { return u.Close(ctx) })
}

func (s *shards) Abandon() {
	_ = s.all(func(u upstream) error { u.Abandon(); return nil })
}

func (s *shards) Identity() nfsup.Identity { return s.list[0].Identity() }

// Info is the first one's, with what must not be missed of the others.
func (s *shards) Info() nfsup.Info {
	i := s.list[0].Info()
	for _, u := range s.list[1:] {
		x := u.Info()
		if x.LeaseExpires.Before(i.LeaseExpires) {
			i.LeaseExpires = x.LeaseExpires
		}
		i.RetainGranted = i.RetainGranted && x.RetainGranted
		i.ReclaimComplete = i.ReclaimComplete && x.ReclaimComplete
		i.Recovering = i.Recovering || x.Recovering
		i.BackChannel = i.BackChannel && x.BackChannel
		i.Resumed = i.Resumed && x.Resumed
		i.Reconnects += x.Reconnects
		i.Replays += x.Replays
		i.Slots += x.Slots
		i.SlotsInUse += x.SlotsInUse
		i.SlotsWaiting += x.SlotsWaiting
		i.Opens += x.Opens
		i.LockOwners += x.LockOwners
		i.Conns = append(i.Conns, x.Conns...)
	}
	return i
}
