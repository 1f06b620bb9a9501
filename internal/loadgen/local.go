package loadgen

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// A localEnv is what a workload has in a directory.
type localEnv struct {
	dir   string
	o     *Options
	lanes int
}

func (e *localEnv) path(a ...any) string { return filepath.Join(e.dir, fmt.Sprint(a...)) }

// open opens a file for each lane; every lane gets a descriptor of its own.
func (e *localEnv) open(name func(i int) string) ([]int, func() error, error) {
	var fds []int
	shut := func() error {
		var errs []error
		for _, fd := range fds {
			errs = append(errs, unix.Close(fd))
		}
		return errors.Join(errs...)
	}
	for i := range e.lanes {
		fd, err := openAgain(name(i), unix.O_RDWR|unix.O_CREAT)
		if err != nil {
			return nil, nil, errors.Join(err, shut())
		}
		fds = append(fds, fd)
	}
	return fds, shut, nil
}

// openAgain is open(2), again after a signal: the runtime's preemption is one, and FUSE is interrupted by it.
func openAgain(name string, flags int) (int, error) {
	for {
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o644)
		if err != unix.EINTR {
			if err != nil {
				err = &os.PathError{Op: "open", Path: name, Err: err}
			}
			return fd, err
		}
	}
}

// again repeats a system call that a signal interrupted.
func again(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// localLocks has an OFD lock for each lane: POSIX locks would all be of one owner, the process.
func localLocks(e *localEnv) (*task, error) {
	fds, shut, err := e.open(func(int) string { return e.path("locks") })
	if err != nil {
		return nil, err
	}
	t := &task{clean: shut}
	for i, fd := range fds {
		set := func(kind int16) error {
			return again(func() error {
				l := unix.Flock_t{Type: kind, Start: int64(i) * small, Len: small}
				return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &l)
			})
		}
		t.steps = append(t.steps, func() error {
			if err := set(unix.F_WRLCK); err != nil {
				return fmt.Errorf("lock: %w", err)
			}
			if err := set(unix.F_UNLCK); err != nil {
				return fmt.Errorf("unlock: %w", err)
			}
			return nil
		})
	}
	return t, nil
}

func localOpens(e *localEnv) (*task, error) {
	_, shut, err := e.open(func(i int) string { return e.path("open-", i) })
	if err != nil {
		return nil, err
	}
	if err := shut(); err != nil {
		return nil, err
	}
	t := &task{clean: func() error { return nil }}
	for i := range e.lanes {
		name := e.path("open-", i)
		t.steps = append(t.steps, func() error {
			fd, err := openAgain(name, unix.O_RDONLY)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		})
	}
	return t, nil
}

func localGetattrs(e *localEnv) (*task, error) {
	fds, shut, err := e.open(func(i int) string { return e.path("open-", i) })
	if err != nil {
		return nil, err
	}
	t := &task{clean: shut}
	for _, fd := range fds {
		var st unix.Stat_t
		t.steps = append(t.steps, func() error { return again(func() error { return unix.Fstat(fd, &st) }) })
	}
	return t, nil
}

func localCreates(unlink bool) func(*localEnv) (*task, error) {
	return func(e *localEnv) (*task, error) {
		if err := os.MkdirAll(e.path("created"), 0o777); err != nil {
			return nil, err
		}
		counts := make([]int, e.lanes)
		name := func(lane, n int) string { return e.path("created/l-", lane, "-", n) }
		remove := func(s string) error { return again(func() error { return unix.Unlink(s) }) }
		t := &task{}
		for i := range e.lanes {
			t.steps = append(t.steps, func() error {
				s := name(i, counts[i])
				fd, err := openAgain(s, unix.O_RDWR|unix.O_CREAT)
				if err != nil {
					return err
				}
				counts[i]++
				if err := unix.Close(fd); err != nil || !unlink {
					return err
				}
				return remove(s)
			})
		}
		t.clean = func() error {
			if unlink {
				return nil
			}
			var wg sync.WaitGroup
			errs := make([]error, e.lanes)
			for i := range e.lanes {
				wg.Go(func() {
					for n := 0; n < counts[i] && errs[i] == nil; n++ {
						errs[i] = remove(name(i, n))
					}
				})
			}
			wg.Wait()
			return firstError(errs)
		}
		return t, nil
	}
}

// localReads reads pieces of n bytes of one file, each of which is dropped from this kernel's cache
// before if Options.Drop says so.
func localReads(n int, random bool) func(*localEnv) (*task, error) {
	return func(e *localEnv) (*task, error) {
		if err := e.data(); err != nil {
			return nil, err
		}
		fds, shut, err := e.open(func(int) string { return e.path(dataName) })
		if err != nil {
			return nil, err
		}
		t := &task{clean: shut}
		pick := picker(e.o.FileSize, n, random)
		for i, fd := range fds {
			if random {
				if err := unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM); err != nil {
					return nil, errors.Join(err, shut())
				}
			}
			next, b := pick(i), make([]byte, n)
			t.steps = append(t.steps, func() error {
				off := next()
				if e.o.Drop {
					if err := unix.Fadvise(fd, int64(off), int64(n), unix.FADV_DONTNEED); err != nil {
						return err
					}
				}
				got, err := readAt(fd, b, int64(off))
				if err != nil {
					return err
				}
				return check(b[:got], off, n)
			})
		}
		return t, nil
	}
}

// readAt fills b, unless the file ends.
func readAt(fd int, b []byte, off int64) (n int, err error) {
	for n < len(b) {
		m, err := unix.Pread(fd, b[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, err
		case m == 0:
			return n, nil
		default:
			n += m
		}
	}
	return n, nil
}

func writeAt(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		m, err := unix.Pwrite(fd, b, off)
		if err != nil && err != unix.EINTR {
			return err
		}
		if m > 0 {
			b, off = b[m:], off+int64(m)
		}
	}
	return nil
}

// data writes the file that is read unless it is there.
func (e *localEnv) data() (err error) {
	name := e.path(dataName)
	if st, err := os.Stat(name); err == nil && st.Size() >= e.o.FileSize {
		return nil
	}
	fd, err := openAgain(name, unix.O_RDWR|unix.O_CREAT)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	b := noise(large)
	for off := int64(0); off < e.o.FileSize; off += large {
		fill(b, uint64(off))
		if err := writeAt(fd, b, off); err != nil {
			return err
		}
	}
	return again(func() error { return unix.Fsync(fd) })
}

func localWrites(size int) func(*localEnv) (*task, error) {
	return func(e *localEnv) (*task, error) {
		fds, shut, err := e.open(func(int) string { return e.path(dataName + "-written") })
		if err != nil {
			return nil, err
		}
		t := &task{clean: func() error { return errors.Join(again(func() error { return unix.Fsync(fds[0]) }), shut()) }}
		next := picker(min(e.o.FileSize, writeSize), size, false)(0)
		b := noise(size)
		for _, fd := range fds {
			t.steps = append(t.steps, func() error { return writeAt(fd, b, int64(next())) })
		}
		return t, nil
	}
}
