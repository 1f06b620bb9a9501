package state

import (
	"bytes"
	"crypto/sha256"

	"holdfast/fs"
	"holdfast/journal"
)

// A modelKey stands for all that the future of a model depends on. Names mean nothing to the rules: of the keys that
// the same world has if the clients, or the ranges, change places, it is the least.
type modelKey [16]byte

// modelView is a world without names.
type modelView struct {
	head []byte
	c    [2]struct {
		head []byte
		r    [2][]byte
	}
}

func (v *modelView) add(b ...byte) { v.head = append(v.head, b...) }

func flags(list ...bool) (b byte) {
	for i, f := range list {
		if f {
			b |= 1 << i
		}
	}
	return b
}

// ranges adds which of the ranges are in a set.
func (v *modelView) ranges(c int, set fs.RangeSet) {
	for r := range modelRange {
		b := byte('-')
		for _, l := range overlapOf(set, modelRange[r]) {
			b = byte(l.Type)
		}
		v.c[c].r[r] = append(v.c[c].r[r], b)
	}
}

func (m *model) key() modelKey {
	var v modelView
	v.add(byte(m.srv.Phase()), byte(m.phase), byte(m.left0), byte(m.sent))
	g := &m.srv.grace
	v.add(byte(g.refs), flags(g.closing))
	for i := range m.two {
		m.clientView(&v, i)
	}
	// What the next boot would find, if it came after any part of what was posted, and after what is to be committed.
	for _, snap := range m.prefixes() {
		if snap != nil {
			m.journalView(&v, snap)
		}
	}
	if m.phase == 1 {
		v.add('e')
		m.journalView(&v, m.load(m.ending.Batch))
	}
	for i, c := range m.two {
		if c.pend != nil {
			if b := c.pend.batch(); b != nil {
				v.c[i].head = append(v.c[i].head, 'b')
				m.snapView(&v, m.load(b), i)
			}
		}
	}
	var least []byte
	for p := range 2 {
		for q := range 2 {
			b := v.bytes(p, q)
			if least == nil || bytes.Compare(b, least) < 0 {
				least = b
			}
		}
	}
	sum := sha256.Sum256(least)
	return modelKey(sum[:16])
}

// bytes is all of it, with clients (p) and ranges (q) in their places or each in the other's.
func (v *modelView) bytes(p, q int) []byte {
	b := append([]byte(nil), v.head...)
	for i := range 2 {
		c := &v.c[i^p]
		b = append(b, 0xff)
		b = append(b, c.head...)
		for r := range 2 {
			b = append(b, 0xfe)
			b = append(b, c.r[r^q]...)
		}
	}
	return b
}

