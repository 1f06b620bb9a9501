package diskcache

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"holdfast/internal/crash"
)

func open(t testing.TB, dir string, change func(*Config)) *Store {
	t.Helper()
	cfg := Config{Dir: dir}
	if change != nil {
		change(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	<-s.Ready()
	return s
}

func reopen(t testing.TB, s *Store) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, s.cfg.Dir, func(c *Config) { *c = s.cfg })
}

func get(t testing.TB, s *Store, n uint64, v Version) *Object {
	t.Helper()
	o, err := s.Get(ID{FileID: n}, v, nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// content is what byte i of a version of a file is: a function, so that each read can be judged.
func content(file, change uint64, off, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		at := uint64(off + i)
		if at/BlockSize%5 == 3 {
			continue // a hole
		}
		b[i] = byte((at*2654435761 + file*97 + change*31) >> 7)
	}
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readAll(o *Object) []byte {
	b := make([]byte, o.Version().Size)
	return b[:o.ReadAt(b, 0, 0)]
}

func TestWhatWasPutInComesOutAlsoAfterARestart(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	v := Version{Change: 7, Size: 100_000}
	o := get(t, s, 1, v)
	want := content(1, 7, 0, 100_000)
	must(t, o.WriteAt(want[:8192], 0, 0))
	must(t, o.WriteAt(want[65536:], 65536, 0))
	for range 2 {
		if got := readAll(o); !bytes.Equal(got, want[:8192]) {
			t.Fatalf("%d bytes, or others than were put in", len(got))
		}
		p := make([]byte, 50_000)
		if n := o.ReadAt(p, 65537, 0); n != 100_000-65537 || !bytes.Equal(p[:n], want[65537:]) {
			t.Fatalf("%d bytes at the end", n)
		}
		if a, b := o.NextMissing(0, 100_000, 0); a != 8192 || b != 65536 {
			t.Fatalf("missing is %d to %d", a, b)
		}
		o.Release()
		s = reopen(t, s)
		o = get(t, s, 1, v)
	}
	must(t, o.WriteAt(want[8192:65536], 8192, 0))
	if !o.Complete() || !bytes.Equal(readAll(o), want) {
		t.Error("not complete")
	}
	o.Release()
}

func TestAnotherVersionOrFileHasNothing(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	o := get(t, s, 1, Version{7, 8192})
	must(t, o.WriteAt(content(1, 7, 0, 8192), 0, 0))
	for _, other := range []*Object{get(t, s, 2, Version{7, 8192}), get(t, s, 1, Version{8, 8192})} {
		if n := len(readAll(other)); n != 0 {
			t.Errorf("%d bytes of nowhere", n)
		}
		other.Release()
	}
	if !o.Dead() || len(readAll(o)) != 0 || o.WriteAt(content(1, 7, 0, 8192), 0, 0) == nil {
		t.Error("the old version is still used")
	}
	o.Release()
	o = get(t, s, 1, Version{7, 8192})
	if n := len(readAll(o)); n != 0 {
		t.Errorf("a version that was replaced came back with %d bytes", n)
	}
	o.Release()
}

// TestEachFlippedByteIsNoticed flips bytes on disk, in data, checksums and headers, while the store runs and
// over a restart. A read gives the right bytes or fewer.
func TestEachFlippedByteIsNoticed(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	v := Version{Change: 7, Size: 10*BlockSize + 100}
	want := content(1, 7, 0, int(v.Size))
	id := ID{FileID: 1}
	k := id.key()
	rnd := rand.New(rand.NewPCG(1, 2))
	put := func(o *Object) {
		for at := int64(0); at < int64(v.Size); {
			start, stop := o.NextMissing(at, int64(v.Size), 0)
			if start == stop {
				return
			}
			must(t, o.WriteAt(want[start:stop], start, 0))
			at = stop
		}
	}
	lost := 0
	for i := range 400 {
		o := get(t, s, 1, v)
		put(o)
		kind := []string{".d", ".m"}[i%2]
		size := int64(v.Size)
		if kind == ".m" {
			size = headerSize + 4*16 // beyond the checksums that are in use too
		}
		restart := i%4 >= 2
		if restart {
			o.Release()
			must(t, s.Close())
		}
		flip(t, s.path(k, kind), rnd.Int64N(size), byte(1<<rnd.UintN(8)))
		if restart {
			s = open(t, s.cfg.Dir, nil)
			o = get(t, s, 1, v)
		}
		for at := 0; at < int(v.Size); at += BlockSize {
			p := make([]byte, BlockSize)
			n := o.ReadAt(p, int64(at), 0)
			if !bytes.Equal(p[:n], want[at:at+n]) {
				t.Fatalf("round %d: wrong bytes were served at %d", i, at)
			}
			if n == 0 {
				lost++
			}
		}
		o.Release()
	}
	if lost < 100 {
		t.Errorf("only %d blocks were lost: were the flips where they should be?", lost)
	}
}

func flip(t testing.TB, path string, at int64, bit byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	b := []byte{0}
	if n, _ := f.ReadAt(b, at); n == 0 {
		b[0] = 0
	}
	b[0] ^= bit
	_, err = f.WriteAt(b, at)
	must(t, err)
}

func TestAnAbsentBlockNeverBecomesOneByAFlip(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	v := Version{1, 64 * BlockSize}
	o := get(t, s, 1, v)
	must(t, o.WriteAt(content(1, 1, 0, BlockSize), 0, 0))
	o.Release()
	must(t, s.Close())
	k := (&ID{FileID: 1}).key()
	for b := int64(1); b < 64; b++ {
		flip(t, s.path(k, ".m"), headerSize+4*b+b%4, byte(1<<(b%8)))
	}
	s = open(t, s.cfg.Dir, nil)
	o = get(t, s, 1, v)
	defer o.Release()
	for b := int64(1); b < 64; b++ {
		if n := o.ReadAt(make([]byte, BlockSize), b*BlockSize, 0); n != 0 {
			t.Errorf("block %d was served", b)
		}
	}
}

func TestObjectsThatChangedPlacesAreNotServed(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	var paths [2][2]string
	for i := range 2 {
		o := get(t, s, uint64(i), Version{1, BlockSize})
		must(t, o.WriteAt(content(uint64(i), 1, 0, BlockSize), 0, 0))
		o.Release()
		k := (&ID{FileID: uint64(i)}).key()
		paths[i] = [2]string{s.path(k, ".m"), s.path(k, ".d")}
	}
	must(t, s.Close())
	for _, what := range [][]int{{1}, {0, 1}, {0}} { // data; then all of it; then headers
		for _, w := range what {
			must(t, os.Rename(paths[0][w], paths[0][w]+"x"))
			must(t, os.Rename(paths[1][w], paths[0][w]))
			must(t, os.Rename(paths[0][w]+"x", paths[1][w]))
		}
		s = open(t, s.cfg.Dir, nil)
		for i := range 2 {
			o := s.peek((&ID{FileID: uint64(i)}).key())
			if o == nil {
				continue
			}
			if b := readAll(o); len(b) > 0 && !bytes.Equal(b, content(uint64(i), 1, 0, BlockSize)) {
				t.Errorf("%v: data of another file", what)
			}
			o.Release()
		}
		must(t, s.Close())
	}
}

func TestYoungDataIsForWhoCameBeforeIt(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	v := Version{1, 2 * BlockSize}
	o := get(t, s, 1, v)
	must(t, o.WriteAt(content(1, 1, 0, BlockSize), 0, 10))
	p := make([]byte, BlockSize)
	if o.ReadAt(p, 0, 10) != BlockSize || o.ReadAt(p, 0, 11) != 0 {
		t.Error("young data goes to whom it should not, or not to whom it should")
	}
	if a, b := o.NextMissing(0, 8192, 11); a != 0 || b != 8192 {
		t.Errorf("missing is %d to %d", a, b)
	}
	o.Release()
	s = reopen(t, s)
	o = get(t, s, 1, v)
	if o.ReadAt(p, 0, 0) != 0 {
		t.Error("young data survived a restart")
	}
	must(t, o.WriteAt(content(1, 1, 0, BlockSize), 0, 10))
	must(t, o.WriteAt(content(1, 1, 0, BlockSize), 0, 0))
	if o.ReadAt(p, 0, 11) != BlockSize {
		t.Error("what was fetched again later is still young")
	}
	o.Release()
}

func TestOwnWritesCarryAnObjectOn(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	file := content(1, 1, 0, 3*BlockSize+10)
	o := get(t, s, 1, Version{1, uint64(len(file))})
	must(t, o.WriteAt(file[:2*BlockSize], 0, 0)) // the rest is missing
	write := func(off int, data string) {
		if end := off + len(data); end > len(file) {
			file = append(file, make([]byte, end-len(file))...)
		}
		copy(file[off:], data)
		must(t, o.Overwrite([]byte(data), int64(off)))
	}
	write(100, "within a block that is there")
	write(BlockSize-3, "over the border of two")
	write(2*BlockSize+50, "in a block that is missing")
	write(3*BlockSize+20, "over the old end, in a block that is missing")
	write(5*BlockSize+7, "in a block that was not")
	write(5*BlockSize+1, "12345")
	must(t, o.Advance(Version{9, uint64(len(file))}))
	check := func() {
		t.Helper()
		for at := 0; at < len(file); at += BlockSize {
			p := make([]byte, min(BlockSize, len(file)-at))
			n := o.ReadAt(p, int64(at), 0)
			if !bytes.Equal(p[:n], file[at:at+n]) {
				t.Fatalf("wrong bytes at %d", at)
			}
			if there := n > 0; there != (at/BlockSize != 2 && at/BlockSize != 3 && at/BlockSize != 4) {
				t.Errorf("block %d: there %v", at/BlockSize, there)
			}
		}
	}
	check()
	must(t, o.Settle(func() bool { return true }))
	o.Release()
	s = reopen(t, s)
	o = get(t, s, 1, Version{9, uint64(len(file))})
	check()

	// Not settled: it does not outlive the process.
	write(0, "x")
	must(t, o.Advance(Version{10, uint64(len(file))}))
	o.Release()
	s = reopen(t, s)
	o = get(t, s, 1, Version{10, uint64(len(file))})
	if o.NextMissing(0, BlockSize, 0); len(readAll(o)) != 0 {
		t.Error("own writes that the origin may have lost are served after a restart")
	}

	// Shorter and longer again: what was beyond the end is zero or missing, not old.
	must(t, o.WriteAt(file[:BlockSize], 0, 0))
	must(t, o.Advance(Version{11, 100}))
	must(t, o.Advance(Version{12, BlockSize}))
	if n := o.ReadAt(make([]byte, BlockSize), 0, 0); n != 0 {
		t.Errorf("%d bytes of a block that was cut", n)
	}
	o.Release()
}

func TestEvictionKeepsTheLimitAndWhatIsUsed(t *testing.T) {
	const limit = 4 << 20
	s := open(t, t.TempDir(), func(c *Config) { c.Limit = limit })
	for i := range uint64(100) {
		o := get(t, s, i, Version{1, 256 << 10})
		err := o.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, 256<<10), 0, 0)
		if err != nil && !errors.Is(err, ErrNoRoom) {
			t.Fatal(err)
		}
		o.Release()
		s.GC()
		if u := s.Usage(); u.Bytes > limit {
			t.Fatalf("%d bytes", u.Bytes)
		}
	}
	last := get(t, s, 99, Version{1, 256 << 10})
	if !last.Complete() {
		t.Error("the newest is gone")
	}
	last.Release()
	first := get(t, s, 0, Version{1, 256 << 10})
	if len(readAll(first)) != 0 {
		t.Error("the oldest is there")
	}
	first.Release()
	before := s.Usage().Bytes
	s = reopen(t, s)
	if u := s.Usage(); u.Bytes < before*9/10 || u.Bytes > before*11/10 {
		t.Errorf("%d bytes before the restart, %d after", before, u.Bytes)
	}
}

