package loadgen

import (
	"context"
	"errors"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/plain"
	"holdfast/internal/rpc"
)

// isStatus tells whether an operation failed with a status.
func isStatus(err error, want nfs4.Status) bool {
	s, _ := plain.StatusOf(err)
	return err != nil && s == want
}

// A Lane is a slot of a session: one request at a time. It is not safe for concurrent use.
type Lane struct {
	c      *Client
	conn   *rpc.Conn
	call   rpc.Call
	seq    nfs4.SequenceArgs
	ops    []nfs4.Args
	delays uint64
}

// delayTime is how long a request is put off that the server put off.
const delayTime = 20 * time.Millisecond

// Do sends a compound of a SEQUENCE and ops and waits for the answer. use gets the answers to ops;
// what is in them aliases the record, so it must not be kept. ops may be changed and used again.
//
// The reply is to be cached (RFC 8881 section 2.10.6.1.3) if an operation is there that must not be
// done twice. NFS4ERR_DELAY and NFS4ERR_GRACE are waited out; any other status is a *[plain.StatusError].
func (l *Lane) Do(ctx context.Context, use func([]nfs4.Res) error, ops ...nfs4.Args) error {
	l.ops = append(append(l.ops[:0], &l.seq), ops...)
	l.seq.CacheThis = false
	for _, a := range ops {
		l.seq.CacheThis = l.seq.CacheThis || once(a.Op())
	}
	for {
		err := plain.Compound(ctx, l.conn, &l.call, 1, l.ops, func(list []nfs4.Res) error {
			if len(list) > 0 && list[0].Stat() == nfs4.NFS4_OK {
				l.seq.SequenceID++
			}
			if len(list) == len(l.ops) && list[len(list)-1].Stat() == nfs4.NFS4_OK && use != nil {
				return use(list[1:])
			}
			return nil
		})
		if !isStatus(err, nfs4.NFS4ERR_DELAY) && !isStatus(err, nfs4.NFS4ERR_GRACE) {
			return err
		}
		l.delays++
		pause(ctx, delayTime)
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// once tells whether an operation must not be done twice.
func once(op nfs4.OpNum) bool {
	switch op {
	case nfs4.OP_OPEN, nfs4.OP_CLOSE, nfs4.OP_LOCK, nfs4.OP_LOCKU, nfs4.OP_CREATE, nfs4.OP_REMOVE:
		return true
	}
	return false
}
