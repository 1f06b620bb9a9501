package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// meter is a relay to the server at a port of this host that counts the bytes of both directions. It listens on all
// addresses, for the VMs.
func meter(t *testing.T, target int) (at int, bytes *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	bytes = new(atomic.Int64)
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, io.TeeReader(from, counter{bytes})) // ends with either side
		to.Close()
		from.Close()
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", target))
			if err != nil {
				c.Close()
				continue
			}
			go pass(up, c)
			go pass(c, up)
		}
	}()
	return l.Addr().(*net.TCPAddr).Port, bytes
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) { c.n.Add(int64(len(b))); return len(b), nil }

// What NFSv4.2 does without the data crossing the wire, a kernel client does through two servers so: copying, cloning
// where the origin's file system can, holes, and reading them.
func TestCopiesWithoutTheData(t *testing.T) {
	v := vms(t, "alice")[0]
	dir := scratch(t, "export")
	_, o := startOrigin(t, dir)
	relay, upstream := meter(t, o)
	_, s := startServe(t, relay, "")
	entry, downstream := meter(t, s)
	v.mount(entry, "/data", "/mnt/s", "vers=4.2")
	const size = 32 << 20
	data := bytes.Repeat([]byte("Holdfast holds fast. "), size/21+1)[:size]
	if err := os.WriteFile(filepath.Join(dir, "a"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	same := func(name string, want []byte) {
		t.Helper()
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s at the origin: %d bytes, equal %v, %v", name, len(got), bytes.Equal(got, want), err)
		}
	}
	// cheap runs a script whose bytes on the wire, on both sides of serve, are to be small against the file's.
	cheap := func(what, script string) string {
		t.Helper()
		up, down := upstream.Load(), downstream.Load()
		out := v.run("python3", "-c", "import ctypes, errno, fcntl, os\nos.chdir('/mnt/s')\n"+script)
		up, down = upstream.Load()-up, downstream.Load()-down
		t.Logf("%s of %d bytes: %d bytes upstream, %d downstream (%d to 1) %s", what, size, up, down, size/max(up, down), out)
		if max(up, down) > size/100 {
			t.Errorf("%s: more than a hundredth of the file was on the wire", what)
		}
		return out
	}
	cheap("copy_file_range", `
a, b = os.open("a", os.O_RDONLY), os.open("b", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
left = os.fstat(a).st_size
while left > 0:
    n = os.copy_file_range(a, b, left)
    assert n > 0
    left -= n
os.fsync(b)
os.close(b)`)
	same("b", data)
	// FICLONE. What the origin's file system says about it here, serve has to say there.
	clone := fmt.Sprintf(`
a, c = os.open("a", os.O_RDONLY), os.open("c", os.O_RDWR | os.O_CREAT, 0o644)
try:
    fcntl.ioctl(c, %#x, a)
    print("cloned")
except OSError as e:
    print("EOPNOTSUPP" if e.errno == errno.EOPNOTSUPP else e)`, 0x40049409)
	switch got, err := strings.TrimSpace(cheap("clone", clone)), cloneHere(dir); {
	case err == nil:
		must(t, "a clone where the file system can", got, "cloned")
		same("c", data)
	case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOTTY), errors.Is(err, syscall.EINVAL):
		must(t, "a clone where the file system cannot", got, "EOPNOTSUPP")
	default:
		t.Fatal(err)
	}
	cheap("SEEK, ALLOCATE and DEALLOCATE", `
f = os.open("b", os.O_RDWR)
call = lambda mode, off, n: ctypes.CDLL(None, use_errno=True).fallocate64(f, mode, ctypes.c_int64(off), ctypes.c_int64(n))
assert call(3, 8 << 20, 16 << 20) == 0, ctypes.get_errno()
assert os.lseek(f, 0, os.SEEK_HOLE) == 8 << 20
assert os.lseek(f, 8 << 20, os.SEEK_DATA) == 24 << 20
assert call(0, 32 << 20, 1 << 20) == 0, ctypes.get_errno()
assert os.fstat(f).st_size == 33 << 20`)
	want := append(bytes.Clone(data), make([]byte, 1<<20)...)
	clear(want[8<<20 : 24<<20])
	same("b", want)
	must(t, "a hole read through two servers", cheap("a hole of 16 MiB read with READ_PLUS or not at all", `
f = os.open("b", os.O_RDONLY)
os.lseek(f, os.lseek(f, 0, os.SEEK_HOLE), 0)
print(os.read(f, 4096) == bytes(4096))`), "True")
	must(t, "an xattr through two servers", cheap("xattrs", `
os.setxattr("b", "user.shot", b"042")
print(os.getxattr("b", "user.shot"), "user.shot" in os.listxattr("b"))
os.removexattr("b", "user.shot")`), "b'042' True")
}

// cloneHere tries FICLONE on the file system of the export.
func cloneHere(dir string) error {
	from, err := os.Open(filepath.Join(dir, "a"))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.CreateTemp(dir, "clone")
	if err != nil {
		return err
	}
	defer os.Remove(to.Name())
	defer to.Close()
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, to.Fd(), 0x40049409, from.Fd()); e != 0 {
		return e
	}
	return nil
}
