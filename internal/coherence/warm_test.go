package coherence_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/fs/remote"
	"holdfast/internal/coherence"
	"holdfast/internal/loadgen/relay"
	"holdfast/internal/stage"
)

// far puts the origin at addr a round trip away.
func far(t *testing.T, addr string, rtt time.Duration) string {
	t.Helper()
	_, there, stop, err := relay.Start(addr, rtt)
	must(t, err)
	t.Cleanup(func() { must(t, stop()) })
	return there
}

// upstream is how often serve has sent each operation to the origin.
func upstream(t *testing.T, serve *stage.Proc) map[string]uint64 {
	t.Helper()
	out, err := serve.Run("stats", "-u", "--json")
	must(t, err)
	var v struct {
		Upstream map[string][]struct {
			Op    string `json:"op"`
			Count uint64 `json:"count"`
		} `json:"upstream"`
	}
	must(t, json.Unmarshal([]byte(out), &v))
	sum := map[string]uint64{}
	for _, list := range v.Upstream {
		for _, o := range list {
			sum[o.Op] += o.Count
		}
	}
	return sum
}

// TestWarmReadAfterARestart: after kill -9, with the origin 50 ms away and the mode strict, a file that was read before
// comes from the disk: an open and a read cost at most two round trips, and no data is fetched.
func TestWarmReadAfterARestart(t *testing.T) {
	const rtt = 50 * time.Millisecond
	binary := stage.Need(t)
	base := stage.Dir(t)
	data := filepath.Join(base, "data")
	must(t, os.MkdirAll(filepath.Join(data, "dir"), 0o755))
	content := coherence.Fill(make([]byte, 1<<20), 7)
	must(t, os.WriteFile(filepath.Join(data, "dir", "f"), content, 0o644))
	addr, down := stage.Port(t), stage.Port(t)
	export := []string{"--export", "/data *(rw,no_root_squash,insecure)", "--rpcbind", "off"}
	stage.Start(t, binary, base, "origin", append([]string{"origin", data, "--listen", addr, "--retain", "always"}, export...)...)
	serve := stage.Start(t, binary, base, "serve", append([]string{"serve", far(t, addr, rtt) + ":/data", "--listen", down, "--upstream-clients", "1", "-o", "consistency=strict"}, export...)...)

	type counts struct{ trips, reads uint64 }
	count := func() counts {
		t.Helper()
		n := upstream(t, serve)
		return counts{n["SEQUENCE"], n["READ"] + n["READ_PLUS"]}
	}
	// visit opens and reads as an end client does, and tells what that cost upstream.
	visit := func() (took time.Duration, cost counts) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c, err := remote.Mount(ctx, remote.Config{Name: "end", Server: down, Path: "/data"})
		must(t, err)
		defer c.Abandon()
		root, err := c.Root(ctx)
		must(t, err)
		dir, _, err := c.Lookup(ctx, fs.Root, root, "dir")
		must(t, err)
		before, began := count(), time.Now()
		o := fs.Owner{Client: "end", Owner: "o"}
		res, err := c.Open(ctx, fs.Root, &fs.OpenRequest{Owner: o, Access: fs.ShareRead, Dir: dir, Name: "f"})
		must(t, err)
		b := make([]byte, 64<<10)
		n, _, err := c.Read(ctx, fs.Root, fs.IORef{Handle: res.File, Open: o}, 0, b)
		took = time.Since(began)
		must(t, err)
		if string(b[:n]) != string(content[:n]) || n == 0 {
			t.Errorf("%d bytes, or wrong ones", n)
		}
		after := count()
		return took, counts{after.trips - before.trips, after.reads - before.reads}
	}
	took, cost := visit()
	t.Logf("cold: first bytes after %v, %d requests upstream, %d of them reads", took.Round(time.Millisecond), cost.trips, cost.reads)
	if cost.reads == 0 {
		t.Error("a cold read reads nothing at the origin: the test shows nothing")
	}
	waitFor(t, "the file to be cached for good", func() bool {
		out, err := serve.Run("cache", "warmup", "--json", "/data/dir/f")
		var w warm
		return err == nil && json.Unmarshal([]byte(out[lastLine(out):]), &w) == nil && w.Done && w.Fetched == 0
	})
	serve.Kill()
	serve.Boot()
	took, cost = visit()
	t.Logf("after kill -9: first bytes after %v, %d requests upstream, %d of them reads; a round trip is %v", took.Round(time.Millisecond), cost.trips, cost.reads, rtt)
	if cost.trips > 2 || cost.reads != 0 {
		t.Errorf("%d requests upstream, %d of them reads; want at most 2, and 0", cost.trips, cost.reads)
	}
}

// lastLine is where the last line begins.
func lastLine(s string) int {
	for i := len(s) - 2; i >= 0; i-- {
		if s[i] == '\n' {
			return i + 1
		}
	}
	return 0
}
