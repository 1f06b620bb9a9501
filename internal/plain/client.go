// Package plain is an NFSv4.1 and 4.2 client without any recovery: it does what it is told, once, so
// that one sees what a server does by itself. DELAY is waited out, and GRACE where the caller says so.
package plain

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
)

// A StatusError is an operation that the server refused.
type StatusError struct {
	Op     nfs4.OpNum
	Status nfs4.Status
}

func (e *StatusError) Error() string { return fmt.Sprintf("%v: %v", e.Op, e.Status) }

// StatusOf is the status with which a request was refused; NFS4_OK if it was not, and false if
// there was no answer.
func StatusOf(err error) (nfs4.Status, bool) {
	var e *StatusError
	if errors.As(err, &e) {
		return e.Status, true
	}
	return nfs4.NFS4_OK, err == nil
}

// A Client sends requests in slot 0 of one session. It is not safe for concurrent use.
type Client struct {
	Addr  string // host:port
	Minor uint32
	Owner string // co_ownerid
	Verf  nfs4.Verifier
	Cred  rpc.Cred

	ID      uint64
	Flags   uint32 // of the last EXCHANGE_ID's answer
	Impl    string // what the server says it is
	NextCS  uint32 // sequence of the next CREATE_SESSION
	Session nfs4.SessionID
	Slot    uint32 // sequence of the next request in slot 0; zero before the first session
	Status  uint32 // sr_status_flags of the last SEQUENCE

	conn *rpc.Conn
}

// New makes a client that no server has ever seen. Its owner begins with name.
func New(addr string, minor uint32, name string, uid, gid uint32) (*Client, error) {
	v, err := NewVerifier()
	if err != nil {
		return nil, err
	}
	return &Client{Addr: addr, Minor: minor, Owner: name + " " + hex.EncodeToString(v[:]), Verf: v,
		Cred: rpc.Cred{Flavor: rpc.AUTH_SYS, Machine: "plain", UID: uid, GID: gid}}, nil
}

// NewVerifier draws a verifier.
func NewVerifier() (v nfs4.Verifier, err error) {
	_, err = rand.Read(v[:])
	return v, err
}

// Sizes that are asked of a session.
const (
	maxMessage = 256 << 10
	maxOps     = 16
)

// Dial connects to the server.
func (c *Client) Dial(ctx context.Context) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", c.Addr)
	if err != nil {
		return err
	}
	c.conn = rpc.NewConn(nc, rpc.Options{MaxRecord: maxMessage + 64<<10})
	return nil
}

// Cut breaks the connection, as a power cut does: nothing is said to the server.
func (c *Client) Cut() {
	if c.conn != nil {
		_ = c.conn.Close() // it always succeeds
	}
}

// Call sends a compound; the results may be kept.
func (c *Client) Call(ctx context.Context, ops []nfs4.Args) (list []nfs4.Res, err error) {
	call := &rpc.Call{Prog: nfs4.Program, Vers: nfs4.Version, Proc: nfs4.ProcCompound, Cred: c.Cred}
	err = Compound(ctx, c.conn, call, c.Minor, ops, func(l []nfs4.Res) error { list = l; return nil })
	return list, err
}

// Compound makes a call. use, if not nil, gets all answers there are, even when the compound failed; a
// refused operation is a *[StatusError].
func Compound(ctx context.Context, conn *rpc.Conn, call *rpc.Call, minor uint32, ops []nfs4.Args, use func([]nfs4.Res) error) error {
	return conn.Call(ctx, call,
		func(e *xdr.Codec) { nfs4.EncodeCompound(e, "", minor, ops) },
		func(d *xdr.Codec) error {
			s, list, err := nfs4.DecodeCompoundRes(d, ops)
			if err != nil {
				return err
			}
			if use != nil {
				if err := use(list); err != nil {
					return err
				}
			}
			if s == nfs4.NFS4_OK {
				return nil
			}
			return &StatusError{ops[max(len(list)-1, 0)].Op(), s}
		})
}

