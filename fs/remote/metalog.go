package remote

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"holdfast/fs"
	"holdfast/internal/bootid"
	"holdfast/internal/crash"
)

// What is known of the tree outlives the process: attributes, names and their absence, listings, links and decisions
// are written to a file as they come in, and read at the next start. There they count as doubted: nothing is used
// before one question to the origin has shown the change attribute that it belongs to. Only the modes that may use
// what is old, Relaxed and Immutable, use it as it is; so in these an own change is noted in the file before it
// is sent, and after a reboot of the host, when the end of the file may be missing, they doubt as well.
//
// The file is a header and records with length and checksum before them. It ends where one of them does not match.
// It is written behind: what the last second brought may be missing after a crash, and is asked for again. When it
// has grown to three times of what it was, it is written anew from memory, and so bounded by what memory holds.
type metaLog struct {
	path   string
	header []byte
	trusts bool // what is read is used as it is
	log    *slog.Logger
	dump   func(put func(*metaRecord)) // everything that is known

	// mu comes after the mutex of a shard, and is held over writes to the local disk only by flush.
	mu sync.Mutex
	// +checklocks:mu
	buf []byte

	// turn is held by who writes to the file.
	turn    sync.Mutex
	f       *os.File // guarded by turn; nil after a failure
	size    int64    // guarded by turn
	least   int64    // guarded by turn: the size that it had when it was written anew
	tee     []byte   // guarded by turn: what came while it is written anew
	rewrite bool     // guarded by turn

	one  sync.Mutex // held while the file is written anew
	once sync.Once
	quit chan struct{}
	done sync.WaitGroup
}

const (
	metaMagic = "holdfast tree 1\n"
	// metaFloor is how large a file is that is not written anew.
	metaFloor = 16 << 20
	// metaBehind is how long what was learnt may be missing in the file.
	metaBehind = time.Second
	// maxMeta bounds a record.
	maxMeta = 4 << 20
)

var metaTable = crc32.MakeTable(crc32.Castagnoli)

// crashMeta is between the file written anew and its being the file.
var crashMeta = crash.Register("meta.rewrite")

// bootID tells the boots of this host apart.
func bootID() string {
	id, err := bootid.Read()
	if err != nil {
		return "unknown"
	}
	return id
}

// openMeta reads what the last incarnation knew into the cache, and begins to write. boot is that of the host.
func (r *Remote) openMeta(dir string, space uint64, boot string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	who := sha256.Sum256(append(binary.BigEndian.AppendUint64([]byte("tree"), space), r.secret[:]...))
	l := &metaLog{
		path: filepath.Join(dir, fmt.Sprintf("%016x", space)), trusts: r.cfg.Consistency == Relaxed || r.cfg.Consistency == Immutable,
		log: r.log, quit: make(chan struct{}),
	}
	id := append([]byte(metaMagic), who[:16]...)
	l.header = append(append([]byte(nil), id...), fmt.Sprintf("%-40.40s%-6t", boot, l.trusts)...)
	n, err := r.cache.load(l.path, id, l.header, l.trusts, r.now())
	if err != nil {
		return err
	}
	r.metaLoaded = n
	r.cache.counters = cacheCounters{}
	l.dump = r.cache.dump
	if err := l.anew(); err != nil {
		return err
	}
	r.cache.log = l
	l.done.Go(l.run)
	return nil
}

// put adds a record. The mutex of its shard is held, so the records of a file are in order.
func (l *metaLog) put(m *metaRecord) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = appendMeta(l.buf, m)
}

func appendMeta(b []byte, m *metaRecord) []byte {
	at := len(b)
	b = m.append(append(b, make([]byte, 8)...))
	if len(b)-at-8 > maxMeta {
		return b[:at]
	}
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-8))
	binary.LittleEndian.PutUint32(b[at+4:], crc32.Checksum(b[at+8:], metaTable))
	return b
}

// flush writes what there is to the file, so that it outlives the process.
func (l *metaLog) flush() {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.write()
}

