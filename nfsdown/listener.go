package nfsdown

import (
	"context"

	"holdfast/fs"
	"holdfast/journal"
)

// A listener hears what the backend of an export learns by itself.
type listener struct {
	s  *Server
	id uint32
	b  fs.Backend
}

var _ fs.Listener = (*listener)(nil)

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

// Changed does nothing: no client has a delegation that it could break.
func (l *listener) Changed(fs.Handle) {}

// Revoked tells the holder, by its stateids, that its state is lost.
func (l *listener) Revoked(owner fs.Owner, file fs.Handle, locks fs.RangeSet, why error) {
	h := wrap(l.id, file)
	l.s.background(func(context.Context) {
		l.s.log.Warn("state was revoked", "owner", owner, "locks", locks, "err", why)
		l.s.runEffects(l.s.state.Revoke(owner, h, locks, why))
		e := journal.Event{Type: "lost", Client: owner.Client, Owner: owner.Owner, File: h, Result: fs.CodeOf(why).String(), Text: "revoked"}
		if len(locks) == 0 {
			l.s.event(&e)
		}
		for _, lock := range locks {
			one := e
			one.Range, one.Lock = lock.Range, lock.Type
			l.s.event(&one)
		}
	})
}
