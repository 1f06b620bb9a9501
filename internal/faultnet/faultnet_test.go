package faultnet

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return ln.Addr().String()
}

func link(t *testing.T) (*Link, func() net.Conn) {
	t.Helper()
	l, err := Listen(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, func() net.Conn {
		c, err := net.Dial("tcp", l.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
}

// says sends a word and wants it back.
func says(t *testing.T, c net.Conn, word string) {
	t.Helper()
	if _, err := c.Write([]byte(word)); err != nil {
		t.Fatal(err)
	}
	hears(t, c, word)
}

func hears(t *testing.T, c net.Conn, word string) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(word))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != word {
		t.Fatalf("%q %v, want %q", b, err, word)
	}
}

// silent tells that nothing comes for a while.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v", n, err)
	}
}

func ends(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v", n, err)
	}
}

func TestStallHoldsAndDelivers(t *testing.T) {
	for name, f := range map[string]Fault{"up": {StallUp: true}, "down": {StallDown: true}, "both": {StallUp: true, StallDown: true}} {
		t.Run(name, func(t *testing.T) {
			l, dial := link(t)
			c := dial()
			says(t, c, "before")
			l.Set(f)
			if _, err := c.Write([]byte("late")); err != nil {
				t.Fatal(err)
			}
			silent(t, c)
			fresh := dial() // is made, and silent
			if _, err := fresh.Write([]byte("new")); err != nil {
				t.Fatal(err)
			}
			silent(t, fresh)
			l.Set(Fault{})
			hears(t, c, "late")
			hears(t, fresh, "new")
		})
	}
}

func TestCutEndsConnections(t *testing.T) {
	l, dial := link(t)
	c := dial()
	says(t, c, "before")
	l.Set(Fault{Cut: true})
	ends(t, c)
	ends(t, dial())
	l.Set(Fault{})
	says(t, dial(), "after")
}

func TestCutEndsWhatIsStalled(t *testing.T) {
	l, dial := link(t)
	l.Set(Fault{StallUp: true})
	c := dial()
	silent(t, c)
	l.Set(Fault{Cut: true})
	ends(t, c)
}

func TestResetEndsConnectionsOnce(t *testing.T) {
	l, dial := link(t)
	c := dial()
	says(t, c, "before")
	l.Reset()
	ends(t, c)
	says(t, dial(), "after")
}

func TestDelay(t *testing.T) {
	l, dial := link(t)
	c := dial()
	says(t, c, "before")
	const d = 20 * time.Millisecond
	l.Set(Fault{Delay: d})
	begun := time.Now()
	says(t, c, "slow")
	if took := time.Since(begun); took < 2*d {
		t.Errorf("there and back took %v, it cannot be less than %v", took, 2*d)
	}
}

func TestFrozenConnectionsDeliverLate(t *testing.T) {
	l, dial := link(t)
	c := dial()
	says(t, c, "before")
	thaw := l.Freeze()
	if _, err := c.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	silent(t, c)
	says(t, dial(), "new")
	thaw()
	hears(t, c, "late")
}