// write is flush; l.turn is held.
func (l *metaLog) write() {
	l.mu.Lock()
	b := l.buf
	l.buf = nil
	l.mu.Unlock()
	if l.f == nil || len(b) == 0 {
		return
	}
	if l.rewrite {
		l.tee = append(l.tee, b...)
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	if err != nil {
		l.fail(err)
	}
}

// fail gives the file up: one that lacks something must not be read. l.turn is held.
func (l *metaLog) fail(err error) {
	l.log.Warn("what is known of the tree is not kept over a restart", "file", l.path, "err", err)
	err = errors.Join(l.f.Truncate(0), l.f.Close())
	l.f = nil
	if e := os.Remove(l.path); e != nil {
		l.log.Warn("and the file cannot be removed", "err", errors.Join(err, e))
	}
}

func (l *metaLog) run() {
	tick := time.NewTicker(metaBehind)
	defer tick.Stop()
	for {
		select {
		case <-l.quit:
			return
		case <-tick.C:
		}
		l.flush()
		l.turn.Lock()
		grown := l.f != nil && l.size > max(metaFloor, 3*l.least)
		l.turn.Unlock()
		if grown {
			if err := l.anew(); err != nil {
				l.turn.Lock()
				if l.f != nil {
					l.fail(err)
				}
				l.turn.Unlock()
			}
		}
	}
}

// anew writes the file from memory, beside the old one, and puts it in its place.
func (l *metaLog) anew() error {
	l.one.Lock()
	defer l.one.Unlock()
	l.turn.Lock()
	l.write()
	l.tee, l.rewrite = nil, true
	l.turn.Unlock()
	f, err := os.OpenFile(l.path+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	size := int64(len(l.header))
	_, err = w.Write(l.header)
	var b []byte
	l.dump(func(m *metaRecord) {
		b = appendMeta(b[:0], m)
		size += int64(len(b))
		if _, e := w.Write(b); err == nil {
			err = e
		}
	})
	if e := w.Flush(); err == nil {
		err = e
	}
	l.turn.Lock()
	defer l.turn.Unlock()
	l.write()
	if err == nil {
		_, err = f.Write(l.tee)
		size += int64(len(l.tee))
	}
	l.tee, l.rewrite = nil, false
	crashMeta.Hit()
	if err == nil {
		err = os.Rename(l.path+".new", l.path)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if l.f != nil {
		err = l.f.Close()
	}
	l.f, l.size, l.least = f, size, size
	return err
}

// close ends it. clean says that the process ends in order, so that nothing is missing.
func (l *metaLog) close(clean bool) {
	if l == nil {
		return
	}
	l.once.Do(func() { l.end(clean) })
}

func (l *metaLog) end(clean bool) {
	close(l.quit)
	l.done.Wait()
	if clean {
		l.put(&metaRecord{kind: metaClean})
	}
	l.turn.Lock()
	defer l.turn.Unlock()
	l.write()
	if l.f == nil {
		return
	}
	err := error(nil)
	if clean {
		err = l.f.Sync()
	}
	if err = errors.Join(err, l.f.Close()); err != nil {
		l.log.Warn("what is known of the tree may not be kept over a restart", "err", err)
	}
	l.f = nil
}

// load reads a file into an empty cache. id is how the header of one of ours begins, whole the header of one of
// this boot of the host. It returns how many files are known.
func (c *cache) load(path string, id, whole []byte, trusts bool, now time.Time) (files int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<20)
	head := make([]byte, len(whole))
	if _, err := io.ReadFull(in, head); err != nil || string(head[:len(id)]) != string(id) {
		return 0, nil // of another origin, identity or version
	}
	sameBoot, clean := string(head) == string(whole), false
	var frame [8]byte
	var body []byte
	var m metaRecord
	for {
		if _, err := io.ReadFull(in, frame[:]); err != nil {
			break // the end, torn or not
		}
		n := binary.LittleEndian.Uint32(frame[:])
		if n > maxMeta {
			break
		}
		if cap(body) < int(n) {
			body = make([]byte, n)
		}
		body = body[:n]
		if _, err := io.ReadFull(in, body); err != nil || crc32.Checksum(body, metaTable) != binary.LittleEndian.Uint32(frame[4:]) || m.decode(body) != nil {
			break
		}
		if clean = m.kind == metaClean; !clean {
			c.replay(&m, trusts, now)
		}
	}
	if trusts && !sameBoot && !clean {
		c.doubtAll()
	}
	c.finishPages()
	files, _ = c.size()
	return files, nil
}

// replay takes in a record.
func (c *cache) replay(m *metaRecord, trusts bool, now time.Time) {
	s := c.shard(m.handle)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[m.handle]
	if n == nil && m.kind != metaAttr {
		return
	}
	switch m.kind {
	case metaAttr:
		a := m.attr
		n = s.make(m.handle)
		c.take(s, n, &a, c.begin(), now)
		n.fresh, n.timeo, n.asked, n.settled = time.Time{}, 0, 0, 0
		if trusts && !m.when.After(now) {
			low, _ := c.times.of(a.Type)
			n.fresh = m.when.Add(low)
		}
		s.shrink(&c.counters.evicted)
	case metaName:
		if n.attr.Change == m.at && n.namesAt == m.at {
			before := n.weight()
			n.put(m.name, nameEntry{child: m.child, gen: n.gen}, s.maxNamesOf())
			s.weight += n.weight() - before
			s.shrink(&c.counters.evicted)
		}
	case metaForget:
		before := n.weight()
		delete(n.names, m.name)
		s.weight += n.weight() - before
	case metaAccess:
		if n.attr.Change == m.at {
			c.setAccess(s, n, m.name, m.asked, m.granted)
		}
	case metaLink:
		if n.attr.Change == m.at {
			target := m.name
			n.link = &target
		}
	case metaPage:
		if n.attr.Change == m.at && n.namesAt == m.at && len(m.page.entries) <= s.maxNamesOf() {
			p := m.page
			c.setPage(s, n, &p)
		}
	case metaMoved:
		before := n.weight()
		n.pages = nil
		s.weight += n.weight() - before
		if n.namesAt == m.at && n.attr.Change == m.at {
			a := *n.attr
			a.Change = m.after
			n.attr, n.namesAt, n.fresh = &a, m.after, time.Time{}
		} else if n.namesAt != m.after {
			s.dropNames(n)
			s.dropAccess(n)
			n.fresh = time.Time{}
		}
	case metaDrop:
		s.remove(n)
	case metaDoubt:
		n.fresh = time.Time{}
	}
}

func (c *cache) doubtAll() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for _, n := range s.nodes {
			n.fresh, n.logged = time.Time{}, nil
		}
		s.mu.Unlock()
	}
}

