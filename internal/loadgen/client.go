package loadgen

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"holdfast/internal/nfs4"
	"holdfast/internal/plain"
	"holdfast/internal/rpc"
)

// A Config says whom a Client talks to, and how.
type Config struct {
	Addr  string // host:port
	Lanes int    // requests at once
	Conns int    // connections, each of which all sessions use; default 1
	UID   uint32
	GID   uint32
}

// A Client is an NFSv4.1 client without recovery: whatever goes wrong ends the measurement.
type Client struct {
	ClientID uint64
	Lanes    []*Lane

	cred     rpc.Cred
	conns    []*rpc.Conn
	sessions []nfs4.SessionID
}

// Sizes that are asked of a session: a payload of 1 MiB and what comes with it.
const (
	maxMessage = 1<<20 + 8<<10
	maxCached  = 8 << 10
	maxOps     = 16
)

// Dial makes a client ID and as many sessions as it takes to have cfg.Lanes slots.
func Dial(ctx context.Context, cfg Config) (_ *Client, err error) {
	c := &Client{cred: rpc.Cred{Flavor: rpc.AUTH_SYS, Machine: "bench", UID: cfg.UID, GID: cfg.GID}}
	defer func() {
		if err != nil {
			c.hangUp()
		}
	}()
	for range max(cfg.Conns, 1) {
		var d net.Dialer
		nc, err := d.DialContext(ctx, "tcp", cfg.Addr)
		if err != nil {
			return nil, err
		}
		c.conns = append(c.conns, rpc.NewConn(nc, rpc.Options{MaxRecord: maxMessage + 56<<10}))
	}
	sequence, err := c.exchangeID(ctx)
	if err != nil {
		return nil, err
	}
	for len(c.Lanes) < cfg.Lanes {
		if err := c.createSession(ctx, sequence, cfg.Lanes-len(c.Lanes)); err != nil {
			return nil, err
		}
		sequence++
	}
	// No reclaims follow, RFC 8881 section 18.51.
	return c, c.Lanes[0].Do(ctx, nil, &nfs4.ReclaimCompleteArgs{})
}

func (c *Client) exchangeID(ctx context.Context) (sequence uint32, err error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return 0, err
	}
	a := &nfs4.ExchangeIDArgs{
		Owner: nfs4.ClientOwner{ID: fmt.Sprintf("holdfast bench %x", id)},
		Flags: nfs4.EXCHGID4_FLAG_USE_NON_PNFS,
	}
	binary.BigEndian.PutUint64(a.Owner.Verifier[:], binary.BigEndian.Uint64(id[:]))
	err = c.raw(ctx, c.conns[0], func(list []nfs4.Res) error {
		r := list[0].(*nfs4.ExchangeIDRes)
		c.ClientID, sequence = r.ClientID, r.SequenceID
		return nil
	}, a)
	return sequence, err
}

// createSession adds a session with at most want slots, and their lanes.
func (c *Client) createSession(ctx context.Context, sequence uint32, want int) error {
	fore := nfs4.ChannelAttrs{
		MaxRequestSize: maxMessage, MaxResponseSize: maxMessage, MaxResponseSizeCached: maxCached,
		MaxOperations: maxOps, MaxRequests: uint32(want),
	}
	back := nfs4.ChannelAttrs{MaxRequestSize: 4096, MaxResponseSize: 4096, MaxOperations: 2, MaxRequests: 1}
	a := &nfs4.CreateSessionArgs{
		ClientID: c.ClientID, Sequence: sequence, ForeChan: fore, BackChan: back,
		CBProgram: 0x40000000, SecParms: []nfs4.CallbackSecParms{{Flavor: rpc.AUTH_NONE}},
	}
	var id nfs4.SessionID
	var slots int
	err := c.raw(ctx, c.conns[0], func(list []nfs4.Res) error {
		r := list[0].(*nfs4.CreateSessionRes)
		id, slots = r.SessionID, int(r.ForeChan.MaxRequests)
		if r.ForeChan.MaxResponseSize < 1<<20 {
			return fmt.Errorf("loadgen: the server's replies have at most %d bytes", r.ForeChan.MaxResponseSize)
		}
		return nil
	}, a)
	if err != nil {
		return err
	}
	if slots == 0 {
		return errors.New("loadgen: a session without slots")
	}
	c.sessions = append(c.sessions, id)
	for _, conn := range c.conns[1:] {
		if err := c.raw(ctx, conn, nil, &nfs4.BindConnToSessionArgs{SessionID: id, Dir: nfs4.CDFC4_FORE}); err != nil {
			return err
		}
	}
	slots = min(slots, want)
	for i := range slots {
		l := &Lane{c: c, conn: c.conns[len(c.Lanes)%len(c.conns)]}
		l.seq = nfs4.SequenceArgs{SessionID: id, SequenceID: 1, SlotID: uint32(i), HighestSlotID: uint32(slots - 1)}
		l.call = rpc.Call{Prog: nfs4.Program, Vers: nfs4.Version, Proc: nfs4.ProcCompound, Cred: c.cred}
		c.Lanes = append(c.Lanes, l)
	}
	return nil
}

// raw is a compound without a slot.
func (c *Client) raw(ctx context.Context, conn *rpc.Conn, use func([]nfs4.Res) error, ops ...nfs4.Args) error {
	call := &rpc.Call{Prog: nfs4.Program, Vers: nfs4.Version, Proc: nfs4.ProcCompound, Cred: c.cred}
	return plain.Compound(ctx, conn, call, 1, ops, func(list []nfs4.Res) error {
		if use == nil || len(list) < len(ops) || list[len(list)-1].Stat() != nfs4.NFS4_OK {
			return nil
		}
		return use(list)
	})
}

// Delays is how many requests the server put off so far. No lane may be busy.
func (c *Client) Delays() uint64 {
	var n uint64
	for _, l := range c.Lanes {
		n += l.delays
	}
	return n
}

// Close destroys the sessions and the client ID, so that nothing is left at the server.
func (c *Client) Close(ctx context.Context) error {
	defer c.hangUp()
	var err error
	for _, id := range c.sessions {
		err = errors.Join(err, c.raw(ctx, c.conns[0], nil, &nfs4.DestroySessionArgs{SessionID: id}))
	}
	return errors.Join(err, c.raw(ctx, c.conns[0], nil, &nfs4.DestroyClientidArgs{ClientID: c.ClientID}))
}

func (c *Client) hangUp() {
	for _, conn := range c.conns {
		_ = conn.Close() // it always succeeds
	}
}
