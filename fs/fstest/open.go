package fstest

import "holdfast/fs"

func opens(e *env) {
	ctx := e.Context()
	a := owner("a")
	req := func(name string, how fs.CreateMode) *fs.OpenRequest {
		return &fs.OpenRequest{Owner: a, Access: fs.ShareBoth, Dir: e.root, Name: name, Create: how, Attr: fs.SetAttr{Mode: ptr(uint32(0o640))}}
	}
	e.in("create modes", func(e *env) {
		_, err := e.b.Open(ctx, e.cred, req("f", fs.NoCreate))
		e.fails("open of nothing", err, fs.NoEnt)
		r, err := e.b.Open(ctx, e.cred, req("f", fs.Guarded))
		e.must("guarded", err)
		if !r.Created || r.Attr.Mode != 0o640 || r.Change.Before == r.Change.After {
			e.Errorf("%+v %+v", r, r.Attr)
		}
		_, err = e.b.Open(ctx, e.cred, req("f", fs.Guarded))
		e.fails("guarded again", err, fs.Exist)
		e.write(fs.IORef{Handle: r.File, Open: a}, 0, "12345")
		again, err := e.b.Open(ctx, e.cred, req("f", fs.Unchecked))
		e.must("unchecked", err)
		if again.Created || again.File != r.File || again.Attr.Size != 5 {
			e.Errorf("%+v %+v", again, again.Attr)
		}
		cut := req("f", fs.Unchecked)
		cut.Attr.Size = ptr(uint64(0))
		again, err = e.b.Open(ctx, e.cred, cut)
		e.must("unchecked with size 0", err)
		if again.Attr.Size != 0 {
			e.Errorf("size %d", again.Attr.Size)
		}
		e.closeFile(a, r.File)
		e.fails("second close", e.b.CloseFile(ctx, a, r.File), fs.BadStateid)
		_, err = e.b.Open(ctx, e.cred, req(".", fs.NoCreate))
		e.fails("open of dot", err, fs.BadName)
		e.mkdir(e.root, "dir")
		_, err = e.b.Open(ctx, e.cred, req("dir", fs.Unchecked))
		e.fails("open of a directory", err, fs.IsDir)
	})
	e.in("exclusive create knows its own file again", func(e *env) {
		x := req("x", fs.Exclusive)
		x.Verifier = [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
		r, err := e.b.Open(ctx, e.cred, x)
		e.must("exclusive", err)
		again, err := e.b.Open(ctx, e.cred, x)
		e.must("exclusive, retried", err)
		if again.File != r.File {
			e.Error("another file")
		}
		y := *x
		y.Verifier[7]++
		y.Owner = owner("y")
		_, err = e.b.Open(ctx, e.cred, &y)
		e.fails("exclusive with another verifier", err, fs.Exist)
		e.closeFile(a, r.File)
	})
	e.in("an open for reading does not write", func(e *env) {
		h := e.file(e.root, "ro", "data")
		ro := owner("ro")
		_, err := e.b.Open(ctx, e.cred, &fs.OpenRequest{Owner: ro, Access: fs.ShareRead, File: h})
		e.must("open by handle", err)
		io := fs.IORef{Handle: h, Open: ro}
		_, err = e.b.Write(ctx, e.cred, io, 0, []byte("x"), fs.Unstable)
		e.fails("write", err, fs.OpenMode)
		// A second open of the owner adds to the first, RFC 8881 9.7.
		_, err = e.b.Open(ctx, e.cred, &fs.OpenRequest{Owner: ro, Access: fs.ShareWrite, File: h})
		e.must("upgrade", err)
		e.write(io, 0, "x")
		if got := e.read(io); got != "xata" {
			e.Errorf("read %q", got)
		}
		e.must("downgrade", e.b.Downgrade(ctx, ro, h, fs.ShareRead, 0))
		_, err = e.b.Write(ctx, e.cred, io, 0, []byte("x"), fs.Unstable)
		e.fails("write after downgrade", err, fs.OpenMode)
		e.fails("downgrade that adds", e.b.Downgrade(ctx, ro, h, fs.ShareBoth, 0), fs.Inval)
		e.closeFile(ro, h)
		_, err = e.b.Write(ctx, e.cred, io, 0, []byte("x"), fs.Unstable)
		e.fails("write after close", err, fs.BadStateid)
		e.fails("downgrade after close", e.b.Downgrade(ctx, ro, h, fs.ShareRead, 0), fs.BadStateid)
	})
	e.in("an open file outlives its name", func(e *env) {
		u := owner("u")
		h := e.open(u, e.root, "unnamed", fs.ShareBoth, 0)
		e.write(fs.IORef{Handle: h, Open: u}, 0, "still")
		_, err := e.b.Remove(ctx, e.cred, e.root, "unnamed", fs.RemoveFile)
		e.must("remove", err)
		if got := e.read(fs.IORef{Handle: h, Open: u}); got != "still" {
			e.Errorf("read %q", got)
		}
		e.attr(h)
		e.closeFile(u, h)
		_, err = e.b.GetAttr(ctx, e.cred, h)
		e.fails("getattr after the last close", err, fs.Stale)
	})
	e.in("no access is no open", func(e *env) {
		_, err := e.b.Open(ctx, e.cred, &fs.OpenRequest{Owner: a, File: e.file(e.root, "n", "")})
		e.fails("open", err, fs.Inval)
	})
}

func shares(e *env) {
	ctx := e.Context()
	a, b := owner("a"), owner("b")
	try := func(access, deny fs.Share) error {
		_, err := e.b.Open(ctx, e.cred, &fs.OpenRequest{Owner: b, Access: access, Deny: deny, Dir: e.root, Name: "f"})
		return err
	}
	// The table of RFC 8881 9.7: two opens exclude each other if one denies what the other has.
	for _, first := range [][2]fs.Share{{1, 0}, {2, 0}, {3, 0}, {1, 1}, {1, 2}, {1, 3}, {2, 1}, {2, 2}, {2, 3}, {3, 1}, {3, 2}, {3, 3}} {
		h := e.open(a, e.root, "f", first[0], first[1])
		for access := fs.Share(1); access <= 3; access++ {
			for deny := fs.Share(0); deny <= 3; deny++ {
				err := try(access, deny)
				if conflict := first[1]&access != 0 || first[0]&deny != 0; conflict {
					e.fails("share", err, fs.ShareDenied)
				} else {
					e.must("share", err)
					e.closeFile(b, h)
				}
			}
		}
		e.closeFile(a, h)
	}
	h := e.open(a, e.root, "f", fs.ShareRead, fs.ShareWrite)
	_, err := e.b.Write(ctx, e.cred, fs.IORef{Handle: h}, 0, []byte("x"), fs.Unstable)
	e.fails("anonymous write against a deny mode", err, fs.Locked)
	e.read(fs.IORef{Handle: h})
	e.must("downgrade", e.b.Downgrade(ctx, a, h, fs.ShareRead, 0))
	e.must("open after the downgrade", try(fs.ShareBoth, 0))
	e.closeFile(b, h)
	// A failed upgrade leaves the open as it was.
	e.must("open", try(fs.ShareRead, 0))
	_, err = e.b.Open(ctx, e.cred, &fs.OpenRequest{Owner: b, Access: fs.ShareRead, Deny: fs.ShareRead, File: h})
	e.fails("upgrade", err, fs.ShareDenied)
	c := owner("c")
	_, err = e.b.Open(ctx, e.cred, &fs.OpenRequest{Owner: c, Access: fs.ShareRead, File: h})
	e.must("open of a third", err)
	for _, o := range []fs.Owner{a, b, c} {
		e.closeFile(o, h)
	}
}
