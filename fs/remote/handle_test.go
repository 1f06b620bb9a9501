package remote

import (
	"context"
	"errors"
	"strings"
	"testing"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

func TestHandlesFitNFSv3AndComeBack(t *testing.T) {
	s := newSealer(secret{1})
	for n := 1; n <= nfs4.FHSize; n++ {
		fh := nfs4.FH(strings.Repeat("h", n))
		h, d, long := s.seal(fh)
		if len(h) > maxHandle {
			t.Fatalf("a filehandle of %d bytes makes a handle of %d", n, len(h))
		}
		got, gd, glong, err := s.open(h)
		if err != nil || glong != long || long != (n > maxEmbedded) {
			t.Fatalf("%d bytes: long %v, %v", n, glong, err)
		}
		if !long && got != fh || long && gd != d {
			t.Fatalf("%d bytes: another filehandle came back", n)
		}
		again, _, _ := newSealer(secret{1}).seal(fh)
		if again != h {
			t.Fatalf("%d bytes: after a restart the handle is another", n)
		}
	}
}

func TestForgedHandlesAreRefused(t *testing.T) {
	s := newSealer(secret{1})
	long, _, _ := s.seal(nfs4.FH(strings.Repeat("h", 100)))
	short, _, _ := s.seal("short")
	other, _, _ := newSealer(secret{2}).seal("short")
	bad := []fs.Handle{"", "\x01", other, short + "x", short[:len(short)-1], long[:20], long + "x", fs.Handle(strings.Repeat("\x01", 128))}
	for i := range len(short) {
		b := []byte(short)
		b[i] ^= 1
		bad = append(bad, fs.Handle(b))
	}
	// A digest with the seal of an embedded handle, and the other way round.
	bad = append(bad, "\x01"+long[1:], "\x02"+short[1:])
	for _, h := range bad {
		if _, _, _, err := s.open(h); fs.CodeOf(err) != fs.BadHandle {
			t.Errorf("%x: %v", h, err)
		}
	}
}

func FuzzOpenHandle(f *testing.F) {
	s := newSealer(secret{1})
	h, _, _ := s.seal("filehandle")
	f.Add([]byte(h))
	h, _, _ = s.seal(nfs4.FH(strings.Repeat("h", 100)))
	f.Add([]byte(h))
	f.Fuzz(func(t *testing.T, b []byte) {
		fh, d, long, err := s.open(fs.Handle(b))
		if err != nil {
			return
		}
		var again fs.Handle
		if long {
			again = s.build(kindDigest, d[:])
		} else {
			again, _, _ = s.seal(fh)
		}
		if again != fs.Handle(b) {
			t.Fatalf("%x opens, but seals as %x", b, again)
		}
	})
}

// memStore is a journal's map in memory.
type memStore struct {
	recs    map[digest]journal.HandleMap
	commits int
	err     error
	pending []newHandle
}

func (m *memStore) Handle(d [16]byte) (journal.HandleMap, bool, error) {
	r, ok := m.recs[d]
	return r, ok, nil
}

func (m *memStore) Commit(ctx context.Context, b *journal.Batch) error {
	if m.err != nil {
		return m.err
	}
	m.commits++
	for _, n := range m.pending {
		m.recs[n.digest] = journal.HandleMap{Digest: n.digest, Upstream: []byte(n.fh), FSID: n.id.fsid, FileID: n.id.fileid}
	}
	return nil
}

func (m *memStore) put(t *testing.T, hm *handleMap, list ...newHandle) {
	t.Helper()
	m.pending = list
	if err := hm.put(context.Background(), list); err != nil {
		t.Fatal(err)
	}
}

func TestLongHandlesAreDurableOnceForAWholeReply(t *testing.T) {
	store := &memStore{recs: map[digest]journal.HandleMap{}}
	m := newHandleMap(store)
	var list []newHandle
	for i := range 1000 {
		list = append(list, newHandle{digest{byte(i), byte(i >> 8)}, nfs4.FH("fh"), fileIdent{fileid: uint64(i)}})
	}
	store.put(t, m, list...)
	if store.commits != 1 {
		t.Errorf("%d commits for one reply", store.commits)
	}
	store.put(t, m, list...)
	store.put(t, newHandleMap(store), list...)
	if store.commits != 1 {
		t.Errorf("what is durable was made durable again: %d commits", store.commits)
	}
	store.err = errors.New("disk full")
	err := m.put(context.Background(), []newHandle{{digest{9, 9, 9}, "new", fileIdent{}}})
	if err == nil {
		t.Error("a handle was given out that is not durable")
	}
	if _, err := m.find(context.Background(), digest{9, 9, 9}, nil); fs.CodeOf(err) != fs.Stale {
		t.Errorf("a handle that is not durable is known: %v", err)
	}
}

func TestAWrongMapServesNoOtherFile(t *testing.T) {
	store := &memStore{recs: map[digest]journal.HandleMap{}}
	d, id := digest{1}, fileIdent{fsid: fs.FSID{Major: 1}, fileid: 5}
	first := newHandleMap(store)
	store.put(t, first, newHandle{d, "fh", id})
	ctx := context.Background()
	checks := 0
	says := id
	check := func(context.Context, nfs4.FH) (fileIdent, error) { checks++; return says, nil }

	if _, err := first.find(ctx, d, check); err != nil || checks != 0 {
		t.Errorf("a handle given out by this incarnation: %v, %d checks", err, checks)
	}
	m := newHandleMap(store)
	for range 3 {
		if fh, err := m.find(ctx, d, check); err != nil || fh != "fh" {
			t.Errorf("%q, %v", fh, err)
		}
	}
	if checks != 1 {
		t.Errorf("%d checks in one incarnation, want one", checks)
	}
	m.originChanged()
	says.fileid = 6
	if _, err := m.find(ctx, d, check); fs.CodeOf(err) != fs.Stale {
		t.Errorf("after a change of the origin another file was served: %v", err)
	}
	says.fileid, says.fsid.Major = 5, 2
	if _, err := newHandleMap(store).find(ctx, d, check); fs.CodeOf(err) != fs.Stale {
		t.Errorf("a file of another file system was served: %v", err)
	}
	if _, err := m.find(ctx, digest{7}, check); fs.CodeOf(err) != fs.Stale {
		t.Errorf("a handle that is not in the map: %v", err)
	}
}
