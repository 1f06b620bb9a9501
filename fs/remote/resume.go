package remote

import (
	"errors"
	"fmt"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/journal"
	"holdfast/nfsup"
)

// Mode resume (DESIGN 3): the journal's UpState records are the stateids that we hold, and its Upstream
// record is who we are. nfsup goes on as that; here is where both come from and go to.

// How an incarnation came back to what the last one held. The first incarnation of all is new.
const (
	cameNew     = "new"
	cameResumed = "resumed"
	cameReclaim = "reclaim"
)

// resume says how to go on as the last incarnation; nil if there is none, or it is not wanted.
//
// In mode auto an origin that has agreed to keep our state over our restart (EXCHGID4_FLAG_RETAIN_STATE) is
// told of the restart: that is what it agreed to, and it then vouches for what it holds. Any other one
// would drop everything on hearing a new verifier, so it is asked with the old one first. A friendly
// origin that was never asked for the flag resumes as well; where neither helps, what the origin says to
// reclaims decides.
func (id *identity) resume(mode Recovery) *nfsup.Resume {
	b := id.before
	if mode == RecoverReclaim || b == nil || b.ClientID == 0 {
		return nil
	}
	r := &nfsup.Resume{
		Identity: nfsup.Identity{
			OwnerID:     b.OwnerID,
			Verifier:    b.Verifier,
			ClientID:    b.ClientID,
			CsaSequence: b.CsaSequence,
			// A record of a version that did not know better: it was written by either hook.
			Unanswered:  b.Caps[capSession] != sessionAnswered,
			Counts:      b.Caps[capCounts] == yes,
			Completed:   b.Caps[capComplete] == yes,
			ServerOwner: nfs4.ServerOwner{MajorID: string(b.ServerOwner), MinorID: b.ServerMinor},
			ServerScope: string(b.Scope),
			Flags:       b.Flags,
		},
		Whole:          id.whole,
		UnlessRetained: mode == RecoverAuto && b.Caps["retain"] == "granted",
		Only:           mode == RecoverResume,
	}
	for _, s := range b.Sessions {
		r.Identity.Sessions = append(r.Identity.Sessions, s)
	}
	for i := range id.states {
		s := &id.states[i]
		cred := &rpc.Cred{Flavor: rpc.AUTH_SYS, Machine: b.MachineName, UID: s.UID, GID: s.GID, Groups: s.Groups}
		sid := nfs4.Stateid{Seqid: s.Seqid, Other: s.Other}
		switch s.Kind {
		case journal.OpenState:
			r.Opens = append(r.Opens, nfsup.OpenState{
				Owner: s.UpOwner, FH: nfs4.FH(s.File), Access: uint32(s.Access), Deny: uint32(s.Deny), Modes: s.Modes, Stateid: sid, Cred: cred,
			})
		case journal.LockState:
			l := nfsup.LockState{OpenOwner: s.OpenOwner, LockOwner: s.UpOwner, FH: nfs4.FH(s.File), Stateid: sid, Cred: cred}
			for _, h := range s.Ranges {
				l.Ranges = append(l.Ranges, nfsup.Held{Range: nfsup.Range(h.Range), Write: h.Type == fs.WriteLock})
			}
			r.Locks = append(r.Locks, l)
		}
	}
	return r
}

// forgetStates takes the stateids of an incarnation that was not resumed out of the journal.
func (id *identity) forgetStates() {
	if id.journal == nil {
		return
	}
	for i := range id.states {
		s := &id.states[i]
		var b journal.Batch
		b.DeleteUpState(id.rec.Name, s.Kind, s.UpOwner, s.File)
		_ = id.journal.Post(&b) // a failure is the journal's own, which stops all grants
	}
	id.states = nil
}

// stateChanged writes down what is held now. It is posted, not waited for: what is missing after a crash
// is asked for again by owner.
func (id *identity) stateChanged(ch nfsup.StateChange) {
	post := func(f func(*journal.Batch)) {
		var b journal.Batch
		f(&b)
		_ = id.journal.Post(&b) // a failure is the journal's own, which stops all grants
	}
	for _, o := range ch.Opens {
		r := id.upState(journal.OpenState, o.Owner, o.FH, o.Stateid, o.Cred)
		r.Access, r.Deny, r.Modes = fs.Share(o.Access), fs.Share(o.Deny), o.Modes
		post(func(b *journal.Batch) { b.PutUpState(r) })
	}
	for _, l := range ch.Locks {
		r := id.upState(journal.LockState, l.LockOwner, l.FH, l.Stateid, l.Cred)
		r.OpenOwner, r.Ranges = l.OpenOwner, rangesOf(l.Ranges)
		post(func(b *journal.Batch) { b.PutUpState(r) })
	}
	for _, k := range ch.GoneLocks {
		post(func(b *journal.Batch) {
			b.DeleteUpState(id.rec.Name, journal.LockState, k.Owner, []byte(k.FH))
		})
	}
	for _, k := range ch.GoneOpens {
		post(func(b *journal.Batch) {
			b.DeleteUpState(id.rec.Name, journal.OpenState, k.Owner, []byte(k.FH))
		})
	}
}

func (id *identity) upState(kind journal.StateKind, owner UpOwner, fh nfs4.FH, sid nfs4.Stateid, cred *rpc.Cred) *journal.UpState {
	return &journal.UpState{
		Name: id.rec.Name, Kind: kind, UpOwner: owner, File: []byte(fh), Other: sid.Other, Seqid: sid.Seqid,
		UID: cred.UID, GID: cred.GID, Groups: cred.Groups, Epoch: id.rec.Epoch, Since: id.now(),
	}
}

func rangesOf(set nfsup.RangeSet) fs.RangeSet {
	var out fs.RangeSet
	for _, h := range set {
		t := fs.ReadLock
		if h.Write {
			t = fs.WriteLock
		}
		out = append(out, fs.Lock{Range: fs.Range(h.Range), Type: t})
	}
	return out
}

// came tells how a connected client came back.
func (id *identity) came(info nfsup.Info) string {
	switch {
	case id.before == nil || id.before.ClientID == 0:
		return cameNew
	case info.Resumed:
		return cameResumed
	}
	return cameReclaim
}

// dialError makes an error of nfsup.Dial one that says what to do.
func dialError(server string, err error) error {
	var cannot *nfsup.CannotResumeError
	switch {
	case errors.Is(err, nfsup.ErrUsurped):
		return fmt.Errorf("origin %s: %w: %w; if no other instance is alive, --recovery=reclaim takes over all the same", server, ErrOldJournal, err)
	case errors.As(err, &cannot):
		return fmt.Errorf("origin %s: %w: %w", server, ErrNoResume, err)
	}
	return fmt.Errorf("origin %s: %w", server, err)
}
