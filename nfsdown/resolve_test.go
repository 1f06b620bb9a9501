package nfsdown

import (
	"errors"
	"testing"

	"holdfast/fs"
)

// TestResolve: a path finds the file that a client's LOOKUPs find, over nested exports too.
func TestResolve(t *testing.T) {
	w, _ := exportsWorld(t)
	p := w.client("c")
	for _, path := range [][]string{{"c"}, {"srv", "a"}, {"srv", "a", "deep"}, {"srv", "a", "deep", "inner"}} {
		text := ""
		for _, n := range path {
			text += "/" + n
		}
		r, err := w.srv.Resolve(t.Context(), text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if want := p.fh(path...); string(r.Handle) != string(want) {
			t.Errorf("%s is %x, and %x for a client", text, r.Handle, want)
		}
	}
	for path, want := range map[string]error{"/": ErrNotExported, "/srv": ErrNotExported, "/srv/closed/none": fs.NoEnt, "/srv/a/../../etc": ErrNotExported} {
		if _, err := w.srv.Resolve(t.Context(), path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}
