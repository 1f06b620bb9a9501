package state

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// tried lets a client be given delegations.
func (c *tester) tried() {
	c.ss.SetBackChannel(1)
	c.c.SetTried()
}

// delegate asks for a delegation of an open file.
func (c *tester) delegate(f fs.Handle, kind Deleg) (uint32, error) {
	p, why := c.w.srv.PrepareDelegation(context.Background(), c.c, &DelegRequest{File: f, Kind: kind, Cred: fs.Root})
	if p == nil {
		return why, errNone
	}
	return 0, c.doOpen(p)
}

var errNone = errors.New("no delegation")

func (c *tester) giveBack(f fs.Handle) error {
	return c.compound(func() error {
		sid, _, _ := c.w.srv.Delegation(c.c, f)
		p, err := c.w.srv.PrepareDelegReturn(context.Background(), c.c, sid, f)
		if err != nil {
			return err
		}
		_, eff, err := p.Settle(c.w.backend.CloseFile(context.Background(), p.Owner, p.File))
		c.w.run(eff)
		return err
	})
}

// excluded looks for a delegation beside what it excludes: RFC 8881 10.4. Live, waiting to be reclaimed, or on its way.
func (w *world) excluded() error {
	for _, f := range w.srv.files.all() {
		f.mu.Lock()
		var err error
		for _, d := range f.opens {
			if !d.isDeleg() {
				continue
			}
			server, _ := d.heldModes(true)
			kind := max(delegOf(d.access), delegOf(server))
			for _, o := range f.opens {
				if o.owner.Client == d.owner.Client {
					continue
				}
				if a, deny := o.wanted(); a != 0 && bars(kind, a, deny) {
					err = fmt.Errorf("%s is delegated to %s (%d), and %s has it open %v/%v", f.handle, d.owner.Client, kind, o.owner.Client, a, deny)
				}
			}
			for who := range f.touched {
				if who != d.owner.Client && kind != NoDeleg {
					err = fmt.Errorf("%s is delegated to %s, and is being changed by %q", f.handle, d.owner.Client, who)
				}
			}
		}
		f.mu.Unlock()
		w.srv.files.put(f)
		if err != nil {
			return err
		}
	}
	return w.checkInvariants()
}

