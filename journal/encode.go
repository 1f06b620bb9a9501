package journal

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/fs"
)

// This file has one pair of functions for each kind of record: fields out, fields in, in the same
// order. What is in the key is not in the value.

var (
	errNoEpoch = errors.New("journal: record without an epoch")
	errRanges  = errors.New("journal: ranges not sorted, not disjoint, or without type")
	errShare   = errors.New("journal: unknown share bits")
)

func checkRanges(s fs.RangeSet) error {
	for i, l := range s {
		if l.Range.First > l.Range.Last || i > 0 && l.Range.First <= s[i-1].Range.Last ||
			l.Type != fs.ReadLock && l.Type != fs.WriteLock {
			return errRanges
		}
	}
	return nil
}

// What a client is, bit by bit.
const (
	clientPermanent = 1 << iota
	clientV40
)

func encodeClient(r *Client) (key, value []byte, err error) {
	if key, err = nameKey(kindClient, "client owner", r.Owner); err != nil {
		return nil, nil, err
	}
	if r.Epoch == 0 {
		return nil, nil, errNoEpoch
	}
	e := newEncoder(64 + len(r.Principal) + len(r.Addr) + len(r.Impl))
	e.fixed(r.Verifier[:])
	e.uint(r.ClientID)
	e.uint(uint64(r.Epoch))
	e.uint(uint64(r.CompleteEpoch))
	e.bool(r.Expired)
	e.bool(r.Retain)
	e.time(r.Since)
	e.string(r.Principal)
	e.string(r.Addr)
	e.string(r.Impl)
	e.uint(uint64(r.CsaSequence))
	e.bool(r.Complete)
	var kind byte
	if r.Permanent {
		kind |= clientPermanent
	}
	if r.V40 {
		kind |= clientV40
	}
	e.byte(kind)
	return key, e.b, nil
}

func decodeClient(key, body []byte) (*Client, error) {
	r := &Client{Owner: string(key[1:])}
	if r.Owner == "" {
		return nil, errKey
	}
	d := newDecoder(body)
	copy(r.Verifier[:], d.fixed(8))
	r.ClientID = d.uint()
	r.Epoch = d.uint32()
	r.CompleteEpoch = d.uint32()
	r.Expired = d.bool()
	r.Retain = d.bool()
	r.Since = d.time()
	r.Principal = d.string()
	r.Addr = d.string()
	r.Impl = d.string()
	if d.version >= 2 {
		r.CsaSequence = d.uint32()
		r.Complete = d.bool()
		kind := d.byte()
		r.Permanent, r.V40 = kind&clientPermanent != 0, kind&clientV40 != 0
		if kind&^(clientPermanent|clientV40) != 0 {
			d.fail(fmt.Errorf("kind of client %d", kind))
		}
	}
	return r, d.done()
}

func encodeOpen(r *OpenRecord) (key, value []byte, err error) {
	if key, err = ownerKey(kindOpen, r.Owner, r.File); err != nil {
		return nil, nil, err
	}
	if r.Epoch == 0 {
		return nil, nil, errNoEpoch
	}
	if max(r.Access, r.Deny, r.LiveAccess, r.LiveDeny, r.HeldAccess, r.HeldDeny, r.BeforeAccess, r.BeforeDeny) > fs.ShareBoth {
		return nil, nil, errShare
	}
	e := newEncoder(80 + 5*len(r.Groups) + len(r.Name))
	e.byte(byte(r.Access))
	e.byte(byte(r.Deny))
	e.uint(uint64(r.UID))
	e.uint(uint64(r.GID))
	e.uints(r.Groups)
	e.uint(uint64(r.Epoch))
	e.time(r.Since)
	e.string(r.Name)
	e.stateid(&r.Stateid)
	e.uint(uint64(r.Seen))
	for _, s := range []fs.Share{r.LiveAccess, r.LiveDeny, r.HeldAccess, r.HeldDeny} {
		e.byte(byte(s))
	}
	e.bool(r.Reclaimed)
	if e.bool(r.Pending); r.Pending {
		e.byte(byte(r.BeforeAccess))
		e.byte(byte(r.BeforeDeny))
	}
	return key, e.b, nil
}

func decodeOpen(key, body []byte) (r *OpenRecord, err error) {
	r = new(OpenRecord)
	if r.Owner, r.File, err = splitOwnerKey(key); err != nil {
		return nil, err
	}
	d := newDecoder(body)
	r.Access = d.share()
	r.Deny = d.share()
	r.UID = d.uint32()
	r.GID = d.uint32()
	r.Groups = d.uints()
	r.Epoch = d.uint32()
	r.Since = d.time()
	r.Name = d.string()
	if d.version >= 2 {
		r.Stateid = d.stateid()
		if n := d.uint32(); n <= 0xffff {
			r.Seen = uint16(n)
		} else {
			d.fail(errShare)
		}
		for _, s := range []*fs.Share{&r.LiveAccess, &r.LiveDeny, &r.HeldAccess, &r.HeldDeny} {
			*s = d.share()
		}
		r.Reclaimed = d.bool()
		if r.Pending = d.bool(); r.Pending {
			r.BeforeAccess, r.BeforeDeny = d.share(), d.share()
		}
	}
	return r, d.done()
}

