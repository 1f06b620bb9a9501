package journal

import (
	"reflect"
	"testing"
)

// What is read of one origin, and of hosts, is what Load has of them.
func TestLoadPartsAgree(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir())
	check := func(held bool) {
		t.Helper()
		all := mustLoad(t, j)
		for _, name := range []string{"a", "ab", "abc", "none"} {
			want := &UpstreamSnapshot{Complete: all.Complete, Held: held}
			for i := range all.Upstreams {
				if all.Upstreams[i].Name == name {
					want.Upstream = &all.Upstreams[i]
				}
			}
			for _, u := range all.UpStates {
				if u.Name == name {
					want.States = append(want.States, u)
				}
			}
			got, err := j.LoadUpstream(name)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
			}
		}
		hosts, err := j.Monitors()
		if err != nil || !reflect.DeepEqual(hosts, all.Monitors) {
			t.Errorf("hosts %+v, %v, want %+v", hosts, err, all.Monitors)
		}
		if held != (len(all.Opens)+len(all.Locks) > 0) {
			t.Errorf("Load has %d opens and %d locks", len(all.Opens), len(all.Locks))
		}
	}
	check(false)
	mustCommit(t, j, func(b *Batch) {
		for _, name := range []string{"abc", "ab"} {
			b.PutUpstream(&Upstream{Name: name, Epoch: j.Epoch()})
			b.PutUpState(&UpState{Name: name, Kind: OpenState, File: []byte("file " + name)})
			b.PutUpState(&UpState{Name: name, Kind: LockState, File: []byte("file " + name)})
		}
		b.PutMonitor(&Monitor{Host: "h"})
		b.PutClient(&Client{Owner: "alice", Epoch: j.Epoch(), Expired: true})
		b.PutLock(lockOf(alice(1), "f", j.Epoch())) // void: its client has expired
	})
	check(false)
	mustCommit(t, j, func(b *Batch) { b.PutClient(&Client{Owner: "alice", Epoch: j.Epoch()}) })
	check(true)
}
