package nfsdown

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/fs"
	"holdfast/journal"
	"holdfast/nfsdown/state"
)

// RestartInfo tells how end clients see this start of the server.
type RestartInfo struct {
	Invisible bool   // they keep client IDs and stateids, and need not reclaim
	Reason    string // why not, for people
	Done      bool   // state is as it was before, as far as the backends gave it back
	Clients   int
	Opens     int // that were to be restored
	Locks     int
	Lost      int           // opens and ranges that the backends refused
	Took      time.Duration // from the start of the server, when Done
}

// Restart tells how end clients see this start of the server.
func (s *Server) Restart() RestartInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restart
}

// restoreLimit is how many lots of opens are asked for side by side.
const restoreLimit = 128

// restorePatience is how long a request waits for the restore before its client is told DELAY.
const restorePatience = 5 * time.Second

// AwaitRestore returns when state is as it was before the restart: at once if there is nothing to restore. Requests
// that rely on state wait here, and are told Delay (in time for their lease) if it takes long.
func (s *Server) AwaitRestore(ctx context.Context) error {
	select {
	case <-s.restored:
		return nil
	default:
	}
	late := make(chan struct{})
	t := s.cfg.Clock.AfterFunc(restorePatience, func() { close(late) })
	defer t.Stop()
	select {
	case <-s.restored:
		return nil
	case <-late:
		return fs.E("", fs.Delay, nil)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// noteRestart notes how this start looks from outside, and why.
func (s *Server) noteRestart(snap *journal.Snapshot, invisible bool) {
	r := RestartInfo{Invisible: invisible, Done: !invisible}
	switch {
	case snap == nil:
		r.Reason = "there is no journal"
	case !s.cfg.State.Restore:
		r.Reason = "as set by --restart=grace"
	case !invisible && snap.Whole:
		r.Reason = s.state.Visible()
	case !invisible:
		r.Reason = snap.Partial
	}
	s.mu.Lock()
	s.restart = r
	s.mu.Unlock()
	if invisible {
		s.event(&journal.Event{Type: "restart", Result: "invisible", Text: "clients keep their client IDs and stateids"})
	} else {
		s.event(&journal.Event{Type: "restart", Result: "grace", Text: r.Reason})
	}
}

// restore asks the backends, as reclaims, for everything that the clients have: eagerly, so that they need not.
// Then no reclaim follows. Nothing is written down on the way: if we die, all of it is asked for again. What a
// backend refuses is lost, and its holder is told.
func (s *Server) restore(ctx context.Context, items []state.RestoreItem) {
	clients := map[string]bool{}
	locks := 0
	for i := range items {
		clients[items[i].Owner.Client] = true
		for _, l := range items[i].Locks {
			locks += len(l.Ranges)
		}
	}
	s.log.Info("restoring the state of clients", "clients", len(clients), "opens", len(items), "locks", locks)
	s.mu.Lock()
	s.restart.Clients, s.restart.Opens, s.restart.Locks = len(clients), len(items), locks
	s.mu.Unlock()
	var lost atomic.Int64
	var wg sync.WaitGroup
	next := make(chan []*state.RestoreItem)
	for range min(restoreLimit, len(items)) {
		wg.Go(func() {
			for some := range next {
				bulk := s.restoreMany(ctx, some)
				for k, i := range some {
					lost.Add(int64(s.restoreItem(ctx, i, bulk[k])))
				}
			}
		})
	}
	for _, some := range s.restoreLots(items) {
		next <- some
	}
	close(next)
	wg.Wait()
	// What was lost is durable before the origin is told that no reclaim follows.
	if ctx.Err() != nil || s.commit(ctx, flushed()) != nil || !s.reclaimComplete(ctx) {
		return // stopping, or the journal failed: nothing is granted
	}
	s.state.EndRestore()
	took := s.cfg.Clock.Now().Sub(s.born)
	s.mu.Lock()
	s.restart.Done, s.restart.Lost, s.restart.Took = true, int(lost.Load()), took
	s.mu.Unlock()
	s.event(&journal.Event{Type: "restart", Result: "restored", Text: fmt.Sprintf("%d clients, %d opens, %d locks in %v; %d lost",
		len(clients), len(items), locks, took.Round(time.Millisecond), lost.Load())})
	s.log.Info("restored", "clients", len(clients), "opens", len(items), "locks", locks, "lost", lost.Load(), "took", took)
	close(s.restored)
}

// flushed is a batch that waits for all before it to be durable.
func flushed() *journal.Batch { return new(journal.Batch) }

// restoreLot is how many opens are asked for at once.
const restoreLot = 24

// restoreLots divides what is to be asked for into what can be asked for at once: of one export and user.
func (s *Server) restoreLots(items []state.RestoreItem) (lots [][]*state.RestoreItem) {
	type key struct {
		export uint32
		cred   string
	}
	open := map[key][]*state.RestoreItem{}
	for n := range items {
		i := &items[n]
		k := key{}
		k.export, _, _ = unwrap(i.File)
		if c := i.Cred; c != nil {
			k.cred = fmt.Sprint(c.UID, c.GID, c.Groups)
		}
		if open[k] = append(open[k], i); len(open[k]) == restoreLot {
			lots = append(lots, open[k])
			open[k] = nil
		}
	}
	for _, rest := range open {
		if len(rest) > 0 {
			lots = append(lots, rest)
		}
	}
	return lots
}

// restoreMany asks for a lot at once, if the backend can. Only what was granted is settled by that. What was on
// its way at the crash is left out: what to ask for depends on answers.
func (s *Server) restoreMany(ctx context.Context, some []*state.RestoreItem) []*fs.BulkReclaim {
	bulk := make([]*fs.BulkReclaim, len(some))
	id, _, ok := unwrap(some[0].File)
	x := s.tree.Load().byExp[id]
	if !ok || x == nil {
		return bulk
	}
	b, ok := x.Backend.(fs.BulkReclaimer)
	if !ok {
		return bulk
	}
	var list []*fs.BulkReclaim
	for k, i := range some {
		if i.Pending {
			continue
		}
		_, h, _ := unwrap(i.File)
		r := &fs.BulkReclaim{Cred: i.Cred, Open: fs.OpenRequest{Owner: i.Owner, File: h, Access: i.Access, Deny: i.Deny, Reclaim: true}}
		if r.Cred == nil {
			r.Cred = fs.Root
		}
		for n := range i.Locks {
			l := &i.Locks[n]
			if l.Pending {
				continue
			}
			for _, p := range l.Parts() {
				r.Locks = append(r.Locks, fs.LockRequest{File: h, OpenOwner: i.Owner, LockOwner: l.Owner, Range: p.Range, Type: p.Types[0], Reclaim: true})
			}
		}
		bulk[k] = r
		list = append(list, r)
	}
	if len(list) > 0 {
		b.ReclaimMany(ctx, list)
	}
	return bulk
}

// restoreItem asks for an open and then for the locks under it, but for what was granted to bulk, which may be nil;
// it returns how many were refused.
func (s *Server) restoreItem(ctx context.Context, i *state.RestoreItem, bulk *fs.BulkReclaim) (lost int) {
	id, h, ok := unwrap(i.File)
	x := s.tree.Load().byExp[id]
	if !ok || x == nil {
		s.restoreLost(i, i.Owner, nil, fs.E("", fs.Stale, nil))
		return 1
	}
	cred := i.Cred
	if cred == nil {
		cred = fs.Root
	}
	open := func(access, deny fs.Share) error {
		return s.reclaim(ctx, x, func() error {
			_, err := x.Backend.Open(ctx, cred, &fs.OpenRequest{Owner: i.Owner, File: h, Access: access, Deny: deny, Reclaim: true})
			return err
		})
	}
	var err error
	if bulk == nil || !bulk.Opened {
		err = open(i.Access, i.Deny)
	}
	if err != nil && i.Pending && ctx.Err() == nil {
		if i.BeforeAccess != 0 {
			err = open(i.BeforeAccess, i.BeforeDeny)
		}
		if err == nil || i.BeforeAccess == 0 {
			s.runEffects(s.state.NotGranted(i))
		}
	}
	switch {
	case ctx.Err() != nil, err != nil && i.Pending && i.BeforeAccess == 0:
		return 0
	case err != nil:
		s.restoreLost(i, i.Owner, nil, err)
		return 1
	}
	if i.Owner.Owner == state.DelegOwner {
		s.keepDelegation(ctx, x.Backend, i.Owner, h, i.File, i.Access&fs.ShareWrite != 0)
	}
	asked := 0 // how many of bulk.Locks came before
	for _, l := range i.Locks {
		var has, gone fs.RangeSet
		var why error
		whole := true
		for _, p := range l.Parts() {
			got := fs.NoLock
			var err error
			if bulk != nil && !l.Pending {
				if asked++; asked <= len(bulk.Locked) && bulk.Locked[asked-1] {
					has = has.With(p.Range, p.Types[0])
					continue
				}
			}
			for _, t := range p.Types {
				err = s.reclaim(ctx, x, func() error {
					return x.Backend.Lock(ctx, cred, &fs.LockRequest{File: h, OpenOwner: i.Owner, LockOwner: l.Owner, Range: p.Range, Type: t, Reclaim: true})
				})
				if err == nil {
					got = t
					break
				}
			}
			if whole = whole && got == p.Types[0]; got != fs.NoLock {
				has = has.With(p.Range, got)
			}
			if got < p.Need {
				gone, why = append(gone, fs.Lock{Range: p.Range, Type: p.Need}), err
			}
		}
		if l.Pending && !whole && ctx.Err() == nil {
			// The LOCK that was on its way made less of what was there, or did not come to anything.
			keep := has
			for _, k := range gone {
				keep = keep.With(k.Range, k.Type) // until it is revoked
			}
			s.runEffects(s.state.LockNotGranted(i.File, l.Owner, keep))
		}
		if ctx.Err() != nil {
			return lost
		}
		if len(gone) > 0 {
			lost += len(gone)
			s.restoreLost(i, l.Owner, gone, why)
		}
	}
	return lost
}

// reclaim makes a call of a backend until it is granted or refused, or ctx ends.
func (s *Server) reclaim(ctx context.Context, x *export, call func() error) error {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		err := call()
		if err == nil || ctx.Err() != nil {
			return err
		}
		switch fs.CodeOf(err) {
		case fs.Delay, fs.Grace, fs.Unreachable, fs.Interrupted:
		default:
			return err
		}
		s.log.Warn("restoring waits for the origin", "export", x.Path, "err", err)
		if !s.sleep(ctx, pause) {
			return err
		}
	}
}

// restoreLost tells the holder, by its stateids, that the backend refused. locks is nil if the open went.
func (s *Server) restoreLost(i *state.RestoreItem, owner fs.Owner, locks fs.RangeSet, why error) {
	s.log.Warn("lost: the origin did not give it back", "owner", owner, "name", i.Name, "locks", locks, "err", why)
	if fs.CodeOf(why) == fs.NoGrace {
		s.mu.Lock()
		s.restart.Reason = "the origin takes no reclaims"
		s.mu.Unlock()
	}
	s.runEffects(s.state.Revoke(owner, i.File, locks, why))
}