// finishPages gives the entries of pages their attributes, where all are known and an old answer will do: those of
// entries are not in the file twice.
func (c *cache) finishPages() {
	if c.mode != Immutable {
		return
	}
	attrs := func(p *dirPage) bool {
		for i := range p.entries {
			e := &p.entries[i]
			if e.Handle == "" {
				return false
			}
			if e.Attr = c.readAttr(e.Handle, time.Time{}); e.Attr == nil {
				return false
			}
		}
		return true
	}
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		var pages []*dirPage
		for _, n := range s.nodes {
			pages = append(pages, n.pages...)
		}
		s.mu.Unlock()
		for _, p := range pages { // nobody else uses the cache yet
			p.attrs = attrs(p)
		}
	}
}

// dump gives records that make what is known.
func (c *cache) dump(put func(*metaRecord)) {
	for i := range c.shards {
		s := &c.shards[i]
		var list []*metaRecord
		s.mu.Lock()
		// The least recently used first, so that they are evicted first again.
		for n := s.lru.prev; n != &s.lru; n = n.prev {
			list = n.records(list)
		}
		s.mu.Unlock()
		for _, m := range list {
			put(m)
		}
	}
}

// records is what is known of a file, as records.
func (n *node) records(list []*metaRecord) []*metaRecord {
	if n.attr == nil {
		return list
	}
	add := func(m *metaRecord) { m.handle = n.handle; list = append(list, m) }
	at := n.attr.Change
	add(n.attrRecord())
	for name, e := range n.names {
		if e.gen == n.gen && n.namesAt == at {
			add(&metaRecord{kind: metaName, at: at, name: name, child: e.child})
		}
	}
	for _, b := range n.access {
		add(&metaRecord{kind: metaAccess, at: at, name: b.cred, asked: b.asked, granted: b.granted})
	}
	if n.link != nil {
		add(&metaRecord{kind: metaLink, at: at, name: *n.link})
	}
	for _, p := range n.pages {
		if n.namesAt == at {
			add(&metaRecord{kind: metaPage, at: at, page: *p})
		}
	}
	if n.fresh.IsZero() || n.writers > 0 {
		add(&metaRecord{kind: metaDoubt})
	}
	return list
}

// attrRecord is the attributes, as old as they can be.
func (n *node) attrRecord() *metaRecord {
	return &metaRecord{kind: metaAttr, handle: n.handle, when: time.Unix(0, n.came), attr: *n.attr}
}

// logAttr writes attributes down, if they tell anything new and no change of ours is about to make them old.
func (c *cache) logAttr(n *node) {
	if c.log == nil || n.writers > 0 || n.attr == nil || n.fresh.IsZero() {
		return
	}
	if o := n.logged; o != nil {
		a := *n.attr
		if a.Atime = o.Atime; a == *o {
			return
		}
	}
	n.logged = n.attr
	c.log.put(n.attrRecord())
}

// note writes a record about a file down.
func (c *cache) note(h fs.Handle, m metaRecord) {
	if c.log != nil {
		m.handle = h
		c.log.put(&m)
	}
}

// doubt writes down, where the file would be trusted, that it must not be; it is on disk when doubt returns.
func (c *cache) doubt(h fs.Handle) {
	if c.log != nil && c.log.trusts {
		c.note(h, metaRecord{kind: metaDoubt})
		c.log.flush()
	}
}
