package conform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/plain"
)

// A T is a test that runs. Its methods end the test, by a panic with a verdict, when they cannot do what
// they say.
type T struct {
	ctx context.Context
	*suite
	name    string // of its files
	clients []*client
	files   []string
	keep    []*client // renew their leases while another waits for the end of grace
}

// A verdict ends a test.
type verdict struct {
	outcome Outcome
	text    string
}

func (t *T) fail(format string, a ...any) { panic(verdict{Fail, fmt.Sprintf(format, a...)}) }
func (t *T) skip(format string, a ...any) { panic(verdict{Skip, fmt.Sprintf(format, a...)}) }

// ok wants what was asked for to be granted.
func (t *T) ok(err error, what string) {
	if err != nil {
		t.fail("%s: %v", what, err)
	}
}

// want wants a request to be answered with one of some statuses.
func (t *T) want(err error, what string, wanted ...nfs4.Status) nfs4.Status {
	s, answered := plain.StatusOf(err)
	switch {
	case !answered:
		t.fail("%s: %v", what, err)
	case !slices.Contains(wanted, s):
		var names []string
		for _, w := range wanted {
			names = append(names, w.String())
		}
		t.fail("%s: %v; want %s", what, s, strings.Join(names, " or "))
	}
	return s
}

// refused wants anything but a grant, and an answer.
func (t *T) refused(err error, what string) {
	if s, answered := plain.StatusOf(err); !answered {
		t.fail("%s: %v", what, err)
	} else if s == nfs4.NFS4_OK {
		t.fail("%s was granted", what)
	}
}

// wait waits, while the clients keep their leases.
func (t *T) wait(d time.Duration, keep ...*client) {
	for end := time.Now().Add(d); time.Until(end) > 0; {
		select {
		case <-t.ctx.Done():
			t.fail("%v", context.Cause(t.ctx))
		case <-time.After(min(time.Until(end), t.report.Lease/3+time.Millisecond)):
		}
		for _, c := range keep {
			c.ping()
		}
	}
}

// clean gives back what the clients have, and removes the files. What cannot be given back, as that of
// clients that were cut off, goes with its lease.
func (t *T) clean(ctx context.Context) {
	for _, c := range t.clients {
		if c.Slot == 0 {
			c.Cut()
			continue
		}
		for key, id := range c.locks {
			_, _ = c.Do(ctx, true, &nfs4.PutfhArgs{FH: key.fh}, &nfs4.LockuArgs{LockType: nfs4.WRITE_LT, LockStateid: id, Length: nfs4.MaxFileLen}) // see above
		}
		for key, id := range c.opens {
			_, _ = c.Do(ctx, true, &nfs4.PutfhArgs{FH: key.fh}, &nfs4.CloseArgs{OpenStateid: id}) // see above
		}
	}
	for i := len(t.clients) - 1; i >= 0; i-- {
		c := t.clients[i]
		if c.Slot != 0 {
			for _, name := range t.files {
				_, err := c.Do(ctx, true, &nfs4.PutfhArgs{FH: t.dir}, &nfs4.RemoveArgs{Name: name})
				if err == nil {
					t.files = slices.DeleteFunc(slices.Clone(t.files), func(n string) bool { return n == name })
				}
			}
		}
		_ = c.Leave(ctx) // see above
	}
}

// A stateKey names an open or the locks of an owner on a file.
type stateKey struct {
	fh    nfs4.FH
	owner string
}

// A client is a plain client that remembers its stateids.
type client struct {
	*plain.Client
	t       *T
	retain  bool // asks the server to retain its state
	granted bool // and the server does
	hasty   bool // GRACE is an answer; else it is waited out
	opens   map[stateKey]nfs4.Stateid
	locks   map[stateKey]nfs4.Stateid
}

// client makes a client that has nothing to reclaim and has said so.
func (t *T) client(role string) *client {
	c := t.newcomer(role, false)
	c.complete()
	return c
}

// retaining makes a client that asks for retention, and skips the test if the server declines.
func (t *T) retaining(role string) *client {
	c := t.newcomer(role, true)
	if !c.granted {
		t.skip("the server does not agree to retain state")
	}
	c.complete()
	return c
}

// newcomer makes a client that has not sent RECLAIM_COMPLETE.
func (t *T) newcomer(role string, retain bool) *client {
	p, err := plain.New(t.Addr, t.report.Minor, "holdfast conform "+role, t.UID, t.GID)
	t.ok(err, "making a client")
	c := &client{Client: p, t: t, retain: retain, opens: map[stateKey]nfs4.Stateid{}, locks: map[stateKey]nfs4.Stateid{}}
	t.clients = append(t.clients, c)
	c.granted, _, err = c.Join(t.ctx, retain)
	t.ok(err, "joining")
	return c
}

