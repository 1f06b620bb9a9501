package diskcache

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/cespare/xxhash/v2"
)

func TestHeaderRoundTrip(t *testing.T) {
	h := header{ID{1, 2, 3, 4, 5}, Version{6, 7}, 8, true, 9, "näme"}
	var got header
	if err := got.decode(h.encode()); err != nil || got != h {
		t.Errorf("%+v, %v", got, err)
	}
	h.name = string(bytes.Repeat([]byte("x"), 5000))
	if err := got.decode(h.encode()); err != nil || len(got.name) != maxName {
		t.Errorf("a long name: %d bytes, %v", len(got.name), err)
	}
}

// FuzzHeader feeds the decoder what a disk may give back, with a good checksum so that it gets that far.
func FuzzHeader(f *testing.F) {
	h := header{ID{1, 2, 3, 4, 5}, Version{6, 7}, 8, false, 9, "name"}
	f.Add(h.encode())
	f.Add([]byte("HOLDFDC1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h header
		if h.decode(b) == nil && !bytes.Equal(h.encode(), b) {
			t.Fatal("decoded and encoded again it differs")
		}
		page := make([]byte, headerSize)
		copy(page, b)
		copy(page, magic)
		binary.LittleEndian.PutUint64(page[sumAt:], xxhash.Sum64(page[:sumAt]))
		if h.decode(page) == nil && !bytes.Equal(h.encode(), page) {
			t.Fatal("decoded and encoded again it differs")
		}
	})
}
