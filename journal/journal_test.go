package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/fs"
	"holdfast/internal/clock"
)

func mustOpen(t testing.TB, dir string) (*Journal, *Report) {
	t.Helper()
	return mustOpenWith(t, dir, Options{})
}

func mustOpenWith(t testing.TB, dir string, o Options) (*Journal, *Report) {
	t.Helper()
	j, r, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j, r
}

// reboot closes and opens again.
func reboot(t testing.TB, j *Journal) (*Journal, *Report) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return mustOpenWith(t, j.dir, j.o)
}

func mustCommit(t testing.TB, j *Journal, fill func(b *Batch)) {
	t.Helper()
	b := new(Batch)
	fill(b)
	if err := j.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func mustLoad(t testing.TB, j *Journal) *Snapshot {
	t.Helper()
	s, err := j.Load()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func alice(n int) fs.Owner { return fs.Owner{Client: "alice", Owner: fmt.Sprint("owner ", n)} }

func lockOf(o fs.Owner, file string, epoch uint32) *Lock {
	return &Lock{
		Owner: o, OpenOwner: fs.Owner{Client: o.Client, Owner: "open"}, File: fs.Handle(file), Epoch: epoch, Since: since,
		Ranges: fs.RangeSet{{Range: fs.Range{First: 0, Last: 9}, Type: fs.WriteLock}},
	}
}

func wantReport(t testing.TB, r *Report, state State, complete bool) {
	t.Helper()
	if r.State != state || r.Complete != complete {
		t.Errorf("report is %v, complete %t; want %v, %t\n%s", r.State, r.Complete, state, complete, r)
	}
}

func TestEmptyJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "journal")
	j, r := mustOpen(t, dir)
	if !r.New || j.Epoch() != 1 || r.Epoch != 1 {
		t.Errorf("new %t, epoch %d", r.New, j.Epoch())
	}
	wantReport(t, r, Intact, true)
	want := &Snapshot{Epoch: 1, Complete: true, Whole: true}
	if d := cmp.Diff(want, mustLoad(t, j)); d != "" {
		t.Error(d)
	}
	for n := uint32(2); n < 5; n++ {
		j, r = reboot(t, j)
		wantReport(t, r, Intact, true)
		if j.Epoch() != n || r.New {
			t.Errorf("epoch %d, want %d; new %t", j.Epoch(), n, r.New)
		}
	}
}

func TestAllRecordsComeBack(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir())
	mustCommit(t, j, func(b *Batch) {
		b.PutClient(&Client{Owner: "gone", Epoch: 1})
		b.PutHandle(&HandleMap{Digest: [16]byte{1}, Upstream: []byte("long"), FSID: fs.FSID{Major: 1}, FileID: 2})
		b.PutUpState(&UpState{Name: "u", Kind: LockState, File: []byte("f"), Ranges: fs.RangeSet{{Type: fs.ReadLock}}})
		b.PutMonitor(&Monitor{Host: "old"})
	})
	want := &Snapshot{Epoch: 2, Complete: true, Whole: true}
	mustCommit(t, j, func(b *Batch) {
		b.DeleteClient("gone")
		b.DeleteUpState("u", LockState, [32]byte{}, []byte("f"))
		b.DeleteMonitor("old")
		for _, r := range samples() {
			switch r := r.(type) {
			case *Client:
				r.Expired, r.CompleteEpoch = false, 0
				b.PutClient(r)
				want.Clients = append(want.Clients, *r)
			case *OpenRecord:
				b.PutOpen(r)
				want.Opens = append(want.Opens, *r)
			case *Lock:
				r.File += fs.Handle(r.OpenOwner.Client)
				b.PutLock(r)
				want.Locks = append(want.Locks, *r)
			case *Upstream:
				b.PutUpstream(r)
				want.Upstreams = append(want.Upstreams, *r)
			case *UpState:
				b.PutUpState(r)
				want.UpStates = append(want.UpStates, *r)
			case *Monitor:
				b.PutMonitor(r)
				want.Monitors = append(want.Monitors, *r)
			}
		}
	})
	j, r := reboot(t, j)
	wantReport(t, r, Intact, true)
	sorted := cmpopts.SortSlices(func(a, b OpenRecord) bool { return a.File < b.File })
	if d := cmp.Diff(want, mustLoad(t, j), sorted); d != "" {
		t.Error(d)
	}
	h, ok, err := j.Handle([16]byte{1})
	if err != nil || !ok || string(h.Upstream) != "long" || h.FileID != 2 {
		t.Errorf("handle: %v, %t, %v", h, ok, err)
	}
	if _, ok, err := j.Handle([16]byte{2}); ok || err != nil {
		t.Errorf("a handle that was never put: %t, %v", ok, err)
	}
}

