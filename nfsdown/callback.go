package nfsdown

import (
	"context"
	"errors"
	"slices"
	"sync"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
	"holdfast/nfsdown/state"
)

// maxBackSlots is how many callbacks of a session are under way at once.
const maxBackSlots = 16

// maxNotices is how many CB_NOTIFY_LOCK are under way at once, for all clients. They are hints (RFC 8881 20.11.4):
// what is above it is dropped, and the client polls.
const maxNotices = 256

// A channel is the back channel of a session, RFC 8881 2.10.3.1 and 20.9.
type channel struct {
	ss    *state.Session
	minor uint32        // minor version of the session: Linux's client knows a session only under its own
	slots chan backSlot // those that are free

	mu sync.Mutex
	// conns are bound to it, in the order in which they were.
	// +checklocks:mu
	conns []*rpc.Conn
	// +checklocks:mu
	closed bool
	// +checklocks:mu
	broken int // slots whose sequence is uncertain
}

// A backSlot is a slot with the sequence that its next callback has.
type backSlot struct{ id, seq uint32 }

var errNoPath = errors.New("nfsdown: no back channel")

// openChannel notes a session. A second time it does nothing.
func (s *Server) openChannel(ss *state.Session, minor uint32) *channel {
	s.chanMu.Lock()
	defer s.chanMu.Unlock()
	if ch := s.channels[ss]; ch != nil {
		return ch
	}
	n := min(max(ss.Back().MaxRequests, 1), maxBackSlots)
	ch := &channel{ss: ss, minor: minor, slots: make(chan backSlot, n)}
	for i := range n {
		ch.slots <- backSlot{i, 1}
	}
	s.channels[ss] = ch
	return ch
}

// bindBack adds a connection to the back channel of a session.
func (s *Server) bindBack(ss *state.Session, minor uint32, rc *rpc.Conn) {
	ch := s.openChannel(ss, minor)
	ch.mu.Lock()
	fresh := !slices.Contains(ch.conns, rc) && !ch.closed
	if fresh {
		ch.conns = append(ch.conns, rc)
	}
	n := len(ch.conns)
	ch.mu.Unlock()
	if fresh {
		s.probe(ch, rc)
	}
	ss.SetBackChannel(n)
	if rc.Err() != nil {
		s.unbindBack(rc) // it died meanwhile, perhaps before it was in the list
	}
}

// unbindBack takes a dead connection out of all back channels.
func (s *Server) unbindBack(rc *rpc.Conn) {
	s.chanMu.Lock()
	var list []*channel
	for _, ch := range s.channels {
		list = append(list, ch)
	}
	s.chanMu.Unlock()
	for _, ch := range list {
		ch.drop(rc)
	}
}

func (ch *channel) drop(rc *rpc.Conn) {
	ch.mu.Lock()
	i := slices.Index(ch.conns, rc)
	if i >= 0 {
		ch.conns = slices.Delete(ch.conns, i, i+1)
	}
	n := len(ch.conns)
	ch.mu.Unlock()
	if i >= 0 {
		ch.ss.SetBackChannel(n)
	}
}

// closeChannel forgets a session.
func (s *Server) closeChannel(ss *state.Session) {
	s.chanMu.Lock()
	ch := s.channels[ss]
	delete(s.channels, ss)
	s.chanMu.Unlock()
	if ch != nil {
		ch.mu.Lock()
		ch.closed, ch.conns = true, nil
		ch.mu.Unlock()
	}
}

// channelsOf are the back channels of a client that have a connection.
func (s *Server) channelsOf(c *state.Client) []*channel {
	s.chanMu.Lock()
	defer s.chanMu.Unlock()
	var out []*channel
	for ss, ch := range s.channels {
		if ss.Client() == c {
			out = append(out, ch)
		}
	}
	return out
}

// conn is a connection to call over, other than those tried.
func (ch *channel) conn(tried []*rpc.Conn) *rpc.Conn {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for i := len(ch.conns) - 1; i >= 0; i-- {
		if !slices.Contains(tried, ch.conns[i]) {
			return ch.conns[i]
		}
	}
	return nil
}

// callback calls one operation at a client and returns its status; the error says that it could not be asked.
func (s *Server) callback(ctx context.Context, c *state.Client, op nfs4.CBArgs) (nfs4.Status, error) {
	if c.V40() {
		return s.callback40(ctx, c, op)
	}
	err := errNoPath
	for _, ch := range s.channelsOf(c) {
		var st nfs4.Status
		if st, err = ch.call(ctx, op); err == nil {
			return st, nil
		}
	}
	return 0, err
}

