package fuse

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"sync"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"holdfast/fs"
)

// A request is one question of the kernel. As a context it ends when the calling process is being
// killed, or the mount ends, or the request is answered.
//
// Any signal makes the kernel send INTERRUPT, and only the first one does. But an operation that is
// on its way to the origin must not fail because of a SIGALRM or of the SIGURG with which Go moves
// its goroutines: what it did at the origin would stay, and programs do not expect EINTR from
// stat or read. So, like an NFS client, we are killable and not interruptible: after INTERRUPT we
// look whether SIGKILL is pending (every deadly signal becomes one). Only a wait that has no effect
// yet (the fence, a blocked lock, somebody's grace) ends at any signal: it selects on intr.
type request struct {
	context.Context // the mount's
	srv             *server
	head            *gofuse.InHeader
	intr            <-chan struct{} // closed at INTERRUPT
	who             *fs.Cred        // see cred

	mu    sync.Mutex
	done  chan struct{} // made by the first Done
	ended bool          // done is closed, or would be
}

// begin makes a request; end must follow.
func (s *server) begin(intr <-chan struct{}, head *gofuse.InHeader) *request {
	return &request{Context: fs.Begin(s.ctx), srv: s, head: head, intr: intr}
}

// end answers the request: it gives up everything that was started with it as context.
func (r *request) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.ended = true
		if r.done != nil {
			close(r.done)
		}
	}
}

// Done is closed when nobody waits for the answer any more.
func (r *request) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = make(chan struct{})
		if r.ended {
			close(r.done)
		} else {
			go r.watch(r.done, r.head.Pid)
		}
	}
	return r.done
}

// Err is nil until Done is closed.
func (r *request) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return context.Canceled
	}
	return r.Context.Err()
}

// watch ends the request when the caller is being killed. The channel intr belongs to go-fuse, which
// uses it again for another request, so done is looked at before it is believed.
func (r *request) watch(done <-chan struct{}, pid uint32) {
	select {
	case <-done:
		return
	case <-r.Context.Done():
		r.end()
		return
	case <-r.intr:
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		select {
		case <-done:
			return
		default:
		}
		if dying(pid) || r.srv.gone() {
			r.end()
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-done:
		case <-r.Context.Done():
		case <-timer.C:
		}
		timer.Stop()
		if r.Context.Err() != nil {
			r.end()
			return
		}
	}
}

// dying tells whether the thread is gone or has SIGKILL pending; a process that the kernel has no
// number for here (another PID namespace) counts as dying when it is interrupted. It reads only what
// needs no lock on the process's memory: that memory may be a file of ours.
func dying(pid uint32) bool {
	if pid == 0 {
		return true
	}
	text, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/status")
	if err != nil {
		return true
	}
	return dyingStatus(text)
}

// dyingStatus reads the text of /proc/PID/status.
func dyingStatus(text []byte) bool {
	const sigkill = 1 << (9 - 1)
	for line := range bytes.Lines(text) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch string(name) {
		case "State":
			if len(value) > 0 && (value[0] == 'Z' || value[0] == 'X') {
				return true
			}
		case "SigPnd", "ShdPnd":
			if mask, err := strconv.ParseUint(string(value), 16, 64); err == nil && mask&sigkill != 0 {
				return true
			}
		}
	}
	return false
}

// How long we wait before we ask again after Grace or Delay.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// again asks until the answer is neither Grace nor Delay (RFC 8881 15.1.1.3, 15.1.9.2). intr, if
// not nil, ends the wait; the death of the caller always does.
func (r *request) again(intr <-chan struct{}, ask func() error) error {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := ask()
		if code := fs.CodeOf(err); code != fs.Grace && code != fs.Delay {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-intr:
			timer.Stop()
			return fs.E("", fs.Interrupted, err)
		case <-r.Done():
			timer.Stop()
			return fs.E("", fs.Interrupted, err)
		}
	}
}

// detach runs a call that must come to its end whatever happens to the caller, and waits for it or
// for the caller's death. Then late, if not nil, is run once the call has ended.
func (r *request) detach(call func(ctx context.Context) error, late func()) error {
	result := make(chan error, 1)
	r.srv.later(func(ctx context.Context) { result <- call(ctx) })
	select {
	case err := <-result:
		return err
	case <-r.Done():
	}
	if late != nil {
		r.srv.later(func(context.Context) {
			<-result
			late()
		})
	}
	return fs.E("", fs.Interrupted, nil)
}
