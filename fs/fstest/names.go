package fstest

import (
	"fmt"
	"strings"

	"holdfast/fs"
)

func names(e *env) {
	ctx := e.Context()
	dir := e.mkdir(e.root, "d")
	f := e.file(dir, "f", "content")
	e.in("bad names are refused", func(e *env) {
		for name, codes := range map[string][]fs.Code{
			"": {fs.Inval}, ".": {fs.BadName}, "..": {fs.BadName}, "a/b": {fs.BadChar, fs.BadName, fs.Inval}, "a\x00b": {fs.BadChar, fs.BadName, fs.Inval},
			strings.Repeat("x", 256): {fs.NameTooLong}, "/etc": {fs.BadChar, fs.BadName, fs.Inval},
		} {
			_, _, err := e.b.Lookup(ctx, e.cred, dir, name)
			e.fails(fmt.Sprintf("lookup %.20q", name), err, codes...)
			_, _, _, err = e.b.Create(ctx, e.cred, dir, name, &fs.CreateRequest{Type: fs.Directory})
			e.fails(fmt.Sprintf("create %.20q", name), err, codes...)
			_, err = e.b.Remove(ctx, e.cred, dir, name, fs.RemoveAny)
			e.fails(fmt.Sprintf("remove %.20q", name), err, codes...)
			_, _, err = e.b.Rename(ctx, e.cred, dir, "f", dir, name)
			e.fails(fmt.Sprintf("rename to %.20q", name), err, codes...)
			_, err = e.b.Link(ctx, e.cred, f, dir, name)
			e.fails(fmt.Sprintf("link %.20q", name), err, codes...)
			if name != "" { // an open without a name is by handle
				_, err = e.b.Open(ctx, e.cred, &fs.OpenRequest{Owner: owner("o"), Access: fs.ShareRead, Dir: dir, Name: name, Create: fs.Unchecked})
				e.fails(fmt.Sprintf("open %.20q", name), err, codes...)
			}
		}
	})
	e.in("names are bytes", func(e *env) {
		for _, name := range []string{"\xff\xfe", strings.Repeat("n", 255), " ", "-", "a\nb", "ä"} {
			h := e.file(dir, name, "x")
			if got, _ := e.lookup(dir, name); got != h {
				e.Errorf("%q: another handle", name)
			}
			_, err := e.b.Remove(ctx, e.cred, dir, name, fs.RemoveFile)
			e.must("remove", err)
		}
	})
	e.in("lookup tells what is there", func(e *env) {
		h, a := e.lookup(dir, "f")
		if h != f || a.Type != fs.Regular || a.Size != 7 || a.Nlink != 1 {
			e.Errorf("got %x %+v", h, a)
		}
		_, _, err := e.b.Lookup(ctx, e.cred, dir, "absent")
		e.fails("lookup absent", err, fs.NoEnt)
		_, _, err = e.b.Lookup(ctx, e.cred, f, "x")
		e.fails("lookup in a file", err, fs.NotDir)
	})
	e.in("the parent of the root is not there", func(e *env) {
		_, _, err := e.b.LookupParent(ctx, e.cred, e.root)
		e.fails("parent", err, fs.NoEnt)
		sub := e.mkdir(dir, "sub")
		up, _, err := e.b.LookupParent(ctx, e.cred, sub)
		e.must("parent", err)
		if up != dir {
			e.Error("parent: another handle")
		}
		up, _, err = e.b.LookupParent(ctx, e.cred, dir)
		e.must("parent", err)
		if up != e.root {
			e.Error("parent below the root: another handle")
		}
	})
	e.in("symbolic links are kept and not followed", func(e *env) {
		target := "/etc/passwd"
		l, a, _, err := e.b.Create(ctx, e.cred, dir, "l", &fs.CreateRequest{Type: fs.Symlink, Target: target})
		e.must("symlink", err)
		if a.Type != fs.Symlink {
			e.Errorf("type %v", a.Type)
		}
		if got, err := e.b.Readlink(ctx, e.cred, l); err != nil || got != target {
			e.Errorf("readlink: %q %v", got, err)
		}
		if h, _ := e.lookup(dir, "l"); h != l {
			e.Error("lookup of a link: another handle")
		}
		_, err = e.b.Readlink(ctx, e.cred, f)
		e.fails("readlink of a file", err, fs.Inval)
		_, err = e.b.Open(ctx, e.cred, &fs.OpenRequest{Owner: owner("o"), Access: fs.ShareRead, Dir: dir, Name: "l"})
		e.fails("open of a link", err, fs.IsSymlink)
		_, _, err = e.b.Lookup(ctx, e.cred, l, "x")
		e.fails("lookup in a link", err, fs.IsSymlink, fs.NotDir)
	})
	e.in("what is there is not created", func(e *env) {
		_, _, _, err := e.b.Create(ctx, e.cred, dir, "f", &fs.CreateRequest{Type: fs.Directory})
		e.fails("mkdir over a file", err, fs.Exist)
		_, _, _, err = e.b.Create(ctx, e.cred, dir, "r", &fs.CreateRequest{Type: fs.Regular})
		e.fails("create of a regular file", err, fs.BadType)
	})
	e.in("hard links share a handle", func(e *env) {
		before := e.attr(dir).Change
		ci, err := e.b.Link(ctx, e.cred, f, dir, "f2")
		e.must("link", err)
		if ci.Before == ci.After || e.attr(dir).Change == before {
			e.Errorf("the directory did not change: %+v", ci)
		}
		h, a := e.lookup(dir, "f2")
		if h != f || a.Nlink != 2 {
			e.Errorf("same handle %v, links %d", h == f, a.Nlink)
		}
		_, err = e.b.Link(ctx, e.cred, f, dir, "f2")
		e.fails("link over a name", err, fs.Exist)
		_, err = e.b.Link(ctx, e.cred, dir, dir, "d2")
		e.fails("link of a directory", err, fs.IsDir, fs.Perm)
		_, err = e.b.Remove(ctx, e.cred, dir, "f2", fs.RemoveAny)
		e.must("remove", err)
		if a := e.attr(f); a.Nlink != 1 {
			e.Errorf("links %d", a.Nlink)
		}
	})
	e.in("rename keeps the handle", renames)
	e.in("remove", removes)
	e.in("directories are read in pieces", readdirs)
}

