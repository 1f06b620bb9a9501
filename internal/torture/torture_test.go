package torture

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	seed    = flag.Uint64("seed", 0, "of the plan; 0: drawn")
	length  = flag.Duration("time", 30*time.Second, "how long to torture")
	rough   = flag.Bool("rough", false, "outages that outlast leases, too")
	plan    = flag.String("plan", "", "actions, with commas between them, in place of a drawn plan")
	extra   = flag.String("serve", "", "more arguments of the re-export servers")
	above   = flag.String("origin", "", "more arguments of the origin")
	all     = flag.Bool("all", false, "every way to run the servers in turn, each for the time; otherwise the seed picks one")
	kernels = flag.Int("kernels", 2, "Linux clients in VMs; none with -rough")
	verbose = flag.Bool("tell", false, "tell all that happens while it happens")
)

func need(t *testing.T) string {
	t.Helper()
	if os.Getenv("HOLDFAST_E2E") == "" {
		t.Skip("starts real servers, as root: run `make torture`, or set HOLDFAST_E2E=1 after make build")
	}
	binary, err := filepath.Abs("../../bin/holdfast")
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// TestTorture is the whole. -args -time 10m -seed 7 -rough for more of it.
func TestTorture(t *testing.T) {
	need(t)
	first := *seed
	if first == 0 {
		first = Seed()
	}
	switch {
	case *extra != "" || *above != "":
		torture(t, first, setting{"given", strings.Fields(*extra), strings.Fields(*above)})
	case *all:
		for i := range settings {
			s := first + uint64(i)
			t.Run(of(s).name, func(t *testing.T) { torture(t, s, of(s)) })
		}
	default:
		torture(t, first, of(first))
	}
}

func torture(t *testing.T, seed uint64, x setting) {
	cfg := Config{Binary: need(t), Dir: t.TempDir(), Seed: seed, Time: *length, Rough: *rough, Serve: x.serve, Origin: x.origin}
	if !*rough {
		cfg.Kernels, cfg.VM = *kernels, filepath.Join(filepath.Dir(filepath.Dir(cfg.Binary)), "scripts/vm/vm")
	}
	if *plan != "" {
		cfg.Plan = strings.Split(*plan, ",")
	}
	cfg.Round = min(40*time.Second, max(*length, 5*time.Second))
	if *verbose {
		cfg.Log = os.Stderr
	}
	t.Logf("seed %d, %s: serve %v, origin %v", cfg.Seed, x.name, x.serve, x.origin)
	r, err := Run(t.Context(), cfg)
	if err != nil {
		keep(t, cfg.Dir)
		t.Fatal(err)
	}
	t.Log(r)
	if len(r.Violations) > 0 {
		t.Errorf("%d violations; again with -args -seed %d, and with -serve, -origin, -plan or -rough as they were", len(r.Violations), cfg.Seed)
		keep(t, cfg.Dir)
		t.Logf("the first of them: %s", r.Violations[0])
	}
	if r.Kills["serve"] < 10 && r.Took >= 30*time.Second && *plan == "" && !*rough {
		t.Errorf("only %v kills", r.Kills)
	}
}

// keep copies what a failure is to be understood from to where it stays.
func keep(t *testing.T, dir string) {
	t.Helper()
	to, err := os.MkdirTemp("", "holdfast-torture-")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil {
			err = os.WriteFile(filepath.Join(to, filepath.Base(f)), b, 0o600)
		}
		if err != nil {
			t.Error(err)
		}
	}
	t.Logf("logs and stories are in %s", to)
}
