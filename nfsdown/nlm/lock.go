package nlm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/nlm"
	"holdfast/journal"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

// ownerOf is an owner as bytes: who it is on its host.
func ownerOf(svid int32, oh string) string {
	if len(oh) > maxOwner {
		sum := sha256.Sum256([]byte(oh))
		oh = string(sum[:])
	}
	return string(binary.BigEndian.AppendUint32(nil, uint32(svid))) + oh
}

// The owners of package state: the open-owner and the lock-owner of an owner, and the open-owner of a share.
func openOwner(o string) string  { return "o" + o }
func lockOwner(o string) string  { return "l" + o }
func shareOwner(o string) string { return "s" + o }

// rangeOf is the range of a request: length 0 is to the end, RFC 1813 6.1.4.
func rangeOf(l *nlm.Lock) (fs.Range, error) {
	if l.Len == 0 || !l.V4 && l.Len >= math.MaxInt32 {
		return fs.Range{First: l.Offset, Last: math.MaxUint64}, nil
	}
	if l.Len-1 > math.MaxUint64-l.Offset {
		return fs.Range{}, nlm.FBig
	}
	return fs.Range{First: l.Offset, Last: l.Offset + l.Len - 1}, nil
}

func typeOf(exclusive bool) fs.LockType {
	if exclusive {
		return fs.WriteLock
	}
	return fs.ReadLock
}

// A request is a lock that is wanted, from a call or from one who waits.
type request struct {
	h       *host
	f       *nfsdown.File
	owner   string
	r       fs.Range
	t       fs.LockType
	wait    bool
	reclaim bool
}

func (q *request) key() fileKey { return fileKey{q.owner, q.f.Handle} }

// lock is LOCK and NM_LOCK, RFC 1813 6.3.2. monitored says that the client will reclaim, so it is to be told when we reboot.
func (c *call) lock(ctx context.Context, a *nlm.LockArgs, monitored bool) error {
	h, err := c.host(ctx, a.Lock.Caller)
	if err != nil {
		return err
	}
	r, err := rangeOf(&a.Lock)
	if err != nil {
		return err
	}
	f, err := c.file(ctx, a.Lock.FH)
	if err != nil {
		return err
	}
	if a.Exclusive && f.ReadOnly {
		return nlm.ROFS
	}
	if monitored {
		if err := c.s.monitor(ctx, h, a.State); err != nil {
			return err
		}
	}
	q := &request{h: h, f: f, owner: ownerOf(a.Lock.SVID, a.Lock.OH), r: r, t: typeOf(a.Exclusive), wait: a.Block && !a.Reclaim, reclaim: a.Reclaim}
	if !q.wait {
		err := c.s.take(ctx, q)
		if a.Reclaim {
			c.s.reclaimed(q, err)
		}
		return err
	}
	// The wait is there before it is asked for, so that no news of it is missed.
	w, old := c.s.addWait(q, a)
	if !old {
		if err := c.s.holdOpen(ctx, q); err != nil {
			h.dropWait(w)
			return err
		}
	}
	err = c.s.take(ctx, q)
	switch {
	case err != nil && old && !isDenied(err):
		return err // it goes on waiting
	case err == nil || !isDenied(err):
		c.s.endWait(ctx, w)
		if !old {
			c.s.letOpen(ctx, q)
		}
		return err
	case !old:
		c.s.down.Background(func(ctx context.Context) { c.s.await(ctx, w) })
	}
	return nlm.Blocked
}

// take opens and locks. A lock that is denied is no more than that; the open stays if the caller waits.
func (s *Server) take(ctx context.Context, q *request) error {
	e, err := q.h.take(ctx, q.key())
	if err != nil {
		return err
	}
	defer q.h.give(q.key(), e)
	for again := true; ; again = false {
		if err = s.open(ctx, q, e); err == nil {
			err = s.lockUnder(ctx, q, e)
		}
		if !isLost(err) {
			break
		}
		e.lost()
		if !again || q.reclaim {
			break
		}
	}
	if err != nil {
		s.tidy(ctx, q, e)
	}
	return err
}

