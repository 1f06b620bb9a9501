package nlm

import (
	"slices"
	"testing"

	"holdfast/internal/nlm"
	"holdfast/nfsdown"
)

// TestCounters: a lock that is denied is an answer with an error, one that waits is not.
func TestCounters(t *testing.T) {
	w := newWorld(t)
	a, b := w.peer("a"), w.peer("b")
	f := w.file("f")
	want(t, "a locks", a.lock(f, 1, 0, 10, how{}), nlm.Granted)
	want(t, "b locks", b.lock(f, 1, 0, 10, how{}), nlm.Denied)
	want(t, "b waits", b.lock(f, 1, 0, 10, how{block: true}), nlm.Blocked)
	want(t, "b asks", b.test(f, 1, 0, 10).Stat, nlm.Denied)
	want(t, "b asks elsewhere", b.test(f, 1, 20, 10).Stat, nlm.Granted)
	want(t, "b opens", b.share(f, "oh", 0, 1, true, false), nlm.Granted)
	a.call(nlm.NSMProgram, nlm.NSMVersion, nlm.SMNotify, &nlm.Notify{Name: "c", State: 5}, nil)
	got := w.down.OpStats()
	for i := range got {
		got[i].Nanos = 0
	}
	if want := []nfsdown.OpStat{
		{Program: "NLM", Op: "TEST", Count: 2, Errors: 1},
		{Program: "NLM", Op: "LOCK", Count: 3, Errors: 1},
		{Program: "NLM", Op: "SHARE", Count: 1},
		{Program: "NSM", Op: "NOTIFY", Count: 1},
	}; !slices.Equal(got, want) {
		t.Errorf("counted\n%+v, want\n%+v", got, want)
	}
}