func encodeLock(r *Lock) (key, value []byte, err error) {
	if key, err = ownerKey(kindLock, r.Owner, r.File); err != nil {
		return nil, nil, err
	}
	if r.Epoch == 0 {
		return nil, nil, errNoEpoch
	}
	if err := checkRanges(r.Ranges); err != nil {
		return nil, nil, err
	}
	if err := errors.Join(checkRanges(r.Held), checkRanges(r.Before), checkRanges(r.After)); err != nil {
		return nil, nil, err
	}
	e := newEncoder(64 + len(r.OpenOwner.Client) + len(r.OpenOwner.Owner) + 11*len(r.Ranges))
	// The open-owner is nearly always of the same client.
	same := r.OpenOwner.Client == r.Owner.Client
	e.bool(same)
	if !same {
		e.string(r.OpenOwner.Client)
	}
	e.string(r.OpenOwner.Owner)
	e.ranges(r.Ranges)
	e.uint(uint64(r.Epoch))
	e.time(r.Since)
	e.stateid(&r.Stateid)
	e.ranges(r.Held)
	e.bool(r.Reclaimed)
	if e.bool(r.Pending); r.Pending {
		e.ranges(r.Before)
		e.ranges(r.After)
	}
	return key, e.b, nil
}

func decodeLock(key, body []byte) (r *Lock, err error) {
	r = new(Lock)
	if r.Owner, r.File, err = splitOwnerKey(key); err != nil {
		return nil, err
	}
	d := newDecoder(body)
	if d.bool() {
		r.OpenOwner.Client = r.Owner.Client
	} else {
		r.OpenOwner.Client = d.string()
	}
	r.OpenOwner.Owner = d.string()
	r.Ranges = d.ranges()
	r.Epoch = d.uint32()
	r.Since = d.time()
	if d.version >= 2 {
		r.Stateid = d.stateid()
		r.Held = d.ranges()
		r.Reclaimed = d.bool()
		if r.Pending = d.bool(); r.Pending {
			r.Before = d.ranges()
			r.After = d.ranges()
		}
	}
	return r, d.done()
}

func encodeUpstream(r *Upstream) (key, value []byte, err error) {
	if key, err = nameKey(kindUpstream, "origin name", r.Name); err != nil {
		return nil, nil, err
	}
	e := newEncoder(512)
	e.fixed(r.Secret[:])
	e.string(string(r.OwnerID))
	e.fixed(r.Verifier[:])
	e.uint(r.ClientID)
	e.uint(uint64(r.CsaSequence))
	e.uint(uint64(len(r.Sessions)))
	for i := range r.Sessions {
		e.fixed(r.Sessions[i][:])
	}
	e.string(string(r.ServerOwner))
	e.uint(r.ServerMinor)
	e.string(string(r.Scope))
	e.string(r.ServerAddr)
	e.uint(uint64(r.Flags))
	e.string(r.MachineName)
	e.uint(uint64(r.UID))
	e.uint(uint64(r.GID))
	e.uints(r.Groups)
	e.uint(uint64(len(r.Caps)))
	for _, k := range slices.Sorted(maps.Keys(r.Caps)) {
		e.string(k)
		e.string(r.Caps[k])
	}
	e.uint(uint64(max(r.MaxLease, 0)))
	e.uint(uint64(r.Epoch))
	e.time(r.Since)
	return key, e.b, nil
}

func decodeUpstream(key, body []byte) (*Upstream, error) {
	r := &Upstream{Name: string(key[1:])}
	if r.Name == "" {
		return nil, errKey
	}
	d := newDecoder(body)
	copy(r.Secret[:], d.fixed(16))
	r.OwnerID = d.bytes()
	copy(r.Verifier[:], d.fixed(8))
	r.ClientID = d.uint()
	r.CsaSequence = d.uint32()
	if n := d.count(16); n > 0 {
		r.Sessions = make([][16]byte, n)
		for i := range r.Sessions {
			copy(r.Sessions[i][:], d.fixed(16))
		}
	}
	r.ServerOwner = d.bytes()
	r.ServerMinor = d.uint()
	r.Scope = d.bytes()
	r.ServerAddr = d.string()
	r.Flags = d.uint32()
	r.MachineName = d.string()
	r.UID = d.uint32()
	r.GID = d.uint32()
	r.Groups = d.uints()
	if n := d.count(2); n > 0 {
		r.Caps = make(map[string]string, n)
		for range n {
			k := d.string()
			r.Caps[k] = d.string()
		}
	}
	lease := d.uint()
	if lease > uint64(1<<63-1) {
		return nil, fmt.Errorf("lease of %d ns", lease)
	}
	r.MaxLease = time.Duration(lease)
	r.Epoch = d.uint32()
	r.Since = d.time()
	return r, d.done()
}

