package e2e

import (
	"bytes"
	"context"
	xdrbytes "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/nfsup"
)

// rss is the resident memory of a process in bytes.
func (d *Daemon) rss() int64 {
	d.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	_, after, _ := bytes.Cut(text, []byte("VmRSS:"))
	var kb int64
	if _, err := fmt.Sscan(string(after), &kb); err != nil {
		d.t.Fatal(err)
	}
	return kb << 10
}

// words is a record of the given mark and words.
func words(mark uint32, w ...uint32) []byte {
	out := xdrbytes.BigEndian.AppendUint32(nil, mark)
	for _, v := range w {
		out = xdrbytes.BigEndian.AppendUint32(out, v)
	}
	return out
}

const (
	lastMark   = 1 << 31
	nfsProgram = 100003
)

// nullCall is a whole call of the null procedure; version is that of RPC.
func nullCall(version uint32) []byte {
	return words(lastMark|40, 7, 0, version, nfsProgram, 4, 0, 0, 0, 0, 0)
}

// misfits are the ways in which a peer may be no client. Each gets a connection and returns what the
// server did wrong; hold is closed when connections that may stay should go.
var misfits = []struct {
	name string
	run  func(c net.Conn, hold <-chan struct{}) error
}{
	{"idle", func(c net.Conn, hold <-chan struct{}) error {
		<-hold
		return nil
	}},
	{"half a record", func(c net.Conn, hold <-chan struct{}) error {
		// Announced is a megabyte.
		if _, err := c.Write(append(words(lastMark|1<<20, 7, 0, 2), make([]byte, 100)...)); err != nil {
			return err
		}
		<-hold
		return nil
	}},
	{"a byte at a time", func(c net.Conn, hold <-chan struct{}) error {
		call := nullCall(2)
		for i := range call {
			if _, err := c.Write(call[i : i+1]); err != nil {
				return err
			}
		}
		return expect(c, words(lastMark|24, 7, 1, 0, 0, 0, 0))
	}},
	{"an absurd length", func(c net.Conn, hold <-chan struct{}) error {
		if _, err := c.Write(words(lastMark|0x7fffffff, 7, 0, 2)); err != nil {
			return err
		}
		return closed(c)
	}},
	{"endless fragments", func(c net.Conn, hold <-chan struct{}) error {
		// They may not all be taken: the connection is closed on the way.
		_, _ = c.Write(make([]byte, 4*5000))
		return closed(c)
	}},
	{"another RPC version", func(c net.Conn, hold <-chan struct{}) error {
		if _, err := c.Write(nullCall(3)); err != nil {
			return err
		}
		// MSG_DENIED, RPC_MISMATCH, from 2 to 2: RFC 5531 9.
		return expect(c, words(lastMark|24, 7, 1, 1, 0, 2, 2))
	}},
	{"garbage arguments", func(c net.Conn, hold <-chan struct{}) error {
		// COMPOUND with a tag of 2^32-1 bytes: GARBAGE_ARGS.
		if _, err := c.Write(words(lastMark|44, 7, 0, 2, nfsProgram, 4, 1, 0, 0, 0, 0, 0xffffffff)); err != nil {
			return err
		}
		return expect(c, words(lastMark|24, 7, 1, 0, 0, 0, 4))
	}},
}

func expect(c net.Conn, want []byte) error {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("answer %x, want %x", got, want)
	}
	return nil
}

func closed(c net.Conn) error {
	n, err := c.Read(make([]byte, 1))
	var timeout net.Error
	if n > 0 || err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("the connection stays open: %d bytes, %v", n, err)
	}
	return nil
}

// TestBadConnections has many peers who are no clients beside one who is: each gets the answer that it
// deserves, the client is served all along, and memory stays within what is known before.
// HOLDFAST_CONNECTIONS is how many; 10,000 is the figure to quote.
func TestBadConnections(t *testing.T) {
	need(t)
	count := howMany(t, "HOLDFAST_CONNECTIONS", 700)
	export := scratch(t, "export")
	if err := os.WriteFile(filepath.Join(export, "f"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	origin, p := startOrigin(t, export)
	ctx := context.Background()
	good := native(t, p, "the good one", nil)
	dir := dataDir(t, good)
	before := origin.rss()

	var served atomic.Int64
	var slowest atomic.Int64 // ns
	work := func(n int) error {
		begin := time.Now()
		r, err := good.Open(ctx, rootCred, &nfsup.OpenArgs{Owner: owner("good", n), Access: 3, Dir: dir, Name: "f"})
		if err != nil {
			return err
		}
		if err := good.CompoundAll(ctx, rootCred, []nfs4.Args{&nfs4.PutfhArgs{FH: r.FH}, &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_SIZE)}}, nil); err != nil {
			return err
		}
		if err := good.CloseFile(ctx, owner("good", n), r.FH); err != nil {
			return err
		}
		served.Add(1)
		slowest.Store(max(slowest.Load(), int64(time.Since(begin))))
		return nil
	}
	end := make(chan struct{})
	var client, peers, up sync.WaitGroup
	client.Go(func() {
		for {
			if err := work(0); err != nil {
				t.Errorf("the good client: %v", err)
				return
			}
			select {
			case <-end:
				return
			default:
			}
		}
	})

	hold := make(chan struct{})
	dialing := make(chan struct{}, 64)
	up.Add(count)
	for i := range count {
		m := misfits[i%len(misfits)]
		peers.Go(func() {
			dialing <- struct{}{}
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p))
			<-dialing
			up.Done()
			if err != nil {
				t.Errorf("%s: %v", m.name, err)
				return
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
				t.Error(err)
			}
			if err := m.run(c, hold); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		})
	}
	up.Wait()
	connected := served.Load()
	for range 20 { // while all are there
		if err := work(1); err != nil {
			t.Errorf("the good client: %v", err)
			break
		}
	}
	full, during := origin.rss(), served.Load()
	close(hold)
	peers.Wait()
	close(end)
	client.Wait()
	t.Logf("%d connections: RSS %d MiB before, %d MiB with all of them, %d MiB after; the good client was served %d times while they came, %d while they were there, %d in all, the slowest in %v",
		count, before>>20, full>>20, origin.rss()>>20, connected, during-connected, served.Load(), time.Duration(slowest.Load()).Round(time.Millisecond))
	// A connection costs a reader's and a writer's stack and buffers, and at most a first read of a record.
	if most := before + 64<<20 + int64(count)*32<<10; full > most {
		t.Errorf("RSS of %d bytes, over %d", full, most)
	}
	if err := work(1); err != nil && !t.Failed() {
		t.Errorf("afterwards: %v", err)
	}
}