func (m *model) clientView(v *modelView, i int) {
	c, k := m.two[i], &v.c[i]
	of := func(owner string) OwnerFile { return OwnerFile{fs.Owner{Client: c.name, Owner: owner}, modelFile} }
	_, opened := c.opens[owned("o", modelFile)]
	_, locked := c.locks[owned("x", modelFile)]
	done, expected := m.srv.grace.expected[c.name]
	k.head = append(k.head, byte(c.budget), flags(c.connected, c.done, opened, locked, done, expected))
	for r := range modelRange {
		k.r[r] = append(k.r[r], flags(c.told[r], c.mem[r], c.forfeit[r], c.asked[r]))
	}
	if p := c.pend; p != nil {
		k.head = append(k.head, 'p', byte(p.what), flags(p.journal, p.called, p.berr != nil, p.jerr != nil))
		if p.what != doComplete {
			k.r[p.r] = append(k.r[p.r], 'p')
		}
		if l := p.lock; l != nil {
			k.head = append(k.head, byte(l.Call), flags(l.reclaim, l.inGrace, l.asked, l.puts == l.l.puts, l.sid != nil))
			v.ranges(i, l.intent)
		}
		if u := p.unlock; u != nil {
			k.head = append(k.head, byte(u.Call), flags(u.puts == u.l.puts))
		}
	}
	b := m.backend
	v.ranges(i, b.locks[of("x")])
	v.ranges(i, b.oldL[of("x")])
	_, under := b.under[of("x")]
	o, old := b.opens[of("o")], b.old[of("o")]
	k.head = append(k.head, byte(o[0]), byte(o[1]), byte(old[0]), byte(old[1]), flags(under))
	if c.c != nil {
		k.head = append(k.head, flags(c.c.complete, c.c.completing, c.c.party.recorded, c.c.party.rec.Complete, c.c.party.yielded),
			byte(m.cfg.Epoch-c.c.party.rec.Epoch), byte(m.cfg.Epoch-c.c.party.rec.CompleteEpoch))
	}
	f := m.srv.files.peek(modelFile)
	if f == nil {
		return
	}
	defer m.srv.files.put(f)
	if o := f.opens[of("o").Owner]; o != nil {
		k.head = append(k.head, 'o', byte(o.access), byte(o.deny), byte(o.goneAccess), byte(o.goneDeny),
			flags(o.client != nil, o.client == c.c, o.sid != nil, o.reclaimed, o.atBackend, o.release != nil, o.epoch != 0, len(o.held) > 0))
		for _, h := range o.held {
			k.head = append(k.head, byte(h.access), byte(h.deny), flags(h.server, h.asked))
		}
	}
	if l := f.locks[of("x").Owner]; l != nil {
		k.head = append(k.head, 'l', flags(l.sid != nil, l.reclaimed, l.release != nil, l.epoch != 0, l.pend != nil, l.leaving != nil))
		v.ranges(i, l.live)
		v.ranges(i, l.gone)
		for _, server := range []bool{false, true} {
			for _, asked := range []bool{false, true} {
				var set fs.RangeSet
				for _, h := range l.held {
					if h.server == server && h.asked == asked {
						set = strongest(set, h.set)
					}
				}
				v.ranges(i, set)
			}
		}
	}
}

func (m *model) load(with ...*journal.Batch) *journal.Snapshot {
	snap, err := m.memory.Load(with...)
	m.must(err)
	return snap
}

// prefixes is what the next boot would find after the first n batches that were posted; nil if that is the same
// as one batch less.
func (m *model) prefixes() []*journal.Snapshot {
	list := make([]*journal.Snapshot, len(m.posted)+1)
	var last []byte
	for n := range list {
		snap := m.load(m.posted[:n]...)
		var v modelView
		m.journalView(&v, snap)
		if now := v.bytes(0, 0); n == 0 || !bytes.Equal(now, last) {
			list[n], last = snap, now
		}
	}
	return list
}

func (m *model) journalView(v *modelView, snap *journal.Snapshot) {
	v.add('j', byte(m.cfg.Epoch-snap.EndedGrace))
	for i := range m.two {
		m.snapView(v, snap, i)
	}
}

func (m *model) snapView(v *modelView, snap *journal.Snapshot, i int) {
	name, k := m.two[i].name, &v.c[i]
	k.head = append(k.head, 'j')
	for _, c := range snap.Clients {
		if c.Owner == name {
			k.head = append(k.head, 'c', byte(m.cfg.Epoch-c.Epoch), byte(m.cfg.Epoch-c.CompleteEpoch), flags(c.Expired, c.Complete))
		}
	}
	for _, o := range snap.Opens {
		if o.Owner.Client == name {
			k.head = append(k.head, 'o', byte(m.cfg.Epoch-o.Epoch), byte(o.Access), byte(o.Deny))
		}
	}
	var set fs.RangeSet
	for _, l := range snap.Locks {
		if l.Owner.Client == name {
			k.head = append(k.head, 'l', byte(m.cfg.Epoch-l.Epoch))
			set = l.Ranges
		}
	}
	v.ranges(i, set)
}