// ExchangeID asks for a client ID. With the draft's flag refused as unknown (INVAL) it is asked
// again without, as the draft wants; retain tells whether the flag was understood.
func (c *Client) ExchangeID(ctx context.Context, retain bool) (granted bool, err error) {
	a := &nfs4.ExchangeIDArgs{Owner: nfs4.ClientOwner{ID: c.Owner, Verifier: c.Verf}, Flags: nfs4.EXCHGID4_FLAG_USE_NON_PNFS}
	if retain {
		a.Flags |= nfs4.EXCHGID4_FLAG_RETAIN_STATE
	}
	list, err := c.Call(ctx, []nfs4.Args{a})
	if s, _ := StatusOf(err); s == nfs4.NFS4ERR_INVAL && retain {
		return c.ExchangeID(ctx, false)
	}
	if err != nil {
		return false, err
	}
	r := list[0].(*nfs4.ExchangeIDRes)
	if r.Flags&nfs4.EXCHGID4_FLAG_CONFIRMED_R == 0 {
		c.NextCS = r.SequenceID // with CONFIRMED_R it must be ignored, RFC 8881 18.35.3
	}
	c.ID, c.Flags = r.ClientID, r.Flags
	if r.ImplID != nil {
		c.Impl = strings.TrimSpace(r.ImplID.Name + " (" + r.ImplID.Domain + ")")
	}
	return r.Flags&nfs4.EXCHGID4_FLAG_RETAIN_STATE != 0, nil
}

// CreateSession makes a session. DELAY is waited out.
func (c *Client) CreateSession(ctx context.Context) (*nfs4.CreateSessionRes, error) {
	chan4 := nfs4.ChannelAttrs{MaxRequestSize: maxMessage, MaxResponseSize: maxMessage, MaxResponseSizeCached: 8 << 10, MaxOperations: maxOps, MaxRequests: 64}
	a := &nfs4.CreateSessionArgs{ClientID: c.ID, Sequence: c.NextCS, ForeChan: chan4,
		BackChan:  nfs4.ChannelAttrs{MaxRequestSize: 4096, MaxResponseSize: 4096, MaxOperations: 2, MaxRequests: 1},
		CBProgram: 0x40000000, SecParms: []nfs4.CallbackSecParms{{Flavor: rpc.AUTH_NONE}}}
	for {
		list, err := c.Call(ctx, []nfs4.Args{a})
		if s, _ := StatusOf(err); s == nfs4.NFS4ERR_DELAY {
			c.NextCS++ // it was executed, RFC 8881 18.36.4
			a.Sequence = c.NextCS
			if err := rest(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		c.NextCS++
		r := list[0].(*nfs4.CreateSessionRes)
		c.Session, c.Slot = r.SessionID, 1
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

// Do sends ops in slot 0 and gives their results. DELAY is waited out, and GRACE if wait says so.
func (c *Client) Do(ctx context.Context, wait bool, ops ...nfs4.Args) ([]nfs4.Res, error) {
	for {
		all := append([]nfs4.Args{&nfs4.SequenceArgs{SessionID: c.Session, SequenceID: c.Slot, CacheThis: true}}, ops...)
		list, err := c.Call(ctx, all)
		if len(list) > 0 && list[0].Stat() == nfs4.NFS4_OK {
			c.Slot++
			c.Status = list[0].(*nfs4.SequenceRes).StatusFlags
		}
		s, _ := StatusOf(err)
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

// Leave gives everything back and hangs up.
func (c *Client) Leave(ctx context.Context) error {
	if c.conn == nil {
		return nil
	}
	defer c.Cut()
	if _, err := c.Call(ctx, []nfs4.Args{&nfs4.DestroySessionArgs{SessionID: c.Session}}); err != nil {
		return err
	}
	_, err := c.Call(ctx, []nfs4.Args{&nfs4.DestroyClientidArgs{ClientID: c.ID}})
	return err
}

// Lookup gives the handle of a path below the root of the server.
func (c *Client) Lookup(ctx context.Context, path string) (nfs4.FH, error) {
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
		list, err := c.Do(ctx, true, append(step, &nfs4.GetfhArgs{})...)
		if err != nil {
			return fh, err
		}
		fh = list[len(list)-1].(*nfs4.GetfhRes).FH
	}
	return fh, nil
}

// Join connects and makes a first session. granted tells whether the server agreed to retain state.
func (c *Client) Join(ctx context.Context, retain bool) (granted bool, slots uint32, err error) {
	if err := c.Dial(ctx); err != nil {
		return false, 0, err
	}
	granted, err = c.ExchangeID(ctx, retain)
	if err != nil {
		return false, 0, err
	}
	s, err := c.CreateSession(ctx)
	if err != nil {
		return false, 0, err
	}
	return granted, s.ForeChan.MaxRequests, nil
}

// Alive tells whether the server still knows a stateid.
func (c *Client) Alive(ctx context.Context, id nfs4.Stateid) (bool, error) {
	id.Seqid = 0
	list, err := c.Do(ctx, true, &nfs4.TestStateidArgs{Stateids: []nfs4.Stateid{id}})
	if err != nil {
		return false, err
	}
	r := list[0].(*nfs4.TestStateidRes)
	return len(r.StatusCodes) == 1 && r.StatusCodes[0] == nfs4.NFS4_OK, nil
}
