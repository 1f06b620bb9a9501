package journal

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"holdfast/fs"
	"holdfast/internal/crash"
)

var kills = flag.Int("journal.kills", 30, "how many times TestKillAtRandom kills the writer")

const (
	childEnv = "JOURNAL_TEST_CHILD" // the directory
	workers  = 6
	junk     = compactChunk + 100
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	os.Exit(m.Run())
}

// A world is what the journal says the workers hold: the number of the last step of each, and the
// step that each of its files was locked in.
type world map[int]map[string]uint64

const counter = "counter"

func worldOf(s *Snapshot) world {
	w := make(world)
	set := func(o fs.Owner, file fs.Handle, n uint64) {
		k, err := strconv.Atoi(o.Owner)
		if err != nil {
			return // junk
		}
		if w[k] == nil {
			w[k] = make(map[string]uint64)
		}
		w[k][string(file)] = n
	}
	for _, o := range s.Opens {
		set(o.Owner, o.File, uint64(o.UID))
	}
	for _, l := range s.Locks {
		set(l.Owner, l.File, l.Ranges[0].Range.Last)
	}
	return w
}

// after is what a worker holds after step n.
func after(n uint64) map[string]uint64 {
	held := make(map[string]uint64)
	if n == 0 {
		return held
	}
	held[counter] = n
	for k := n; k > 0 && k+4 > n; k-- { // the last steps on each of the four files
		if k%7 != 0 {
			held[fmt.Sprint("file ", k%4)] = k
		}
	}
	return held
}

func workerOwner(w int) fs.Owner { return fs.Owner{Client: "client", Owner: fmt.Sprint(w)} }

// put writes what a worker has: all of it, or what step n changes.
func put(b *Batch, w int, epoch uint32, held map[string]uint64, only ...string) {
	if len(only) == 0 {
		only = slices.Collect(maps.Keys(held))
	}
	for _, f := range only {
		n, ok := held[f]
		switch {
		case f == counter:
			b.PutOpen(&OpenRecord{Owner: workerOwner(w), File: counter, UID: uint32(n), Access: fs.ShareBoth, Epoch: epoch})
		case !ok:
			b.DeleteLock(workerOwner(w), fs.Handle(f))
		default:
			l := lockOf(workerOwner(w), f, epoch)
			l.Ranges[0].Range.Last = n
			b.PutLock(l)
		}
	}
}

// child boots, reclaims all, ends grace, compacts, and goes on locking until it is killed. It says
// what was acknowledged.
func child(dir string) error {
	j, r, err := Open(dir, Options{MaxEvents: 500})
	if err != nil {
		return err
	}
	if r.State > Torn || !r.Complete {
		return fmt.Errorf("the child found %s", r)
	}
	s, err := j.Load()
	if err != nil {
		return err
	}
	start := worldOf(s)
	fmt.Printf("epoch %d\n", j.Epoch())
	for w, held := range start {
		fmt.Printf("loaded %d %d\n", w, held[counter])
	}
	fmt.Println("all loaded")
	ctx := context.Background()
	var reclaimed, running sync.WaitGroup
	reclaimed.Add(workers)
	fail := make(chan error, workers+1)
	for w := range workers {
		running.Go(func() {
			held := start[w]
			n := held[counter]
			b := new(Batch)
			put(b, w, j.Epoch(), held)
			err := j.Commit(ctx, b)
			reclaimed.Done()
			for err == nil {
				n++
				held = after(n)
				b := new(Batch)
				put(b, w, j.Epoch(), held, fmt.Sprint("file ", n%4), counter)
				b.AddEvent(&Event{Type: "lock", Text: fmt.Sprint(n)})
				if n%5 == 0 { // posted, and made durable by the step that follows
					if err = j.Post(b); err != nil {
						break
					}
					continue
				}
				if err = j.Commit(ctx, b); err == nil {
					fmt.Printf("ack %d %d\n", w, n)
				}
			}
			fail <- err
		})
	}
	reclaimed.Wait()
	b := new(Batch)
	b.EndGrace(j.Epoch())
	if err := j.Commit(ctx, b); err != nil {
		return err
	}
	fmt.Println("grace")
	if _, err := j.Compact(ctx); err != nil {
		return err
	}
	b = new(Batch)
	for n := range junk { // nobody reclaims it after the next boot
		b.PutLock(lockOf(fs.Owner{Client: "junk", Owner: fmt.Sprint("junk ", n)}, "f", j.Epoch()))
	}
	if err := j.Commit(ctx, b); err != nil {
		return err
	}
	fmt.Println("ready")
	return <-fail
}

// untilReady is a number of lines for live: kill once all of child has run.
const untilReady = -1

// A life is what a child told until it died.
type life struct {
	epoch  uint32
	acked  map[int]uint64
	loaded map[int]uint64
	status syscall.WaitStatus
	killed bool // by us, not by itself
	all    bool // it said all that it loaded
	stderr string
}