// open makes the synthetic open, or adds to it what the lock needs: RFC 8881 9.1.2 asks for an open for writing under a
// write lock.
func (s *Server) open(ctx context.Context, q *request, e *entry) error {
	need := fs.ShareRead
	if q.t == fs.WriteLock {
		need = fs.ShareWrite
	}
	if e.opened && e.access&need != 0 {
		return nil
	}
	return s.openAs(ctx, q, e, &state.OpenRequest{Owner: openOwner(q.owner), File: q.f.Handle, Access: need, Reclaim: q.reclaim, Cred: q.f.Cred})
}

func (s *Server) openAs(ctx context.Context, q *request, e *entry, req *state.OpenRequest) error {
	p, eff, err := s.down.State().PrepareOpen(ctx, q.h.client, req)
	s.down.RunEffects(eff)
	if err != nil {
		return err
	}
	s.down.Evict(p.Evict)
	var call func() error
	if p.Call != state.CallNone {
		breq := p.Request
		breq.File, breq.Reclaim = q.f.Inner, p.Call == state.CallReclaim
		call = func() error {
			_, err := q.f.Backend.Open(ctx, q.f.Cred, &breq)
			if errors.Is(err, fs.Access) && owns(ctx, q.f) {
				_, err = q.f.Backend.Open(ctx, fs.Root, &breq)
			}
			return err
		}
	}
	berr, jerr := s.down.BothOpen(ctx, p, call)
	sid, eff, err := p.Settle(berr, jerr)
	s.down.RunEffects(eff)
	if req.Reclaim && errors.Is(berr, fs.NoGrace) {
		s.down.NoGrace(q.f)
	}
	if err != nil {
		return err
	}
	sid.Seqid = 0 // the newest, whatever it is
	e.opened, e.open = true, sid
	e.access |= req.Access
	return nil
}

// owns tells whether the caller owns the file: he may have opened it before its mode changed, as in package v3.
func owns(ctx context.Context, f *nfsdown.File) bool {
	a, err := f.Backend.GetAttr(ctx, f.Cred, f.Inner)
	return err == nil && a.UID == f.Cred.UID
}

// lockUnder takes the lock under the open.
func (s *Server) lockUnder(ctx context.Context, q *request, e *entry) error {
	p, eff, err := s.down.State().PrepareLock(ctx, q.h.client, &state.LockRequest{
		File: q.f.Handle, Stateid: e.open, NewOwner: true, LockOwner: lockOwner(q.owner), Range: q.r, Type: q.t, Wait: q.wait, Reclaim: q.reclaim,
	})
	s.down.RunEffects(eff)
	if err != nil {
		return err
	}
	s.down.Evict(p.Evict)
	var call func() error
	if p.Call != state.CallNone {
		breq := p.Request
		breq.File, breq.Reclaim = q.f.Inner, p.Call == state.CallReclaim
		call = func() error { return q.f.Backend.Lock(ctx, q.f.Cred, &breq) }
	}
	berr, jerr := s.down.Both(ctx, p.Batch, call)
	sid, eff, err := p.Settle(berr, jerr)
	s.down.RunEffects(eff)
	if q.reclaim && errors.Is(berr, fs.NoGrace) {
		s.down.NoGrace(q.f)
	}
	if err != nil {
		return err
	}
	sid.Seqid = 0
	e.lock, e.locked = sid, true
	e.have = e.have.With(q.r, q.t)
	return nil
}

