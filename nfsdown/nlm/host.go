package nlm

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/nlm"
	"holdfast/journal"
	"holdfast/nfsdown"
	"holdfast/nfsdown/state"
)

// hostKey is who a client is. The address is part of it since many machines call themselves localhost: taken for one,
// they would share their locks.
type hostKey struct {
	addr netip.Addr
	name string
}

// owner is the co_ownerid of the client's state; it does not change when anybody reboots.
func (k hostKey) owner() string { return fs.LockManagerOwner(k.addr.String(), k.name) }

func (k hostKey) String() string { return k.addr.String() + "/" + k.name }

func parseHostKey(s string) (hostKey, bool) {
	a, name, ok := strings.Cut(s, "/")
	addr, err := netip.ParseAddr(a)
	return hostKey{addr, name}, ok && err == nil
}

// A host is a client.
type host struct {
	key    hostKey
	client *state.Client

	// gone is closed when its state was given back: it rebooted.
	gone chan struct{}

	mu sync.Mutex
	// +checklocks:mu
	local netip.Addr // our address that it calls
	// +checklocks:mu
	vers uint32 // of NLM that it speaks
	// +checklocks:mu
	state int32 // of its status monitor, as its last LOCK said
	// +checklocks:mu
	notified int32 // as its last SM_NOTIFY said
	// +checklocks:mu
	recorded bool // the journal knows that it is to be told when we reboot
	// +checklocks:mu
	leaving bool // it rebooted: its state is being given back
	// +checklocks:mu
	files map[fileKey]*entry
	// +checklocks:mu
	waits map[waitKey]*wait
}

// maxHosts is how many clients there are at most.
const maxHosts = 16384

// maxCaller and maxOwner bound what becomes part of an owner, in bytes.
const (
	maxCaller = 512
	maxOwner  = 512
)

// host finds or makes the client of a call.
func (c *call) host(ctx context.Context, caller string) (*host, error) {
	if caller == "" || len(caller) > maxCaller {
		return nil, fmt.Errorf("caller_name of %d bytes", len(caller))
	}
	h, err := c.s.hostOf(ctx, hostKey{c.p.Addr().Addr(), caller})
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.vers = c.vers
	if l := c.p.Local(); l.IsValid() {
		h.local = l
	}
	return h, nil
}

