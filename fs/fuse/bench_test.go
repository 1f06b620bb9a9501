package fuse

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The benchmarks measure a mount over a backend in memory, used by another process: what this package
// and the kernel cost. Compare with LIMITS on the same machine only.
//
//	go test ./fs/fuse -run '^$' -bench . -count 5

func bench(b *testing.B, cfg func(*Config), size int64, run func(c *client, path string, n int64)) {
	m := newMem()
	f := m.make("file", "", 0666)
	f.resize(uint64(size))
	m.touch(f, true)
	_, dir := mountMem(b, m, cfg)
	c := newClient(b)
	run(c, dir+"/file", 1)
	b.ResetTimer()
	run(c, dir+"/file", int64(b.N))
	b.StopTimer()
}

func BenchmarkFstat(b *testing.B) {
	bench(b, nil, 0, func(c *client, path string, n int64) {
		c.must(command{Op: "bench fstat", Path: path, Len: n})
	})
}

func BenchmarkStatByPath(b *testing.B) {
	bench(b, func(c *Config) { c.EntryTimeout = time.Second }, 0, func(c *client, path string, n int64) {
		c.must(command{Op: "bench stat", Path: path, Len: n})
	})
}

func BenchmarkOpenClose(b *testing.B) {
	bench(b, nil, 0, func(c *client, path string, n int64) {
		c.must(command{Op: "bench open", Path: path, Len: n})
	})
}

func BenchmarkLockUnlock(b *testing.B) {
	bench(b, nil, 0, func(c *client, path string, n int64) {
		c.must(command{Op: "bench lock", Path: path, Len: n})
	})
}

func BenchmarkWrite4K(b *testing.B) {
	b.SetBytes(4096)
	bench(b, nil, 1<<20, func(c *client, path string, n int64) {
		c.must(command{Op: "bench write", Path: path, Len: n})
	})
}

func BenchmarkReadDirect1M(b *testing.B) {
	b.SetBytes(1 << 20)
	bench(b, nil, 64<<20, func(c *client, path string, n int64) {
		c.must(command{Op: "bench read", Path: path, Len: n, Flags: unix.O_DIRECT})
	})
}

// obeyBench repeats a call in the client.
func obeyBench(c *command) (err error) {
	fd, err := unix.Open(c.Path, unix.O_RDWR|unix.O_CLOEXEC|c.Flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	buf := make([]byte, 4096)
	if c.Op == "bench read" {
		buf, err = unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		defer unix.Munmap(buf)
	}
	for i := range c.Len {
		switch c.Op {
		case "bench fstat":
			err = unix.Fstat(fd, &st)
		case "bench stat":
			err = unix.Stat(c.Path, &st)
		case "bench open":
			var fd int
			if fd, err = unix.Open(c.Path, unix.O_RDONLY, 0); err == nil {
				err = unix.Close(fd)
			}
		case "bench lock":
			lk := unix.Flock_t{Type: unix.F_WRLCK, Len: 1}
			if err = unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &lk); err == nil {
				lk.Type = unix.F_UNLCK
				err = unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &lk)
			}
		case "bench write":
			_, err = unix.Pwrite(fd, buf, i%256*4096)
		case "bench read":
			_, err = unix.Pread(fd, buf, i%64<<20)
		default:
			err = unix.ENOSYS
		}
		if err != nil {
			return err
		}
	}
	return nil
}
