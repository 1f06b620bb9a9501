package remote

import (
	"context"
	"errors"
	"sync"

	"holdfast/fs"
)

// Phase is where recovery stands.
type Phase string

// The phases, in their order. There is no way back within one incarnation.
const (
	PhaseRecovering Phase = "recovering" // reclaims may be sent
	PhaseCompleting Phase = "completing" // RECLAIM_COMPLETE is being sent, or was and nobody knows
	PhaseRunning    Phase = "running"    // RECLAIM_COMPLETE has been answered
)

var (
	errOver  = errors.New("reclaims are over: RECLAIM_COMPLETE was sent")
	errScope = errors.New("the origin's server scope is another than before: nothing can be reclaimed there (RFC 8881 8.4.2.1)")
)

// phase keeps RECLAIM_COMPLETE in its place (I5): once, after the last reclaim, and, if no re-export
// server is on the mount, before the first open or lock. A reclaim enters the phase and leaves it, so
// that none is under way when RECLAIM_COMPLETE is sent.
type phase struct {
	send func(context.Context) error // RECLAIM_COMPLETE
	lost error                       // immutable; if set, no reclaim can succeed

	mu sync.Mutex
	// +checklocks:mu
	phase Phase
	// +checklocks:mu
	reclaims int // under way
	// +checklocks:mu
	idle chan struct{} // closed when reclaims gets 0; nil if nobody waits
	// +checklocks:mu
	sending chan struct{} // closed when the attempt under way ends; nil if there is none
}

// enterReclaim lets a reclaim pass, or fails with NoGrace. The caller calls leave after the answer.
func (p *phase) enterReclaim(op string) (leave func(), err error) {
	if p.lost != nil {
		return nil, fs.E(op, fs.NoGrace, p.lost)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase != PhaseRecovering {
		return nil, fs.E(op, fs.NoGrace, errOver)
	}
	p.reclaims++
	return p.leave, nil
}

func (p *phase) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reclaims--; p.reclaims == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
}

// complete sends RECLAIM_COMPLETE unless it was answered before. After a failure it may or may not
// have been executed, so no reclaim passes any more, and the next call sends it again.
func (p *phase) complete(ctx context.Context) error {
	for {
		p.mu.Lock()
		if p.phase == PhaseRunning {
			p.mu.Unlock()
			return nil
		}
		p.phase = PhaseCompleting
		var wait chan struct{}
		switch {
		case p.sending != nil:
			wait = p.sending
		case p.reclaims > 0:
			if p.idle == nil {
				p.idle = make(chan struct{})
			}
			wait = p.idle
		default:
			p.sending = make(chan struct{})
		}
		p.mu.Unlock()
		if wait == nil {
			break
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return fs.E("RECLAIM_COMPLETE", fs.Interrupted, context.Cause(ctx))
		}
	}
	err := p.send(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.phase = PhaseRunning
	}
	close(p.sending)
	p.sending = nil
	return err
}

func (p *phase) now() Phase {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.phase
}