func TestLaterChangesWin(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir())
	o := alice(1)
	mustCommit(t, j, func(b *Batch) {
		b.PutLock(lockOf(o, "f", 1))
		b.DeleteLock(o, "f")
		b.PutLock(lockOf(o, "g", 1))
		empty := lockOf(o, "g", 1)
		empty.Ranges = nil
		b.PutLock(empty)
		b.DeleteOpen(o, "never was")
		b.PutOpen(&OpenRecord{Owner: o, File: "f", Epoch: 1, UID: 1})
		b.PutOpen(&OpenRecord{Owner: o, File: "f", Epoch: 1, UID: 2})
	})
	j, r := reboot(t, j)
	wantReport(t, r, Intact, true)
	if s := mustLoad(t, j); len(s.Locks) != 0 || len(s.Opens) != 1 || s.Opens[0].UID != 2 || r.Records != 1 {
		t.Errorf("%+v, %d records", s, r.Records)
	}
}

func TestVoidRules(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir)
	for range 4 {
		j, _ = reboot(t, j) // to epoch 5
	}
	at := func(client string, epoch uint32) {
		mustCommit(t, j, func(b *Batch) {
			o := fs.Owner{Client: client, Owner: "o"}
			b.PutOpen(&OpenRecord{Owner: o, File: fs.Handle(fmt.Sprint("file ", epoch)), Epoch: epoch})
			b.PutLock(lockOf(o, fmt.Sprint("file ", epoch), epoch))
		})
	}
	client := func(c Client) { mustCommit(t, j, func(b *Batch) { b.PutClient(&c) }) }
	client(Client{Owner: "plain", Epoch: 3})
	client(Client{Owner: "completed", Epoch: 4, CompleteEpoch: 4})
	client(Client{Owner: "expired", Epoch: 4, Expired: true})
	client(Client{Owner: "old", Epoch: 2})
	for _, c := range []string{"plain", "completed", "expired", "old", "unknown"} {
		for e := uint32(2); e <= 4; e++ {
			at(c, e)
		}
	}
	held := func(s *Snapshot) []string {
		var out []string
		for _, c := range s.Clients {
			out = append(out, c.Owner)
		}
		for _, o := range s.Opens {
			out = append(out, fmt.Sprint("open ", o.Owner.Client, " ", o.File))
		}
		for _, l := range s.Locks {
			out = append(out, fmt.Sprint("lock ", l.Owner.Client, " ", l.File))
		}
		slices.Sort(out)
		return out
	}
	want := func(clients []string, files ...string) []string {
		out := slices.Clone(clients)
		for _, f := range files {
			out = append(out, "open "+f, "lock "+f)
		}
		slices.Sort(out)
		return out
	}
	all := []string{"plain", "completed", "expired", "old"}
	before := want(all, "plain file 2", "plain file 3", "plain file 4", "completed file 4", "old file 2", "old file 3", "old file 4",
		"unknown file 2", "unknown file 3", "unknown file 4")
	if d := cmp.Diff(before, held(mustLoad(t, j))); d != "" {
		t.Errorf("before the end of grace: %s", d)
	}
	mustCommit(t, j, func(b *Batch) { b.EndGrace(3) })
	after := want([]string{"plain", "completed", "expired"}, "plain file 3", "plain file 4", "completed file 4", "old file 3", "old file 4",
		"unknown file 3", "unknown file 4")
	if d := cmp.Diff(after, held(mustLoad(t, j))); d != "" {
		t.Errorf("after the end of grace 3: %s", d)
	}
	mustCommit(t, j, func(b *Batch) { b.EndGrace(2) }) // it never goes back
	j, r := reboot(t, j)
	wantReport(t, r, Intact, true)
	s := mustLoad(t, j)
	if d := cmp.Diff(after, held(s)); d != "" || s.EndedGrace != 3 {
		t.Errorf("after a reboot, grace %d: %s", s.EndedGrace, d)
	}
	// Compaction changes nothing that can be seen, but the number of records.
	records := j.Stats().Records
	n, err := j.Compact(t.Context())
	if err != nil || n == 0 || j.Stats().Records != records-uint64(n) {
		t.Errorf("compacted %d of %d: %v, now %d", n, records, err, j.Stats().Records)
	}
	if d := cmp.Diff(after, held(mustLoad(t, j))); d != "" {
		t.Errorf("after compaction: %s", d)
	}
	if n, err := j.Compact(t.Context()); n != 0 || err != nil {
		t.Errorf("compacted %d again: %v", n, err)
	}
	j, r = reboot(t, j)
	wantReport(t, r, Intact, true)
	if d := cmp.Diff(after, held(mustLoad(t, j))); d != "" {
		t.Errorf("after compaction and reboot: %s", d)
	}
}

