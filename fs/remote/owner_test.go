package remote

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsup"
)

func TestUpstreamOwnersAreTheSameAfterAReboot(t *testing.T) {
	s := secret{1, 2, 3}
	o := fs.Owner{Client: "Linux NFSv4.1 a", Owner: "lock id:\x00\x01"}
	if first, again := s.upOwner(lockOwner, o), s.upOwner(lockOwner, o); first != again {
		t.Error("two digests of one owner differ")
	}
	// Written down, so that a change of the digest, which would lose every lock at an upgrade, is seen.
	if got := fmt.Sprintf("%x", s.upOwner(openOwner, o))[:16]; got != goldenOwner {
		t.Errorf("the digest is %s, want %s", got, goldenOwner)
	}
}

const goldenOwner = "21e8b9ec05484cab"

// Version 2: the same promise, the shard in front, and the file in lock-owners alone.
func TestUpstreamOwnersOfVersion2(t *testing.T) {
	s := secret{1, 2, 3}
	o := fs.Owner{Client: "Linux NFSv4.1 a", Owner: "lock id:\x00\x01"}
	if got := fmt.Sprintf("%x", s.upOwner2(lockOwner, o, "fh"))[:16]; got != goldenOwner2 {
		t.Errorf("the digest is %s, want %s", got, goldenOwner2)
	}
	r := &Remote{secret: s, layout: layout{version: 2}}
	if r.lockUp(o, "a") == r.lockUp(o, "b") || r.lockUp(o, "a") == r.openUp(o) {
		t.Error("a lock-owner is shared by files, or with an open-owner")
	}
	other := fs.Owner{Client: o.Client, Owner: "x"}
	spread := map[int]int{}
	for i := range 1000 {
		c := fs.Owner{Client: fmt.Sprint("client ", i)}
		spread[shardOf(r.openUp(c), 4)]++
		other.Client = c.Client
		if shardOf(r.openUp(c), 4) != shardOf(r.lockUp(other, "f"), 4) {
			t.Fatal("the owners of one end client are in two shards")
		}
	}
	for i := range 4 {
		if spread[i] < 150 {
			t.Errorf("shard %d has %d of 1000", i, spread[i])
		}
	}
	r.layout.version = 1
	if r.openUp(o) != s.upOwner(openOwner, o) || r.lockUp(o, "a") != r.lockUp(o, "b") {
		t.Error("an instance of version 1 names its owners otherwise than before: its locks are lost")
	}
}

const goldenOwner2 = "c216fca763743ab7"

func TestUpstreamOwnersOfDifferentOwnersDiffer(t *testing.T) {
	seen := map[UpOwner]string{}
	for _, s := range []secret{{1}, {2}} {
		for _, purpose := range []string{openOwner, lockOwner} {
			for _, o := range []fs.Owner{{Client: "a", Owner: "bc"}, {Client: "ab", Owner: "c"}, {Client: "abc"}, {Owner: "abc"}, {Client: fs.LocalClient + "1"}, {Client: fs.LocalClient + "2"}} {
				up := s.upOwner(purpose, o)
				name := fmt.Sprint(s[0], purpose, o)
				if seen[up] != "" {
					t.Errorf("%s and %s are one owner upstream", name, seen[up])
				}
				seen[up] = name
			}
		}
	}
}

func TestSecretIsNotPrinted(t *testing.T) {
	s := secret{0xAB, 0xCD}
	for _, verb := range []string{"%v", "%s", "%+v", "%#v"} {
		if out := strings.ToLower(fmt.Sprintf(verb, s)); strings.Contains(out, "171") || strings.Contains(out, "ab") {
			t.Errorf("%s prints %s", verb, out)
		}
	}
}

func TestVerifierIsAnotherAtEachBoot(t *testing.T) {
	s := secret{1}
	if s.verifier(1) == s.verifier(2) {
		t.Error("two boots have one verifier")
	}
	if first, again := s.verifier(3), s.verifier(3); first != again {
		t.Error("one boot has two verifiers")
	}
}

func TestOwnersAreKnownWhileTheyHoldOrAsk(t *testing.T) {
	var tab owners
	open, lock := UpOwner{1}, UpOwner{2}
	a := fs.Owner{Client: "c", Owner: "open"}
	b := fs.Owner{Client: "c", Owner: "lock"}
	known := func(up UpOwner) bool { _, ok := tab.find(up); return ok }

	tab.begin(open, a)
	if !known(open) {
		t.Error("an owner is not known while it asks")
	}
	tab.end(open)
	if known(open) {
		t.Error("an owner that got nothing is still known")
	}

	tab.begin(open, a)
	tab.opened(open, "f", fs.ShareRead, fs.ShareNone, true)
	tab.end(open)
	tab.begin(lock, b)
	tab.locked(lock, open, "f")
	tab.end(lock)
	if got, ok := tab.find(lock); !ok || got != b {
		t.Errorf("the holder is %v", got)
	}
	if !tab.mayNotify(open, "f") || tab.mayNotify(open, "g") {
		t.Error("the promise of the open is lost")
	}
	if n, opens, locks := tab.count(); n != 2 || opens != 1 || locks != 1 {
		t.Errorf("%d owners, %d opens, %d locks", n, opens, locks)
	}
	tab.closed(open, "f")
	if known(open) || known(lock) {
		t.Error("CLOSE left an owner behind: locks end with their open")
	}

	tab.begin(lock, b)
	tab.begin(open, a)
	tab.opened(open, "f", fs.ShareRead, fs.ShareNone, false)
	tab.locked(lock, open, "f")
	tab.end(lock)
	tab.end(open)
	tab.unlocked(lock, "f")
	if known(lock) || !known(open) {
		t.Error("FREE_STATEID must end the lock-owner and nothing else")
	}
}

func TestHolderOfALockThatStandsInTheWay(t *testing.T) {
	var tab owners
	a := fs.Owner{Client: "c", Owner: "lock"}
	tab.begin(UpOwner{1}, a)
	if got := tab.holder(&nfsup.DeniedError{Ours: true, Holder: UpOwner{1}}); got != a {
		t.Errorf("our own owner is %v", got)
	}
	got := tab.holder(&nfsup.DeniedError{Owner: nfs4.StateOwner{ClientID: 0xab, Owner: "z"}})
	if want := (fs.Owner{Client: "upstream:00000000000000ab", Owner: "z"}); got != want {
		t.Errorf("a foreign owner is %v, want %v", got, want)
	}
}
