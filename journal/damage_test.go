package journal

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/crash"
)

var flips = flag.Int("journal.flips", 3, "how many random bytes of each file TestAnyFlippedByteIsNoticed flips")

// copyTree copies a journal as it is, which is what a crash leaves of one that runs.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		return copySparse(path, filepath.Join(to, rel))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copySparse(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	const page = 1 << 16
	for off := 0; off < len(b); off += page {
		part := b[off:min(off+page, len(b))]
		if slices.ContainsFunc(part, func(c byte) bool { return c != 0 }) {
			if _, err := f.WriteAt(part, int64(off)); err != nil {
				return err
			}
		}
	}
	return f.Truncate(int64(len(b)))
}

// The crashed journal that the tests damage: several tables, and a log with single-record groups and
// large ones. It is made once.
var (
	crashedOnce sync.Once
	crashedDir  string
	crashedSnap *Snapshot
)

const crashedGroups = 120

func crashed(t *testing.T) (string, *Snapshot) {
	t.Helper()
	crashedOnce.Do(func() {
		dir := t.TempDir()
		for round := range 3 {
			j, _, err := Open(dir, Options{})
			if err != nil {
				t.Fatal(err)
			}
			for part := range 2 {
				mustCommit(t, j, func(b *Batch) {
					for n := range 700 {
						b.PutLock(lockOf(alice(round*1000+part*700+n), "f", uint32(round+1)))
						if n%10 == 0 {
							b.DeleteLock(alice((round-1)*1000+part*700+n), "f")
						}
					}
					b.PutClient(&Client{Owner: "alice", Epoch: 1})
					b.AddEvent(&Event{Type: "round"})
				})
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
		j, _, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		for n := range crashedGroups {
			mustCommit(t, j, func(b *Batch) {
				b.PutLock(lockOf(alice(n), "logged", 4))
				if n%40 == 0 {
					for k := range 50 {
						b.PutLock(lockOf(alice(10_000+k), fmt.Sprint("batch ", n), 4))
					}
				}
				if n%3 == 0 {
					b.DeleteLock(alice(n), "f")
				}
			})
		}
		crashedSnap = mustLoad(t, j)
		if crashedDir, err = os.MkdirTemp("", "journal"); err != nil {
			t.Fatal(err)
		}
		copyTree(t, dir, crashedDir)
		// Most of a log is zeros not yet written; some of them will do.
		for _, log := range find(t, crashedDir, ".mem") {
			if err := os.Truncate(log, 256<<10); err != nil {
				t.Fatal(err)
			}
		}
	})
	dir := filepath.Join(t.TempDir(), "j")
	copyTree(t, crashedDir, dir)
	return dir, crashedSnap
}

// find returns the files in dir/db that end so.
func find(t *testing.T, dir, suffix string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, dbName, "*"+suffix))
	if err != nil || len(all) == 0 {
		t.Fatalf("no %s: %v", suffix, err)
	}
	return all
}