func encodeUpState(r *UpState) (key, value []byte, err error) {
	if key, err = upStateKey(r.Name, r.Kind, &r.UpOwner, r.File); err != nil {
		return nil, nil, err
	}
	if err := checkRanges(r.Ranges); err != nil {
		return nil, nil, err
	}
	if r.Access > fs.ShareBoth || r.Deny > fs.ShareBoth {
		return nil, nil, errShare
	}
	e := newEncoder(96 + 11*len(r.Ranges) + 5*len(r.Groups))
	e.fixed(r.Other[:])
	e.uint(uint64(r.Seqid))
	e.byte(byte(r.Access))
	e.byte(byte(r.Deny))
	if r.Kind == LockState {
		e.fixed(r.OpenOwner[:])
		e.ranges(r.Ranges)
	} else {
		e.uint(uint64(r.Modes))
	}
	e.uint(uint64(r.UID))
	e.uint(uint64(r.GID))
	e.uints(r.Groups)
	e.uint(uint64(r.Epoch))
	e.time(r.Since)
	return key, e.b, nil
}

func decodeUpState(key, body []byte) (r *UpState, err error) {
	r = new(UpState)
	var rest []byte
	if r.Name, rest, err = word(key[1:]); err != nil {
		return nil, err
	}
	if len(rest) < 1+32+1 {
		return nil, errKey
	}
	r.Kind = StateKind(rest[0])
	copy(r.UpOwner[:], rest[1:33])
	r.File = slices.Clone(rest[33:])
	if r.Kind != OpenState && r.Kind != LockState {
		return nil, errKey
	}
	d := newDecoder(body)
	copy(r.Other[:], d.fixed(12))
	r.Seqid = d.uint32()
	r.Access = d.share()
	r.Deny = d.share()
	if r.Kind == LockState {
		copy(r.OpenOwner[:], d.fixed(32))
		r.Ranges = d.ranges()
	} else {
		m := d.uint32()
		if r.Modes = uint16(m); uint32(r.Modes) != m {
			return nil, errShare
		}
	}
	r.UID = d.uint32()
	r.GID = d.uint32()
	r.Groups = d.uints()
	r.Epoch = d.uint32()
	r.Since = d.time()
	return r, d.done()
}

func encodeHandle(r *HandleMap) (key, value []byte, err error) {
	if err := checkWord("upstream handle", string(r.Upstream), maxOpaque); err != nil {
		return nil, nil, err
	}
	e := newEncoder(40 + len(r.Upstream))
	e.string(string(r.Upstream))
	e.uint(r.FSID.Major)
	e.uint(r.FSID.Minor)
	e.uint(r.FileID)
	return handleKey(&r.Digest), e.b, nil
}

func decodeHandle(key, body []byte) (*HandleMap, error) {
	r := new(HandleMap)
	if len(key) != 1+len(r.Digest) {
		return nil, errKey
	}
	copy(r.Digest[:], key[1:])
	d := newDecoder(body)
	r.Upstream = d.bytes()
	r.FSID = fs.FSID{Major: d.uint(), Minor: d.uint()}
	r.FileID = d.uint()
	return r, d.done()
}

func encodeMonitor(r *Monitor) (key, value []byte, err error) {
	if key, err = nameKey(kindMonitor, "host name", r.Host); err != nil {
		return nil, nil, err
	}
	e := newEncoder(80 + len(r.Addr) + len(r.MyName))
	e.string(r.Addr)
	e.string(r.MyName)
	e.uint(uint64(r.Prog))
	e.uint(uint64(r.Vers))
	e.uint(uint64(r.Proc))
	e.fixed(r.Priv[:])
	e.uint(uint64(uint32(r.State)))
	e.uint(uint64(r.Epoch))
	e.time(r.Since)
	return key, e.b, nil
}

func decodeMonitor(key, body []byte) (*Monitor, error) {
	r := &Monitor{Host: string(key[1:])}
	if r.Host == "" {
		return nil, errKey
	}
	d := newDecoder(body)
	r.Addr = d.string()
	r.MyName = d.string()
	r.Prog = d.uint32()
	r.Vers = d.uint32()
	r.Proc = d.uint32()
	copy(r.Priv[:], d.fixed(16))
	r.State = int32(d.uint32())
	r.Epoch = d.uint32()
	r.Since = d.time()
	return r, d.done()
}

