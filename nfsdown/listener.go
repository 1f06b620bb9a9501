package nfsdown

import (
	"context"

	"holdfast/fs"
	"holdfast/journal"
	"holdfast/nfsdown/state"
)

// A listener hears what the backend of an export learns by itself.
type listener struct {
	s  *Server
	id uint32
	b  fs.Backend
}

var (
	_ fs.Listener = (*listener)(nil)
	_ fs.Recaller = (*listener)(nil)
)

// current tells whether the export is still there and still this backend's.
func (l *listener) current() bool {
	x := l.s.tree.Load().byExp[l.id]
	return x != nil && x.Backend == l.b
}

// LockAvailable wakes the client that waits.
func (l *listener) LockAvailable(file fs.Handle, owner fs.Owner, r fs.Range) {
	if !l.current() {
		return
	}
	l.s.background(func(context.Context) { l.s.runEffects(l.s.state.LockAvailable(wrap(l.id, file), owner, r)) })
}

// Changed does nothing: a backend that has promised something says when it is to end.
func (l *listener) Changed(fs.Handle) {}

// Recall takes delegations back.
func (l *listener) Recall(file fs.Handle, change bool) { l.s.recallAll(wrap(l.id, file), change) }

// Revoked tells the holder, by its stateids, that its state is lost, and the audit trail. What the trail
// says of clients comes from package state, which knows what they had; of others (applications on this
// host) it is what the backend says.
func (l *listener) Revoked(owner fs.Owner, file fs.Handle, locks fs.RangeSet, why error) {
	h := wrap(l.id, file)
	l.s.log.Warn("state was revoked", "owner", owner, "locks", locks, "err", why)
	var eff *state.Effects
	if l.s.state.Knows(owner.Client) {
		eff = l.s.state.Revoke(owner, h, locks, why) // now: a lock that is lost comes before its open
	} else {
		eff = &state.Effects{Batch: new(journal.Batch)}
		if len(locks) == 0 {
			e := state.LostEvent(owner, h, "", nil, why)
			eff.Batch.AddEvent(&e)
		}
		for _, k := range locks {
			e := state.LostEvent(owner, h, "", &k, why)
			eff.Batch.AddEvent(&e)
		}
	}
	l.s.background(func(context.Context) { l.s.runEffects(eff) })
}