func renames(e *env) {
	ctx := e.Context()
	a, b := e.mkdir(e.root, "ra"), e.mkdir(e.root, "rb")
	f := e.file(a, "f", "1")
	s, t, err := e.b.Rename(ctx, e.cred, a, "f", b, "g")
	e.must("rename", err)
	if s.Before == s.After || t.Before == t.After {
		e.Errorf("directories did not change: %+v %+v", s, t)
	}
	if h, _ := e.lookup(b, "g"); h != f {
		e.Error("another handle")
	}
	if got := e.read(fs.IORef{Handle: f}); got != "1" {
		e.Errorf("read %q", got)
	}
	_, _, err = e.b.Lookup(ctx, e.cred, a, "f")
	e.fails("the old name", err, fs.NoEnt)
	old := e.file(b, "old", "2")
	_, _, err = e.b.Rename(ctx, e.cred, b, "g", b, "old")
	e.must("rename over", err)
	_, err = e.b.GetAttr(ctx, e.cred, old)
	e.fails("getattr of what was replaced", err, fs.Stale)
	_, _, err = e.b.Rename(ctx, e.cred, b, "absent", b, "x")
	e.fails("rename of nothing", err, fs.NoEnt)
	full := e.mkdir(b, "full")
	e.file(full, "x", "")
	empty := e.mkdir(b, "empty")
	_, _, err = e.b.Rename(ctx, e.cred, b, "empty", b, "full")
	e.fails("rename over a full directory", err, fs.NotEmpty, fs.Exist)
	_, _, err = e.b.Rename(ctx, e.cred, b, "old", b, "empty")
	e.fails("file over directory", err, fs.Exist, fs.IsDir)
	_, _, err = e.b.Rename(ctx, e.cred, b, "empty", b, "old")
	e.fails("directory over file", err, fs.Exist, fs.NotDir)
	_, _, err = e.b.Rename(ctx, e.cred, b, "full", full, "below")
	e.fails("directory below itself", err, fs.Inval)
	// A directory that moves takes its files along.
	deep := e.file(empty, "deep", "3")
	_, _, err = e.b.Rename(ctx, e.cred, b, "empty", a, "moved")
	e.must("rename of a directory", err)
	if got := e.read(fs.IORef{Handle: deep}); got != "3" {
		e.Errorf("read %q", got)
	}
	if up, _, err := e.b.LookupParent(ctx, e.cred, empty); err != nil || up != a {
		e.Errorf("parent after rename: %v, the new one: %v", err, up == a)
	}
}

