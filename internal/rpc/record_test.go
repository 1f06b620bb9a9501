package rpc

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"
)

func nothing() error { return nil }

func newReader(r io.Reader, max int) *recordReader {
	return &recordReader{br: bufio.NewReaderSize(r, readBuffer), max: max, idle: nothing, begun: nothing}
}

// fragment returns b with its record mark.
func fragment(b []byte, last bool) []byte {
	mark := uint32(len(b))
	if last {
		mark |= lastFragment
	}
	return append(binary.BigEndian.AppendUint32(nil, mark), b...)
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8)
	}
	return b
}

func TestRecords(t *testing.T) {
	for _, n := range []int{0, 1, 8, 1024, 1025, 4096, firstRead - 1, firstRead, firstRead + 1, 300000, 1<<20 + 200} {
		for _, step := range []int{1 << 30, 65536, 1000} {
			rec := pattern(n)
			var stream []byte
			for rest := rec; ; {
				k := min(step, len(rest))
				stream = append(stream, fragment(rest[:k], k == len(rest))...)
				if rest = rest[k:]; len(rest) == 0 {
					break
				}
				stream = append(stream, fragment(nil, false)...)
			}
			stream = append(stream, fragment([]byte("next"), true)...)
			r := newReader(bytes.NewReader(stream), 1<<20+64<<10)
			for i, want := range [][]byte{rec, []byte("next")} {
				got, err := r.next()
				if err != nil {
					t.Fatalf("record %d of %d bytes in fragments of %d: %v", i, n, step, err)
				}
				if !bytes.Equal(got.B, want) {
					t.Errorf("record %d of %d bytes in fragments of %d differs", i, n, step)
				}
				got.Free()
			}
			if _, err := r.next(); err != io.EOF {
				t.Errorf("at the end: %v", err)
			}
		}
	}
}

func TestBadRecords(t *testing.T) {
	endless := bytes.Repeat(fragment(nil, false), maxFragments+1)
	for _, tc := range []struct {
		name   string
		stream []byte
		want   error
	}{
		{"a record over the maximum", fragment(make([]byte, 1001), true), ErrRecord},
		{"fragments that together are over the maximum", append(fragment(make([]byte, 600), false), fragment(make([]byte, 600), true)...), ErrRecord},
		{"a fragment of 2 GiB", []byte{0x7f, 0xff, 0xff, 0xff}, ErrRecord},
		{"fragments without end", endless, ErrRecord},
		{"an end within a mark", []byte{0x80, 0}, io.ErrUnexpectedEOF},
		{"an end after a mark", []byte{0x80, 0, 0, 4}, io.ErrUnexpectedEOF},
		{"an end between fragments", fragment([]byte("ab"), false), io.ErrUnexpectedEOF},
	} {
		if _, err := newReader(bytes.NewReader(tc.stream), 1000).next(); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

// TestAnnouncedMemory: a mark costs no more than a first read.
func TestAnnouncedMemory(t *testing.T) {
	const max = 64 << 20
	stream := fragment(make([]byte, max), true)[:100]
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := newReader(bytes.NewReader(stream), max).next(); err != io.ErrUnexpectedEOF {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4*firstRead {
		t.Errorf("100 bytes of a record of 64 MiB took %d bytes", got)
	}
}

func TestBuffers(t *testing.T) {
	for _, n := range []int{0, 1, 1 << 10, 1<<10 + 1, 1<<20 + 64<<10, 3 << 20} {
		b := GetBuffer(n)
		if len(b.B) != n {
			t.Errorf("GetBuffer(%d) has %d bytes", n, len(b.B))
		}
		b.Free()
	}
	var none *Buffer
	none.Free()
}

// reference reads a record the plain way.
func reference(b []byte, max int) (rec, rest []byte, ok bool) {
	for range maxFragments {
		if len(b) < 4 {
			return nil, nil, false
		}
		mark := binary.BigEndian.Uint32(b)
		n := int(mark &^ lastFragment)
		if b = b[4:]; n > len(b) || n > max-len(rec) {
			return nil, nil, false
		}
		rec, b = append(rec, b[:n]...), b[n:]
		if mark&lastFragment != 0 {
			return rec, b, true
		}
	}
	return nil, nil, false
}

func FuzzRecord(f *testing.F) {
	f.Add(fragment([]byte("whole"), true))
	f.Add(append(fragment([]byte("in two "), false), fragment([]byte("parts"), true)...))
	f.Add(append(fragment(nil, true), fragment(nil, false)...))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		const max = 1 << 12
		for _, in := range []io.Reader{bytes.NewReader(b), iotest.OneByteReader(bytes.NewReader(b))} {
			r := newReader(in, max)
			for rest := b; ; {
				want, after, ok := reference(rest, max)
				got, err := r.next()
				if (err == nil) != ok {
					t.Fatalf("%v, reference says %v", err, ok)
				}
				if !ok {
					break
				}
				if !bytes.Equal(got.B, want) {
					t.Fatalf("got %x, want %x", got.B, want)
				}
				got.Free()
				rest = after
			}
		}
	})
}
