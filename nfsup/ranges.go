package nfsup

import (
	"fmt"
	"math"
	"slices"
)

// An UpOwner is an open-owner or lock-owner as the server sees it: 32 bytes that no reboot changes.
type UpOwner [32]byte

// A Range is the bytes First to Last, both included; Last = math.MaxUint64 is "to the end".
type Range struct{ First, Last uint64 }

// wire gives offset and length of LOCK, RFC 8881 18.10.3.
func (r Range) wire() (offset, length uint64) {
	if r.Last == math.MaxUint64 {
		return r.First, math.MaxUint64
	}
	return r.First, r.Last - r.First + 1
}

// rangeOf is the inverse of wire. It is lenient: a range that wraps ends at the end.
func rangeOf(offset, length uint64) Range {
	if length == 0 || length-1 > math.MaxUint64-offset {
		return Range{offset, math.MaxUint64}
	}
	return Range{offset, offset + length - 1}
}

func (r Range) String() string {
	if r.Last == math.MaxUint64 {
		return fmt.Sprintf("%d-end", r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Held is a locked range.
type Held struct {
	Range Range
	Write bool
}

func (h Held) String() string {
	if h.Write {
		return "write " + h.Range.String()
	}
	return "read " + h.Range.String()
}

// A RangeSet is all that one lock-owner holds on one file: sorted, disjoint, neighbours of one type
// merged. It is a value: methods return a new set.
type RangeSet []Held

// with returns the set after r was locked.
func (s RangeSet) with(r Range, write bool) RangeSet {
	out := append(s.without(r), Held{r, write})
	slices.SortFunc(out, func(a, b Held) int {
		if a.Range.First < b.Range.First {
			return -1
		}
		return 1
	})
	n := 0
	for i, h := range out {
		if i > 0 && out[n-1].Write == h.Write && out[n-1].Range.Last != math.MaxUint64 && out[n-1].Range.Last+1 == h.Range.First {
			out[n-1].Range.Last = h.Range.Last
			continue
		}
		out[n] = h
		n++
	}
	return out[:n]
}

// without returns the set after r was unlocked.
func (s RangeSet) without(r Range) RangeSet {
	out := make(RangeSet, 0, len(s)+2)
	for _, h := range s {
		if h.Range.First > r.Last || r.First > h.Range.Last {
			out = append(out, h)
			continue
		}
		if h.Range.First < r.First {
			out = append(out, Held{Range{h.Range.First, r.First - 1}, h.Write})
		}
		if h.Range.Last > r.Last {
			out = append(out, Held{Range{r.Last + 1, h.Range.Last}, h.Write})
		}
	}
	return out
}

// within returns the parts of the set that lie in r.
func (s RangeSet) within(r Range) RangeSet {
	var out RangeSet
	for _, h := range s {
		f, l := max(h.Range.First, r.First), min(h.Range.Last, r.Last)
		if f <= l {
			out = append(out, Held{Range{f, l}, h.Write})
		}
	}
	return out
}

// covers tells whether all of r is in the set.
func (s RangeSet) covers(r Range) bool {
	next := r.First
	for _, h := range s.within(r) {
		if h.Range.First > next {
			return false
		}
		if h.Range.Last >= r.Last {
			return true
		}
		next = h.Range.Last + 1
	}
	return false
}
