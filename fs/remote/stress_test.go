package remote

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// shaky lets answers overtake each other, and makes change_info4 not atomic if told so.
type shaky struct {
	*fake
	loose bool
}

func (s *shaky) CompoundAll(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func([]nfs4.Res) error) error {
	return s.fake.CompoundAll(ctx, cred, ops, func(res []nfs4.Res) error {
		if s.loose {
			for _, x := range res {
				switch x := x.(type) {
				case *nfs4.CreateRes:
					x.Cinfo.Atomic = false
				case *nfs4.RemoveRes:
					x.Cinfo.Atomic = false
				case *nfs4.RenameRes:
					x.SourceCinfo.Atomic, x.TargetCinfo.Atomic = false, false
				}
			}
		}
		for range rand.IntN(4) {
			runtime.Gosched()
		}
		return use(res)
	})
}

func (s *shaky) Compound(ctx context.Context, cred *rpc.Cred, ops []nfs4.Args, use func([]nfs4.Res) error) error {
	return s.CompoundAll(ctx, cred, ops, func(res []nfs4.Res) error {
		if err := lastStatus(res); err != nil {
			return err
		}
		return use(res)
	})
}

// TestEveryoneSeesHisOwnChanges: workers share two directories, each with names of its own, and after
// each change look at once. Another client changes the directories behind our back all the time.
func TestEveryoneSeesHisOwnChanges(t *testing.T) {
	for _, loose := range []bool{false, true} {
		f := newFake()
		r := newRig(t, f, nil)
		r.up = &shaky{f, loose}
		ctx := t.Context()
		var dirs [2]fs.Handle
		for i := range dirs {
			var err error
			dirs[i], _, _, err = r.Create(ctx, alice, r.root(), fmt.Sprint("d", i), &fs.CreateRequest{Type: fs.Directory})
			r.must(err)
		}
		stop := make(chan struct{})
		var wg, others sync.WaitGroup
		others.Add(1)
		go func() {
			defer others.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				f.behind(func() {
					d := f.files[mustFH2(r, dirs[i%2])]
					if d.entries["theirs"] == nil {
						f.add(d, "theirs", nfs4.NF4REG)
					} else {
						f.unlink(d, "theirs")
					}
				})
				_, _, _ = r.Lookup(ctx, bob, dirs[i%2], "theirs")
				_, _ = r.ReadDir(ctx, bob, dirs[i%2], 0, true, func(*fs.DirEntry) bool { return true })
				for range 50 {
					runtime.Gosched()
				}
			}
		}()
		for w := range 6 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				there := map[string]bool{}
				key := func(d int, name string) string { return fmt.Sprint(d, name) }
				for i := range 400 {
					d, name := rand.IntN(2), fmt.Sprintf("w%d-%d", w, rand.IntN(3))
					k := key(d, name)
					var err error
					switch {
					case there[k] && rand.IntN(2) == 0:
						_, err = r.Remove(ctx, alice, dirs[d], name, fs.RemoveFile)
						there[k] = false
					case there[k]:
						e, to := rand.IntN(2), fmt.Sprintf("w%d-%d", w, rand.IntN(3))
						_, _, err = r.Rename(ctx, alice, dirs[d], name, dirs[e], to)
						there[k] = false
						there[key(e, to)] = true
					default:
						_, _, _, err = r.Create(ctx, alice, dirs[d], name, &fs.CreateRequest{Type: fs.Symlink})
						there[k] = true
					}
					if err != nil {
						t.Errorf("worker %d, step %d: %v", w, i, err)
						return
					}
					for d := range 2 {
						for n := range 3 {
							name := fmt.Sprintf("w%d-%d", w, n)
							_, _, err := r.Lookup(ctx, alice, dirs[d], name)
							if want := there[key(d, name)]; (err == nil) != want {
								t.Errorf("loose %v, worker %d, step %d: %s in d%d: %v, want there: %v", loose, w, i, name, d, err, want)
								return
							}
						}
					}
				}
			}()
		}
		wg.Wait()
		close(stop)
		others.Wait()
	}
}
