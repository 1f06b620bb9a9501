package nfsdown

import (
	"context"
	"net/netip"
	"sync"

	"holdfast/internal/nfs4"
)

// replies40 keeps what requests of NFSv4.0 that must not be executed twice were answered. A client that lost its
// connection sends them again with the same xid, and there is no slot to tell that by: RFC 7530 3.1.1. What is in
// the order of an owner is told by its seqid.
type replies40 struct {
	mu sync.Mutex
	// +checklocks:mu
	byKey map[replyKey]*reply40
	// +checklocks:mu
	order []replyKey // as they came; the oldest goes first
}

type replyKey struct {
	addr        netip.Addr
	port        uint16 // clients keep it over a reconnection, so that servers can tell
	xid         uint32
	fingerprint uint64
}

type reply40 struct {
	done  chan struct{}
	reply []byte // nil: not kept. Changes before done is closed
}

const (
	maxReplies40   = 4096
	maxReplyKept40 = 4096 // bytes; answers to what changes names are far below it
)

// once40 are the operations that are not to be executed twice.
var once40 = map[nfs4.OpNum]bool{
	nfs4.OP_CREATE: true, nfs4.OP_LINK: true, nfs4.OP_REMOVE: true, nfs4.OP_RENAME: true, nfs4.OP_SETATTR: true,
}

// begin looks whether a request was executed before, and waits while it is; again is its answer then.
func (k *replies40) begin(ctx context.Context, key replyKey) (r *reply40, again []byte, err error) {
	k.mu.Lock()
	if k.byKey == nil {
		k.byKey = map[replyKey]*reply40{}
	}
	old := k.byKey[key]
	if old == nil {
		r = &reply40{done: make(chan struct{})}
		k.byKey[key] = r
		k.order = append(k.order, key)
		if len(k.order) > maxReplies40 {
			delete(k.byKey, k.order[0])
			k.order = k.order[1:]
		}
		k.mu.Unlock()
		return r, nil, nil
	}
	k.mu.Unlock()
	select {
	case <-old.done:
		return nil, old.reply, nil
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
}

// end keeps the answer.
func (r *reply40) end(reply []byte) {
	if r == nil {
		return
	}
	if len(reply) <= maxReplyKept40 {
		r.reply = append([]byte(nil), reply...)
	}
	close(r.done)
}
