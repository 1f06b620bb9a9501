package fstest

import (
	"time"

	"holdfast/fs"
)

func attrs(e *env) {
	ctx := e.Context()
	f := e.file(e.root, "f", "hello")
	set := func(h fs.Handle, s fs.SetAttr) *fs.Attr {
		e.Helper()
		a, err := e.b.SetAttr(ctx, e.cred, fs.IORef{Handle: h}, &s)
		e.must("setattr", err)
		if b := e.attr(h); b.Mode != a.Mode || b.UID != a.UID || b.Size != a.Size || !b.Mtime.Equal(a.Mtime) {
			e.Errorf("setattr answers %+v, getattr %+v", a, b)
		}
		return a
	}
	e.in("what is set is there", func(e *env) {
		if a := set(f, fs.SetAttr{Mode: ptr(uint32(0o640))}); a.Mode != 0o640 {
			e.Errorf("mode %o", a.Mode)
		}
		when := time.Unix(1_000_000_000, 0)
		if a := set(f, fs.SetAttr{AtimeSet: fs.TimeClient, Atime: when, MtimeSet: fs.TimeClient, Mtime: when.Add(time.Hour)}); !a.Atime.Equal(when) || !a.Mtime.Equal(when.Add(time.Hour)) {
			e.Errorf("times %v %v", a.Atime, a.Mtime)
		}
		if a := set(f, fs.SetAttr{MtimeSet: fs.TimeServer}); !a.Atime.Equal(when) || time.Since(a.Mtime).Abs() > time.Hour {
			e.Errorf("times %v %v", a.Atime, a.Mtime)
		}
		if a := set(f, fs.SetAttr{Size: ptr(uint64(3))}); a.Size != 3 || e.read(fs.IORef{Handle: f}) != "hel" {
			e.Errorf("size %d", a.Size)
		}
		if a := set(f, fs.SetAttr{Size: ptr(uint64(5))}); a.Size != 5 || e.read(fs.IORef{Handle: f}) != "hel\x00\x00" {
			e.Errorf("size %d", a.Size)
		}
	})
	e.in("every change changes the change attribute, and it does not go back", func(e *env) {
		last := e.attr(f).Change
		step := func(what string) {
			e.Helper()
			now := e.attr(f).Change
			if now <= last {
				e.Errorf("after %s: %d, before %d", what, now, last)
			}
			last = now
		}
		for i := range 50 {
			set(f, fs.SetAttr{Mode: ptr(0o600 + uint32(i%2))})
			step("chmod")
			e.write(fs.IORef{Handle: f}, 0, "x")
			step("write")
		}
		_, err := e.b.Link(ctx, e.cred, f, e.root, "second")
		e.must("link", err)
		step("link")
		dir := e.attr(e.root).Change
		for range 20 {
			e.file(e.root, "new", "")
			a := e.attr(e.root).Change
			_, err := e.b.Remove(ctx, e.cred, e.root, "new", fs.RemoveFile)
			e.must("remove", err)
			b := e.attr(e.root).Change
			if a <= dir || b <= a {
				e.Errorf("directory: %d, created %d, removed %d", dir, a, b)
			}
			dir = b
		}
	})
	e.in("a directory has no size to set", func(e *env) {
		_, err := e.b.SetAttr(ctx, e.cred, fs.IORef{Handle: e.mkdir(e.root, "d")}, &fs.SetAttr{Size: ptr(uint64(0))})
		e.fails("setattr", err, fs.IsDir, fs.Inval)
	})
	e.in("foreign handles are refused", func(e *env) {
		for _, h := range []fs.Handle{"", "x", fs.Handle(make([]byte, 24)), f[:len(f)-1], f + "x"} {
			_, err := e.b.GetAttr(ctx, e.cred, h)
			e.fails("getattr", err, fs.BadHandle)
		}
		for i := range len(f) {
			p := []byte(f)
			p[i] ^= 1
			_, err := e.b.GetAttr(ctx, e.cred, fs.Handle(p))
			e.fails("getattr of an altered handle", err, fs.BadHandle)
		}
	})
	e.in("file ids and fsid", func(e *env) {
		a, b := e.attr(e.root), e.attr(f)
		if a.FileID == b.FileID || a.FSID != b.FSID {
			e.Errorf("%+v %+v", a, b)
		}
	})
	e.in("statistics make sense", func(e *env) {
		st, err := e.b.FSStat(ctx, e.cred, e.root)
		e.must("fsstat", err)
		if st.TotalBytes == 0 || st.FreeBytes > st.TotalBytes || st.AvailBytes > st.FreeBytes {
			e.Errorf("%+v", st)
		}
		in, err := e.b.FSInfo(ctx, e.root)
		e.must("fsinfo", err)
		if in.MaxRead < 4096 || in.MaxWrite < 4096 || in.MaxFileSize < 1<<31 || in.MaxName < 255 {
			e.Errorf("%+v", in)
		}
	})
	e.in("an ended context is said", func(e *env) {
		done, stop := contextDone(ctx)
		defer stop()
		_, err := e.b.GetAttr(done, e.cred, f)
		if err != nil { // who has the answer at hand may give it
			e.fails("getattr", err, fs.Interrupted)
		}
	})
}
