package nfsup

import (
	"testing"
	"testing/synctest"

	"holdfast/internal/nfs4"
)

func wantFH(fh nfs4.FH, o int, want DelegKind) *OpenArgs {
	a := openFH(fh, o, 1, 0)
	a.Want = want
	return a
}

// recalls is a server's recall of what it has given.
func (s *fake) recall(c *Client, seq uint32, fh nfs4.FH) (nfs4.Status, error) {
	d := s.delegOf(fh)
	st, _, err := s.callBack(&nfs4.CBSequenceArgs{SessionID: s.sessionID(c), SequenceID: seq},
		&nfs4.CBRecallArgs{FH: fh, Stateid: d.sid})
	return st, err
}

func TestDelegationIsAskedForHeldAndReturned(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.deleg = true
		var told []nfs4.FH
		c := dial(func(cfg *Config) {
			cfg.Events.Recall = func(fh nfs4.FH, _ bool) { told = append(told, fh) }
		})
		for fh, want := range map[nfs4.FH]DelegKind{"n": DelegNone, "r": DelegRead, "w": DelegWrite} {
			_, err := c.Open(t.Context(), root, wantFH(fh, 1, want))
			must(t, err)
			if got := c.Delegated(fh); got != want {
				t.Errorf("%s: %v, want %v", fh, got, want)
			}
		}
		// The same again does not make a second one, nor lose the first.
		_, err := c.Open(t.Context(), root, wantFH("r", 2, DelegRead))
		must(t, err)
		if n := len(c.Delegations()); n != 2 || !c.LeaseValid() {
			t.Errorf("%d delegations, lease valid %v", n, c.LeaseValid())
		}
		st, err := s.recall(c, 1, "r")
		if st != nfs4.NFS4_OK || err != nil {
			t.Errorf("CB_RECALL: %v %v", st, err)
		}
		if c.Delegated("r") != DelegNone || len(told) != 1 || told[0] != "r" || s.delegOf("r") == nil {
			t.Errorf("a recalled delegation counts no more, and stays until it is returned: told %v", told)
		}
		must(t, c.ReturnDelegation(t.Context(), "r"))
		must(t, c.ReturnDelegation(t.Context(), "r")) // nothing to do
		if s.delegOf("r") != nil || s.count(nfs4.OP_DELEGRETURN) != 1 {
			t.Errorf("%d DELEGRETURNs", s.count(nfs4.OP_DELEGRETURN))
		}
		must(t, c.Close(t.Context()))
		if s.delegOf("w") != nil {
			t.Error("Close leaves a delegation")
		}
	})
}

// A recall is answered while no request can be sent: all slots wait for the server.
func TestRecallIsAnsweredUnderLoad(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.deleg, s.slots = true, 2
		c := dial(func(cfg *Config) { cfg.Slots = 2 })
		_, err := c.Open(t.Context(), root, wantFH("r", 1, DelegRead))
		must(t, err)
		open := make(chan struct{})
		s.before = func(a nfs4.Args) nfs4.Status {
			if a.Op() == nfs4.OP_CREATE {
				<-open
			}
			return nfs4.NFS4_OK
		}
		done := make(chan error)
		for range 8 {
			go func() {
				done <- c.Compound(t.Context(), root, []nfs4.Args{&nfs4.PutrootfhArgs{}, &nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: "d"}}, nil)
			}()
		}
		synctest.Wait()
		if st, err := s.recall(c, 1, "r"); st != nfs4.NFS4_OK || err != nil {
			t.Errorf("CB_RECALL: %v %v", st, err)
		}
		close(open)
		for range 8 {
			must(t, <-done)
		}
		synctest.Wait()
		if s.delegOf("r") != nil {
			t.Error("without a listener it goes back by itself")
		}
	})
}

// RFC 8881 2.10.6.3: the recall may come before the answer to the OPEN.
func TestRecallThatOvertakesItsOpen(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.deleg = true
		c := dial()
		l := newLatch(nfs4.OP_OPEN)
		s.after = l.after
		opened := make(chan error, 1)
		go func() {
			_, err := c.Open(t.Context(), root, wantFH("r", 1, DelegRead))
			opened <- err
		}()
		<-l.reached
		if st, err := s.recall(c, 1, "r"); st != nfs4.NFS4ERR_DELAY || err != nil {
			t.Errorf("%v %v", st, err)
		}
		close(l.open)
		must(t, <-opened)
		synctest.Wait()
		if c.Delegated("r") != DelegNone || s.delegOf("r") != nil {
			t.Error("it is kept")
		}
	})
}

// One that we do not know, as after mode resume, is given back: somebody waits for it.
func TestRecallOfAnUnknownDelegation(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.deleg = true
		c := dial()
		s.mu.Lock()
		s.delegs = append(s.delegs, &fakeDeleg{fh: "r", typ: nfs4.OPEN_DELEGATE_READ, sid: s.newStateid()})
		s.mu.Unlock()
		if st, err := s.recall(c, 1, "r"); st != nfs4.NFS4ERR_BAD_STATEID || err != nil {
			t.Errorf("%v %v", st, err)
		}
		synctest.Wait()
		if s.delegOf("r") != nil {
			t.Error("it stays at the server")
		}
	})
}

