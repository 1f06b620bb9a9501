//go:build linux

package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/fs"
)

// recaller hears recalls.
type recaller struct {
	nobody
	recalls chan fs.Handle
}

func (r *recaller) Recall(file fs.Handle, _ bool) { r.recalls <- file }

// nobody hears nothing.
type nobody struct{}

func (nobody) LockAvailable(fs.Handle, fs.Owner, fs.Range)     {}
func (nobody) Changed(fs.Handle)                               {}
func (nobody) Revoked(fs.Owner, fs.Handle, fs.RangeSet, error) {}

// leased is a file that is open for reading by owner.
func leased(t *testing.T, policy DelegatePolicy) (b *Backend, path string, owner fs.Owner, h fs.Handle, heard *recaller) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("one"), 0o666); err != nil {
		t.Fatal(err)
	}
	x, err := New(t.Context(), Config{Dir: dir, StateDir: t.TempDir(), Unprivileged: os.Getuid() != 0, Delegate: policy})
	if err != nil {
		t.Fatal(err)
	}
	b = x.(*Backend)
	heard = &recaller{recalls: make(chan fs.Handle, 4)}
	b.Subscribe(heard)
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	root, err := b.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	owner = fs.Owner{Client: "c", Owner: "delegation"}
	out, err := b.Open(t.Context(), fs.Root, &fs.OpenRequest{Owner: owner, Access: fs.ShareRead, Dir: root, Name: "f"})
	if err != nil {
		t.Fatal(err)
	}
	return b, path, owner, out.File, heard
}

// A program of this host that wants to write to a file that is delegated waits until it has come back: fcntl(2).
func TestLeaseHoldsWritersBack(t *testing.T) {
	b, path, owner, h, heard := leased(t, DelegateLeases)
	if err := b.Delegate(t.Context(), owner, h, false, false); err != nil {
		t.Skip("no leases here:", err)
	}
	other := fs.Owner{Client: "d", Owner: "delegation"}
	if _, err := b.Open(t.Context(), fs.Root, &fs.OpenRequest{Owner: other, Access: fs.ShareRead, File: h}); err != nil {
		t.Fatal(err)
	}
	if err := b.Delegate(t.Context(), other, h, false, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() { wrote <- os.WriteFile(path, []byte("two"), 0o666) }()
	select {
	case got := <-heard.recalls:
		if got != h {
			t.Errorf("recalled %v", got)
		}
	case err := <-wrote:
		t.Fatalf("written without a recall: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("no recall")
	}
	for _, o := range []fs.Owner{owner, other} {
		select {
		case err := <-wrote:
			t.Fatalf("written while it was delegated: %v", err)
		default:
		}
		if err := b.CloseFile(t.Context(), o, h); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}

// What this server opens for writing itself does not wait for its own lease; whoever still relies on it is asked.
func TestLeaseYieldsToServer(t *testing.T) {
	b, _, owner, h, heard := leased(t, DelegateLeases)
	if err := b.Delegate(t.Context(), owner, h, false, false); err != nil {
		t.Skip("no leases here:", err)
	}
	writer := fs.Owner{Client: "c", Owner: "writer"}
	if _, err := b.Open(t.Context(), fs.Root, &fs.OpenRequest{Owner: writer, Access: fs.ShareBoth, File: h}); err != nil {
		t.Fatal(err)
	}
	if got := <-heard.recalls; got != h {
		t.Errorf("recalled %v", got)
	}
	if err := b.Delegate(t.Context(), owner, h, false, false); err == nil {
		t.Error("a lease beside somebody who writes")
	}
}

func TestDelegatePolicies(t *testing.T) {
	b, path, owner, h, _ := leased(t, DelegateLeases)
	for _, x := range []struct{ write, reclaim bool }{{true, false}, {false, true}} {
		if err := b.Delegate(t.Context(), owner, h, x.write, x.reclaim); err == nil {
			t.Errorf("with leases: %+v", x)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Delegate(t.Context(), owner, h, false, false); err == nil {
		t.Error("delegated while a program has it open for writing")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b, _, owner, h, _ = leased(t, DelegateNever)
	if err := b.Delegate(t.Context(), owner, h, false, false); !errors.Is(err, fs.NotSupp) {
		t.Errorf("never: %v", err)
	}
	b, _, owner, h, _ = leased(t, DelegateExclusive)
	if err := b.Delegate(t.Context(), owner, h, true, true); err != nil || !b.Delegates(h, true) {
		t.Errorf("exclusive: %v", err)
	}
}
