package nlm

import (
	"context"
	"errors"
	"strings"
	"time"

	"holdfast/fs"
	"holdfast/internal/nlm"
	"holdfast/internal/xdr"
	"holdfast/nfsdown/state"
)

// waitKey names a blocked request.
type waitKey struct {
	fileKey
	r fs.Range
}

// A wait is a request that was answered BLOCKED: when the lock is free it is taken, and the client told by GRANTED.
type wait struct {
	q     *request
	args  nlm.Lock
	vers  uint32
	kick  chan struct{} // of one: the lock may be free
	done  chan struct{} // closed when the wait has ended
	taken bool          // guarded by host.mu: the lock is taken, and the client does not know yet
	// cancelled says that the client wants it no more; guarded by host.mu.
	cancelled bool
}

func (w *wait) key() waitKey { return waitKey{w.q.key(), w.q.r} }

// How long is waited: for news that may be lost, after "later", for an answer, and between tries to say GRANTED.
const (
	pollTime   = 30 * time.Second
	laterTime  = 5 * time.Second
	callTime   = 10 * time.Second
	grantFirst = time.Second
	grantMost  = 30 * time.Second
)

// addWait notes a blocked request; one that is asked again stays what it is.
func (s *Server) addWait(q *request, a *nlm.LockArgs) (w *wait, old bool) {
	h := q.h
	w = &wait{q: q, args: a.Lock, vers: 0, kick: make(chan struct{}, 1), done: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	w.vers = h.vers
	if o := h.waits[w.key()]; o != nil && o.q.t == q.t {
		return o, true
	} else if o != nil {
		close(o.done)
	}
	h.waits[w.key()] = w
	return w, false
}

// dropWait takes a wait out, and tells whether it was there, and whether the lock is taken for it.
func (h *host) dropWait(w *wait) (there, taken bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waits[w.key()] != w {
		return false, false
	}
	delete(h.waits, w.key())
	close(w.done)
	return true, w.taken
}

// endWait ends a wait whose client knows how it ended.
func (s *Server) endWait(ctx context.Context, w *wait) {
	h, q := w.q.h, w.q
	h.dropWait(w)
	s.down.RunEffects(s.down.State().CancelWait(h.client, lockOwner(q.owner), q.f.Handle, q.r))
}

// holdOpen keeps the open as long as the wait, since the place in the queue goes with it; letOpen ends that.
func (s *Server) holdOpen(ctx context.Context, q *request) error {
	e, err := q.h.take(ctx, q.key())
	if err != nil {
		return err
	}
	e.waiting++
	q.h.give(q.key(), e)
	return nil
}

func (s *Server) letOpen(ctx context.Context, q *request) {
	e, err := q.h.take(keep(ctx), q.key())
	if err != nil {
		return // it cannot be: this context does not end
	}
	e.waiting--
	s.tidy(ctx, q, e)
	q.h.give(q.key(), e)
}

// await lets a blocked request wait for its turn.
func (s *Server) await(ctx context.Context, w *wait) {
	h, q := w.q.h, w.q
	defer s.letOpen(ctx, q)
	pause := pollTime
	for {
		if !s.pause(ctx, w, pause) {
			return
		}
		pause = pollTime
		err := s.take(ctx, q)
		switch {
		case err == nil:
			h.mu.Lock()
			there, cancelled := h.waits[w.key()] == w, w.cancelled
			w.taken = true
			h.mu.Unlock()
			switch {
			case cancelled:
				s.giveBack(ctx, w)
				return
			case !there: // the client asked again and has it, or has rebooted
				return
			}
			s.granted(ctx, w)
			return
		case isDenied(err):
		case isLater(err):
			pause = laterTime
		default:
			s.log.Warn("a lock that an NFSv3 client waits for cannot be had", "client", h.key, "err", err)
			s.endWait(ctx, w)
			return
		}
	}
}

// pause waits until the lock may be free, or for d; false if the wait has ended.
func (s *Server) pause(ctx context.Context, w *wait, d time.Duration) bool {
	tick := make(chan struct{})
	t := s.cfg.Clock.AfterFunc(d, func() { close(tick) })
	defer t.Stop()
	select {
	case <-w.done:
		return false
	case <-ctx.Done():
		return false
	case <-w.kick:
	case <-tick:
	}
	return true
}

// granted tells the client that it has the lock: GRANTED, RFC 1813 6.3.5. Until it has answered nobody knows whether it
// thinks so; it is told again until it answers, asks again, cancels, or reboots. If it says that it waits for no such lock,
// the lock is given back.
func (s *Server) granted(ctx context.Context, w *wait) {
	h, q := w.q.h, w.q
	for pause := grantFirst; ; pause = min(2*pause, grantMost) {
		h.mu.Lock()
		local := h.local
		h.mu.Unlock()
		var res nlm.Res
		try, stop := context.WithTimeout(ctx, callTime)
		err := s.callHost(try, h.key.addr, local, nlm.Program, w.vers, nlm.ProcGranted,
			&nlm.TestArgs{Cookie: "holdfast", Exclusive: q.t == fs.WriteLock, Lock: w.args}, &res)
		stop()
		switch {
		case err != nil:
			s.log.Warn("GRANTED was not delivered; trying again", "client", h.key, "err", err)
		case res.Stat == nlm.Granted:
			h.dropWait(w)
			return
		case res.Stat != nlm.DeniedGrace:
			if there, _ := h.dropWait(w); there {
				s.giveBack(ctx, w)
			}
			return
		}
		select {
		case <-w.kick: // not meant for this
		default:
		}
		if !s.pause(ctx, w, pause) {
			return
		}
	}
}

// giveBack unlocks what nobody wants any more.
func (s *Server) giveBack(ctx context.Context, w *wait) {
	if err := s.unlock(keep(ctx), w.q.h, w.q.f, w.q.owner, w.q.r); err != nil {
		s.log.Error("a lock that nobody wants could not be given back", "client", w.q.h.key, "err", err)
	}
}

// cancel is CANCEL, RFC 1813 6.3.3.
func (c *call) cancel(ctx context.Context, a *nlm.CancelArgs) error {
	h, err := c.host(ctx, a.Lock.Caller)
	if err != nil {
		return err
	}
	r, err := rangeOf(&a.Lock)
	if err != nil {
		return err
	}
	k := waitKey{fileKey{ownerOf(a.Lock.SVID, a.Lock.OH), fs.Handle(a.Lock.FH)}, r}
	h.mu.Lock()
	w := h.waits[k]
	if w != nil {
		w.cancelled = true
	}
	h.mu.Unlock()
	if w == nil {
		return nil // it has ended already
	}
	there, taken := h.dropWait(w)
	c.s.down.RunEffects(c.s.down.State().CancelWait(h.client, lockOwner(w.q.owner), w.q.f.Handle, r))
	if there && taken {
		c.s.giveBack(ctx, w)
	}
	return nil
}

// notice hears that a lock may be free.
func (s *Server) notice(n state.LockNotice) {
	s.mu.Lock()
	var h *host
	for _, x := range s.hosts {
		if x.client == n.Client {
			h = x
		}
	}
	s.mu.Unlock()
	if h == nil {
		return
	}
	owner, ok := strings.CutPrefix(n.LockOwner, "l")
	if !ok {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, w := range h.waits {
		if k.owner == owner && k.file == n.File {
			select {
			case w.kick <- struct{}{}:
			default:
			}
		}
	}
}

// callHost makes a call at a client.
func (s *Server) callHost(ctx context.Context, host, local addr, prog, vers, proc uint32, args, res coder) error {
	c, err := s.cfg.Dial(ctx, host, local, prog, vers)
	if err != nil {
		return err
	}
	defer c.Close()
	// By UDP a call may be lost, so it is made again within its time.
	for {
		try, stop := context.WithTimeout(ctx, callTime/4)
		err = c.Call(try, rpcCall(prog, vers, proc), args.XDR, func(x *xdr.Codec) error {
			if res != nil {
				res.XDR(x)
			}
			return x.Err()
		})
		stop()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
}