// reclaimed notes the outcome of a reclaim. When nothing of the client waits any more, grace need not wait for it.
func (s *Server) reclaimed(q *request, err error) {
	result := "granted"
	if err != nil {
		result = toStat(err).String()
		s.log.Warn("reclaim refused", "client", q.h.key, "status", result, "err", err)
	}
	s.down.Event(&journal.Event{Type: "reclaim", Client: q.h.key.owner(), Owner: lockOwner(q.owner), File: q.f.Handle, Range: q.r, Lock: q.t, Result: result, Text: "lock by NLM"})
	s.down.RunEffects(s.down.State().ReclaimedAll(q.h.client))
}

// tidy closes the open if there is nothing under it. The entry's turn is held. In grace it waits: what the owner has not
// reclaimed yet would go with the open.
func (s *Server) tidy(ctx context.Context, q *request, e *entry) {
	h, f := q.h, q.f
	if !e.opened || len(e.have) > 0 || e.waiting > 0 {
		return
	}
	if p := s.down.State().PhaseAt(f.Handle); p == state.GraceActive || p == state.GraceEnding {
		if !e.late {
			e.late = true
			s.down.Background(func(ctx context.Context) { s.tidyLate(ctx, q) })
		}
		return
	}
	p, err := s.down.State().PrepareClose(keep(ctx), h.client, e.open, f.Handle)
	if err != nil { // it is no more
		e.lost()
		return
	}
	_, eff, err := p.Settle(f.Backend.CloseFile(keep(ctx), p.Owner, f.Inner))
	s.down.RunEffects(eff)
	if err != nil {
		s.log.Warn("an open for NLM could not be closed", "client", h.key, "err", err)
		return // the next one tries again
	}
	e.lost()
}

// tidyLate tidies when grace is over.
func (s *Server) tidyLate(ctx context.Context, q *request) {
	w := &wait{kick: make(chan struct{}), done: q.h.gone}
	for {
		if p := s.down.State().PhaseAt(q.f.Handle); p != state.GraceActive && p != state.GraceEnding {
			break
		}
		if !s.pause(ctx, w, laterTime) {
			return
		}
	}
	e, err := q.h.take(ctx, q.key())
	if err != nil {
		return
	}
	e.late = false
	s.tidy(ctx, q, e)
	q.h.give(q.key(), e)
}

// unlock is UNLOCK, RFC 1813 6.3.4. What is not held is unlocked.
func (c *call) unlock(ctx context.Context, a *nlm.UnlockArgs) error {
	h, err := c.host(ctx, a.Lock.Caller)
	if err != nil {
		return err
	}
	r, err := rangeOf(&a.Lock)
	if err != nil {
		return err
	}
	// Not c.file: the file may be gone, and its locks must go too.
	f, err := c.p.Scope(&c.in.Cred).File(ctx, fs.Handle(a.Lock.FH))
	if err != nil {
		return err
	}
	return c.s.unlock(ctx, h, f, ownerOf(a.Lock.SVID, a.Lock.OH), r)
}

func (s *Server) unlock(ctx context.Context, h *host, f *nfsdown.File, owner string, r fs.Range) error {
	k := fileKey{owner, f.Handle}
	e, err := h.take(ctx, k)
	if err != nil {
		return err
	}
	defer h.give(k, e)
	if !e.locked {
		if s.down.State().PhaseAt(f.Handle) == state.GraceActive {
			return nlm.DeniedGrace // it may be one that is not reclaimed yet
		}
		return nil
	}
	p, err := s.down.State().PrepareUnlock(ctx, h.client, e.lock, f.Handle, r)
	if isLost(err) {
		e.lost()
		return nil
	}
	if err != nil {
		return err
	}
	var berr error
	if p.Call != state.CallNone {
		berr = f.Backend.Unlock(keep(ctx), f.Cred, p.Owner, f.Inner, p.Range)
	}
	_, eff, err := p.Settle(berr)
	s.down.RunEffects(eff)
	switch {
	case isLost(err):
		e.lost()
		return nil
	case err != nil:
		return err
	}
	e.have = e.have.With(r, fs.NoLock)
	s.tidy(ctx, &request{h: h, f: f, owner: owner}, e)
	return nil
}