func TestALargeFileInUseLosesParts(t *testing.T) {
	const size = 160 << 20
	s := open(t, t.TempDir(), func(c *Config) { c.Limit = 100 << 20 })
	o := get(t, s, 1, Version{1, size})
	defer o.Release()
	p := bytes.Repeat([]byte{1}, 1<<20)
	stored := 0
	for off := int64(0); off < size; off += 1 << 20 {
		if o.WriteAt(p, off, 0) == nil {
			stored++
		}
		s.GC()
		if u := s.Usage(); u.Bytes > 100<<20 {
			t.Fatalf("%d bytes", u.Bytes)
		}
	}
	if stored != 160 || o.Dead() {
		t.Errorf("%d of 160 stored, dead %v", stored, o.Dead())
	}
	if o.ReadAt(p, size-1<<20, 0) != 1<<20 {
		t.Error("the end is missing")
	}
}

func TestTheFloorIsKept(t *testing.T) {
	var mu sync.Mutex
	free := int64(1 << 30)
	s := open(t, t.TempDir(), func(c *Config) {
		c.Floor = 100 << 20
		c.Free = func(string) (int64, int64, error) {
			mu.Lock()
			defer mu.Unlock()
			return free, 10 << 30, nil
		}
	})
	for i := range uint64(10) {
		o := get(t, s, i, Version{1, 1 << 20})
		must(t, o.WriteAt(bytes.Repeat([]byte{1}, 1<<20), 0, 0))
		o.Release()
	}
	mu.Lock()
	free = 90 << 20 // others took it
	mu.Unlock()
	s.GC()
	if u := s.Usage(); u.Bytes != 0 || !u.Full {
		t.Errorf("%d bytes are left, full %v", u.Bytes, u.Full)
	}
	o := get(t, s, 1, Version{1, 1 << 20})
	if err := o.WriteAt(bytes.Repeat([]byte{1}, 1<<20), 0, 0); !errors.Is(err, ErrNoRoom) {
		t.Errorf("stored below the floor: %v", err)
	}
	mu.Lock()
	free = 1 << 30
	mu.Unlock()
	s.GC()
	must(t, o.WriteAt(bytes.Repeat([]byte{1}, 1<<20), 0, 0))
	o.Release()
}

