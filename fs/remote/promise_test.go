package remote

import (
	"context"
	"errors"
	"testing"

	"holdfast/fs"
	"holdfast/nfsup"
)

// server is who has promised to end clients what the origin promises to us.
type server struct {
	fs.Listener
	recalls chan fs.Handle
}

func (s *server) Recall(file fs.Handle, _ bool) { s.recalls <- file }

// promisedRig has a file that an end client was delegated, under the open of end.
func promisedRig(t *testing.T) (*delegRig, *server, fs.Owner) {
	d := newDelegRig(t)
	s := &server{d.l, make(chan fs.Handle, 4)}
	d.Subscribe(s)
	end := own("end", "delegation")
	if d.Delegates(d.h, false) {
		t.Error("a file that was never opened is delegated")
	}
	d.must(d.byHandle(end, alice, fs.ShareRead))
	if !d.Delegates(d.h, false) || d.Delegates(d.h, true) {
		t.Error("for reading, where the origin has delegated the file, and never for writing")
	}
	if err := d.Delegate(t.Context(), end, d.h, true, false); !errors.Is(err, fs.NotSupp) {
		t.Errorf("for writing: %v", err)
	}
	if err := d.Delegate(t.Context(), end, d.h, false, true); !errors.Is(err, fs.NotSupp) {
		t.Errorf("a promise over a restart: %v", err)
	}
	d.must(d.Delegate(t.Context(), end, d.h, false, false))
	return d, s, end
}

// The origin has its delegation back when end clients have given back what rests on it, and not before (I6).
func TestRecallGoesDownFirst(t *testing.T) {
	d, s, end := promisedRig(t)
	d.g.mu.Lock()
	d.g.held[d.x.fh] = nfsup.DelegNone // as nfsup has it, once it is recalled
	d.g.mu.Unlock()
	d.recalled(d.x.fh, false)
	if h := <-s.recalls; h != d.h {
		t.Errorf("recalled %v", h)
	}
	if err := d.Delegate(t.Context(), own("end2", "delegation"), d.h, false, false); !errors.Is(err, fs.NotSupp) {
		t.Errorf("a promise during the recall: %v", err)
	}
	select {
	case <-d.g.returned:
		t.Fatal("returned to the origin while an end client has it")
	default:
	}
	d.shut(end)
	if fh := <-d.g.returned; fh != d.x.fh {
		t.Errorf("returned %v", fh)
	}
}

// What is lost at the origin is recalled from end clients.
func TestLostDelegationIsRecalled(t *testing.T) {
	d, s, _ := promisedRig(t)
	d.g.take(d.x.fh)
	d.delegLost(d.x.fh)
	if h := <-s.recalls; h != d.h {
		t.Errorf("recalled %v", h)
	}
}

// An application of this host that opens the file to write, or changes it otherwise, waits until end clients have given it
// back, and is told Delay if they do not in time. Who only reads does not wait, nor does an end client.
func TestLocalApplicationsRecall(t *testing.T) {
	d, s, end := promisedRig(t)
	here := fs.From(t.Context(), "mount")
	root := d.Remote.root()
	local := own(fs.LocalClient+"1", "app")
	d.must(d.byHandle(local, alice, fs.ShareRead))
	d.shut(local)
	size, mode := uint64(0), uint32(0o600)
	d.must(d.byHandle(own("end", "writer"), alice, fs.ShareBoth))
	for name, change := range map[string]func() error{
		"open by name":   func() error { return d.byName(local, alice, fs.ShareBoth, 0) },
		"open by handle": func() error { return d.byHandle(local, alice, fs.ShareWrite) },
		"truncate": func() error {
			_, err := d.SetAttr(here, alice, fs.IORef{Handle: d.h}, &fs.SetAttr{Size: &size})
			return err
		},
		"chmod": func() error {
			_, err := d.SetAttr(here, alice, fs.IORef{Handle: d.h}, &fs.SetAttr{Mode: &mode})
			return err
		},
		"write": func() error { // it had the file open before
			_, err := d.Write(here, alice, fs.IORef{Handle: d.h, Open: own("end", "writer")}, 0, []byte("x"), fs.Unstable)
			return err
		},
		"remove":  func() error { _, err := d.Remove(here, alice, root, "f", fs.RemoveFile); return err },
		"rename":  func() error { _, _, err := d.Rename(here, alice, root, "f", root, "g"); return err },
		"replace": func() error { _, _, err := d.Rename(here, alice, root, "g", root, "f"); return err },
		"link":    func() error { _, err := d.Link(here, alice, d.h, root, "g"); return err },
		"xattr": func() error {
			_, err := d.SetXattr(here, alice, d.h, "user.x", nil, fs.XattrEither)
			return err
		},
		"acl": func() error { return d.SetACL(here, alice, d.h, nil) },
	} {
		got := make(chan error, 1)
		go func() { got <- change() }()
		<-s.recalls
		d.clock.Advance(localPatience)
		if err := <-got; !errors.Is(err, fs.Delay) {
			t.Errorf("%s: %v", name, err)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := d.beforeLocal(ctx, d.h); !errors.Is(err, fs.Interrupted) {
			t.Errorf("interrupted: %v", err)
		}
		<-s.recalls
	}
	_, err := d.SetAttr(t.Context(), alice, fs.IORef{Handle: d.h}, &fs.SetAttr{Mode: &mode})
	d.must(err) // its server has asked already
	got := make(chan error, 1)
	go func() { got <- d.byName(local, alice, fs.ShareBoth, 0) }()
	<-s.recalls
	d.shut(end)
	d.must(<-got)
	// Nothing is promised while a change is under way.
	done, err := d.localChange(here, alice, d.h, "")
	d.must(err)
	if err := d.Delegate(t.Context(), end, d.h, false, false); !errors.Is(err, fs.NotSupp) {
		t.Errorf("a promise during a change: %v", err)
	}
	done()
	d.must(d.Delegate(t.Context(), end, d.h, false, false))
}
