// Package arch holds the rule of which package may import which. Another arrow is a design
// change, so it fails here first. See ARCHITECTURE.md.
package arch

import (
	"os/exec"
	"strings"
	"testing"
)

// arrows lists, for each package, what of ours it may import besides itself and internal/*
// packages that its own line names. A trailing * allows what is below.
var arrows = map[string][]string{
	"fs":                  nil,
	"fs/fstest*":          {"fs"},
	"fs/local":            {"fs", "internal/bootid", "internal/clock", "internal/crash"},
	"fs/fuse":             {"fs", "internal/clock"},
	"fs/remote":           {"fs", "fs/remote/diskcache", "nfsup", "journal", "internal/*"},
	"fs/remote/diskcache": {"internal/clock", "internal/crash"},
	"journal":             {"fs", "internal/bootid", "internal/clock", "internal/crash"},
	"nfsup":               {"internal/*"},
	"nfsdown":             {"nfsdown/state", "journal", "fs", "internal/*"},
	"nfsdown/state":       {"journal", "fs", "internal/*"},
	"nfsdown/v3":          {"nfsdown", "nfsdown/state", "fs", "internal/*"},
	"nfsdown/nlm":         {"nfsdown", "nfsdown/state", "journal", "fs", "internal/*"},
	"cmd/holdfast":        {"*"},
	"internal/arch":       nil,
	"internal/bootid":     nil,
	"internal/broken":     nil,
	"internal/child":      nil,
	"internal/clock":      nil,
	"internal/coherence":  nil,
	"internal/config":     nil,
	"internal/control":    nil,
	"internal/crash":      nil,
	"internal/e2e":        nil,
	"internal/faultnet":   nil,
	"internal/torture*":   {"nfsup", "internal/*"},
	"internal/fsx*":       {"internal/fsx"},
	"internal/loadgen*":   {"internal/*"},
	"internal/nfs3":       {"internal/xdr"},
	"internal/nlm":        {"internal/xdr"},
	"internal/portmap":    {"internal/rpc", "internal/xdr"},
	"internal/nfs4":       {"internal/xdr"},
	"internal/rpc":        {"internal/xdr", "internal/clock"},
	"internal/stage":      {"internal/child"},
	"internal/xdr":        nil,
	"scripts*":            {"*"},
	"internal/plain":      {"internal/nfs4", "internal/rpc", "internal/xdr"},
	"internal/probe":      {"internal/nfs4", "internal/plain"},
	"internal/conform":    {"internal/nfs4", "internal/plain"},
}

func match(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

func TestImportsPointOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "holdfast/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		words := strings.Fields(line)
		from, ok := strings.CutPrefix(words[0], "holdfast/")
		if !ok {
			continue
		}
		seen++
		var allowed []string
		known := false
		for pattern, list := range arrows {
			if match(pattern, from) {
				known, allowed = true, list
			}
		}
		if !known {
			t.Errorf("%s is not in the list of packages: add it to arrows and to ARCHITECTURE.md", from)
			continue
		}
	imports:
		for _, w := range words[1:] {
			to, ok := strings.CutPrefix(w, "holdfast/")
			if !ok {
				continue
			}
			for _, pattern := range allowed {
				if match(pattern, to) {
					continue imports
				}
			}
			t.Errorf("%s imports %s, which no arrow allows", from, to)
		}
	}
	if seen < 15 {
		t.Errorf("only %d packages were looked at", seen)
	}
}
