package state

import "holdfast/fs"

// minus takes the bytes of o out of s.
func minus(s, o fs.RangeSet) fs.RangeSet {
	for _, l := range o {
		s = s.With(l.Range, fs.NoLock)
	}
	return s
}

// strongest is, byte by byte, the stronger of what s and o hold. It is what a record says while it
// is open which of the two is true: a reclaim of either must find it.
func strongest(s, o fs.RangeSet) fs.RangeSet { return s.Strongest(o) }

// overlapOf is the part of s within r.
func overlapOf(s fs.RangeSet, r fs.Range) fs.RangeSet {
	var out fs.RangeSet
	for _, l := range s {
		if l.Range.Overlaps(r) {
			out = append(out, fs.Lock{Range: fs.Range{First: max(l.Range.First, r.First), Last: min(l.Range.Last, r.Last)}, Type: l.Type})
		}
	}
	return out
}

// coversAtLeast tells whether every byte of r is held in s with t or stronger. A reclaim may ask
// for less than was held: a shared lock where the record, made while an upgrade was under way, says
// exclusive.
func coversAtLeast(s fs.RangeSet, r fs.Range, t fs.LockType) bool {
	if t == fs.ReadLock {
		flat := make(fs.RangeSet, 0, len(s))
		for _, l := range s {
			flat = flat.With(l.Range, fs.ReadLock)
		}
		return flat.Covers(r, fs.ReadLock)
	}
	return s.Covers(r, t)
}
