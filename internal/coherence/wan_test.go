package coherence_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/loadgen"
	"holdfast/internal/stage"
)

// TestCreatesFarAway has 64 open-owners create and close files in one directory, with the origin 200 ms away. A create
// is one request upstream and a close another, and nothing else is asked for; where the origin delegates the new
// file, the close stays here. The rate is told, not judged: what keeps creates from waiting for each other is
// TestCreatesInOneDirectoryGoSideBySide in package remote.
//
// HOLDFAST_E2E=1 go test ./internal/coherence -run FarAway -v -args -time 10s
func TestCreatesFarAway(t *testing.T) {
	const rtt, lanes = 200 * time.Millisecond, 64
	binary := stage.Need(t)
	export := []string{"--export", "/data *(rw,no_root_squash,insecure)", "--rpcbind", "off"}
	for _, c := range []struct {
		name    string
		origin  []string
		closes  bool // go upstream
		percent uint64
	}{
		{"no delegations", []string{"--delegate", "off"}, true, 220},
		{"delegations", []string{"--delegate", "on"}, false, 120},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := stage.Dir(t)
			data := filepath.Join(base, "data")
			must(t, os.Mkdir(data, 0o777))
			addr, down := stage.Port(t), stage.Port(t)
			stage.Start(t, binary, base, "origin", append(append([]string{"origin", data, "--listen", addr, "--retain", "always"}, c.origin...), export...)...)
			serve := stage.Start(t, binary, base, "serve", append([]string{"serve", far(t, addr, rtt) + ":/data", "--listen", down}, export...)...)
			count := func() uint64 { return upstream(t, serve)["SEQUENCE"] }
			o := loadgen.Options{Rounds: 4}
			if *length > 9*time.Second {
				o = loadgen.Options{Warm: time.Second, Time: *length}
			}
			var before, after uint64
			o.Phase = func(counting bool) {
				if counting {
					before = count()
				} else {
					after = count()
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), *length+2*time.Minute)
			defer cancel()
			r, err := loadgen.Find("create+close, 64 owners").NFS(ctx, down, "/data", o)
			must(t, err)
			t.Logf("%.0f creates/s by %d at once, %v away; p50 %v, p99 %v; %.2f requests upstream for each", r.Rate, lanes, rtt, r.P50.Round(time.Millisecond), r.P99.Round(time.Millisecond), float64(after-before)/float64(r.Rounds))
			if o.Rounds > 0 && (after-before)*100 > r.Rounds*c.percent {
				t.Errorf("%d requests upstream for %d creates", after-before, r.Rounds)
			}
		})
	}
}
