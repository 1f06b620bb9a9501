package nfs4

import (
	"fmt"
	"math/bits"
	"strings"

	"holdfast/internal/xdr"
)

// A Bitmap is bitmap4: a set of small numbers, of attributes or of operations. It is a value: it is
// copied by assignment, compared with ==, and needs no allocation.
//
// It holds the numbers 0 to 126. Any higher one, which no RFC has, is decoded as 127: a peer's
// unknown number stays an unknown number.
type Bitmap [4]uint32

// unknownBit stands for all that a Bitmap cannot hold.
const unknownBit = 127

// maxWords is the length of a bitmap4 beyond which it is not believed.
const maxWords = 1024

// Bits returns the set of the numbers n.
func Bits(n ...uint32) Bitmap {
	var b Bitmap
	for _, n := range n {
		b.Set(n)
	}
	return b
}

// Has tells whether n is in b.
func (b Bitmap) Has(n uint32) bool { n = min(n, unknownBit); return b[n/32]>>(n%32)&1 != 0 }

// Set adds n.
func (b *Bitmap) Set(n uint32) { n = min(n, unknownBit); b[n/32] |= 1 << (n % 32) }

// Clear removes n.
func (b *Bitmap) Clear(n uint32) { n = min(n, unknownBit); b[n/32] &^= 1 << (n % 32) }

// IsZero tells whether b is empty.
func (b Bitmap) IsZero() bool { return b == Bitmap{} }

// And returns what is in both.
func (b Bitmap) And(o Bitmap) Bitmap {
	for i := range b {
		b[i] &= o[i]
	}
	return b
}

// Or returns what is in one of them.
func (b Bitmap) Or(o Bitmap) Bitmap {
	for i := range b {
		b[i] |= o[i]
	}
	return b
}

// AndNot returns what is in b and not in o.
func (b Bitmap) AndNot(o Bitmap) Bitmap {
	for i := range b {
		b[i] &^= o[i]
	}
	return b
}

// Contains tells whether all of o is in b.
func (b Bitmap) Contains(o Bitmap) bool { return o.AndNot(b).IsZero() }

// Count is how many numbers b has.
func (b Bitmap) Count() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount32(w)
	}
	return n
}

// All yields the numbers of b in ascending order.
func (b Bitmap) All(yield func(uint32) bool) {
	for i, w := range b {
		for ; w != 0; w &= w - 1 {
			if !yield(uint32(i*32 + bits.TrailingZeros32(w))) {
				return
			}
		}
	}
}

// String returns the numbers.
func (b Bitmap) String() string {
	var s strings.Builder
	s.WriteByte('{')
	for n := range b.All {
		if s.Len() > 1 {
			s.WriteByte(' ')
		}
		fmt.Fprint(&s, n)
	}
	s.WriteByte('}')
	return s.String()
}

// XDR codes b. Words of zeros at the end are not sent.
func (b *Bitmap) XDR(c *xdr.Codec) {
	var n uint32
	if !c.Decoding() {
		for i, w := range b {
			if w != 0 {
				n = uint32(i + 1)
			}
		}
	} else {
		*b = Bitmap{}
	}
	c.Uint32(&n)
	if n > maxWords {
		c.Failf("bitmap4 of %d words", n)
		return
	}
	for i := range n {
		if i < uint32(len(b)) {
			c.Uint32(&b[i])
			continue
		}
		var w uint32
		c.Uint32(&w)
		if w != 0 {
			b.Set(unknownBit)
		}
		if c.Err() != nil {
			return
		}
	}
}