func TestWhatIsPinnedStays(t *testing.T) {
	s := open(t, t.TempDir(), func(c *Config) { c.Limit = 1 << 20 })
	must(t, s.Pin(true, ID{FileID: 1}))
	s = reopen(t, s)
	for i := range uint64(20) {
		o := get(t, s, i, Version{1, 128 << 10})
		_ = o.WriteAt(bytes.Repeat([]byte{1}, 128<<10), 0, 0)
		o.Release()
		s.GC()
	}
	o := get(t, s, 1, Version{1, 128 << 10})
	if !o.Complete() {
		t.Error("a pinned object was evicted")
	}
	o.Release()
	if u := s.Usage(); u.Pinned < 128<<10 {
		t.Errorf("pinned: %d bytes", u.Pinned)
	}
	must(t, s.Pin(false, ID{FileID: 1}))
	if u := s.Usage(); u.Pinned != 0 {
		t.Errorf("pinned: %d bytes", u.Pinned)
	}
}

func TestADirectoryOfOthersIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "thesis"), nil, 0o600))
	if _, err := Open(Config{Dir: dir}); err == nil {
		t.Error("took a directory with files of others")
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left %v", list)
	}
	s := open(t, t.TempDir(), nil)
	if _, err := Open(Config{Dir: s.cfg.Dir}); !errors.Is(err, ErrInUse) {
		t.Errorf("a second store on one directory: %v", err)
	}
}

