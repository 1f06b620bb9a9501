package diskcache

import (
	"runtime"
	"testing"
)

// TestMemoryOfObjects prints what an object on disk costs in memory while nobody uses it.
func TestMemoryOfObjects(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, n := range []uint64{10_000, 100_000, 1_000_000} {
		if n > 100_000 && testing.Short() {
			break
		}
		s := open(t, t.TempDir(), nil)
		before := heap()
		for i := range n {
			id := ID{FileID: i}
			s.mu.Lock()
			e := &entry{key: id.key()}
			s.add(e)
			s.charge(e, BlockSize)
			s.mu.Unlock()
		}
		each := (heap() - before) / int64(n)
		t.Logf("%d objects: %d bytes each, %d MiB", n, each, each*int64(n)>>20)
		if each*int64(n) > 1<<30 {
			t.Errorf("more than 1 GiB")
		}
		runtime.KeepAlive(s)
	}
}
