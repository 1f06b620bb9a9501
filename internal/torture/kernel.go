package torture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/internal/child"
	"holdfast/internal/faultnet"
	"holdfast/internal/torture/judge"
)

// A kernel is a Linux NFS client in a VM, which mounts a re-export server through a link. Its workers are processes
// there: each is a lock-owner. The times of what they do are taken here, around question and answer, so the VM's
// clock does not matter. A hard mount waits as long as it takes, so whatever goes wrong shorter than a lease must not
// be seen: any error of a lock, a read or a write is a violation.
type kernel struct {
	w    *world
	name string
}

// kernelDir is where it mounts the re-export.
const kernelDir = "/mnt/torture"

// vm is a command of the program that runs the VMs.
func (w *world) vm(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.cfg.VM, args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("VM_STATE=/run/holdfast-torture-%d", os.Getpid()))
	return cmd
}

// bootKernels boots the VMs and mounts. leave undoes it, and may be called in any case.
func (w *world) bootKernels(ctx context.Context) (leave func() error, err error) {
	if w.cfg.Kernels == 0 {
		return func() error { return nil }, nil
	}
	leave = func() error {
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), bootLimit)
		defer stop()
		if out, err := w.vm(ctx, "net", "down").CombinedOutput(); err != nil {
			return fmt.Errorf("vm net down: %w: %s", err, out)
		}
		return nil
	}
	limited, stop := context.WithTimeout(ctx, 2*bootLimit)
	defer stop()
	bridge, err := w.vm(limited, "net", "up").Output()
	if err != nil {
		return leave, fmt.Errorf("vm net up: %w", err)
	}
	host := strings.TrimSpace(string(bridge))
	errs := make([]error, w.cfg.Kernels)
	var wg sync.WaitGroup
	for i := range w.cfg.Kernels {
		k := &kernel{w, fmt.Sprint("k", i)}
		server := w.serves[i%len(w.serves)]
		link, err := faultnet.ListenOn(host, server.addr)
		if err != nil {
			return leave, err
		}
		w.links["link "+k.name] = link
		w.kernels = append(w.kernels, k)
		wg.Go(func() { errs[i] = k.boot(limited, link.Addr()) })
	}
	wg.Wait()
	return leave, errors.Join(errs...)
}

func (k *kernel) boot(ctx context.Context, addr string) error {
	if out, err := k.w.vm(ctx, "up", k.name, "--mem", "256M").CombinedOutput(); err != nil {
		return fmt.Errorf("vm up %s: %w: %s", k.name, err, out)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if out, err := k.w.vm(ctx, "mount", k.name, host+":/data", kernelDir, "-o", "port="+port).CombinedOutput(); err != nil {
		return fmt.Errorf("%s cannot mount: %w: %s", k.name, err, out)
	}
	return nil
}

// A process is a worker of a kernel, with one lock file open.
type process struct {
	k     *kernel
	owner string
	file  string
	rng   *rand.Rand
	held  map[int]uint8 // by cell: the mode

	stop func()
	in   io.Writer
	out  <-chan string // its answers, a line each; closed when it has ended
}

// processes makes the workers of round n, and has them open their files while those still have their names.
func (w *world) processes(n int) ([]*process, error) {
	var list []*process
	for i, k := range w.kernels {
		for j, file := range w.lockFiles {
			list = append(list, &process{
				k: k, owner: fmt.Sprintf("%s.r%d-%d", k.name, n, j), file: file, held: map[int]uint8{},
				rng: rand.New(rand.NewPCG(w.cfg.Seed<<16+uint64(n)<<8+uint64(i*len(w.lockFiles)+j), 3)),
			})
		}
	}
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, p := range list {
		wg.Go(func() {
			if p.stop, errs[i] = p.launch(kernelDir + "/" + p.file); errs[i] != nil {
				errs[i] = fmt.Errorf("%s on %s: %w", p.owner, p.file, errs[i])
			}
		})
	}
	wg.Wait()
	return list, errors.Join(errs...)
}

// run works until ctx ends, then gives everything back.
func (p *process) run(ctx context.Context) {
	var err error
	for err == nil && ctx.Err() == nil {
		if err = p.step(); err == nil {
			rest(ctx, time.Duration(p.rng.Int64N(int64(p.k.w.cfg.Pause))))
		}
	}
	if err == nil {
		err = p.unlock(0, cells-1)
	}
	if err == nil {
		_, err = p.ask("quit")
	}
	p.stop()
	if err != nil {
		p.k.w.violated("%s on %s: %v", p.owner, p.file, err)
	}
}

func (p *process) launch(path string) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := p.k.w.vm(ctx, "exec", "-i", p.k.name, "--", "lockprobe", "--lines", path)
	in, err := cmd.StdinPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := child.Start(cmd); err != nil {
		cancel()
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.CloseWithError(cmd.Wait())
	}()
	out := make(chan string, 1)
	go func() {
		defer close(out)
		for s := bufio.NewScanner(r); s.Scan(); {
			out <- s.Text()
		}
	}()
	p.in, p.out = in, out
	stop = func() {
		_ = in.Close()
		select {
		case <-ended:
		case <-time.After(p.k.w.settleLimit()):
		}
		cancel()
		go func() { // what it still says
			for range out {
			}
		}()
		<-ended
	}
	if line, err := p.answer(); err != nil || line != "ready" {
		stop()
		return nil, errors.Join(errors.New("it cannot open the file: "+line), err)
	}
	return stop, nil
}

