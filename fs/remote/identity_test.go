package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/journal"
	"holdfast/nfsup"
)

func openJournal(t *testing.T, dir string) *journal.Journal {
	t.Helper()
	j, _, err := journal.Open(dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func load(t *testing.T, j *journal.Journal, name string) *identity {
	t.Helper()
	id, err := loadIdentity(context.Background(), j, name, "origin:2049", j.Epoch(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestARebootIsTheSameClientWithANewVerifier(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	first := load(t, j, "filer")
	other := load(t, j, "other")
	if first.rec.Secret == other.rec.Secret || bytes.Equal(first.rec.OwnerID, other.rec.OwnerID) {
		t.Error("two origins know us under one identity")
	}
	j.Close() // nothing but what was durable before the first use

	j = openJournal(t, dir)
	again := load(t, j, "filer")
	if again.rec.Secret != first.rec.Secret || !bytes.Equal(again.rec.OwnerID, first.rec.OwnerID) {
		t.Error("after a reboot we are another client: all locks are lost")
	}
	if again.rec.Verifier == first.rec.Verifier {
		t.Error("after a reboot the verifier is the same: the origin would not know of it (mode reclaim)")
	}
	if again.before == nil || first.before != nil {
		t.Error("what was found is not told from what was made")
	}
	a, b := again.cred(), first.cred()
	if a.Machine != b.Machine || a.UID != b.UID || a.GID != b.GID || len(a.Groups) != len(b.Groups) {
		t.Errorf("the client's own credential has changed: %+v, %+v", a, b)
	}
}

func TestTheOwnerIDIsLongRandomAndNamed(t *testing.T) {
	j := openJournal(t, t.TempDir())
	id := load(t, j, "filer").rec.OwnerID
	parts := strings.Split(string(id), "/")
	if len(parts) != 3 || parts[0] != "holdfast" || len(parts[1]) != 32 || parts[2] != "filer" {
		t.Errorf("co_ownerid is %q", id)
	}
	secretHex := fmt.Sprintf("%x", [16]byte(load(t, j, "filer").rec.Secret))
	if strings.Contains(string(id), secretHex) {
		t.Error("co_ownerid, which goes over the wire, has the secret in it")
	}
	if _, err := loadIdentity(context.Background(), j, strings.Repeat("n", 1024), "", 1, time.Now); err == nil {
		t.Error("a co_ownerid of more than 1024 bytes is made")
	}
}

func TestCsaSequenceIsDurableBeforeItIsSent(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	id := load(t, j, "filer")
	hooks := id.hooks()
	up := nfsup.Identity{
		ClientID: 77, CsaSequence: 5, Sessions: []nfs4.SessionID{{1}, {2}}, ServerOwner: nfs4.ServerOwner{MajorID: "major", MinorID: 3},
		ServerScope: "scope", Flags: 9, Verifier: id.rec.Verifier,
	}
	if err := hooks.BeforeCreateSession(context.Background(), up); err != nil {
		t.Fatal(err)
	}
	snap, err := j.Load()
	if err != nil {
		t.Fatal(err)
	}
	rec := snap.Upstreams[0]
	if rec.CsaSequence != 5 || rec.ClientID != 77 || len(rec.Sessions) != 2 || rec.Sessions[1] != [16]byte{2} ||
		string(rec.ServerOwner) != "major" || rec.ServerMinor != 3 || string(rec.Scope) != "scope" || rec.Flags != 9 || rec.Epoch != j.Epoch() {
		t.Errorf("durable is %+v", rec)
	}
	id.learn(90*time.Second, map[string]string{"retain": "granted"})
	id.learn(20*time.Second, nil)
	up.CsaSequence = 6
	if err := hooks.SessionCreated(context.Background(), up); err != nil {
		t.Fatal(err)
	}
	j.Close()
	j = openJournal(t, dir)
	rec = load(t, j, "filer").record()
	if rec.CsaSequence != 6 || rec.MaxLease != 90*time.Second || rec.Caps["retain"] != "granted" {
		t.Errorf("after a reboot: %+v", rec)
	}
}

func TestAFailedJournalStopsNewSessions(t *testing.T) {
	boom := errors.New("disk full")
	var fail error
	j, _, err := journal.Open(t.TempDir(), journal.Options{BeforeCommit: func(uint64) error { return fail }})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	id := load(t, j, "filer")
	fail = boom
	if err := id.hooks().BeforeCreateSession(context.Background(), nfsup.Identity{}); !errors.Is(err, boom) {
		t.Errorf("CREATE_SESSION goes out after %v", err)
	}
}

func TestWithoutAJournalEachStartIsAnotherClient(t *testing.T) {
	a, err := loadIdentity(context.Background(), nil, "filer", "", 1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	b, err := loadIdentity(context.Background(), nil, "filer", "", 1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a.rec.OwnerID, b.rec.OwnerID) {
		t.Error("two instances have one name")
	}
	if err := a.hooks().BeforeCreateSession(context.Background(), nfsup.Identity{}); err != nil {
		t.Error(err)
	}
}

func TestLongHandlesSurviveARestart(t *testing.T) {
	f := newFake()
	f.pad = 100
	f.root = f.add(nil, "", nfs4.NF4DIR)
	for i := range 500 {
		f.add(f.root, fmt.Sprint("f", i), nfs4.NF4REG)
	}
	dir := t.TempDir()
	j := openJournal(t, dir)
	r := newRig(t, f, func(c *Config) { c.Journal = j })
	before := j.Stats().Commits
	list(r, r.root(), true, 0)
	if n := j.Stats().Commits - before; n > 4 {
		t.Errorf("%d commits for a directory of 500 long handles", n)
	}
	h, _, err := r.Lookup(context.Background(), alice, r.root(), "f7")
	r.must(err)
	r.Abandon()
	j.Close()

	j = openJournal(t, dir)
	r = newRig(t, f, func(c *Config) { c.Journal = j })
	a, err := r.GetAttr(context.Background(), alice, h)
	r.must(err)
	if a.FileID != f.root.entries["f7"].id {
		t.Errorf("the handle names file %d", a.FileID)
	}
	if r.Status().HandleKind != "mapped" {
		t.Errorf("the status says %s", r.Status().HandleKind)
	}
}

func TestOneIdentityIsNotMountedTwice(t *testing.T) {
	cfg := Config{Name: "filer", Server: "s", Journal: openJournal(t, t.TempDir())}
	if err := cfg.setDefaults(); err != nil {
		t.Fatal(err)
	}
	first, err := newRemote(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newRemote(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "name of its own") {
		t.Errorf("the second mount: %v", err)
	}
	other := cfg
	other.Name = "other"
	second, err := newRemote(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	second.stop()
	first.stop()
	again, err := newRemote(t.Context(), cfg)
	if err != nil {
		t.Fatalf("after it ended: %v", err)
	}
	again.stop()
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		cfg Config
		bad bool
		is  error
	}{
		{Config{Name: "n", Server: "s"}, false, nil},
		{Config{Server: "s"}, true, nil},
		{Config{Name: "n"}, true, nil},
		{Config{Name: "n", Server: "s", Recovery: RecoverResume}, false, nil},
		{Config{Name: "n", Server: "s", Clients: MaxClients + 1}, true, nil},
		{Config{Name: "n", Server: "s", Recovery: "x"}, true, nil},
	} {
		err := c.cfg.setDefaults()
		if (err != nil) != c.bad || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
}
