//go:build linux

package local

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"holdfast/fs"
)

func openTestTable(t testing.TB, path string) *table {
	t.Helper()
	tab, err := openTable(path, ident{ino: 2, birth: 3}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// image is what a table knows.
func image(t *table) map[uint64]tableEntry {
	m := make(map[uint64]tableEntry)
	for id, e := range t.byID {
		m[id] = tableEntry{e.ident, append([]link{}, e.links...)}
	}
	return m
}

func fillTable(t testing.TB, tab *table) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(20) {
		id, fresh, err := tab.add(ident{100 + i, int64(i)}, rootID, fmt.Sprint("f", i))
		must(err)
		if !fresh || id <= rootID {
			t.Fatalf("id %d, fresh %v", id, fresh)
		}
		switch i % 4 {
		case 1:
			_, _, err = tab.add(ident{100 + i, int64(i)}, id, "second")
		case 2:
			err = tab.unlinked(id, rootID, fmt.Sprint("f", i), i%8 == 2)
		case 3:
			err = tab.changed(id, ident{1000 + i, 7})
		}
		must(err)
	}
	must(tab.sync(t.Context()))
}

func TestTableSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handles")
	tab := openTestTable(t, path)
	fillTable(t, tab)
	want, next := image(tab), tab.next
	if err := tab.close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again := openTestTable(t, path)
	if got := image(again); !reflect.DeepEqual(got, want) || again.next != next {
		t.Errorf("next %d, want %d\n%v\nwant\n%v", again.next, next, got, want)
	}
	if err := again.close(); err != nil {
		t.Fatal(err)
	}
	// Torn at any byte, it opens with what was whole, and goes on.
	for cut := range len(whole) {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		torn := openTestTable(t, path)
		id, _, err := torn.add(ident{9999, 9}, rootID, "after")
		if err != nil {
			t.Fatal(err)
		}
		if err := torn.close(); err != nil {
			t.Fatal(err)
		}
		last := openTestTable(t, path)
		if got, ok := last.idOf(ident{9999, 9}); !ok || got != id {
			t.Fatalf("cut at %d: what was added afterwards is %d %v, want %d", cut, got, ok, id)
		}
		if err := last.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Ids are never used again, not even after the log was rewritten: an old handle would lead to a new
// file.
func TestTableRewriteKeepsIds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handles")
	tab := openTestTable(t, path)
	var last uint64
	for i := range uint64(3000) {
		id, _, err := tab.add(ident{100 + i, 1}, rootID, "f")
		if err != nil {
			t.Fatal(err)
		}
		if err := tab.unlinked(id, rootID, "f", true); err != nil {
			t.Fatal(err)
		}
		last = id
	}
	if err := tab.close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		again := openTestTable(t, path)
		if again.next <= last {
			t.Errorf("the next id is %d, and %d was given out", again.next, last)
		}
		if err := again.close(); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Size() > 1000 {
		t.Errorf("the log was not rewritten: %v %v", st.Size(), err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add((&record{opSeen, 5, ident{6, -7}, link{8, "name"}}).encode(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		r, n, err := readRecord(bytes.NewReader(p))
		if err != nil {
			if err != io.EOF && err != errTorn {
				t.Error(err)
			}
			return
		}
		if again := r.encode(nil); !bytes.Equal(again, p[:n]) {
			t.Errorf("%x comes back as %x", p[:n], again)
		}
	})
}

// A program of this host renames a file: by the table it is Stale until it is looked up again, and
// never another file.
func TestTableAndLocalRenames(t *testing.T) {
	b, base := world(t, Config{HandleTable: true})
	mustWrite(t, base+"/export/a", "a")
	mustWrite(t, base+"/export/b", "b")
	a, bb := lookup(t, b, b.rootHandle, "a"), lookup(t, b, b.rootHandle, "b")
	read := func(h fs.Handle, io fs.IORef) string {
		buf := make([]byte, 9)
		io.Handle = h
		n, _, err := b.Read(t.Context(), rootCred, io, 0, buf)
		if err != nil {
			return fs.CodeOf(err).String()
		}
		return string(buf[:n])
	}
	if err := os.Rename(base+"/export/a", base+"/export/c"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(base+"/export/b", base+"/export/a"); err != nil {
		t.Fatal(err)
	}
	if got := read(a, fs.IORef{}); got != "STALE" {
		t.Errorf("the moved file: %s", got)
	}
	if h := lookup(t, b, b.rootHandle, "c"); h != a {
		t.Error("found again, it has another handle")
	}
	if got := read(a, fs.IORef{}); got != "a" {
		t.Errorf("the moved file, found again: %s", got)
	}
	// One that is open is not lost.
	if h := lookup(t, b, b.rootHandle, "a"); h != bb {
		t.Error("the other file has another handle")
	}
	if _, err := b.Open(t.Context(), rootCred, &fs.OpenRequest{Owner: owner("o"), Access: 1, File: bb}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(base+"/export/a", base+"/export/dir/moved"); err != nil {
		t.Fatal(err)
	}
	if got := read(bb, fs.IORef{Open: owner("o")}); got != "b" {
		t.Errorf("the open file: %s", got)
	}
	if _, err := b.GetAttr(t.Context(), rootCred, bb); err != nil {
		t.Errorf("the open file: %v", err)
	}
}
