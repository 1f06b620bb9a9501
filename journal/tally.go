package journal

import (
	"errors"

	"github.com/cespare/xxhash/v2"
)

// A tally is what a walk over all entries found, to be compared with the head.
type tally struct {
	head   *head
	count  uint64
	sum    uint64
	index  map[uint64]uint64 // hash of the key to hash of the record
	bad    [][]byte          // keys of records whose checksum is wrong
	events uint64            // in [firstEvent, nextEvent) of the head, which comes before them
	run    uint64            // the last of the events that there are, and how many before it without a gap
	seq    uint64            // the highest in any record
	epoch  uint32            // the highest in any client, open or lock
	first  uint64            // numbers of the events there are, 0 if none
	last   uint64
}

func keyHash(key []byte) uint64 { return xxhash.Sum64(key) }

// recordHash is the share of a record in the sum. The value has a checksum over the key in it.
func recordHash(keyHash uint64, sealed []byte) uint64 {
	return keyHash*0x9e3779b97f4a7c15 + xxhash.Sum64(sealed)
}

// take counts everything.
func take(s store) (*tally, error) {
	t := &tally{index: make(map[uint64]uint64)}
	err := s.view(func(v view) error {
		return v.scan(nil, nil, func(key, value []byte) (bool, error) { return true, t.add(key, value) })
	})
	return t, err
}

func (t *tally) add(key, value []byte) error {
	body, seq, err := unseal(key, value)
	if err != nil {
		t.bad = append(t.bad, append([]byte(nil), key...))
		return nil
	}
	t.seq = max(t.seq, seq)
	switch key[0] {
	case kindHead:
		t.head, err = decodeHead(key, body)
		return err
	case kindEvent:
		e, err := decodeEvent(key, body)
		if err != nil {
			return err
		}
		if t.first == 0 {
			t.first = e.Seq
		}
		if t.run++; e.Seq != t.last+1 {
			t.run = 1
		}
		t.last = e.Seq
		if t.head == nil || e.Seq >= t.head.firstEvent && e.Seq < t.head.nextEvent {
			t.events++
		}
		return nil
	}
	h := keyHash(key)
	r := recordHash(h, value)
	t.index[h] = r
	t.count++
	t.sum += r
	if epoch, err := epochOf(key, body); err == nil {
		t.epoch = max(t.epoch, epoch)
	}
	return nil
}

// epochOf decodes the epoch of a record that has one.
func epochOf(key, body []byte) (uint32, error) {
	r, err := decodeRecord(key, body)
	if err != nil {
		return 0, err
	}
	switch r := r.(type) {
	case *Client:
		return max(r.Epoch, r.CompleteEpoch), nil
	case *OpenRecord:
		return r.Epoch, nil
	case *Lock:
		return r.Epoch, nil
	case *Upstream:
		return r.Epoch, nil
	}
	return 0, errors.New("no epoch")
}

// judge compares and fills in the report: what State, and why.
func (r *Report) judge(t *tally, in *inspection, m mark, ms markState) {
	r.Marked = m.seq
	r.Records = t.count
	r.Complete = true
	for _, f := range in.faults {
		r.note("%s", f)
		r.worsen(Repaired)
	}
	if in.torn {
		r.note("the log ends in a group that was cut off")
		r.worsen(Torn)
	}
	if t.head == nil && t.count == 0 && len(t.bad) == 0 && ms == markMissing && len(in.faults) == 0 {
		r.New = true // or the process died while it made one
		return
	}
	switch ms {
	case markWorn:
		r.note("%s: one of the two copies is bad", markName)
		r.worsen(Repaired)
	case markMissing, markBad:
		if t.head != nil && t.head.seq <= 1 && ms == markMissing {
			break // the process died while it made the journal
		}
		r.note("%s: missing or unreadable, so it is not known what was acknowledged last", markName)
		r.worsen(Damaged)
	}
	events := uint64(0) // that are not in the sum
	for _, k := range t.bad {
		if k[0] == kindEvent {
			events++
		}
	}
	if n := uint64(len(t.bad)) - events; n > 0 {
		r.note("%d records with a wrong checksum", n)
		r.worsen(Damaged)
	}
	if t.head == nil {
		r.note("the head record is missing: it is not known how many records there should be")
		r.worsen(Damaged)
		r.Epoch = max(m.epoch, t.epoch)
		r.Seq = t.seq
		if m.seq > r.Seq {
			r.Missing = []SeqRange{{r.Seq + 1, m.seq}}
		}
		r.Complete = false
		return
	}
	h := t.head
	r.Epoch = max(h.epoch, m.epoch)
	r.Seq = h.seq
	r.IncompleteSince = h.incompleteSince
	r.Missing = in.gaps(h.base, m.seq)
	if m.seq > h.seq {
		r.note("the log ends at group commit %d, and %d was acknowledged", h.seq, m.seq)
		r.worsen(Damaged)
		if len(r.Missing) == 0 {
			r.Missing = []SeqRange{{h.seq + 1, m.seq}}
		}
	}
	switch {
	case t.count != h.count:
		r.note("there are %d records and should be %d", t.count, h.count)
		r.worsen(Damaged)
	case t.sum != h.sum:
		r.note("there are %d records as there should be, but not the same ones", t.count)
		r.worsen(Damaged)
	case r.State < Damaged && (len(r.Missing) > 0 || in.behind(m.seq)):
		// The head is proof that its own group is all there, though its end mark may not be.
		if n := len(r.Missing); n > 0 && r.Missing[n-1].Last == h.seq {
			if r.Missing[n-1].Last--; r.Missing[n-1].Last < r.Missing[n-1].First {
				r.Missing = r.Missing[:n-1]
			}
		}
		if len(r.Missing) > 0 {
			r.note("group commits are missing, but nothing that they wrote is still in force")
		}
		r.worsen(Repaired)
	}
	if n := h.nextEvent - h.firstEvent; n > t.events {
		r.LostEvents = n - t.events
		r.worsen(Repaired)
	}
	if r.State == Repaired {
		r.note("every record of a client, open, lock, origin and handle is proven to be there")
	}
	if r.State == Damaged {
		r.Epoch = max(r.Epoch, t.epoch)
	}
	r.Complete = r.State != Damaged && h.incompleteSince == 0
}
