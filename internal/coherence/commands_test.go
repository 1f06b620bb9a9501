package coherence_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/coherence"
	"holdfast/internal/stage"
)

// TestCacheCommands looks at the cache of a real serve, fills it, pins, drops, verifies, and counts.
func TestCacheCommands(t *testing.T) {
	binary := stage.Need(t)
	base := stage.Dir(t)
	data, mnt := filepath.Join(base, "data"), filepath.Join(base, "mnt")
	must(t, os.MkdirAll(filepath.Join(data, "tree", "sub"), 0o755))
	must(t, os.Mkdir(mnt, 0o755))
	const size = 300 << 10
	old := time.Now().Add(-time.Hour)
	for i, name := range []string{"tree/a", "tree/b", "tree/sub/c", "other"} {
		path := filepath.Join(data, name)
		must(t, os.WriteFile(path, coherence.Fill(make([]byte, size), uint64(i+1)), 0o644))
		must(t, os.Chtimes(path, old, old))
	}
	addr := stage.Port(t)
	export := []string{"--export", "/data *(rw,no_root_squash,insecure)", "--rpcbind", "off"}
	stage.Start(t, binary, base, "origin", append([]string{"origin", data, "--listen", addr, "--retain", "always"}, export...)...)
	serve := stage.Start(t, binary, base, "serve", append([]string{"serve", addr + ":/data", "--listen", stage.Port(t), "--mount", mnt, "--cache-size", "64MiB", "--upstream-clients", "4"}, export...)...)
	run := func(args ...string) string {
		t.Helper()
		out, err := serve.Run(args...)
		must(t, err)
		return out
	}
	get := func(v any, args ...string) {
		t.Helper()
		out := run(append(args, "--json")...)
		if json.Unmarshal([]byte(out), v) == nil {
			return
		}
		lines := strings.Split(strings.TrimSpace(out), "\n") // of a stream the last counts
		must(t, json.Unmarshal([]byte(lines[len(lines)-1]), v))
	}
	usage := func() (u struct {
		Objects int   `json:"objects"`
		Bytes   int64 `json:"bytes"`
		Pinned  int64 `json:"pinned_bytes"`
		Limit   int64 `json:"limit_bytes"`
	}) {
		t.Helper()
		get(&u, "cache", "usage")
		return u
	}
	ls := func() int {
		t.Helper()
		return strings.Count(run("cache", "ls", "--json"), "\n")
	}

	// What has just been made is too young to be kept; when it is not, a second warm-up fetches nothing.
	waitFor(t, "a version to settle", func() bool {
		var done warm
		get(&done, "cache", "warmup", filepath.Join(mnt, "tree"))
		return done.Done && done.Files == 3 && done.Bytes == 3*size && done.Failed == 0 && done.Fetched == 0 && usage().Objects == 3
	})
	if n := ls(); n != 3 {
		t.Errorf("ls has %d files, want 3", n)
	}
	if out := run("cache", "ls"); !strings.Contains(out, "a") || !strings.Contains(out, "NAME") {
		t.Errorf("ls: %s", out)
	}
	if out := run("cache", "warmup", "/data/other"); !strings.Contains(out, "1 files") {
		t.Errorf("a path of an export: %s", out)
	}
	list := filepath.Join(base, "list")
	must(t, os.WriteFile(list, []byte(mnt+"/tree/a\n"+mnt+"/nowhere\n"), 0o600))
	if _, err := serve.Run("cache", "warmup", "-f", list); err == nil || !strings.Contains(err.Error(), "1 files could not be fetched") {
		t.Errorf("a list with a file that is not there: %v", err)
	}

	if out := run("cache", "pin", filepath.Join(mnt, "tree", "sub")); !strings.Contains(out, "pinned 1 files") {
		t.Errorf("pin: %s", out)
	}
	if usage().Pinned == 0 || !strings.Contains(run("cache", "ls"), "pinned") {
		t.Error("what is pinned is not said to be")
	}
	run("cache", "gc")
	if out := run("cache", "unpin", filepath.Join(mnt, "tree", "sub")); !strings.Contains(out, "unpinned 1 files") || usage().Pinned != 0 {
		t.Errorf("unpin: %s", out)
	}

	if out := run("cache", "drop", filepath.Join(mnt, "tree", "a")); !strings.Contains(out, "dropped 1 files") {
		t.Errorf("drop: %s", out)
	}
	before := usage().Objects
	b, err := os.ReadFile(filepath.Join(mnt, "tree", "a"))
	must(t, err)
	if string(b) != string(coherence.Fill(make([]byte, size), 1)) {
		t.Error("what was dropped is read wrong")
	}
	waitFor(t, "it to be cached again", func() bool { return usage().Objects == before+1 })

	// A rotten block is found, and read right all the same.
	var checked struct {
		Done    bool `json:"done"`
		Objects int  `json:"objects"`
		Bad     int  `json:"rotten_blocks"`
	}
	get(&checked, "cache", "verify")
	if !checked.Done || checked.Bad != 0 {
		t.Errorf("verify of what is good: %+v", checked)
	}
	rot(t, filepath.Join(serve.State, "cache", "objects"))
	out, err := serve.Run("cache", "verify", "--json")
	if err == nil {
		t.Error("verify exits with 0 where there is rot")
	}
	must(t, json.Unmarshal([]byte(out), &checked))
	if !checked.Done || checked.Bad == 0 {
		t.Errorf("verify of what is rotten: %+v", checked)
	}
	for i, name := range []string{"tree/a", "tree/b", "tree/sub/c", "other"} {
		b, err := os.ReadFile(filepath.Join(mnt, name))
		must(t, err)
		if string(b) != string(coherence.Fill(make([]byte, size), uint64(i+1))) {
			t.Errorf("%s is read wrong after the rot", name)
		}
	}
	if out := run("cache", "drop", "--all"); !strings.Contains(out, "dropped") || usage().Objects != 0 || ls() != 0 {
		t.Errorf("drop --all: %s", out)
	}
	if _, err := serve.Run("cache", "drop", "/elsewhere"); err == nil || !strings.Contains(err.Error(), "not below a mount") {
		t.Errorf("a path of nobody: %v", err)
	}

	// All upstream clients are counted.
	seen := upstream(t, serve)
	if seen["READ"]+seen["READ_PLUS"] == 0 || seen["RECLAIM_COMPLETE"] != 4 {
		t.Errorf("stats -u: %v", seen)
	}
	if out := run("status"); !strings.Contains(out, "consistency close-to-open") {
		t.Errorf("status does not tell the consistency:\n%s", out)
	}
}

type warm struct {
	Done    bool  `json:"done"`
	Files   int   `json:"files"`
	Bytes   int64 `json:"bytes"`
	Fetched int64 `json:"fetched"`
	Failed  int   `json:"failed"`
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

// rot changes a byte in the middle of each file's data.
func rot(t *testing.T, dir string) {
	t.Helper()
	n := 0
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".d") {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, 100<<10); err != nil {
			return err
		}
		b[0] ^= 0xff
		_, err = f.WriteAt(b, 100<<10)
		n++
		return err
	}))
	if n == 0 {
		t.Fatal("there are no data files: where are they?")
	}
}
