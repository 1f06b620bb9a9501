package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// The tests of this package mostly wait: for leases, and for grace. `make e2e` runs them in two processes at once,
// which share the directory HOLDFAST_LANES: a test is run by the process that makes its file there.

var mine sync.Map // top-level test -> true

// takeTurn skips the test if another process has it.
func takeTurn(t *testing.T) {
	t.Helper()
	dir := os.Getenv("HOLDFAST_LANES")
	test, _, _ := strings.Cut(t.Name(), "/")
	if _, have := mine.Load(test); dir == "" || have {
		return
	}
	f, err := os.OpenFile(filepath.Join(dir, test), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		t.Skip("runs in the other lane")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	mine.Store(test, true)
}

var portmap struct {
	sync.Mutex
	users int
	file  *os.File
}

// ownPortmapper keeps port 111 of this host for this process until the test is over.
func ownPortmapper(t *testing.T) {
	t.Helper()
	portmap.Lock()
	defer portmap.Unlock()
	if portmap.users == 0 {
		f, err := os.OpenFile("/run/holdfast-portmapper.lock", os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		portmap.file = f
	}
	portmap.users++
	t.Cleanup(func() {
		portmap.Lock()
		defer portmap.Unlock()
		if portmap.users--; portmap.users == 0 {
			portmap.file.Close()
		}
	})
}
