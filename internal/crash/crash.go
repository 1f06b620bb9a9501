// Package crash names the places where a crash would hurt most, and can make the process die there.
//
// A place is registered once and hit each time it is passed:
//
//	var intent = crash.Register("journal.intent")
//	...
//	intent.Hit()
//
// With HOLDFAST_CRASH=journal.intent in the environment the process kills itself with SIGKILL when
// it passes the place for the first time; with HOLDFAST_CRASH=journal.intent:7 at the seventh.
// Without it a hit costs one load. Tests list [Names] and die at each.
package crash

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Env is the environment variable that names the place to die at: name[:nth].
const Env = "HOLDFAST_CRASH"

// A Place is a registered crash point.
type Place struct {
	name  string
	armed bool         // set before the Place is published
	left  atomic.Int64 // hits until the end, if armed
}

var (
	mu     sync.Mutex
	places = make(map[string]*Place) // guarded by mu

	target, nth = parse(os.Getenv(Env))

	// die is replaced by the tests of this package.
	die = func() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way; nothing after the place may happen
	}
)

// parse splits name[:nth]. An nth that is no positive number counts as 1.
func parse(s string) (string, int64) {
	name, count, ok := strings.Cut(s, ":")
	if !ok {
		return name, 1
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil || n < 1 {
		n = 1
	}
	return name, n
}

// Register returns the place of that name. Several calls with one name give the same place.
func Register(name string) *Place {
	mu.Lock()
	defer mu.Unlock()
	if p := places[name]; p != nil {
		return p
	}
	p := &Place{name: name, armed: name != "" && name == target}
	p.left.Store(nth)
	places[name] = p
	return p
}

// Hit passes the place. It does not return if this is where the process is to die.
func (p *Place) Hit() {
	if p.armed && p.left.Add(-1) == 0 {
		die()
	}
}

// Name is the name it was registered with.
func (p *Place) Name() string { return p.name }

// Point registers and hits in one call, for places that are passed seldom.
func Point(name string) { Register(name).Hit() }

// Names lists what is registered, sorted. Places that use Point are in it once they were passed.
func Names() []string {
	mu.Lock()
	defer mu.Unlock()
	names := make([]string, 0, len(places))
	for name := range places {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
