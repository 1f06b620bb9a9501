package nfsup

import (
	"context"
	"encoding/binary"
	"errors"

	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
)

// A fake is a small NFSv4.1 server on net.Pipe: sessions with a reply cache by the letter, opens, locks,
// grace. Tests put it in the way of the client: it restarts, forgets, delays, drops answers.
type fake struct {
	t *testing.T

	mu       sync.Mutex
	down     bool
	boot     uint32
	counter  uint64
	clients  map[uint64]*fakeClient
	sessions map[nfs4.SessionID]*fakeSession
	opens    []*fakeOpen
	locks    []*fakeLock
	delegs   []*fakeDeleg
	grace    bool
	conns    map[*rpc.Conn]bool
	ran      map[nfs4.OpNum]int // executed, not replayed
	failed   []nfs4.Status      // of SEQUENCE

	// Settings.
	lease  uint32
	slots  uint32
	flags  uint32
	minor  uint32 // the highest there is
	retain bool
	deleg  bool // delegations are given to who wants one
	// ownDeny says that what an owner denies it denies itself (9.7), unless it asks for access that it has and
	// denies nothing: as knfsd does it.
	ownDeny bool
	// noCount makes it not tell its count of CREATE_SESSION for a confirmed client, as 18.35.3 allows.
	noCount bool
	// before is called before an operation runs, without a mutex, and may block; not NFS4_OK is its answer.
	before func(nfs4.Args) nfs4.Status
	// after is called before an answer is sent; false drops it, and the connection.
	after func([]nfs4.Args) bool
}

type fakeClient struct {
	id        uint64
	owner     nfs4.ClientOwner
	confirmed bool
	csa       uint32
	csaReply  *nfs4.CreateSessionRes
	complete  bool
}

type fakeSession struct {
	id     nfs4.SessionID
	client *fakeClient
	slots  []struct {
		seq   uint32
		busy  bool
		reply []byte
	}
}

type fakeOpen struct {
	client       *fakeClient
	owner        string
	fh           nfs4.FH
	sid          nfs4.Stateid
	access, deny uint32
	revoked      bool
}

type fakeDeleg struct {
	client  *fakeClient
	fh      nfs4.FH
	typ     uint32
	sid     nfs4.Stateid
	revoked bool
}

type fakeLock struct {
	open    *fakeOpen
	owner   string
	sid     nfs4.Stateid
	set     RangeSet
	revoked bool
}

// story runs a test with a fake and a client in a bubble where time passes only when all wait.
func story(t *testing.T, f func(t *testing.T, s *fake, dial func(...func(*Config)) *Client)) {
	synctest.Test(t, func(t *testing.T) {
		s := &fake{
			t: t, boot: 1, lease: 30, slots: 8, minor: 2,
			clients:  make(map[uint64]*fakeClient),
			sessions: make(map[nfs4.SessionID]*fakeSession),
			conns:    make(map[*rpc.Conn]bool),
			ran:      make(map[nfs4.OpNum]int),
		}
		var clients []*Client
		defer func() {
			for _, c := range clients {
				c.Abandon()
			}
			s.hangUp()
		}()
		f(t, s, func(change ...func(*Config)) *Client {
			cfg := Config{
				Addr:    "fake",
				Dial:    s.dial,
				OwnerID: []byte("client"),
				Cred:    root,
			}
			for _, f := range change {
				f(&cfg)
			}
			c, err := Dial(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			clients = append(clients, c)
			return c
		})
	})
}

func (s *fake) dial(ctx context.Context, _ string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errors.New("refused")
	}
	a, b := net.Pipe()
	conn := rpc.NewConn(b, rpc.Options{Handler: rpc.HandlerFunc(s.serve), MaxInflight: 1024})
	s.conns[conn] = true
	return a, nil
}

// hangUp breaks all connections.
func (s *fake) hangUp() {
	s.mu.Lock()
	list := slices.Collect(maps.Keys(s.conns))
	clear(s.conns)
	s.mu.Unlock()
	for _, c := range list {
		_ = c.Close()
	}
}

// restart loses all that is in memory, and is in grace if it says so.
func (s *fake) restart(grace bool) {
	s.mu.Lock()
	s.boot++
	s.grace = grace
	clear(s.clients)
	clear(s.sessions)
	s.delegs = nil
	s.opens, s.locks = nil, nil
	s.mu.Unlock()
	s.hangUp()
}

