package probe

import (
	"context"
	"errors"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/plain"
)

// comeBack breaks the holder's connection and announces it again, with the verifier that it has now.
// It tells whether the server took it for the client that it was.
func (p *prober) comeBack(ctx context.Context, retain bool) (same bool, err error) {
	h := p.holder
	before, old := h.ID, h.Session
	h.Cut()
	if err := h.Dial(ctx); err != nil {
		return false, err
	}
	if _, err := h.ExchangeID(ctx, retain); err != nil {
		return false, err
	}
	same = h.ID == before && h.Flags&nfs4.EXCHGID4_FLAG_CONFIRMED_R != 0
	if same {
		// What the dead incarnation still has on its way must not land: its session goes first.
		_, err := h.Call(ctx, []nfs4.Args{&nfs4.BindConnToSessionArgs{SessionID: old, Dir: nfs4.CDFC4_FORE_OR_BOTH}})
		if err == nil {
			_, err = h.Call(ctx, []nfs4.Args{&nfs4.DestroySessionArgs{SessionID: old}})
		}
		if s, answered := plain.StatusOf(err); !answered || s != nfs4.NFS4_OK && s != nfs4.NFS4ERR_BADSESSION {
			return false, err
		}
	}
	_, err = h.CreateSession(ctx)
	return same, err
}

// tryResume is a restart that the server is not told of: the same verifier, RFC 8881 18.35.4 case 2.
func (p *prober) tryResume(ctx context.Context) error {
	p.say("a restart with the same verifier")
	f := &p.report.Resume
	same, err := p.comeBack(ctx, p.report.Draft == Yes)
	if err != nil {
		f.set(No, "%v", err)
		return err
	}
	if !same {
		f.set(No, "the same owner and verifier got another client ID")
		return p.again(ctx)
	}
	live, err := p.holder.Alive(ctx, p.lockID)
	if err != nil {
		f.set(No, "TEST_STATEID: %v", err)
		return err
	}
	denied, err := p.rival.denied(ctx, p.file.fh)
	if err != nil {
		return err
	}
	switch {
	case live && denied:
		f.set(Yes, "the same client ID, the lock's stateid lives, another client is denied")
		return nil
	case !denied:
		f.set(No, "another client would get the lock")
	default:
		f.set(No, "the lock's stateid is dead")
	}
	return p.again(ctx)
}

// again opens and locks anew after a trial that lost the state.
func (p *prober) again(ctx context.Context) (err error) {
	p.file.open = nfs4.Stateid{}
	_, err = p.holder.Do(ctx, true, &nfs4.ReclaimCompleteArgs{})
	if s, _ := plain.StatusOf(err); err != nil && s != nfs4.NFS4ERR_COMPLETE_ALREADY {
		return err
	}
	if p.file, err = p.holder.openFH(ctx, p.file.fh, nfs4.CLAIM_FH); err != nil {
		return err
	}
	p.lockID, err = p.holder.lock(ctx, p.file, false)
	return err
}

// tryCourtesy stays away for longer than the lease while nobody wants what is held.
func (p *prober) tryCourtesy(ctx context.Context) error {
	f := &p.report.Courtesy
	if !p.Options.Courtesy {
		f.set(Unknown, "not tried: it takes longer than the lease")
		return nil
	}
	away := p.report.Lease + p.report.Lease/4 + 2*time.Second
	p.say("an absence of %v, longer than the lease", away)
	p.holder.Cut()
	for end := time.Now().Add(away); time.Until(end) > 0; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(time.Until(end), p.report.Lease/3+time.Millisecond)):
		}
		if _, err := p.rival.Do(ctx, true, &nfs4.PutrootfhArgs{}); err != nil { // keeps its own lease
			return err
		}
	}
	same, err := p.comeBack(ctx, p.report.Draft == Yes)
	if err != nil {
		f.set(No, "%v", err)
		return err
	}
	live := false
	if same {
		if live, err = p.holder.Alive(ctx, p.lockID); err != nil {
			return err
		}
	}
	if live {
		f.set(Yes, "after %v the client ID and the lock were still there", away)
		return nil
	}
	f.set(No, "after %v the lock was gone", away)
	return p.again(ctx)
}

// tryFriendly is a restart with a new verifier: RFC 8881 18.35.4 case 5. Only a friendly server
// keeps what was held until it is reclaimed.
func (p *prober) tryFriendly(ctx context.Context) error {
	p.say("a restart with a new verifier, and reclaims")
	f := &p.report.Friendly
	v, err := plain.NewVerifier()
	if err != nil {
		return err
	}
	p.holder.Verf = v
	if _, err := p.comeBack(ctx, p.report.Draft == Yes); err != nil {
		f.set(No, "%v", err)
		return err
	}
	p.file.open = nfs4.Stateid{} // a new verifier: it is dead whatever the server does
	denied, err := p.rival.denied(ctx, p.file.fh)
	if err != nil {
		return err
	}
	file, err := p.holder.openFH(ctx, p.file.fh, nfs4.CLAIM_PREVIOUS)
	if err == nil {
		p.file = file
		p.lockID, err = p.holder.lock(ctx, file, true)
	}
	var refused *plain.StatusError
	switch {
	case err != nil && !errors.As(err, &refused):
		return err
	case err == nil && denied:
		f.set(Yes, "the lock was held for its owner, who reclaimed it; another client was denied all along")
	case err == nil:
		f.set(No, "the reclaim was granted, but another client could have had the lock in between")
	case denied:
		f.set(No, "the lock was still held, but the reclaim was refused: %v", err)
	default:
		f.set(No, "the lock was dropped at once, and the reclaim refused: %v", err)
	}
	if err != nil {
		return p.again(ctx)
	}
	_, err = p.holder.Do(ctx, true, &nfs4.ReclaimCompleteArgs{})
	return err
}

// conclude says what it means for a re-export server.
func (p *prober) conclude() {
	r := &p.report
	switch {
	case r.Friendly.Answer == Yes:
		r.Recovery, r.Budget = "reclaim", r.Lease+r.AbsenceLimit
	case r.Resume.Answer == Yes:
		r.Recovery, r.Budget = "resume", r.Lease
	}
}
