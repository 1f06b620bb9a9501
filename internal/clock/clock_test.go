package clock

import (
	"slices"
	"testing"
	"time"
)

func TestFakeFiresInOrder(t *testing.T) {
	start := time.Unix(1000, 0)
	c := NewFake(start)
	var got []string
	c.AfterFunc(3*time.Second, func() { got = append(got, "c") })
	c.AfterFunc(1*time.Second, func() {
		got = append(got, "a@"+c.Now().Sub(start).String())
		c.AfterFunc(time.Second, func() { got = append(got, "nested@"+c.Now().Sub(start).String()) })
	})
	stopped := c.AfterFunc(2*time.Second, func() { got = append(got, "stopped") })
	late := c.AfterFunc(time.Minute, func() { got = append(got, "late") })
	c.AfterFunc(3*time.Second, func() { got = append(got, "d") })
	if !stopped.Stop() || stopped.Stop() {
		t.Error("Stop must tell whether it cancelled the call")
	}
	c.Advance(3 * time.Second)
	if want := []string{"a@1s", "nested@2s", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if c.Now() != start.Add(3*time.Second) || c.Pending() != 1 {
		t.Errorf("now %v, pending %d", c.Now(), c.Pending())
	}
	if !late.Stop() || c.Pending() != 0 {
		t.Error("a pending timer was not stopped")
	}
}

func TestFakeDueAtOnce(t *testing.T) {
	c := NewFake(time.Unix(0, 0))
	n := 0
	timer := c.AfterFunc(-time.Second, func() { n++ })
	c.Advance(0)
	if n != 1 || timer.Stop() {
		t.Errorf("called %d times", n)
	}
}

func TestReal(t *testing.T) {
	done := make(chan struct{})
	Real.AfterFunc(0, func() { close(done) })
	<-done
	if Real.Now().IsZero() {
		t.Error("no time")
	}
}