// live runs a child and kills it after so many lines, unless it dies by itself.
func live(t *testing.T, dir, point string, lines int) *life {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir, crash.Env+"="+point)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l := &life{acked: make(map[int]uint64), loaded: make(map[int]uint64)}
	in := bufio.NewReader(out)
	ready := false
	for read := 0; ; read++ {
		if !l.killed && (read == lines || ready && lines == untilReady) {
			l.killed = true
			if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
		}
		text, err := in.ReadString('\n')
		if err != nil {
			break
		}
		var w int
		var n uint64
		switch {
		case strings.HasPrefix(text, "ack"):
			fmt.Sscanf(text, "ack %d %d", &w, &n)
			l.acked[w] = max(l.acked[w], n)
		case strings.HasPrefix(text, "loaded"):
			fmt.Sscanf(text, "loaded %d %d", &w, &n)
			l.loaded[w] = n
		case text == "all loaded\n":
			l.all = true
		case text == "ready\n":
			ready = true
		case strings.HasPrefix(text, "epoch"):
			fmt.Sscanf(text, "epoch %d", &l.epoch)
		}
	}
	_ = cmd.Wait()
	l.status, _ = cmd.ProcessState.Sys().(syscall.WaitStatus)
	l.stderr = stderr.String()
	return l
}

// A survivor checks one journal over many deaths.
type survivor struct {
	dir   string
	epoch uint32
	world world
}

// check looks at what a life left behind.
func (s *survivor) check(t *testing.T, l *life) {
	t.Helper()
	if l.status.Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended with %v: %s", l.status, l.stderr)
	}
	if l.epoch != 0 {
		if l.epoch <= s.epoch {
			t.Fatalf("epoch %d after %d", l.epoch, s.epoch)
		}
		s.epoch = l.epoch
		for w, held := range s.world { // what we saw without Badger is what it saw with it
			if l.all && l.loaded[w] != held[counter] {
				t.Errorf("worker %d was loaded at %d, and had been seen at %d", w, l.loaded[w], held[counter])
			}
		}
	}
	j, r, err := OpenReadOnly(s.dir)
	if errors.Is(err, os.ErrNotExist) && l.epoch == 0 && s.epoch == 0 {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if r.State > Torn || !r.Complete {
		t.Errorf("after a kill: %s", r)
	}
	now := worldOf(mustLoad(t, j))
	for w := range workers {
		n := now[w][counter]
		least := max(l.acked[w], s.world[w][counter])
		if n < least {
			t.Errorf("worker %d is at step %d, and %d was acknowledged", w, n, least)
		}
		if n > least+2 && l.epoch != 0 { // one that was posted and one under way
			t.Errorf("worker %d is at step %d, and only %d was acknowledged", w, n, least)
		}
		if want := after(n); !maps.Equal(want, now[w]) && (n > 0 || len(now[w]) > 0) {
			t.Errorf("worker %d at step %d holds %v, want %v", w, n, now[w], want)
		}
	}
	s.world = now
}

func TestKillAtRandom(t *testing.T) {
	n := *kills
	if testing.Short() {
		n = min(n, 8)
	}
	s := &survivor{dir: t.TempDir(), world: make(world)}
	for i := 0; i < n && !t.Failed(); i++ {
		s.check(t, live(t, s.dir, "", rand.IntN(400)))
	}
	t.Logf("%d kills, epoch %d, steps %v", n, s.epoch, func() (out []uint64) {
		for w := range workers {
			out = append(out, s.world[w][counter])
		}
		return out
	}())
}

func TestKillAtEveryCrashPoint(t *testing.T) {
	for _, point := range crash.Names() {
		if !strings.HasPrefix(point, "journal.") || strings.HasPrefix(point, "journal.rebuild.") {
			continue // a rebuild is killed by TestKillInRebuild
		}
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			s := &survivor{dir: t.TempDir(), world: make(world)}
			s.check(t, live(t, s.dir, "", untilReady))
			nth := []string{""}
			switch point {
			case "journal.intent", "journal.committed", "journal.marked", "journal.answered":
				nth = []string{"", ":2", ":11", ":40"}
			case "journal.epoch.before", "journal.epoch.after", "journal.compact.before", "journal.endgrace.before", "journal.endgrace.after":
				nth = []string{"", ""} // passed once in a life
			case "journal.compact.mid":
				nth = []string{"", ":2"}
			}
			for _, n := range nth {
				l := live(t, s.dir, point+n, 5000)
				if l.killed {
					t.Errorf("%s%s was never passed", point, n)
				}
				s.check(t, l)
				// And it goes on from there.
				s.check(t, live(t, s.dir, "", untilReady))
			}
		})
	}
}
