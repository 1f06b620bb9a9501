//go:build linux

package local

import (
	"math"
	"slices"
	"sort"

	"holdfast/fs"
)

// A union is what all lock-owners of a file hold together: what the kernel, and with it every program
// of this host, is to see. It is kept in pieces, sorted, disjoint and none of them empty, so that a
// conflict is found by a binary search however many owners there are.
//
// INVARIANT (I1): a piece has a writer or readers, never both.
type union []piece

// A piece is a run of bytes that the same number of readers, or one writer, has locked.
type piece struct {
	fs.Range
	writer  *holder
	readers int
}

// kind is what the kernel is to hold for the piece.
func (p *piece) kind() fs.LockType {
	switch {
	case p.writer != nil:
		return fs.WriteLock
	case p.readers > 0:
		return fs.ReadLock
	}
	return fs.NoLock
}

func (p *piece) same(o *piece) bool { return p.writer == o.writer && p.readers == o.readers }

// span gives the indices of the pieces that overlap r.
func (u union) span(r fs.Range) (from, to int) {
	from = sort.Search(len(u), func(i int) bool { return u[i].Last >= r.First })
	to = from + sort.Search(len(u)-from, func(i int) bool { return u[from+i].First > r.Last })
	return from, to
}

// cut gives what there is in r, gaps included, as pieces that fill r exactly.
func (u union) cut(r fs.Range) []piece {
	from, to := u.span(r)
	out := make([]piece, 0, 2*(to-from)+1)
	next, full := r.First, false // full: next has wrapped
	for _, p := range u[from:to] {
		p.First, p.Last = max(p.First, r.First), min(p.Last, r.Last)
		if p.First > next {
			out = append(out, piece{Range: fs.Range{First: next, Last: p.First - 1}})
		}
		out = append(out, p)
		next, full = p.Last+1, p.Last == math.MaxUint64
	}
	if !full && next <= r.Last {
		out = append(out, piece{Range: fs.Range{First: next, Last: r.Last}})
	}
	return out
}

// put replaces what there is in r by pieces that lie in r.
func (u union) put(r fs.Range, mid []piece) union {
	from, to := u.span(r)
	var list []piece
	add := func(p piece) {
		if p.kind() == fs.NoLock {
			return
		}
		if n := len(list); n > 0 && list[n-1].Last+1 == p.First && list[n-1].same(&p) {
			list[n-1].Last = p.Last
			return
		}
		list = append(list, p)
	}
	// The neighbours are taken along, since they may have become one with what is next to them.
	if from > 0 {
		from--
	}
	if to < len(u) {
		to++
	}
	old := u[from:to]
	for _, p := range old {
		if p.First < r.First {
			p.Last = min(p.Last, r.First-1)
			add(p)
		}
	}
	for _, p := range mid {
		add(p)
	}
	for _, p := range old {
		if p.Last > r.Last {
			p.First = max(p.First, r.Last+1)
			add(p)
		}
	}
	return slices.Replace(u, from, to, list...)
}

// set replaces what the owner holds in r, of which held is all that it held, by a lock of type t.
// There must be no conflict.
func (u union) set(h *holder, held fs.RangeSet, r fs.Range, t fs.LockType) union {
	for _, l := range held {
		if !l.Range.Overlaps(r) {
			continue
		}
		in := fs.Range{First: max(l.Range.First, r.First), Last: min(l.Range.Last, r.Last)}
		mid := u.cut(in)
		for i := range mid {
			if l.Type == fs.WriteLock {
				mid[i].writer = nil
			} else {
				mid[i].readers--
			}
		}
		u = u.put(in, mid)
	}
	if t == fs.NoLock {
		return u
	}
	mid := u.cut(r)
	for i := range mid {
		if t == fs.WriteLock {
			mid[i].writer = h
		} else {
			mid[i].readers++
		}
	}
	return u.put(r, mid)
}

// conflict tells whether a lock of h, which may be nil, would meet one of another owner, and the first
// byte where. held is what h holds.
func (u union) conflict(h *holder, held fs.RangeSet, r fs.Range, t fs.LockType) (at *piece, ok bool) {
	from, to := u.span(r)
	for i := from; i < to; i++ {
		p := &u[i]
		switch {
		case p.writer != nil:
			if p.writer != h {
				return p, true
			}
		case t == fs.WriteLock:
			in := fs.Range{First: max(p.First, r.First), Last: min(p.Last, r.Last)}
			if p.readers > 1 || !held.Covers(in, fs.ReadLock) {
				return p, true
			}
		}
	}
	return nil, false
}

// kernel gives what the kernel is to hold in r, in runs of one type that fill r.
func (u union) kernel(r fs.Range) []fs.Lock {
	var out []fs.Lock
	for _, p := range u.cut(r) {
		if n := len(out); n > 0 && out[n-1].Type == p.kind() {
			out[n-1].Range.Last = p.Last
			continue
		}
		out = append(out, fs.Lock{Range: p.Range, Type: p.kind()})
	}
	return out
}

// alone gives the runs of r that nobody but the owner has locked, of which held is all it holds.
func (u union) alone(held fs.RangeSet, r fs.Range) []fs.Range {
	var out []fs.Range
	for _, l := range held {
		if !l.Range.Overlaps(r) {
			continue
		}
		for _, p := range u.cut(fs.Range{First: max(l.Range.First, r.First), Last: min(l.Range.Last, r.Last)}) {
			if p.readers > 1 {
				continue
			}
			if n := len(out); n > 0 && out[n-1].Last+1 == p.First {
				out[n-1].Last = p.Last
				continue
			}
			out = append(out, p.Range)
		}
	}
	return out
}
