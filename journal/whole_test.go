package journal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/fs"
)

// wholeOf opens the journal in dir as the next boot would, and closes it again.
func wholeOf(t *testing.T, dir string, with func(*Journal)) *Snapshot {
	t.Helper()
	j, _, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := j.Load()
	if err != nil {
		t.Fatal(err)
	}
	if with != nil {
		with(j)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

func commitIn(t *testing.T, fill func(*Batch)) func(*Journal) {
	return func(j *Journal) {
		t.Helper()
		b := &Batch{}
		fill(b)
		if err := j.Commit(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWholeIsWhatTheLastIncarnationWroteUnderTheSameKernel(t *testing.T) {
	grant := func(b *Batch) { b.PutClient(&Client{Owner: "c", Epoch: 1}) }
	rewriteMark := func(change func(*mark)) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			m, _, err := readMark(dir)
			if err != nil {
				t.Fatal(err)
			}
			change(&m)
			if err := os.WriteFile(filepath.Join(dir, markName), m.encode(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		between func(t *testing.T, dir string)
		why     string // of what Partial says; empty: whole
	}{
		"a restart":                  {func(*testing.T, string) {}, ""},
		"a reboot of the kernel":     {rewriteMark(func(m *mark) { m.kernel[0]++ }), "host was rebooted"},
		"a mark of an older layout":  {rewriteMark(func(m *mark) { m.layout, m.kernel = 1, [8]byte{} }), "older Holdfast"},
		"a journal that was failing": {rewriteMark(func(m *mark) { m.kernel = [8]byte{} }), "failed"},
		"acknowledged groups gone":   {rewriteMark(func(m *mark) { m.seq += 5 }), "damaged"},
		"a grace that did not end": {func(t *testing.T, dir string) {
			wholeOf(t, dir, commitIn(t, (*Batch).BeginGrace))
		}, "grace"},
		"a grace that ended": {func(t *testing.T, dir string) {
			wholeOf(t, dir, func(j *Journal) {
				commitIn(t, (*Batch).BeginGrace)(j)
				commitIn(t, func(b *Batch) { b.EndGrace(j.Epoch()) })(j)
			})
		}, ""},
		// What one boot found must not be forgotten by the next, if nothing came of it.
		"a reboot of the kernel, and then a restart": {func(t *testing.T, dir string) {
			rewriteMark(func(m *mark) { m.kernel[0]++ })(t, dir)
			wholeOf(t, dir, nil)
		}, "grace"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if s := wholeOf(t, dir, commitIn(t, grant)); !s.Whole {
				t.Fatalf("a new journal is not whole: %s", s.Partial)
			}
			c.between(t, dir)
			s := wholeOf(t, dir, nil)
			if s.Whole != (c.why == "") || !strings.Contains(s.Partial, c.why) {
				t.Errorf("whole %v, %q; want %q", s.Whole, s.Partial, c.why)
			}
		})
	}
}

func TestAFailedJournalIsNotWhole(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("no disk")
	j, _, err := Open(dir, Options{BeforeCommit: func(seq uint64) error { return broken }})
	if err != nil {
		t.Fatal(err)
	}
	b := &Batch{}
	b.PutClient(&Client{Owner: "c", Epoch: 1})
	if err := j.Write(context.Background(), b); !errors.Is(err, broken) {
		t.Fatalf("write: %v", err)
	}
	if err := j.Close(); !errors.Is(err, broken) {
		t.Fatalf("close: %v", err)
	}
	if s := wholeOf(t, dir, nil); s.Whole {
		t.Error("the next boot takes it for whole")
	}
}

func TestRecordsOfLayoutOneAreRead(t *testing.T) {
	o := fs.Owner{Client: "c", Owner: "o"}
	for _, c := range []struct {
		full any
		cut  int // bytes that version 1 did not have, when they are zero
	}{
		{&Client{Owner: "c", Epoch: 3, Since: since}, 3},
		{&OpenRecord{Owner: o, File: "f", Access: fs.ShareRead, Epoch: 3, Since: since}, 8},
		{&Lock{Owner: o, OpenOwner: o, File: "f", Epoch: 3, Since: since}, 4},
		{&head{seq: 1, epoch: 3, firstEvent: 7, nextEvent: 8}, 1},
	} {
		key, value, err := encodeRecord(c.full)
		if err != nil {
			t.Fatal(err)
		}
		old := bytes.Clone(value[:len(value)-c.cut])
		old[0] = 1
		got, err := decodeRecord(key, old)
		if err != nil {
			t.Errorf("%T: %v", c.full, err)
			continue
		}
		_, again, err := encodeRecord(got)
		if err != nil || !bytes.Equal(again, value) {
			t.Errorf("%T: %v, %x, want %x", c.full, err, again, value)
		}
	}
}

func TestWriteIsThereAfterAKill(t *testing.T) {
	dir := t.TempDir()
	j, _, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	put, del := &Batch{}, &Batch{}
	put.PutClient(&Client{Owner: "c", Epoch: 1})
	if err := j.Commit(context.Background(), put); err != nil {
		t.Fatal(err)
	}
	del.DeleteClient("c")
	if err := j.Post(del); err != nil {
		t.Fatal(err)
	}
	if err := j.Write(context.Background(), &Batch{}); err != nil {
		t.Fatal(err)
	}
	// What another process would find now, if this one were killed.
	in, err := inspect(filepath.Join(dir, dbName), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range in.collect(true) {
		if e.key[0] == kindClient {
			t.Error("the deletion is not in the log")
		}
	}
}