// edit changes a file.
func edit(t *testing.T, path string, f func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, f(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// openDamaged lets Verify look and then opens. Both must agree, Verify must change nothing, and what
// is said to be complete must be.
func openDamaged(t *testing.T, dir string, want *Snapshot) (*Journal, *Report) {
	t.Helper()
	before := contents(t, dir)
	seen, err := Verify(dir)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	if d := cmp.Diff(before, contents(t, dir)); d != "" {
		t.Errorf("verify changed it: %s", d)
	}
	j, r, err := Open(dir, Options{})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { j.Close() })
	if seen.State != r.State || seen.Complete != r.Complete || seen.Records != r.Records {
		t.Errorf("verify says\n%s\nand open\n%s", seen, r)
	}
	got := mustLoad(t, j)
	if got.Complete != r.Complete {
		t.Errorf("snapshot complete %t, report complete %t", got.Complete, r.Complete)
	}
	if j.Epoch() <= want.Epoch {
		t.Errorf("epoch %d after %d", j.Epoch(), want.Epoch)
	}
	if r.Complete && (!cmp.Equal(got.Locks, want.Locks) || !cmp.Equal(got.Clients, want.Clients)) {
		t.Errorf("said to be complete, but there are %d locks and should be %d\n%s", len(got.Locks), len(want.Locks), r)
	}
	return j, r
}

// heal ends grace, after which even a damaged journal is complete again, and stays so.
func heal(t *testing.T, j *Journal) {
	t.Helper()
	mustCommit(t, j, func(b *Batch) { b.PutClient(&Client{Owner: "new", Epoch: j.Epoch()}) })
	before := mustLoad(t, j)
	again, r := reboot(t, j)
	if r.State != Intact || r.Complete != before.Complete {
		t.Errorf("after a reboot without end of grace: %s; it was complete: %t", r, before.Complete)
	}
	mustCommit(t, again, func(b *Batch) { b.EndGrace(again.Epoch()) })
	if !mustLoad(t, again).Complete {
		t.Error("incomplete after the end of grace")
	}
	_, r = reboot(t, again)
	wantReport(t, r, Intact, true)
}

func TestUntouchedCrashedJournalIsIntact(t *testing.T) {
	dir, want := crashed(t)
	j, r := openDamaged(t, dir, want)
	wantReport(t, r, Intact, true)
	heal(t, j)
}

// meaningless tells which bytes carry nothing: random numbers that only encryption would use.
func meaningless(name string, at int64) bool {
	switch ext := filepath.Ext(name); {
	case ext == ".mem", ext == ".vlog":
		return at >= 8 && at < walHeader
	case filepath.Base(name) == "KEYREGISTRY":
		return at < 16
	case filepath.Base(name) == lockName:
		return true
	}
	return false
}

func TestAnyFlippedByteIsNoticed(t *testing.T) {
	perFile := *flips
	dir, _ := crashed(t)
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			files = append(files, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		used := len(b) // without the zeros at the end
		for used > 0 && b[used-1] == 0 {
			used--
		}
		at := []int64{0, int64(len(b) - 1), int64(used - 1), int64(used / 2)}
		for range perFile {
			at = append(at, rand.Int64N(int64(max(used, 1))))
		}
		at = append(at, rand.Int64N(int64(len(b))))
		slices.Sort(at)
		at = slices.Compact(at)
		if testing.Short() {
			at = at[len(at)/2:][:1]
		}
		for _, at := range at {
			if at < 0 || meaningless(name, at) {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", name, at), func(t *testing.T) {
				dir, want := crashed(t)
				edit(t, filepath.Join(dir, name), func(b []byte) []byte { b[at] ^= 1 << rand.IntN(8); return b })
				j, r := openDamaged(t, dir, want)
				if r.State == Intact {
					t.Errorf("not noticed: %s", r)
				}
				if testing.Verbose() {
					t.Log(r)
				}
				if r.State == Damaged {
					heal(t, j)
				}
			})
		}
	}
}

// Whatever is done to the files: no crash, no false claim to be complete.
func TestSmashedFiles(t *testing.T) {
	for i := range 3 * *flips {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			dir, want := crashed(t)
			var files []string
			for _, s := range []string{".mem", ".sst", "MANIFEST", ".vlog"} {
				files = append(files, find(t, dir, s)...)
			}
			files = append(files, filepath.Join(dir, markName))
			for range 1 + rand.IntN(2) {
				path := files[rand.IntN(len(files))]
				how := rand.IntN(4)
				at, n := 0, 0
				edit(t, path, func(b []byte) []byte {
					used := max(len(b)-1, 1)
					if filepath.Ext(path) == ".mem" {
						used = 30_000
					}
					if len(b) == 0 {
						return b
					}
					at = rand.IntN(min(used, len(b)))
					n = min(rand.IntN(9000), len(b)-at)
					switch how {
					case 0: // cut off
						return b[:at]
					case 1: // zeros
						clear(b[at : at+n])
					case 2: // noise
						for k := range n {
							b[at+k] = byte(rand.Uint32())
						}
					case 3: // a hole: what follows moves up
						b = append(b[:at], b[at+n:]...)
					}
					return b
				})
				t.Logf("%s: %s %d bytes at %d", filepath.Base(path), []string{"cut after", "zeroed", "noise in", "took out"}[how], n, at)
			}
			j, r := openDamaged(t, dir, want)
			t.Log(r)
			heal(t, j)
		})
	}
}

