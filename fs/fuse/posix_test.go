package fuse

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// notOurs are tests that cannot hold here, and why.
var notOurs = map[string]string{
	"OpenSymlinkRace":     "replaces files between their lookup and their open all the time; then an open by handle is ESTALE; skipped by its authors too",
	"FcntlFlockLocksFile": "expects that POSIX locks of one process exclude each other; skipped by its authors too",
}

// TestPosix runs the suite that all go-fuse file systems share on a mount of ours.
func TestPosix(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		name := "the backend removes open files"
		if keeps {
			name = "the backend keeps open files"
		}
		t.Run(name, func(t *testing.T) {
			b := newMem()
			b.keepsOpen = keeps
			_, dir := mountMem(t, b, func(c *Config) { c.KeepsOpen = keeps })
			childTest(t, "TestPosixChild", dir)
		})
	}
}

// TestPosixOneProc runs it with one thread for Go code in the daemon, where FUSE servers that touch
// themselves hang.
func TestPosixOneProc(t *testing.T) {
	needMount(t)
	if os.Getenv("GOMAXPROCS") == "1" {
		t.Skip("is one of its own runs")
	}
	childTest(t, "TestPosix", "", "GOMAXPROCS=1", roleEnv+"=")
}

func TestPosixChild(t *testing.T) {
	dir := childDir(t)
	for name, fn := range posixtest.All {
		t.Run(name, func(t *testing.T) {
			if why := notOurs[name]; why != "" {
				t.Skip(why)
			}
			sub := filepath.Join(dir, name)
			if err := os.Mkdir(sub, 0755); err != nil {
				t.Fatal(err)
			}
			fn(t, sub)
		})
	}
}