// RFC 8881 10.2.1: after a restart of the server a delegation is reclaimed with an open of its file.
func TestDelegationIsReclaimed(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.deleg = true
		lost := map[nfs4.FH]bool{}
		recovered := make(chan Recovery, 1)
		c := dial(func(cfg *Config) {
			cfg.Events.DelegationLost = func(fh nfs4.FH) { lost[fh] = true }
			cfg.Events.Recovered = func(r Recovery) { recovered <- r }
		})
		for _, fh := range []nfs4.FH{"r", "w", "closed"} {
			want := DelegRead
			if fh == "w" {
				want = DelegWrite
			}
			_, err := c.Open(t.Context(), root, wantFH(fh, 1, want))
			must(t, err)
		}
		_, err := c.Open(t.Context(), root, wantFH("r", 2, DelegRead)) // two opens ask for the one
		must(t, err)
		must(t, c.CloseFile(t.Context(), owner(1), "closed"))
		s.restart(true)
		rec := <-recovered
		if rec.Opens != 3 || rec.LostOpens != 0 {
			t.Errorf("%+v", rec)
		}
		synctest.Wait()
		if c.Delegated("r") != DelegRead || c.Delegated("w") != DelegWrite || !c.LeaseValid() {
			t.Errorf("held: %v", c.Delegations())
		}
		if c.Delegated("closed") != DelegNone || len(lost) != 1 || !lost["closed"] {
			t.Errorf("without an open it cannot be reclaimed, and that is told: %v", lost)
		}
		for _, d := range c.Delegations() {
			if x := s.delegOf(d.FH); x == nil || x.sid.Other != d.Stateid.Other {
				t.Errorf("%s: the stateid is not the server's", d.FH)
			}
		}
	})
}

// A new session of the same client ID loses none; a server without delegations in its grace loses all.
func TestDelegationsOverSessionsAndRefusals(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.deleg = true
		lost := 0
		recovered := make(chan Recovery, 1)
		c := dial(func(cfg *Config) {
			cfg.Events.DelegationLost = func(nfs4.FH) { lost++ }
			cfg.Events.Recovered = func(r Recovery) { recovered <- r }
		})
		_, err := c.Open(t.Context(), root, wantFH("r", 1, DelegRead))
		must(t, err)
		s.loseSessions()
		_, err = c.Open(t.Context(), root, openFH("other", 1, 1, 0))
		must(t, err)
		if c.Delegated("r") != DelegRead || lost != 0 {
			t.Errorf("a lost session took the delegation: %d lost", lost)
		}
		s.deleg = false
		s.restart(true)
		<-recovered
		if c.Delegated("r") != DelegNone || lost != 1 {
			t.Errorf("%v, %d lost", c.Delegated("r"), lost)
		}
	})
}

// RFC 8881 10.2.1, 18.46.3: SEQ4_STATUS_RECALLABLE_STATE_REVOKED, then TEST_STATEID and FREE_STATEID.
func TestRevokedDelegationIsFoundAndFreed(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.deleg = true
		lost := make(chan nfs4.FH, 1)
		c := dial(func(cfg *Config) { cfg.Events.DelegationLost = func(fh nfs4.FH) { lost <- fh } })
		for _, fh := range []nfs4.FH{"a", "b"} {
			_, err := c.Open(t.Context(), root, wantFH(fh, 1, DelegRead))
			must(t, err)
		}
		d := s.delegOf("a")
		s.mu.Lock()
		d.revoked = true
		s.mu.Unlock()
		s.setFlags(nfs4.SEQ4_STATUS_RECALLABLE_STATE_REVOKED)
		must(t, c.Compound(t.Context(), root, []nfs4.Args{&nfs4.PutrootfhArgs{}}, nil))
		if fh := <-lost; fh != "a" {
			t.Errorf("lost %q", fh)
		}
		s.setFlags(0)
		synctest.Wait()
		if s.delegOf("a") != nil || c.Delegated("a") != DelegNone || c.Delegated("b") != DelegRead {
			t.Errorf("held: %v", c.Delegations())
		}
	})
}

func TestCBGetattrOfAWriteDelegation(t *testing.T) {
	story(t, func(t *testing.T, s *fake, dial func(...func(*Config)) *Client) {
		s.deleg = true
		c := dial(func(cfg *Config) {
			cfg.Events.DelegationAttr = func(nfs4.FH) (uint64, uint64, bool) { return 7, 42, true }
		})
		_, err := c.Open(t.Context(), root, wantFH("w", 1, DelegWrite))
		must(t, err)
		_, err = c.Open(t.Context(), root, wantFH("r", 1, DelegRead))
		must(t, err)
		ask := func(seq uint32, fh nfs4.FH) nfs4.CBRes {
			_, res, err := s.callBack(&nfs4.CBSequenceArgs{SessionID: s.sessionID(c), SequenceID: seq},
				&nfs4.CBGetattrArgs{FH: fh, Request: nfs4.Bits(nfs4.FATTR4_CHANGE, nfs4.FATTR4_SIZE, nfs4.FATTR4_MODE)})
			must(t, err)
			return res[1]
		}
		r, ok := ask(1, "w").(*nfs4.CBGetattrRes)
		if !ok || r.Status != nfs4.NFS4_OK || r.Attrs.Change != 7 || r.Attrs.Size != 42 || r.Attrs.Mask.Has(nfs4.FATTR4_MODE) {
			t.Errorf("%+v", r)
		}
		if st := ask(2, "r").Stat(); st != nfs4.NFS4ERR_BADHANDLE {
			t.Errorf("a read delegation: %v", st)
		}
	})
}