func (c *client) do(ops ...nfs4.Args) ([]nfs4.Res, error) {
	for {
		list, err := c.Do(c.t.ctx, false, ops...)
		if s, _ := plain.StatusOf(err); s != nfs4.NFS4ERR_GRACE || c.hasty {
			return list, err
		}
		c.t.wait(200*time.Millisecond, c.t.keep...)
	}
}

// ping renews the lease.
func (c *client) ping() {
	_, err := c.Do(c.t.ctx, false, &nfs4.PutrootfhArgs{})
	c.t.ok(err, "renewing a lease")
}

// complete says that no reclaims follow.
func (c *client) complete() {
	c.t.ok(c.tryComplete(), "RECLAIM_COMPLETE")
}

func (c *client) tryComplete() error {
	_, err := c.do(&nfs4.ReclaimCompleteArgs{})
	return err
}

// restart is a client that lost its memory: a new connection and a new verifier. Its old stateids are kept
// in what it returns.
func (c *client) restart() (opens, locks map[stateKey]nfs4.Stateid) {
	v, err := plain.NewVerifier()
	c.t.ok(err, "drawing a verifier")
	c.Verf = v
	c.comeBack()
	opens, locks = c.opens, c.locks
	c.opens, c.locks = map[stateKey]nfs4.Stateid{}, map[stateKey]nfs4.Stateid{}
	return opens, locks
}

// comeBack makes a new connection and a new session, with the verifier that the client has, and tells
// whether the server took it for the client that it was.
func (c *client) comeBack() (same bool) {
	before := c.ID
	c.Cut()
	c.reach()
	var err error
	c.granted, err = c.ExchangeID(c.t.ctx, c.retain)
	c.t.ok(err, "EXCHANGE_ID")
	same = c.ID == before && c.Flags&nfs4.EXCHGID4_FLAG_CONFIRMED_R != 0
	_, err = c.CreateSession(c.t.ctx)
	c.t.ok(err, "CREATE_SESSION")
	return same
}

