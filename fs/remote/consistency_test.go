package remote_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/fs/local"
	"holdfast/fs/remote"
	"holdfast/fs/remote/diskcache"
	"holdfast/internal/coherence"
	"holdfast/nfsdown/state"
)

// TestCloseToOpenUnderWriters has files written at the origin itself, through another mount and through the mount with
// the data cache, while readers open, read and close through that one, over restarts of it. Each word
// that is read is checked against what close-to-open allows (I6): a value that was overwritten by a write
// that had ended before the reader's open began must not be seen.
//
// That holds in each mode: an open tells what is old. Sizes are judged by the ages of the mode.
//
// HOLDFAST_LONG=10m makes it as long.
func TestConsistencyUnderWriters(t *testing.T) {
	for _, mode := range remote.Consistencies() {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			testConsistency(t, remote.Consistency(mode))
		})
	}
}

// slack is how old attributes may be, at ages of a second, with room for slow machines: an age counts from when the
// answer came in, not from when it was true.
var slack = map[remote.Consistency]time.Duration{remote.Strict: 0, remote.CloseToOpen: 3 * time.Second, remote.Relaxed: 3 * time.Second, remote.Immutable: 1000 * time.Hour}

func testConsistency(t *testing.T, mode remote.Consistency) {
	long := 3 * time.Second
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
	h := &history{History: coherence.New(), slack: slack[mode]}
	names := []string{"a", "b", "c"}
	for _, n := range names {
		must(t, os.WriteFile(filepath.Join(dir, n), h.whole(n, h.Next()), 0o666))
	}
	must(t, os.WriteFile(filepath.Join(dir, "size"), nil, 0o666))
	must(t, h.truncate(func(size uint64) error { return os.Truncate(filepath.Join(dir, "size"), int64(size)) }, false))
	other := s.mount(t, t.TempDir(), nil)
	must(t, other.ReclaimComplete(t.Context()))

	journalDir, cacheDir := t.TempDir(), t.TempDir()
	var hits, fetched uint64
	end := time.Now().Add(long)
	for round := 0; round < 2 || time.Now().Before(end); round++ {
		store, err := diskcache.Open(diskcache.Config{Dir: cacheDir, Limit: 2 << 20})
		must(t, err)
		m := s.mount(t, journalDir, func(c *remote.Config) {
			c.Store, c.Consistency, c.RelaxedAge = store, mode, time.Second
			if mode == remote.CloseToOpen {
				c.Times = remote.AttrTimes{RegMin: time.Second, RegMax: time.Second, DirMin: time.Second, DirMax: time.Second}
			}
		})
		size, _, err := m.Lookup(t.Context(), root, m.root, "size")
		must(t, err)
		otherSize, _, err := other.Lookup(t.Context(), root, other.root, "size")
		must(t, err)
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
					case w == 0 && rnd.IntN(4) == 0:
						err = h.truncate(func(size uint64) error { return os.Truncate(filepath.Join(dir, "size"), int64(size)) }, false)
					case w == 1 && rnd.IntN(4) == 0:
						err = h.truncate(func(n uint64) error { return setSize(other, otherSize, n) }, false)
					case w == 2 && rnd.IntN(4) == 0:
						err = h.truncate(func(n uint64) error { return setSize(m, size, n) }, true)
					case w == 0:
						err = h.writeAtOrigin(dir, name, rnd)
					case w == 1:
						err = h.writeThrough(other, dir, name, fmt.Sprint("w", round, i), rnd, false)
					default:
						err = h.writeThrough(m, dir, name, fmt.Sprint("w", round, i), rnd, true)
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
					if err := h.seeSize(m, size); err != nil {
						t.Errorf("reader %d: %v", x, err)
						return
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
	judgedBlocks = coherence.Blocks
	judgedBlock  = coherence.BlockSize
)

// A history also knows how old attributes may be.
type history struct {
	*coherence.History
	slack time.Duration
	// turn keeps files from being replaced while somebody writes to them: then it is known where a write went.
	turn sync.RWMutex
}

// whole is the content of a new file, noted as written.
func (h *history) whole(name string, v uint64) []byte {
	h.Begin(name, 0, judgedBlocks, v, false)()
	return coherence.Fill(make([]byte, judgedBlocks*judgedBlock), v)
}

func spot(rnd *rand.Rand) (from, to int) {
	from = rnd.IntN(judgedBlocks)
	return from, min(from+1+rnd.IntN(8), judgedBlocks)
}

func (h *history) writeAtOrigin(dir, name string, rnd *rand.Rand) error {
	h.turn.RLock()
	defer h.turn.RUnlock()
	from, to := spot(rnd)
	v := h.Next()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	done := h.Begin(name, from, to, v, false)
	if _, err = f.WriteAt(coherence.Fill(make([]byte, (to-from)*judgedBlock), v), int64(from)*judgedBlock); err == nil {
		done()
	}
	return errors.Join(err, f.Close())
}

// replace puts another file in place of one.
func (h *history) replace(dir, name string) error {
	h.turn.Lock()
	defer h.turn.Unlock()
	v := h.Next()
	b := coherence.Fill(make([]byte, judgedBlocks*judgedBlock), v)
	if err := os.WriteFile(filepath.Join(dir, name+".new"), b, 0o666); err != nil {
		return err
	}
	done := h.Begin(name, 0, judgedBlocks, v, false)
	if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
		return err
	}
	done()
	return nil
}

func (h *history) writeThrough(m *mounted, dir, name, who string, rnd *rand.Rand, own bool) error {
	h.turn.RLock()
	defer h.turn.RUnlock()
	ctx := context.Background()
	from, to := spot(rnd)
	v := h.Next()
	b := coherence.Fill(make([]byte, (to-from)*judgedBlock), v)
	res, err := m.Open(ctx, root, &fs.OpenRequest{Owner: owner(who), Access: fs.ShareBoth, Dir: m.root, Name: name})
	if err != nil {
		return err
	}
	st, err := os.Stat(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	if ino := st.Sys().(*syscall.Stat_t).Ino; ino != res.Attr.FileID {
		return fmt.Errorf("an open of %s found file %d, and it is %d", name, res.Attr.FileID, ino)
	}
	done := h.Begin(name, from, to, v, own)
	out, err := m.Write(ctx, root, fs.IORef{Handle: res.File, Open: owner(who)}, uint64(from)*judgedBlock, b, fs.FileSync)
	if err == nil && out.N != len(b) {
		err = fmt.Errorf("wrote %d of %d", out.N, len(b))
	}
	if err == nil {
		done()
	}
	return errors.Join(err, m.CloseFile(ctx, owner(who), res.File))
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
	begun := h.Now()
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
		if err := h.JudgeAll(name, from*judgedBlock, b[:n], begun, 0); err != nil {
			return err
		}
	}
	return ignoreStale(m.CloseFile(ctx, owner(who), res.File))
}

// The size of a file is the value of a block of its own.

func (h *history) truncate(set func(uint64) error, own bool) error {
	v := h.Next()
	done := h.Begin("size", 0, 1, v, own)
	if err := set(v); err != nil {
		return err
	}
	done()
	return nil
}

func setSize(m *mounted, f fs.Handle, size uint64) error {
	_, err := m.SetAttr(context.Background(), root, fs.IORef{Handle: f}, &fs.SetAttr{Size: &size})
	return err
}

func (h *history) seeSize(m *mounted, f fs.Handle) error {
	began := h.Now()
	a, err := m.GetAttr(context.Background(), root, f)
	if err != nil {
		return err
	}
	return h.Judge("size", 0, a.Size, began, h.slack)
}
