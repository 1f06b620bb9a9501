package fuse

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/fs"
)

func TestChangeByOthersIsSeen(t *testing.T) {
	b := newMem()
	f := b.make("file", "one", 0644)
	m, dir := mountMem(t, b, func(c *Config) { c.AttrTimeout, c.EntryTimeout = time.Hour, time.Hour })
	c := newClient(t)
	fd := c.open(dir+"/file", unix.O_RDONLY)
	c.must(command{Op: "read", FD: fd, Len: 100})
	if got := c.must(command{Op: "fstat", FD: fd}).Stat.Size; got != 3 {
		t.Fatalf("size %d", got)
	}
	b.set(f, "seven..", false)
	if r := c.must(command{Op: "read", FD: fd, Len: 100}); r.Data != "one" {
		t.Fatalf("%q: the timeouts do nothing, so this test shows nothing", r.Data)
	}
	b.set(f, "another", true)
	eventually(t, "new data", func() bool { return c.must(command{Op: "read", FD: fd, Len: 100}).Data == "another" })
	if got := c.must(command{Op: "stat", Path: dir + "/file"}).Stat.Size; got != 7 {
		t.Errorf("size %d", got)
	}

	// A name that goes away.
	b.mu.Lock()
	b.drop(b.files[2], "file")
	root := b.handle(2)
	b.mu.Unlock()
	c.must(command{Op: "stat", Path: dir + "/file"})
	listener{m.s}.Changed(root)
	eventually(t, "the name is gone", func() bool { return c.do(command{Op: "stat", Path: dir + "/file"}).Errno == unix.ENOENT })
}

// A change by an end client of the same server is a change by others for the kernel here; one that came from
// this mount is none, and costs no pages.
func TestChangeHereByOthersIsSeen(t *testing.T) {
	b := newMem()
	f := b.make("file", "one", 0644)
	m, dir := mountMem(t, b, func(c *Config) { c.AttrTimeout, c.EntryTimeout = time.Hour, time.Hour })
	c := newClient(t)
	fd := c.open(dir+"/file", unix.O_RDONLY)
	c.must(command{Op: "read", FD: fd, Len: 100})
	var _ fs.ChangeListener = listener{m.s}
	h := b.handle(f.id)

	b.set(f, "two", false)
	sent := m.Status().Invalidations
	listener{m.s}.ChangedHere(h, m.s)
	if r := c.must(command{Op: "read", FD: fd, Len: 100}); r.Data != "one" || m.Status().Invalidations != sent {
		t.Errorf("%q: the mount's own change was told to the kernel", r.Data)
	}
	listener{m.s}.ChangedHere(h, nil)
	eventually(t, "new data", func() bool { return c.must(command{Op: "read", FD: fd, Len: 100}).Data == "two" })

	// The backend hears from us who we are.
	c.must(command{Op: "stat", Path: dir + "/file"})
	if got := b.lastSource(); got != any(m.s) {
		t.Errorf("a request came from %v", got)
	}
}

// I6: what is read after an open is what a fresh client would read after it, and an open of an
// unchanged file reads from memory.
func TestI6PagesOverOpens(t *testing.T) {
	b := newMem()
	f := b.make("file", "one", 0644)
	_, dir := mountMem(t, b, func(c *Config) { c.AttrTimeout = time.Hour })
	c := newClient(t)
	read := func() (data string, asked int) {
		before := b.count("Read")
		fd := c.open(dir+"/file", unix.O_RDONLY)
		data = c.must(command{Op: "read", FD: fd, Len: 100}).Data
		c.must(command{Op: "close", FD: fd})
		return data, b.count("Read") - before
	}
	read()
	if data, asked := read(); data != "one" || asked != 0 {
		t.Errorf("unchanged: %q, %d reads of the backend", data, asked)
	}
	b.set(f, "two", false)
	if data, _ := read(); data != "two" {
		t.Errorf("changed: %q", data)
	}
	if data, asked := read(); data != "two" || asked != 0 {
		t.Errorf("unchanged again: %q, %d reads", data, asked)
	}
}