func (p *process) answer() (string, error) {
	select {
	case line, ok := <-p.out:
		if !ok {
			return "", errors.New("it has ended")
		}
		return line, nil
	case <-time.After(p.k.w.settleLimit()):
		return "", errors.New("no answer")
	}
}

// ask runs a command; the result is what it says of it.
func (p *process) ask(command string) (string, error) {
	if _, err := io.WriteString(p.in, command+"\n"); err != nil {
		return "", err
	}
	line, err := p.answer()
	if err != nil {
		return "", fmt.Errorf("%s: %w", command, err)
	}
	said, ok := strings.CutPrefix(line, command+": ")
	if i := strings.LastIndex(said, " ("); ok && i >= 0 {
		return said[:i], nil
	}
	return "", fmt.Errorf("%s: %s", command, line)
}

// step does one thing, much as lockStep does.
func (p *process) step() error {
	a := p.rng.IntN(cells)
	b := min(a+p.rng.IntN(3), cells-1)
	switch n := p.rng.IntN(100); {
	case n < 35:
		return p.lock(a, b, p.rng.IntN(3) > 0, p.rng.IntN(8) == 0)
	case n < 55:
		return p.unlock(a, b)
	case n < 93:
		return p.touch()
	case n < 97:
		return p.unlock(0, cells-1)
	}
	return p.lock(0, cells-1, false, false)
}

// span is cells a to b, in lockprobe's words.
func span(a, b int) string { return fmt.Sprintf("%d %d", a*cellSize, (b-a+1)*cellSize) }

// lock asks for cells a to b, and with wait for up to a second.
func (p *process) lock(a, b int, write, wait bool) error {
	command := map[bool]string{false: "read ", true: "write "}[write] + span(a, b)
	if wait {
		command = "wait-" + command + " 1"
	}
	w := p.k.w
	call := w.since()
	said, err := p.ask(command)
	now := w.since()
	switch {
	case err != nil:
		return err
	case said == "denied", said == "timed out":
		w.count(&w.tally.denied, 1)
		return nil
	case said != "granted":
		return fmt.Errorf("%s: %s", command, said)
	}
	for i := a; i <= b; i++ {
		p.held[i] = mode(write)
		w.history.add(judge.Op{Cell: cellOf(p.file, i), Owner: p.owner, Kind: judge.Lock, Mode: mode(write), Call: int64(call), Return: int64(now)})
	}
	w.count(&w.tally.locks, int64(b-a+1))
	w.count(&w.tally.kernels, int64(b-a+1))
	return nil
}

// unlock gives cells a to b back. What is not held is asked for as well.
func (p *process) unlock(a, b int) error {
	w := p.k.w
	command := "unlock " + span(a, b)
	call := w.since()
	said, err := p.ask(command)
	now := w.since()
	if err == nil && said != "done" {
		err = fmt.Errorf("%s: %s", command, said)
	}
	if err != nil {
		return err
	}
	for i := a; i <= b; i++ {
		if _, ok := p.held[i]; ok {
			delete(p.held, i)
			w.history.add(judge.Op{Cell: cellOf(p.file, i), Owner: p.owner, Kind: judge.Unlock, Call: int64(call), Return: int64(now)})
		}
	}
	return nil
}

// touch reads a cell that is held, and puts the next number into it if it is held for writing.
func (p *process) touch() error {
	var mine []int
	for i := range cells {
		if _, ok := p.held[i]; ok {
			mine = append(mine, i)
		}
	}
	if len(mine) == 0 {
		return nil
	}
	i := mine[p.rng.IntN(len(mine))]
	w, cell := p.k.w, cellOf(p.file, i)
	call := w.since()
	said, err := p.ask(fmt.Sprintf("get-number %d", i*cellSize))
	now := w.since()
	if err != nil {
		return err
	}
	value, err := strconv.ParseUint(said, 10, 64)
	if err != nil {
		return fmt.Errorf("reading %s: %s", cell, said)
	}
	w.history.add(judge.Op{Cell: cell, Owner: p.owner, Kind: judge.Read, Value: value, Call: int64(call), Return: int64(now)})
	w.count(&w.tally.reads, 1)
	if p.held[i] != judge.Exclusive {
		return nil
	}
	value++
	call = w.since()
	said, err = p.ask(fmt.Sprintf("put-number %d %d", i*cellSize, value))
	now = w.since()
	if err == nil && said != "done" {
		err = fmt.Errorf("writing %s: %s", cell, said)
	}
	if err != nil {
		return err
	}
	w.history.add(judge.Op{Cell: cell, Owner: p.owner, Kind: judge.Write, Value: value, Call: int64(call), Return: int64(now)})
	w.count(&w.tally.writes, 1)
	return nil
}