// loseSessions forgets sessions, not clients.
func (s *fake) loseSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.sessions)
}

func (s *fake) count(op nfs4.OpNum) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ran[op]
}

func (s *fake) setFlags(f uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flags = f
}

// held gives what lock-owner o has on fh.
func (s *fake) held(o UpOwner, fh nfs4.FH) RangeSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.locks {
		if l.owner == string(o[:]) && l.open.fh == fh {
			return slices.Clone(l.set)
		}
	}
	return nil
}

func (s *fake) openOf(o UpOwner, fh nfs4.FH) (access, deny uint32, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.opens {
		if x.owner == string(o[:]) && x.fh == fh {
			return x.access, x.deny, true
		}
	}
	return 0, 0, false
}

func (s *fake) serve(_ context.Context, conn *rpc.Conn, call *rpc.InCall) {
	if call.Proc == nfs4.ProcNull {
		_ = call.Reply(nil)
		return
	}
	var h nfs4.CompoundHeader
	h.XDR(call.Body)
	var ops []nfs4.Args
	for range h.NumOps {
		_, a, err := nfs4.DecodeArgs(call.Body)
		if err != nil {
			s.t.Errorf("fake: %v", err)
		}
		ops = append(ops, clone(a))
	}
	reply := s.compound(h, ops)
	if reply == nil {
		_ = conn.Close()
		return
	}
	_ = call.Reply(func(e *xdr.Codec) { e.Raw(&reply) })
}

// clone unties arguments from the record.
func clone(a nfs4.Args) nfs4.Args {
	e := xdr.NewEncoder(nil)
	a.XDR(e)
	b := nfs4.NewArgs(a.Op())
	b.XDR(xdr.NewDecoder(slices.Clone(e.Bytes())))
	return b
}

func encodeRes(s nfs4.Status, list []nfs4.Res) []byte {
	e := xdr.NewEncoder(nil)
	nfs4.EncodeCompoundRes(e, s, "", list)
	return e.Bytes()
}

// compound runs a COMPOUND; nil: no answer.
func (s *fake) compound(h nfs4.CompoundHeader, ops []nfs4.Args) []byte {
	s.mu.Lock()
	minor := s.minor
	s.mu.Unlock()
	if h.MinorVersion > minor {
		return encodeRes(nfs4.NFS4ERR_MINOR_VERS_MISMATCH, nil)
	}
	if len(ops) == 0 {
		return encodeRes(nfs4.NFS4_OK, nil)
	}
	seq, ok := ops[0].(*nfs4.SequenceArgs)
	if !ok {
		r := s.alone(ops[0])
		if s.after != nil && !s.after(ops) {
			return nil
		}
		return encodeRes(nfs4.NFS4_OK, []nfs4.Res{r})
	}
	s.mu.Lock()
	sess, reply, status := s.sequence(seq)
	flags, target := s.flags, s.slots-1
	if status != nfs4.NFS4_OK {
		s.failed = append(s.failed, status)
	}
	s.mu.Unlock()
	if reply != nil {
		return reply
	}
	res := []nfs4.Res{&nfs4.SequenceRes{
		Status: status, SessionID: seq.SessionID, SequenceID: seq.SequenceID, SlotID: seq.SlotID,
		HighestSlotID: target, TargetHighestSlotID: target, StatusFlags: flags,
	}}
	if status != nfs4.NFS4_OK {
		return encodeRes(status, res)
	}
	cur := &cursor{sess: sess}
	for _, a := range ops[1:] {
		r := s.run(cur, a)
		res = append(res, r)
		if r.Stat() != nfs4.NFS4_OK {
			break
		}
	}
	reply = encodeRes(nfs4.NFS4_OK, res)
	s.mu.Lock()
	slot := &sess.slots[seq.SlotID]
	slot.busy = false
	slot.reply = reply
	if !seq.CacheThis && len(res) > 1 {
		slot.reply = encodeRes(nfs4.NFS4_OK, []nfs4.Res{res[0], nfs4.ErrRes(ops[1].Op(), nfs4.NFS4ERR_RETRY_UNCACHED_REP)})
	}
	s.mu.Unlock()
	if s.after != nil && !s.after(ops) {
		return nil
	}
	return reply
}

