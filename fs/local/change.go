//go:build linux

package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/fs"
	"holdfast/internal/bootid"
)

// A changer makes the change attribute of RFC 8881 5.8.1.4 from ctime.
//
// Linux keeps a change counter for its own NFS server (STATX_CHANGE_COOKIE) and does not show it to
// programs. What it shows is ctime, and that falls short in two ways.
//
// # Within a tick
//
// Before Linux 6.13 ctime is the time of the last timer tick, so two changes within one tick (1 to
// 10 ms) have one ctime. Since 6.13 ext4, xfs and btrfs give a file whose ctime was looked at a
// fine-grained and unique one at its next change: there ctime serves as it is ("fine"; New finds out
// by trying). tmpfs does so for files and not for directories, others not at all. There:
//
// Read the coarse clock, then ctime. If the clock was a tick past ctime, whatever changes the file
// afterwards gives it a ctime that is a tick later or more: this one is settled, and the value is
// ctime + half a tick. If not, another change may follow under the same ctime, so every look gives
// another value: ctime + (time since ctime)/4, made unique, and below the settled one. It may differ
// without a change, which costs a client a cache, but is never equal over one. It grows with ctime and
// with the time of the look, neither of which goes back; so no value does. Nothing is kept per file,
// so there is nothing that a restart or an eviction could forget.
//
// # A clock that is set back
//
// The value is ctime + epoch, in ns. The epoch grows by more than the clock went back, as soon as it
// did, so that what changes afterwards is above everything that was given before. (All other files
// seem to change as well, once.) A clock that is set shows as a change of its distance to the monotonic
// clock; adjustments of its rate do not change that. Before values with a new epoch are given, the
// epoch is durable in StateDir.
//
// Over restarts within one boot of the machine the distance to the boot clock is compared with the
// one in StateDir. Over a reboot there is no such clock: StateDir holds a bound above all values given,
// moved ahead by boundAhead at a time, and the epoch grows if the clock stands below it. A clean Close
// makes the bound exact.
//
// A ctime in the future is left from a wrong clock. A change would take it back, so it counts as the
// time of the last step of the clock that we know of, or of the start.
//
// What remains: a clock that is set back and forth again while nobody asks for an attribute; stores through a shared mapping by a program on this host, which the kernel does not
// put into ctime until the page was written back; file systems that take ctime from another host
// (NFS, FUSE and so on: "foreign"), which are as good as that host; and a StateDir older than the
// values given.
type changer struct {
	path  string // of the state in StateDir
	clock changeClock
	// What New learned about the file system.
	fine    bool
	foreign bool
	gran    int64 // ns between two values of ctime, at least; the tick, or what inodes can hold

	cur atomic.Pointer[epoch]
	mu  sync.Mutex // guards the writing of cur, disk first
}

// epoch is the state; all but what unique points to is immutable.
type epoch struct {
	unique   *atomic.Int64 // the last unsettled moment given out since the clock was set back, ns
	add      int64         // ns added to ctime
	distance int64         // wall clock - monotonic clock, ns
	since    int64         // no stamp made since the start, or since the clock was last set back, is below it, ns
	until    int64         // stamps from before the clock was last set back may be up to here, ns
	bound    int64         // no value above it has been given, ns
}

// changeClock is what of clocks is asked; tests have their own.
type changeClock struct {
	// now is the wall and the monotonic clock, read together, ns.
	now func() (wall, mono int64)
	// boot is the id of the machine's boot, and wall clock - boot clock, ns.
	boot func() (id string, distance int64, err error)
	// coarse is the clock that ctime is taken from, ns.
	coarse func() int64
}

// changeState is the file in StateDir.
type changeState struct {
	Epoch    int64  // ns
	Gran     int64  // ns
	Until    int64  // ns
	Bound    int64  // ns
	Boot     string // the machine's boot
	Distance int64  // ns, wall clock - boot clock
}

const (
	boundAhead = int64(30 * time.Second)
	// clockNoise is how far two readings of the distance may differ, ns: the clocks are not read in
	// one instant.
	clockNoise = 2000
	// stepMargin is added whenever the epoch grows, ns.
	stepMargin = int64(time.Millisecond)
)