func TestPageCacheKeepsOnlyAfterAnAnsweredDrop(t *testing.T) {
	var p pageCache
	if p.keep(1, 10) {
		t.Error("the first open keeps pages")
	}
	if p.keep(1, 11) {
		t.Error("kept before the kernel dropped: the reply of the other open may come later")
	}
	p.used(10)
	if p.keep(1, 12) {
		t.Error("kept by an answer to an open that was overtaken")
	}
	p.used(12)
	if !p.keep(1, 13) {
		t.Error("not kept though nothing changed")
	}
	if p.keep(2, 14) {
		t.Error("kept after a change")
	}
	p.used(14)
	p.drop()
	if p.keep(2, 15) {
		t.Error("kept after news of a change")
	}
}

// I7: an acknowledged fsync or close is on the origin's disk, or the caller is told.
func TestI7FlushCommits(t *testing.T) {
	b := newMem()
	b.make("file", "", 0666)
	_, dir := mountMem(t, b, nil)
	c := newClient(t)
	commits := func() int { return b.count("Commit") }
	fd, rd := c.open(dir+"/file", unix.O_RDWR), c.open(dir+"/file", unix.O_RDONLY)
	c.must(command{Op: "write", FD: fd, Data: "a"})
	if commits() != 0 {
		t.Error("a plain write was committed at once")
	}
	c.must(command{Op: "fsync", FD: rd}) // fsync is about the file, not the descriptor
	if commits() != 1 {
		t.Errorf("fsync of another descriptor: %d commits", commits())
	}
	c.must(command{Op: "fsync", FD: fd})
	if commits() != 1 {
		t.Error("a clean file was committed")
	}
	c.must(command{Op: "write", FD: fd, Data: "b"})
	c.must(command{Op: "close", FD: fd})
	if commits() != 2 {
		t.Errorf("close: %d commits", commits())
	}
	sync := c.open(dir+"/file", unix.O_WRONLY|unix.O_SYNC)
	c.must(command{Op: "write", FD: sync, Data: "c"})
	c.must(command{Op: "close", FD: sync})
	if commits() != 2 {
		t.Errorf("a write with O_SYNC was committed again")
	}
}

func TestI7LostWritesAreReportedOnceToEachHolder(t *testing.T) {
	b := newMem()
	b.make("file", "", 0666)
	_, dir := mountMem(t, b, nil)
	c := newClient(t)
	reboot := func() { b.mu.Lock(); b.verifier[0]++; b.mu.Unlock() }
	fd, other := c.open(dir+"/file", unix.O_RDWR), c.open(dir+"/file", unix.O_RDWR)
	c.must(command{Op: "write", FD: fd, Data: "a"})
	reboot()
	c.fails(unix.EIO, command{Op: "fsync", FD: fd})
	c.must(command{Op: "fsync", FD: fd})
	c.fails(unix.EIO, command{Op: "fsync", FD: other})
	late := c.open(dir+"/file", unix.O_RDWR)
	c.must(command{Op: "fsync", FD: late})

	c.must(command{Op: "write", FD: fd, Data: "a"})
	reboot()
	c.must(command{Op: "write", FD: fd, Data: "b"}) // after the reboot: with the new verifier
	c.fails(unix.EIO, command{Op: "close", FD: fd})
	c.fails(unix.EIO, command{Op: "close", FD: late})

	// Committed before: a reboot loses nothing.
	fd = c.open(dir+"/file", unix.O_RDWR)
	c.must(command{Op: "write", FD: fd, Data: "a"})
	c.must(command{Op: "fsync", FD: fd})
	reboot()
	c.must(command{Op: "write", FD: fd, Data: "b"})
	c.must(command{Op: "close", FD: fd})
}

