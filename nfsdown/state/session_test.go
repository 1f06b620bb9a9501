package state

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/journal"
)

// The nine cases of RFC 8881 18.35.4.
func TestExchangeIDCases(t *testing.T) {
	type call struct {
		verifier  uint64
		principal string
		update    bool
	}
	tests := []struct {
		name   string
		before func(w *world, c *tester)
		call   call
		want   nfs4.Status
		sameID bool // as before
		conf   bool
	}{
		{"1: a new owner", nil, call{1, "p", false}, nfs4.NFS4_OK, false, false},
		{"2: known, asked again", confirmed, call{1, "p", false}, nfs4.NFS4_OK, true, true},
		{"3: another principal, with state", opened, call{1, "q", false}, nfs4.NFS4ERR_CLID_INUSE, false, false},
		{"3: another principal, lease over", func(w *world, c *tester) {
			opened(w, c)
			w.now = w.now.Add(91 * time.Second)
		}, call{1, "q", false}, nfs4.NFS4_OK, false, false},
		{"4: an unconfirmed one is replaced", func(w *world, c *tester) { w.srv.ExchangeID(c.exchangeArgs(), c.who()) }, call{1, "p", false}, nfs4.NFS4_OK, false, false},
		{"5: another verifier", confirmed, call{2, "p", false}, nfs4.NFS4_OK, false, false},
		{"6: update", confirmed, call{1, "p", true}, nfs4.NFS4_OK, true, true},
		{"7: update of nothing", nil, call{1, "p", true}, nfs4.NFS4ERR_NOENT, false, false},
		{"7: update of an unconfirmed one", func(w *world, c *tester) { w.srv.ExchangeID(c.exchangeArgs(), c.who()) }, call{1, "p", true}, nfs4.NFS4ERR_NOENT, false, false},
		{"8: update with another verifier", confirmed, call{2, "p", true}, nfs4.NFS4ERR_NOT_SAME, false, false},
		{"9: update by another principal", confirmed, call{1, "q", true}, nfs4.NFS4ERR_PERM, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, Config{CourtesyLimit: time.Hour})
			c := w.client("alice")
			c.principal = "p"
			if tt.before != nil {
				tt.before(w, c)
			}
			was := uint64(0)
			if c.c != nil {
				was = c.c.ID()
			}
			c.verifier = tt.call.verifier
			a := c.exchangeArgs()
			if tt.call.update {
				a.Flags |= nfs4.EXCHGID4_FLAG_UPD_CONFIRMED_REC_A
			}
			res, eff := w.srv.ExchangeID(a, Caller{Principal: tt.call.principal})
			w.run(eff)
			if res.Status != tt.want {
				t.Fatalf("status %v, want %v", res.Status, tt.want)
			}
			if res.Status != nfs4.NFS4_OK {
				return
			}
			if conf := res.Flags&nfs4.EXCHGID4_FLAG_CONFIRMED_R != 0; conf != tt.conf || (res.ClientID == was) != tt.sameID {
				t.Errorf("confirmed %v, want %v; ID %x, was %x, same wanted: %v", conf, tt.conf, res.ClientID, was, tt.sameID)
			}
		})
	}
}

func confirmed(w *world, c *tester) {
	if err := c.connect(); err != nil {
		w.t.Fatal(err)
	}
}

func opened(w *world, c *tester) {
	confirmed(w, c)
	if err := c.complete(); err != nil {
		w.t.Fatal(err)
	}
	if err := c.open("o", "f", fs.ShareBoth, 0, false); err != nil {
		w.t.Fatal(err)
	}
}

func TestExchangeIDArguments(t *testing.T) {
	w := newWorld(t, Config{})
	for name, change := range map[string]func(*nfs4.ExchangeIDArgs){
		"a bit that nobody knows":     func(a *nfs4.ExchangeIDArgs) { a.Flags = 0x10 },
		"CONFIRMED_R in arguments":    func(a *nfs4.ExchangeIDArgs) { a.Flags = nfs4.EXCHGID4_FLAG_CONFIRMED_R },
		"RECLAIMABLE_R in arguments":  func(a *nfs4.ExchangeIDArgs) { a.Flags = nfs4.EXCHGID4_FLAG_RECLAIMABLE_R },
		"an empty owner":              func(a *nfs4.ExchangeIDArgs) { a.Owner.ID = "" },
		"a state protection not here": func(a *nfs4.ExchangeIDArgs) { a.StateProtect.How = nfs4.SP4_SSV },
	} {
		a := w.client("alice").exchangeArgs()
		change(a)
		if res, _ := w.srv.ExchangeID(a, Caller{}); res.Status != nfs4.NFS4ERR_INVAL {
			t.Errorf("%s: %v", name, res.Status)
		}
	}
}

