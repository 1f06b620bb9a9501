package fstest

import "holdfast/fs"

var (
	alice = &fs.Cred{UID: 20001, GID: 20001}
	bob   = &fs.Cred{UID: 20002, GID: 20002, Groups: []uint32{20001}}
	carol = &fs.Cred{UID: 20003, GID: 20003}
)

func creds(e *env) {
	ctx := e.Context()
	dir := e.mkdir(e.root, "shared")
	chmod := func(h fs.Handle, mode uint32) {
		e.Helper()
		_, err := e.b.SetAttr(ctx, fs.Root, fs.IORef{Handle: h}, &fs.SetAttr{Mode: &mode})
		e.must("chmod", err)
	}
	chmod(dir, 0o777)
	f := e.as(alice).file(dir, "f", "secret")
	e.in("what is created belongs to who asked", func(e *env) {
		a := e.attr(f)
		if a.UID != alice.UID || a.GID != alice.GID {
			e.Errorf("owner %d:%d", a.UID, a.GID)
		}
		d := e.as(bob).mkdir(dir, "bobs")
		if a := e.attr(d); a.UID != bob.UID {
			e.Errorf("owner %d", a.UID)
		}
	})
	e.in("mode bits decide", func(e *env) {
		for _, c := range []struct {
			mode  uint32
			cred  *fs.Cred
			read  bool
			write bool
		}{
			{0o600, bob, false, false}, {0o640, bob, true, false}, {0o660, bob, true, true}, {0o660, carol, false, false},
			{0o644, carol, true, false}, {0o604, bob, false, false}, {0o666, carol, true, true}, {0o000, fs.Root, true, true},
			{0o611, carol, true, false}, // who may execute may read
			{0o000, alice, true, true},  // the owner may always do I/O
		} {
			chmod(f, c.mode)
			_, _, err := e.b.Read(ctx, c.cred, fs.IORef{Handle: f}, 0, make([]byte, 10))
			if (err == nil) != c.read || (err != nil && fs.CodeOf(err) != fs.Access) {
				e.Errorf("mode %o, uid %d: read %v", c.mode, c.cred.UID, err)
			}
			_, err = e.b.Write(ctx, c.cred, fs.IORef{Handle: f}, 0, []byte("s"), fs.Unstable)
			if (err == nil) != c.write || (err != nil && fs.CodeOf(err) != fs.Access) {
				e.Errorf("mode %o, uid %d: write %v", c.mode, c.cred.UID, err)
			}
			if c.cred == alice || c.mode&0o111 != 0 {
				continue
			}
			for access, want := range map[fs.Share]bool{fs.ShareRead: c.read, fs.ShareWrite: c.write} {
				_, err := e.b.Open(ctx, c.cred, &fs.OpenRequest{Owner: owner("p"), Access: access, Dir: dir, Name: "f"})
				if (err == nil) != want || (err != nil && fs.CodeOf(err) != fs.Access) {
					e.Errorf("mode %o, uid %d: open %v %v", c.mode, c.cred.UID, access, err)
				}
				if err == nil {
					e.closeFile(owner("p"), f)
				}
			}
			granted, err := e.b.Access(ctx, c.cred, f, fs.AccessRead|fs.AccessModify|fs.AccessExtend|fs.AccessExecute)
			e.must("access", err)
			want := uint32(0)
			if c.read {
				want |= fs.AccessRead
			}
			if c.write {
				want |= fs.AccessModify | fs.AccessExtend
			}
			if granted != want {
				e.Errorf("mode %o, uid %d: access %x, want %x", c.mode, c.cred.UID, granted, want)
			}
		}
	})
	e.in("an open outlives a change of mode", func(e *env) {
		chmod(f, 0o666)
		o := owner("carol")
		_, err := e.b.Open(ctx, carol, &fs.OpenRequest{Owner: o, Access: fs.ShareBoth, Dir: dir, Name: "f"})
		e.must("open", err)
		chmod(f, 0)
		e.as(carol).write(fs.IORef{Handle: f, Open: o}, 0, "s")
		e.closeFile(o, f)
		_, err = e.b.Open(ctx, carol, &fs.OpenRequest{Owner: o, Access: fs.ShareBoth, Dir: dir, Name: "f"})
		e.fails("open", err, fs.Access)
	})
	e.in("who creates a file may write it, whatever its mode is", func(e *env) {
		o := owner("creator")
		r, err := e.b.Open(ctx, carol, &fs.OpenRequest{Owner: o, Access: fs.ShareBoth, Dir: dir, Name: "readonly", Create: fs.Guarded, Attr: fs.SetAttr{Mode: ptr(uint32(0o444))}})
		e.must("open", err)
		e.as(carol).write(fs.IORef{Handle: r.File, Open: o}, 0, "x")
		e.closeFile(o, r.File)
		_, err = e.b.Open(ctx, carol, &fs.OpenRequest{Owner: o, Access: fs.ShareWrite, Dir: dir, Name: "readonly"})
		e.fails("open by name for writing", err, fs.Access)
	})
	e.in("directories", func(e *env) {
		d := e.as(alice).mkdir(dir, "alices")
		e.as(alice).file(d, "inner", "x")
		for _, c := range []struct {
			mode           uint32
			list, look, rm bool
		}{{0o755, true, true, false}, {0o711, false, true, false}, {0o744, true, false, false}, {0o777, true, true, true}, {0o700, false, false, false}} {
			chmod(d, c.mode)
			_, err := e.b.ReadDir(ctx, carol, d, 0, false, func(*fs.DirEntry) bool { return true })
			if (err == nil) != c.list {
				e.Errorf("mode %o: readdir %v", c.mode, err)
			}
			_, _, err = e.b.Lookup(ctx, carol, d, "inner")
			if (err == nil) != c.look {
				e.Errorf("mode %o: lookup %v", c.mode, err)
			}
			want := fs.AccessRead | fs.AccessLookup | fs.AccessModify | fs.AccessExtend | fs.AccessDelete
			granted, err := e.b.Access(ctx, carol, d, want)
			e.must("access", err)
			if (granted&fs.AccessRead != 0) != c.list || (granted&fs.AccessLookup != 0) != c.look || (granted&fs.AccessDelete != 0) != c.rm {
				e.Errorf("mode %o: access %x", c.mode, granted)
			}
			_, err = e.b.Remove(ctx, carol, d, "inner", fs.RemoveFile)
			if (err == nil) != c.rm {
				e.Errorf("mode %o: remove %v", c.mode, err)
			}
			if err == nil {
				e.as(alice).file(d, "inner", "x")
			}
		}
		// With attributes, a directory that may be read and not searched gives names only.
		chmod(d, 0o744)
		_, err := e.b.ReadDir(ctx, carol, d, 0, true, func(en *fs.DirEntry) bool {
			if en.Attr != nil {
				e.Error("attributes of what may not be looked up")
			}
			return true
		})
		e.must("readdir", err)
	})
	e.in("only the owner changes mode and owner", func(e *env) {
		g := e.as(alice).file(dir, "g", "x")
		set := func(c *fs.Cred, s fs.SetAttr) error {
			_, err := e.b.SetAttr(ctx, c, fs.IORef{Handle: g}, &s)
			return err
		}
		e.fails("chmod", set(bob, fs.SetAttr{Mode: ptr(uint32(0o777))}), fs.Perm, fs.Access)
		e.fails("chown", set(alice, fs.SetAttr{UID: ptr(bob.UID)}), fs.Perm)
		e.fails("chgrp to a foreign group", set(alice, fs.SetAttr{GID: ptr(bob.GID)}), fs.Perm)
		e.fails("utimes", set(bob, fs.SetAttr{MtimeSet: fs.TimeClient}), fs.Perm, fs.Access)
		e.fails("truncate", set(bob, fs.SetAttr{Size: ptr(uint64(0))}), fs.Access, fs.Perm)
		e.must("chmod by the owner", set(alice, fs.SetAttr{Mode: ptr(uint32(0o4755))}))
		e.must("chown by root", set(fs.Root, fs.SetAttr{UID: ptr(bob.UID), Mode: ptr(uint32(0o6777))}))
		// Writing by another takes the set-id bits away.
		e.as(carol).write(fs.IORef{Handle: g}, 0, "y")
		if a := e.attr(g); a.Mode&0o6000 != 0 {
			e.Errorf("mode %o after a write by another", a.Mode)
		}
	})
	e.in("the sticky bit and set-gid directories", func(e *env) {
		d := e.as(alice).mkdir(dir, "sticky")
		chmod(d, 0o3777)
		h := e.as(bob).file(d, "bobs", "x")
		if a := e.attr(h); a.GID != alice.GID {
			e.Errorf("group %d, want that of the directory, %d", a.GID, alice.GID)
		}
		if a := e.attr(e.as(bob).mkdir(d, "sub")); a.Mode&0o2000 == 0 {
			e.Errorf("mode %o: a directory inherits the bit", a.Mode)
		}
		_, err := e.b.Remove(ctx, carol, d, "bobs", fs.RemoveFile)
		e.fails("remove of another's file", err, fs.Perm, fs.Access)
		_, err = e.b.Remove(ctx, bob, d, "bobs", fs.RemoveFile)
		e.must("remove of one's own", err)
	})
	e.in("only root makes devices", func(e *env) {
		_, _, _, err := e.b.Create(ctx, alice, dir, "dev", &fs.CreateRequest{Type: fs.Char, Rdev: fs.Rdev{Major: 1, Minor: 3}})
		e.fails("mknod", err, fs.Perm, fs.Access)
	})
}