func TestRemovedOpenFileIsHidden(t *testing.T) {
	b := newMem() // removes a file though it is open
	b.make("file", "data", 0644)
	b.make("target", "over", 0644)
	b.make("source", "from", 0644)
	var gaps atomic.Int32
	b.hook = func(_ context.Context, op string) error {
		if (op == "Rename" || op == "Link") && b.find("target") == nil {
			gaps.Add(1)
		}
		return nil
	}
	_, dir := mountMem(t, b, nil)
	c := newClient(t)
	fd := c.open(dir+"/file", unix.O_RDWR)
	c.must(command{Op: "unlink", Path: dir + "/file"})
	c.fails(unix.ENOENT, command{Op: "stat", Path: dir + "/file"})
	if r := c.must(command{Op: "read", FD: fd, Len: 100}); r.Data != "data" {
		t.Errorf("%q", r.Data)
	}
	if n := c.must(command{Op: "fstat", FD: fd}).Stat.Nlink; n != 0 {
		t.Errorf("nlink %d", n)
	}
	i := slices.IndexFunc(b.names(), func(n string) bool { return strings.HasPrefix(n, ".nfs") })
	if i < 0 {
		t.Fatalf("not hidden: %v", b.names())
	}
	c.fails(unix.EBUSY, command{Op: "unlink", Path: dir + "/" + b.names()[i]})
	c.must(command{Op: "close", FD: fd})
	eventually(t, "the last close removes it", func() bool { return slices.Equal(b.names(), []string{"source", "target"}) })

	// The name that is renamed over names something at every moment.
	fd = c.open(dir+"/target", unix.O_RDONLY)
	c.must(command{Op: "rename", Path: dir + "/source", To: dir + "/target"})
	if r := c.must(command{Op: "read", FD: fd, Len: 100}); r.Data != "over" {
		t.Errorf("%q", r.Data)
	}
	if n := c.must(command{Op: "fstat", FD: fd}).Stat.Nlink; n != 0 {
		t.Errorf("nlink %d", n)
	}
	if gaps.Load() != 0 {
		t.Error("the name was missing for a moment")
	}
	c.must(command{Op: "close", FD: fd})
	eventually(t, "the last close removes it", func() bool { return slices.Equal(b.names(), []string{"target"}) })
	if got := b.content(b.find("target")); got != "from" {
		t.Errorf("%q", got)
	}

	// Closed files are just removed.
	before := b.count("Rename")
	c.must(command{Op: "unlink", Path: dir + "/target"})
	if b.count("Rename") != before || len(b.names()) != 0 {
		t.Errorf("names %v", b.names())
	}
}

func TestFailedRenameLeavesNoHiddenName(t *testing.T) {
	for _, links := range []bool{true, false} {
		b := newMem()
		b.make("target", "over", 0644)
		b.make("source", "from", 0644)
		var hit atomic.Int32
		b.hook = func(_ context.Context, op string) error {
			if op == "Link" && !links {
				return fs.NotSupp
			}
			if op == "Rename" {
				// The one of the application, not those to and from the hidden name.
				if n := hit.Add(1); links && n == 1 || !links && n == 2 {
					return fs.NoSpc
				}
			}
			return nil
		}
		_, dir := mountMem(t, b, nil)
		c := newClient(t)
		fd := c.open(dir+"/target", unix.O_RDONLY)
		c.fails(unix.ENOSPC, command{Op: "rename", Path: dir + "/source", To: dir + "/target"})
		eventually(t, "all is as before", func() bool { return slices.Equal(b.names(), []string{"source", "target"}) })
		if got := b.content(b.find("target")); got != "over" {
			t.Errorf("%q", got)
		}
		c.must(command{Op: "close", FD: fd})
	}
}

func TestRenameHasNoFlags(t *testing.T) {
	b := newMem()
	b.make("a", "", 0644)
	b.make("b", "", 0644)
	_, dir := mountMem(t, b, nil)
	c := newClient(t)
	for _, flag := range []int{unix.RENAME_EXCHANGE, unix.RENAME_WHITEOUT} {
		c.fails(unix.EINVAL, command{Op: "rename", Path: dir + "/a", To: dir + "/b", Flags: flag})
	}
	c.fails(unix.EINVAL, command{Op: "rename", Path: dir + "/a", To: dir + "/c", Flags: unix.RENAME_NOREPLACE})
	c.fails(unix.EEXIST, command{Op: "rename", Path: dir + "/a", To: dir + "/b", Flags: unix.RENAME_NOREPLACE})
}

