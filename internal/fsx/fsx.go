// Package fsx does random things to one file, by system calls and through a mapping, and compares what it reads with a
// copy in memory. It finds what a file system does wrong when operations of different kinds meet at one place. A seed
// repeats a run; at a difference the operations that led to it are printed.
package fsx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Config says what to do. Path is needed; zero means the default for all else.
type Config struct {
	Path string // it is created, or emptied
	Seed uint64
	Ops  int // how many operations; the default is 1000
	Max  int // the greatest size in bytes; the default is 256 KiB
	// Without names operations that are left out. What the file system does not support leaves itself out.
	Without []string
	// Logged is how many of the last operations are told; the default is 60.
	Logged int
}

// Operations lists the names.
func Operations() []string {
	var list []string
	for _, o := range operations {
		list = append(list, o.name)
	}
	return list
}

// A Report is what a run did.
type Report struct {
	Done   map[string]int // operations by name
	NoSupp []string       // those that the file system does not support
}

// A Difference is what was read and should not have been.
type Difference struct {
	What  string
	Trace []string // the last operations, the oldest first
	Seed  uint64
}

func (d *Difference) Error() string {
	return fmt.Sprintf("%s\nseed %d; the last operations:\n%s", d.What, d.Seed, strings.Join(d.Trace, "\n"))
}

type run struct {
	cfg   Config
	rnd   *rand.Rand
	f     *os.File
	want  []byte // the file as it must be
	trace []string
	n     int
	off   map[string]bool
	rep   Report
}

type operation struct {
	name   string
	weight int
	do     func(r *run) error
}

var operations = []operation{
	{"read", 20, (*run).read},
	{"write", 20, (*run).write},
	{"append", 4, (*run).appendTo},
	{"mapread", 12, (*run).mapRead},
	{"mapwrite", 14, (*run).mapWrite},
	{"truncate", 8, (*run).truncate},
	{"fallocate", 5, (*run).allocate},
	{"keepsize", 3, (*run).keepSize},
	{"punch", 6, (*run).punch},
	{"zero", 3, (*run).zero},
	{"copy", 6, (*run).copyRange},
	{"fsync", 2, (*run).fsync},
	{"reopen", 3, (*run).reopen},
	{"size", 4, func(*run) error { return nil }}, // which is checked after each
}

var errNoSupp = errors.New("not supported")

// Run does it. The error is a *Difference, or that of a system call.
func Run(cfg Config) (*Report, error) {
	if cfg.Ops == 0 {
		cfg.Ops = 1000
	}
	if cfg.Max == 0 {
		cfg.Max = 256 << 10
	}
	if cfg.Logged == 0 {
		cfg.Logged = 60
	}
	r := &run{cfg: cfg, rnd: rand.New(rand.NewPCG(cfg.Seed, 0)), off: map[string]bool{}, rep: Report{Done: map[string]int{}}}
	for _, w := range cfg.Without {
		r.off[w] = true
	}
	f, err := os.OpenFile(cfg.Path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	r.f = f
	err = r.all()
	if c := r.f.Close(); err == nil {
		err = c
	}
	return &r.rep, err
}

func (r *run) all() error {
	sum := 0
	for _, o := range operations {
		sum += o.weight
	}
	for r.n = 0; r.n < r.cfg.Ops; {
		w := r.rnd.IntN(sum)
		i := 0
		for ; w >= operations[i].weight; i++ {
			w -= operations[i].weight
		}
		o := &operations[i]
		if r.off[o.name] {
			continue
		}
		r.n++
		switch err := o.do(r); {
		case errors.Is(err, errNoSupp):
			r.off[o.name] = true
			r.rep.NoSupp = append(r.rep.NoSupp, o.name)
			r.log("%s is not supported", o.name)
			continue
		case err != nil:
			return r.failed(o.name, err)
		}
		r.rep.Done[o.name]++
		if err := r.checkSize(); err != nil {
			return r.failed(o.name, err)
		}
	}
	if err := r.reopen(); err != nil {
		return r.failed("reopen", err)
	}
	if err := r.check(0, len(r.want)); err != nil {
		return r.failed("the end", err)
	}
	return nil
}

// failed adds the trace to an error.
func (r *run) failed(op string, err error) error {
	var d *Difference
	if errors.As(err, &d) {
		d.Trace, d.Seed = r.trace, r.cfg.Seed
		return d
	}
	return fmt.Errorf("operation %d, %s: %w\nseed %d; the last operations:\n%s", r.n, op, err, r.cfg.Seed, strings.Join(r.trace, "\n"))
}

func (r *run) log(format string, a ...any) {
	if len(r.trace) >= r.cfg.Logged {
		r.trace = r.trace[1:]
	}
	r.trace = append(r.trace, fmt.Sprintf("%6d %s", r.n, fmt.Sprintf(format, a...)))
}

// span is a place to be at; anywhere below the greatest size. Many begin or end at a page.
func (r *run) span(limit int) (off, n int) {
	const page = 4096
	off = r.rnd.IntN(limit)
	n = 1 + r.rnd.IntN(min(limit-off, 64<<10))
	if r.rnd.IntN(4) == 0 {
		off -= off % page
	}
	if r.rnd.IntN(4) == 0 {
		n = max(n-(off+n)%page, 1)
	}
	return off, n
}

// inside is a place within the file; n is 0 if there is none.
func (r *run) inside() (off, n int) {
	if len(r.want) == 0 {
		return 0, 0
	}
	off, n = r.span(len(r.want))
	return off, min(n, len(r.want)-off)
}

// fresh is data that tells which operation wrote it.
func (r *run) fresh(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.n*31 + i*7 + i>>8 + 1)
	}
	return b
}

