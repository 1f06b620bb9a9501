package crash

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]struct {
		name string
		nth  int64
	}{
		"": {"", 1}, "a.b": {"a.b", 1}, "a.b:3": {"a.b", 3}, "a.b:0": {"a.b", 1}, "a.b:x": {"a.b", 1},
	} {
		if name, n := parse(in); name != want.name || n != want.nth {
			t.Errorf("parse(%q) = %q, %d", in, name, n)
		}
	}
}

func TestNames(t *testing.T) {
	p := Register("test.names")
	if Register("test.names") != p || p.Name() != "test.names" {
		t.Error("one name, two places")
	}
	if !slices.Contains(Names(), "test.names") {
		t.Errorf("not in %q", Names())
	}
	p.Hit() // not armed
}

// The child passes the place until it dies and says how often it did.
func TestDiesAtTheNth(t *testing.T) {
	if os.Getenv("CRASH_TEST_CHILD") != "" {
		for range 5 {
			Point("test.other")
			os.Stdout.WriteString("x")
			Point("test.die")
		}
		os.Exit(0)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestDiesAtTheNth$")
	cmd.Env = append(os.Environ(), "CRASH_TEST_CHILD=1", Env+"=test.die:3")
	out, err := cmd.Output()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err == nil || !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("ended with %v", err)
	}
	if n := strings.Count(string(out), "x"); n != 3 {
		t.Errorf("died at pass %d, want 3", n)
	}
}
