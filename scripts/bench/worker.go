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
		r, err := w.Local(ctx, j.Dir, j.Options)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(r)
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
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		return r, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err = <-done:
	case <-ctx.Done():
		return r, context.Cause(ctx) // killed, but who knows when it ends
	}
	if err != nil {
		return r, fmt.Errorf("%w: %s", err, strings.TrimSpace(errs.String()))
	}
	return r, json.Unmarshal([]byte(out.String()), &r)
}
