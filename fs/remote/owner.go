package remote

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"

	"holdfast/fs"
	"holdfast/internal/nfs4"
	"holdfast/nfsup"
)

// An UpOwner is the owner string that an end client's owner has upstream.
type UpOwner = nfsup.UpOwner

// The purposes of an owner. An open-owner and a lock-owner of the same bytes are two owners.
const (
	openOwner = "open"
	lockOwner = "lock"
)

// secret is the instance secret: 128 random bits. Who knows it can claim our locks upstream.
type secret [16]byte

// String hides it, so that no log or panic shows it.
func (secret) String() string { return "(secret)" }

// GoString hides it.
func (secret) GoString() string { return "(secret)" }

// ownerVersion is how owners are digested by a new instance. An instance keeps the version that its
// journal was written with for as long as anything is held (layout).
//
//	1  HMAC(secret, purpose, client, owner)
//	2  hash of the client, 2 bytes: the shard (shards.go) | HMAC of the same and the file, 30 bytes
//
// The file is only in the lock-owners of version 2: nfs-ganesha binds a lock-owner to one open-owner
// for all files, and answers NFS4ERR_RESOURCE where another one has the file open.
const ownerVersion = 2

// openUp is the open-owner that an end client's has upstream.
func (r *Remote) openUp(o fs.Owner) UpOwner {
	if up, ok := r.covers.alias(o); ok {
		return up
	}
	if r.layout.version == 1 {
		return r.secret.upOwner(openOwner, o)
	}
	return r.secret.upOwner2(openOwner, o, "")
}

// lockUp is the lock-owner that an end client's has upstream for a file.
func (r *Remote) lockUp(o fs.Owner, fh nfs4.FH) UpOwner {
	if r.layout.version == 1 {
		return r.secret.upOwner(lockOwner, o)
	}
	return r.secret.upOwner2(lockOwner, o, fh)
}

// upOwner2 is version 2.
func (s secret) upOwner2(purpose string, o fs.Owner, fh nfs4.FH) (up UpOwner) {
	body := s.digest("owner 2", purpose, o.Client, o.Owner, string(fh))
	shard := s.digest("shard", o.Client)
	copy(up[:2], shard[:])
	copy(up[2:], body[:])
	return up
}

// macs are MACs that were made for a secret, of which there are few: to key one costs more than to use it.
var macs sync.Map

// digest is a MAC of words, each preceded by its length: no two lists run into each other.
func (s secret) digest(words ...string) (up UpOwner) {
	pool, ok := macs.Load(s)
	if !ok {
		key := s
		pool, _ = macs.LoadOrStore(s, &sync.Pool{New: func() any { return hmac.New(sha256.New, key[:]) }})
	}
	mac := pool.(*sync.Pool).Get().(hash.Hash)
	defer pool.(*sync.Pool).Put(mac)
	mac.Reset()
	var n [4]byte
	for _, w := range words {
		binary.BigEndian.PutUint32(n[:], uint32(len(w)))
		mac.Write(n[:])
		mac.Write([]byte(w))
	}
	mac.Sum(up[:0])
	return up
}

// upOwner is version 1. It depends on nothing that a reboot of any party changes, so that a
// reclaim after it names the same bytes. The two variable parts are preceded by their lengths:
// no two owners run into each other.
func (s secret) upOwner(purpose string, o fs.Owner) UpOwner {
	return s.digest(purpose, o.Client, o.Owner)
}

// derive makes a key of its own for a purpose.
func (s secret) derive(purpose string) []byte {
	mac := hmac.New(sha256.New, s[:])
	mac.Write([]byte("derive\x00" + purpose))
	return mac.Sum(nil)
}

// verifier is the EXCHANGE_ID verifier of an incarnation: another at each boot, the same for all
// reconnects within one.
func (s secret) verifier(epoch uint32) nfs4.Verifier {
	mac := hmac.New(sha256.New, s[:])
	mac.Write([]byte("verifier\x00"))
	mac.Write(binary.BigEndian.AppendUint32(nil, epoch))
	var v nfs4.Verifier
	copy(v[:], mac.Sum(nil))
	return v
}

// owners leads from upstream owners back to the end client's, for news about state that nobody
// asked for. An owner is in it while it holds anything, or asks for something.
type owners struct {
	mu sync.Mutex
	// +checklocks:mu
	known map[UpOwner]*knownOwner
}

type knownOwner struct {
	owner fs.Owner
	calls int // that are under way
	opens map[fs.Handle]*knownOpen
	locks map[fs.Handle]UpOwner // the open-owners
}

type knownOpen struct {
	access, deny fs.Share
	mayNotify    bool // OPEN4_RESULT_MAY_NOTIFY_LOCK
	lockers      map[UpOwner]struct{}
}