// call sends CB_SEQUENCE and op. A connection that dies makes it try the next with the same slot and
// sequence, which is a retry (2.10.6.2). A slot whose call was not answered is not used any more.
func (ch *channel) call(ctx context.Context, op nfs4.CBArgs) (nfs4.Status, error) {
	if ch.conn(nil) == nil {
		return 0, errNoPath
	}
	var slot backSlot
	select {
	case slot = <-ch.slots:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	program, sec := ch.ss.Callback()
	call := &rpc.Call{Prog: program, Vers: nfs4.CBVersion, Proc: nfs4.ProcCompound, Cred: backCred(sec)}
	ops := []nfs4.CBArgs{
		&nfs4.CBSequenceArgs{SessionID: ch.ss.ID(), SequenceID: slot.seq, SlotID: slot.id, HighestSlotID: uint32(cap(ch.slots)) - 1},
		op,
	}
	var tried []*rpc.Conn
	sent := false
	for {
		rc := ch.conn(tried)
		if rc == nil {
			ch.giveUp(slot, sent)
			return 0, errNoPath
		}
		var list []nfs4.CBRes
		sent = true
		err := rc.Call(ctx, call, func(e *xdr.Codec) { nfs4.EncodeCBCompound(e, "", ch.minor, 0, ops) }, func(d *xdr.Codec) error {
			var err error
			_, list, err = nfs4.DecodeCBCompoundRes(d, ops)
			return err
		})
		var dead *rpc.ConnError
		switch {
		case errors.As(err, &dead):
			ch.drop(rc)
			tried = append(tried, rc)
			continue
		case err != nil:
			ch.giveUp(slot, true)
			return 0, err
		case len(list) == 0:
			ch.giveUp(slot, true)
			return 0, nfs4.NFS4ERR_SERVERFAULT
		case list[0].Stat() == nfs4.NFS4ERR_DELAY, list[0].Stat() != nfs4.NFS4_OK:
			// The slot is as it was before (20.9.3), or the client has lost the session.
			ch.giveUp(slot, list[0].Stat() != nfs4.NFS4ERR_DELAY)
			return 0, list[0].Stat()
		}
		slot.seq++
		ch.slots <- slot
		if len(list) < 2 {
			return 0, nfs4.NFS4ERR_SERVERFAULT
		}
		return list[1].Stat(), nil
	}
}

// giveUp gives a slot back, or takes it out of use. Without any slot the client must make a new session.
func (ch *channel) giveUp(slot backSlot, uncertain bool) {
	if !uncertain {
		ch.slots <- slot
		return
	}
	ch.mu.Lock()
	ch.broken++
	all := ch.broken >= cap(ch.slots)
	ch.mu.Unlock()
	if all {
		ch.ss.SetBackChannelFault()
	}
}

// backCred is the first credential that we can use: RFC 8881 2.10.8.2.
func backCred(sec []nfs4.CallbackSecParms) rpc.Cred {
	for _, p := range sec {
		if p.Flavor == nfs4.AUTH_SYS {
			return rpc.Cred{Flavor: rpc.AUTH_SYS, Stamp: p.Sys.Stamp, Machine: p.Sys.Machine, UID: p.Sys.UID, GID: p.Sys.GID, Groups: p.Sys.Groups}
		}
		if p.Flavor == nfs4.AUTH_NONE {
			break
		}
	}
	return rpc.Cred{}
}

// NotifyLock tells a waiting lock-owner that it may try again: CB_NOTIFY_LOCK, RFC 8881 20.11. It does not wait.
func (s *Server) NotifyLock(n state.LockNotice) {
	if n.Client.Permanent() {
		if s.lockNotice != nil {
			s.background(func(context.Context) { s.lockNotice(n) })
		}
		return
	}
	if n.Client.V40() {
		return // it has no such callback, and asks again; the range is kept for it meanwhile
	}
	select {
	case s.notices <- struct{}{}:
	default:
		return
	}
	s.background(func(ctx context.Context) {
		defer func() { <-s.notices }()
		ctx, stop := context.WithTimeout(ctx, s.cfg.CallbackTimeout)
		defer stop()
		op := &nfs4.CBNotifyLockArgs{FH: nfs4.FH(n.File), Owner: nfs4.StateOwner{ClientID: n.Client.ID(), Owner: n.LockOwner}}
		if _, err := s.callback(ctx, n.Client, op); err != nil {
			s.log.Debug("CB_NOTIFY_LOCK was not delivered", "client", fs.Owner{Client: n.Client.Owner()}, "err", err)
		}
	})
}
