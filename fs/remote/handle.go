package remote

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"hash"
	"sync"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// The layout of a handle:
//
//	kind 1   0x01 | MAC, 8 bytes | the origin's filehandle, 1 to 50 bytes
//	kind 2   0x02 | MAC, 8 bytes | digest of the origin's filehandle, 16 bytes
//
// NFSv3 has room for 64 bytes and the server's prefix needs 5, so 59 is the limit; NFSv4 origins may
// use 128. Both kinds are pure functions of the origin's filehandle and the instance secret, so a
// file keeps its handle over restarts, and two handles are equal if and only if the origin's are.
const (
	kindEmbedded = 0x01
	kindDigest   = 0x02

	macSize     = 8
	digestSize  = 16
	maxHandle   = 59
	maxEmbedded = maxHandle - 1 - macSize
)

var (
	errForged = errors.New("not a handle of this mount")
	errOtherF = errors.New("the origin's filehandle names another file than the one it was given out for")
)

type digest [digestSize]byte

// sealer makes and checks handles. It is safe for concurrent use.
type sealer struct{ macs, digests sync.Pool }

func newSealer(s secret) *sealer {
	pool := func(key []byte) sync.Pool {
		return sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}
	}
	return &sealer{macs: pool(s.derive("handle mac")), digests: pool(s.derive("handle digest"))}
}

func sum(p *sync.Pool, kind byte, data []byte, out *[sha256.Size]byte) {
	h := p.Get().(hash.Hash)
	h.Reset()
	h.Write([]byte{kind})
	h.Write(data)
	h.Sum(out[:0])
	p.Put(h)
}

// digest is what stands for an upstream handle that is too long.
func (s *sealer) digest(fh nfs4.FH) digest {
	var out [sha256.Size]byte
	sum(&s.digests, kindDigest, []byte(fh), &out)
	return digest(out[:digestSize])
}

// seal makes the handle for an upstream one. long tells that the digest must be in the map, durably,
// before the handle is given out.
func (s *sealer) seal(fh nfs4.FH) (h fs.Handle, d digest, long bool) {
	if len(fh) <= maxEmbedded {
		return s.build(kindEmbedded, []byte(fh)), digest{}, false
	}
	d = s.digest(fh)
	return s.build(kindDigest, d[:]), d, true
}

func (s *sealer) build(kind byte, body []byte) fs.Handle {
	var mac [sha256.Size]byte
	sum(&s.macs, kind, body, &mac)
	b := make([]byte, 0, 1+macSize+len(body))
	b = append(b, kind)
	b = append(b, mac[:macSize]...)
	return fs.Handle(append(b, body...))
}

// open checks a handle, which may come from anybody, and returns the embedded filehandle or the digest.
func (s *sealer) open(h fs.Handle) (fh nfs4.FH, d digest, long bool, err error) {
	bad := fs.E("", fs.BadHandle, errForged)
	if len(h) <= 1+macSize || len(h) > maxHandle {
		return "", digest{}, false, bad
	}
	kind, body := h[0], h[1+macSize:]
	if kind != kindEmbedded && (kind != kindDigest || len(body) != digestSize) {
		return "", digest{}, false, bad
	}
	var mac [sha256.Size]byte
	sum(&s.macs, kind, []byte(body), &mac)
	if subtle.ConstantTimeCompare(mac[:macSize], []byte(h[1:1+macSize])) != 1 {
		return "", digest{}, false, bad
	}
	if kind == kindEmbedded {
		return nfs4.FH(body), digest{}, false, nil
	}
	return "", digest([]byte(body)), true, nil
}