func newChanger(path string, clock changeClock, fine, foreign bool, gran int64) (*changer, error) {
	c := &changer{path: path, clock: clock, fine: fine, foreign: foreign, gran: gran}
	var old changeState
	p, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(p, &old); err != nil || old.Epoch < 0 || old.Gran < 0 {
			return nil, fmt.Errorf("%s is damaged (%v): remove it if no client has the export mounted", path, err)
		}
	}
	at, err := c.now()
	if err != nil {
		return nil, err
	}
	wall, boot, bootDistance := at.wall, at.boot, at.bootDistance
	e := epoch{unique: new(atomic.Int64), add: old.Epoch, distance: at.distance, since: wall - gran, until: old.Until}
	if old.Boot == boot {
		if back := old.Distance - bootDistance; back > clockNoise {
			e.add += back + old.Gran + 3*gran + stepMargin
			e.until = max(e.until, wall+back) + gran
		}
	} else {
		if behind := old.Bound - (wall - gran + old.Epoch); behind >= 0 {
			e.add += behind + stepMargin
		}
		e.until = max(e.until, old.Bound-old.Epoch)
	}
	if old.Gran > gran {
		// The half tick that is added shrinks: settled values would go back.
		e.add += old.Gran - gran
	}
	return c, c.save(&e, at)
}

// sample reads the clocks until they were read close together, and gives wall and distance.
func (c *changer) sample() (wall, distance int64) {
	best := int64(-1)
	for range 20 {
		_, m1 := c.clock.now()
		w, m2 := c.clock.now()
		if gap := m2 - m1; best < 0 || gap < best {
			best, wall, distance = gap, w, w-m2
		}
		if best < clockNoise/2 {
			break
		}
	}
	return wall, distance
}

// moment is what the clocks say.
type moment struct {
	wall, distance int64 // ns
	boot           string
	bootDistance   int64 // ns
}

// now reads all clocks. The boot clock comes first: a step between the two is then found by who reads
// the state in StateDir, once too often rather than never.
func (c *changer) now() (m moment, err error) {
	if m.boot, m.bootDistance, err = c.clock.boot(); err != nil {
		return m, err
	}
	m.wall, m.distance = c.sample()
	return m, nil
}

// save makes e durable, with a new bound, and then current.
func (c *changer) save(e *epoch, at moment) error {
	e.bound = at.wall + e.add + c.gran + boundAhead
	if err := c.write(e, at); err != nil {
		return err
	}
	c.cur.Store(e)
	return nil
}

func (c *changer) write(e *epoch, at moment) error {
	p, err := json.Marshal(changeState{Epoch: e.add, Gran: c.gran, Until: e.until, Bound: e.bound, Boot: at.boot, Distance: at.bootDistance})
	if err != nil {
		return err
	}
	return writeDurably(c.path, append(p, '\n'))
}

// step takes a set clock into e, and tells whether it was set.
func (e *epoch) step(at moment, gran int64) bool {
	step := at.distance - e.distance
	switch {
	case step < -clockNoise:
		e.add += -step + 3*gran + stepMargin
		e.until = max(e.until, at.wall-step) + gran
		e.distance, e.since, e.unique = at.distance, at.wall-gran, new(atomic.Int64)
	case step > clockNoise: // set forward, or the machine slept
		e.distance = at.distance
	default:
		return false
	}
	return true
}

// close makes the bound exact: nothing is given out any more.
func (c *changer) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, err := c.now()
	if err != nil {
		return err
	}
	e := *c.cur.Load()
	e.step(at, c.gran)
	e.bound = at.wall + e.add + c.gran
	return c.write(&e, at)
}

// current is the epoch to use for a ctime that has been read before the call.
func (c *changer) current() (*epoch, int64, error) {
	e := c.cur.Load()
	wall, mono := c.clock.now()
	drift := wall - mono - e.distance
	if drift <= clockNoise && drift >= -clockNoise && wall+e.add+c.gran < e.bound-boundAhead/2 {
		return e, wall, nil
	}
	return c.refresh()
}

