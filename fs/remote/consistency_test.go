package remote_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/fs/local"
	"holdfast/fs/remote"
	"holdfast/fs/remote/diskcache"
	"holdfast/nfsdown/state"
)

// TestCloseToOpenUnderWriters has files written at the origin itself, through another mount and through the mount with
// the data cache, while readers open, read and close through that one, over restarts of it. Each word
// that is read is checked against what close-to-open allows (I6): a value that was overwritten by a write
// that had ended before the reader's open began must not be seen.
//
// HOLDFAST_LONG=10m makes it as long.
func TestCloseToOpenUnderWriters(t *testing.T) {
	long := 4 * time.Second
	if s := os.Getenv("HOLDFAST_LONG"); s != "" {
		var err error
		if long, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	b, err := local.New(t.Context(), local.Config{Dir: dir, StateDir: t.TempDir(), Logger: testLog(t)})
	if err != nil {
		t.Skipf("this machine cannot export a directory: %v", err)
	}
	t.Cleanup(func() { b.Close(context.Background()) })
	s := friendly(t, b, state.RetainAlways)
	h := &history{start: time.Now(), files: map[string]*[judgedBlocks][]written{}}
	names := []string{"a", "b", "c"}
	for _, n := range names {
		h.files[n] = &[judgedBlocks][]written{}
		must(t, os.WriteFile(filepath.Join(dir, n), h.whole(n, h.next()), 0o666))
	}
	other := s.mount(t, t.TempDir(), nil)
	must(t, other.ReclaimComplete(t.Context()))

	journalDir, cacheDir := t.TempDir(), t.TempDir()
	var hits, fetched uint64
	end := time.Now().Add(long)
	for round := 0; round < 2 || time.Now().Before(end); round++ {
		store, err := diskcache.Open(diskcache.Config{Dir: cacheDir, Limit: 2 << 20})
		must(t, err)
		m := s.mount(t, journalDir, func(c *remote.Config) { c.Store = store })
		must(t, m.ReclaimComplete(t.Context()))
		var writers, readers sync.WaitGroup
		quiet := make(chan struct{})
		stop := make(chan struct{})
		for w := range 3 {
			writers.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(round), uint64(w)))
				for i := 0; ; i++ {
					select {
					case <-quiet:
						return
					default:
					}
					name := names[rnd.IntN(len(names))]
					var err error
					switch {
					case w == 0 && rnd.IntN(10) == 0:
						err = h.replace(dir, name)
					case w == 0:
						err = h.writeAtOrigin(dir, name, rnd)
					case w == 1:
						err = h.writeThrough(other, name, fmt.Sprint("w", round, i), rnd)
					default:
						err = h.writeThrough(m, name, fmt.Sprint("w", round, i), rnd)
					}
					if err != nil {
						t.Errorf("writer %d: %v", w, err)
						return
					}
				}
			})
		}
		for x := range 3 {
			readers.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(round), uint64(100+x)))
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if err := h.read(m, names[rnd.IntN(len(names))], fmt.Sprint("r", round, x, i), rnd); err != nil {
						t.Errorf("reader %d: %v", x, err)
						return
					}
				}
			})
		}
		// Much is written, then nothing for long enough that versions settle and are kept.
		wait := func(d time.Duration) {
			select {
			case <-time.After(d):
			case <-t.Context().Done():
			}
		}
		wait(200 * time.Millisecond)
		close(quiet)
		writers.Wait()
		wait(1500 * time.Millisecond)
		close(stop)
		readers.Wait()
		d := m.Status().Data
		hits += d.HitBytes
		fetched += d.Fetched
		m.crash()
		must(t, store.Close())
		if t.Failed() {
			return
		}
	}
	t.Logf("%d bytes from the cache, %d from the origin", hits, fetched)
	if hits == 0 {
		t.Error("nothing was read from the cache: the test shows nothing")
	}
}

const (
	judgedBlocks = 40
	judgedBlock  = 4096
)

// A history is what was written, by file name and block. The moment is ns since the start.
type history struct {
	start time.Time
	mu    sync.Mutex
	value uint64
	files map[string]*[judgedBlocks][]written
}

type written struct {
	value      uint64
	begun, end int64 // end is 0 while it is under way
}

func (h *history) now() int64 { return int64(time.Since(h.start)) + 1 }

func (h *history) next() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.value++
	return h.value
}

func fill(b []byte, v uint64) {
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], v)
	}
}

// begin notes a write of blocks [from, to), and gives the function that notes its end.
func (h *history) begin(name string, from, to int, v uint64) func() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for b := from; b < to; b++ {
		list := &h.files[name][b]
		*list = append(*list, written{v, h.now(), 0})
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		now := h.now()
		for b := from; b < to; b++ {
			for i := range h.files[name][b] {
				if w := &h.files[name][b][i]; w.value == v {
					w.end = now
				}
			}
		}
	}
}

