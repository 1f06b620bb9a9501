package remote

import (
	"context"
	"slices"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsup"
)

// An OPEN and the CLOSE of an open that nobody wanted any more, of the same owner and file, may be on their way
// together: the file of an OPEN by name is known by its answer only, and what is parked may be taken back at any time.
// At the origin both are of one open, and if CLOSE comes second nothing is left of what OPEN has granted. So an answer
// counts only if no such CLOSE has ended since its OPEN was sent, and none is on its way; else the file is opened again.

// opening is an upstream owner with OPENs on their way.
type opening struct {
	sent  []uint64             // when, by covers.clock, in order
	ended map[fs.Handle]uint64 // CLOSEs that have ended since the first of them was sent, and when
}

var already = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// beginOpen says that an OPEN of the owner is about to be sent, and returns when.
func (c *covers) beginOpen(up UpOwner) (sent uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.opening[up]
	if o == nil {
		o = &opening{}
		c.opening[up] = o
	}
	c.clock++
	o.sent = append(o.sent, c.clock)
	return c.clock
}

// endOpen says that the answer to the OPEN that was sent then has been judged.
func (c *covers) endOpen(up UpOwner, sent uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.opening[up]
	i, _ := slices.BinarySearch(o.sent, sent)
	if o.sent = slices.Delete(o.sent, i, i+1); len(o.sent) == 0 {
		delete(c.opening, up)
		return
	}
	for file, when := range o.ended {
		if when < o.sent[0] {
			delete(o.ended, file)
		}
	}
}

// beginClose says that an open that nobody wants is about to be closed.
func (c *covers) beginClose(key parkedKey) *closing {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := &closing{begun: true, done: make(chan struct{})}
	c.closing[key] = cl
	return cl
}

// closeEnded says that the CLOSE of an open that nobody wanted has ended.
//
// +checklocks:c.mu
func (c *covers) closeEnded(key parkedKey) {
	o := c.opening[key.up]
	if o == nil {
		return
	}
	if o.ended == nil {
		o.ended = make(map[fs.Handle]uint64)
	}
	c.clock++
	o.ended[key.file] = c.clock
}

// overtaken tells whether such a CLOSE has ended since an OPEN was sent.
//
// +checklocks:c.mu
func (c *covers) overtaken(key parkedKey, sent uint64) bool {
	o := c.opening[key.up]
	return o != nil && o.ended[key.file] > sent
}

// claim makes what is parked of (up, file) part of the open that the origin has just granted to up: there
// is one open for an owner and a file. access is what it had besides. If that is being closed, or was since the OPEN
// was sent, the grant may be closed with it: wait, and open again.
func (c *covers) claim(up UpOwner, file fs.Handle, sent uint64) (access fs.Share, wait <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.files[file]; x != nil {
		if p, ok := x.parked[up]; ok {
			delete(x.parked, up)
			c.parked--
			return p.access, nil
		}
	}
	key := parkedKey{up, file}
	cl := c.closing[key]
	switch {
	case cl == nil && c.overtaken(key, sent):
		return 0, already
	case cl == nil:
		return 0, nil
	case cl.begun:
		return 0, cl.done
	}
	delete(c.closing, key)
	return fs.ShareBoth, nil
}

// settleParked lets a granted open and what is parked of it become one, or the grant anew.
func (r *Remote) settleParked(ctx context.Context, cred *fs.Cred, args *nfsup.OpenArgs, sent uint64, file fs.Handle, fh nfs4.FH) error {
	had, wait := r.covers.claim(args.Owner, file, sent)
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return fs.E("OPEN", fs.Interrupted, context.Cause(ctx))
		}
		again := *args
		again.Name, again.Dir, again.How, again.FH = "", "", nfs4.OpenHow{}, fh
		if args.Deny != 0 { // if the grant is still there it would stand in its own way (9.7)
			r.givenBack(r.up.CloseFile(ctx, args.Owner, fh))
		}
		_, err := r.up.Open(ctx, r.upCred(cred), &again)
		return r.fail("OPEN", err, file)
	}
	if s := r.owners.share(args.Owner, file); had&^(fs.Share(args.Access)|s.access) != 0 {
		want, deny := fs.Share(args.Access)|s.access, fs.Share(args.Deny)|s.deny
		if err := r.up.Downgrade(ctx, args.Owner, fh, uint32(want), uint32(deny)); err != nil {
			r.log.Debug("an open has more modes at the origin than here", "err", err)
		}
	}
	return nil
}
