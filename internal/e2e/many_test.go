package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/nfsup"
)

var rootCred = &rpc.Cred{Flavor: rpc.AUTH_SYS, Machine: "e2e"}

func owner(kind string, n int) nfsup.UpOwner {
	return sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, n))
}

// native is a client of our own, for numbers that a kernel in a VM would take too long for. What it
// does is proven with kernels elsewhere.
func native(t *testing.T, port int, name string, recovered func(nfsup.Recovery)) *nfsup.Client {
	t.Helper()
	c, err := nfsup.Dial(context.Background(), nfsup.Config{
		Addr: fmt.Sprintf("127.0.0.1:%d", port), OwnerID: []byte(name), Verifier: [8]byte{1}, Cred: rootCred,
		Events: nfsup.Events{Recovered: recovered},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Abandon() })
	return c
}

// dataDir finds /data.
func dataDir(t *testing.T, c *nfsup.Client) nfs4.FH {
	t.Helper()
	var fh nfs4.FH
	err := c.CompoundAll(context.Background(), rootCred, []nfs4.Args{&nfs4.PutrootfhArgs{}, &nfs4.LookupArgs{Name: "data"}, &nfs4.GetfhArgs{}},
		func(res []nfs4.Res) error { fh = res[2].(*nfs4.GetfhRes).FH; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return fh
}

// howMany is a number from the environment, or usual.
func howMany(t *testing.T, name string, usual int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestManyLocks holds many locks, kills the re-export server, and tells how long it takes until the
// first and the last of them is reclaimed. HOLDFAST_LOCKS is how many, 100,000 is the figure to quote; a
// quarter as many owners have four each.
func TestManyLocks(t *testing.T) {
	need(t)
	locks := howMany(t, "HOLDFAST_LOCKS", 10_000)
	const files, workers = 100, 64
	owners := max(locks/4, 1)
	dir := scratch(t, "export")
	for f := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(f)), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	// Grace is to outlast the reclaims on a busy machine too.
	grace := fmt.Sprint(90 * time.Second * time.Duration(1+locks/20_000))
	_, op := startOrigin(t, dir, "--lease", grace, "--grace", grace)
	serve, p := startServe(t, op, "", "--lease", "60s", "--grace", grace)
	done := make(chan nfsup.Recovery, 1)
	c := native(t, p, "many locks", func(r nfsup.Recovery) { done <- r })
	parent := dataDir(t, c)
	ctx := context.Background()

	begin := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				n := int(next.Add(1)) - 1
				if n >= locks || t.Failed() {
					return
				}
				o := n % owners
				r, err := c.Open(ctx, rootCred, &nfsup.OpenArgs{Owner: owner("open", o), Access: 3, Dir: parent, Name: fmt.Sprint(o % files)})
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				err = c.Lock(ctx, rootCred, &nfsup.LockArgs{FH: r.FH, OpenOwner: owner("open", o), LockOwner: owner("lock", o),
					Range: nfsup.Range{First: uint64(n) * 10, Last: uint64(n)*10 + 8}, Write: true})
				if err != nil {
					t.Errorf("lock: %v", err)
					return
				}
			}
		}()
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("%d opens and locks in %v", locks, time.Since(begin).Round(time.Millisecond))

	serve.kill9()
	begin = time.Now()
	serve.boot()
	ready := time.Since(begin)
	var rec nfsup.Recovery
	select {
	case rec = <-done:
	case <-time.After(15 * time.Minute):
		t.Fatal("no recovery")
	}
	t.Logf("%d locks of %d owners: kill -9; ready after %v, the first reclaim granted after %v, the last after %v (%d opens, %d locks, %d and %d lost)",
		locks, owners, ready.Round(time.Millisecond), rec.First.Sub(begin).Round(time.Millisecond), time.Since(begin).Round(time.Millisecond), rec.Opens, rec.Locks, rec.LostOpens, rec.LostLocks)
	if rec.Locks != locks || rec.LostLocks+rec.LostOpens > 0 {
		t.Errorf("reclaimed %+v, want %d locks", rec, locks)
	}
	rival := native(t, p, "rival", nil)
	for n := 0; n < locks; n += max(locks/100, 1) {
		var fh nfs4.FH
		r, err := rival.Open(ctx, rootCred, &nfsup.OpenArgs{Owner: owner("rival", 0), Access: 3, Dir: parent, Name: fmt.Sprint(n % owners % files)})
		if err == nil {
			fh = r.FH
			err = rival.Lock(ctx, rootCred, &nfsup.LockArgs{FH: fh, OpenOwner: owner("rival", 0), LockOwner: owner("rival", 1),
				Range: nfsup.Range{First: uint64(n) * 10, Last: uint64(n)*10 + 8}, Write: true})
		}
		if err == nil {
			t.Fatalf("a rival got lock %d", n)
		}
	}
}