func (s *fake) sequence(a *nfs4.SequenceArgs) (*fakeSession, []byte, nfs4.Status) {
	sess := s.sessions[a.SessionID]
	if sess == nil {
		return nil, nil, nfs4.NFS4ERR_BADSESSION
	}
	if int(a.SlotID) >= len(sess.slots) {
		return nil, nil, nfs4.NFS4ERR_BADSLOT
	}
	slot := &sess.slots[a.SlotID]
	switch {
	case a.SequenceID == slot.seq && slot.busy:
		return nil, nil, nfs4.NFS4ERR_DELAY
	case a.SequenceID == slot.seq && slot.reply != nil:
		return nil, slot.reply, nfs4.NFS4_OK
	case a.SequenceID == slot.seq+1 && !slot.busy:
		slot.seq, slot.busy = a.SequenceID, true
		return sess, nil, nfs4.NFS4_OK
	}
	return nil, nil, nfs4.NFS4ERR_SEQ_MISORDERED
}

// alone runs what needs no SEQUENCE.
func (s *fake) alone(a nfs4.Args) nfs4.Res {
	if s.before != nil {
		if st := s.before(a); st != nfs4.NFS4_OK {
			return nfs4.ErrRes(a.Op(), st)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ran[a.Op()]++
	switch a := a.(type) {
	case *nfs4.ExchangeIDArgs:
		if a.Flags&nfs4.EXCHGID4_FLAG_RETAIN_STATE != 0 && !s.retain {
			return nfs4.ErrRes(a.Op(), nfs4.NFS4ERR_INVAL)
		}
		for _, c := range s.clients {
			if c.owner == a.Owner {
				r := s.exchanged(a, c)
				if c.confirmed {
					r.Flags |= nfs4.EXCHGID4_FLAG_CONFIRMED_R
					if s.noCount {
						r.SequenceID = 0
					}
				}
				return r
			}
		}
		s.counter++
		c := &fakeClient{id: uint64(s.boot)<<32 | s.counter, owner: a.Owner, csa: 1}
		s.clients[c.id] = c
		return s.exchanged(a, c)
	case *nfs4.CreateSessionArgs:
		c := s.clients[a.ClientID]
		switch {
		case c == nil:
			return nfs4.ErrRes(a.Op(), nfs4.NFS4ERR_STALE_CLIENTID)
		case a.Sequence == c.csa-1 && c.csaReply != nil:
			return c.csaReply
		case a.Sequence != c.csa:
			return nfs4.ErrRes(a.Op(), nfs4.NFS4ERR_SEQ_MISORDERED)
		}
		if !c.confirmed { // 18.36.4: the state of an older incarnation goes
			for id, old := range s.clients {
				if old != c && old.owner.ID == c.owner.ID {
					delete(s.clients, id)
					s.opens = slices.DeleteFunc(s.opens, func(o *fakeOpen) bool { return o.client == old })
					s.locks = slices.DeleteFunc(s.locks, func(l *fakeLock) bool { return l.open.client == old })
					maps.DeleteFunc(s.sessions, func(_ nfs4.SessionID, x *fakeSession) bool { return x.client == old })
				}
			}
		}
		c.confirmed = true
		c.csa++
		s.counter++
		sess := &fakeSession{client: c}
		binary.BigEndian.PutUint64(sess.id[:], s.counter)
		fore := a.ForeChan
		fore.MaxRequests = min(fore.MaxRequests, s.slots)
		sess.slots = make([]struct {
			seq   uint32
			busy  bool
			reply []byte
		}, fore.MaxRequests)
		s.sessions[sess.id] = sess
		c.csaReply = &nfs4.CreateSessionRes{SessionID: sess.id, Sequence: a.Sequence, Flags: a.Flags, ForeChan: fore, BackChan: a.BackChan}
		return c.csaReply
	case *nfs4.BindConnToSessionArgs:
		if s.sessions[a.SessionID] == nil {
			return nfs4.ErrRes(a.Op(), nfs4.NFS4ERR_BADSESSION)
		}
		return &nfs4.BindConnToSessionRes{SessionID: a.SessionID, Dir: nfs4.CDFS4_BOTH}
	case *nfs4.DestroySessionArgs:
		delete(s.sessions, a.SessionID)
		return &nfs4.DestroySessionRes{}
	case *nfs4.DestroyClientidArgs:
		delete(s.clients, a.ClientID)
		return &nfs4.DestroyClientidRes{}
	}
	return nfs4.ErrRes(a.Op(), nfs4.NFS4ERR_OP_NOT_IN_SESSION)
}

func (s *fake) exchanged(a *nfs4.ExchangeIDArgs, c *fakeClient) *nfs4.ExchangeIDRes {
	return &nfs4.ExchangeIDRes{
		ClientID: c.id, SequenceID: c.csa, Flags: a.Flags & nfs4.EXCHGID4_FLAG_RETAIN_STATE,
		ServerOwner: nfs4.ServerOwner{MajorID: "fake"}, ServerScope: "scope",
	}
}

type cursor struct {
	sess *fakeSession
	fh   nfs4.FH
}

func (s *fake) run(cur *cursor, a nfs4.Args) nfs4.Res {
	if s.before != nil {
		if st := s.before(a); st != nfs4.NFS4_OK {
			return nfs4.ErrRes(a.Op(), st)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ran[a.Op()]++
	fail := func(st nfs4.Status) nfs4.Res { return nfs4.ErrRes(a.Op(), st) }
	client := cur.sess.client
	switch a := a.(type) {
	case *nfs4.PutrootfhArgs:
		cur.fh = "root"
		return &nfs4.PutrootfhRes{}
	case *nfs4.PutfhArgs:
		cur.fh = a.FH
		return &nfs4.PutfhRes{}
	case *nfs4.LookupArgs:
		cur.fh = "fh-" + nfs4.FH(a.Name)
		return &nfs4.LookupRes{}
	case *nfs4.GetfhArgs:
		return &nfs4.GetfhRes{FH: cur.fh}
	case *nfs4.GetattrArgs:
		r := &nfs4.GetattrRes{}
		r.Attrs.Mask = a.Request.And(nfs4.Bits(nfs4.FATTR4_LEASE_TIME, nfs4.FATTR4_SIZE))
		r.Attrs.LeaseTime = s.lease
		return r
	case *nfs4.CreateArgs:
		return &nfs4.CreateRes{}
	case *nfs4.WriteArgs:
		if !s.usable(a.Stateid, cur.fh) {
			return fail(nfs4.NFS4ERR_BAD_STATEID)
		}
		return &nfs4.WriteRes{Count: uint32(len(a.Data)), Committed: a.Stable}
	case *nfs4.ReclaimCompleteArgs:
		if client.complete {
			return fail(nfs4.NFS4ERR_COMPLETE_ALREADY)
		}
		client.complete = true
		return &nfs4.ReclaimCompleteRes{}
	case *nfs4.OpenArgs:
		return s.open(cur, client, a)
	case *nfs4.CloseArgs:
		o := s.findOpen(a.OpenStateid.Other)
		switch {
		case o == nil || o.revoked:
			return fail(nfs4.NFS4ERR_BAD_STATEID)
		case a.OpenStateid.Seqid != 0 && a.OpenStateid.Seqid != o.sid.Seqid:
			return fail(nfs4.NFS4ERR_OLD_STATEID)
		}
		for _, l := range s.locks {
			if l.open == o && len(l.set) > 0 {
				return fail(nfs4.NFS4ERR_LOCKS_HELD)
			}
		}
		s.opens = slices.DeleteFunc(s.opens, func(x *fakeOpen) bool { return x == o })
		s.locks = slices.DeleteFunc(s.locks, func(l *fakeLock) bool { return l.open == o })
		return &nfs4.CloseRes{OpenStateid: nfs4.InvalidStateid}
	case *nfs4.DelegreturnArgs:
		n := len(s.delegs)
		s.delegs = slices.DeleteFunc(s.delegs, func(d *fakeDeleg) bool { return d.sid.Other == a.Stateid.Other })
		if len(s.delegs) == n {
			return fail(nfs4.NFS4ERR_BAD_STATEID)
		}
		return &nfs4.DelegreturnRes{}
	case *nfs4.OpenDowngradeArgs:
		o := s.findOpen(a.OpenStateid.Other)
		switch {
		case o == nil:
			return fail(nfs4.NFS4ERR_BAD_STATEID)
		case a.OpenStateid.Seqid != 0 && a.OpenStateid.Seqid != o.sid.Seqid:
			return fail(nfs4.NFS4ERR_OLD_STATEID)
		}
		o.access, o.deny = a.ShareAccess, a.ShareDeny
		o.sid.Seqid++
		return &nfs4.OpenDowngradeRes{OpenStateid: o.sid}
	case *nfs4.LockArgs:
		return s.lock(cur, client, a)
	case *nfs4.LockuArgs:
		l := s.findLock(a.LockStateid.Other)
		switch {
		case l == nil || l.revoked:
			return fail(nfs4.NFS4ERR_BAD_STATEID)
		case a.LockStateid.Seqid != 0 && a.LockStateid.Seqid != l.sid.Seqid:
			return fail(nfs4.NFS4ERR_OLD_STATEID)
		}
		l.set = l.set.without(rangeOf(a.Offset, a.Length))
		l.sid.Seqid++
		return &nfs4.LockuRes{LockStateid: l.sid}
	case *nfs4.LocktArgs:
		if d := s.conflict(a.Owner.Owner, cur.fh, rangeOf(a.Offset, a.Length), a.LockType.Exclusive()); d != nil {
			return &nfs4.LocktRes{Status: nfs4.NFS4ERR_DENIED, Denied: *d}
		}
		return &nfs4.LocktRes{}
	case *nfs4.TestStateidArgs:
		r := &nfs4.TestStateidRes{}
		for _, sid := range a.Stateids {
			st := nfs4.NFS4ERR_BAD_STATEID
			if o := s.findOpen(sid.Other); o != nil {
				st = nfs4.NFS4_OK
				if o.revoked {
					st = nfs4.NFS4ERR_ADMIN_REVOKED
				}
			}
			if l := s.findLock(sid.Other); l != nil {
				st = nfs4.NFS4_OK
				if l.revoked {
					st = nfs4.NFS4ERR_ADMIN_REVOKED
				}
			}
			for _, d := range s.delegs {
				switch {
				case d.sid.Other != sid.Other:
				case d.revoked:
					st = nfs4.NFS4ERR_DELEG_REVOKED
				default:
					st = nfs4.NFS4_OK
				}
			}
			r.StatusCodes = append(r.StatusCodes, st)
		}
		return r
	case *nfs4.FreeStateidArgs:
		s.opens = slices.DeleteFunc(s.opens, func(o *fakeOpen) bool { return o.sid.Other == a.Stateid.Other })
		s.locks = slices.DeleteFunc(s.locks, func(l *fakeLock) bool { return l.sid.Other == a.Stateid.Other })
		s.delegs = slices.DeleteFunc(s.delegs, func(d *fakeDeleg) bool { return d.sid.Other == a.Stateid.Other })
		return &nfs4.FreeStateidRes{}
	}
	return fail(nfs4.NFS4ERR_NOTSUPP)
}

func (s *fake) newStateid() (sid nfs4.Stateid) {
	s.counter++
	binary.BigEndian.PutUint32(sid.Other[:], s.boot)
	binary.BigEndian.PutUint64(sid.Other[4:], s.counter)
	sid.Seqid = 1
	return sid
}

func (s *fake) findOpen(other [12]byte) *fakeOpen {
	for _, o := range s.opens {
		if o.sid.Other == other {
			return o
		}
	}
	return nil
}

func (s *fake) findLock(other [12]byte) *fakeLock {
	for _, l := range s.locks {
		if l.sid.Other == other {
			return l
		}
	}
	return nil
}

func (s *fake) usable(sid nfs4.Stateid, fh nfs4.FH) bool {
	o, l := s.findOpen(sid.Other), s.findLock(sid.Other)
	return o != nil && !o.revoked || l != nil && !l.revoked
}

func (s *fake) open(cur *cursor, client *fakeClient, a *nfs4.OpenArgs) nfs4.Res {
	fail := func(st nfs4.Status) nfs4.Res { return nfs4.ErrRes(a.Op(), st) }
	fh := cur.fh
	switch a.Claim.Type {
	case nfs4.CLAIM_NULL:
		fh = "fh-" + nfs4.FH(a.Claim.File)
	case nfs4.CLAIM_PREVIOUS:
		if client.complete || !s.grace {
			return fail(nfs4.NFS4ERR_NO_GRACE)
		}
	}
	if a.Claim.Type != nfs4.CLAIM_PREVIOUS && (s.grace || !client.complete) {
		return fail(nfs4.NFS4ERR_GRACE)
	}
	access := a.ShareAccess & 3
	var mine *fakeOpen
	for _, o := range s.opens {
		switch {
		case o.fh != fh:
		case o.owner == a.Owner.Owner && o.client == client:
			mine = o
			if s.ownDeny && (o.access&a.ShareDeny != 0 || o.deny&access&^o.access != 0) {
				return fail(nfs4.NFS4ERR_SHARE_DENIED)
			}
		case o.access&a.ShareDeny != 0 || o.deny&access != 0:
			return fail(nfs4.NFS4ERR_SHARE_DENIED)
		}
	}
	if mine == nil {
		mine = &fakeOpen{client: client, owner: a.Owner.Owner, fh: fh, sid: s.newStateid()}
		mine.sid.Seqid = 0
		s.opens = append(s.opens, mine)
	}
	mine.access |= access
	mine.deny |= a.ShareDeny
	mine.sid.Seqid++
	cur.fh = fh
	return &nfs4.OpenRes{Stateid: mine.sid, Rflags: nfs4.OPEN4_RESULT_MAY_NOTIFY_LOCK, Delegation: s.delegate(client, fh, a)}
}

func (s *fake) delegate(client *fakeClient, fh nfs4.FH, a *nfs4.OpenArgs) nfs4.OpenDelegation {
	typ := uint32(nfs4.OPEN_DELEGATE_NONE)
	switch {
	case !s.deleg:
	case a.Claim.Type == nfs4.CLAIM_PREVIOUS:
		typ = a.Claim.DelegateType
	case a.ShareAccess&nfs4.OPEN4_SHARE_ACCESS_WANT_DELEG_MASK == nfs4.OPEN4_SHARE_ACCESS_WANT_READ_DELEG:
		typ = nfs4.OPEN_DELEGATE_READ
	case a.ShareAccess&nfs4.OPEN4_SHARE_ACCESS_WANT_DELEG_MASK == nfs4.OPEN4_SHARE_ACCESS_WANT_ANY_DELEG:
		typ = nfs4.OPEN_DELEGATE_WRITE
	}
	if typ == nfs4.OPEN_DELEGATE_NONE {
		return nfs4.OpenDelegation{}
	}
	for _, d := range s.delegs {
		if d.client == client && d.fh == fh {
			return nfs4.OpenDelegation{Type: d.typ, Stateid: d.sid}
		}
	}
	d := &fakeDeleg{client: client, fh: fh, typ: typ, sid: s.newStateid()}
	s.delegs = append(s.delegs, d)
	return nfs4.OpenDelegation{Type: typ, Stateid: d.sid, SpaceLimit: nfs4.SpaceLimit{By: nfs4.NFS_LIMIT_SIZE}}
}

// delegOf is the delegation of a file; nil if there is none.
func (s *fake) delegOf(fh nfs4.FH) *fakeDeleg {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.delegs {
		if d.fh == fh {
			return d
		}
	}
	return nil
}

func (s *fake) conflict(owner string, fh nfs4.FH, r Range, write bool) *nfs4.LockDenied {
	for _, l := range s.locks {
		if l.open.fh != fh || l.owner == owner {
			continue
		}
		for _, h := range l.set {
			if (write || h.Write) && h.Range.First <= r.Last && r.First <= h.Range.Last {
				d := &nfs4.LockDenied{LockType: lockType(h.Write, false), Owner: nfs4.StateOwner{ClientID: l.open.client.id, Owner: l.owner}}
				d.Offset, d.Length = h.Range.wire()
				return d
			}
		}
	}
	return nil
}

func (s *fake) lock(cur *cursor, client *fakeClient, a *nfs4.LockArgs) nfs4.Res {
	fail := func(st nfs4.Status) nfs4.Res { return nfs4.ErrRes(a.Op(), st) }
	switch {
	case a.Reclaim && (client.complete || !s.grace):
		return fail(nfs4.NFS4ERR_NO_GRACE)
	case !a.Reclaim && (s.grace || !client.complete):
		return fail(nfs4.NFS4ERR_GRACE)
	}
	var l *fakeLock
	if a.Locker.NewLockOwner {
		o := s.findOpen(a.Locker.OpenStateid.Other)
		if o == nil || o.revoked {
			return fail(nfs4.NFS4ERR_BAD_STATEID)
		}
		for _, x := range s.locks {
			if x.open == o && x.owner == a.Locker.LockOwner.Owner {
				l = x
			}
		}
		if l == nil {
			l = &fakeLock{open: o, owner: a.Locker.LockOwner.Owner, sid: s.newStateid()}
			l.sid.Seqid = 0
		}
	} else {
		l = s.findLock(a.Locker.LockStateid.Other)
		switch {
		case l == nil || l.revoked:
			return fail(nfs4.NFS4ERR_BAD_STATEID)
		case a.Locker.LockStateid.Seqid != 0 && a.Locker.LockStateid.Seqid != l.sid.Seqid:
			return fail(nfs4.NFS4ERR_OLD_STATEID)
		}
	}
	r := rangeOf(a.Offset, a.Length)
	if d := s.conflict(l.owner, cur.fh, r, a.LockType.Exclusive()); d != nil {
		return &nfs4.LockRes{Status: nfs4.NFS4ERR_DENIED, Denied: *d}
	}
	l.set = l.set.with(r, a.LockType.Exclusive())
	l.sid.Seqid++
	if !slices.Contains(s.locks, l) {
		s.locks = append(s.locks, l)
	}
	return &nfs4.LockRes{LockStateid: l.sid}
}

// callBack makes a CB_COMPOUND on any connection and returns its answer.
func (s *fake) callBack(ops ...nfs4.CBArgs) (nfs4.Status, []nfs4.CBRes, error) {
	s.mu.Lock()
	var conn *rpc.Conn
	for c := range s.conns {
		if c.Err() == nil {
			conn = c
		}
	}
	s.mu.Unlock()
	if conn == nil {
		return 0, nil, errors.New("no connection")
	}
	var st nfs4.Status
	var list []nfs4.CBRes
	err := conn.Call(s.t.Context(), &rpc.Call{Prog: nfs4.CBProgram, Vers: nfs4.CBVersion, Proc: nfs4.ProcCompound},
		func(e *xdr.Codec) { nfs4.EncodeCBCompound(e, "", 1, 0, ops) },
		func(d *xdr.Codec) (err error) {
			st, list, err = nfs4.DecodeCBCompoundRes(d, ops)
			return err
		})
	return st, list, err
}

func (s *fake) sessionID(c *Client) nfs4.SessionID { return c.Info().SessionID }

// A latch blocks the first call that it is asked about, until it is opened.
type latch struct {
	op      nfs4.OpNum
	once    sync.Once
	reached chan struct{}
	open    chan struct{}
}

func newLatch(op nfs4.OpNum) *latch {
	return &latch{op: op, reached: make(chan struct{}), open: make(chan struct{})}
}

func (l *latch) pass(op nfs4.OpNum) {
	if op != l.op {
		return
	}
	first := false
	l.once.Do(func() { first = true })
	if first {
		close(l.reached)
		<-l.open
	}
}

func (l *latch) before(a nfs4.Args) nfs4.Status { l.pass(a.Op()); return nfs4.NFS4_OK }

func (l *latch) after(ops []nfs4.Args) bool {
	for _, a := range ops {
		l.pass(a.Op())
	}
	return true
}

func lockOf(fh nfs4.FH, open, lock int, first, last uint64) *LockArgs {
	return &LockArgs{FH: fh, OpenOwner: owner(open), LockOwner: owner(lock), Range: Range{first, last}, Write: true}
}

func openFH(fh nfs4.FH, o int, access, deny uint32) *OpenArgs {
	return &OpenArgs{Owner: owner(o), Access: access, Deny: deny, FH: fh}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantStatus(t *testing.T, err error, want nfs4.Status) {
	t.Helper()
	if s, ok := StatusOf(err); !ok || s != want {
		t.Fatalf("got %v, want %v", err, want)
	}
}

// dialThrough makes connections that swallow what is written as long as silent is set.
func (s *fake) dialThrough(silent *atomic.Bool) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		nc, err := s.dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		return &silentConn{Conn: nc, silent: silent}, nil
	}
}

// A silentConn that swallowed something swallows the rest too: a stream has no holes.
type silentConn struct {
	net.Conn
	silent *atomic.Bool
	broken bool
}

func (c *silentConn) Write(b []byte) (int, error) {
	if c.broken || c.silent.Load() {
		c.broken = true
		return len(b), nil
	}
	return c.Conn.Write(b)
}