// 18.36.4: the reply cache of CREATE_SESSION.
func TestCreateSessionReplay(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.client("alice")
	ex, _ := w.srv.ExchangeID(c.exchangeArgs(), c.who())
	create := func(seq uint32, who Caller) (nfs4.CreateSessionRes, *Session) {
		res, ss, eff := w.srv.CreateSession(sessionArgs(ex.ClientID, seq), who)
		w.run(eff)
		return *res, ss
	}
	n := ex.SequenceID
	if r, _ := create(n-1, c.who()); r.Status != nfs4.NFS4ERR_SEQ_MISORDERED {
		t.Errorf("replay before the first: %v", r.Status)
	}
	if r, _ := create(n+1, c.who()); r.Status != nfs4.NFS4ERR_SEQ_MISORDERED {
		t.Errorf("ahead: %v", r.Status)
	}
	if r, _ := create(n, Caller{Principal: "other"}); r.Status != nfs4.NFS4ERR_CLID_INUSE {
		t.Errorf("another principal: %v", r.Status)
	}
	if r, _ := create(n, c.who()); r.Status != nfs4.NFS4ERR_CLID_INUSE {
		t.Errorf("errors are replayed too, got %v", r.Status)
	}
	first, ss := create(n+1, c.who())
	if first.Status != nfs4.NFS4_OK || ss == nil {
		t.Fatal(first.Status)
	}
	again, ss2 := create(n+1, c.who())
	if again.SessionID != first.SessionID || ss2 != ss {
		t.Error("a replay made another session")
	}
	second, _ := create(n+2, c.who())
	if second.Status != nfs4.NFS4_OK || second.SessionID == first.SessionID {
		t.Errorf("a second session: %v", second.Status)
	}
	if _, err := w.srv.Session(first.SessionID); err != nil {
		t.Error("a second session ended the first")
	}
	if res, _, _ := w.srv.CreateSession(sessionArgs(12345, 1), c.who()); res.Status != nfs4.NFS4ERR_STALE_CLIENTID {
		t.Errorf("unknown client: %v", res.Status)
	}
}

// A confirmation waits until nothing of the last incarnation runs, and does not use its number up.
func TestConfirmWaits(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.client("alice")
	opened(w, c)
	r, _, err := c.begin()
	if err != nil {
		t.Fatal(err)
	}
	old := c.ss
	c.verifier = 2
	ex, _ := w.srv.ExchangeID(c.exchangeArgs(), c.who())
	res, _, eff := w.srv.CreateSession(sessionArgs(ex.ClientID, ex.SequenceID), c.who())
	if res.Status != nfs4.NFS4ERR_DELAY || len(eff.Interrupt) != 1 || eff.Interrupt[0] != old {
		t.Fatalf("%v, interrupts %v", res.Status, eff.Interrupt)
	}
	r.Done(nil)
	res, _, eff = w.srv.CreateSession(sessionArgs(ex.ClientID, ex.SequenceID), c.who())
	w.run(eff)
	if res.Status != nfs4.NFS4_OK {
		t.Fatal(res.Status)
	}
	if _, err := w.srv.Session(old.ID()); err != nfs4.NFS4ERR_BADSESSION {
		t.Errorf("the old session: %v", err)
	}
}

