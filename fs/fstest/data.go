package fstest

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"

	"holdfast/fs"
)

func contextDone(ctx context.Context) (context.Context, context.CancelFunc) {
	c, stop := context.WithCancel(ctx)
	stop()
	return c, stop
}

func data(e *env) {
	ctx := e.Context()
	o := owner("o")
	f := e.open(o, e.root, "f", fs.ShareBoth, 0)
	io := fs.IORef{Handle: f, Open: o}
	e.in("random writes read back", func(e *env) {
		rng := rand.New(rand.NewPCG(1, 2))
		model := []byte{}
		for range 60 {
			off, n := rng.IntN(200_000), rng.IntN(70_000)
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			if n > 0 && len(model) < off+n {
				model = append(model, make([]byte, off+n-len(model))...)
			}
			if n > 0 {
				copy(model[off:], p)
			}
			for done := 0; done < n || n == 0; {
				r, err := e.b.Write(ctx, e.cred, io, uint64(off+done), p[done:], fs.Stability(rng.IntN(3)))
				e.must("write", err)
				done += r.N
				if n == 0 {
					break
				}
			}
			got := make([]byte, n)
			for done := 0; done < n; {
				k, _, err := e.b.Read(ctx, e.cred, io, uint64(off+done), got[done:])
				e.must("read", err)
				if k == 0 {
					e.Fatal("read nothing")
				}
				done += k
			}
			if !bytes.Equal(got, p) {
				e.Fatalf("%d bytes at %d differ", n, off)
			}
		}
		size := e.attr(f).Size
		if got := e.read(io); uint64(len(got)) != size || got != string(model) {
			e.Error("the whole file differs")
		}
	})
	e.in("the end is told", func(e *env) {
		g := e.file(e.root, "g", "12345")
		for _, c := range []struct {
			off  uint64
			size int
			n    int
			eof  bool
		}{{0, 4, 4, false}, {0, 5, 5, true}, {1, 10, 4, true}, {5, 1, 0, true}, {1 << 40, 1, 0, true}, {math.MaxUint64, 1, 0, true}} {
			n, eof, err := e.b.Read(ctx, e.cred, fs.IORef{Handle: g}, c.off, make([]byte, c.size))
			if err != nil || n != c.n || eof != c.eof {
				e.Errorf("read %d at %d: %d %v %v, want %d %v", c.size, c.off, n, eof, err, c.n, c.eof)
			}
		}
		_, err := e.b.Write(ctx, e.cred, fs.IORef{Handle: g}, math.MaxUint64-1, []byte("x"), fs.Unstable)
		e.fails("write beyond all files", err, fs.FBig, fs.Inval)
	})
	e.in("the verifier stands while nothing is lost", func(e *env) {
		r, err := e.b.Write(ctx, e.cred, io, 0, []byte("u"), fs.Unstable)
		e.must("write", err)
		v, err := e.b.Commit(ctx, e.cred, f, 0, 0)
		e.must("commit", err)
		if r.Verifier != v || v == (fs.WriteVerifier{}) {
			e.Errorf("write %x, commit %x", r.Verifier, v)
		}
	})
	e.in("what is committed is at least what was asked for", func(e *env) {
		for _, how := range []fs.Stability{fs.Unstable, fs.DataSync, fs.FileSync} {
			r, err := e.b.Write(ctx, e.cred, io, 0, []byte("u"), how)
			e.must("write", err)
			if r.Committed < how {
				e.Errorf("asked %d, got %d", how, r.Committed)
			}
		}
	})
	e.in("a directory is no data", func(e *env) {
		_, _, err := e.b.Read(ctx, e.cred, fs.IORef{Handle: e.root}, 0, make([]byte, 1))
		e.fails("read", err, fs.IsDir)
		_, err = e.b.Write(ctx, e.cred, fs.IORef{Handle: e.root}, 0, []byte("x"), fs.Unstable)
		e.fails("write", err, fs.IsDir)
	})
	e.closeFile(o, f)
}

