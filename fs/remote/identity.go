package remote

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"holdfast/internal/crash"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/journal"
	"holdfast/nfsup"
)

// pointIdentity is before a new instance's identity is durable, and so before any use of it.
var pointIdentity = crash.Register("remote.identity")

// pointSession is after csa_sequence became durable and before CREATE_SESSION is sent.
var pointSession = crash.Register("remote.session")

var errRace = errors.New("another instance used this journal's identity")

// identity is who we are at one origin: the journal's Upstream record. It is made once, durably,
// before its first use, and then it never changes, but for what the origin says about itself and the
// number of the next CREATE_SESSION.
type identity struct {
	journal *journal.Journal // nil: nothing is kept, and a restart is a new client
	now     func() time.Time

	mu sync.Mutex
	// +checklocks:mu
	rec journal.Upstream
	// before is the record as it was found; nil for a new instance.
	before *journal.Upstream
	// states are the stateids that the last incarnation wrote down.
	states []journal.UpState
	// whole says that the journal is not damaged; held, that it has an open or a lock of anybody.
	whole, held bool
}

// What the record's Caps say beside what the origin can do.
const (
	capSession      = "session" // whether CsaSequence is a number that was sent, or the next
	sessionSent     = "sent"
	sessionAnswered = "answered"
	capCounts       = "counts"   // nfsup.Identity.Counts
	capComplete     = "complete" // nfsup.Identity.Completed
	yes             = "yes"
	no              = "no"
)

// loadIdentity finds or makes the identity for the origin of that name.
func loadIdentity(ctx context.Context, j *journal.Journal, name, addr string, epoch uint32, now func() time.Time) (*identity, error) {
	id := &identity{journal: j, now: now}
	if j != nil {
		snap, err := j.LoadUpstream(name)
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		if u := snap.Upstream; u != nil {
			id.rec = *u
			before := *u
			id.before = &before
		}
		id.states = snap.States
		id.whole = snap.Complete
		id.held = !snap.Complete || snap.Held
	}
	if id.before == nil {
		if err := id.create(name, now()); err != nil {
			return nil, err
		}
	}
	id.rec.ServerAddr = addr
	id.rec.Epoch = epoch
	id.rec.Verifier = secret(id.rec.Secret).verifier(epoch)
	id.rec.Caps = maps.Clone(id.rec.Caps)
	if id.rec.Caps == nil {
		id.rec.Caps = make(map[string]string)
	}
	if id.before == nil && j != nil {
		pointIdentity.Hit()
		if err := id.commit(ctx); err != nil {
			return nil, err
		}
	}
	return id, nil
}

// create makes a new instance: 128 random bits of secret, and as many in co_ownerid, since whoever
// knows that can destroy or take over our state at an AUTH_SYS origin.
func (id *identity) create(name string, now time.Time) error {
	var s, instance [16]byte
	if _, err := rand.Read(s[:]); err != nil {
		return fmt.Errorf("instance secret: %w", err)
	}
	if _, err := rand.Read(instance[:]); err != nil {
		return fmt.Errorf("instance id: %w", err)
	}
	machine, err := os.Hostname()
	if err != nil {
		machine = "holdfast"
	}
	if len(machine) > rpc.MaxMachine {
		machine = machine[:rpc.MaxMachine]
	}
	owner := fmt.Sprintf("holdfast/%x/%s", instance, name)
	if len(owner) > nfs4.OpaqueLimit {
		return fmt.Errorf("origin name of %d bytes is too long", len(name))
	}
	id.rec = journal.Upstream{
		Name:        name,
		Secret:      journal.Secret(s),
		OwnerID:     []byte(owner),
		MachineName: machine,
		UID:         uint32(os.Getuid()),
		GID:         uint32(os.Getgid()),
		Since:       now,
	}
	return nil
}

// cred is the credential of the client itself. It never changes: an origin compares it, RFC 8881 18.35.4.
func (id *identity) cred() *rpc.Cred {
	id.mu.Lock()
	defer id.mu.Unlock()
	return &rpc.Cred{Flavor: rpc.AUTH_SYS, Machine: id.rec.MachineName, UID: id.rec.UID, GID: id.rec.GID, Groups: id.rec.Groups}
}

// record is a copy of the record as it is now.
func (id *identity) record() journal.Upstream {
	id.mu.Lock()
	defer id.mu.Unlock()
	rec := id.rec
	rec.Caps = maps.Clone(rec.Caps)
	return rec
}

func (id *identity) batch() *journal.Batch {
	rec := id.record()
	var b journal.Batch
	b.PutUpstream(&rec)
	return &b
}

func (id *identity) commit(ctx context.Context) error {
	if id.journal == nil {
		return nil
	}
	if err := id.journal.Commit(ctx, id.batch()); err != nil {
		return fmt.Errorf("journal: identity at origin: %w", err)
	}
	return nil
}

// hooks are nfsup's questions to the journal.
func (id *identity) hooks() nfsup.Journal {
	h := nfsup.Journal{
		BeforeCreateSession: func(ctx context.Context, up nfsup.Identity) error {
			id.take(&up)
			if id.journal != nil {
				if err := id.journal.Err(); err != nil {
					return fmt.Errorf("%w: %w", errRace, err)
				}
			}
			if err := id.commit(ctx); err != nil {
				return err
			}
			pointSession.Hit()
			return nil
		},
		SessionCreated: func(ctx context.Context, up nfsup.Identity) error {
			id.take(&up)
			return id.commit(ctx)
		},
		Changed: func(up nfsup.Identity) {
			id.take(&up)
			id.post()
		},
	}
	if id.journal != nil {
		h.StateChanged = id.stateChanged
	}
	return h
}

func (id *identity) take(up *nfsup.Identity) {
	id.mu.Lock()
	defer id.mu.Unlock()
	id.rec.Verifier = up.Verifier
	id.rec.ClientID = up.ClientID
	id.rec.CsaSequence = up.CsaSequence
	id.rec.Sessions = id.rec.Sessions[:0:0]
	for _, s := range up.Sessions {
		id.rec.Sessions = append(id.rec.Sessions, s)
	}
	id.rec.ServerOwner = []byte(up.ServerOwner.MajorID)
	id.rec.ServerMinor = up.ServerOwner.MinorID
	id.rec.Scope = []byte(up.ServerScope)
	id.rec.Flags = up.Flags
	answer := func(b bool) string {
		if b {
			return yes
		}
		return no
	}
	id.rec.Caps[capSession] = sessionAnswered
	if up.Unanswered {
		id.rec.Caps[capSession] = sessionSent
	}
	id.rec.Caps[capCounts] = answer(up.Counts)
	id.rec.Caps[capComplete] = answer(up.Completed)
}

// learn remembers what the origin was seen to do, and the longest lease it ever announced.
func (id *identity) learn(lease time.Duration, caps map[string]string) {
	id.mu.Lock()
	changed := lease > id.rec.MaxLease
	id.rec.MaxLease = max(id.rec.MaxLease, lease)
	for k, v := range caps {
		if id.rec.Caps[k] != v {
			id.rec.Caps[k], changed = v, true
		}
	}
	id.mu.Unlock()
	if changed {
		id.post()
	}
}

// post makes the record durable soon. A failure shows as the journal's own, which stops all grants.
func (id *identity) post() {
	if id.journal != nil {
		_ = id.journal.Post(id.batch())
	}
}
