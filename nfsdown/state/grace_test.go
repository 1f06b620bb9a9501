package state

import (
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// RFC 8881 8.4.2.1: grace lasts longer while reclaims keep coming, but not more than twice its time, and not
// for those who are silent.
func TestGraceLastsWhileReclaimsCome(t *testing.T) {
	const grace = 90 * time.Second
	w := newWorld(t, Config{Lease: grace, Grace: grace})
	c := w.client("alice")
	opened(w, c)
	for n := range uint64(40) {
		must(t, c.lock("o", "x", "f", fs.Range{First: 2 * n, Last: 2 * n}, fs.WriteLock, false, false))
	}
	w.crash()
	confirmed(w, c)
	must(t, c.open("o", "f", fs.ShareBoth, 0, true))
	begun := w.now
	over := time.Duration(0)
	for n := range uint64(40) {
		w.now = w.now.Add(9 * time.Second)
		if err := c.lock("o", "x", "f", fs.Range{First: 2 * n, Last: 2 * n}, fs.WriteLock, false, true); err != nil {
			wants(t, "a reclaim after the end", err, nfs4.NFS4ERR_NO_GRACE)
			over = w.now.Sub(begun)
			break
		}
	}
	if over != 2*grace {
		t.Errorf("the first reclaim that was refused came after %v", over)
	}
	if g := w.srv.EndGrace(false); g == nil {
		t.Error("grace is not over")
	}

	w = newWorld(t, Config{Lease: grace, Grace: grace})
	c = w.client("alice")
	opened(w, c)
	must(t, c.lock("o", "x", "f", ten, fs.WriteLock, false, false))
	w.crash()
	confirmed(w, c)
	// A reclaim that the backend takes long for: the next one is taken too.
	p, err := c.planOpen(t.Context(), "o", "f", fs.ShareBoth, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(grace + time.Second)
	must(t, c.doOpen(p))
	w.now = w.now.Add(9 * time.Second)
	must(t, c.lock("o", "x", "f", ten, fs.WriteLock, false, true))
	w.now = w.now.Add(11 * time.Second)
	if g := w.srv.EndGrace(false); g == nil {
		t.Error("grace goes on though no reclaim comes")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
