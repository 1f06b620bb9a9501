package coherence_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/fs/remote"
	"holdfast/internal/coherence"
	"holdfast/internal/stage"
)

var length = flag.Duration("time", 8*time.Second, "how long to write and read, about")

// A site is a serve in a mode, its mount, and an NFS client without a cache of its own.
type site struct {
	mode   remote.Consistency
	dir    string // at the origin
	mount  string
	addr   string
	serve  *stage.Proc
	h      *coherence.History
	age    time.Duration // how old attributes and names may be
	turn   sync.RWMutex  // a file is not replaced while somebody writes to or reads it
	placed map[string]int64
	reads  atomic.Uint64
	looks  atomic.Uint64
}

var files = []string{"a", "b", "c"}

// TestServeUnderWriters has files written at the origin, through another serve and through this one, by its
// mount, while readers read through this one's mount and as NFS clients; this one is killed with -9 again and
// again. What was read is judged by what the mode allows.
//
// HOLDFAST_E2E=1 go test ./internal/coherence -run Serve -args -time 10m
func TestServeUnderWriters(t *testing.T) { serveUnderWriters(t, "off") }

// TestServeUnderWritersWithDelegations has the origin delegate files, and this one to its clients. Where it delegates
// them for writing too nobody writes at the origin's directory itself: who would, writes through a third serve.
func TestServeUnderWritersWithDelegations(t *testing.T) {
	for _, delegate := range []string{"auto", "on"} {
		t.Run(delegate, func(t *testing.T) { serveUnderWriters(t, delegate) })
	}
}

