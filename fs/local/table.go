//go:build linux

package local

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

// A table gives handles where the file system has none that last (overlay without nfs_export, FUSE)
// or where we may not open by them. It remembers for each file that a handle was given of: its inode
// number and birth time, and where it was last seen. A handle is a number in it; it is resolved by
// walking to where the file was seen and comparing inode number and birth time, so that it never leads
// to another file that has the name now.
//
// What it can do less: a file that a program of this host renamed is Stale until a client looks it up
// under its new name (renames by clients are followed); where there is no birth time, a file that got
// name and inode number of a deleted one is taken for it; and it costs memory, some 150 bytes for each
// file that was ever looked up.
//
// The file on disk is a log of records: length (4), CRC-32C (4), then op (1), id (8), inode (8), birth
// (8), directory (8), name. All big endian. Records that handles depend on are on disk before the
// handle is given out. A torn end is cut off. The log is rewritten at the start if half of it is waste.
type table struct {
	log  *slog.Logger
	file *os.File

	mu     sync.Mutex
	byID   map[uint64]*tableEntry // guarded by mu
	byIdnt map[ident]uint64       // guarded by mu
	next   uint64                 // guarded by mu; ids are never used again
	bad    error                  // guarded by mu; a write failed, nothing new can be given

	flush flusher
	// moves is held shared while a rename and the record of it come apart, and taken by who did not
	// find a file, before he looks again.
	moves sync.RWMutex
}

// ident tells files apart.
type ident struct {
	ino   uint64
	birth int64 // ns; 0 if the file system does not know
}

type tableEntry struct {
	ident
	links []link // where it was seen, the last first; at most maxLinks
}

type link struct {
	dir  uint64
	name string
}

const (
	rootID   = 1
	maxLinks = 8
	maxDepth = 4096 // of a path

	opSeen   = 1 // the file id has this identity, and is at dir, name
	opUnseen = 2 // it is not at dir, name any more
	opForget = 3 // it was deleted
	opNext   = 4 // ids below this are used up
	opIdent  = 5 // it has another identity now
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func identOf(st *unix.Statx_t) ident {
	id := ident{ino: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.birth = nanos(st.Btime)
	}
	return id
}

// tableID is the id in a handle of ours that was checked; 0 for none.
func tableID(h fs.Handle) uint64 {
	if len(h) != handleHead+8 {
		return 0
	}
	return binary.BigEndian.Uint64([]byte(h[handleHead:]))
}

func (b *Backend) tableHandle(id uint64) fs.Handle {
	var p [handleHead + 8]byte
	p[0] = kindTable
	binary.BigEndian.PutUint64(p[handleHead:], id)
	return b.seal(p[:])
}

// openTable reads the table, and makes root its first entry.
func openTable(path string, root ident, log *slog.Logger) (*table, error) {
	t := &table{log: log, byID: make(map[uint64]*tableEntry), byIdnt: make(map[ident]uint64), next: rootID + 1}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	t.file = f
	good, records, err := t.replay(f)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	// The exported directory may be another one than last time; its id is the same.
	if e := t.byID[rootID]; e != nil {
		delete(t.byIdnt, e.ident)
	}
	if other, ok := t.byIdnt[root]; ok {
		delete(t.byID, other)
	}
	t.byID[rootID] = &tableEntry{ident: root}
	t.byIdnt[root] = rootID
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil && end != good {
		log.Warn("the end of the handle table was torn off and is dropped", "file", path, "bytes", end-good)
		err = f.Truncate(good)
	}
	if err == nil {
		_, err = f.Seek(good, io.SeekStart)
	}
	if err == nil && records > 2*len(t.byID)+1000 {
		err = t.rewrite(path)
	}
	if err == nil {
		err = syncDir(pathDir(path))
	}
	if err != nil {
		_ = t.file.Close()
		return nil, err
	}
	return t, nil
}

func pathDir(path string) string { return path[:strings.LastIndexByte(path, '/')+1] + "." }

// replay reads records up to the first bad one, and gives where that begins.
func (t *table) replay(r io.Reader) (good int64, records int, err error) {
	in := bufio.NewReaderSize(r, 1<<16)
	for {
		rec, n, err := readRecord(in)
		if err == io.EOF || errors.Is(err, errTorn) {
			return good, records, nil
		}
		if err != nil {
			return 0, 0, err
		}
		t.apply(rec)
		good += int64(n)
		records++
	}
}

type record struct {
	op   byte
	id   uint64
	what ident
	at   link
}

var errTorn = errors.New("not a whole record")

const (
	recordHead = 8
	recordBody = 1 + 4*8
)

func (r *record) encode(p []byte) []byte {
	start := len(p)
	p = append(p, make([]byte, recordHead)...)
	p = append(p, r.op)
	for _, v := range [...]uint64{r.id, r.what.ino, uint64(r.what.birth), r.at.dir} {
		p = binary.BigEndian.AppendUint64(p, v)
	}
	p = append(p, r.at.name...)
	body := p[start+recordHead:]
	binary.BigEndian.PutUint32(p[start:], uint32(len(body)))
	binary.BigEndian.PutUint32(p[start+4:], crc32.Checksum(body, crcTable))
	return p
}

// readRecord fails with io.EOF at the end, and with errTorn if no whole good record follows.
func readRecord(in io.Reader) (r record, n int, err error) {
	var head [recordHead]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errTorn
		}
		return r, 0, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < recordBody || size > recordBody+fs.MaxName {
		return r, 0, errTorn
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(in, body); err != nil {
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errTorn
		}
		return r, 0, err
	}
	if crc32.Checksum(body, crcTable) != binary.BigEndian.Uint32(head[4:]) || body[0] < opSeen || body[0] > opIdent {
		return r, 0, errTorn
	}
	r.op = body[0]
	r.id = binary.BigEndian.Uint64(body[1:])
	r.what = ident{binary.BigEndian.Uint64(body[9:]), int64(binary.BigEndian.Uint64(body[17:]))}
	r.at = link{binary.BigEndian.Uint64(body[25:]), string(body[33:])}
	return r, recordHead + int(size), nil
}