// whole is the content of a new file, noted as written.
func (h *history) whole(name string, v uint64) []byte {
	h.begin(name, 0, judgedBlocks, v)()
	b := make([]byte, judgedBlocks*judgedBlock)
	fill(b, v)
	return b
}

func spot(rnd *rand.Rand) (from, to int) {
	from = rnd.IntN(judgedBlocks)
	return from, min(from+1+rnd.IntN(8), judgedBlocks)
}

func (h *history) writeAtOrigin(dir, name string, rnd *rand.Rand) error {
	from, to := spot(rnd)
	v := h.next()
	b := make([]byte, (to-from)*judgedBlock)
	fill(b, v)
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	done := h.begin(name, from, to, v)
	_, err = f.WriteAt(b, int64(from)*judgedBlock)
	if st, e := os.Stat(filepath.Join(dir, name)); e == nil {
		if fst, e := f.Stat(); e == nil && os.SameFile(st, fst) {
			done()
		}
		// Else the file was replaced meanwhile, and nobody need see the write: it never ends.
	}
	return errors.Join(err, f.Close())
}

// replace puts another file in place of one.
func (h *history) replace(dir, name string) error {
	v := h.next()
	b := make([]byte, judgedBlocks*judgedBlock)
	fill(b, v)
	if err := os.WriteFile(filepath.Join(dir, name+".new"), b, 0o666); err != nil {
		return err
	}
	done := h.begin(name, 0, judgedBlocks, v)
	if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
		return err
	}
	done()
	return nil
}

func (h *history) writeThrough(m *mounted, name, who string, rnd *rand.Rand) error {
	ctx := context.Background()
	from, to := spot(rnd)
	v := h.next()
	b := make([]byte, (to-from)*judgedBlock)
	fill(b, v)
	res, err := m.Open(ctx, root, &fs.OpenRequest{Owner: owner(who), Access: fs.ShareBoth, Dir: m.root, Name: name})
	if err != nil {
		return err
	}
	h.begin(name, from, to, v) // it may be replaced meanwhile, so it never ends for the judge
	out, err := m.Write(ctx, root, fs.IORef{Handle: res.File, Open: owner(who)}, uint64(from)*judgedBlock, b, fs.FileSync)
	if err == nil && out.N != len(b) {
		err = fmt.Errorf("wrote %d of %d", out.N, len(b))
	}
	if fs.CodeOf(err) == fs.Stale {
		err = nil // replaced
	}
	return errors.Join(err, ignoreStale(m.CloseFile(ctx, owner(who), res.File)))
}

func ignoreStale(err error) error {
	if fs.CodeOf(err) == fs.Stale {
		return nil
	}
	return err
}

// read opens, reads a few times, closes, and judges.
func (h *history) read(m *mounted, name, who string, rnd *rand.Rand) error {
	ctx := context.Background()
	begun := h.now()
	res, err := m.Open(ctx, root, &fs.OpenRequest{Owner: owner(who), Access: fs.ShareRead, Dir: m.root, Name: name})
	if err != nil {
		return ignoreStale(err)
	}
	for range 4 {
		from, to := spot(rnd)
		b := make([]byte, (to-from)*judgedBlock)
		n, _, err := m.Read(ctx, root, fs.IORef{Handle: res.File, Open: owner(who)}, uint64(from)*judgedBlock, b)
		if fs.CodeOf(err) == fs.Stale {
			break
		}
		if err != nil {
			return err
		}
		for i := 0; i+8 <= n; i += 8 {
			if err := h.judge(name, from+i/judgedBlock, binary.LittleEndian.Uint64(b[i:]), begun); err != nil {
				return err
			}
		}
	}
	return ignoreStale(m.CloseFile(ctx, owner(who), res.File))
}

// judge tells whether a value may be seen under an open that began at a moment.
func (h *history) judge(name string, block int, v uint64, opened int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.files[name][block]
	var seen *written
	for i := range list {
		if list[i].value == v {
			seen = &list[i]
		}
	}
	if seen == nil {
		return fmt.Errorf("%s, block %d: %d was never written there", name, block, v)
	}
	if seen.end == 0 {
		return nil
	}
	for i := range list {
		if w := &list[i]; w.begun > seen.end && w.end != 0 && w.end < opened {
			return fmt.Errorf("%s, block %d: the open began at %d and saw %d, which ended at %d and was overwritten by %d from %d to %d",
				name, block, opened, v, seen.end, w.value, w.begun, w.end)
		}
	}
	return nil
}
