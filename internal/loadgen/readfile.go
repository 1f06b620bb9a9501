package loadgen

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/nfs4"
)

// A FileRead is how a whole file was read.
type FileRead struct {
	Bytes   uint64
	First   time.Duration // from OPEN to the first data
	Elapsed time.Duration // from OPEN to the last
}

// ReadFile reads the file at name on the server at addr, by a client of its own, as an application does that reads
// from the start to the end: transfers of 1 MiB in order, at most lanes of them at once.
func ReadFile(ctx context.Context, addr, name string, lanes int) (r FileRead, err error) {
	c, err := Dial(ctx, Config{Addr: addr, Lanes: lanes})
	if err != nil {
		return r, err
	}
	defer func() {
		if err == nil {
			err = c.Close(ctx)
		} else {
			c.hangUp()
		}
	}()
	dir, err := c.Lanes[0].lookup(ctx, path.Dir(name))
	if err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	begun := time.Now()
	f, err := c.Lanes[0].open(ctx, dir, c.openArgs("reader", path.Base(name), nfs4.OPEN4_SHARE_ACCESS_READ, false))
	if err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	var next, got atomic.Uint64
	var first sync.Once
	errs := make([]error, len(c.Lanes))
	var wg sync.WaitGroup
	for i, l := range c.Lanes {
		wg.Go(func() {
			for errs[i] == nil {
				off := next.Add(large) - large
				if off >= f.size {
					return
				}
				want := min(large, f.size-off)
				for want > 0 && errs[i] == nil {
					errs[i] = l.Do(ctx, func(list []nfs4.Res) error {
						n := uint64(len(list[1].(*nfs4.ReadRes).Data))
						if n == 0 {
							return errors.New("loadgen: nothing was read before the end of the file")
						}
						first.Do(func() { r.First = time.Since(begun) })
						got.Add(n)
						off, want = off+n, want-n
						return nil
					}, &nfs4.PutfhArgs{FH: f.fh}, &nfs4.ReadArgs{Stateid: f.open, Offset: off, Count: uint32(want)})
				}
			}
		})
	}
	wg.Wait()
	r.Bytes, r.Elapsed = got.Load(), time.Since(begun)
	if err := firstError(errs); err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	return r, c.Lanes[0].closeFile(ctx, f)
}