// apply is what a record means, at replay as at run time. t.mu is held, or nobody else is there.
func (t *table) apply(r record) {
	switch r.op {
	case opSeen:
		e := t.byID[r.id]
		if e == nil {
			e = &tableEntry{ident: r.what}
			t.byID[r.id] = e
			t.byIdnt[r.what] = r.id
		}
		e.unsee(r.at)
		e.links = append([]link{r.at}, e.links[:min(len(e.links), maxLinks-1)]...)
	case opUnseen:
		if e := t.byID[r.id]; e != nil {
			e.unsee(r.at)
		}
	case opForget:
		if e := t.byID[r.id]; e != nil {
			delete(t.byID, r.id)
			if t.byIdnt[e.ident] == r.id {
				delete(t.byIdnt, e.ident)
			}
		}
	case opIdent:
		if e := t.byID[r.id]; e != nil {
			if t.byIdnt[e.ident] == r.id {
				delete(t.byIdnt, e.ident)
			}
			e.ident = r.what
			t.byIdnt[r.what] = r.id
		}
	}
	t.next = max(t.next, r.id+1)
	if r.op == opNext {
		t.next = max(t.next, r.id)
	}
}

func (e *tableEntry) unsee(at link) {
	kept := e.links[:0]
	for _, l := range e.links {
		if l != at {
			kept = append(kept, l)
		}
	}
	e.links = kept
}

// rewrite makes the log as short as it can be. Nobody else is there yet.
func (t *table) rewrite(path string) error {
	var p []byte
	for id, e := range t.byID {
		for i := len(e.links) - 1; i >= 0; i-- {
			p = (&record{opSeen, id, e.ident, e.links[i]}).encode(p)
		}
	}
	p = (&record{op: opNext, id: t.next}).encode(p)
	if err := writeDurably(path, p); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		_ = f.Close()
		return err
	}
	_ = t.file.Close() // the old one, of which nothing is needed
	t.file = f
	return nil
}

// put appends a record and applies it. t.mu is held: the write goes to the page cache only.
func (t *table) put(r record) error {
	if t.bad == nil {
		_, t.bad = t.file.Write(r.encode(nil))
	}
	if t.bad != nil {
		return fs.E("", fs.ServerFault, fmt.Errorf("handle table: %w", t.bad))
	}
	t.apply(r)
	return nil
}

// add gives the id of a file that was seen at dir, name. fresh: sync is due before it is given out.
func (t *table) add(what ident, dir uint64, name string) (id uint64, fresh bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := link{dir, name}
	id, ok := t.byIdnt[what]
	if id == rootID {
		return id, false, nil
	}
	if !ok {
		id = t.next
	} else if l := t.byID[id].links; len(l) > 0 && l[0] == at {
		return id, false, nil
	}
	return id, true, t.put(record{opSeen, id, what, at})
}

