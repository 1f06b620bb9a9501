package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFsx runs package fsx in a Linux client of a serve, with NFSv4.2 and 3, and compares what it leaves
// with the file at the origin. HOLDFAST_FSX=2m makes it as long, for each, 4.1 included.
func TestFsx(t *testing.T) {
	v := vms(t, "alice")[0]
	dir := scratch(t, "export")
	program := filepath.Join(scratch(t, "bin"), "fsx")
	build := exec.Command("go", "build", "-o", program, "./internal/fsx/fsx")
	build.Dir, build.Env = repo, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, p := startV3(t, dir)
	length, versions := os.Getenv("HOLDFAST_FSX"), []string{"4.2", "4.1", "3"}
	if length == "" {
		length, versions = "0s", []string{"4.2", "3"}
	}
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			v := &VM{t, v.name}
			if version == "3" {
				mount3(v, p, "/mnt/s")
			} else {
				v.mount(p, "/data", "/mnt/s", "vers="+version)
			}
			file := "fsx-" + version
			out := v.run("/host"+program, "-ops", "100", "-max", "131072", "-time", length, "/mnt/s/"+file)
			lines := strings.Split(out, "\n")
			t.Logf("%d runs; %s", len(lines), lines[len(lines)-1])
			here := strings.Fields(v.run("sha256sum", "/mnt/s/"+file))[0]
			there, err := exec.Command("sha256sum", filepath.Join(dir, file)).Output()
			if err != nil || !strings.HasPrefix(string(there), here) {
				t.Errorf("the origin has another file than the client: %s and %s, %v", there, here, err)
			}
			if n := strings.Count(out, "done map["); n == 0 || n != strings.Count(out, "seed ") {
				t.Error(fmt.Sprint("nothing was done: ", out))
			}
		})
	}
}