func TestVerifyFindsRot(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	o := get(t, s, 1, Version{1, 10 * BlockSize})
	must(t, o.WriteAt(content(1, 1, 0, 10*BlockSize), 0, 0))
	o.Release()
	flip(t, s.path((&ID{FileID: 1}).key(), ".d"), 5*BlockSize+17, 4)
	c, err := s.Verify(t.Context(), nil)
	must(t, err)
	if c.Objects != 1 || c.Rotten != 1 || c.Bytes != 9*BlockSize {
		t.Errorf("%+v", c)
	}
	c, err = s.Verify(t.Context(), nil)
	must(t, err)
	if c.Rotten != 0 {
		t.Errorf("again: %+v", c)
	}
}

// TestStoreAgainstAModel does random things at random objects; a read gives a prefix of what is right.
func TestStoreAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "diskcache")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		cfg := Config{Dir: dir, Limit: 60 * BlockSize, MaxOpen: 2}
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		<-s.Ready()
		change := [4]uint64{1, 1, 1, 1}
		size := [4]int{5000, BlockSize, 9 * BlockSize, 30_000}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				i := rapid.IntRange(0, 3).Draw(t, "file")
				from := rapid.IntRange(0, (size[i]-1)/BlockSize).Draw(t, "from")
				to := rapid.IntRange(from, (size[i]-1)/BlockSize).Draw(t, "to")
				o, err := s.Get(ID{FileID: uint64(i)}, Version{change[i], uint64(size[i])}, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer o.Release()
				end := min((to+1)*BlockSize, size[i])
				if err := o.WriteAt(content(uint64(i), change[i], from*BlockSize, end-from*BlockSize), int64(from*BlockSize), 0); err != nil && !errors.Is(err, ErrNoRoom) {
					t.Fatal(err)
				}
			},
			"read": func(t *rapid.T) {
				i := rapid.IntRange(0, 3).Draw(t, "file")
				o, err := s.Get(ID{FileID: uint64(i)}, Version{change[i], uint64(size[i])}, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer o.Release()
				off := rapid.IntRange(0, size[i]).Draw(t, "off")
				p := make([]byte, rapid.IntRange(0, size[i]).Draw(t, "n"))
				n := o.ReadAt(p, int64(off), 0)
				if n > size[i]-off || !bytes.Equal(p[:n], content(uint64(i), change[i], off, n)) {
					t.Fatalf("wrong bytes of file %d at %d", i, off)
				}
			},
			"change": func(t *rapid.T) {
				i := rapid.IntRange(0, 3).Draw(t, "file")
				change[i]++
				size[i] = rapid.IntRange(1, 40_000).Draw(t, "size")
			},
			"drop":  func(t *rapid.T) { s.Drop(ID{FileID: uint64(rapid.IntRange(0, 3).Draw(t, "file"))}) },
			"evict": func(*rapid.T) { s.GC() },
			"restart": func(t *rapid.T) {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = Open(cfg); err != nil {
					t.Fatal(err)
				}
			},
		})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestReadersWritersAndEvictionAtOnce(t *testing.T) {
	s := open(t, t.TempDir(), func(c *Config) { c.Limit = 2 << 20; c.MaxOpen = 3 })
	var wg sync.WaitGroup
	const size = 40*BlockSize + 99
	for w := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			p := make([]byte, size)
			for range 300 {
				i, change := rnd.Uint64N(16), uint64(1)
				if rnd.UintN(20) == 0 {
					change = rnd.Uint64N(3)
				}
				o, err := s.Get(ID{FileID: i}, Version{change, size}, nil)
				if err != nil {
					t.Error(err)
					return
				}
				off := rnd.IntN(size)
				n := o.ReadAt(p[:rnd.IntN(size)], int64(off), 0)
				if !bytes.Equal(p[:n], content(i, change, off, n)) {
					t.Errorf("wrong bytes of %d at %d", i, off)
				}
				from := rnd.IntN(40)
				end := min((from+1+rnd.IntN(20))*BlockSize, size)
				if err := o.WriteAt(content(i, change, from*BlockSize, end-from*BlockSize), int64(from*BlockSize), 0); err != nil && !errors.Is(err, ErrNoRoom) {
					t.Error(err)
				}
				if rnd.UintN(30) == 0 {
					s.Drop(ID{FileID: rnd.Uint64N(16)})
				}
				o.Release()
			}
		})
	}
	wg.Wait()
	s.GC()
	if c := s.c.rotten.Load(); c != 0 {
		t.Errorf("%d blocks are said to be rotten", c)
	}
	before := s.Usage()
	s = reopen(t, s)
	if u := s.Usage(); u.Objects > before.Objects {
		t.Errorf("%d objects after, %d before", u.Objects, before.Objects)
	}
}

