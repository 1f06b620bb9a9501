package fs

import (
	"fmt"
	"math"
)

// ToEOF is the length that reaches to the end of any file, RFC 8881 18.10.3.
const ToEOF = math.MaxUint64

// A Range is the bytes First to Last, both included; Last = math.MaxUint64 is "to the end". There
// is no empty Range.
type Range struct{ First, Last uint64 }

// MakeRange is the range of a LOCK request. Length 0, and offset and length whose sum is above 2^64-1,
// are Inval, RFC 8881 18.10.3; so the last byte is locked only by ToEOF.
func MakeRange(offset, length uint64) (Range, error) {
	switch {
	case length == 0:
		return Range{}, E("", Inval, fmt.Errorf("lock of length 0"))
	case length == ToEOF:
		return Range{offset, math.MaxUint64}, nil
	case length > math.MaxUint64-offset:
		return Range{}, E("", Inval, fmt.Errorf("range %d+%d wraps", offset, length))
	}
	return Range{offset, offset + length - 1}, nil
}

// Length is what LOCK would carry: ToEOF for a range to the end. One that ends a byte before the end
// and begins at 0 has that length too, and no other: LOCK cannot say it.
func (r Range) Length() uint64 {
	if r.Last == math.MaxUint64 {
		return ToEOF
	}
	return r.Last - r.First + 1
}

// Overlaps tells whether the two share a byte.
func (r Range) Overlaps(o Range) bool { return r.First <= o.Last && o.First <= r.Last }

// Contains tells whether o is within r.
func (r Range) Contains(o Range) bool { return r.First <= o.First && o.Last <= r.Last }

func (r Range) String() string {
	if r.Last == math.MaxUint64 {
		return fmt.Sprintf("%d-end", r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// LockType is shared or exclusive.
type LockType uint8

// The types of byte-range locks. NoLock is the absence of one.
const (
	NoLock LockType = iota
	ReadLock
	WriteLock
)

func (t LockType) String() string { return [...]string{"no", "read", "write"}[t%3] }

// Conflicts tells whether two owners may not hold t and o on one byte (invariant I1).
func (t LockType) Conflicts(o LockType) bool {
	return t != NoLock && o != NoLock && (t == WriteLock || o == WriteLock)
}

// A Lock is a locked range.
type Lock struct {
	Range Range
	Type  LockType
}

// A RangeSet is all that one owner holds on one file: sorted, disjoint, and neighbours of the same
// type are merged, as POSIX has it. It is a value: methods return a new set.
type RangeSet []Lock

// With returns the set after the owner set r to t; NoLock unlocks. Overlapped parts are replaced,
// so it also splits, upgrades and downgrades.
func (s RangeSet) With(r Range, t LockType) RangeSet {
	out := make(RangeSet, 0, len(s)+2)
	placed := t == NoLock
	place := func() {
		if !placed {
			out, placed = append(out, Lock{r, t}), true
		}
	}
	for _, l := range s {
		if l.Range.Last < r.First {
			out = append(out, l)
			continue
		}
		if l.Range.First < r.First {
			out = append(out, Lock{Range{l.Range.First, r.First - 1}, l.Type})
		}
		place()
		switch {
		case l.Range.First > r.Last:
			out = append(out, l)
		case l.Range.Last > r.Last:
			out = append(out, Lock{Range{r.Last + 1, l.Range.Last}, l.Type})
		}
	}
	place()
	return out.merge()
}

// Strongest is, byte by byte, the stronger of what the two hold.
func (s RangeSet) Strongest(o RangeSet) RangeSet {
	switch { // the usual ones: nothing to weigh, and sets are never changed in place
	case len(o) == 0:
		return s
	case len(s) == 0:
		return o
	}
	out := make(RangeSet, 0, len(s)+len(o)+2)
	var a, b Lock // what is left of the first of each
	next := func(l *Lock, set *RangeSet) bool {
		if len(*set) == 0 {
			return false
		}
		*l, *set = (*set)[0], (*set)[1:]
		return true
	}
	hasA, hasB := next(&a, &s), next(&b, &o)
	for hasA && hasB {
		switch {
		case a.Range.Last < b.Range.First:
			out, hasA = append(out, a), next(&a, &s)
			continue
		case b.Range.Last < a.Range.First:
			out, hasB = append(out, b), next(&b, &o)
			continue
		case a.Range.First < b.Range.First:
			out = append(out, Lock{Range{a.Range.First, b.Range.First - 1}, a.Type})
			a.Range.First = b.Range.First
		case b.Range.First < a.Range.First:
			out = append(out, Lock{Range{b.Range.First, a.Range.First - 1}, b.Type})
			b.Range.First = a.Range.First
		}
		last := min(a.Range.Last, b.Range.Last)
		out = append(out, Lock{Range{a.Range.First, last}, max(a.Type, b.Type)})
		if a.Range.Last == last {
			hasA = next(&a, &s)
		} else {
			a.Range.First = last + 1
		}
		if b.Range.Last == last {
			hasB = next(&b, &o)
		} else {
			b.Range.First = last + 1
		}
	}
	if hasA {
		out = append(append(out, a), s...)
	}
	if hasB {
		out = append(append(out, b), o...)
	}
	return out.merge()
}

// merge joins neighbours of the same type in place.
func (s RangeSet) merge() RangeSet {
	n := 0
	for i, l := range s {
		if i > 0 && s[n-1].Type == l.Type && s[n-1].Range.Last != math.MaxUint64 && s[n-1].Range.Last+1 == l.Range.First {
			s[n-1].Range.Last = l.Range.Last
			continue
		}
		s[n] = l
		n++
	}
	if n == 0 {
		return nil
	}
	return s[:n]
}

// Conflict returns a lock of the set that another owner's lock of type t on r would conflict with.
func (s RangeSet) Conflict(r Range, t LockType) (Lock, bool) {
	for _, l := range s {
		if l.Range.Overlaps(r) && l.Type.Conflicts(t) {
			return l, true
		}
	}
	return Lock{}, false
}

// Covers tells whether every byte of r is held with exactly type t. A reclaim is granted only for
// what it covers.
func (s RangeSet) Covers(r Range, t LockType) bool {
	next := r.First
	for _, l := range s {
		if l.Type != t || l.Range.Last < next {
			continue
		}
		if l.Range.First > next {
			return false
		}
		if l.Range.Last >= r.Last {
			return true
		}
		next = l.Range.Last + 1
	}
	return false
}

// Overlaps tells whether the owner holds any byte of r.
func (s RangeSet) Overlaps(r Range) bool {
	for _, l := range s {
		if l.Range.Overlaps(r) {
			return true
		}
	}
	return false
}

// Equal compares two sets.
func (s RangeSet) Equal(o RangeSet) bool {
	if len(s) != len(o) {
		return false
	}
	for i := range s {
		if s[i] != o[i] {
			return false
		}
	}
	return true
}