// RFC 8881 2.10.6.1.
func TestSlots(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.client("alice")
	confirmed(w, c)
	send := func(slot, seq uint32, cache bool, fp uint64) (*SequenceResult, error) {
		return w.srv.Sequence(&nfs4.SequenceArgs{SessionID: c.ss.ID(), SlotID: slot, SequenceID: seq, HighestSlotID: slot, CacheThis: cache}, fp)
	}
	want := func(what string, err error, st nfs4.Status) {
		t.Helper()
		if (err == nil) != (st == nfs4.NFS4_OK) || err != nil && err != st {
			t.Errorf("%s: %v, want %v", what, err, st)
		}
	}
	_, err := send(0, 0, true, 0)
	want("0 on a fresh slot", err, nfs4.NFS4ERR_SEQ_MISORDERED)
	_, err = send(0, 2, true, 1)
	want("2 on a fresh slot", err, nfs4.NFS4ERR_SEQ_MISORDERED)
	_, err = send(4, 1, true, 1)
	want("a slot that is not there", err, nfs4.NFS4ERR_BADSLOT)
	_, err = w.srv.Sequence(&nfs4.SequenceArgs{SessionID: c.ss.ID(), SequenceID: 1, HighestSlotID: 4}, 1)
	want("a highest slot that is not there", err, nfs4.NFS4ERR_BAD_HIGH_SLOT)
	_, err = w.srv.Sequence(&nfs4.SequenceArgs{SequenceID: 1}, 1)
	want("no such session", err, nfs4.NFS4ERR_BADSESSION)
	one, err := send(0, 1, true, 1)
	want("the first", err, nfs4.NFS4_OK)
	_, err = send(0, 1, true, 1)
	want("again while it runs", err, nfs4.NFS4ERR_DELAY)
	_, err = send(0, 2, true, 2)
	want("the next while it runs", err, nfs4.NFS4ERR_SEQ_MISORDERED)
	reply := []byte("the reply")
	one.Request.Done(reply)
	again, err := send(0, 1, true, 1)
	want("again", err, nfs4.NFS4_OK)
	if !bytes.Equal(again.Replay, reply) || again.Request != nil || again.Uncached {
		t.Errorf("the retry got %+v", again)
	}
	_, err = send(0, 1, true, 7)
	want("another request under the same number", err, nfs4.NFS4ERR_SEQ_FALSE_RETRY)
	two, err := send(0, 2, false, 2)
	want("the second", err, nfs4.NFS4_OK)
	two.Request.Done(reply)
	again, err = send(0, 2, false, 2)
	want("a retry of what was not kept", err, nfs4.NFS4_OK)
	if !again.Uncached || again.Replay != nil || again.Res.SequenceID != 2 {
		t.Errorf("it got %+v", again)
	}
	_, err = send(0, 1, true, 1)
	want("an old number", err, nfs4.NFS4ERR_SEQ_MISORDERED)
	// the number wraps to 0
	c.ss.slots[1] = slot{seq: 1<<32 - 1, used: true}
	last, err := send(1, 0, true, 9)
	want("past the highest number", err, nfs4.NFS4_OK)
	last.Request.Done(nil)
}

func TestDestroySession(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.client("alice")
	opened(w, c)
	r, _, err := c.begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.srv.DestroySession(c.ss.ID(), nil, true); err != nfs4.NFS4ERR_DELAY {
		t.Errorf("while a request runs: %v", err)
	}
	if _, err := w.srv.DestroySession(c.ss.ID(), r, false); err != nfs4.NFS4ERR_CONN_NOT_BOUND_TO_SESSION {
		t.Errorf("unbound: %v", err)
	}
	if _, err := w.srv.DestroySession(c.ss.ID(), r, true); err != nil {
		t.Errorf("from within: %v", err)
	}
	r.Done(nil)
	if _, _, err := c.begin(); err != nfs4.NFS4ERR_BADSESSION {
		t.Errorf("after it: %v", err)
	}
	if err := c.connect(); err != nil {
		t.Fatal(err)
	}
	if st := w.srv.TestStateid(c.c, c.opens["o f"]); st != nfs4.NFS4_OK {
		t.Errorf("the loss of a session lost an open: %v", st)
	}
}

