package probe

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
)

// A statusError is an operation that the server refused.
type statusError struct {
	op     nfs4.OpNum
	status nfs4.Status
}

func (e *statusError) Error() string { return fmt.Sprintf("%v: %v", e.op, e.status) }

// statusOf is the status with which a request was refused; NFS4_OK if it was not, and false if
// there was no answer.
func statusOf(err error) (nfs4.Status, bool) {
	var e *statusError
	if errors.As(err, &e) {
		return e.status, true
	}
	return nfs4.NFS4_OK, err == nil
}

// A client is an NFSv4.1 or 4.2 client without any recovery: it does what it is told, once, so that
// one sees what the server does by itself.
type client struct {
	addr  string
	minor uint32
	owner string
	verf  nfs4.Verifier
	cred  rpc.Cred

	conn    *rpc.Conn
	id      uint64
	flags   uint32 // of the last EXCHANGE_ID's answer
	impl    string
	nextCS  uint32 // sequence of the next CREATE_SESSION
	session nfs4.SessionID
	slot    uint32 // sequence of the next request in slot 0
}

func newVerifier() (v nfs4.Verifier, err error) {
	_, err = rand.Read(v[:])
	return v, err
}

// Sizes that are asked of a session.
const (
	maxMessage = 256 << 10
	maxOps     = 16
)

func (c *client) dial(ctx context.Context) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	c.conn = rpc.NewConn(nc, rpc.Options{MaxRecord: maxMessage + 64<<10})
	return nil
}

// cut breaks the connection, as a power cut does: nothing is said to the server.
func (c *client) cut() {
	if c.conn != nil {
		_ = c.conn.Close() // it always succeeds
	}
}

// call sends a compound; the results may be kept.
func (c *client) call(ctx context.Context, ops []nfs4.Args) (list []nfs4.Res, err error) {
	call := &rpc.Call{Prog: nfs4.Program, Vers: nfs4.Version, Proc: nfs4.ProcCompound, Cred: c.cred}
	err = c.conn.Call(ctx, call,
		func(e *xdr.Codec) { nfs4.EncodeCompound(e, "", c.minor, ops) },
		func(d *xdr.Codec) error {
			var s nfs4.Status
			var err error
			s, list, err = nfs4.DecodeCompoundRes(d, ops)
			if err != nil || s == nfs4.NFS4_OK {
				return err
			}
			op := ops[max(len(list)-1, 0)].Op()
			return &statusError{op, s}
		})
	return list, err
}

// exchangeID asks for a client ID. With the draft's flag refused as unknown (INVAL) it is asked
// again without, as the draft wants; retain tells whether the flag was understood.
func (c *client) exchangeID(ctx context.Context, retain bool) (granted bool, err error) {
	a := &nfs4.ExchangeIDArgs{Owner: nfs4.ClientOwner{ID: c.owner, Verifier: c.verf}, Flags: nfs4.EXCHGID4_FLAG_USE_NON_PNFS}
	if retain {
		a.Flags |= nfs4.EXCHGID4_FLAG_RETAIN_STATE
	}
	list, err := c.call(ctx, []nfs4.Args{a})
	if s, _ := statusOf(err); s == nfs4.NFS4ERR_INVAL && retain {
		return c.exchangeID(ctx, false)
	}
	if err != nil {
		return false, err
	}
	r := list[0].(*nfs4.ExchangeIDRes)
	if r.Flags&nfs4.EXCHGID4_FLAG_CONFIRMED_R == 0 {
		c.nextCS = r.SequenceID // with CONFIRMED_R it must be ignored, RFC 8881 18.35.3
	}
	c.id, c.flags = r.ClientID, r.Flags
	if r.ImplID != nil {
		c.impl = strings.TrimSpace(r.ImplID.Name + " (" + r.ImplID.Domain + ")")
	}
	return r.Flags&nfs4.EXCHGID4_FLAG_RETAIN_STATE != 0, nil
}

