package remote

import (
	"context"
	"fmt"
	"sync"

	"holdfast/fs"
	"holdfast/internal/crash"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// pointHandles is before the map of long handles becomes durable: nobody was given one yet.
var pointHandles = crash.Register("remote.handles")

// maxMapped bounds the memory of the map, in entries of about 300 bytes. What is not in memory is
// in the journal.
const maxMapped = 100000

// handleStore is the part of the journal that the map needs.
type handleStore interface {
	Handle(digest [16]byte) (journal.HandleMap, bool, error)
	Commit(ctx context.Context, b *journal.Batch) error
}

// handleMap leads from digests to upstream handles that are too long for NFSv3. An entry is durable
// before its handle is given out, and says which file it was given out for: before the first use of
// an entry of an earlier incarnation that is compared with what the origin says now, so that a wrong
// map never serves another file's data.
type handleMap struct {
	store handleStore

	mu sync.Mutex
	// +checklocks:mu
	known map[digest]mapped // each is durable
	// +checklocks:mu
	era uint64 // counts changes of the origin: an entry of an older era is compared again
}

type mapped struct {
	fh  nfs4.FH
	id  fileIdent
	era uint64 // in which it was compared or given out
}

// fileIdent is what tells one file of an origin from another.
type fileIdent struct {
	fsid   fs.FSID
	fileid uint64
}

func identOf(a *fs.Attr) fileIdent { return fileIdent{a.FSID, a.FileID} }

func newHandleMap(store handleStore) *handleMap {
	return &handleMap{store: store, known: make(map[digest]mapped)}
}

// originChanged says that the origin may be another one than before: everything is compared again.
func (m *handleMap) originChanged() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.era++
}

// newHandle is a long handle that is about to be given out.
type newHandle struct {
	digest digest
	fh     nfs4.FH
	id     fileIdent
}

// put makes the handles durable, all with one commit. Those that are durable already cost nothing.
func (m *handleMap) put(ctx context.Context, list []newHandle) error {
	if len(list) == 0 {
		return nil
	}
	var b journal.Batch
	fresh := list[:0:0]
	m.mu.Lock()
	era := m.era
	for _, n := range list {
		if k, ok := m.known[n.digest]; !ok || k.id != n.id || k.era != era {
			fresh = append(fresh, n)
		}
	}
	m.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	if m.store == nil {
		return fs.E("", fs.ServerFault, fmt.Errorf("the origin's handles of %d bytes need a journal", len(fresh[0].fh)))
	}
	changed := false
	for _, n := range fresh {
		old, ok, err := m.store.Handle(n.digest)
		if err != nil {
			return fs.E("", fs.ServerFault, fmt.Errorf("handle map: %w", err))
		}
		if ok && string(old.Upstream) == string(n.fh) && old.FSID == n.id.fsid && old.FileID == n.id.fileid {
			continue
		}
		b.PutHandle(&journal.HandleMap{Digest: n.digest, Upstream: []byte(n.fh), FSID: n.id.fsid, FileID: n.id.fileid})
		changed = true
	}
	if changed {
		pointHandles.Hit()
		if err := m.store.Commit(ctx, &b); err != nil {
			return fs.E("", journalCode(ctx), fmt.Errorf("handle map: %w", err))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range fresh {
		m.keep(n.digest, mapped{n.fh, n.id, era})
	}
	return nil
}

// journalCode is the code of a failed commit: the caller's end, or ours.
func journalCode(ctx context.Context) fs.Code {
	if ctx.Err() != nil {
		return fs.Interrupted
	}
	return fs.ServerFault
}

// +checklocks:m.mu
func (m *handleMap) keep(d digest, e mapped) {
	if len(m.known) >= maxMapped {
		// Any will do: the next use reads it from the journal.
		n := len(m.known) / 8
		for k := range m.known {
			if n--; n < 0 {
				break
			}
			delete(m.known, k)
		}
	}
	m.known[d] = e
}

// find returns the upstream handle of a digest. check is called, with no mutex held, for an entry
// that was not compared since the origin changed; it returns what the origin says now.
func (m *handleMap) find(ctx context.Context, d digest, check func(context.Context, nfs4.FH) (fileIdent, error)) (nfs4.FH, error) {
	m.mu.Lock()
	e, ok := m.known[d]
	era := m.era
	m.mu.Unlock()
	if ok && e.era == era {
		return e.fh, nil
	}
	if !ok {
		if m.store == nil {
			return "", fs.E("", fs.Stale, nil)
		}
		rec, found, err := m.store.Handle(d)
		if err != nil {
			return "", fs.E("", fs.ServerFault, fmt.Errorf("handle map: %w", err))
		}
		if !found {
			// It has our seal, so it was ours once: the map was lost.
			return "", fs.E("", fs.Stale, fmt.Errorf("handle %x is not in the map", d))
		}
		e = mapped{fh: nfs4.FH(rec.Upstream), id: fileIdent{rec.FSID, rec.FileID}}
	}
	now, err := check(ctx, e.fh)
	if err != nil {
		return "", err
	}
	if now != e.id {
		return "", fs.E("", fs.Stale, errOtherF)
	}
	e.era = era
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep(d, e)
	return e.fh, nil
}

// size is the number of entries in memory.
func (m *handleMap) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.known)
}