func (r *run) grow(n int) {
	if n > len(r.want) {
		r.want = append(r.want, make([]byte, n-len(r.want))...)
	}
}

// compare says where data differs.
func (r *run) compare(how string, off int, got []byte) error {
	want := r.want[off : off+len(got)]
	if bytes.Equal(got, want) {
		return nil
	}
	first, last, n := -1, 0, 0
	for i := range got {
		if got[i] != want[i] {
			if first < 0 {
				first = i
			}
			last = i
			n++
		}
	}
	show := func(b []byte) []byte { return b[first:min(first+16, len(b))] }
	return &Difference{What: fmt.Sprintf("operation %d: %s of %d bytes at %#x: %d bytes differ, from %#x to %#x: got % x, want % x", r.n, how, len(got), off, n, off+first, off+last, show(got), show(want))}
}

func (r *run) checkSize() error {
	st, err := r.f.Stat()
	if err != nil {
		return err
	}
	if st.Size() != int64(len(r.want)) {
		return &Difference{What: fmt.Sprintf("operation %d: the size is %#x, want %#x", r.n, st.Size(), len(r.want))}
	}
	return nil
}

// check reads by read(2).
func (r *run) check(off, n int) error {
	b := make([]byte, n)
	got, err := r.f.ReadAt(b, int64(off))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if got != n {
		return &Difference{What: fmt.Sprintf("operation %d: read %#x of %#x bytes at %#x, size %#x", r.n, got, n, off, len(r.want))}
	}
	return r.compare("read", off, b)
}

func (r *run) read() error {
	off, n := r.inside()
	r.log("read      %#x to %#x", off, off+n)
	return r.check(off, n)
}

func (r *run) write() error {
	off, n := r.span(r.cfg.Max)
	r.log("write     %#x to %#x%s", off, off+n, r.beyond(off+n))
	b := r.fresh(n)
	if _, err := r.f.WriteAt(b, int64(off)); err != nil {
		return err
	}
	r.grow(off + n)
	copy(r.want[off:], b)
	return nil
}

func (r *run) beyond(end int) string {
	if end > len(r.want) {
		return fmt.Sprintf(", beyond %#x", len(r.want))
	}
	return ""
}

