package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// libnfs is a client that shares no code with Linux: its commands list, read and write by NFSv3 and NFSv4.0. showmount
// asks the portmapper and MOUNT.
func TestLibnfsClients(t *testing.T) {
	need(t)
	for _, tool := range []string{"nfs-ls", "nfs-cat", "nfs-cp", "showmount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: run scripts/setup", err)
		}
	}
	for _, role := range []string{"origin", "serve"} {
		t.Run(role, func(t *testing.T) {
			dir, p := scratch(t, "export"), 0
			if role == "origin" {
				_, p = startOrigin(t, dir, "--rpcbind", "auto")
			} else {
				_, o := startOrigin(t, dir)
				_, p = startServe(t, o, "", "--rpcbind", "auto")
			}
			if out := command(t, "showmount", "-e", "127.0.0.1"); !strings.Contains(out, "/data") {
				t.Errorf("showmount -e: %s", out)
			}
			want := bytes.Repeat([]byte("0123456789abcdef"), 100_000) // several WRITEs and READs
			if err := os.WriteFile(filepath.Join(dir, "large"), want, 0o644); err != nil {
				t.Fatal(err)
			}
			source := filepath.Join(scratch(t, "source"), "source")
			if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
				t.Fatal(err)
			}
			for vers, want := range map[int][]byte{3: want, 4: want[:500]} { // libnfs 4.0 encodes no NFSv4 WRITE of a page
				url := func(path string) string {
					return fmt.Sprintf("nfs://127.0.0.1/data/%s?version=%d&nfsport=%d&mountport=%d", path, vers, p, p)
				}
				if err := os.WriteFile(source, want, 0o644); err != nil {
					t.Fatal(err)
				}
				name := fmt.Sprintf("copied-by-v%d", vers)
				command(t, "nfs-cp", source, url("sub/"+name))
				got, err := os.ReadFile(filepath.Join(dir, "sub", name))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("v%d: %d bytes came to the origin (%v), want %d", vers, len(got), err, len(want))
				}
				if out := command(t, "nfs-ls", url("sub")); !strings.Contains(out, name) {
					t.Errorf("v%d: nfs-ls: %s", vers, out)
				}
				if out := command(t, "nfs-cat", url("sub/"+name)); out != string(want) {
					t.Errorf("v%d: nfs-cat gave %d bytes, want %d", vers, len(out), len(want))
				}
				if out := command(t, "nfs-cat", url("large")); len(out) != 1_600_000 {
					t.Errorf("v%d: nfs-cat of a large file gave %d bytes", vers, len(out))
				}
				if out, err := exec.Command("nfs-cat", url("sub/absent")).CombinedOutput(); err == nil {
					t.Errorf("v%d: nfs-cat of what is not there: %s", vers, out)
				}
			}
		})
	}
}

// command runs a program on the host that must succeed, and gives what it prints.
func command(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(60*time.Second, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}