// test is TEST, RFC 1813 6.3.1.
func (c *call) test(ctx context.Context, a *nlm.TestArgs) coder {
	out := &nlm.TestRes{V4: c.v4, Cookie: a.Cookie}
	err := c.testLock(ctx, a)
	if out.Stat = c.stat(err); out.Stat != nlm.Denied {
		return out
	}
	r, t, owner := fs.Range{Last: math.MaxUint64}, fs.WriteLock, fs.Owner{}
	var d *state.DeniedError
	var b *fs.DeniedError
	switch {
	case errors.As(err, &d):
		r, t, owner.Owner = d.Range, d.Type, d.Owner
	case errors.As(err, &b):
		r, t, owner = b.Range, b.Type, b.Owner
	}
	out.Exclusive, out.Offset = t == fs.WriteLock, r.First
	if r.Last != math.MaxUint64 {
		out.Len = r.Last - r.First + 1
	}
	out.OH = owner.Owner
	if o := owner.Owner; len(o) >= 5 && o[0] == 'l' { // one of ours, or as good as any
		out.SVID, out.OH = int32(binary.BigEndian.Uint32([]byte(o[1:5]))), o[5:]
	}
	out.OH = out.OH[:min(len(out.OH), 32)] // Linux takes no more from a version 1 or 3 server
	return out
}

func (c *call) testLock(ctx context.Context, a *nlm.TestArgs) error {
	h, err := c.host(ctx, a.Lock.Caller)
	if err != nil {
		return err
	}
	r, err := rangeOf(&a.Lock)
	if err != nil {
		return err
	}
	f, err := c.file(ctx, a.Lock.FH)
	if err != nil {
		return err
	}
	owner, t := lockOwner(ownerOf(a.Lock.SVID, a.Lock.OH)), typeOf(a.Exclusive)
	if err := c.s.down.State().TestLock(h.client, owner, f.Handle, r, t); err != nil {
		return err
	}
	return f.Backend.TestLock(ctx, f.Cred, fs.Owner{Client: h.key.owner(), Owner: owner}, f.Inner, r, t)
}

// share is SHARE and UNSHARE, RFC 1813 6.3.6: an open with deny modes.
func (c *call) share(ctx context.Context, a *nlm.ShareArgs, on bool) error {
	h, err := c.host(ctx, a.Caller)
	if err != nil {
		return err
	}
	f, err := c.file(ctx, a.FH)
	if err != nil {
		return err
	}
	access, deny := fs.Share(a.Access), fs.Share(a.Mode)
	if access&fs.ShareWrite != 0 && f.ReadOnly {
		return nlm.ROFS
	}
	q := &request{h: h, f: f, owner: shareOwner(ownerOf(0, a.OH)), reclaim: a.Reclaim}
	e, err := h.take(ctx, q.key())
	if err != nil {
		return err
	}
	defer h.give(q.key(), e)
	if !on {
		c.s.tidy(ctx, q, e)
		return nil
	}
	if access == fs.ShareNone {
		if deny == fs.ShareNone {
			return nil
		}
		access = fs.ShareRead // OPEN has no other way to deny without access
	}
	if err := c.s.monitor(ctx, h, h.stateNow()); err != nil {
		return err
	}
	for again := true; ; again = false {
		err = c.s.openAs(ctx, q, e, &state.OpenRequest{Owner: q.owner, File: f.Handle, Access: access, Deny: deny, Reclaim: a.Reclaim, Cred: f.Cred})
		if !isLost(err) || !again {
			break
		}
		e.lost()
	}
	if a.Reclaim {
		c.s.reclaimed(q, err)
	}
	var s4 nfs4.Status
	if errors.As(err, &s4) && s4 == nfs4.NFS4ERR_SHARE_DENIED {
		return fmt.Errorf("%w: another client has it open", nlm.Denied)
	}
	return err
}

func (h *host) stateNow() int32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}