// TestKill dies at each crash point, several times over, and then reads everything.
func TestKill(t *testing.T) {
	if dir := os.Getenv("DISKCACHE_CHILD"); dir != "" {
		killed(t, dir)
		return
	}
	for _, point := range crash.Names() {
		if !strings.HasPrefix(point, "diskcache.") {
			continue
		}
		t.Run(point, func(t *testing.T) {
			dir := t.TempDir()
			for nth := 1; nth <= 40; nth = nth*3 + 1 {
				cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
				cmd.Env = append(os.Environ(), "DISKCACHE_CHILD="+dir, fmt.Sprintf("%s=%s:%d", crash.Env, point, nth))
				out, err := cmd.CombinedOutput()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					if nth > 1 && err == nil {
						break // it was not passed so often
					}
					t.Fatalf("the child was not killed at %s: %v\n%s", point, err, out)
				}
				afterKill(t, dir)
			}
		})
	}
}

const killSize = 70 * BlockSize

// killed is what the child does until it is killed.
func killed(t *testing.T, dir string) {
	s := open(t, dir, func(c *Config) { c.Limit = 200 * BlockSize; c.MaxOpen = 1 })
	for round := range uint64(6) {
		for i := range uint64(4) {
			o := get(t, s, i, Version{round/2 + 1, killSize})
			for off := 0; off < killSize; off += 10 * BlockSize {
				if err := o.WriteAt(content(i, round/2+1, off, 10*BlockSize), int64(off), 0); err != nil && !errors.Is(err, ErrNoRoom) {
					t.Fatal(err)
				}
			}
			o.Release()
			s.GC()
		}
		// Own writes: file 9 goes from content 1 to content 2, block by block, and on.
		o := get(t, s, 9, Version{100 + round, killSize})
		err := error(nil)
		for off := 0; off < killSize && err == nil; off += BlockSize {
			err = o.Overwrite(content(9, 101+round, off, BlockSize), int64(off))
		}
		if err == nil {
			err = o.Advance(Version{101 + round, killSize})
		}
		if err == nil {
			must(t, o.Settle(func() bool { return true }))
		} else if errors.Is(err, ErrNoRoom) {
			s.Drop(ID{FileID: 9})
		} else {
			t.Fatal(err)
		}
		o.Release()
		s.GC()
	}
	big := get(t, s, 20, Version{1, largeObject + part})
	s.SetLimits(largeObject+part/2, 0, 0)
	p := bytes.Repeat([]byte{1}, 1<<20)
	for off := int64(0); off < largeObject+part; off += 1 << 20 {
		_ = big.WriteAt(p, off, 0)
		s.GC()
	}
	big.Release()
}

func afterKill(t *testing.T, dir string) {
	t.Helper()
	s := open(t, dir, nil)
	err := s.List(t.Context(), func(i Info) bool {
		o := s.peek(i.ID.key())
		if o == nil {
			return true
		}
		defer o.Release()
		v := o.Version()
		p := make([]byte, BlockSize)
		for off := int64(0); off < int64(v.Size); off += BlockSize {
			if n := o.ReadAt(p, off, 0); n > 0 {
				want := content(i.FileID, v.Change, int(off), BlockSize)
				if i.FileID == 20 {
					want = bytes.Repeat([]byte{1}, BlockSize)
				}
				if !bytes.Equal(p, want) {
					t.Fatalf("file %d, version %d: wrong bytes at %d", i.FileID, v.Change, off)
				}
			}
		}
		return true
	})
	must(t, err)
	// No file is left that nobody knows.
	u := s.Usage()
	var headers, datas int
	must(t, filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		switch filepath.Ext(path) {
		case ".m":
			headers++
		case ".d":
			datas++
		}
		return err
	}))
	if headers != u.Objects || datas > headers {
		t.Errorf("%d objects, %d headers, %d data files", u.Objects, headers, datas)
	}
	must(t, s.Close())
}