func (s *Server) hostOf(ctx context.Context, k hostKey) (*host, error) {
	for {
		s.mu.Lock()
		h := s.hosts[k]
		if h == nil && len(s.hosts) >= maxHosts {
			s.mu.Unlock()
			return nil, fmt.Errorf("more than %d clients of NLM", maxHosts)
		}
		if h == nil {
			client, eff := s.down.State().PermanentClient(k.owner(), "nlm")
			h = &host{key: k, client: client, gone: make(chan struct{}), vers: nlm.V4, files: map[fileKey]*entry{}, waits: map[waitKey]*wait{}}
			s.hosts[k] = h
			s.mu.Unlock()
			s.down.RunEffects(eff)
			return h, nil
		}
		s.mu.Unlock()
		h.mu.Lock()
		leaving := h.leaving
		h.mu.Unlock()
		if !leaving {
			return h, nil
		}
		select {
		case <-h.gone:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// monitor makes durable that the client is to be told when we reboot, before it is granted anything.
func (s *Server) monitor(ctx context.Context, h *host, st int32) error {
	h.mu.Lock()
	if h.recorded && h.state == st {
		h.mu.Unlock()
		return nil
	}
	r := &journal.Monitor{Host: h.key.String(), Addr: h.key.addr.String(), MyName: s.cfg.Name, Prog: nlm.Program, Vers: h.vers, State: st, Since: time.Now()}
	if h.local.IsValid() {
		r.Priv = h.local.As16()
	}
	h.mu.Unlock()
	b := new(journal.Batch)
	b.PutMonitor(r)
	if err := s.down.Commit(ctx, b); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.recorded, h.state = true, st
	return nil
}

// rebooted gives back all state of the client at an address that calls itself so: it has lost its locks. st is its
// monitor's new state; news that came before, or that its new locks came after, changes nothing.
func (s *Server) rebooted(ctx context.Context, addr netip.Addr, name string, st int32, freeAll bool) {
	s.mu.Lock()
	var list []*host
	for k, h := range s.hosts {
		if k.addr == addr && sameName(k.name, name) {
			list = append(list, h)
		}
	}
	s.mu.Unlock()
	for _, h := range list {
		h.mu.Lock()
		known := !freeAll && st != 0 && (h.notified == st || h.state == st && st&1 == 1 && h.state != 0)
		if !known {
			h.notified = st
		}
		if known || h.leaving {
			h.mu.Unlock()
			continue
		}
		h.leaving = true
		waits := make([]*wait, 0, len(h.waits))
		for _, w := range h.waits {
			waits = append(waits, w)
		}
		clear(h.waits)
		h.mu.Unlock()
		for _, w := range waits {
			close(w.done)
		}
		s.log.Info("an NFSv3 client rebooted: its locks are given back", "client", h.key, "state", st)
		s.down.Event(&journal.Event{Type: "client", Client: h.key.owner(), Result: "rebooted", Text: fmt.Sprintf("state %d", st)})
		s.down.RunEffects(s.down.State().ReleaseClient(h.client))
		b := new(journal.Batch)
		b.DeleteMonitor(h.key.String())
		if err := s.down.Commit(ctx, b); err != nil {
			s.log.Error("journal", "err", err)
		}
		s.mu.Lock()
		delete(s.hosts, h.key)
		s.mu.Unlock()
		close(h.gone)
	}
}

// sameName compares two names of a host: a status monitor may say it with a domain, or without.
func sameName(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	sa, _, fa := strings.Cut(a, ".")
	sb, _, fb := strings.Cut(b, ".")
	return fa != fb && strings.EqualFold(sa, sb)
}

// file is the file of a request.
func (c *call) file(ctx context.Context, fh string) (*nfsdown.File, error) {
	f, err := c.p.Scope(&c.in.Cred).File(ctx, fs.Handle(fh))
	if err != nil {
		return nil, err
	}
	a, err := f.Backend.GetAttr(ctx, f.Cred, f.Inner)
	if err == nil && a.Type != fs.Regular {
		err = fs.E("LOCK", fs.Inval, fmt.Errorf("the file is no regular file"))
	}
	return f, err
}

// fileKey names an entry: an owner's bytes on a file.
type fileKey struct {
	owner string
	file  fs.Handle
}

// An entry is what an owner has on a file: its synthetic open, and the locks under it.
type entry struct {
	turn  chan struct{} // of one: who is in it may use what follows
	users int           // guarded by host.mu

	opened  bool
	open    nfs4.Stateid
	access  fs.Share
	lock    nfs4.Stateid
	locked  bool
	have    fs.RangeSet
	waiting int  // waits; they go with the open
	late    bool // it is to be tidied when grace is over
}

// take takes the turn of an entry, which it makes if there is none.
func (h *host) take(ctx context.Context, k fileKey) (*entry, error) {
	h.mu.Lock()
	e := h.files[k]
	if e == nil {
		e = &entry{turn: make(chan struct{}, 1)}
		h.files[k] = e
	}
	e.users++
	h.mu.Unlock()
	select {
	case e.turn <- struct{}{}:
		return e, nil
	case <-ctx.Done():
		h.mu.Lock()
		e.users--
		h.mu.Unlock()
		return nil, context.Cause(ctx)
	}
}

// give ends take. An entry without anything is forgotten.
func (h *host) give(k fileKey, e *entry) {
	empty := !e.opened && e.waiting == 0
	h.mu.Lock()
	e.users--
	if e.users == 0 && empty {
		delete(h.files, k)
	}
	h.mu.Unlock()
	<-e.turn
}

// lost forgets what was revoked.
func (e *entry) lost() {
	e.opened, e.locked, e.access, e.have = false, false, 0, nil
}
