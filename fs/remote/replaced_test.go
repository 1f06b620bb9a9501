package remote

import (
	"context"
	"testing"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

// TestAnotherDirectoryInItsPlace: the origin comes back with another directory, or file system, under the path. The
// root is that one from then on, and handles of the first are stale.
func TestAnotherDirectoryInItsPlace(t *testing.T) {
	f := newFake()
	f.add(f.root, "f", nfs4.NF4REG)
	r := newRig(t, f, nil)
	ctx := context.Background()
	old := r.root()
	file, _, err := r.Lookup(ctx, alice, old, "f")
	r.must(err)
	f.behind(func() {
		f.files = map[nfs4.FH]*fakeFile{}
		f.root = f.add(nil, "", nfs4.NF4DIR)
		f.add(f.root, "g", nfs4.NF4REG)
	})
	r.originChanged()
	r.hunts.Wait()
	if r.root() == old {
		t.Fatal("the root is what it was")
	}
	if _, _, err := r.Lookup(ctx, alice, r.root(), "g"); err != nil {
		t.Error(err)
	}
	if _, _, err := r.Lookup(ctx, alice, r.root(), "f"); fs.CodeOf(err) != fs.NoEnt {
		t.Errorf("a file that is not there any more: %v", err)
	}
	for _, h := range []fs.Handle{old, file} {
		if _, err := r.GetAttr(ctx, alice, h); fs.CodeOf(err) != fs.Stale {
			t.Errorf("a handle of what was replaced: %v", err)
		}
	}
	again := r.root()
	r.originChanged()
	r.hunts.Wait()
	if r.root() != again {
		t.Error("a restart without a replacement changed the root")
	}
}

// TestAHandleThatNamesAnotherFile: an origin takes a filehandle of before for another file, which it should call
// stale. The short handles that are not in the map are caught where attributes are known.
func TestAHandleThatNamesAnotherFile(t *testing.T) {
	f := newFake()
	x := f.add(f.root, "f", nfs4.NF4REG)
	r := newRig(t, f, nil)
	ctx := context.Background()
	h, _, err := r.Lookup(ctx, alice, r.root(), "f")
	r.must(err)
	r.originChanged()
	r.hunts.Wait()
	if _, err := r.GetAttr(ctx, alice, h); err != nil {
		t.Fatalf("the same file after a restart: %v", err)
	}
	f.behind(func() { x.id += 1000 })
	r.originChanged()
	r.hunts.Wait()
	for range 2 {
		if _, err := r.GetAttr(ctx, alice, h); fs.CodeOf(err) != fs.Stale {
			t.Errorf("another file under the handle: %v", err)
		}
	}
}
