package relay

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// long joins two pipes by a relay and gives the outer ends.
func long(r *Relay) (a, b net.Conn) {
	a, a1 := net.Pipe()
	b1, b := net.Pipe()
	go r.Join(context.Background(), a1, b1)
	return a, b
}

func TestRoundTripTakesTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Relay{}
		r.SetRTT(10 * time.Millisecond)
		a, b := long(r)
		go func() { _, _ = io.Copy(b, b) }() // ends when b does
		start := time.Now()
		buf := make([]byte, 5)
		if _, err := a.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("a write took %v", d)
		}
		if _, err := io.ReadFull(a, buf); err != nil || string(buf) != "hello" {
			t.Fatalf("%q %v", buf, err)
		}
		if d := time.Since(start); d != 10*time.Millisecond {
			t.Errorf("the round trip took %v", d)
		}
		_, _ = a.Close(), b.Close()
	})
}

// Many messages that are on their way at once arrive as fast as they were sent.
func TestDelayIsNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Relay{}
		r.SetRTT(100 * time.Millisecond)
		a, b := long(r)
		sent := make([]byte, 8<<20)
		for i := range sent {
			sent[i] = byte(rand.Uint32())
		}
		start := time.Now()
		go func() {
			for i := 0; i < len(sent); i += 1 << 16 {
				if _, err := a.Write(sent[i : i+1<<16]); err != nil {
					t.Error(err)
				}
			}
			_ = a.Close()
		}()
		got, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes of %d arrived as they were, %v", len(got), len(sent), err)
		}
		if d := time.Since(start); d != 50*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		_ = b.Close()
	})
}

func TestEndOfEitherSideEndsBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := long(&Relay{})
		_ = b.Close()
		if _, err := io.ReadAll(a); err != nil {
			t.Errorf("%v", err)
		}
		_ = a.Close()
	})
}

func TestServe(t *testing.T) {
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := target.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c) // the test sees what is missing
				_ = c.Close()
			}()
		}
	}()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &Relay{Target: target.Addr().String()}
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("through")); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "through" {
		t.Errorf("%q %v", got, err)
	}
	_ = c.Close()
	open, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	_, _ = io.ReadAll(open) // returns: an end and a reset are equally good
	_, _ = open.Close(), target.Close()
}
