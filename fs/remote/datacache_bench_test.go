package remote

import (
	"context"
	"fmt"
	"testing"

	"holdfast/fs/remote/diskcache"
)

// BenchmarkWarmRead is a read of what is in the cache, without the server in front of it.
func BenchmarkWarmRead(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%d KiB", size>>10), func(b *testing.B) {
			f := newFake()
			data := pattern(64<<20, 1)
			f.file("f", data)
			store, err := diskcache.Open(diskcache.Config{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			r := newRig(b, f, func(c *Config) { c.Store = store })
			b.Cleanup(func() { r.Abandon(); _ = store.Close() })
			io := r.openTo(by("a"), alice, "f")
			buf := make([]byte, 1<<20)
			for off := uint64(0); off < uint64(len(data)); off += 1 << 20 {
				if _, _, err := r.Read(context.Background(), alice, io, off, buf); err != nil {
					b.Fatal(err)
				}
			}
			r.fetching.Wait()
			b.SetBytes(int64(size))
			b.ResetTimer()
			at := uint64(0)
			for b.Loop() {
				at = (at*6364136223846793005 + 1442695040888963407)
				off := at >> 20 % uint64(len(data)/size) * uint64(size)
				if n, _, err := r.Read(context.Background(), alice, io, off, buf[:size]); err != nil || n != size {
					b.Fatal(n, err)
				}
			}
			b.StopTimer()
			if m := r.data.c.misses.Load(); m > 2000 {
				b.Errorf("%d misses", m)
			}
		})
	}
}