func sparse(e *env) {
	ctx := e.Context()
	s, ok := e.b.(fs.Sparse)
	if !ok {
		e.Fatal("no fs.Sparse")
	}
	o := owner("o")
	f := e.open(o, e.root, "sparse", fs.ShareBoth, 0)
	io := fs.IORef{Handle: f, Open: o}
	const block = 1 << 16
	e.write(io, 0, string(bytes.Repeat([]byte("a"), 4*block)))
	e.must("deallocate", s.Deallocate(ctx, e.cred, io, block, block))
	if a := e.attr(f); a.Size != 4*block {
		e.Errorf("size %d", a.Size)
	}
	if got := e.read(io); got[block] != 0 || got[2*block-1] != 0 || got[block-1] != 'a' || got[2*block] != 'a' {
		e.Error("the hole is not where it should be")
	}
	if pos, eof, err := s.Seek(ctx, e.cred, io, 0, true); err != nil || eof || pos != block {
		e.Errorf("hole: %d %v %v", pos, eof, err)
	}
	if pos, eof, err := s.Seek(ctx, e.cred, io, block, false); err != nil || eof || pos != 2*block {
		e.Errorf("data: %d %v %v", pos, eof, err)
	}
	_, _, err := s.Seek(ctx, e.cred, io, 4*block, false)
	e.fails("seek at the end", err, fs.NXIO)
	e.must("allocate", s.Allocate(ctx, e.cred, io, 4*block, block))
	if a := e.attr(f); a.Size != 5*block {
		e.Errorf("size %d", a.Size)
	}
	e.must("deallocate to the end", s.Deallocate(ctx, e.cred, io, 3*block, 2*block))
	if _, eof, err := s.Seek(ctx, e.cred, io, 3*block, false); err != nil || !eof {
		e.Errorf("no data follows: %v %v", eof, err)
	}
	e.closeFile(o, f)
}

func copies(e *env) {
	ctx := e.Context()
	c, ok := e.b.(fs.Copier)
	if !ok {
		e.Fatal("no fs.Copier")
	}
	from, to := e.file(e.root, "from", "0123456789"), e.file(e.root, "to", "abcdefghij")
	r, err := c.Copy(ctx, e.cred, fs.IORef{Handle: from}, fs.IORef{Handle: to}, 2, 4, 3)
	e.must("copy", err)
	if r.N != 3 || e.read(fs.IORef{Handle: to}) != "abcd234hij" {
		e.Errorf("copied %d, %q", r.N, e.read(fs.IORef{Handle: to}))
	}
	r, err = c.Copy(ctx, e.cred, fs.IORef{Handle: from}, fs.IORef{Handle: to}, 5, 0, 0)
	e.must("copy to the end", err)
	if r.N != 5 || e.read(fs.IORef{Handle: to}) != "5678934hij" {
		e.Errorf("copied %d, %q", r.N, e.read(fs.IORef{Handle: to}))
	}
	_, err = c.Copy(ctx, e.cred, fs.IORef{Handle: from}, fs.IORef{Handle: to}, 5, 0, 100)
	e.fails("copy past the end, RFC 7862 15.2.3", err, fs.Inval)
}

func xattrs(e *env) {
	ctx := e.Context()
	x, ok := e.b.(fs.Xattrs)
	if !ok {
		e.Fatal("no fs.Xattrs")
	}
	f := e.file(e.root, "x", "")
	_, err := x.GetXattr(ctx, e.cred, f, "a")
	e.fails("get of nothing", err, fs.NoXattr)
	ci, err := x.SetXattr(ctx, e.cred, f, "a", []byte("1"), fs.XattrEither)
	e.must("set", err)
	if ci.Before == ci.After {
		e.Error("the file did not change")
	}
	_, err = x.SetXattr(ctx, e.cred, f, "a", []byte("2"), fs.XattrCreate)
	e.fails("create of what is there", err, fs.Exist)
	_, err = x.SetXattr(ctx, e.cred, f, "b", []byte("2"), fs.XattrReplace)
	e.fails("replace of nothing", err, fs.NoXattr)
	_, err = x.SetXattr(ctx, e.cred, f, "a", []byte{}, fs.XattrReplace)
	e.must("replace", err)
	if v, err := x.GetXattr(ctx, e.cred, f, "a"); err != nil || len(v) != 0 {
		e.Errorf("get: %q %v", v, err)
	}
	_, err = x.SetXattr(ctx, e.cred, f, "b", []byte("bb"), fs.XattrCreate)
	e.must("create", err)
	list, err := x.ListXattrs(ctx, e.cred, f)
	e.must("list", err)
	if len(list) != 2 || (list[0] != "a" && list[1] != "a") || (list[0] != "b" && list[1] != "b") {
		e.Errorf("list %q", list)
	}
	_, err = x.RemoveXattr(ctx, e.cred, f, "a")
	e.must("remove", err)
	_, err = x.RemoveXattr(ctx, e.cred, f, "a")
	e.fails("remove of nothing", err, fs.NoXattr)
}
