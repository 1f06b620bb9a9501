package remote

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/fs"
)

// BenchmarkMemoryOfObjects tells what is resident for each file of which attributes, a name and a decision are known,
// in directories of a hundred:
//
//	go test -run XXX -bench MemoryOfObjects -benchtime 1x ./fs/remote
func BenchmarkMemoryOfObjects(b *testing.B) {
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for range b.N {
				runtime.GC()
				heap, rss := memory(b)
				c := newCache(AttrTimes{}, 8*n)
				fillCache(c, n)
				runtime.GC()
				heap2, rss2 := memory(b)
				files, weight := c.size()
				if files < n {
					b.Fatalf("%d files of %d are known, weight %d", files, n, weight)
				}
				b.ReportMetric(float64(heap2-heap)/float64(n), "heap-B/object")
				b.ReportMetric(float64(rss2)/(1<<20), "resident-MiB")
				b.ReportMetric(float64(rss2-rss)/float64(n), "resident-B/object")
				runtime.KeepAlive(c)
			}
		})
	}
}

// fillCache makes n files known, as lookups of them do.
func fillCache(c *cache, n int) {
	now := time.Unix(1_700_000_000, 0)
	who := credKey(alice)
	pad := strings.Repeat("h", 40)
	handle := func(kind string, i int) fs.Handle { return fs.Handle(fmt.Sprintf("%s%s%08d", kind, pad, i)) }
	var dir fs.Handle
	for i := range n {
		if i%100 == 0 {
			dir = handle("d", i/100)
			c.seen(dir, &fs.Attr{Type: fs.Directory, Change: 1, FileID: uint64(i)}, c.begin(), now)
			c.addAccess(dir, who, accessAll, accessAll, 1)
		}
		h := handle("f", i)
		c.seen(h, &fs.Attr{Type: fs.Regular, Change: 1, FileID: uint64(i), Mtime: now, Ctime: now, Atime: now}, c.begin(), now)
		c.addName(dir, fmt.Sprintf("a file of usual length %d", i), h, 1)
		c.addAccess(h, who, accessAll, fs.AccessRead, 1)
	}
}

// memory is what the heap and the process take.
func memory(b *testing.B) (heap, resident int64) {
	b.Helper()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return int64(m.HeapAlloc), pages * int64(os.Getpagesize())
}
