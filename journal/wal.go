package journal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"strconv"
	"strings"
)

// Badger's write-ahead log (.mem, and .vlog, which we leave unused) is
//
//	key id (8) | random (12) | entry... | zeros
//	entry: meta (1) | user meta (1) | key length | value length | expiry (uvarints) | key | value | CRC-32C (4)
//
// and a key ends with 8 bytes of version, inverted. A transaction is entries with the same version
// and metaTxn, in any order, then one with metaFin whose value is the version in decimal. Versions
// of transactions are dense.
const (
	walHeader = 20

	metaDelete = 1 << 0
	metaTxn    = 1 << 6
	metaFin    = 1 << 7

	maxKeySize   = 65000 + 8
	maxValueSize = 1 << 20
)

var finKey = []byte("!badger!txn")

// A rawEntry is an entry as it stands in a file. Slices point into the file's bytes.
type rawEntry struct {
	key     []byte // without version
	version uint64
	meta    byte
	value   []byte
}

// splitVersion takes the version off a key.
func splitVersion(k []byte) (key []byte, version uint64, ok bool) {
	n := len(k) - 8
	if n < 1 {
		return nil, 0, false
	}
	return k[:n], math.MaxUint64 - binary.BigEndian.Uint64(k[n:]), true
}

// parseWALEntry reads the entry at off: false if there is none, or a bad one. It accepts only what
// this package has Badger write.
func parseWALEntry(data []byte, off int) (e rawEntry, end int, ok bool) {
	if len(data)-off < 2+3+9+4 {
		return e, 0, false
	}
	e.meta = data[off]
	if e.meta&^metaDelete != metaTxn && e.meta != metaFin || data[off+1] != 0 {
		return e, 0, false
	}
	p := off + 2
	var fields [3]uint64 // key length, value length, expiry
	for i := range fields {
		v, n := binary.Uvarint(data[p:min(p+10, len(data))])
		if n <= 0 {
			return e, 0, false
		}
		fields[i] = v
		p += n
	}
	klen, vlen := fields[0], fields[1]
	if klen < 9 || klen > maxKeySize || vlen > maxValueSize || fields[2] != 0 || uint64(len(data)-p) < klen+vlen+4 {
		return e, 0, false
	}
	value := p + int(klen)
	end = value + int(vlen)
	key, version, _ := splitVersion(data[p:value])
	if e.meta == metaFin {
		if !bytes.Equal(key, finKey) {
			return e, 0, false
		}
	} else if strings.IndexByte(kinds, key[0]) < 0 {
		return e, 0, false
	}
	if crc32.Checksum(data[off:end], castagnoli) != binary.BigEndian.Uint32(data[end:]) {
		return e, 0, false
	}
	e.key, e.version, e.value = key, version, data[value:end]
	return e, end + 4, true
}

// A walScan is what is in one log file.
type walScan struct {
	name    string
	keyID   uint64
	entries []rawEntry // of whole transactions, in order, the last ones first to be lost
	seqs    []uint64   // of the groups that are whole, as far as can be told, in order
	end     int        // where the last whole transaction ends; Badger would cut here
	last    uint64     // its version, 0 if there is none
	junk    int        // bytes that are not 0 after end
	// beyond are good entries after end: parts of the transaction that is broken, or later ones.
	beyond []rawEntry
	// later says that beyond has more than one transaction, or one that does not follow last: as each
	// is on disk before the next begins, the broken one was on disk once.
	later bool
}

// scanWAL reads a log file as Badger does, and then what Badger would not look at.
func scanWAL(name string, data []byte) *walScan {
	w := &walScan{name: name, end: min(walHeader, len(data))}
	if len(data) < walHeader {
		return w
	}
	w.keyID = binary.BigEndian.Uint64(data)
	var open []rawEntry // of the transaction that is not finished
	for off := w.end; ; {
		e, end, ok := parseWALEntry(data, off)
		if !ok || len(open) > 0 && e.version != open[0].version && e.meta != metaFin {
			break
		}
		off = end
		if e.meta != metaFin {
			open = append(open, e)
			continue
		}
		version, err := strconv.ParseUint(string(e.value), 10, 64)
		if err != nil || len(open) == 0 || version != open[0].version {
			break
		}
		w.add(open)
		open = open[:0]
		w.end, w.last = end, version
	}
	w.lookBeyond(data)
	return w
}

// add takes over a whole transaction.
func (w *walScan) add(txn []rawEntry) {
	for _, e := range txn {
		if seq, ok := headSeq(e); ok {
			w.seqs = append(w.seqs, seq)
		}
	}
	w.entries = append(w.entries, txn...)
}

// lookBeyond finds good entries after w.end, at whatever offset they are.
func (w *walScan) lookBeyond(data []byte) {
	rest := data[w.end:]
	rest = bytes.TrimRight(rest, "\x00")
	if len(rest) == 0 {
		return
	}
	data = data[:min(len(data), w.end+len(rest)+4)] // a checksum may end with zeros
	for _, b := range rest {
		if b != 0 {
			w.junk++
		}
	}
	type group struct {
		seq      uint64
		finished bool
	}
	versions := make(map[uint64]group)
	var order []uint64
	for off := w.end; off < len(data); {
		if data[off] == 0 {
			off++
			continue
		}
		e, end, ok := parseWALEntry(data, off)
		if !ok {
			off++
			continue
		}
		off = end
		g, seen := versions[e.version]
		if !seen {
			order = append(order, e.version)
		}
		if e.meta == metaFin {
			g.finished = true
		} else {
			w.beyond = append(w.beyond, e)
			if seq, ok := headSeq(e); ok {
				g.seq = seq
			}
		}
		versions[e.version] = g
		if w.last != 0 && e.version > w.last+1 {
			w.later = true
		}
	}
	w.later = w.later || len(versions) > 1
	for i, v := range order {
		if g := versions[v]; g.finished && g.seq != 0 && (i > 0 || w.last != 0 && v > w.last+1) {
			w.seqs = append(w.seqs, g.seq)
		}
	}
}

// headSeq returns the number of the group that a head record belongs to.
func headSeq(e rawEntry) (uint64, bool) {
	if e.key[0] != kindHead || e.meta&metaDelete != 0 {
		return 0, false
	}
	_, seq, err := unseal(e.key, e.value)
	return seq, err == nil
}
