package remote

import (
	"slices"
	"unique"

	"holdfast/fs"
)

// maxNamesOf bounds the names of one directory to a part of its shard.
func (s *shard) maxNamesOf() int { return max(s.limit/2, 16) }

// lookup answers LOOKUP from memory. hit is false if the origin must be asked: the directory's
// attributes are not fresh, the name was not seen beside them, or cred is not known to have search
// permission. With hit, an empty child means that there is no such entry.
func (c *cache) lookup(dir fs.Handle, name, cred string, v view) (child fs.Handle, hit bool) {
	s := c.shard(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.get(dir)
	if n == nil || !c.current(n, v) || n.attr.Change != n.namesAt {
		return "", false
	}
	if n.access.get(cred).granted&fs.AccessLookup == 0 {
		return "", false
	}
	e, ok := n.names[name]
	if !ok || e.gen != n.gen {
		return "", false
	}
	return e.child, true
}

// names is the entries of a directory for a change of ours.
type names struct {
	n    *node
	sure bool // what is set is known to be so; else it is a hint
	max  int
	c    *cache
}

// was is where the name led when it was seen last; sure tells that it did until this change.
func (e *names) was(name string) (child fs.Handle, sure bool) {
	x := e.n.names[name]
	return x.child, e.sure && x.child != "" && x.gen == e.n.gen
}

// set says where the name leads now; an empty child says that it is gone.
func (e *names) set(name string, child fs.Handle) {
	x := nameEntry{child: child}
	if e.sure {
		x.gen = e.n.gen
		e.c.note(e.n.handle, metaRecord{kind: metaName, at: e.n.namesAt, name: name, child: child})
	} else if child == "" {
		delete(e.n.names, name)
		return
	}
	e.n.put(name, x, e.max)
}

// forget says that it is not known where the name leads now.
func (e *names) forget(name string) {
	delete(e.n.names, name)
	e.c.note(e.n.handle, metaRecord{kind: metaForget, name: name})
}

// put remembers an entry, and forgets another if there are too many.
func (n *node) put(name string, e nameEntry, limit int) {
	if n.names == nil {
		n.names = make(map[string]nameEntry)
	}
	if _, ok := n.names[name]; !ok && len(n.names) >= limit {
		for k := range n.names {
			delete(n.names, k)
			break
		}
	}
	n.names[name] = e
}

// addName remembers the outcome of a LOOKUP beside the directory's change attribute at that moment. If
// that is not the present one, it is a hint.
func (c *cache) addName(dir fs.Handle, name string, child fs.Handle, at uint64) {
	s := c.shard(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[dir]
	if n == nil {
		return
	}
	e := nameEntry{child: child}
	if n.attr != nil && n.attr.Change == at && n.namesAt == at {
		e.gen = n.gen
		if n.names[name] != e {
			c.note(dir, metaRecord{kind: metaName, at: at, name: name, child: child})
		}
	} else if child == "" || n.names[name].gen == n.gen {
		return
	}
	before := n.weight()
	n.put(name, e, s.maxNamesOf())
	s.weight += n.weight() - before
	s.shrink(&c.counters.evicted)
}

// maxCreds bounds the decisions of one file. More credentials than that evict each other.
const maxCreds = 64

// access answers ACCESS from memory: ok if all wanted bits were asked for before by cred, and the
// file's attributes are fresh.
func (c *cache) access(h fs.Handle, cred string, want uint32, v view) (granted uint32, ok bool) {
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.get(h)
	if n == nil || !c.current(n, v) {
		return 0, false
	}
	b := n.access.get(cred)
	if b.asked&want != want {
		return 0, false
	}
	return b.granted & want, true
}

// addAccess remembers a decision of the origin beside the change attribute at that moment.
func (c *cache) addAccess(h fs.Handle, cred string, asked, granted uint32, at uint64) {
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[h]
	if n == nil || n.attr == nil || n.attr.Change != at {
		return
	}
	if c.setAccess(s, n, cred, asked, granted) {
		c.note(h, metaRecord{kind: metaAccess, at: at, name: cred, asked: asked, granted: granted})
	}
}

// setAccess remembers a decision, and tells whether it is news.
//
// +checklocks:s.mu
func (c *cache) setAccess(s *shard, n *node, cred string, asked, granted uint32) (news bool) {
	i := slices.IndexFunc(n.access, func(e accessEntry) bool { return e.cred == cred })
	known := i >= 0
	if !known {
		if len(n.access) >= maxCreds {
			n.access = slices.Delete(n.access, 0, 1) // the oldest
			s.weight--
		}
		i = len(n.access)
		n.access = append(n.access, accessEntry{cred: unique.Make(cred).Value()})
		s.weight++
	}
	b := &n.access[i].accessBits
	old := *b
	b.asked |= asked
	b.granted = b.granted&^asked | granted&asked
	s.shrink(&c.counters.evicted)
	return *b != old || !known
}

// getLink returns the target of a symbolic link whose attributes are fresh.
func (c *cache) getLink(h fs.Handle, v view) (string, bool) {
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.get(h); n != nil && c.current(n, v) && n.link != nil {
		return *n.link, true
	}
	return "", false
}

// setLink remembers a target beside the change attribute at that moment.
func (c *cache) setLink(h fs.Handle, target string, at uint64) {
	s := c.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[h]; n != nil && n.attr != nil && n.attr.Change == at {
		if n.link == nil {
			c.note(h, metaRecord{kind: metaLink, at: at, name: target})
		}
		n.link = &target
	}
}

// page returns what follows cookie of a page that is still good for cred. A page with attributes is
// good as long as a file's attributes at least are. Strictness counts where the listing begins: what
// follows goes on in it.
func (c *cache) page(dir fs.Handle, cookie uint64, attrs bool, cred string, v view) (entries []fs.DirEntry, eof, ok bool) {
	s := c.shard(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.get(dir)
	if n == nil || n.attr == nil || n.attr.Change != n.namesAt || !c.readable(n, v.now) || cookie == 0 && !c.current(n, v) ||
		n.access.get(cred).granted&fs.AccessRead == 0 {
		return nil, false, false
	}
	for _, p := range n.pages {
		if attrs && (!p.attrs || c.mode != Immutable && v.now.Sub(p.read) >= c.times.RegMin) {
			continue
		}
		if p.start == cookie {
			return p.entries, p.eof, true
		}
		for i := range p.entries {
			if p.entries[i].Cookie == cookie && i+1 < len(p.entries) {
				return p.entries[i+1:], p.eof, true
			}
		}
	}
	return nil, false, false
}

// addPage remembers a page beside the directory's change attribute at that moment.
func (c *cache) addPage(dir fs.Handle, p *dirPage, at uint64) {
	s := c.shard(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[dir]
	if n == nil || n.attr == nil || n.attr.Change != at || n.namesAt != at || len(p.entries) > s.maxNamesOf() {
		return
	}
	known := slices.ContainsFunc(n.pages, func(o *dirPage) bool {
		return o.start == p.start && len(o.entries) == len(p.entries) && (o.attrs || !p.attrs)
	})
	c.setPage(s, n, p)
	if known {
		return
	}
	c.note(dir, metaRecord{kind: metaPage, at: at, page: *p})
}

// setPage remembers a page.
//
// +checklocks:s.mu
func (c *cache) setPage(s *shard, n *node, p *dirPage) {
	before := n.weight()
	keep := n.pages[:0:0]
	for _, o := range n.pages {
		if o.start != p.start {
			keep = append(keep, o)
		}
	}
	if len(keep) >= maxPages {
		keep = keep[1:]
	}
	n.pages = append(keep, p)
	s.weight += n.weight() - before
	s.shrink(&c.counters.evicted)
}

// verifier is the cookie verifier that the origin gave last for the directory.
func (c *cache) verifier(dir fs.Handle) (v [8]byte, ok bool) {
	s := c.shard(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[dir]; n != nil {
		return n.verf, n.verfOK
	}
	return v, false
}

func (c *cache) setVerifier(dir fs.Handle, v [8]byte) {
	s := c.shard(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.make(dir)
	n.verf, n.verfOK = v, true
}