// reach connects; a server that has just been started may need a while.
func (c *client) reach() {
	for deadline := time.Now().Add(time.Minute); ; {
		err := c.Dial(c.t.ctx)
		if err == nil {
			return
		}
		if time.Now().After(deadline) || c.t.ctx.Err() != nil {
			c.t.fail("connecting: %v", errors.Join(err, context.Cause(c.t.ctx)))
		}
		select {
		case <-c.t.ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// A file is an open file.
type file struct {
	fh    nfs4.FH
	owner string
	id    nfs4.Stateid
}

func (c *client) stateOwner(owner string) nfs4.StateOwner {
	return nfs4.StateOwner{ClientID: c.ID, Owner: owner}
}

// open opens the file of the test, or one beside it, and makes it if need be.
func (c *client) open(suffix, owner string, access, deny uint32) file {
	f, err := c.tryOpen(suffix, owner, access, deny)
	c.t.ok(err, "OPEN")
	return f
}

func (c *client) tryOpen(suffix, owner string, access, deny uint32) (file, error) {
	t := c.t
	name := t.name + suffix
	how := nfs4.OpenHow{}
	if !slices.Contains(t.files, name) {
		how = nfs4.OpenHow{Type: nfs4.OPEN4_CREATE, Mode: nfs4.UNCHECKED4, Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 0o600}}
	}
	list, err := c.do(&nfs4.PutfhArgs{FH: t.dir}, &nfs4.OpenArgs{
		ShareAccess: access | nfs4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG, ShareDeny: deny, Owner: c.stateOwner(owner),
		How: how, Claim: nfs4.OpenClaim{Type: nfs4.CLAIM_NULL, File: name},
	}, &nfs4.GetfhArgs{})
	if err != nil {
		return file{}, err
	}
	if how.Type == nfs4.OPEN4_CREATE {
		t.files = append(t.files, name)
	}
	return c.opened(list[2].(*nfs4.GetfhRes).FH, owner, list[1].(*nfs4.OpenRes)), nil
}

func (c *client) opened(fh nfs4.FH, owner string, r *nfs4.OpenRes) file {
	c.opens[stateKey{fh, owner}] = r.Stateid
	return file{fh, owner, r.Stateid}
}

// reclaimOpen is OPEN with CLAIM_PREVIOUS.
func (c *client) reclaimOpen(fh nfs4.FH, owner string, access, deny uint32) (file, error) {
	list, err := c.Do(c.t.ctx, false, &nfs4.PutfhArgs{FH: fh}, &nfs4.OpenArgs{
		ShareAccess: access | nfs4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG, ShareDeny: deny, Owner: c.stateOwner(owner), Claim: nfs4.OpenClaim{Type: nfs4.CLAIM_PREVIOUS},
	})
	if err != nil {
		return file{}, err
	}
	return c.opened(fh, owner, list[1].(*nfs4.OpenRes)), nil
}

func (c *client) close(f file) error {
	_, err := c.do(&nfs4.PutfhArgs{FH: f.fh}, &nfs4.CloseArgs{OpenStateid: f.id})
	if err == nil {
		delete(c.opens, stateKey{f.fh, f.owner})
	}
	return err
}

// lock takes a lock, of an owner that is named after the open's unless it is said.
func (c *client) lock(f file, typ nfs4.LockType, offset, length uint64) nfs4.Stateid {
	id, err := c.tryLock(f, f.owner, typ, offset, length, false)
	c.t.ok(err, "LOCK")
	return id
}

// A deniedError is a lock that another has.
type deniedError struct {
	error
	nfs4.LockDenied
}

func (e *deniedError) Unwrap() error { return e.error }

func (c *client) tryLock(f file, owner string, typ nfs4.LockType, offset, length uint64, reclaim bool) (nfs4.Stateid, error) {
	a := &nfs4.LockArgs{LockType: typ, Reclaim: reclaim, Offset: offset, Length: length}
	key := stateKey{f.fh, owner}
	if id, known := c.locks[key]; known {
		a.Locker.LockStateid = id
	} else {
		a.Locker = nfs4.Locker{NewLockOwner: true, OpenStateid: f.id, LockOwner: c.stateOwner(owner)}
	}
	ask := c.do
	if reclaim { // GRACE is an answer to that
		ask = func(ops ...nfs4.Args) ([]nfs4.Res, error) { return c.Do(c.t.ctx, false, ops...) }
	}
	list, err := ask(&nfs4.PutfhArgs{FH: f.fh}, a)
	if len(list) < 2 {
		return nfs4.Stateid{}, err
	}
	r := list[1].(*nfs4.LockRes)
	if r.Status == nfs4.NFS4ERR_DENIED {
		return nfs4.Stateid{}, &deniedError{err, r.Denied}
	}
	if err == nil {
		c.locks[key] = r.LockStateid
	}
	return r.LockStateid, err
}

// reclaim takes an open and a lock under it back.
func (c *client) reclaim(f file, typ nfs4.LockType, offset, length uint64) file {
	r, err := c.tryReclaim(f, typ, offset, length)
	c.t.ok(err, "the reclaim of an open and a lock")
	return r
}

func (c *client) tryReclaim(f file, typ nfs4.LockType, offset, length uint64) (file, error) {
	r, err := c.reclaimOpen(f.fh, f.owner, both, none)
	if err == nil {
		_, err = c.tryLock(r, f.owner, typ, offset, length, true)
	}
	return r, err
}

func (c *client) unlock(f file, offset, length uint64) {
	c.t.ok(c.tryUnlock(f, offset, length), "LOCKU")
}

func (c *client) tryUnlock(f file, offset, length uint64) error {
	key := stateKey{f.fh, f.owner}
	list, err := c.do(&nfs4.PutfhArgs{FH: f.fh}, &nfs4.LockuArgs{LockType: nfs4.WRITE_LT, LockStateid: c.locks[key], Offset: offset, Length: length})
	if err == nil {
		c.locks[key] = list[1].(*nfs4.LockuRes).LockStateid
	}
	return err
}

// denied wants LOCKT for writing to be denied, or not.
func (c *client) denied(f file, offset, length uint64, want bool) {
	_, err := c.do(&nfs4.PutfhArgs{FH: f.fh}, &nfs4.LocktArgs{LockType: nfs4.WRITE_LT, Offset: offset, Length: length, Owner: c.stateOwner("asks")})
	what := fmt.Sprintf("LOCKT of bytes %d and %d after it by another", offset, length)
	if want {
		c.t.want(err, what, nfs4.NFS4ERR_DENIED)
	} else {
		c.t.ok(err, what)
	}
}

// alive tells whether the server knows a stateid.
func (c *client) alive(id nfs4.Stateid) bool {
	ok, err := c.Alive(c.t.ctx, id)
	c.t.ok(err, "TEST_STATEID")
	return ok
}

// Accesses and denials, for short.
const (
	read  = nfs4.OPEN4_SHARE_ACCESS_READ
	write = nfs4.OPEN4_SHARE_ACCESS_WRITE
	both  = nfs4.OPEN4_SHARE_ACCESS_BOTH
	none  = nfs4.OPEN4_SHARE_DENY_NONE
)