// Events are lost in the middle and at the end: what is left of them is there, and the loss is reported once.
func TestLostEventsAreReportedOnce(t *testing.T) {
	dir, want := crashed(t)
	edit(t, find(t, dir, "MANIFEST")[0], func(b []byte) []byte { clear(b[30:52]); return b }) // two of three tables
	j, r := openDamaged(t, dir, want)
	if r.LostEvents == 0 {
		t.Fatalf("no events are lost: %s", r)
	}
	heal(t, j)
}

func TestMissingFiles(t *testing.T) {
	for _, c := range []struct {
		suffix string
		state  State
	}{
		{".mem", Damaged}, {".sst", Damaged}, {"MANIFEST", Repaired}, {"KEYREGISTRY", Intact}, {"DISCARD", Intact}, {".vlog", Intact},
	} {
		t.Run(c.suffix, func(t *testing.T) {
			dir, want := crashed(t)
			if err := os.Remove(find(t, dir, c.suffix)[0]); err != nil {
				t.Fatal(err)
			}
			j, r := openDamaged(t, dir, want)
			wantReport(t, r, c.state, c.state != Damaged)
			heal(t, j)
		})
	}
	t.Run("the mark", func(t *testing.T) {
		dir, want := crashed(t)
		if err := os.Remove(filepath.Join(dir, markName)); err != nil {
			t.Fatal(err)
		}
		_, r := openDamaged(t, dir, want)
		wantReport(t, r, Damaged, false)
	})
	t.Run("the whole database", func(t *testing.T) {
		dir, want := crashed(t)
		if err := os.RemoveAll(filepath.Join(dir, dbName)); err != nil {
			t.Fatal(err)
		}
		_, r := openDamaged(t, dir, want)
		wantReport(t, r, Damaged, false)
	})
	t.Run("an old copy of the database", func(t *testing.T) {
		dir, want := crashed(t)
		old := filepath.Join(t.TempDir(), "old")
		copyTree(t, dir, old)
		j, _, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		mustCommit(t, j, func(b *Batch) { b.PutLock(lockOf(alice(77), "later", 5)) })
		j.Close()
		if err := os.Rename(filepath.Join(dir, markName), filepath.Join(old, markName)); err != nil {
			t.Fatal(err)
		}
		want.Epoch = 5
		defer func() { want.Epoch = 4 }()
		_, r := openDamaged(t, old, want)
		wantReport(t, r, Damaged, false)
		if len(r.Missing) == 0 {
			t.Errorf("nothing is missing: %s", r)
		}
	})
}

// lastGroup returns where the last group begins and ends in a log, and its number.
func lastGroup(t *testing.T, path string) (from, to int, seq uint64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w := scanWAL("log", b)
	if w.junk > 0 || len(w.seqs) == 0 {
		t.Fatalf("the log is not clean: %+v", w)
	}
	// Cutting a byte at a time would be slow; the entries of the last version tell.
	for off := walHeader; off < w.end; {
		e, end, ok := parseWALEntry(b, off)
		if !ok {
			t.Fatal("lost my way")
		}
		if e.version == w.last && from == 0 {
			from = off
		}
		off = end
	}
	return from, w.end, w.seqs[len(w.seqs)-1]
}

