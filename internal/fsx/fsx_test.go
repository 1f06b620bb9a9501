package fsx

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/stage"
)

var (
	length = flag.Duration("time", 4*time.Second, "how long on the mount")
	seed   = flag.Uint64("seed", 0, "of the first run; 0: drawn")
)

// A local file system does it right.
func TestLocalFile(t *testing.T) {
	for s := range uint64(3) {
		rep, err := Run(Config{Path: filepath.Join(t.TempDir(), "f"), Seed: s + 1, Ops: 500})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range Operations() {
			if rep.Done[o] == 0 && !strings.Contains(fmt.Sprint(rep.NoSupp), o) {
				t.Errorf("seed %d: no %s", s, o)
			}
		}
	}
}

// A run is the same again, and what is wrong is found and told with the operations that led to it.
func TestDifferencesAreFound(t *testing.T) {
	r := &run{cfg: Config{Path: filepath.Join(t.TempDir(), "f"), Seed: 7, Logged: 60}, want: []byte("what it must be")}
	for name, content := range map[string]string{"a byte": "what it mast be", "too short": "what", "too long": "what it must be, and more", "right": "what it must be"} {
		f, err := os.OpenFile(r.cfg.Path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
		if err == nil {
			_, err = f.WriteString(content)
		}
		if err != nil {
			t.Fatal(err)
		}
		r.f = f
		r.log("write     it")
		err = r.checkSize()
		if err == nil {
			err = r.check(0, len(r.want))
		}
		if err != nil {
			err = r.failed("read", err)
		}
		var d *Difference
		if found := errors.As(err, &d); found == (name == "right") {
			t.Errorf("%s: %v", name, err)
		} else if found && (!strings.Contains(d.Error(), "write     it") || d.Seed != 7) {
			t.Errorf("%s: what led to it is not told: %v", name, d)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestMount runs on the mount of a serve with a data cache, and the origin has the same file afterwards.
//
// HOLDFAST_E2E=1 go test ./internal/fsx -run Mount -args -time 10m
func TestMount(t *testing.T) {
	binary := stage.Need(t)
	base := stage.Dir(t)
	data, mnt := filepath.Join(base, "data"), filepath.Join(base, "mnt")
	for _, d := range []string{data, mnt} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	addr := stage.Port(t)
	export := []string{"--export", "/data *(rw,no_root_squash,insecure)", "--rpcbind", "off"}
	stage.Start(t, binary, base, "origin", append([]string{"origin", data, "--listen", addr, "--retain", "always"}, export...)...)
	stage.Start(t, binary, base, "serve", append([]string{"serve", addr + ":/data", "--listen", stage.Port(t), "--mount", mnt}, export...)...)
	cfg := Config{Path: filepath.Join(mnt, "f"), Seed: *seed, Ops: 400}
	if cfg.Seed == 0 {
		cfg.Seed = uint64(time.Now().UnixNano())
	}
	runs := 0
	for end := time.Now().Add(*length); runs == 0 || time.Now().Before(end); cfg.Seed++ {
		rep, err := Run(cfg)
		if err != nil {
			t.Fatal(err)
		}
		runs++
		here, err := os.ReadFile(cfg.Path)
		if err != nil {
			t.Fatal(err)
		}
		if there, err := os.ReadFile(filepath.Join(data, "f")); err != nil || string(there) != string(here) {
			t.Fatalf("seed %d: the origin has another file than the mount: %d and %d bytes, %v", cfg.Seed, len(there), len(here), err)
		}
		if runs == 1 {
			t.Logf("done %v, not supported %v", rep.Done, rep.NoSupp)
		}
	}
	t.Logf("%d runs of %d operations", runs, cfg.Ops)
}
