package rpc

import "sync"

// classes are the sizes of pooled buffers in bytes. The three largest hold a WRITE or READ of
// 64 KiB, 256 KiB and 1 MiB with all that stands around it.
var classes = [...]int{1 << 10, 4 << 10, 16 << 10, 72 << 10, 264 << 10, 1<<20 + 64<<10}

var pools [len(classes)]sync.Pool

// A Buffer is a byte slice from a pool of its size class.
type Buffer struct {
	B     []byte
	class int // or -1: too large for a pool
}

// GetBuffer returns a buffer with n bytes of arbitrary content. Larger than 1 MiB + 64 KiB it is not
// from a pool.
func GetBuffer(n int) *Buffer {
	for i, size := range classes {
		if n > size {
			continue
		}
		b, _ := pools[i].Get().(*Buffer)
		if b == nil {
			b = &Buffer{B: make([]byte, size), class: i}
		}
		b.B = b.B[:n]
		return b
	}
	return &Buffer{B: make([]byte, n), class: -1}
}

// Free returns b to its pool. Nobody may use b or its bytes afterwards, nor free it again. A nil b is fine.
func (b *Buffer) Free() {
	if b == nil || b.class < 0 {
		return
	}
	b.B = b.B[:0]
	pools[b.class].Put(b)
}

// len is the length of b, which may be nil.
func (b *Buffer) len() int {
	if b == nil {
		return 0
	}
	return len(b.B)
}

// grow returns a buffer of n bytes that begins with those of b, which may be b itself, or nil.
func (b *Buffer) grow(n int) *Buffer {
	if b == nil {
		return GetBuffer(n)
	}
	if n <= cap(b.B) {
		b.B = b.B[:n]
		return b
	}
	g := GetBuffer(n)
	copy(g.B, b.B)
	b.Free()
	return g
}