func setMark(t *testing.T, dir string, seq uint64) {
	t.Helper()
	m, _, err := readMark(dir)
	if err != nil {
		t.Fatal(err)
	}
	m.seq = seq
	if err := os.WriteFile(filepath.Join(dir, markName), m.encode(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A group that was never acknowledged is cut off anywhere: a torn tail, nothing is lost. The same
// with the group acknowledged is damage, and its number is told.
func TestTornTailIsNotDamage(t *testing.T) {
	dir, want := crashed(t)
	log := find(t, dir, ".mem")
	from, to, seq := lastGroup(t, log[len(log)-1])
	before := *want
	before.Locks = slices.DeleteFunc(slices.Clone(want.Locks), func(l Lock) bool {
		return l.Owner == alice(crashedGroups-1) && l.File == "logged"
	})
	if len(before.Locks) != len(want.Locks)-1 {
		t.Fatal("the last group is not what the test thinks")
	}
	for cut := from; cut < to; cut += max((to-from)/5, 1) {
		for _, acked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d of %d bytes, acknowledged %t", cut-from, to-from, acked), func(t *testing.T) {
				dir, _ := crashed(t)
				edit(t, filepath.Join(dir, dbName, filepath.Base(log[len(log)-1])), func(b []byte) []byte {
					clear(b[cut:to])
					return b
				})
				if !acked {
					setMark(t, dir, seq-1)
				}
				after := &before
				if acked {
					after = want // it may have been saved, all but the end mark of the transaction
				}
				j, r := openDamaged(t, dir, after)
				switch {
				case acked && r.State == Repaired:
					if len(r.Missing) > 0 {
						t.Errorf("saved, and yet missing: %v", r.Missing)
					}
				case acked:
					wantReport(t, r, Damaged, false)
					if !slices.Equal(r.Missing, []SeqRange{{seq, seq}}) {
						t.Errorf("missing %v, want %d", r.Missing, seq)
					}
				case cut == from:
					wantReport(t, r, Intact, true)
				default:
					wantReport(t, r, Torn, true)
				}
				heal(t, j)
			})
		}
	}
}

// With a mark that is old, as after a power cut, rot in the middle is still told from a tear, by the
// groups behind it; and those are not thrown away.
func TestRotInTheMiddleIsNotATear(t *testing.T) {
	dir, want := crashed(t)
	logs := find(t, dir, ".mem")
	path := logs[len(logs)-1]
	setMark(t, dir, 3)
	_, to, _ := lastGroup(t, path)
	edit(t, path, func(b []byte) []byte {
		for off := walHeader; ; { // to the first lock after the middle
			e, end, ok := parseWALEntry(b, off)
			if !ok {
				t.Fatal("lost my way")
			}
			if off > to/2 && e.key[0] == kindLock && e.meta&metaDelete == 0 {
				b[end-20] ^= 4
				return b
			}
			off = end
		}
	})
	j, r := openDamaged(t, dir, want)
	wantReport(t, r, Damaged, false)
	if len(r.Missing) != 1 || r.Missing[0].First != r.Missing[0].Last {
		t.Errorf("missing %v, want one", r.Missing)
	}
	if r.SetAside == "" {
		t.Error("the files were not kept")
	} else if _, err := os.Stat(filepath.Join(dir, r.SetAside, filepath.Base(path))); err != nil {
		t.Error(err)
	}
	if n := len(mustLoad(t, j).Locks); n < len(want.Locks)-60 {
		t.Errorf("%d locks of %d were saved", n, len(want.Locks))
	}
	heal(t, j)
}

// What is rotten but superseded does not count.
func TestRotThatHitsNothingInForce(t *testing.T) {
	dir := t.TempDir()
	j, _ := mustOpen(t, dir)
	for n := range 20 {
		mustCommit(t, j, func(b *Batch) {
			b.PutLock(lockOf(alice(1), "f", 1))
			b.AddEvent(&Event{Text: fmt.Sprint(n)})
		})
	}
	want := mustLoad(t, j)
	to := filepath.Join(t.TempDir(), "copy")
	copyTree(t, dir, to)
	logs := find(t, to, ".mem")
	_, end, _ := lastGroup(t, logs[len(logs)-1])
	edit(t, logs[len(logs)-1], func(b []byte) []byte { b[end/2] ^= 4; return b })
	j, r := openDamaged(t, to, want)
	wantReport(t, r, Repaired, true)
	heal(t, j)
}

func TestKillInRebuild(t *testing.T) {
	for _, point := range crash.Names() {
		if !strings.HasPrefix(point, "journal.rebuild.") {
			continue
		}
		t.Run(point, func(t *testing.T) {
			dir, want := crashed(t)
			edit(t, filepath.Join(dir, dbName, "MANIFEST"), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"="+dir, crash.Env+"="+point)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the child ended with %v: %s", err, out)
			}
			j, r := openDamaged(t, dir, want)
			if !r.Complete {
				t.Errorf("after a kill in the rebuild: %s", r)
			}
			heal(t, j)
		})
	}
}