func TestCallersAreKnownWithTheirGroups(t *testing.T) {
	b := newMem()
	f := b.make("file", "x", 0040)
	f.attr.GID = 4711
	_, dir := mountMem(t, b, nil)
	c := newClient(t)
	c.must(command{Op: "become", UID: 1234, Groups: []int{42}})
	c.fails(unix.EACCES, command{Op: "open", Path: dir + "/file", Flags: unix.O_RDONLY})
	d := newClient(t)
	d.must(command{Op: "become", UID: 1234, Groups: []int{42, 4711}})
	d.open(dir+"/file", unix.O_RDONLY)
	b.mu.Lock()
	defer b.mu.Unlock()
	if got := b.creds["Open"]; got.UID != 1234 || got.GID != 1234 || !slices.Equal(got.Groups, []uint32{42, 4711}) {
		t.Errorf("opened as %+v", got)
	}
}

// The kernel must not let somebody through a private directory because somebody else went before.
func TestEntriesOfPrivateDirectoriesAreNotCached(t *testing.T) {
	b := newMem()
	_, dir := mountMem(t, b, func(c *Config) { c.AttrTimeout, c.EntryTimeout = time.Hour, time.Hour })
	root, other := newClient(t), newClient(t)
	other.must(command{Op: "become", UID: 1234})
	root.must(command{Op: "mkdir", Path: dir + "/private", Mode: 0700})
	root.must(command{Op: "close", FD: root.open(dir+"/private/file", unix.O_CREAT|unix.O_RDWR)})
	root.must(command{Op: "stat", Path: dir + "/private/file"})
	other.fails(unix.EACCES, command{Op: "open", Path: dir + "/private/file"})

	// And neither after a directory became private.
	root.must(command{Op: "mkdir", Path: dir + "/public", Mode: 0755})
	root.must(command{Op: "close", FD: root.open(dir+"/public/file", unix.O_CREAT|unix.O_RDWR)})
	other.open(dir+"/public/file", unix.O_RDONLY)
	root.must(command{Op: "chmod", Path: dir + "/public", Mode: 0700})
	eventually(t, "it is private", func() bool { return other.do(command{Op: "open", Path: dir + "/public/file"}).Errno == unix.EACCES })
}

func TestAccessIsAskedFromTheBackend(t *testing.T) {
	b := newMem()
	b.make("file", "x", 0744)
	_, dir := mountMem(t, b, nil)
	c := newClient(t)
	c.must(command{Op: "become", UID: 1234})
	// access(2) looks at the real uid, which is still root's; the open to execute is what counts.
	c.fails(unix.EACCES, command{Op: "open", Path: dir + "/file", Flags: unix.O_RDWR})
	c.open(dir+"/file", unix.O_RDONLY)
	if b.count("Access") != 0 {
		t.Error("asked for nothing")
	}
	c.must(command{Op: "access", Path: dir + "/file", Mode: unix.R_OK})
	if b.count("Access") != 1 {
		t.Error("access(2) was not asked from the backend")
	}
}

// A request that hangs at an origin can be killed, and a signal that does not kill does nothing to it.
func TestHangingRequestIsKillableOnly(t *testing.T) {
	for _, op := range []string{"Read", "Open", "Lookup", "Write"} {
		t.Run(op, func(t *testing.T) { hangingRequest(t, op, false) })
		t.Run(op+", killed", func(t *testing.T) { hangingRequest(t, op, true) })
	}
}

