package torture

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/broken"
)

// A trap catches a broken build: a plan that is done again and again, or, where chance needs too long, a story.
type trap struct {
	cfg   Config
	story func(*stage)
}

var traps = map[string]trap{
	"broken_grant_before_journal": {cfg: Config{Plan: []string{"kill-serve"}}},
	"broken_reclaim_as_lock":      {story: awayTooLong},
	"broken_no_resume_fence":      {cfg: Config{Origin: unretained}, story: delayed},
	"broken_purge_in_grace":       {cfg: Config{Plan: []string{"kill-in-grace"}}},
	"broken_early_complete":       {cfg: Config{Plan: []string{"kill-serve"}, Serve: []string{"--recovery", "reclaim"}}},
}

// unretained is an origin that drops the state of who says that it restarted, so that we are resumed there.
var unretained = []string{"--retain", "never"}

// TestBrokenBuildsAreCaught shows that the judge can see: it builds the server with each invariant broken in
// turn, tortures it, and wants a violation, in a few rounds.
func TestBrokenBuildsAreCaught(t *testing.T) {
	need(t)
	for _, tag := range broken.Tags {
		trap, ok := traps[tag]
		if !ok {
			t.Errorf("nothing catches %s", tag)
			continue
		}
		t.Run(tag, func(t *testing.T) {
			cfg := trap.cfg
			cfg.Dir = t.TempDir()
			cfg.Binary = filepath.Join(cfg.Dir, "holdfast")
			if out, err := exec.Command("go", "build", "-tags", tag, "-o", cfg.Binary, "holdfast/cmd/holdfast").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if *verbose {
				cfg.Log = t.Output()
			}
			begun := time.Now()
			if trap.story != nil {
				cfg.Lease = storyLease
				found := play(t, cfg, trap.story)
				if len(found) == 0 {
					t.Fatal("not caught")
				}
				t.Logf("caught in %v: %s", time.Since(begun).Round(time.Second), found[0])
				return
			}
			cfg.Seed, cfg.Time, cfg.Round, cfg.Stop = 1, 4*time.Minute, 15*time.Second, true
			r, err := Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Violations) == 0 {
				t.Fatalf("not caught: %v", r)
			}
			first, _, _ := strings.Cut(r.Violations[0], "\n")
			t.Logf("caught after %v, %v kills, %d locks, %d violations: %s", r.Took.Round(time.Second), r.Kills, r.Locks, len(r.Violations), first)
		})
	}
}
