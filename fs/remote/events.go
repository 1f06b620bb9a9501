package remote

import (
	"fmt"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
	"holdfast/nfsup"
)

// events are nfsup's news. None of the functions blocks or calls back into nfsup.
func (r *Remote) events(shard int) nfsup.Events {
	who := ""
	if len(r.who) > 1 {
		who = fmt.Sprintf(" (client %d of %d)", shard, len(r.who))
	}
	return nfsup.Events{
		LockAvailable:  func(fh nfs4.FH, up UpOwner) { r.waiters.notify(up, fh) },
		Revoked:        r.revoked,
		Recall:         r.recalled,
		DelegationLost: r.delegLost,
		DelegationAttr: r.delegAttr,
		ServerRestarted: func() {
			r.stats.originRestarts.Add(1)
			r.originChanged()
			r.event("origin", "the origin has restarted; reclaiming from memory"+who)
		},
		LeaseLost: func() {
			r.stats.leasesLost.Add(1)
			r.originChanged()
			r.event("origin", "the lease at the origin is lost; what others have taken meanwhile is lost"+who)
		},
		Recovered: func(rec nfsup.Recovery) {
			r.mu.Lock()
			r.lastRecovery = rec
			if rec.Resumed {
				r.resumedOpens += uint64(rec.Opens)
				r.resumedLocks += uint64(rec.Locks)
			}
			r.mu.Unlock()
		},
		Connected: func(conn int) { r.log.Info("connected to the origin", "conn", conn) },
		Disconnected: func(conn int, why error) {
			r.log.Warn("disconnected from the origin", "conn", conn, "err", why)
		},
		BootEvent: func(text string) { r.event("session", text+who) }, // nfsup has logged it
		Dead: func(why error) {
			r.mu.Lock()
			r.dead = why
			r.mu.Unlock()
			r.log.Error("this mount can never work again", "err", why)
			r.event("origin", "this mount can never work again: "+why.Error())
			if r.cfg.Dead != nil {
				r.cfg.Dead(why)
			}
		},
	}
}

// event adds to the audit trail, without waiting.
func (r *Remote) event(kind, text string) {
	if r.cfg.Journal == nil {
		return
	}
	var b journal.Batch
	b.AddEvent(&journal.Event{Type: kind, Client: r.cfg.Name, Text: text})
	if err := r.cfg.Journal.Post(&b); err != nil {
		r.log.Warn("the audit trail cannot be written", "err", err)
	}
}

// originChanged forgets what may be different after a restart of the origin, RFC 8881 8.4.2: attributes
// of file systems, cookie verifiers, and whether long handles still name the same files.
func (r *Remote) originChanged() {
	r.handles.originChanged()
	r.caps.forget()
	r.cache.staleAll()
	if r.data != nil {
		r.data.dropUnsettled()
	}
	if r.rootDir.Load() != nil {
		r.findRootAgain()
	}
}

// revoked passes on that state is lost, in the words of whom it belongs to.
func (r *Remote) revoked(rev nfsup.Revocation) {
	if rev.Kind == nfsup.KindOpen {
		if file, _, _ := r.seal.seal(rev.FH); r.covers.forgetParked(rev.OpenOwner, file) {
			return // nobody has it open
		}
	}
	file, _, _ := r.seal.seal(rev.FH)
	why := toFS("", rev.Why)
	up := rev.OpenOwner
	var locks fs.RangeSet
	if rev.Kind == nfsup.KindLock {
		up = rev.LockOwner
		locks = append(fs.RangeSet{}, rangesOf(rev.Ranges)...)
	}
	owner, ok := r.owners.find(up)
	if rev.Kind == nfsup.KindLock {
		r.stats.revokedLocks.Add(1)
	} else {
		r.stats.revokedOpens.Add(1)
		r.owners.closed(up, file)
		r.dataClosed(owner, file)
	}
	if !ok {
		// Of the last incarnation, and not reclaimed yet: whoever does is told then.
		r.log.Warn("state that nobody has reclaimed yet is lost", "file", file, "locks", len(locks), "why", why)
		return
	}
	r.log.Warn("state at the origin is lost", "owner", owner.String(), "locks", len(locks), "why", why)
	r.tell(func(l fs.Listener) { l.Revoked(owner, file, locks, why) })
}
