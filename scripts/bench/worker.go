package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"

	"holdfast/internal/loadgen"
)

// A job is what a worker does in a directory. It is a process of its own, because it may hang in a
// mount, and then it can at least be given up.
type job struct {
	Workload string
	Dir      string
	Options  loadgen.Options
}

// A message is what a worker says: when the counted time begins and ends, and the result.
type message struct {
	Counting *bool           `json:",omitempty"`
	Result   *loadgen.Result `json:",omitempty"`
}

// worker is the other process: "peer" serves the TCP limits until stdin ends, "local" does a job.
func worker(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "peer":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Println(l.Addr())
		go func() {
			// Whatever ends it, the parent is gone or does not need us any more.
			_, _ = io.Copy(io.Discard, os.Stdin)
			_ = l.Close()
		}()
		return loadgen.ServePeer(l)
	case len(args) == 1 && args[0] == "local":
		var j job
		if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
			return err
		}
		w := loadgen.Find(j.Workload)
		if w == nil {
			return fmt.Errorf("no workload %q", j.Workload)
		}
		out := json.NewEncoder(os.Stdout)
		var failed error
		j.Options.Phase = func(counting bool) { failed = errors.Join(failed, out.Encode(message{Counting: &counting})) }
		r, err := w.Local(ctx, j.Dir, j.Options)
		if err != nil {
			return err
		}
		return errors.Join(failed, out.Encode(message{Result: &r}))
	}
	return errors.New("worker: peer or local")
}

// localWorker has a worker do a workload in a directory.
func localWorker(ctx context.Context, w *loadgen.Workload, dir string, o loadgen.Options) (r loadgen.Result, err error) {
	if !w.HasLocal() {
		return r, loadgen.ErrNoLocal
	}
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	in, err := json.Marshal(job{w.Name, dir, o})
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, self, "worker", "local")
	cmd.Stdin = strings.NewReader(string(in))
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return r, err
	}
	if err := cmd.Start(); err != nil {
		return r, err
	}
	type answer struct {
		r   loadgen.Result
		err error
	}
	done := make(chan answer, 1)
	go func() {
		r, err := listen(out, o.Phase)
		if e := cmd.Wait(); e != nil {
			err = fmt.Errorf("%w: %s", e, strings.TrimSpace(errs.String()))
		}
		done <- answer{r, err}
	}()
	select {
	case a := <-done:
		return a.r, a.err
	case <-ctx.Done():
		return r, context.Cause(ctx) // killed, but who knows when it ends
	}
}

// listen takes what a worker says.
func listen(out io.Reader, phase func(bool)) (loadgen.Result, error) {
	for dec := json.NewDecoder(out); ; {
		var m message
		if err := dec.Decode(&m); err != nil {
			return loadgen.Result{}, err
		}
		if m.Counting != nil && phase != nil {
			phase(*m.Counting)
		}
		if m.Result != nil {
			return *m.Result, nil
		}
	}
}