// appendTo writes through a descriptor with O_APPEND.
func (r *run) appendTo() error {
	n := min(1+r.rnd.IntN(8000), r.cfg.Max-len(r.want))
	if n <= 0 {
		return nil
	}
	r.log("append    %#x to %#x", len(r.want), len(r.want)+n)
	f, err := os.OpenFile(r.cfg.Path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	b := r.fresh(n)
	_, err = f.Write(b)
	r.want = append(r.want, b...)
	return errors.Join(err, f.Close())
}

// mapped calls use with a mapping of [off, off+n), which lies within the file.
func (r *run) mapped(off, n int, use func(b []byte)) error {
	if n == 0 {
		return nil
	}
	start := off &^ (os.Getpagesize() - 1)
	m, err := unix.Mmap(int(r.f.Fd()), int64(start), off+n-start, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if errors.Is(err, unix.ENODEV) {
		return errNoSupp
	}
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	use(m[off-start:])
	return unix.Munmap(m)
}

func (r *run) mapRead() error {
	off, n := r.inside()
	r.log("mapread   %#x to %#x", off, off+n)
	b := make([]byte, n)
	if err := r.mapped(off, n, func(m []byte) { copy(b, m) }); err != nil {
		return err
	}
	return r.compare("mapped read", off, b)
}

func (r *run) mapWrite() error {
	off, n := r.span(r.cfg.Max)
	r.log("mapwrite  %#x to %#x%s", off, off+n, r.beyond(off+n))
	if off+n > len(r.want) {
		if err := r.f.Truncate(int64(off + n)); err != nil {
			return err
		}
		r.grow(off + n)
	}
	b := r.fresh(n)
	if err := r.mapped(off, n, func(m []byte) { copy(m, b) }); err != nil {
		return err
	}
	copy(r.want[off:], b)
	return nil
}

func (r *run) truncate() error {
	n := r.rnd.IntN(r.cfg.Max)
	r.log("truncate  %#x to %#x", len(r.want), n)
	if err := r.f.Truncate(int64(n)); err != nil {
		return err
	}
	if n < len(r.want) {
		r.want = r.want[:n:n]
	}
	r.grow(n)
	return nil
}

func (r *run) fallocate(name string, mode uint32, off, n int) error {
	r.log("%-9s %#x to %#x%s", name, off, off+n, r.beyond(off+n))
	err := unix.Fallocate(int(r.f.Fd()), mode, int64(off), int64(n))
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return errNoSupp
	}
	return err
}

func (r *run) allocate() error {
	off, n := r.span(r.cfg.Max)
	if err := r.fallocate("fallocate", 0, off, n); err != nil {
		return err
	}
	r.grow(off + n)
	return nil
}

func (r *run) keepSize() error {
	off, n := r.span(r.cfg.Max)
	return r.fallocate("keepsize", unix.FALLOC_FL_KEEP_SIZE, off, n)
}

func (r *run) punch() error {
	off, n := r.span(r.cfg.Max)
	if err := r.fallocate("punch", unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n); err != nil {
		return err
	}
	if off < len(r.want) {
		clear(r.want[off:min(off+n, len(r.want))])
	}
	return nil
}

func (r *run) zero() error {
	off, n := r.span(r.cfg.Max)
	if err := r.fallocate("zero", unix.FALLOC_FL_ZERO_RANGE, off, n); err != nil {
		return err
	}
	r.grow(off + n)
	clear(r.want[off : off+n])
	return nil
}

// copyRange copies within the file; the two places do not overlap.
func (r *run) copyRange() error {
	from, n := r.inside()
	to := r.rnd.IntN(r.cfg.Max)
	n = min(n, r.cfg.Max-to)
	if from < to {
		n = min(n, to-from)
	} else {
		n = min(n, from-to)
	}
	if n == 0 {
		return nil
	}
	r.log("copy      %#x to %#x, to %#x%s", from, from+n, to, r.beyond(to+n))
	for done := 0; done < n; {
		rpos, wpos := int64(from+done), int64(to+done)
		k, err := unix.CopyFileRange(int(r.f.Fd()), &rpos, int(r.f.Fd()), &wpos, n-done, 0)
		switch {
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EXDEV):
			if done == 0 {
				return errNoSupp
			}
			return err
		case err != nil:
			return err
		case k == 0:
			return &Difference{What: fmt.Sprintf("operation %d: copied %#x of %#x bytes", r.n, done, n)}
		}
		r.grow(to + done + k)
		copy(r.want[to+done:to+done+k], r.want[from+done:from+done+k])
		done += k
	}
	return nil
}

func (r *run) fsync() error {
	r.log("fsync")
	return r.f.Sync()
}

func (r *run) reopen() error {
	r.log("reopen")
	if err := r.f.Close(); err != nil {
		return err
	}
	f, err := os.OpenFile(r.cfg.Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	r.f = f
	return nil
}
