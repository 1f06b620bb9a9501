//go:build linux

package local

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// simClock is the clocks of a machine, and the kernel that stamps files with them.
type simClock struct {
	wall, mono int64 // ns
	boot       int   // counts boots
	bootMono   int64 // mono at the boot
	setMono    int64 // mono when the wall clock was last set
	tick       int64 // ns
	fine       bool  // the kernel stamps finely what was looked at
	last       int64 // the last stamp given finely, a floor under all others
}

// simFile is a file in that kernel.
type simFile struct {
	ctime   int64
	queried bool
	state   int // counts changes
}

func (c *simClock) clocks() changeClock {
	return changeClock{
		now:    func() (int64, int64) { return c.wall, c.mono },
		boot:   func() (string, int64, error) { return fmt.Sprint(c.boot), c.wall - (c.mono - c.bootMono), nil },
		coarse: c.coarse,
	}
}

// coarse is the clock at the last tick, or when it was set, if that was later.
func (c *simClock) coarse() int64 { return c.wall - min((c.mono-c.bootMono)%c.tick, c.mono-c.setMono) }

func (c *simClock) advance(d int64) { c.wall += d; c.mono += d }

func (c *simClock) set(to int64) { c.wall = to; c.last = 0; c.setMono = c.mono }

// change stamps the file. sloppy is what tmpfs does to directories: never finely.
func (c *simClock) change(f *simFile, sloppy bool) {
	f.state++
	if c.fine && f.queried && !sloppy {
		c.advance(1) // two changes cannot be in one instant
		f.ctime, f.queried = c.wall, false
		c.last = c.wall
		return
	}
	f.ctime = max(c.coarse(), c.last)
}

func (c *simClock) look(t *rapid.T, ch *changer, f *simFile) uint64 {
	for {
		before := ch.before()
		f.queried = true
		ctime := f.ctime
		v, again, err := ch.value(before, ctime)
		if err != nil {
			t.Fatal(err)
		}
		c.advance(60) // a look takes its time
		if !again {
			return v
		}
		c.advance(c.tick / 8)
	}
}

// TestChangeNeverGoesBack plays a machine: changes within a tick, a clock that is set, crashes of the
// process and of the machine, kernels that stamp coarsely, finely, and sloppily.
func TestChangeNeverGoesBack(t *testing.T) {
	// In memory if possible: the state is synced often.
	dir, err := os.MkdirTemp("/dev/shm", "change")
	if err != nil {
		dir = t.TempDir()
	}
	defer os.RemoveAll(dir)
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		path := filepath.Join(dir, fmt.Sprint(runs))
		defer os.Remove(path)
		c := &simClock{wall: 1e18, mono: 5e9, tick: rapid.SampledFrom([]int64{1e6, 4e6, 1e7}).Draw(t, "tick"), fine: rapid.Bool().Draw(t, "kernel is fine")}
		trust := c.fine && rapid.Bool().Draw(t, "file system is fine")
		boot := func() *changer {
			ch, err := newChanger(path, c.clocks(), trust, false, c.tick)
			if err != nil {
				t.Fatal(err)
			}
			return ch
		}
		ch := boot()
		files := [2]simFile{{ctime: c.wall - 1e12}, {ctime: c.wall + int64(rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "second file is from the future"))}}
		other := simFile{ctime: 1e17}
		var last [2]uint64
		var seen [2]int
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			i := rapid.IntRange(0, 1).Draw(t, "file")
			switch rapid.SampledFrom([]string{"look", "look", "look", "change", "change", "change", "little", "tick", "long", "back", "forward", "restart", "close", "reboot"}).Draw(t, "step") {
			case "look":
				v := c.look(t, ch, &files[i])
				if last[i] != 0 && (v < last[i] || v == last[i] && files[i].state != seen[i]) {
					t.Fatalf("file %d: %d after %d, %d changes between", i, v, last[i], files[i].state-seen[i])
				}
				last[i], seen[i] = v, files[i].state
			case "change":
				c.change(&files[i], !trust && rapid.Bool().Draw(t, "sloppily"))
			case "little":
				c.advance(rapid.Int64Range(0, 200_000).Draw(t, "ns"))
			case "tick":
				c.advance(c.tick)
			case "long":
				c.advance(int64(20 * time.Second))
			case "back":
				c.set(c.wall - rapid.Int64Range(1e5, 1e14).Draw(t, "ns"))
				c.look(t, ch, &other) // or it may be set forth again unseen
			case "forward":
				c.set(c.wall + rapid.Int64Range(1e5, 1e14).Draw(t, "ns"))
				c.look(t, ch, &other)
			case "close":
				if err := ch.close(); err != nil {
					t.Fatal(err)
				}
				c.advance(1e6)
				ch = boot()
			case "restart":
				c.advance(1e6)
				ch = boot()
			case "reboot":
				c.advance(5e9)
				c.boot++
				c.bootMono = c.mono
				c.set(c.wall + rapid.SampledFrom([]int64{-1e14, -1e9, 0, 1e9, 1e14}).Draw(t, "clock of the machine"))
				for j := range files {
					files[j].queried = false
				}
				ch = boot()
			}
		}
	})
}

// On a quiet machine the value is stable: a restart does not make caches void.
func TestChangeIsStable(t *testing.T) {
	for _, end := range []string{"crash", "close", "clean reboot", "long crash of the machine"} {
		t.Run(end, func(t *testing.T) {
			c := &simClock{wall: 1e18, mono: 5e9, tick: 4e6, fine: true}
			path := filepath.Join(t.TempDir(), "change")
			ch, err := newChanger(path, c.clocks(), true, false, c.tick)
			if err != nil {
				t.Fatal(err)
			}
			ctime := c.wall - 1e9
			v1, _, _ := ch.value(ch.before(), ctime)
			switch end {
			case "close", "clean reboot":
				if err := ch.close(); err != nil {
					t.Fatal(err)
				}
			}
			c.advance(5e9)
			if end == "clean reboot" {
				c.boot, c.bootMono = 1, c.mono
			}
			if end == "long crash of the machine" {
				c.advance(boundAhead)
				c.boot, c.bootMono = 1, c.mono
			}
			if ch, err = newChanger(path, c.clocks(), true, false, c.tick); err != nil {
				t.Fatal(err)
			}
			if v2, _, _ := ch.value(ch.before(), ctime); v2 != v1 {
				t.Errorf("%d, before %d", v2, v1)
			}
		})
	}
}

func TestChangeStateDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "change")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &simClock{wall: 1e18, tick: 4e6}
	if _, err := newChanger(path, c.clocks(), true, false, c.tick); err == nil {
		t.Error("a damaged state was taken for a fresh one")
	}
}

// Twice the same moment must not be found on a real disk either, however fast the changes come.
func TestChangeOnDisk(t *testing.T) {
	b := start(t, Config{Async: true})
	path := filepath.Join(b.cfg.Dir, "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h, a, err := b.Lookup(t.Context(), rootCred, b.rootHandle, "f")
	if err != nil {
		t.Fatal(err)
	}
	last := a.Change
	for i := range 300 {
		if err := os.Chmod(path, 0o600+os.FileMode(i%2)); err != nil { // a program of this host
			t.Fatal(err)
		}
		a, err := b.GetAttr(t.Context(), rootCred, h)
		if err != nil {
			t.Fatal(err)
		}
		if a.Change <= last {
			t.Fatalf("change %d: %d after %d", i, a.Change, last)
		}
		last = a.Change
	}
}