func special(e *env) {
	ctx := e.Context()
	for _, typ := range []fs.FileType{fs.Socket, fs.FIFO, fs.Block, fs.Char} {
		req := &fs.CreateRequest{Type: typ, Attr: fs.SetAttr{Mode: ptr(uint32(0o666))}}
		if typ == fs.Block || typ == fs.Char {
			req.Rdev = fs.Rdev{Major: 1, Minor: 3}
		}
		name := string(rune('a' + typ))
		h, a, _, err := e.b.Create(ctx, e.cred, e.root, name, req)
		e.must("mknod", err)
		if a.Type != typ || a.Rdev != req.Rdev || a.Mode != 0o666 {
			e.Errorf("%+v", a)
		}
		_, err = e.b.Open(ctx, e.cred, &fs.OpenRequest{Owner: owner("o"), Access: fs.ShareRead, Dir: e.root, Name: name})
		e.fails("open", err, fs.WrongType, fs.Inval, fs.IsSymlink)
		_, _, err = e.b.Read(ctx, e.cred, fs.IORef{Handle: h}, 0, make([]byte, 1))
		e.fails("read", err, fs.WrongType, fs.Inval)
		_, err = e.b.SetAttr(ctx, e.cred, fs.IORef{Handle: h}, &fs.SetAttr{Mode: ptr(uint32(0o600))})
		e.must("chmod", err)
	}
}
