package torture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/torture/judge"
	"holdfast/nfsup"
)

// The grid: each lock file has cells of a few bytes each, the first eight of which are its fencing number.
const (
	cells    = 8
	cellSize = 64
)

func cellOf(file string, i int) string { return fmt.Sprintf("%s/%d", file, i) }

// rangeOf is the bytes of cells from a to b.
func rangeOf(a, b int) nfsup.Range {
	return nfsup.Range{First: uint64(a) * cellSize, Last: uint64(b+1)*cellSize - 1}
}

// A worker does one thing after another, as one owner.
type worker struct {
	c      *client
	o      *owner
	rng    *rand.Rand
	opened map[string]bool // lock files that were opened in this life
	life   uint64
}

// run works until ctx ends. Steps are taken with the client's life held, so that a life ends between steps.
func (k *worker) run(ctx context.Context, step func(*worker)) {
	for ctx.Err() == nil {
		k.c.life.RLock()
		if k.life != k.c.lives {
			k.life, k.opened = k.c.lives, map[string]bool{}
		}
		step(k)
		gone := k.c.gone
		k.c.life.RUnlock()
		pause := time.Duration(k.rng.Int64N(int64(k.c.w.cfg.Pause)))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		case <-gone:
			select { // until the next life; its beginning makes another channel
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

// since is the time of the run.
func (k *worker) since() time.Duration { return k.c.w.since() }

// lockStep is a step of a worker on byte ranges.
func lockStep(k *worker) {
	files := k.c.w.lockFiles
	file := files[k.rng.IntN(len(files))]
	fh := k.c.files[file]
	if !k.opened[file] {
		if !k.openFile(file, fh) {
			return
		}
	}
	a := k.rng.IntN(cells)
	b := min(a+k.rng.IntN(3), cells-1)
	switch n := k.rng.IntN(100); {
	case n < 35:
		k.lock(file, fh, a, b, k.rng.IntN(3) > 0)
	case n < 55:
		k.unlock(file, fh, a, b)
	case n < 90:
		k.touch(file, fh)
	case n < 93: // all at once
		k.unlock(file, fh, 0, cells-1)
	case n < 96:
		k.lock(file, fh, 0, cells-1, false)
	case n < 98:
		k.closeFile(file, fh)
	default:
		k.rename(file)
	}
}

func (k *worker) openFile(file string, fh nfs4.FH) bool {
	a := &nfsup.OpenArgs{Owner: k.o.open, Access: nfs4.OPEN4_SHARE_ACCESS_BOTH, FH: fh, Want: nfsup.DelegRead}
	if k.rng.IntN(4) == 0 { // by name, which may just be another
		a.FH, a.Dir, a.Name = "", k.c.dir, file
		if k.rng.IntN(2) == 0 {
			a.Name += renamed
		}
	}
	r, err := k.c.up.Open(context.Background(), cred, a)
	if err != nil {
		return false
	}
	if string(r.FH) != string(fh) {
		k.c.w.violated("%s: %s has another file handle when it is opened by name", k.o.name, file)
		return false
	}
	k.opened[file] = true
	return true
}

func (k *worker) closeFile(file string, fh nfs4.FH) {
	if k.unlock(file, fh, 0, cells-1) && k.c.up.CloseFile(context.Background(), k.o.open, fh) == nil {
		k.opened[file] = false
	}
}

func mode(write bool) uint8 {
	if write {
		return judge.Exclusive
	}
	return judge.Shared
}

// lock asks for cells a to b. What they were before, the same owner's lock of other cells or another type,
// is replaced: upgrades, downgrades and merges come of it.
func (k *worker) lock(file string, fh nfs4.FH, a, b int, write bool) {
	k.o.mu.Lock()
	before := k.o.revoked
	k.o.mu.Unlock()
	call := k.since()
	err := k.c.up.Lock(context.Background(), cred, &nfsup.LockArgs{FH: fh, OpenOwner: k.o.open, LockOwner: k.o.lock, Range: rangeOf(a, b), Write: write})
	now := k.since()
	var denied *nfsup.DeniedError
	if errors.As(err, &denied) {
		k.c.w.count(&k.c.w.tally.denied, 1)
		return
	}
	if err != nil && refused(err) {
		k.stateGone(file, fh, err)
		return
	}
	k.o.mu.Lock()
	sure := err == nil && k.o.revoked == before
	var ops []judge.Op
	for i := a; i <= b; i++ {
		cell := cellOf(file, i)
		ops = append(ops, judge.Op{Cell: cell, Owner: k.o.name, Kind: judge.Lock, Mode: mode(write), Maybe: !sure, Call: int64(call), Return: int64(now)})
		h, had := k.o.held[cell]
		if !had {
			h.call = call
		}
		h.mode = mode(write)
		k.o.held[cell] = h
	}
	k.o.mu.Unlock()
	if sure || err == nil {
		k.c.w.history.add(ops...)
		k.c.w.count(&k.c.w.tally.locks, int64(len(ops)))
	} else {
		k.c.unanswered(ops...)
	}
	if !sure {
		k.unlock(file, fh, a, b) // so that we know again
	}
}

// unlock gives cells a to b back; true if they are. What is not held is asked for as well.
func (k *worker) unlock(file string, fh nfs4.FH, a, b int) bool {
	call := k.since()
	k.o.mu.Lock()
	k.o.unlocking = map[string]bool{}
	for i := a; i <= b; i++ {
		k.o.unlocking[cellOf(file, i)] = true
	}
	k.o.mu.Unlock()
	err := k.c.up.Unlock(context.Background(), k.o.lock, fh, rangeOf(a, b))
	now := k.since()
	k.o.mu.Lock()
	defer k.o.mu.Unlock()
	k.o.unlocking = nil
	var ops []judge.Op
	for i := a; i <= b; i++ {
		cell := cellOf(file, i)
		if _, ok := k.o.held[cell]; !ok {
			continue
		}
		ops = append(ops, judge.Op{Cell: cell, Owner: k.o.name, Kind: judge.Unlock, Call: int64(call), Return: int64(now)})
		if err == nil {
			delete(k.o.held, cell)
		}
	}
	if err == nil {
		k.c.w.history.add(ops...)
	} else {
		k.c.unanswered(ops...)
	}
	return err == nil
}

// stateid finds the stateid of what the owner holds of a cell; false if it does not, not exclusively
// for write. A stateid of the open would do for the server, and would not be a lock.
func (k *worker) stateid(fh nfs4.FH, cell int, write bool) (nfs4.Stateid, bool) {
	_, locks := k.c.up.State()
	for _, l := range locks {
		if l.LockOwner != k.o.lock || string(l.FH) != string(fh) {
			continue
		}
		for _, h := range l.Ranges {
			if r := rangeOf(cell, cell); h.Range.First <= r.First && r.Last <= h.Range.Last && (h.Write || !write) {
				l.Stateid.Seqid = 0
				return l.Stateid, true
			}
		}
	}
	return nfs4.Stateid{}, false
}

// touch reads a cell that is held, and, if exclusively, writes the next fencing number into it.
func (k *worker) touch(file string, fh nfs4.FH) {
	k.o.mu.Lock()
	var mine []int
	for i := range cells {
		if _, ok := k.o.held[cellOf(file, i)]; ok {
			mine = append(mine, i)
		}
	}
	k.o.mu.Unlock()
	if len(mine) == 0 {
		return
	}
	i := mine[k.rng.IntN(len(mine))]
	cell := cellOf(file, i)
	value, ok := k.read(cell, fh, i)
	if !ok {
		return
	}
	k.o.mu.Lock()
	h := k.o.held[cell]
	k.o.mu.Unlock()
	if h.mode == judge.Exclusive {
		k.write(cell, fh, i, value+1)
	}
}

func (k *worker) read(cell string, fh nfs4.FH, i int) (uint64, bool) {
	sid, ok := k.stateid(fh, i, false)
	if !ok {
		return 0, false
	}
	var value uint64
	call := k.since()
	err := k.c.up.Compound(context.Background(), cred, []nfs4.Args{&nfs4.PutfhArgs{FH: fh},
		&nfs4.ReadArgs{Stateid: sid, Offset: uint64(i) * cellSize, Count: 8}}, func(res []nfs4.Res) error {
		if r, ok := res[1].(*nfs4.ReadRes); ok && len(r.Data) == 8 {
			value = binary.BigEndian.Uint64(r.Data)
			return nil
		}
		return errors.New("a short read")
	})
	now := k.since()
	if err != nil {
		return 0, false
	}
	k.c.w.history.add(judge.Op{Cell: cell, Owner: k.o.name, Kind: judge.Read, Value: value, Call: int64(call), Return: int64(now)})
	k.c.w.count(&k.c.w.tally.reads, 1)
	return value, true
}

func (k *worker) write(cell string, fh nfs4.FH, i int, value uint64) {
	sid, ok := k.stateid(fh, i, true)
	if !ok {
		return
	}
	data := binary.BigEndian.AppendUint64(nil, value)
	call := k.since()
	err := k.c.up.Compound(context.Background(), cred, []nfs4.Args{&nfs4.PutfhArgs{FH: fh},
		&nfs4.WriteArgs{Stateid: sid, Offset: uint64(i) * cellSize, Stable: nfs4.FILE_SYNC4, Data: data}}, nil)
	op := judge.Op{Cell: cell, Owner: k.o.name, Kind: judge.Write, Value: value, Call: int64(call), Return: int64(k.since())}
	var s *nfsup.StatusError
	switch {
	case err == nil:
		k.c.w.history.add(op)
		k.c.w.count(&k.c.w.tally.writes, 1)
	case refused(err):
	case errors.As(err, &s): // an earlier try may have been done; it was on a session that is dead now
		op.Maybe = true
		k.c.w.history.add(op)
	default:
		k.c.unanswered(op)
	}
}

// stateGone finds out why a lock was refused: if the open is gone it is to be opened again.
func (k *worker) stateGone(file string, fh nfs4.FH, err error) {
	if _, _, ok := k.c.up.HasOpen(k.o.open, fh); !ok {
		k.opened[file] = false
		return
	}
	k.c.w.note("%s: %s: %v", k.o.name, file, err)
}

// renamed is what a file's other name ends with.
const renamed = ".renamed"

// rename gives a lock file its other name. One of the two is refused, and that is all right.
func (k *worker) rename(file string) {
	from, to := file, file+renamed
	if k.rng.IntN(2) == 0 {
		from, to = to, from
	}
	err := k.c.up.Compound(context.Background(), cred, []nfs4.Args{&nfs4.PutfhArgs{FH: k.c.dir}, &nfs4.SavefhArgs{},
		&nfs4.PutfhArgs{FH: k.c.dir}, &nfs4.RenameArgs{OldName: from, NewName: to}}, nil)
	if err == nil {
		k.c.w.count(&k.c.w.tally.renames, 1)
	}
}

// shareStep is a step of a worker on share reservations.
func shareStep(k *worker) {
	files := k.c.w.shareFiles
	file := files[k.rng.IntN(len(files))]
	fh := k.c.files[file]
	k.o.mu.Lock()
	h, have := k.o.held[file]
	before := k.o.revoked
	k.o.mu.Unlock()
	switch {
	case !have:
		k.openShare(file, fh, uint8(1+k.rng.IntN(3)), uint8(k.rng.IntN(4)), 0)
	case !h.unsure && k.rng.IntN(3) == 0: // an upgrade
		k.openShare(file, fh, uint8(1+k.rng.IntN(3)), uint8(k.rng.IntN(2)), h.mode)
	default:
		k.o.mu.Lock()
		k.o.closing = true
		k.o.mu.Unlock()
		call := k.since()
		err := k.c.up.CloseFile(context.Background(), k.o.open, fh)
		op := judge.Op{Cell: file, Owner: k.o.name, Kind: judge.Close, Call: int64(call), Return: int64(k.since())}
		k.o.mu.Lock()
		defer k.o.mu.Unlock()
		k.o.closing = false
		switch {
		case k.o.revoked != before:
		case err == nil || errors.Is(err, nfsup.ErrNoState):
			delete(k.o.held, file)
			k.c.w.history.add(op)
		default:
			k.c.unanswered(op)
		}
	}
}

// openShare opens with access and deny modes, which are added to those of had.
func (k *worker) openShare(file string, fh nfs4.FH, access, deny, had uint8) {
	k.o.mu.Lock()
	before := k.o.revoked
	k.o.mu.Unlock()
	m := access | deny<<2 | had
	call := k.since()
	_, err := k.c.up.Open(context.Background(), cred, &nfsup.OpenArgs{Owner: k.o.open, Access: uint32(access), Deny: uint32(deny), FH: fh, Want: nfsup.DelegRead})
	op := judge.Op{Cell: file, Owner: k.o.name, Kind: judge.Open, Mode: m, Call: int64(call), Return: int64(k.since())}
	if err != nil && refused(err) {
		return
	}
	k.o.mu.Lock()
	defer k.o.mu.Unlock()
	sure := err == nil && k.o.revoked == before
	op.Maybe = !sure
	h, ok := k.o.held[file]
	if !ok {
		h.call = call
	}
	h.mode, h.unsure = m, !sure
	k.o.held[file] = h
	if err == nil {
		k.c.w.history.add(op)
		k.c.w.count(&k.c.w.tally.opens, 1)
	} else {
		k.c.unanswered(op)
	}
}
