package remote

import (
	"context"
	"errors"
	"time"

	"holdfast/fs"
)

// Delegations to end clients, where one of the origin covers the file: what the server promises to them rests on
// what the origin promises to us. So a recall of the origin's goes down first, and the answer up waits for it.
//
// They are for reading only. Under a write delegation an end client has locks that nobody else knows of; the origin
// could not keep them for us over a restart, as it does with all others (I2).

var (
	_ fs.Delegator = (*Remote)(nil)

	errNotCovered = errors.New("the origin has not delegated the file")
)

// A promise is what was promised of one file.
type promise struct {
	owners map[fs.Owner]struct{} // whose opens it goes with
	gone   chan struct{}         // closed when the last has ended
}

// localPatience is how long a local application that wants to change a file waits in one request for end clients to
// give it back; then it is told Delay, and asks again.
const localPatience = time.Second

// Delegates is of fs.Delegator.
func (r *Remote) Delegates(file fs.Handle, write bool) bool {
	if write || r.deleg == nil {
		return false
	}
	fh, err := r.resolve(r.ctx, file)
	return err == nil && r.covered(file, fh, false)
}

// Delegate is of fs.Delegator. After a restart the delegation of the origin is another one, if there is any.
func (r *Remote) Delegate(ctx context.Context, owner fs.Owner, file fs.Handle, write, reclaim bool) error {
	if write || reclaim || r.deleg == nil {
		return fs.E("OPEN", fs.NotSupp, errNotCovered)
	}
	fh, err := r.resolve(ctx, file)
	if err != nil {
		return err
	}
	c := &r.covers
	c.mu.Lock()
	defer c.mu.Unlock()
	// Looked at under mu: a recall takes it after the delegation has ceased to count.
	if c.files[file] == nil || c.local[file] > 0 || r.deleg.Delegated(fh) == 0 || !r.deleg.LeaseValid() {
		return fs.E("OPEN", fs.NotSupp, errNotCovered)
	}
	p := c.promises[file]
	if p == nil {
		p = &promise{owners: map[fs.Owner]struct{}{}, gone: make(chan struct{})}
		c.promises[file] = p
	}
	p.owners[owner] = struct{}{}
	return nil
}

// endPromise says that owner's open ends.
func (c *covers) endPromise(owner fs.Owner, file fs.Handle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.promises[file]
	if p == nil {
		return
	}
	if delete(p.owners, owner); len(p.owners) == 0 {
		delete(c.promises, file)
		close(p.gone)
	}
}

// recallDown asks end clients for what was promised of a file. It returns what is closed when all is back, nil if
// nothing was.
func (r *Remote) recallDown(file fs.Handle) <-chan struct{} {
	r.covers.mu.Lock()
	p := r.covers.promises[file]
	r.covers.mu.Unlock()
	if p == nil {
		return nil
	}
	r.tell(func(l fs.Listener) {
		if x, ok := l.(fs.Recaller); ok {
			x.Recall(file, true)
		}
	})
	return p.gone
}

// beforeLocal makes way for a change of a file by an application of this host, which no server arbitrates.
func (r *Remote) beforeLocal(ctx context.Context, file fs.Handle) error {
	if !r.covers.promised() {
		return nil
	}
	late := make(chan struct{})
	defer r.cfg.Clock.AfterFunc(localPatience, func() { close(late) }).Stop() // it counts from the recall
	gone := r.recallDown(file)
	if gone == nil {
		return nil
	}
	select {
	case <-gone:
		return nil
	case <-late:
		return fs.E("OPEN", fs.Delay, errors.New("an end client has not given its delegation back yet"))
	case <-ctx.Done():
		return fs.E("OPEN", fs.Interrupted, context.Cause(ctx))
	}
}

// localChange says that a request that changes a file is about to be sent. If it is one of an application of this host
// it waits as beforeLocal does, and nothing is promised of the file until done is called. A name stands for the file that
// it leads to.
func (r *Remote) localChange(ctx context.Context, cred *fs.Cred, h fs.Handle, name string) (done func(), err error) {
	done = func() {}
	if r.deleg == nil || fs.SourceOf(ctx) == nil {
		return done, nil
	}
	if name != "" {
		child := r.cache.hint(h, name)
		switch {
		case child != "":
		case !r.covers.promised():
			return done, nil
		default:
			if child, _, err = r.Lookup(ctx, cred, h, name); err != nil {
				return done, nil // the request itself will say why
			}
		}
		h = child
	}
	c := &r.covers
	c.mu.Lock()
	c.local[h]++
	c.mu.Unlock()
	done = func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.local[h]--; c.local[h] == 0 {
			delete(c.local, h)
		}
	}
	return done, r.beforeLocal(ctx, h)
}

// beforeLocalOpen is beforeLocal for an open that may change the file.
func (r *Remote) beforeLocalOpen(ctx context.Context, cred *fs.Cred, req *fs.OpenRequest) error {
	truncates := req.Create == fs.Unchecked && req.Attr.Size != nil
	if !isLocal(req.Owner) || req.Access&fs.ShareWrite == 0 && !truncates || !r.covers.promised() {
		return nil
	}
	file := req.File
	if req.Name != "" {
		var err error
		if file, _, err = r.Lookup(ctx, cred, req.Dir, req.Name); err != nil {
			return nil // the open will say why, or create it
		}
	}
	return r.beforeLocal(ctx, file)
}

// promised tells whether there is any promise.
func (c *covers) promised() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.promises) > 0
}