// A reclaim that comes between the search for void records and their deletion must survive it.
func TestCompactSparesWhatIsReclaimedMeanwhile(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir())
	mustCommit(t, j, func(b *Batch) {
		for n := range 3 * compactChunk / 2 {
			b.PutLock(lockOf(alice(n), "f", 1))
		}
		b.EndGrace(2)
	})
	var void []op
	err := j.store.view(func(v view) error {
		return scanRecords(v, func(key, value []byte, _ any) (bool, error) {
			void = append(void, op{key: bytes.Clone(key), only: recordHash(keyHash(key), value)})
			return true, nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, j, func(b *Batch) { b.PutLock(lockOf(alice(7), "f", 2)) })
	mustCommit(t, j, func(b *Batch) { b.ops = void })
	s := mustLoad(t, j)
	if len(s.Locks) != 1 || s.Locks[0].Owner != alice(7) || j.Stats().Records != 1 {
		t.Errorf("%d locks are left of %d records", len(s.Locks), j.Stats().Records)
	}
	_, r := reboot(t, j)
	wantReport(t, r, Intact, true)
}

func TestConcurrentCommitsShareGroups(t *testing.T) {
	// The first group holds the disk until all others have queued up behind it.
	const committers = 64
	hold, held := make(chan struct{}), make(chan struct{})
	var once sync.Once
	j, _ := mustOpenWith(t, t.TempDir(), Options{BeforeCommit: func(uint64) error {
		once.Do(func() { close(held); <-hold })
		return nil
	}})
	var wg sync.WaitGroup
	put := func(n int) {
		defer wg.Done()
		b := new(Batch)
		b.PutLock(lockOf(alice(n), "f", 1))
		if err := j.Commit(context.Background(), b); err != nil {
			t.Error(err)
		}
	}
	wg.Add(1 + committers)
	go put(committers)
	<-held
	for n := range committers {
		go put(n)
	}
	for queued := 0; queued < committers; {
		j.mu.Lock()
		queued = len(j.queue)
		j.mu.Unlock()
		runtime.Gosched()
	}
	close(hold)
	wg.Wait()
	if s := j.Stats(); s.Commits != 2 || s.Batches != committers+1 || s.Records != committers+1 {
		t.Errorf("%d batches in %d groups, %d records", s.Batches, s.Commits, s.Records)
	}
}

func TestOrderOfCommitAndPost(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir())
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			o := alice(w)
			for n := range 60 {
				b := new(Batch)
				r := lockOf(o, "f", 1)
				r.Ranges[0].Range.Last = uint64(n)
				b.PutLock(r)
				if err := j.Post(b); err != nil {
					t.Error(err)
				}
				d := new(Batch)
				d.DeleteLock(o, "f")
				if err := j.Post(d); err != nil {
					t.Error(err)
				}
				b = new(Batch)
				r.Ranges[0].Range.Last = uint64(1000 + n)
				b.PutLock(r)
				if n%3 == 0 {
					if err := j.Commit(context.Background(), b); err != nil {
						t.Error(err)
					}
				} else if err := j.Post(b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := j.Commit(t.Context(), new(Batch)); err != nil { // waits for all before
		t.Fatal(err)
	}
	s := mustLoad(t, j)
	if len(s.Locks) != 8 {
		t.Fatalf("%d locks", len(s.Locks))
	}
	for _, l := range s.Locks {
		if l.Ranges[0].Range.Last != 1059 {
			t.Errorf("%v ends with %v", l.Owner, l.Ranges)
		}
	}
	_, r := reboot(t, j)
	wantReport(t, r, Intact, true)
}

func TestPostBecomesDurableByItself(t *testing.T) {
	c := clock.NewFake(since)
	committed := make(chan uint64, 10)
	j, _ := mustOpenWith(t, t.TempDir(), Options{Clock: c, BeforeCommit: func(seq uint64) error { committed <- seq; return nil }})
	b := new(Batch)
	b.PutClient(&Client{Owner: "c", Epoch: 1})
	if err := j.Post(b); err != nil {
		t.Fatal(err)
	}
	c.Advance(postDelay - 1)
	select {
	case <-committed:
		t.Error("it did not wait for company")
	default:
	}
	c.Advance(1)
	<-committed
}

func TestCloseMakesPostedBatchesDurable(t *testing.T) {
	j, _ := mustOpenWith(t, t.TempDir(), Options{Clock: clock.NewFake(since)})
	b := new(Batch)
	b.PutClient(&Client{Owner: "c", Epoch: 1})
	if err := j.Post(b); err != nil {
		t.Fatal(err)
	}
	j2, _ := reboot(t, j)
	if s := mustLoad(t, j2); len(s.Clients) != 1 {
		t.Error("the posted client is lost")
	}
	if err := j.Commit(t.Context(), new(Batch)); !errors.Is(err, ErrClosed) {
		t.Errorf("commit after close: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestCommitEndsWithItsContext(t *testing.T) {
	hold := make(chan struct{})
	entered := make(chan struct{}, 10)
	j, _ := mustOpenWith(t, t.TempDir(), Options{BeforeCommit: func(uint64) error { entered <- struct{}{}; <-hold; return nil }})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("lease over")
	done := make(chan error)
	go func() {
		b := new(Batch)
		b.EndGrace(1)
		done <- j.Commit(ctx, b)
	}()
	<-entered
	cancel(why)
	if err := <-done; !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	close(hold)
}

func TestFailedCommitIsTheEnd(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
		t.Run(cause.Error(), func(t *testing.T) {
			var fail bool
			dir := t.TempDir()
			j, _ := mustOpenWith(t, dir, Options{BeforeCommit: func(uint64) error {
				if fail {
					return cause
				}
				return nil
			}})
			mustCommit(t, j, func(b *Batch) { b.PutLock(lockOf(alice(1), "f", 1)) })
			select {
			case <-j.Failed():
				t.Fatal("failed already")
			default:
			}
			fail = true
			var failed *FailedError
			b := new(Batch)
			b.PutLock(lockOf(alice(2), "f", 1))
			if err := j.Commit(t.Context(), b); !errors.Is(err, cause) || !errors.As(err, &failed) {
				t.Errorf("got %v", err)
			}
			<-j.Failed()
			if !errors.Is(j.Err(), cause) {
				t.Errorf("Err is %v", j.Err())
			}
			fail = false
			if err := j.Commit(t.Context(), new(Batch)); !errors.Is(err, cause) {
				t.Errorf("a commit after the failure: %v", err)
			}
			b = new(Batch)
			b.EndGrace(1)
			if err := j.Post(b); !errors.Is(err, cause) {
				t.Errorf("a post after the failure: %v", err)
			}
			if s := mustLoad(t, j); len(s.Locks) != 1 {
				t.Error("reading does not go on")
			}
			if err := j.Close(); !errors.Is(err, cause) {
				t.Errorf("close: %v", err)
			}
			j, r := mustOpen(t, dir)
			wantReport(t, r, Intact, true)
			if s := mustLoad(t, j); len(s.Locks) < 1 {
				t.Error("the acknowledged lock is lost")
			}
		})
	}
}

func TestNearlyFullDiskFailsInTime(t *testing.T) {
	j, _ := mustOpenWith(t, t.TempDir(), Options{MinFree: 1 << 62})
	b := new(Batch)
	b.EndGrace(1)
	if err := j.Commit(t.Context(), b); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
}

func TestBatchLimits(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir())
	b := new(Batch)
	for n := range maxBatchOps + 1 {
		b.DeleteLock(alice(n), "f")
	}
	if err := j.Commit(t.Context(), b); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if err := j.Post(b); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	b = new(Batch)
	b.PutClient(&Client{Owner: "c"})
	if err := j.Commit(t.Context(), b); !errors.Is(err, errNoEpoch) {
		t.Errorf("got %v", err)
	}
	// The largest of both kinds fit.
	mustCommit(t, j, func(b *Batch) {
		for n := range maxBatchOps {
			b.PutClient(&Client{Owner: fmt.Sprint(n), Epoch: 1})
		}
	})
	mustCommit(t, j, func(b *Batch) {
		for n := 0; b.size < maxBatchBytes-2000; n++ {
			b.AddEvent(&Event{Type: "x", Text: strings.Repeat("y", 1000)})
		}
	})
	big := lockOf(alice(1), "f", 1)
	big.Ranges = nil
	for n := range 60_000 {
		at := uint64(n) << 20
		big.Ranges = append(big.Ranges, fs.Lock{Range: fs.Range{First: at, Last: at + 1<<14}, Type: fs.ReadLock})
	}
	mustCommit(t, j, func(b *Batch) { b.PutLock(big) })
	j, r := reboot(t, j)
	wantReport(t, r, Intact, true)
	if s := mustLoad(t, j); !s.Locks[0].Ranges.Equal(big.Ranges) || len(s.Clients) != maxBatchOps {
		t.Error("the large records did not come back")
	}
}

func TestSingleWriter(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir)
	var inUse *InUseError
	for name, open := range map[string]func() error{
		"Open":         func() error { _, _, err := Open(dir, Options{}); return err },
		"OpenReadOnly": func() error { _, _, err := OpenReadOnly(dir); return err },
		"Verify":       func() error { _, err := Verify(dir); return err },
		"Restore":      func() error { return Restore(dir, new(bytes.Buffer)) },
	} {
		if err := open(); !errors.As(err, &inUse) || inUse.PID != os.Getpid() || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s beside a writer: %v", name, err)
		}
	}
	j.Close()
	a, _, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := OpenReadOnly(dir)
	if err != nil {
		t.Errorf("two readers: %v", err)
	} else {
		b.Close()
	}
	if _, _, err := Open(dir, Options{}); !errors.As(err, &inUse) {
		t.Errorf("a writer beside a reader: %v", err)
	}
	a.Close()
	mustOpen(t, dir)
}

func TestNewerLayoutIsRefused(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir)
	j.Close()
	if err := os.WriteFile(filepath.Join(dir, markName), mark{layout: layoutVersion + 1, seq: 1, epoch: 1}.encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	before := contents(t, dir)
	var version *VersionError
	if _, _, err := Open(dir, Options{}); !errors.As(err, &version) || version.Found != layoutVersion+1 {
		t.Errorf("Open: %v", err)
	}
	if _, err := Verify(dir); !errors.As(err, &version) {
		t.Errorf("Verify: %v", err)
	}
	if d := cmp.Diff(before, contents(t, dir)); d != "" {
		t.Errorf("it was changed: %s", d)
	}
}

// contents are the hashes of all files.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d iofs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = fmt.Sprintf("%d %x", len(b), keyHash(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPermissions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j, _ := mustOpen(t, dir)
	check := func() {
		t.Helper()
		err := filepath.WalkDir(dir, func(path string, d iofs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	check()
	mustCommit(t, j, func(b *Batch) { b.PutClient(&Client{Owner: "c", Epoch: 1}) })
	j.Close()
	check()
}

func TestEvents(t *testing.T) {
	c := clock.NewFake(since)
	j, _ := mustOpenWith(t, t.TempDir(), Options{Clock: c, MaxEvents: 600})
	for n := 0; n < 500; n += 10 {
		mustCommit(t, j, func(b *Batch) {
			for i := range 10 {
				b.AddEvent(&Event{Type: []string{"lock", "grace"}[i%2], Text: fmt.Sprint(n + i + 1)})
			}
		})
	}
	read := func(j *Journal, from uint64, filter func(*Event) bool) []uint64 {
		var out []uint64
		for e, err := range j.Events(from, filter) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Text != fmt.Sprint(e.Seq) || !e.Time.Equal(since) || e.Epoch != 1 {
				t.Errorf("event %+v", e)
			}
			out = append(out, e.Seq)
		}
		return out
	}
	if got := read(j, 0, nil); len(got) != 500 || got[0] != 1 || got[499] != 500 || !slices.IsSorted(got) {
		t.Errorf("%d events", len(got))
	}
	if got := read(j, 491, func(e *Event) bool { return e.Type == "grace" }); !slices.Equal(got, []uint64{492, 494, 496, 498, 500}) {
		t.Errorf("filtered: %v", got)
	}
	for n := 500; n < 1000; n++ {
		b := new(Batch)
		b.AddEvent(&Event{Text: fmt.Sprint(n + 1)})
		if err := j.Post(b); err != nil {
			t.Fatal(err)
		}
	}
	j, r := reboot(t, j)
	wantReport(t, r, Intact, true)
	if got := read(j, 0, nil); len(got) != 600 || got[0] != 401 || got[599] != 1000 {
		t.Errorf("%d events are left, from %d", len(got), got[0])
	}
	if j.LastEvent() != 1000 || j.Stats().Events != 600 {
		t.Errorf("last %d, %+v", j.LastEvent(), j.Stats())
	}
	for e := range j.Events(401, nil) {
		if e.Seq != 401 {
			t.Error("wrong first")
		}
		break
	}
}

func TestFollow(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir())
	put := func(n int) {
		mustCommit(t, j, func(b *Batch) { b.AddEvent(&Event{Text: fmt.Sprint(n)}) })
	}
	put(1)
	ctx, cancel := context.WithCancelCause(t.Context())
	got := make(chan uint64)
	ended := make(chan error, 1)
	go func() {
		for e, err := range j.Follow(ctx, 1) {
			if err != nil {
				ended <- err
				return
			}
			got <- e.Seq
		}
	}()
	for n := 1; n < 20; n++ {
		if seq := <-got; seq != uint64(n) {
			t.Fatalf("event %d, want %d", seq, n)
		}
		put(n + 1)
	}
	<-got
	why := errors.New("enough")
	cancel(why)
	if err := <-ended; !errors.Is(err, why) {
		t.Errorf("ended with %v", err)
	}
	go func() {
		for _, err := range j.Follow(context.Background(), 1000) {
			ended <- err
		}
	}()
	j.Close()
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("ended with %v", err)
	}
}

