package nfsdown

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// Requests of a session run side by side; a retry of one that runs gets DELAY, and the end of the client's
// incarnation interrupts it.
func TestSlowRequestStopsNothingElse(t *testing.T) {
	var gate sync.Mutex
	var block bool
	entered, ended := make(chan struct{}), make(chan error, 1)
	w := newWorld(t, nil)
	w.stop()
	w.fs.Hook = func(ctx context.Context, op string) error {
		gate.Lock()
		b := block && op == "Read"
		gate.Unlock()
		if b {
			close(entered)
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}
		return nil
	}
	w.boot()
	p := w.client("alice")
	fh := p.mkfile("f", []byte("data"))
	gate.Lock()
	block = true
	gate.Unlock()
	slot := func(n, seq uint32) *nfs4.SequenceArgs {
		return &nfs4.SequenceArgs{SessionID: p.sess, SequenceID: seq, SlotID: n, HighestSlotID: n}
	}
	slow := func() []nfs4.Args { return []nfs4.Args{slot(1, 1), put(fh), &nfs4.ReadArgs{Count: 4}} }
	first := make(chan nfs4.Status, 1)
	go func() {
		st, _, err := p.raw(slow()...)
		if err != nil {
			t.Error(err)
		}
		first <- st
	}()
	<-entered
	gate.Lock()
	block = false
	gate.Unlock()
	if st, _ := p.must(slow()...); st != nfs4.NFS4ERR_DELAY {
		t.Errorf("a retry of a request that runs: %v", st)
	}
	p.ok(put(fh), &nfs4.GetattrArgs{Request: attrs41.AndNot(writeOnly)}, &nfs4.ReadArgs{Count: 4})
	if st, _ := p.must(&nfs4.DestroySessionArgs{SessionID: p.sess}); st != nfs4.NFS4ERR_DELAY {
		t.Errorf("DESTROY_SESSION while a request runs: %v", st)
	}
	// The client restarts: what its last incarnation runs is interrupted, then the new one is confirmed.
	q := w.dial("alice")
	q.verf = 2
	_, list := q.must(&nfs4.ExchangeIDArgs{Owner: nfs4.ClientOwner{Verifier: nfs4.Verifier{q.verf}, ID: q.owner}})
	r := list[0].(*nfs4.ExchangeIDRes)
	create := &nfs4.CreateSessionArgs{ClientID: r.ClientID, Sequence: r.SequenceID,
		ForeChan: nfs4.ChannelAttrs{MaxRequestSize: 9000, MaxResponseSize: 9000, MaxOperations: 9, MaxRequests: 1}}
	if st, _ := q.must(create); st != nfs4.NFS4ERR_DELAY {
		t.Errorf("CREATE_SESSION while the old incarnation runs: %v", st)
	}
	<-ended
	if st := <-first; st != nfs4.NFS4ERR_DELAY {
		t.Errorf("the interrupted request: %v", st)
	}
	eventually(t, "the new incarnation is confirmed", func() bool { st, _ := q.must(create); return st == nfs4.NFS4_OK })
}

// I1: whatever many clients do at once, what the server granted is what the backend holds, and no two hold
// conflicting locks.
func TestManyClientsLockAtOnce(t *testing.T) {
	w := newDurableWorld(t, nil)
	const clients, rounds, width = 6, 60, 8
	var mu sync.Mutex
	var owners [width]string // who holds a byte for writing, as the clients believe
	var wg sync.WaitGroup
	for i := range clients {
		name := fmt.Sprintf("client-%d", i)
		p := w.client(name)
		rnd := rand.New(rand.NewPCG(1, uint64(i)))
		wg.Go(func() {
			fh, open := p.open("o", "f")
			var lock nfs4.Stateid
			for range rounds {
				b := uint64(rnd.IntN(width))
				a := lockArgs(open, "l", nfs4.WRITE_LT, b, 1)
				if rnd.IntN(3) == 0 {
					a.LockType = nfs4.WRITEW_LT
				}
				st, list := p.do(put(fh), a)
				switch st {
				case nfs4.NFS4_OK:
				case nfs4.NFS4ERR_DENIED, nfs4.NFS4ERR_DELAY:
					continue
				default:
					t.Errorf("LOCK: %v", st)
					return
				}
				lock = last[*nfs4.LockRes](list).LockStateid
				mu.Lock()
				if o := owners[b]; o != "" && o != name {
					t.Errorf("byte %d is %s's and %s's", b, o, name)
				}
				owners[b] = name
				mu.Unlock()
				if rnd.IntN(2) == 0 {
					mu.Lock()
					owners[b] = ""
					mu.Unlock()
					p.ok(put(fh), &nfs4.LockuArgs{LockType: nfs4.WRITE_LT, LockStateid: nfs4.Stateid{Other: lock.Other}, Offset: b, Length: 1})
				}
			}
			mine := fs.RangeSet(nil)
			mu.Lock()
			for b, o := range owners {
				if o == name {
					mine = mine.With(fs.Range{First: uint64(b), Last: uint64(b)}, fs.WriteLock)
				}
			}
			mu.Unlock()
			if held := w.fs.Held(fsOwner(name, "l"), backendHandle(t, fh)); !held.Equal(mine) {
				t.Errorf("%s believes in %v, the backend holds %v", name, mine, held)
			}
			p.ok(put(fh), &nfs4.CloseArgs{OpenStateid: nfs4.Stateid{Other: open.Other}})
			mu.Lock()
			for b, o := range owners {
				if o == name {
					owners[b] = ""
				}
			}
			mu.Unlock()
		})
	}
	wg.Wait()
	if w.fs.Opens() != 0 {
		t.Errorf("%d opens are left", w.fs.Opens())
	}
	if n := len(w.srv.Locks()); n != 0 {
		t.Errorf("%d locks are left", n)
	}
}
