package nfsup

import (
	"errors"
	"slices"
	"testing"
	"time"

	"holdfast/internal/nfs4"
)

// The server forgot us and is not in grace. An open without a deny mode is made anew, and its owner need not know;
// the lock under it is lost and told, and a write that was on its way under the lock is not made (I2).
func TestOpenIsMadeAnew(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		var w witness
		c := dial(func(cfg *Config) { cfg.Events = w.events() })
		ctx := t.Context()
		for i := range 3 { // 0: plain, 1: with a lock, 2: with a deny mode
			_, err := c.Open(ctx, root, openFH("f", i, 2, 0))
			must(t, err)
		}
		_, err := c.Open(ctx, root, openFH("g", 2, 2, 1))
		must(t, err)
		must(t, c.Lock(ctx, root, lockOf("f", 1, 101, 0, 9)))
		s.mu.Lock()
		s.down = true
		s.mu.Unlock()
		s.restart(false)
		under, plain := make(chan error), make(chan error)
		go func() { under <- write(ctx, c, owner(1), owner(101), "f", 0, nil) }()
		go func() { plain <- write(ctx, c, owner(0), owner(100), "f", 0, nil) }()
		time.Sleep(time.Minute)
		s.mu.Lock()
		s.down = false
		s.mu.Unlock()
		if err := <-under; !errors.Is(err, ErrNoState) {
			t.Errorf("a write under the lost lock: %v", err)
		}
		must(t, <-plain)
		if err := write(ctx, c, owner(1), owner(101), "f", 0, nil); !errors.Is(err, ErrNoState) {
			t.Errorf("one after it: %v", err)
		}
		must(t, write(ctx, c, owner(1), UpOwner{}, "f", 0, nil))
		if len(w.revoked) != 2 {
			t.Fatalf("%+v", w.revoked)
		}
		for _, r := range w.revoked {
			wantStatus(t, r.Why, nfs4.NFS4ERR_NO_GRACE)
			if r.Kind == KindOpen && r.FH != "g" || r.Kind == KindLock && (r.LockOwner != owner(101) || r.FH != "f") {
				t.Errorf("lost: %+v", r)
			}
		}
		if r := w.recovered[0]; r.Reopened != 3 || r.LostOpens != 1 || r.LostLocks != 1 || r.Opens+r.Locks != 0 || !r.Completed {
			t.Errorf("%+v", r)
		}
		if got := s.held(owner(101), "f"); len(got) != 0 {
			t.Errorf("the lock was taken again: %v (I1)", got)
		}
		if access, deny, ok := s.openOf(owner(0), "f"); !ok || access != 2 || deny != 0 {
			t.Errorf("the server has %d/%d, %v", access, deny, ok)
		}

		// A new lock makes the owner whole.
		must(t, c.Lock(ctx, root, lockOf("f", 1, 101, 0, 9)))
		must(t, write(ctx, c, owner(1), owner(101), "f", 0, nil))
		if got := s.held(owner(101), "f"); !slices.Equal(got, RangeSet{{Range{0, 9}, true}}) {
			t.Errorf("held: %v", got)
		}
	})
}

// A lock that alone was revoked takes with it what was on its way under it, though the open lives (I2).
func TestWriteUnderRevokedLock(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		var w witness
		c := dial(func(cfg *Config) { cfg.Events = w.events() })
		ctx := t.Context()
		_, err := c.Open(ctx, root, openFH("f", 1, 2, 0))
		must(t, err)
		must(t, c.Lock(ctx, root, lockOf("f", 1, 101, 0, 9)))
		s.mu.Lock()
		for _, l := range s.locks {
			l.revoked = true
		}
		s.mu.Unlock()
		s.before = func(a nfs4.Args) nfs4.Status {
			switch a := a.(type) {
			case *nfs4.WriteArgs:
				if l := s.findLock(a.Stateid.Other); l != nil && l.revoked {
					return nfs4.NFS4ERR_ADMIN_REVOKED
				}
			}
			return nfs4.NFS4_OK
		}
		err = write(ctx, c, owner(1), owner(101), "f", 0, nil)
		if err == nil {
			t.Error("the write was made under the open")
		}
		if len(w.revoked) != 1 || w.revoked[0].Kind != KindLock {
			t.Errorf("%+v", w.revoked)
		}
		must(t, write(ctx, c, owner(1), UpOwner{}, "f", 0, nil))
	})
}