func hangingRequest(t *testing.T, op string, kill bool) {
	b := newMem()
	f := b.make("file", "data", 0666)
	hang, entered := make(chan struct{}), make(chan struct{}, 8)
	var armed atomic.Bool
	b.hook = func(ctx context.Context, got string) error {
		if got != op || !armed.Load() {
			return nil
		}
		entered <- struct{}{}
		select {
		case <-hang:
			return nil
		case <-ctx.Done():
			return fs.E(op, fs.Interrupted, ctx.Err())
		}
	}
	_, dir := mountMem(t, b, nil)
	path := dir + "/file"
	c := newClient(t)
	fd := c.open(path, unix.O_RDWR)
	armed.Store(true)
	r := c.start(map[string]command{
		"Read": {Op: "read", FD: fd, Len: 4}, "Open": {Op: "open", Path: path},
		"Lookup": {Op: "stat", Path: path}, "Write": {Op: "write", FD: fd, Data: "x"},
	}[op])
	await(t, "the request", entered)
	c.signal()
	if kill {
		c.cmd.Process.Kill()
		dead := make(chan error, 1)
		go func() { dead <- c.cmd.Wait() }()
		await(t, "the death of the process", dead)
		close(hang) // readahead goes on without the process
	} else {
		stillBlocked(t, op, r)
		close(hang)
		if r := await(t, op, r); r.Errno != 0 {
			t.Errorf("interrupted: %v", r.Errno)
		}
		c.kill()
	}
	eventually(t, "no open is left behind", func() bool { return b.openCount(f) == 0 })
}

// The rest runs in another process, with plain Go.
func TestFiles(t *testing.T) {
	b := newMem()
	_, dir := mountMem(t, b, nil)
	childTest(t, "TestFilesChild", dir)
}

