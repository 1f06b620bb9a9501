package coherence

import (
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	h := New()
	h.Begin("f", 0, 2, 1, false)()
	mid := h.Now()
	two := h.Begin("f", 0, 1, 2, false)
	under := h.Now()
	two()
	after := h.Now()
	h.Begin("f", 1, 2, 3, true)()
	last := h.Now()
	const hour = time.Hour
	for _, c := range []struct {
		name  string
		block int
		v     uint64
		began int64
		slack time.Duration
		ok    bool
	}{
		{"what was written before", 0, 1, mid, 0, true},
		{"old and new while the write is under way", 0, 1, under, 0, true},
		{"the new one while it is under way", 0, 2, under, 0, true},
		{"the old one after it", 0, 1, after, 0, false},
		{"the old one after it, within the age", 0, 1, after, hour, true},
		{"what was never there", 0, 3, last, hour, false},
		{"an own write is seen at once, whatever the age", 1, 1, last, hour, false},
		{"before the own write", 1, 1, after, 0, true},
	} {
		if err := h.Judge("f", c.block, c.v, c.began, c.slack); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	b := Fill(make([]byte, 16), 3)
	if err := h.JudgeAll("f", BlockSize, b, last, 0); err != nil {
		t.Error(err)
	}
	b[15] ^= 1
	if h.JudgeAll("f", BlockSize, b, last, 0) == nil {
		t.Error("a torn word is taken")
	}
}