func TestBackChannelFlags(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.client("alice")
	ex, _ := w.srv.ExchangeID(c.exchangeArgs(), c.who())
	a := sessionArgs(ex.ClientID, ex.SequenceID)
	a.Flags = nfs4.CREATE_SESSION4_FLAG_CONN_BACK_CHAN | nfs4.CREATE_SESSION4_FLAG_PERSIST
	res, ss, _ := w.srv.CreateSession(a, c.who())
	if res.Flags != nfs4.CREATE_SESSION4_FLAG_CONN_BACK_CHAN {
		t.Errorf("flags %x: nothing here is persistent", res.Flags)
	}
	c.ss, c.c = ss, ss.Client()
	flags := func() uint32 {
		r, f, err := c.begin()
		if err != nil {
			t.Fatal(err)
		}
		r.Done(nil)
		return f
	}
	if f := flags(); f != 0 {
		t.Errorf("flags %x with a back channel", f)
	}
	ss.SetBackChannel(0)
	if f := flags(); f != nfs4.SEQ4_STATUS_CB_PATH_DOWN|nfs4.SEQ4_STATUS_CB_PATH_DOWN_SESSION {
		t.Errorf("flags %x without", f)
	}
	ss.SetBackChannel(1)
	ss.SetBackChannelFault()
	if f := flags(); f != nfs4.SEQ4_STATUS_BACKCHANNEL_FAULT {
		t.Errorf("flags %x with a fault", f)
	}
}

// A lease cannot end while a COMPOUND runs, and lasts a whole period after its answer: RFC 8881 8.3.
func TestLeaseOfARunningRequest(t *testing.T) {
	w := newWorld(t, Config{Lease: 90 * time.Second})
	c := w.client("alice")
	opened(w, c)
	r, _, err := c.begin()
	if err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(10 * time.Minute)
	w.run(w.srv.Expire())
	r.Done(nil)
	w.now = w.now.Add(89 * time.Second)
	w.run(w.srv.Expire())
	if _, err := w.srv.Session(c.ss.ID()); err != nil {
		t.Fatal("the lease ended under a running request")
	}
	w.srv.HoldLeases(true)
	w.now = w.now.Add(time.Hour)
	w.run(w.srv.Expire())
	w.srv.HoldLeases(false)
	w.run(w.srv.Expire())
	if _, err := w.srv.Session(c.ss.ID()); err != nil {
		t.Fatal("the lease ended while we were the ones waiting")
	}
	w.now = w.now.Add(91 * time.Second)
	w.run(w.srv.Expire())
	if _, err := w.srv.Session(c.ss.ID()); err == nil {
		t.Fatal("the lease never ends")
	}
	if len(w.backend.opens) != 0 {
		t.Error("the open was not given back")
	}
}

func TestNextDeadline(t *testing.T) {
	w := newWorld(t, Config{Lease: 90 * time.Second})
	confirmed(w, w.client("alice"))
	if d := w.srv.NextDeadline().Sub(w.now); d < time.Second || d > 90*time.Second {
		t.Errorf("in %v", d)
	}
}

// What a client loses with its lease is named, as every loss is: whose it was, in which file, and which range.
func TestAnExpiredClientsLossesAreNamed(t *testing.T) {
	w := newWorld(t, Config{Lease: 90 * time.Second})
	c := w.client("alice")
	if err := c.connect(); err != nil {
		t.Fatal(err)
	}
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		c.open("o", "f", 3, 0, false),
		c.lock("o", "l", "f", fs.Range{First: 10, Last: 19}, fs.WriteLock, false, false),
		c.lock("o", "l", "f", fs.Range{First: 30, Last: 39}, fs.ReadLock, false, false),
		c.open("o", "g", 1, 2, false),
		c.open("o", "h", 1, 0, false),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.now = w.now.Add(91 * time.Second)
	w.run(w.srv.Expire())
	w.flush()
	if err := w.journal.Commit(t.Context(), &journal.Batch{}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for e, err := range w.journal.Events(1, func(e *journal.Event) bool { return e.Type == "lost" }) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(e.Client, " ", e.Owner, " ", e.File, " ", e.Range, " ", e.Lock, " ", e.Result))
	}
	slices.Sort(got)
	t.Log(got)
	if len(got) != 3 || !strings.Contains(got[0], "l f 10-19") || !strings.Contains(got[1], "l f 30-39") || !strings.Contains(got[2], "o g") {
		t.Errorf("lost: %q", got)
	}
}