func TestFilesChild(t *testing.T) {
	dir := childDir(t)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 300000) // several requests, each answered in pieces
	path := filepath.Join(dir, "big")
	check(os.WriteFile(path, big, 0644))
	got, err := os.ReadFile(path)
	check(err)
	if !bytes.Equal(got, big) {
		t.Fatal("data differs")
	}

	t.Run("O_TRUNC", func(t *testing.T) {
		check(os.WriteFile(path, []byte("short"), 0644))
		if got, _ := os.ReadFile(path); string(got) != "short" {
			t.Errorf("%q", got)
		}
	})
	t.Run("O_TRUNC without writing", func(t *testing.T) {
		f, err := os.OpenFile(path+".trunc", os.O_CREATE|os.O_WRONLY, 0644)
		check(err)
		f.WriteString("data")
		check(f.Close())
		f, err = os.OpenFile(path+".trunc", os.O_RDONLY|os.O_TRUNC, 0)
		check(err)
		if st, err := f.Stat(); err != nil || st.Size() != 0 {
			t.Error(st.Size(), err)
		}
		check(f.Close())
	})
	t.Run("umask", func(t *testing.T) {
		old := unix.Umask(027)
		defer unix.Umask(old)
		check(os.WriteFile(path+".umask", nil, 0666))
		check(os.Mkdir(path+".umaskdir", 0777))
		for name, want := range map[string]os.FileMode{".umask": 0640, ".umaskdir": os.ModeDir | 0750} {
			if st, err := os.Stat(path + name); err != nil || st.Mode() != want {
				t.Error(st.Mode(), err)
			}
		}
	})
	t.Run("O_EXCL", func(t *testing.T) {
		if _, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0644); !os.IsExist(err) {
			t.Error(err)
		}
	})
	t.Run("copy_file_range", func(t *testing.T) {
		src, err := os.Open(path)
		check(err)
		defer src.Close()
		dst, err := os.Create(path + ".copy")
		check(err)
		n, err := unix.CopyFileRange(int(src.Fd()), nil, int(dst.Fd()), nil, 100, 0)
		check(err)
		check(dst.Close())
		if got, _ := os.ReadFile(path + ".copy"); n != 5 || string(got) != "short" {
			t.Errorf("%d %q", n, got)
		}
	})
	t.Run("mmap", func(t *testing.T) {
		for _, flags := range []int{0, os.O_APPEND} {
			f, err := os.OpenFile(path, os.O_RDWR|flags, 0)
			check(err)
			mem, err := unix.Mmap(int(f.Fd()), 0, 5, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			check(err)
			if string(mem[1:]) != "hort" {
				t.Errorf("%q", mem)
			}
			mem[0] = 'S'
			check(unix.Msync(mem, unix.MS_SYNC))
			check(unix.Munmap(mem))
			check(f.Close())
			if got, _ := os.ReadFile(path); string(got) != "Short" {
				t.Errorf("%q", got)
			}
		}
	})
	t.Run("append", func(t *testing.T) {
		one, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		check(err)
		two, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		check(err)
		for range 10 {
			one.WriteString("a")
			two.WriteString("b")
		}
		check(one.Close())
		check(two.Close())
		if got, _ := os.ReadFile(path); string(got) != "Short"+strings.Repeat("ab", 10) {
			t.Errorf("%q", got)
		}
	})
	t.Run("holes", func(t *testing.T) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_TRUNC, 0)
		check(err)
		defer f.Close()
		f.WriteString("0123456789")
		fd := int(f.Fd())
		check(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 2, 3))
		check(unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, 8, 100))
		if got, _ := os.ReadFile(path); string(got) != "01\x00\x00\x00567\x00\x00" {
			t.Errorf("%q", got)
		}
		if err := unix.Fallocate(fd, unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096); err != unix.EOPNOTSUPP {
			t.Error(err)
		}
		if pos, err := unix.Seek(fd, 3, unix.SEEK_DATA); err != nil || pos != 3 {
			t.Error(pos, err)
		}
	})
	t.Run("special files", func(t *testing.T) {
		check(unix.Mknod(dir+"/fifo", unix.S_IFIFO|0600, 0))
		check(unix.Mknod(dir+"/null", unix.S_IFCHR|0600, int(unix.Mkdev(1, 3))))
		check(unix.Mknod(dir+"/plain", unix.S_IFREG|0640, 0))
		var st unix.Stat_t
		check(unix.Stat(dir+"/null", &st))
		if st.Mode != unix.S_IFCHR|0600 || st.Rdev != unix.Mkdev(1, 3) {
			t.Errorf("%o %x", st.Mode, st.Rdev)
		}
		check(unix.Stat(dir+"/plain", &st))
		if st.Mode != unix.S_IFREG|0640&^umask() {
			t.Errorf("%o", st.Mode)
		}
		check(os.WriteFile(dir+"/plain", []byte("x"), 0))
	})
	t.Run("other namespaces of attributes", func(t *testing.T) {
		if err := unix.Setxattr(path, "trusted.x", []byte("y"), 0); err != unix.EOPNOTSUPP {
			t.Error(err)
		}
		if err := unix.Setxattr(path, "user.x", []byte("y"), unix.XATTR_REPLACE); err != unix.ENODATA {
			t.Error(err)
		}
	})
	t.Run("a large directory", func(t *testing.T) {
		check(os.Mkdir(dir+"/many", 0755))
		for i := range 2000 {
			f, err := os.Create(filepath.Join(dir, "many", strings.Repeat("n", 40)+time.Duration(i).String()))
			check(err)
			f.Close()
		}
		list, err := os.ReadDir(dir + "/many")
		check(err)
		if len(list) != 2000 {
			t.Errorf("%d entries", len(list))
		}
		check(os.RemoveAll(dir + "/many"))
	})
	t.Run("set-id bits go when others write", func(t *testing.T) {
		p := dir + "/suid"
		check(os.WriteFile(p, []byte("x"), 0644))
		check(unix.Chmod(p, 06777))
		done := make(chan error)
		go func() {
			// As somebody else; the thread is not used again.
			lockThread()
			if err := unix.Setfsuid(1234); err != nil {
				done <- err
				return
			}
			f, err := os.OpenFile(p, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString("y")
				f.Close()
			}
			done <- err
		}()
		check(<-done)
		var st unix.Stat_t
		check(unix.Stat(p, &st))
		if st.Mode&06000 != 0 {
			t.Errorf("%o", st.Mode)
		}
	})
}
