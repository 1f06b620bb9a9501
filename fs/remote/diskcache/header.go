package diskcache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// BlockSize is the unit of what is there or missing, in bytes.
const BlockSize = 4096

// An ID names an object: a file of an origin for as long as it exists. Space keeps origins apart, and
// Handle tells a file from a later one with the same number.
type ID struct {
	Space  uint64
	Major  uint64 // fsid
	Minor  uint64
	FileID uint64
	Handle uint64 // a digest of the origin's filehandle
}

// A key is a digest of an ID.
type key [16]byte

func (id *ID) key() (k key) {
	var b [40]byte
	for i, v := range []uint64{id.Space, id.Major, id.Minor, id.FileID, id.Handle} {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
	sum := sha256.Sum256(b[:])
	copy(k[:], sum[:])
	return k
}

func (k key) String() string { return hex.EncodeToString(k[:]) }

func parseKey(s string) (k key, ok bool) {
	n, err := hex.Decode(k[:], []byte(s))
	return k, err == nil && n == len(k) && len(s) == 2*len(k)
}

// A Version is a state of a file: the data is a function of it. Size is in bytes.
type Version struct {
	Change uint64
	Size   uint64
}

// A header is the first page of a KEY.m file.
type header struct {
	id      ID
	version Version
	nonce   uint64
	dirty   bool
	made    int64  // Unix time in seconds
	name    string // the last known, for people; at most maxName bytes
}

const (
	headerSize = 4096
	maxName    = 2048
	magic      = "HOLDFDC1"

	flagDirty = 1

	// where the name is; before it: magic, flags, ID, Version, nonce, made, length of the name
	nameAt = 8 + 8 + 5*8 + 2*8 + 8 + 8 + 8
	sumAt  = headerSize - 8
)

var errHeader = errors.New("not the header of a cached object")

// encode makes the page.
func (h *header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, magic)
	var flags uint64
	if h.dirty {
		flags |= flagDirty
	}
	name := h.name
	if len(name) > maxName {
		name = name[len(name)-maxName:]
	}
	for i, v := range []uint64{
		flags, h.id.Space, h.id.Major, h.id.Minor, h.id.FileID, h.id.Handle, h.version.Change, h.version.Size,
		h.nonce, uint64(h.made), uint64(len(name)),
	} {
		binary.LittleEndian.PutUint64(b[8+8*i:], v)
	}
	copy(b[nameAt:], name)
	binary.LittleEndian.PutUint64(b[sumAt:], xxhash.Sum64(b[:sumAt]))
	return b
}

// decode reads a page. It accepts exactly what encode makes.
func (h *header) decode(b []byte) error {
	if len(b) != headerSize || string(b[:8]) != magic || binary.LittleEndian.Uint64(b[sumAt:]) != xxhash.Sum64(b[:sumAt]) {
		return errHeader
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8+8*i:]) }
	flags, n := word(0), word(10)
	if flags&^flagDirty != 0 || n > maxName || word(7) > maxSize {
		return fmt.Errorf("%w: of an unknown kind", errHeader)
	}
	*h = header{
		id:      ID{word(1), word(2), word(3), word(4), word(5)},
		version: Version{word(6), word(7)},
		nonce:   word(8),
		made:    int64(word(9)),
		dirty:   flags&flagDirty != 0,
		name:    string(b[nameAt : nameAt+n]),
	}
	if !bytes.Equal(bytes.TrimRight(b[nameAt+n:sumAt], "\x00"), nil) {
		return fmt.Errorf("%w: bytes where none should be", errHeader)
	}
	return nil
}

// maxSize bounds the files that are cached: ext4 has 16 TiB.
const maxSize = 1 << 44

// mix ties a checksum to its object and place. It is never zero, which means missing.
func mix(sum, nonce uint64, block int64) uint32 {
	x := (sum ^ nonce) + uint64(block)*0x9e3779b97f4a7c15
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	if uint32(x) == 0 {
		return 1
	}
	return uint32(x)
}

// holeSum stands for the checksum of a block of zeros that has no data on disk.
const holeSum = 0x686f6c65686f6c65