// Whatever clients do, in any order, with opens, changes and delegations on their way, over crashes and ends of leases:
// nobody has open, or changes, what is delegated to another.
func TestDelegationStories(t *testing.T) {
	names := []string{"alice", "bob", "carol"}
	granted, recalled, revoked, reclaimed := 0, uint64(0), uint64(0), 0
	for seed := range uint64(15) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t, Config{Lease: 10 * time.Second, Grace: 10 * time.Second, Delegations: true})
		up := func(c *tester) {
			if c.connect() == nil {
				c.tried()
			}
		}
		for _, n := range names {
			up(w.client(n))
			_ = w.client(n).complete()
		}
		type flight struct {
			c *tester
			p *OpenPlan
		}
		var flights []flight
		var touches []func()
		land := func() {
			for _, f := range flights {
				_ = f.c.doOpen(f.p)
			}
			for _, done := range touches {
				done()
			}
			flights, touches = nil, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // who would wait comes again instead
		for step := range 200 {
			c, f := w.client(names[r.IntN(3)]), fs.Handle([]string{"f", "g"}[r.IntN(2)])
			owner := []string{"o", "p"}[r.IntN(2)]
			access := []fs.Share{fs.ShareRead, fs.ShareRead, fs.ShareBoth}[r.IntN(3)]
			busy := c.c.lapsed(w.now) // what it begins could be released under it, by this one goroutine
			for _, x := range flights {
				busy = busy || x.c == c // its turn is taken
			}
			switch op := r.IntN(20); {
			case op < 5 && !busy:
				if p, err := c.planOpen(ctx, owner, f, access, 0, false); err == nil && r.IntN(3) == 0 {
					flights = append(flights, flight{c, p})
				} else if err == nil {
					_ = c.doOpen(p)
				}
			case op < 10 && !busy:
				kind := []Deleg{ReadDeleg, WriteDeleg}[r.IntN(2)]
				p, _ := w.srv.PrepareDelegation(t.Context(), c.c, &DelegRequest{File: f, Kind: kind, Cred: fs.Root})
				if p == nil {
					break
				}
				granted++
				if r.IntN(3) == 0 {
					flights = append(flights, flight{c, p})
				} else {
					_ = c.doOpen(p)
				}
			case op < 12:
				if done, eff, err := w.srv.Touch(ctx, c.c, f, Touch(r.IntN(2))); err == nil {
					touches = append(touches, done)
				} else {
					w.run(eff)
				}
			case op < 14:
				_ = c.giveBack(f)
			case op < 16 && !busy:
				_ = c.close(owner, f)
			case op < 17:
				land()
			case op < 18:
				land()
				w.now = w.now.Add(time.Duration(r.IntN(12)) * time.Second)
				for _, n := range names {
					if r.IntN(4) > 0 {
						if w.client(n).compound(func() error { return nil }) != nil {
							up(w.client(n))
							_ = w.client(n).complete()
						}
					}
				}
				w.run(w.srv.Expire())
			case op < 19 && r.IntN(3) == 0:
				land()
				counts := w.srv.DelegCounts()
				recalled, revoked = recalled+counts.Recalled, revoked+counts.Revoked
				w.crash()
				for _, n := range names {
					up(w.client(n))
				}
				_ = w.client(names[r.IntN(3)]).complete() // it reclaims nothing, and may open
				for _, n := range names {                 // who has not reclaimed yet keeps others out all the same
					c := w.client(n)
					for _, f := range []fs.Handle{"f", "g"} {
						kind := []Deleg{ReadDeleg, WriteDeleg}[r.IntN(2)]
						p, eff, err := w.srv.PrepareReclaimDelegation(t.Context(), c.c, &DelegRequest{File: f, Kind: kind, Cred: fs.Root})
						w.run(eff)
						if err == nil && c.doOpen(p) == nil {
							reclaimed++
						}
						_ = w.client(names[r.IntN(3)]).open("new", f, fs.ShareRead, 0, false)
						if err := w.excluded(); err != nil {
							t.Fatalf("seed %d step %d, reclaiming: %v", seed, step, err)
						}
					}
				}
				for _, n := range names {
					_ = w.client(n).complete()
				}
				w.endGrace(true)
			}
			if err := w.excluded(); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
		}
		land()
		counts := w.srv.DelegCounts()
		recalled, revoked = recalled+counts.Recalled, revoked+counts.Revoked
	}
	t.Logf("%d granted, %d recalled, %d revoked, %d reclaimed", granted, recalled, revoked, reclaimed)
	if granted == 0 || recalled == 0 || revoked == 0 || reclaimed == 0 {
		t.Error("a story that does not tell all")
	}
}

// A client that cannot be told is asked again, until it can.
func TestRecallIsSentAgain(t *testing.T) {
	w := newWorld(t, Config{Lease: 10 * time.Second, Delegations: true})
	a, b := w.client("alice"), w.client("bob")
	for _, c := range []*tester{a, b} {
		if err := errors.Join(c.connect(), c.complete()); err != nil {
			t.Fatal(err)
		}
	}
	if why, err := a.delegate("f", ReadDeleg); err != errNone || why != nfs4.WND4_RESOURCE {
		t.Fatalf("without a back channel: %d %v", why, err)
	}
	a.tried()
	if _, err := a.delegate("f", ReadDeleg); err != errNone {
		t.Fatalf("without an open: %v", err)
	}
	if err := a.open("o", "f", fs.ShareRead, 0, false); err != nil {
		t.Fatal(err)
	}
	if _, err := a.delegate("f", ReadDeleg); err != nil {
		t.Fatal(err)
	}
	if got := word(b.open("o", "f", fs.ShareWrite, 0, false)); got != "a delegation is being recalled" && got != "DELAY" {
		t.Fatal(got)
	}
	for i := range 3 {
		if len(w.recalls) != i+1 {
			t.Fatalf("%d recalls, want %d", len(w.recalls), i+1)
		}
		w.run(w.srv.Expire()) // the call is under way
		w.recalls[i].Asked(false)
		w.now = w.now.Add(time.Second)
		w.run(w.srv.Expire())
	}
	w.recalls[3].Asked(true)
	w.run(w.srv.Expire())
	if len(w.recalls) != 4 {
		t.Errorf("%d recalls of a client that was told", len(w.recalls))
	}
	if err := a.giveBack("f"); err != nil {
		t.Fatal(err)
	}
	if err := b.open("o", "f", fs.ShareWrite, 0, false); err != nil {
		t.Fatal(err)
	}
	w.recalls[3].Asked(false) // late, and of no account
	if err := w.excluded(); err != nil {
		t.Error(err)
	}
}