func serveUnderWriters(t *testing.T, delegate string) {
	binary := stage.Need(t)
	base := stage.Dir(t)
	origin, other := stage.Port(t), stage.Port(t)
	export := []string{"--export", "/data *(rw,no_root_squash,insecure)", "--lease", "10s", "--grace", "10s", "--rpcbind", "off"}
	data := filepath.Join(base, "data")
	sites := map[remote.Consistency]*site{}
	for _, m := range remote.Consistencies() {
		s := &site{mode: remote.Consistency(m), dir: filepath.Join(data, m), mount: filepath.Join(base, m), addr: stage.Port(t), h: coherence.New(), placed: map[string]int64{}}
		must(t, os.MkdirAll(s.dir, 0o755))
		must(t, os.Mkdir(s.mount, 0o755))
		for _, f := range files {
			must(t, s.replace(f))
		}
		must(t, s.setSize(s.dir, false))
		sites[s.mode] = s
	}
	otherMount := filepath.Join(base, "other")
	must(t, os.Mkdir(otherMount, 0o755))
	stage.Start(t, binary, base, "origin", append([]string{"origin", data, "--listen", origin, "--retain", "always", "--delegate", delegate}, export...)...)
	stage.Start(t, binary, base, "serve-other", append([]string{"serve", origin + ":/data", "--listen", other, "--mount", otherMount, "-o", "consistency=strict"}, export...)...)
	if delegate == "on" {
		mount := filepath.Join(base, "third")
		must(t, os.Mkdir(mount, 0o755))
		stage.Start(t, binary, base, "serve-third", append([]string{"serve", origin + ":/data", "--listen", stage.Port(t), "--mount", mount, "-o", "consistency=strict"}, export...)...)
		for _, s := range sites {
			s.dir = filepath.Join(mount, string(s.mode))
		}
	}
	for _, s := range sites {
		options := "consistency=" + string(s.mode)
		switch s.mode {
		case remote.CloseToOpen:
			options += ",actimeo=1"
			s.age = 3 * time.Second // an age counts from when the answer came in; and this machine may be slow
		case remote.Relaxed:
			s.age = 3 * time.Second
		case remote.Immutable:
			s.age = 1000 * time.Hour
		}
		s.serve = stage.Start(t, binary, base, "serve-"+string(s.mode), append([]string{"serve", origin + ":/data", "--listen", s.addr, "--mount", s.mount, "-o", options, "--relaxed-age", "1s", "--cache-size", "1MiB", "--delegate", delegate}, export...)...)
	}
	end := time.Now().Add(*length)
	for round := 0; round < 2 || time.Now().Before(end); round++ {
		var g sync.WaitGroup
		for _, s := range sites {
			g.Go(func() {
				if err := s.round(t.Context(), filepath.Join(otherMount, string(s.mode)), uint64(round)); err != nil {
					t.Errorf("%s: %v", s.mode, err)
				}
			})
		}
		g.Wait()
		for _, s := range sites {
			s.serve.Kill()
			if t.Failed() {
				continue
			}
			s.serve.Boot()
		}
		if t.Failed() {
			return
		}
	}
	for _, s := range sites {
		t.Logf("%s: %d blocks were read, %d sizes looked at", s.mode, s.reads.Load(), s.looks.Load())
		if s.reads.Load() == 0 || s.looks.Load() == 0 {
			t.Errorf("%s: nothing was judged", s.mode)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// round writes for a while, and reads on until what was written has settled. The process lives.
func (s *site) round(ctx context.Context, other string, round uint64) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client, err := remote.Mount(ctx, remote.Config{Name: "end", Server: s.addr, Path: "/data", Times: remote.AttrTimes{RegMin: -1, RegMax: -1, DirMin: -1, DirMax: -1}})
	if err != nil {
		return fmt.Errorf("the end client: %w", err)
	}
	defer client.Abandon()
	root, err := client.Root(ctx)
	if err != nil {
		return err
	}
	dir, _, err := client.Lookup(ctx, fs.Root, root, string(s.mode))
	if err != nil {
		return err
	}
	size, _, err := client.Lookup(ctx, fs.Root, dir, "size")
	if err != nil {
		return err
	}
	mine := filepath.Join(s.mount, string(s.mode))
	quiet, stop := make(chan struct{}), make(chan struct{})
	errs := make(chan error, 16)
	var writers, readers sync.WaitGroup
	run := func(g *sync.WaitGroup, until chan struct{}, n uint64, do func(rnd *rand.Rand) error) {
		g.Go(func() {
			rnd := rand.New(rand.NewPCG(round, n))
			for {
				select {
				case <-until:
					return
				default:
				}
				if err := do(rnd); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	write := func(dir string, own bool) func(*rand.Rand) error {
		return func(rnd *rand.Rand) error {
			switch name := files[rnd.IntN(len(files))]; {
			case rnd.IntN(4) == 0:
				return s.setSize(dir, own)
			case dir == s.dir && rnd.IntN(8) == 0:
				return s.replace(name)
			default:
				return s.write(dir, name, rnd, own)
			}
		}
	}
	run(&writers, quiet, 1, write(s.dir, false))
	run(&writers, quiet, 2, write(other, false))
	run(&writers, quiet, 3, write(mine, true))
	n := uint64(0)
	run(&readers, stop, 11, func(rnd *rand.Rand) error {
		n++
		return errors.Join(s.readLocal(mine, files[rnd.IntN(len(files))], rnd), s.lookLocal(mine))
	})
	run(&readers, stop, 12, func(rnd *rand.Rand) error {
		n := fmt.Sprint(round, "/", rnd.Uint64())
		return errors.Join(s.readRemote(ctx, client, dir, files[rnd.IntN(len(files))], n, rnd), s.lookRemote(ctx, client, size))
	})
	wait := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	wait(400 * time.Millisecond)
	close(quiet)
	writers.Wait()
	wait(1500 * time.Millisecond)
	close(stop)
	readers.Wait()
	close(errs)
	var all error
	for err := range errs {
		all = errors.Join(all, err)
	}
	return all
}

func spot(rnd *rand.Rand) (from, to int) {
	from = rnd.IntN(coherence.Blocks)
	return from, min(from+1+rnd.IntN(8), coherence.Blocks)
}

// replace puts another file in the place of one, at the origin.
func (s *site) replace(name string) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	v := s.h.Next()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path+".new", coherence.Fill(make([]byte, coherence.Blocks*coherence.BlockSize), v), 0o666); err != nil {
		return err
	}
	done := s.h.Begin(name, 0, coherence.Blocks, v, false)
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	done()
	s.placed[name] = s.h.Now()
	return nil
}

// inode is the file that a name leads to at the origin.
func (s *site) inode(name string) (uint64, error) {
	var st syscall.Stat_t
	err := syscall.Stat(filepath.Join(s.dir, name), &st)
	return st.Ino, err
}

// current tells whether an open file is the one that its name leads to. A name may lead to an old file for as long
// as names may be old.
func (s *site) current(f *os.File, name string, began int64) (bool, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		return false, staleIsFine(err)
	}
	ino, err := s.inode(name)
	if err != nil || ino == st.Ino {
		return err == nil, err
	}
	if late := time.Duration(began - s.placed[name]); late > s.age {
		return false, fmt.Errorf("%s: an open finds the old file %v after another took its place; names may be %v old", name, late, s.age)
	}
	return false, nil
}

func staleIsFine(err error) error {
	if errors.Is(err, syscall.ESTALE) {
		return nil // it was replaced
	}
	return err
}

// write writes by way of a directory: the origin's own, or a mount.
func (s *site) write(dir, name string, rnd *rand.Rand, own bool) error {
	s.turn.RLock()
	defer s.turn.RUnlock()
	began := s.h.Now()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
	if err != nil {
		return staleIsFine(err)
	}
	current, err := s.current(f, name, began)
	if err != nil || !current {
		return errors.Join(err, f.Close())
	}
	from, to := spot(rnd)
	v := s.h.Next()
	done := s.h.Begin(name, from, to, v, own)
	_, err = f.WriteAt(coherence.Fill(make([]byte, (to-from)*coherence.BlockSize), v), int64(from)*coherence.BlockSize)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	done()
	return nil
}

// readLocal reads through the mount.
func (s *site) readLocal(dir, name string, rnd *rand.Rand) error {
	s.turn.RLock()
	defer s.turn.RUnlock()
	began := s.h.Now()
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return staleIsFine(err)
	}
	defer f.Close()
	current, err := s.current(f, name, began)
	if err != nil || !current {
		return err
	}
	for range 4 {
		from, to := spot(rnd)
		b := make([]byte, (to-from)*coherence.BlockSize)
		n, err := f.ReadAt(b, int64(from)*coherence.BlockSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err := s.h.JudgeAll(name, from*coherence.BlockSize, b[:n], began, 0); err != nil {
			return fmt.Errorf("read through the mount: %w", err)
		}
		s.reads.Add(uint64(to - from))
	}
	return nil
}

// readRemote reads as an NFS client.
func (s *site) readRemote(ctx context.Context, c *remote.Remote, dir fs.Handle, name, who string, rnd *rand.Rand) error {
	s.turn.RLock()
	defer s.turn.RUnlock()
	owner := fs.Owner{Client: "end", Owner: who}
	began := s.h.Now()
	res, err := c.Open(ctx, fs.Root, &fs.OpenRequest{Owner: owner, Access: fs.ShareRead, Dir: dir, Name: name})
	if err != nil {
		return err
	}
	ino, err := s.inode(name)
	if err != nil {
		return err
	}
	if ino != res.Attr.FileID {
		return fmt.Errorf("%s: an OPEN by name finds file %d, and it is %d", name, res.Attr.FileID, ino)
	}
	for range 4 {
		from, to := spot(rnd)
		b := make([]byte, (to-from)*coherence.BlockSize)
		n, _, err := c.Read(ctx, fs.Root, fs.IORef{Handle: res.File, Open: owner}, uint64(from)*coherence.BlockSize, b)
		if err != nil {
			return err
		}
		if err := s.h.JudgeAll(name, from*coherence.BlockSize, b[:n], began, 0); err != nil {
			return fmt.Errorf("read by an NFS client: %w", err)
		}
		s.reads.Add(uint64(to - from))
	}
	return c.CloseFile(ctx, owner, res.File)
}

// The size of a file is the value of a block of its own.

func (s *site) setSize(dir string, own bool) error {
	path := filepath.Join(dir, "size")
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666); err != nil {
		return err
	} else if err := f.Close(); err != nil {
		return err
	}
	v := s.h.Next()
	done := s.h.Begin("size", 0, 1, v, own)
	if err := os.Truncate(path, int64(v)); err != nil {
		return err
	}
	done()
	return nil
}

func (s *site) lookLocal(dir string) error {
	began := s.h.Now()
	st, err := os.Stat(filepath.Join(dir, "size"))
	if err != nil {
		return err
	}
	return s.look(began, uint64(st.Size()))
}

func (s *site) lookRemote(ctx context.Context, c *remote.Remote, f fs.Handle) error {
	began := s.h.Now()
	a, err := c.GetAttr(ctx, fs.Root, f)
	if err != nil {
		return err
	}
	return s.look(began, a.Size)
}

func (s *site) look(began int64, size uint64) error {
	s.looks.Add(1)
	return s.h.Judge("size", 0, size, began, s.age)
}
