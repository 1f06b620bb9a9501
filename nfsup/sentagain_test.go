package nfsup

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"holdfast/internal/nfs4"
)

// byName is openFH by name: the fake's files have names.
func byName(a *OpenArgs) *OpenArgs {
	a.Name, a.Dir, a.FH = string(a.FH[len("fh-"):]), "root", ""
	return a
}

// An OPEN that was granted, and whose answer was lost with the session, is sent again and must not be denied by
// itself; nor may anything stay at the server that the tables do not know.
func TestAnOpenIsNotDeniedByItself(t *testing.T) {
	for name, ask := range map[string]func(*OpenArgs) *OpenArgs{"by handle": func(a *OpenArgs) *OpenArgs { return a }, "by name": byName} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
				s.ownDeny = true
				c := dial()
				var lost atomic.Bool
				s.after = func(ops []nfs4.Args) bool {
					if slices.ContainsFunc(ops, func(a nfs4.Args) bool { return a.Op() == nfs4.OP_OPEN }) && lost.CompareAndSwap(false, true) {
						s.loseSessions()
						return false
					}
					return true
				}
				r, err := c.Open(t.Context(), root, ask(openFH("fh-f", 1, 3, 3)))
				must(t, err)
				if r.FH != "fh-f" || !lost.Load() {
					t.Errorf("%q, lost %v", r.FH, lost.Load())
				}
				if a, d, ok := s.openOf(owner(1), "fh-f"); !ok || a != 3 || d != 3 {
					t.Errorf("the server has %d %d %v", a, d, ok)
				}
				must(t, c.CloseFile(t.Context(), owner(1), "fh-f"))
				if _, _, ok := s.openOf(owner(1), "fh-f"); ok {
					t.Error("still open")
				}
			})
		})
	}
}

// The same of an OPEN of the incarnation that died, of which nothing was written down.
func TestAnOpenIsNotDeniedByTheLastIncarnation(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.ownDeny = true
		n := newNotebook()
		c := dial(n.boot(false, 1))
		must(t, c.ReclaimComplete(t.Context()))
		before := n.copied()
		_, err := c.Open(t.Context(), root, openFH("f", 1, 3, 3))
		must(t, err)
		synctest.Wait()
		c.Abandon()
		before.id = n.id
		c = dial(before.boot(true, 2))
		must(t, c.ReclaimComplete(t.Context()))
		_, err = c.Open(t.Context(), root, openFH("f", 2, 1, 0))
		wantStatus(t, err, nfs4.NFS4ERR_SHARE_DENIED)
		if _, _, ok := s.openOf(owner(2), "f"); ok {
			t.Error("a refused open is at the server")
		}
		_, err = c.Open(t.Context(), root, openFH("f", 1, 1, 2))
		must(t, err)
		if a, d, _ := s.openOf(owner(1), "f"); a != 1 || d != 2 {
			t.Errorf("the server has %d %d", a, d)
		}
	})
}

// What the tables have already is the answer, whatever the server thinks of asking twice. It counts as claimed: the
// end of grace does not give it back.
func TestAnOpenThatIsThereIsTheAnswer(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.ownDeny = true
		n := newNotebook()
		c := dial(n.boot(false, 1))
		must(t, c.ReclaimComplete(t.Context()))
		_, err := c.Open(t.Context(), root, openFH("fh-f", 1, 3, 3))
		must(t, err)
		_, err = c.Open(t.Context(), root, openFH("fh-g", 1, 1, 2))
		must(t, err)
		synctest.Wait()
		c.Abandon()
		c = dial(n.boot(true, 2))
		_, err = c.Open(t.Context(), root, openFH("fh-f", 1, 1, 2))
		must(t, err)
		r, err := c.Open(t.Context(), root, byName(openFH("fh-f", 1, 2, 1)))
		must(t, err)
		if r.FH != "fh-f" {
			t.Errorf("%q", r.FH)
		}
		must(t, c.ReclaimComplete(t.Context()))
		if a, d, _ := s.openOf(owner(1), "fh-f"); a != 3 || d != 3 {
			t.Errorf("the server has %d %d", a, d)
		}
		if _, _, ok := s.openOf(owner(1), "fh-g"); ok {
			t.Error("what nobody claimed is still open")
		}
	})
}