func encodeEvent(r *Event) (key, value []byte) {
	e := newEncoder(eventSize(r))
	e.time(r.Time)
	e.uint(uint64(r.Epoch))
	e.string(r.Type)
	e.string(r.Client)
	e.string(r.Owner)
	e.string(string(r.File))
	e.string(r.Name)
	e.byte(byte(r.Lock))
	if r.Lock != fs.NoLock {
		e.uint(r.Range.First)
		e.uint(r.Range.Last)
	}
	e.string(r.Result)
	e.string(r.Text)
	return eventKey(r.Seq), e.b
}

// eventSize is about how large it becomes, never less.
func eventSize(r *Event) int {
	return 80 + len(r.Type) + len(r.Client) + len(r.Owner) + len(r.File) + len(r.Name) + len(r.Result) + len(r.Text)
}

func decodeEvent(key, body []byte) (*Event, error) {
	r := new(Event)
	if len(key) != 9 {
		return nil, errKey
	}
	for _, b := range key[1:] {
		r.Seq = r.Seq<<8 | uint64(b)
	}
	d := newDecoder(body)
	r.Time = d.time()
	r.Epoch = d.uint32()
	r.Type = d.string()
	r.Client = d.string()
	r.Owner = d.string()
	r.File = fs.Handle(d.string())
	r.Name = d.string()
	if r.Lock = d.lockType(); r.Lock != fs.NoLock {
		r.Range = fs.Range{First: d.uint(), Last: d.uint()}
	}
	r.Result = d.string()
	r.Text = d.string()
	return r, d.done()
}

// A head is the record that each group writes: what the whole journal must look like.
type head struct {
	seq             uint64 // the group that wrote it
	base            uint64 // gaps in the numbers of groups before this one are known
	epoch           uint32
	endedGrace      uint32
	incompleteSince uint32 // the epoch that found damage which no end of grace has healed; or 0
	count           uint64 // of records, the head and events left out
	sum             uint64 // of their hashes, modulo 2^64
	firstEvent      uint64 // the oldest event that is kept
	nextEvent       uint64 // the number that the next event will get
	// graceSince is the epoch that began a grace period which has not ended; 0 if there is none. Until
	// it ends nobody knows what the clients still have.
	graceSince uint32
}

func encodeHead(h *head) []byte {
	e := newEncoder(96)
	e.uint(h.seq)
	e.uint(h.base)
	e.uint(uint64(h.epoch))
	e.uint(uint64(h.endedGrace))
	e.uint(uint64(h.incompleteSince))
	e.uint(h.count)
	e.fixed([]byte{byte(h.sum >> 56), byte(h.sum >> 48), byte(h.sum >> 40), byte(h.sum >> 32), byte(h.sum >> 24), byte(h.sum >> 16), byte(h.sum >> 8), byte(h.sum)})
	e.uint(h.firstEvent)
	e.uint(h.nextEvent)
	e.uint(uint64(h.graceSince))
	return e.b
}

func decodeHead(key, body []byte) (*head, error) {
	if len(key) != 1 {
		return nil, errKey
	}
	h := new(head)
	d := newDecoder(body)
	h.seq = d.uint()
	h.base = d.uint()
	h.epoch = d.uint32()
	h.endedGrace = d.uint32()
	h.incompleteSince = d.uint32()
	h.count = d.uint()
	for _, b := range d.fixed(8) {
		h.sum = h.sum<<8 | uint64(b)
	}
	h.firstEvent = d.uint()
	h.nextEvent = d.uint()
	if d.version >= 2 {
		h.graceSince = d.uint32()
	}
	if d.err == nil && (h.firstEvent == 0 || h.firstEvent > h.nextEvent) {
		d.fail(errors.New("event numbers out of order"))
	}
	return h, d.done()
}

// decodeRecord decodes any record: *Client, *OpenRecord, *Lock, *Upstream, *UpState, *HandleMap,
// *Monitor, *Event or *head.
func decodeRecord(key, body []byte) (any, error) {
	if len(key) == 0 {
		return nil, errKey
	}
	switch key[0] {
	case kindHead:
		return decodeHead(key, body)
	case kindClient:
		return decodeClient(key, body)
	case kindOpen:
		return decodeOpen(key, body)
	case kindLock:
		return decodeLock(key, body)
	case kindUpstream:
		return decodeUpstream(key, body)
	case kindUpState:
		return decodeUpState(key, body)
	case kindHandle:
		return decodeHandle(key, body)
	case kindMonitor:
		return decodeMonitor(key, body)
	case kindEvent:
		return decodeEvent(key, body)
	}
	return nil, fmt.Errorf("record of unknown kind %q", key[0])
}
