package fuse

import (
	"math"

	"holdfast/fs"
)

// listener is what the backend tells us by itself. Nothing here blocks or calls back.
type listener struct{ s *server }

// LockAvailable lets blocked requests try again.
func (l listener) LockAvailable(file fs.Handle, lockOwner fs.Owner, _ fs.Range) {
	if lockOwner.Client != l.s.client && lockOwner.Client != "" {
		return // somebody of another client
	}
	l.s.wakeWaiters(file, lockOwner)
}

// ChangedHere is Changed for what others did through the backend. What came from this mount the kernel knows.
func (l listener) ChangedHere(file fs.Handle, source any) {
	if source != any(l.s) {
		l.Changed(file)
	}
}

// Changed makes the kernel forget what it has of a file.
func (l listener) Changed(file fs.Handle) {
	if n := l.s.table.find(file); n != nil {
		n.pages.drop()
		l.s.inval.add(n, invalAttr|invalData|invalNames)
	}
}

// Revoked tells the holder that a lock or an open is lost, in the only way that there is: I/O fails
// with EIO until the lost range is unlocked, or the file closed.
func (l listener) Revoked(owner fs.Owner, h fs.Handle, locks fs.RangeSet, why error) {
	s := l.s
	if owner.Client != s.client {
		return
	}
	n := s.table.find(h)
	s.mu.Lock()
	o := s.owners[owner]
	var opened []*file
	if o == nil {
		for _, f := range s.files {
			if !f.dir && f.owner == owner {
				opened = append(opened, f)
			}
		}
	}
	s.mu.Unlock()
	switch {
	case o != nil:
		if len(locks) == 0 { // what exactly is not known
			locks = fs.RangeSet{{Range: fs.Range{First: 0, Last: math.MaxUint64}, Type: fs.WriteLock}}
		}
		o.node.locks.mu.Lock()
		pid := o.pid
		if !o.retired {
			lost := o.lost
			for _, lock := range locks {
				lost = lost.With(lock.Range, lock.Type)
				o.held = o.held.With(lock.Range, fs.NoLock)
			}
			o.setLost(lost)
		}
		o.node.locks.mu.Unlock()
		s.log.Error("a lock of a local application was lost; its I/O fails until it unlocks", "pid", pid, "node", o.node.id, "locks", locks, "why", why)
	case len(opened) > 0:
		for _, f := range opened {
			f.revoked.Store(true)
			s.log.Error("an open of a local application was lost; its I/O fails until it closes", "uid", f.cred.UID, "node", f.node.id, "why", why)
		}
	default:
		return
	}
	if n != nil {
		n.pages.drop()
		s.inval.add(n, invalAttr|invalData) // so that reads come to us, and fail
	}
}
