package state

import (
	"holdfast/fs"
	"holdfast/journal"
)

// LostEvent is the line of the audit trail about state that was lost at the backend: a lock, or the
// whole open if lock is nil.
func LostEvent(owner fs.Owner, file fs.Handle, name string, lock *fs.Lock, why error) journal.Event {
	e := journal.Event{Type: "lost", Client: owner.Client, Owner: owner.Owner, File: file, Name: name, Result: fs.CodeOf(why).String()}
	what := "the open"
	if lock != nil {
		e.Range, e.Lock, what = lock.Range, lock.Type, "the lock"
	}
	e.Text = what + " is lost: " + lostReason(why)
	return e
}

// lostReason says why, for people.
func lostReason(why error) string {
	switch fs.CodeOf(why) {
	case fs.OK:
		return "no reason was given"
	case fs.Expired:
		return "its lease at the origin ended"
	case fs.AdminRevoked:
		return "the origin took it away"
	case fs.NoGrace:
		return "the origin takes no reclaims and has not kept it"
	case fs.ReclaimBad:
		return "the origin says that it was not held"
	case fs.ReclaimConflict, fs.Denied, fs.ShareDenied:
		return "somebody else has it at the origin"
	case fs.BadStateid, fs.OldStateid:
		return "the origin does not know it any more"
	case fs.Stale, fs.BadHandle, fs.FHExpired:
		return "its file is not there any more"
	}
	return why.Error()
}

// Knows tells whether there is, or was, state of a client here.
func (s *Server) Knows(client string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.parties[client] != nil
}
