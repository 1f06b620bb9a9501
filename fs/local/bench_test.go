//go:build linux

package local

import (
	"math/rand/v2"
	"testing"

	"holdfast/fs"
)

var benchUser = &fs.Cred{UID: 1000, GID: 1000, Groups: []uint32{1000, 27}}

func benchFile(b *testing.B, l *Backend, size int) fs.Handle {
	b.Helper()
	r, err := l.Open(b.Context(), rootCred, &fs.OpenRequest{
		Owner: owner("bench"), Access: fs.ShareBoth, Dir: l.rootHandle, Name: "f", Create: fs.Unchecked, Attr: fs.SetAttr{Mode: ptr(uint32(0o666))},
	})
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 1<<20)
	for off := 0; off < size; off += len(p) {
		if _, err := l.Write(b.Context(), rootCred, fs.IORef{Handle: r.File, Open: owner("bench")}, uint64(off), p[:min(len(p), size-off)], fs.Unstable); err != nil {
			b.Fatal(err)
		}
	}
	return r.File
}

func benchParallel(b *testing.B, f func() error) {
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := f(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkGetAttr(b *testing.B) {
	l := start(b, Config{})
	h := benchFile(b, l, 0)
	benchParallel(b, func() error { _, err := l.GetAttr(b.Context(), benchUser, h); return err })
}

func BenchmarkGetAttrTable(b *testing.B) {
	l := start(b, Config{HandleTable: true})
	h := benchFile(b, l, 0)
	benchParallel(b, func() error { _, err := l.GetAttr(b.Context(), benchUser, h); return err })
}

func BenchmarkLookup(b *testing.B) {
	l := start(b, Config{})
	benchFile(b, l, 0)
	benchParallel(b, func() error { _, _, err := l.Lookup(b.Context(), benchUser, l.rootHandle, "f"); return err })
}

func BenchmarkAccess(b *testing.B) {
	l := start(b, Config{})
	h := benchFile(b, l, 0)
	benchParallel(b, func() error { _, err := l.Access(b.Context(), benchUser, h, 0x1f); return err })
}

func benchRead(b *testing.B, size, step int, io func(fs.Handle) fs.IORef) {
	l := start(b, Config{})
	h := benchFile(b, l, size)
	b.SetBytes(int64(step))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		buf := make([]byte, step)
		for pb.Next() {
			off := uint64(rand.IntN(size/step)) * uint64(step)
			if _, _, err := l.Read(b.Context(), benchUser, io(h), off, buf); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkRead1M(b *testing.B) {
	benchRead(b, 64<<20, 1<<20, func(h fs.Handle) fs.IORef { return fs.IORef{Handle: h, Open: owner("bench")} })
}

func BenchmarkRead4K(b *testing.B) {
	benchRead(b, 64<<20, 4<<10, func(h fs.Handle) fs.IORef { return fs.IORef{Handle: h, Open: owner("bench")} })
}

// Anonymous I/O asks for permission each time.
func BenchmarkRead4KAnonymous(b *testing.B) {
	benchRead(b, 64<<20, 4<<10, func(h fs.Handle) fs.IORef { return fs.IORef{Handle: h} })
}

func BenchmarkWrite4KUnstable(b *testing.B) {
	l := start(b, Config{})
	h := benchFile(b, l, 0)
	p := make([]byte, 4<<10)
	b.SetBytes(4 << 10)
	benchParallel(b, func() error {
		_, err := l.Write(b.Context(), benchUser, fs.IORef{Handle: h, Open: owner("bench")}, uint64(rand.IntN(1<<14))<<12, p, fs.Unstable)
		return err
	})
}

func BenchmarkOpenClose(b *testing.B) {
	l := start(b, Config{})
	benchFile(b, l, 0)
	b.ReportAllocs()
	for b.Loop() {
		r, err := l.Open(b.Context(), benchUser, &fs.OpenRequest{Owner: owner("o"), Access: fs.ShareBoth, Dir: l.rootHandle, Name: "f"})
		if err != nil {
			b.Fatal(err)
		}
		if err := l.CloseFile(b.Context(), owner("o"), r.File); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLockUnlock(b *testing.B) {
	l := start(b, Config{})
	h := benchFile(b, l, 0)
	r := fs.Range{First: 0, Last: 9}
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Lock(b.Context(), benchUser, &fs.LockRequest{File: h, OpenOwner: owner("bench"), LockOwner: owner("l"), Range: r, Type: fs.WriteLock}); err != nil {
			b.Fatal(err)
		}
		if err := l.Unlock(b.Context(), benchUser, owner("l"), h, r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadDir is per entry of a directory of 100,000, with attributes, read in pieces as a client
// does.
func BenchmarkReadDir(b *testing.B) {
	l := start(b, Config{Async: true})
	const entries = 100_000
	for i := range entries {
		mustWrite(b, l.cfg.Dir+"/"+itoa(i), "")
	}
	b.ReportAllocs()
	var cookie uint64
	n := 0
	b.ResetTimer()
	for n < b.N {
		step := 0
		eof, err := l.ReadDir(b.Context(), benchUser, l.rootHandle, cookie, true, func(e *fs.DirEntry) bool {
			if step == 500 {
				return false
			}
			cookie = e.Cookie
			step++
			return true
		})
		if err != nil {
			b.Fatal(err)
		}
		n += step
		if eof {
			cookie = 0
		}
	}
}

func BenchmarkIdentity(b *testing.B) {
	id, err := newIdentity()
	if err != nil {
		b.Skip("run as root:", err)
	}
	nop := func() error { return nil }
	for name, c := range map[string]*fs.Cred{"root": fs.Root, "user": {UID: 1000, GID: 1000}, "user with groups": benchUser} {
		for _, spends := range []bool{false, true} {
			what := " looks"
			if spends {
				what = " spends"
			}
			b.Run(name+what, func(b *testing.B) {
				for b.Loop() {
					if err := id.as(c, spends, nop); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
