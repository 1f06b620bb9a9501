package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// A Badger table (.sst), uncompressed and not encrypted, is
//
//	block... | index | index length (4) | checksum of the index | its length (4)
//	block: entry... | offsets of the entries (4 each, native) | how many (4) | checksum | its length (4)
//	entry: overlap (2, native) | rest (2, native) | rest of the key | meta | user meta | expiry (uvarint) | value
//
// where overlap is how much of the block's first key the key begins with.

// A tableScan is what is in one table.
type tableScan struct {
	name    string
	blocks  [][]byte // good ones: entries and offsets, checksum cut off
	faults  []string // what is wrong with it
	indexOK bool
}

// cutChecksum takes checksum and its length off the end, and checks it.
func cutChecksum(b []byte) (body []byte, err error) {
	n := len(b) - 4
	if n < 0 {
		return nil, errors.New("too short")
	}
	size := binary.BigEndian.Uint32(b[n:])
	if size > 16 || int(size) > n {
		return nil, errors.New("bad checksum length")
	}
	body, raw := b[:n-int(size)], b[n-int(size):n]
	sum, err := parseChecksum(raw)
	if err != nil {
		return nil, err
	}
	if y.CalculateChecksum(body, sum.Algo) != sum.Sum {
		return nil, errors.New("checksum does not match")
	}
	return body, nil
}

func parseChecksum(raw []byte) (*pb.Checksum, error) {
	sum := new(pb.Checksum)
	if err := proto.Unmarshal(raw, sum); err != nil {
		return nil, errors.New("unreadable checksum")
	}
	// Any other spelling is rot, even if it means the same.
	if again, err := proto.Marshal(sum); err != nil || !slices.Equal(again, raw) || sum.Algo != pb.Checksum_CRC32C {
		return nil, errors.New("unreadable checksum")
	}
	return sum, nil
}

// scanTable checks every byte of a table.
func scanTable(name string, data []byte) *tableScan {
	t := &tableScan{name: name}
	offsets, err := tableIndex(data)
	if err != nil {
		t.faults = append(t.faults, fmt.Sprintf("%s: index: %v", name, err))
		t.blocks = findBlocks(data)
		return t
	}
	t.indexOK = true
	for i := range len(offsets) - 1 {
		block, err := cutChecksum(data[offsets[i]:offsets[i+1]])
		if err == nil {
			_, err = blockEntries(block)
		}
		if err != nil {
			t.faults = append(t.faults, fmt.Sprintf("%s: block %d of %d, bytes %d to %d: %v", name, i+1, len(offsets)-1, offsets[i], offsets[i+1]-1, err))
			continue
		}
		t.blocks = append(t.blocks, block)
	}
	return t
}

// tableIndex returns where the blocks begin, and where the last one ends.
func tableIndex(data []byte) (offsets []int, err error) {
	// The index length stands between the index and its checksum, so cutChecksum does not fit.
	n := len(data) - 4
	if n < 4 {
		return nil, errors.New("too short")
	}
	size := binary.BigEndian.Uint32(data[n:])
	if size > 16 || int(size) > n-4 {
		return nil, errors.New("bad checksum length")
	}
	raw := data[n-int(size) : n]
	n -= int(size) + 4
	length := binary.BigEndian.Uint32(data[n:])
	if uint64(length) > uint64(n) {
		return nil, errors.New("bad length")
	}
	start := n - int(length)
	sum, err := parseChecksum(raw)
	if err != nil {
		return nil, err
	}
	index := data[start:n]
	if y.CalculateChecksum(index, sum.Algo) != sum.Sum {
		return nil, errors.New("checksum does not match")
	}
	// The flatbuffer is what Badger wrote; should it not be, reading it must not take the process down.
	defer func() {
		if r := recover(); r != nil {
			offsets, err = nil, fmt.Errorf("unreadable: %v", r)
		}
	}()
	root := fb.GetRootAsTableIndex(index, 0)
	var b fb.BlockOffset
	next := 0
	for i := range root.OffsetsLength() {
		if !root.Offsets(&b, i) || int(b.Offset()) != next || b.Len() == 0 || int(b.Len()) > start-next {
			return nil, errors.New("blocks are not in a row")
		}
		offsets = append(offsets, next)
		next += int(b.Len())
	}
	if next != start {
		return nil, errors.New("blocks do not reach the index")
	}
	return append(offsets, next), nil
}

// findBlocks finds the blocks of a table whose index is gone: where bytes that may be a checksum
// follow bytes that have it.
func findBlocks(data []byte) (blocks [][]byte) {
	start, crc, done := 0, uint32(0), 0 // crc is that of data[start:done]
	for p := 16; p+4 <= len(data); p++ {
		size := int(binary.BigEndian.Uint32(data[p:]))
		if size < 2 || size > 16 || p-size <= start {
			continue
		}
		sum, err := parseChecksum(data[p-size : p])
		if err != nil {
			continue
		}
		body := p - size
		if body < done {
			crc, done = 0, start
		}
		crc = crc32.Update(crc, castagnoli, data[done:body])
		done = body
		if uint64(crc) != sum.Sum {
			continue
		}
		if block := data[start:body]; block != nil {
			if _, err := blockEntries(block); err == nil {
				blocks = append(blocks, block)
				start, done, crc = p+4, p+4, 0
				p = start
			}
		}
	}
	return blocks
}

var errBlock = errors.New("malformed block")

// blockEntries decodes the entries of a block whose checksum was cut off.
func blockEntries(b []byte) ([]rawEntry, error) {
	n := len(b) - 4
	if n < 0 {
		return nil, errBlock
	}
	count := int(binary.BigEndian.Uint32(b[n:]))
	if count < 1 || count > n/4 {
		return nil, errBlock
	}
	table := b[n-4*count : n]
	data := b[:n-4*count]
	offset := func(i int) int {
		if i == count {
			return len(data)
		}
		return int(binary.NativeEndian.Uint32(table[4*i:]))
	}
	entries := make([]rawEntry, 0, count)
	var first []byte
	for i := range count {
		from, to := offset(i), offset(i+1)
		if from < 0 || to > len(data) || to-from < 4 {
			return nil, errBlock
		}
		raw := data[from:to]
		overlap, rest := int(binary.NativeEndian.Uint16(raw)), int(binary.NativeEndian.Uint16(raw[2:]))
		raw = raw[4:]
		if overlap > len(first) || rest > len(raw) {
			return nil, errBlock
		}
		key := raw[:rest:rest]
		if overlap > 0 {
			key = slices.Concat(first[:overlap], raw[:rest])
		}
		if i == 0 {
			first = key
		}
		raw = raw[rest:]
		if len(raw) < 3 {
			return nil, errBlock
		}
		e := rawEntry{meta: raw[0]}
		_, m := binary.Uvarint(raw[2:])
		if m <= 0 {
			return nil, errBlock
		}
		e.value = raw[2+m:]
		var ok bool
		if e.key, e.version, ok = splitVersion(key); !ok {
			return nil, errBlock
		}
		entries = append(entries, e)
	}
	return entries, nil
}