// refresh looks closely at the clock, and renews the bound.
func (c *changer) refresh() (*epoch, int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, err := c.now()
	if err == nil {
		e := *c.cur.Load()
		if !e.step(at, c.gran) && at.wall+e.add+c.gran < e.bound-boundAhead/2 {
			return c.cur.Load(), at.wall, nil
		}
		err = c.save(&e, at)
	}
	if err != nil {
		return nil, 0, fs.E("", fs.ServerFault, fmt.Errorf("change attribute: %w", err))
	}
	return c.cur.Load(), at.wall, nil
}

// before is called before ctime is read, and its result given to value.
func (c *changer) before() int64 {
	if c.fine || c.foreign {
		return 0
	}
	return c.clock.coarse()
}

// value is the change attribute of a file with this ctime, ns. again asks for another look, at most
// a tick or two later.
func (c *changer) value(before, ctime int64) (v uint64, again bool, err error) {
	e, wall, err := c.current()
	if err != nil {
		return 0, false, err
	}
	if c.foreign {
		return uint64(ctime + e.add), false, nil
	}
	if ctime > wall+clockNoise {
		return uint64(e.since + e.add), false, nil
	}
	if wall < e.until && ctime > c.clock.coarse() {
		// Just now, or before the clock was set back? The next change may be stamped up to a tick ago.
		return 0, true, nil
	}
	if c.fine || before-before%c.gran-ctime >= c.gran/8*7 { // 7/8: ticks are not exactly alike
		return uint64(ctime + e.add + c.gran/2), false, nil
	}
	for {
		last := e.unique.Load()
		now := max(wall, last+4)
		if (now-ctime)/4 >= c.gran/2 {
			return 0, true, nil
		}
		if e.unique.CompareAndSwap(last, now) {
			return uint64(ctime + e.add + (now-ctime)/4), false, nil
		}
	}
}

// realClocks are those of the machine.
func realClocks() changeClock {
	start := time.Now()
	return changeClock{
		now: func() (wall, mono int64) {
			t := time.Now()
			return t.UnixNano(), int64(t.Sub(start))
		},
		boot: func() (string, int64, error) {
			id, err := bootid.Read()
			if err != nil {
				return "", 0, err
			}
			var best, distance int64 = -1, 0
			for range 20 {
				a, w, b := clockNow(unix.CLOCK_BOOTTIME), clockNow(unix.CLOCK_REALTIME), clockNow(unix.CLOCK_BOOTTIME)
				if best < 0 || b-a < best {
					best, distance = b-a, w-(a+b)/2
				}
			}
			return id, distance, nil
		},
		coarse: func() int64 { return clockNow(unix.CLOCK_REALTIME_COARSE) },
	}
}

// clockNow reads a clock that always exists, ns.
func clockNow(id int32) int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(id, &ts) // cannot fail: the id and the address are good
	return ts.Nano()
}

// tick is the distance of two values of the coarse clock, ns.
func tick() int64 {
	var ts unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_REALTIME_COARSE, &ts); err != nil || ts.Nano() <= 0 {
		return int64(10 * time.Millisecond)
	}
	return ts.Nano()
}

// probeCtime finds out what ctime is worth in the directory: whether it is fine-grained, and
// otherwise the distance of two values. It tries on a file without a name; where that cannot be, it
// takes the worse.
func probeCtime(dir int, k fsKind) (fine bool, gran int64) {
	gran = tick()
	f, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return false, gran
	}
	defer unix.Close(f)
	const tries = 16
	seen := make(map[int64]bool)
	whole := true
	start := time.Now()
	for i := range tries {
		var st unix.Statx_t
		if unix.Fchmod(f, 0o600+uint32(i%2)) != nil || unix.Statx(f, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st) != nil {
			return false, gran
		}
		seen[st.Ctime.Sec*1e9+int64(st.Ctime.Nsec)] = true
		whole = whole && st.Ctime.Nsec == 0
	}
	if whole {
		return false, int64(time.Second)
	}
	return k.fineTimes && len(seen) == tries && time.Since(start) < tries/2*time.Duration(gran), gran
}
