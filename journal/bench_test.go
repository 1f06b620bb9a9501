package journal

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// One operation is one record made durable: go test -bench Commit ./journal
func BenchmarkCommit(b *testing.B) {
	for _, committers := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(committers), func(b *testing.B) {
			j, _ := mustOpen(b, b.TempDir())
			var wg sync.WaitGroup
			next := make(chan int, b.N)
			for n := range b.N {
				next <- n
			}
			close(next)
			b.ResetTimer()
			for range committers {
				wg.Go(func() {
					for n := range next {
						batch := new(Batch)
						batch.PutLock(lockOf(alice(n), "file", 1))
						if err := j.Commit(context.Background(), batch); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			if s := j.Stats(); s.Commits > 0 {
				b.ReportMetric(float64(s.Batches)/float64(s.Commits), "batches/group")
			}
		})
	}
}

// Boot is Open and Load of 100,000 locks, after a clean end and after a kill.
func BenchmarkBoot(b *testing.B) {
	dir := b.TempDir()
	j, _ := mustOpen(b, dir)
	for n := 0; n < 100_000; n += 1000 {
		mustCommit(b, j, func(batch *Batch) {
			for k := range 1000 {
				batch.PutLock(lockOf(alice(n+k), "file", 1))
			}
		})
	}
	// A copy that is made while Badger deletes a log is not what a kill leaves.
	var killed string
	for intact := false; !intact; {
		killed = b.TempDir()
		copyTree(b, dir, killed)
		r, err := Verify(killed)
		intact = err == nil && r.State == Intact
	}
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	for name, from := range map[string]string{"clean": dir, "killed": killed} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				to := b.TempDir()
				copyTree(b, from, to)
				b.StartTimer()
				j, r, err := Open(to, Options{})
				if err != nil {
					b.Fatal(err)
				}
				s, err := j.Load()
				if err != nil || len(s.Locks) != 100_000 || r.State != Intact {
					b.Fatalf("%d locks, %v, %s", len(s.Locks), err, r)
				}
				b.StopTimer()
				j.Close()
				b.StartTimer()
			}
		})
	}
}