// begin makes an owner known while a call is under way. Each begin is followed by one end.
func (t *owners) begin(up UpOwner, o fs.Owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil {
		t.known = make(map[UpOwner]*knownOwner)
	}
	k := t.known[up]
	if k == nil {
		k = &knownOwner{owner: o}
		t.known[up] = k
	}
	k.calls++
}

// end ends a call; what it got was told by opened or locked before.
func (t *owners) end(up UpOwner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k := t.known[up]; k != nil {
		k.calls--
		t.sweep(up, k)
	}
}

// opened says that the owner has the file open, with these modes added. It is called between begin
// and end.
func (t *owners) opened(up UpOwner, file fs.Handle, access, deny fs.Share, mayNotify bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.known[up]
	if k == nil {
		return
	}
	if k.opens == nil {
		k.opens = make(map[fs.Handle]*knownOpen)
	}
	o := k.opens[file]
	if o == nil {
		o = new(knownOpen)
		k.opens[file] = o
	}
	o.access |= access
	o.deny |= deny
	o.mayNotify = mayNotify
}

// share is the modes of an open.
type share struct {
	access, deny fs.Share
	held         bool // there is such an open
}

// share tells the modes of an open.
func (t *owners) share(up UpOwner, file fs.Handle) share {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k := t.known[up]; k != nil && k.opens[file] != nil {
		o := k.opens[file]
		return share{o.access, o.deny, true}
	}
	return share{}
}

// setShare says that an open was reduced.
func (t *owners) setShare(up UpOwner, file fs.Handle, access, deny fs.Share) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k := t.known[up]; k != nil && k.opens[file] != nil {
		k.opens[file].access, k.opens[file].deny = access, deny
	}
}

// locked says that the owner has locks on the file under an open. It is called between begin and end.
func (t *owners) locked(up, openUp UpOwner, file fs.Handle) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.known[up]
	if k == nil {
		return
	}
	if k.locks == nil {
		k.locks = make(map[fs.Handle]UpOwner)
	}
	k.locks[file] = openUp
	if opener := t.known[openUp]; opener != nil && opener.opens[file] != nil {
		o := opener.opens[file]
		if o.lockers == nil {
			o.lockers = make(map[UpOwner]struct{})
		}
		o.lockers[up] = struct{}{}
	}
}

// closed says that the open is gone, and the locks under it.
func (t *owners) closed(up UpOwner, file fs.Handle) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.known[up]
	if k == nil || k.opens[file] == nil {
		return
	}
	for l := range k.opens[file].lockers {
		if lk := t.known[l]; lk != nil {
			delete(lk.locks, file)
			t.sweep(l, lk)
		}
	}
	delete(k.opens, file)
	t.sweep(up, k)
}

// unlocked says that the lock-owner is forgotten for the file.
func (t *owners) unlocked(up UpOwner, file fs.Handle) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.known[up]
	if k == nil {
		return
	}
	if openUp, ok := k.locks[file]; ok {
		if opener := t.known[openUp]; opener != nil && opener.opens[file] != nil {
			delete(opener.opens[file].lockers, up)
		}
	}
	delete(k.locks, file)
	t.sweep(up, k)
}

// +checklocks:t.mu
func (t *owners) sweep(up UpOwner, k *knownOwner) {
	if k.calls == 0 && len(k.opens) == 0 && len(k.locks) == 0 {
		delete(t.known, up)
	}
}

// find returns the end client's owner.
func (t *owners) find(up UpOwner) (fs.Owner, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k := t.known[up]; k != nil {
		return k.owner, true
	}
	return fs.Owner{}, false
}

// mayNotify tells what the origin promised for locks under an open.
func (t *owners) mayNotify(openUp UpOwner, file fs.Handle) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.known[openUp]
	return k != nil && k.opens[file] != nil && k.opens[file].mayNotify
}

// idle is share, and tells whether there are locks under the open and what the origin promised for them.
func (t *owners) idle(up UpOwner, file fs.Handle) (s share, locks, mayNotify bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k := t.known[up]; k != nil && k.opens[file] != nil {
		o := k.opens[file]
		return share{o.access, o.deny, true}, len(o.lockers) > 0, o.mayNotify
	}
	return share{}, false, false
}

// count is the number of owners that hold something, of their opens, and of (lock-owner, file) pairs.
func (t *owners) count() (owners, opens, locks int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.known {
		opens += len(k.opens)
		locks += len(k.locks)
	}
	return len(t.known), opens, locks
}

// holder names the owner of a lock that stands in the way: one of our end clients if the owner is
// ours and known, else whoever the origin says, with a Client that is no co_ownerid.
func (t *owners) holder(d *nfsup.DeniedError) fs.Owner {
	if d.Ours {
		if owner, ok := t.find(d.Holder); ok {
			return owner
		}
	}
	return fs.Owner{Client: fmt.Sprintf("upstream:%016x", d.Owner.ClientID), Owner: d.Owner.Owner}
}