// sync makes durable what was added before.
func (t *table) sync(ctx context.Context) error {
	return t.flush.do(ctx, false, func(bool) error {
		err := unix.Fdatasync(int(t.file.Fd()))
		if err != nil {
			t.mu.Lock()
			t.bad = err
			t.mu.Unlock()
		}
		return err
	})
}

// flushTable makes handles that handleOf called fresh fit to be given out.
func (b *Backend) flushTable(ctx context.Context, fresh bool) error {
	if !fresh {
		return nil
	}
	return b.table.sync(ctx)
}

// unlinked records that a name went, and with deleted that the file did.
func (t *table) unlinked(id, dir uint64, name string, deleted bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[id] == nil || id == rootID {
		return nil
	}
	if deleted {
		return t.put(record{op: opForget, id: id})
	}
	return t.put(record{op: opUnseen, id: id, at: link{dir, name}})
}

// changed records that a file has another identity now.
func (t *table) changed(id uint64, what ident) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byID[id]; e == nil || e.ident == what || id == rootID {
		return nil
	}
	return t.put(record{op: opIdent, id: id, what: what})
}

func (t *table) close() error { return t.file.Close() }

// paths gives where the file may be, as names from the root, and what must be there.
func (t *table) paths(id uint64) (ident, [][]string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byID[id]
	if e == nil {
		return ident{}, nil, false
	}
	var all [][]string
	for _, l := range e.links {
		names := []string{l.name}
		dir := l.dir
		for dir != rootID && len(names) < maxDepth {
			d := t.byID[dir]
			if d == nil || len(d.links) == 0 {
				break
			}
			names = append(names, d.links[0].name)
			dir = d.links[0].dir
		}
		if dir != rootID {
			continue
		}
		for i, j := 0, len(names)-1; i < j; i, j = i+1, j-1 {
			names[i], names[j] = names[j], names[i]
		}
		all = append(all, names)
	}
	return e.ident, all, true
}

// openTable resolves a handle of the table, as O_PATH.
func (b *Backend) openTable(h fs.Handle, payload []byte) (int, error) {
	id := binary.BigEndian.Uint64(payload)
	if id == rootID {
		return openat(b.root, ".", unix.O_PATH|unix.O_DIRECTORY, 0)
	}
	fd, err := b.tryTable(id)
	if err == nil || !isErrno(err, syscall.ESTALE) {
		return fd, err
	}
	// A rename by us may have come between: look again while none runs.
	if fd, err = b.tryQuiet(id); err == nil {
		return fd, nil
	}
	// A file that is open lives on without a name, or under one that we do not know.
	if f := b.files.peek(h); f != nil {
		defer b.files.release(f)
		return unix.Openat(b.proc, itoa(f.fd), unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	return -1, err
}

func (b *Backend) tryTable(id uint64) (int, error) {
	want, paths, ok := b.table.paths(id)
	if !ok {
		return -1, syscall.ESTALE
	}
	for _, names := range paths {
		fd, err := b.walk(names)
		if err != nil {
			continue
		}
		st, err := raw(fd)
		if err == nil && identOf(&st) == want {
			return fd, nil
		}
		closeFD(fd)
	}
	return -1, syscall.ESTALE
}

// walk opens a path from the root, as O_PATH, in pieces that the kernel takes.
func (b *Backend) walk(names []string) (int, error) {
	dir := b.root
	for len(names) > 0 {
		n, size := 0, 0
		for n < len(names) && size+len(names[n])+1 < unix.PathMax {
			size += len(names[n]) + 1
			n++
		}
		fd, err := find(dir, strings.Join(names[:n], "/"))
		if dir != b.root {
			closeFD(dir)
		}
		if err != nil {
			return -1, err
		}
		dir, names = fd, names[n:]
	}
	if dir == b.root {
		return -1, syscall.ESTALE
	}
	return dir, nil
}

// place gives where a file was seen last; the root is nowhere.
func (t *table) place(what ident) (link, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, ok := t.byIdnt[what]
	if id == rootID {
		return link{}, true
	}
	if !ok || len(t.byID[id].links) == 0 {
		return link{}, false
	}
	return t.byID[id].links[0], true
}

// idOf gives the id of a file, if it has one.
func (t *table) idOf(what ident) (uint64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, ok := t.byIdnt[what]
	return id, ok
}

// tryQuiet is tryTable while no rename of ours runs.
func (b *Backend) tryQuiet(id uint64) (int, error) {
	b.table.moves.Lock()
	defer b.table.moves.Unlock()
	return b.tryTable(id)
}
