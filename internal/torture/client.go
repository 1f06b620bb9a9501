package torture

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/internal/faultnet"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/internal/torture/judge"
	"holdfast/nfsup"
)

var cred = &rpc.Cred{Flavor: rpc.AUTH_SYS, Machine: "torture"}

func upOwner(kind, name string) nfsup.UpOwner { return sha256.Sum256([]byte(kind + " " + name)) }

// A client is an end client with its workers. It can die, and comes back under a new verifier.
type client struct {
	w    *world
	name string
	link *faultnet.Link
	path []string // what it needs: its link, its server, that one's link, the origin

	// life is held for reading by workers in a step, and for writing by whoever ends a life.
	life  sync.RWMutex
	up    *nfsup.Client // guarded by life; nil while dead
	dir   nfs4.FH       // guarded by life
	files map[string]nfs4.FH
	lives uint64
	// mortal says that it may be told that another took its place.
	mortal bool
	gone   chan struct{} // guarded by life; closed at the beginning of the end of a life

	mu     sync.Mutex
	owners map[nfsup.UpOwner]*owner // lock-owners and open-owners; guarded by mu
	open   []judge.Op               // guarded by mu; without an answer when the life ended
}

// An owner is a lock-owner (and its open-owner), and what it believes to hold.
type owner struct {
	name       string
	lock, open nfsup.UpOwner

	mu      sync.Mutex
	held    map[string]hold // by cell; guarded by mu
	revoked int             // counts losses; guarded by mu
	closing bool            // its CLOSE is on its way; guarded by mu
	// unlocking is the cells of a LOCKU on its way: losing them is as good. Guarded by mu.
	unlocking map[string]bool
}

type hold struct {
	mode uint8
	// unsure says that the last open has no answer, or was lost at once: what is held is not known.
	unsure bool
	call   time.Duration // when its first grant was asked for
}

func (w *world) newClient(name, server string, path ...string) (*client, error) {
	l, err := faultnet.Listen(server)
	if err != nil {
		return nil, err
	}
	c := &client{w: w, name: name, link: l, path: append([]string{"link " + name}, path...), owners: map[nfsup.UpOwner]*owner{}, files: map[string]nfs4.FH{}}
	w.links["link "+name] = l
	return c, nil
}

func (c *client) newOwner(name string) *owner {
	o := &owner{name: c.name + "." + name, held: map[string]hold{}}
	o.lock, o.open = upOwner("lock", o.name), upOwner("open", o.name)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owners[o.lock], c.owners[o.open] = o, o
	return o
}

// connect begins a life. The caller holds life, for writing. When it returns the server has let go of all
// that the life before had.
func (c *client) connect(ctx context.Context) error {
	c.lives++
	var verifier [8]byte
	binary.BigEndian.PutUint64(verifier[:], c.lives)
	for {
		try, stop := context.WithTimeout(ctx, 20*time.Second)
		up, err := nfsup.Dial(try, nfsup.Config{
			Addr: c.link.Addr(), OwnerID: []byte("torture " + c.name), Verifier: verifier, Cred: cred, ConnectTime: 2 * time.Second,
			Events: nfsup.Events{Revoked: c.revoked, Dead: c.dead},
		})
		stop()
		if err == nil {
			c.up = up
			break
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s cannot connect: %w", c.name, err)
		}
	}
	c.gone = make(chan struct{})
	c.end()
	return nil
}

func (c *client) dead(err error) {
	if !c.mortal {
		c.w.violated("%s is dead: %v", c.name, err)
	}
}

// end notes that the life before has nothing any more.
func (c *client) end() {
	now := c.w.since()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, op := range c.open {
		op.Return = int64(now)
		c.w.history.add(op)
	}
	c.open = nil
	for _, o := range c.owners {
		o.mu.Lock()
		for cell, h := range o.held {
			c.w.history.add(judge.Op{Cell: cell, Owner: o.name, Kind: judge.Loss, Call: int64(h.call), Return: int64(now)})
			delete(o.held, cell)
		}
		o.mu.Unlock()
	}
}

// die ends a life and begins another after a while. All that it had is lost: nobody reclaims.
func (c *client) die(ctx context.Context, absent time.Duration) error {
	c.life.RLock()
	up, gone := c.up, c.gone
	c.life.RUnlock()
	close(gone)
	up.Abandon()
	c.life.Lock()
	defer c.life.Unlock()
	select {
	case <-time.After(absent):
	case <-ctx.Done():
	}
	// The next life begins however short the time: who has none cannot work in what follows.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), c.w.settleLimit())
	defer stop()
	return c.connect(ctx)
}

// lookup finds the files of a round. The caller holds life.
func (c *client) lookup(ctx context.Context, names []string) error {
	ops := []nfs4.Args{&nfs4.PutrootfhArgs{}, &nfs4.LookupArgs{Name: "data"}, &nfs4.GetfhArgs{}}
	if err := c.retry(ctx, func(ctx context.Context) error {
		return c.up.CompoundAll(ctx, cred, ops, func(res []nfs4.Res) error {
			if r, ok := res[len(res)-1].(*nfs4.GetfhRes); ok {
				c.dir = r.FH
			}
			return nil
		})
	}); err != nil {
		return err
	}
	c.files = map[string]nfs4.FH{}
	for _, name := range names {
		ops := []nfs4.Args{&nfs4.PutfhArgs{FH: c.dir}, &nfs4.LookupArgs{Name: name}, &nfs4.GetfhArgs{}}
		if err := c.retry(ctx, func(ctx context.Context) error {
			return c.up.CompoundAll(ctx, cred, ops, func(res []nfs4.Res) error {
				if r, ok := res[len(res)-1].(*nfs4.GetfhRes); ok {
					c.files[name] = r.FH
				}
				return nil
			})
		}); err != nil {
			return err
		}
	}
	return nil
}

// retry repeats what has no effect until it succeeds.
func (c *client) retry(ctx context.Context, f func(context.Context) error) error {
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
}

// revoked is told by the client when it learns of a loss.
func (c *client) revoked(r nfsup.Revocation) {
	now := c.w.since()
	who := r.LockOwner
	if r.Kind == nfsup.KindOpen {
		who = r.OpenOwner
	}
	c.mu.Lock()
	o := c.owners[who]
	c.mu.Unlock()
	if o == nil {
		return
	}
	file := ""
	c.w.mu.Lock()
	file = c.w.byFH[c.name+string(r.FH)]
	c.w.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.revoked++
	lose := func(cell string) {
		h, ok := o.held[cell]
		if !ok {
			return
		}
		delete(o.held, cell)
		c.w.history.add(judge.Op{Cell: cell, Owner: o.name, Kind: judge.Loss, Call: int64(h.call), Return: int64(now)})
		if !o.closing && !o.unlocking[cell] { // else a CLOSE that was done on a session that was lost then, and sent again
			c.w.lost(c, o, cell, h, now, r.Why)
		}
	}
	if r.Kind == nfsup.KindOpen {
		lose(file)
		return
	}
	for _, h := range r.Ranges {
		for i := h.Range.First / cellSize; i <= min(h.Range.Last/cellSize, cells-1); i++ {
			lose(cellOf(file, int(i)))
		}
	}
}

// unanswered notes operations whose answer did not come: they may have been done, until the next life.
func (c *client) unanswered(ops ...judge.Op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, op := range ops {
		op.Maybe = true
		c.open = append(c.open, op)
	}
}

// refused tells that the server has certainly not done what it was asked for.
func refused(err error) bool {
	var s *nfsup.StatusError
	return errors.As(err, &s) && !s.Uncertain || errors.Is(err, nfsup.ErrNoState)
}