func removes(e *env) {
	ctx := e.Context()
	dir := e.mkdir(e.root, "rm")
	f := e.file(dir, "f", "x")
	sub := e.mkdir(dir, "sub")
	inner := e.file(sub, "inner", "x")
	_, err := e.b.Remove(ctx, e.cred, dir, "absent", fs.RemoveAny)
	e.fails("remove of nothing", err, fs.NoEnt)
	_, err = e.b.Remove(ctx, e.cred, dir, "f", fs.RemoveDir)
	e.fails("rmdir of a file", err, fs.NotDir)
	_, err = e.b.Remove(ctx, e.cred, dir, "sub", fs.RemoveFile)
	e.fails("unlink of a directory", err, fs.IsDir, fs.Perm)
	_, err = e.b.Remove(ctx, e.cred, dir, "sub", fs.RemoveAny)
	e.fails("remove of a full directory", err, fs.NotEmpty)
	ci, err := e.b.Remove(ctx, e.cred, dir, "f", fs.RemoveFile)
	e.must("remove", err)
	if ci.Before == ci.After {
		e.Error("the directory did not change")
	}
	_, err = e.b.GetAttr(ctx, e.cred, f)
	e.fails("getattr of a removed file", err, fs.Stale)
	_, _, err = e.b.Read(ctx, e.cred, fs.IORef{Handle: f}, 0, make([]byte, 1))
	e.fails("read of a removed file", err, fs.Stale)
	_, err = e.b.Remove(ctx, e.cred, sub, "inner", fs.RemoveAny)
	e.must("remove", err)
	_, err = e.b.Remove(ctx, e.cred, dir, "sub", fs.RemoveAny)
	e.must("remove", err)
	_, _, err = e.b.Lookup(ctx, e.cred, sub, "x")
	e.fails("lookup in a removed directory", err, fs.Stale)
	_, err = e.b.GetAttr(ctx, e.cred, inner)
	e.fails("getattr below a removed directory", err, fs.Stale)
	// A name that is used again is another file.
	g := e.file(dir, "f", "new")
	if g == f {
		e.Error("a new file has the handle of a removed one")
	}
	_, err = e.b.GetAttr(ctx, e.cred, f)
	e.fails("the removed file after its name was used again", err, fs.Stale)
}

func readdirs(e *env) {
	dir := e.mkdir(e.root, "many")
	if got := e.list(dir, 10, true); len(got) != 0 {
		e.Errorf("an empty directory has %d entries", len(got))
	}
	for i := range e.o.Entries {
		_, _, _, err := e.b.Create(e.Context(), e.cred, dir, fmt.Sprintf("entry %d", i), &fs.CreateRequest{Type: fs.Symlink, Target: "t"})
		e.must("symlink", err)
	}
	for _, step := range []int{7, 1 << 20} {
		list := e.list(dir, step, step == 7)
		if set := e.nameSet(list); len(set) != e.o.Entries {
			e.Fatalf("%d entries, want %d", len(set), e.o.Entries)
		}
		if step != 7 {
			continue
		}
		for _, d := range list {
			if d.Attr == nil || d.Handle == "" || d.Attr.FileID != d.FileID || d.Type != fs.Symlink {
				e.Fatalf("entry %+v", d)
			}
		}
		if h, _ := e.lookup(dir, list[0].Name); h != list[0].Handle {
			e.Error("readdir and lookup give two handles")
		}
	}
	// A cookie stays good while entries before and after it go.
	var seen []string
	var cookie uint64
	_, err := e.b.ReadDir(e.Context(), e.cred, dir, 0, false, func(d *fs.DirEntry) bool {
		if len(seen) == e.o.Entries/2 {
			return false
		}
		seen = append(seen, d.Name)
		cookie = d.Cookie
		return true
	})
	e.must("readdir", err)
	for _, name := range seen[:len(seen)/2] {
		_, err := e.b.Remove(e.Context(), e.cred, dir, name, fs.RemoveAny)
		e.must("remove", err)
	}
	_, err = e.b.Remove(e.Context(), e.cred, dir, seen[len(seen)-1], fs.RemoveAny) // the one of the cookie
	e.must("remove", err)
	rest := make(map[string]bool)
	for {
		eof, err := e.b.ReadDir(e.Context(), e.cred, dir, cookie, false, func(d *fs.DirEntry) bool {
			rest[d.Name] = true
			cookie = d.Cookie
			return true
		})
		e.must("readdir", err)
		if eof {
			break
		}
	}
	for _, name := range seen {
		if rest[name] {
			e.Errorf("%q twice", name)
		}
	}
	if len(rest) != e.o.Entries-len(seen) {
		e.Errorf("after the cookie %d entries, want %d", len(rest), e.o.Entries-len(seen))
	}
	_, err = e.b.ReadDir(e.Context(), e.cred, e.file(e.root, "plain", ""), 0, false, func(*fs.DirEntry) bool { return true })
	e.fails("readdir of a file", err, fs.NotDir)
}