func TestBackupAndRestore(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir())
	mustCommit(t, j, func(b *Batch) {
		for n := range 3000 {
			b.PutLock(lockOf(alice(n), "f", 1))
		}
		b.PutHandle(&HandleMap{Digest: [16]byte{1}, Upstream: []byte("x")})
		b.AddEvent(&Event{Type: "lock"})
	})
	var backup bytes.Buffer
	if err := j.Backup(&backup); err != nil {
		t.Fatal(err)
	}
	want := mustLoad(t, j)
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Restore(full, bytes.NewReader(backup.Bytes())); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a directory that is not empty: %v", err)
	}
	if err := Restore(j.dir, bytes.NewReader(backup.Bytes())); err == nil {
		t.Error("over a running journal")
	}
	for _, bad := range [][]byte{nil, backup.Bytes()[:backup.Len()-1], backup.Bytes()[1:], backup.Bytes()[:backup.Len()/2]} {
		if err := Restore(t.TempDir(), bytes.NewReader(bad)); !errors.Is(err, errBackup) {
			t.Errorf("%d bytes of a backup: %v", len(bad), err)
		}
	}
	for at := 0; at < backup.Len(); at += 997 {
		bad := bytes.Clone(backup.Bytes())
		bad[at] ^= 1
		if err := Restore(t.TempDir(), bytes.NewReader(bad)); !errors.Is(err, errBackup) {
			t.Fatalf("a flip at byte %d: %v", at, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "new")
	if err := Restore(dir, &backup); err != nil {
		t.Fatal(err)
	}
	j2, r := mustOpen(t, dir)
	wantReport(t, r, Intact, false) // what was granted after the backup is unknown
	if j2.Epoch() <= j.Epoch()+restoreJump {
		t.Errorf("epoch %d after a restore of %d", j2.Epoch(), j.Epoch())
	}
	got := mustLoad(t, j2)
	if d := cmp.Diff(want.Locks, got.Locks); d != "" || got.Complete {
		t.Errorf("complete %t, %s", got.Complete, d)
	}
	mustCommit(t, j2, func(b *Batch) { b.EndGrace(j2.Epoch()) })
	j2, r = reboot(t, j2)
	wantReport(t, r, Intact, true)
	if s := mustLoad(t, j2); !s.Complete || len(s.Locks) != 0 {
		t.Errorf("after grace: complete %t, %d locks", s.Complete, len(s.Locks))
	}
}

func TestReadOnly(t *testing.T) {
	if _, _, err := OpenReadOnly(filepath.Join(t.TempDir(), "none")); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := Verify(t.TempDir()); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("an empty directory: %v", err)
	}
	j, _ := mustOpen(t, t.TempDir())
	mustCommit(t, j, func(b *Batch) {
		b.PutLock(lockOf(alice(1), "f", 1))
		b.PutClient(&Client{Owner: "alice", Epoch: 1})
		b.PutHandle(&HandleMap{Digest: [16]byte{1}, Upstream: []byte("x")})
		b.AddEvent(&Event{Type: "lock"})
	})
	want := mustLoad(t, j)
	want.Whole, want.Partial = false, "opened for reading only"
	j.Close()
	before := contents(t, j.dir)
	ro, r, err := OpenReadOnly(j.dir)
	if err != nil {
		t.Fatal(err)
	}
	wantReport(t, r, Intact, true)
	if d := cmp.Diff(want, mustLoad(t, ro)); d != "" || ro.Epoch() != 1 {
		t.Errorf("epoch %d: %s", ro.Epoch(), d)
	}
	n := 0
	for _, err := range ro.Events(0, nil) {
		n++
		if err != nil {
			t.Error(err)
		}
	}
	if _, ok, err := ro.Handle([16]byte{1}); n != 1 || !ok || err != nil {
		t.Errorf("%d events, handle %t, %v", n, ok, err)
	}
	if err := ro.Commit(t.Context(), new(Batch)); !errors.Is(err, ErrReadOnly) {
		t.Errorf("commit: %v", err)
	}
	if _, err := ro.Compact(t.Context()); !errors.Is(err, ErrReadOnly) {
		t.Errorf("compact: %v", err)
	}
	if err := ro.Backup(new(bytes.Buffer)); err != nil {
		t.Error(err)
	}
	if err := errors.Join(ro.Close(), ro.Close()); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff(before, contents(t, j.dir)); d != "" {
		t.Errorf("it was changed: %s", d)
	}
}
