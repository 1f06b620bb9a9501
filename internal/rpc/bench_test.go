package rpc

import (
	"context"
	"sync"
	"testing"

	"holdfast/internal/xdr"
)

func benchmarkNull(b *testing.B, depth int) {
	c, _ := tcp(b, Options{}, Options{Handler: HandlerFunc(echo)})
	call := proc(procNull)
	call.Cred = Cred{Flavor: AUTH_SYS, Machine: "bench", UID: 1000, GID: 1000, Groups: []uint32{1, 2, 3}}
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range depth {
		n := b.N / depth
		if i < b.N%depth {
			n++
		}
		wg.Go(func() {
			for range n {
				if err := c.Call(b.Context(), call, nil, nil); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkNull1(b *testing.B)  { benchmarkNull(b, 1) }
func BenchmarkNull64(b *testing.B) { benchmarkNull(b, 64) }

func benchmarkRead(b *testing.B, depth int) {
	const size = 1 << 20
	h := HandlerFunc(func(_ context.Context, _ *Conn, call *InCall) {
		buf := GetBuffer(size)
		call.Release(buf.Free)
		_ = call.Reply(func(c *xdr.Codec) { c.Payload(&buf.B, size) })
	})
	c, _ := tcp(b, Options{}, Options{Handler: h})
	b.SetBytes(size)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range depth {
		n := b.N / depth
		if i < b.N%depth {
			n++
		}
		wg.Go(func() {
			for range n {
				err := c.Call(b.Context(), proc(1), nil, func(d *xdr.Codec) error {
					var p []byte
					d.Payload(&p, size)
					return d.Err()
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkRead1MiBDepth1(b *testing.B) { benchmarkRead(b, 1) }
func BenchmarkRead1MiBDepth8(b *testing.B) { benchmarkRead(b, 8) }

func BenchmarkWrite1MiBDepth8(b *testing.B) {
	const size = 1 << 20
	h := HandlerFunc(func(_ context.Context, _ *Conn, call *InCall) {
		var p []byte
		call.Body.Payload(&p, size)
		_ = call.Reply(nil)
	})
	c, _ := tcp(b, Options{}, Options{Handler: h})
	data := make([]byte, size)
	b.SetBytes(size)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range b.N / 8 {
				if err := c.Call(b.Context(), proc(1), func(e *xdr.Codec) { e.Payload(&data, size) }, nil); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