func (c *client) createSession(ctx context.Context) (*nfs4.CreateSessionRes, error) {
	chan4 := nfs4.ChannelAttrs{MaxRequestSize: maxMessage, MaxResponseSize: maxMessage, MaxResponseSizeCached: 8 << 10, MaxOperations: maxOps, MaxRequests: 64}
	a := &nfs4.CreateSessionArgs{ClientID: c.id, Sequence: c.nextCS, ForeChan: chan4,
		BackChan:  nfs4.ChannelAttrs{MaxRequestSize: 4096, MaxResponseSize: 4096, MaxOperations: 2, MaxRequests: 1},
		CBProgram: 0x40000000, SecParms: []nfs4.CallbackSecParms{{Flavor: rpc.AUTH_NONE}}}
	for {
		list, err := c.call(ctx, []nfs4.Args{a})
		if s, _ := statusOf(err); s == nfs4.NFS4ERR_DELAY {
			c.nextCS++ // it was executed, RFC 8881 18.36.4
			a.Sequence = c.nextCS
			if err := rest(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		c.nextCS++
		r := list[0].(*nfs4.CreateSessionRes)
		c.session, c.slot = r.SessionID, 1
		return r, nil
	}
}

// rest is the pause before a request is repeated that the server put off.
func rest(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(100 * time.Millisecond):
		return nil
	}
}

// do sends ops in slot 0 and gives their results. DELAY is waited out, and GRACE if wait says so.
func (c *client) do(ctx context.Context, wait bool, ops ...nfs4.Args) ([]nfs4.Res, error) {
	for {
		all := append([]nfs4.Args{&nfs4.SequenceArgs{SessionID: c.session, SequenceID: c.slot, CacheThis: true}}, ops...)
		list, err := c.call(ctx, all)
		if len(list) > 0 && list[0].Stat() == nfs4.NFS4_OK {
			c.slot++
		}
		s, _ := statusOf(err)
		if s == nfs4.NFS4ERR_DELAY || wait && s == nfs4.NFS4ERR_GRACE {
			if err := rest(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if len(list) > 0 {
			list = list[1:]
		}
		return list, err
	}
}

// leave gives everything back and hangs up.
func (c *client) leave(ctx context.Context) error {
	if c.conn == nil {
		return nil
	}
	defer c.cut()
	if _, err := c.call(ctx, []nfs4.Args{&nfs4.DestroySessionArgs{SessionID: c.session}}); err != nil {
		return err
	}
	_, err := c.call(ctx, []nfs4.Args{&nfs4.DestroyClientidArgs{ClientID: c.id}})
	return err
}

// lookup gives the handle of a path below the root of the server.
func (c *client) lookup(ctx context.Context, path string) (nfs4.FH, error) {
	ops := []nfs4.Args{&nfs4.PutrootfhArgs{}}
	for name := range strings.SplitSeq(path, "/") {
		if name != "" {
			ops = append(ops, &nfs4.LookupArgs{Name: name})
		}
	}
	var fh nfs4.FH
	// A session takes maxOps operations at once, so a deep path goes in steps.
	for first := true; first || len(ops) > 0; first = false {
		n := min(len(ops), maxOps-4)
		step := ops[:n:n]
		ops = ops[n:]
		if !first {
			step = append([]nfs4.Args{&nfs4.PutfhArgs{FH: fh}}, step...)
		}
		list, err := c.do(ctx, true, append(step, &nfs4.GetfhArgs{})...)
		if err != nil {
			return fh, err
		}
		fh = list[len(list)-1].(*nfs4.GetfhRes).FH
	}
	return fh, nil
}

// A handle is an open file.
type handle struct {
	fh   nfs4.FH
	open nfs4.Stateid
}

// create makes and opens a file for reading and writing.
func (c *client) create(ctx context.Context, dir nfs4.FH, name string) (handle, error) {
	list, err := c.do(ctx, true, &nfs4.PutfhArgs{FH: dir}, &nfs4.OpenArgs{
		ShareAccess: nfs4.OPEN4_SHARE_ACCESS_BOTH | nfs4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG, Owner: c.stateOwner(),
		How:   nfs4.OpenHow{Type: nfs4.OPEN4_CREATE, Mode: nfs4.GUARDED4, Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 0o666}},
		Claim: nfs4.OpenClaim{Type: nfs4.CLAIM_NULL, File: name},
	}, &nfs4.GetfhArgs{})
	if err != nil {
		return handle{}, err
	}
	return handle{list[2].(*nfs4.GetfhRes).FH, list[1].(*nfs4.OpenRes).Stateid}, nil
}

func (c *client) stateOwner() nfs4.StateOwner {
	return nfs4.StateOwner{ClientID: c.id, Owner: "probe"}
}

// openFH opens a file by handle: claim is CLAIM_FH, or CLAIM_PREVIOUS for a reclaim.
func (c *client) openFH(ctx context.Context, fh nfs4.FH, claim uint32) (handle, error) {
	list, err := c.do(ctx, claim == nfs4.CLAIM_FH, &nfs4.PutfhArgs{FH: fh}, &nfs4.OpenArgs{
		ShareAccess: nfs4.OPEN4_SHARE_ACCESS_BOTH | nfs4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG, Owner: c.stateOwner(), Claim: nfs4.OpenClaim{Type: claim},
	})
	if err != nil {
		return handle{}, err
	}
	return handle{fh, list[1].(*nfs4.OpenRes).Stateid}, nil
}

// Bytes of the scratch file that are locked.
const (
	lockOffset = 10
	lockLength = 20
)

// lock takes the write lock, as a reclaim or as a new one. A new lock waits for the end of grace.
func (c *client) lock(ctx context.Context, h handle, reclaim bool) (nfs4.Stateid, error) {
	list, err := c.do(ctx, !reclaim, &nfs4.PutfhArgs{FH: h.fh}, &nfs4.LockArgs{
		LockType: nfs4.WRITE_LT, Reclaim: reclaim, Offset: lockOffset, Length: lockLength,
		Locker: nfs4.Locker{NewLockOwner: true, OpenStateid: h.open, LockOwner: c.stateOwner()},
	})
	if err != nil {
		return nfs4.Stateid{}, err
	}
	return list[1].(*nfs4.LockRes).LockStateid, nil
}

// denied tells whether this client would be denied the lock.
func (c *client) denied(ctx context.Context, fh nfs4.FH) (bool, error) {
	_, err := c.do(ctx, true, &nfs4.PutfhArgs{FH: fh}, &nfs4.LocktArgs{LockType: nfs4.WRITE_LT, Offset: lockOffset, Length: lockLength, Owner: c.stateOwner()})
	switch s, _ := statusOf(err); s {
	case nfs4.NFS4ERR_DENIED:
		return true, nil
	case nfs4.NFS4_OK:
		return false, err
	}
	return false, err
}

// alive tells whether the server still knows a stateid.
func (c *client) alive(ctx context.Context, id nfs4.Stateid) (bool, error) {
	id.Seqid = 0
	list, err := c.do(ctx, true, &nfs4.TestStateidArgs{Stateids: []nfs4.Stateid{id}})
	if err != nil {
		return false, err
	}
	r := list[0].(*nfs4.TestStateidRes)
	return len(r.StatusCodes) == 1 && r.StatusCodes[0] == nfs4.NFS4_OK, nil
}
