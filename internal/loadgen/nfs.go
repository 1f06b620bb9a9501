package loadgen

import (
	"context"
	"fmt"
	"sync"

	"holdfast/internal/nfs4"
)

// An nfsEnv is what a workload has by NFS.
type nfsEnv struct {
	ctx   context.Context
	c     *Client
	dir   nfs4.FH
	o     *Options
	lanes []*Lane
}

// each runs f for all lanes at once.
func (e *nfsEnv) each(f func(i int, l *Lane) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(e.lanes))
	for i, l := range e.lanes {
		wg.Go(func() { errs[i] = f(i, l) })
	}
	wg.Wait()
	return firstError(errs)
}

// firstError spares us 64 times the same.
func firstError(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// open opens a file for each lane: names gives its owner and name.
func (e *nfsEnv) open(names func(i int) (owner, name string)) ([]file, error) {
	files := make([]file, len(e.lanes))
	err := e.each(func(i int, l *Lane) (err error) {
		owner, name := names(i)
		files[i], err = l.openFile(e.ctx, e.dir, owner, name)
		return err
	})
	return files, err
}

// close closes the files of all lanes.
func (e *nfsEnv) close(files []file) error {
	return e.each(func(i int, l *Lane) error { return l.closeFile(e.ctx, files[i]) })
}

// nfsLocks has a lock-owner for each lane, of an open of its own or of one that they share.
func nfsLocks(oneOpen bool) func(*nfsEnv) (*task, error) {
	return func(e *nfsEnv) (*task, error) {
		t := &task{}
		var files []file
		var err error
		if oneOpen {
			f, e1 := e.lanes[0].openFile(e.ctx, e.dir, "one", "locks")
			err = e1
			for range e.lanes {
				files = append(files, f)
			}
			t.clean = func() error { return e.lanes[0].closeFile(e.ctx, f) }
		} else {
			files, err = e.open(func(i int) (string, string) { return fmt.Sprint("owner ", i), "locks" })
			t.clean = func() error { return e.close(files) }
		}
		if err != nil {
			return nil, err
		}
		for i, l := range e.lanes {
			t.steps = append(t.steps, e.lockStep(l, files[i], i))
		}
		return t, nil
	}
}

func (e *nfsEnv) lockStep(l *Lane, f file, i int) func() error {
	put := &nfs4.PutfhArgs{FH: f.fh}
	lock := &nfs4.LockArgs{LockType: nfs4.WRITE_LT, Offset: uint64(i) * small, Length: small, Locker: nfs4.Locker{
		NewLockOwner: true, OpenStateid: f.open,
		LockOwner: nfs4.StateOwner{ClientID: e.c.ClientID, Owner: fmt.Sprint("locker ", i)},
	}}
	unlock := &nfs4.LockuArgs{LockType: nfs4.WRITE_LT, Offset: lock.Offset, Length: lock.Length}
	locked := func(list []nfs4.Res) error {
		unlock.LockStateid = list[1].(*nfs4.LockRes).LockStateid
		return nil
	}
	unlocked := func(list []nfs4.Res) error {
		// The owner is known from now on; its stateid lives until the file is closed.
		lock.Locker.NewLockOwner = false
		lock.Locker.LockStateid = list[1].(*nfs4.LockuRes).LockStateid
		return nil
	}
	return func() error {
		if err := l.Do(e.ctx, locked, put, lock); err != nil {
			return err
		}
		return l.Do(e.ctx, unlocked, put, unlock)
	}
}

// nfsOpens opens and closes a file for each lane, again and again.
func nfsOpens(e *nfsEnv) (*task, error) {
	name := func(i int) string { return fmt.Sprint("open-", i) }
	files, err := e.open(func(i int) (string, string) { return "prepare", name(i) })
	if err == nil {
		err = e.close(files)
	}
	if err != nil {
		return nil, err
	}
	t := &task{clean: func() error { return nil }}
	for i, l := range e.lanes {
		put, get, attr := &nfs4.PutfhArgs{FH: e.dir}, &nfs4.GetfhArgs{}, &nfs4.GetattrArgs{Request: usualAttrs}
		open := e.c.openArgs(fmt.Sprint("owner ", i), name(i), nfs4.OPEN4_SHARE_ACCESS_READ, false)
		here, shut := &nfs4.PutfhArgs{FH: files[i].fh}, &nfs4.CloseArgs{}
		opened := func(list []nfs4.Res) error {
			shut.OpenStateid = list[1].(*nfs4.OpenRes).Stateid
			return nil
		}
		t.steps = append(t.steps, func() error {
			if err := l.Do(e.ctx, opened, put, open, get, attr); err != nil {
				return err
			}
			return l.Do(e.ctx, nil, here, shut)
		})
	}
	return t, nil
}

// nfsGetattrs asks for the attributes of a file for each lane.
func nfsGetattrs(e *nfsEnv) (*task, error) {
	files, err := e.open(func(i int) (string, string) { return "prepare", fmt.Sprint("open-", i) })
	if err != nil {
		return nil, err
	}
	t := &task{clean: func() error { return e.close(files) }}
	for i, l := range e.lanes {
		put, attr := &nfs4.PutfhArgs{FH: files[i].fh}, &nfs4.GetattrArgs{Request: usualAttrs}
		t.steps = append(t.steps, func() error { return l.Do(e.ctx, nil, put, attr) })
	}
	return t, nil
}

// nfsCreates creates and closes files, and removes them at once or in the end.
func nfsCreates(unlink bool) func(*nfsEnv) (*task, error) {
	return func(e *nfsEnv) (*task, error) {
		dir, err := e.lanes[0].mkdir(e.ctx, e.dir, "created")
		if err != nil {
			return nil, err
		}
		counts := make([]int, len(e.lanes))
		name := func(lane, n int) string { return fmt.Sprintf("c-%x-%d-%d", e.c.ClientID, lane, n) } // several clients may create here
		t := &task{}
		for i, l := range e.lanes {
			t.steps = append(t.steps, e.createStep(l, dir, fmt.Sprint("owner ", i), unlink, func() string {
				counts[i]++
				return name(i, counts[i]-1)
			}))
		}
		t.clean = func() error {
			if unlink {
				return nil
			}
			return e.each(func(i int, l *Lane) error {
				for n := range counts[i] {
					if err := l.remove(e.ctx, dir, name(i, n)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return t, nil
	}
}

func (e *nfsEnv) createStep(l *Lane, dir nfs4.FH, owner string, unlink bool, name func() string) func() error {
	put, get, attr := &nfs4.PutfhArgs{FH: dir}, &nfs4.GetfhArgs{}, &nfs4.GetattrArgs{Request: usualAttrs}
	open := e.c.openArgs(owner, "", nfs4.OPEN4_SHARE_ACCESS_BOTH, true)
	here, shut, gone := &nfs4.PutfhArgs{}, &nfs4.CloseArgs{}, &nfs4.RemoveArgs{}
	opened := func(list []nfs4.Res) error {
		shut.OpenStateid = list[1].(*nfs4.OpenRes).Stateid
		here.FH = list[2].(*nfs4.GetfhRes).FH
		return nil
	}
	return func() error {
		open.Claim.File = name()
		if err := l.Do(e.ctx, opened, put, open, get, attr); err != nil {
			return err
		}
		if err := l.Do(e.ctx, nil, here, shut); err != nil || !unlink {
			return err
		}
		gone.Name = open.Claim.File
		return l.Do(e.ctx, nil, put, gone)
	}
}
