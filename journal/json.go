package journal

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"time"
	"unicode"
	"unicode/utf8"

	"holdfast/fs"
)

// An Opaque is bytes that a client chose, for people: in hex, and as text as far as it is printable.
type Opaque struct {
	Hex  string `json:"hex"`
	Text string `json:"text"`
}

// MakeOpaque shows opaque bytes. What is not printable becomes a dot; at most 128 bytes are shown.
func MakeOpaque(b string) Opaque {
	return Opaque{Hex: hex.EncodeToString([]byte(b)), Text: Printable(b)}
}

// Printable is a guess at what opaque bytes say: dots for what is not printable, at most 128 bytes.
func Printable(b string) string {
	const most = 128
	out := make([]rune, 0, min(len(b), most))
	for i := 0; i < len(b) && i < most; {
		r, n := utf8.DecodeRuneInString(b[i:])
		if r == utf8.RuneError && n <= 1 || !unicode.IsPrint(r) {
			r = '.'
		}
		out = append(out, r)
		i += n
	}
	if len(b) > most {
		out = append(out, '…')
	}
	return string(out)
}

type jsonOwner struct {
	Client Opaque `json:"client"`
	Owner  Opaque `json:"owner"`
}

func owner(o fs.Owner) jsonOwner {
	return jsonOwner{Client: MakeOpaque(o.Client), Owner: MakeOpaque(o.Owner)}
}

type jsonRange struct {
	First uint64  `json:"first"`
	Last  *uint64 `json:"last"` // null: to the end of the file
	Type  string  `json:"type"`
}

func lockRange(r fs.Range, t fs.LockType) jsonRange {
	j := jsonRange{First: r.First, Type: t.String()}
	if r.Last != math.MaxUint64 {
		j.Last = &r.Last
	}
	return j
}

func ranges(s fs.RangeSet) []jsonRange {
	out := make([]jsonRange, len(s))
	for i, l := range s {
		out[i] = lockRange(l.Range, l.Type)
	}
	return out
}

var shareNames = [...]string{"none", "read", "write", "both"}

func share(s fs.Share) string { return shareNames[s&fs.ShareBoth] }

func hexOf[T ~string | ~[]byte](b T) string { return hex.EncodeToString([]byte(b)) }

// when is nil for the zero time, so that it is left out.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// MarshalJSON is of json.Marshaler: snake case, opaque words in hex and as text.
func (r Client) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Owner         Opaque     `json:"owner"`
		Verifier      string     `json:"verifier"`
		Principal     string     `json:"principal,omitempty"`
		Addr          string     `json:"addr,omitempty"`
		Impl          string     `json:"impl,omitempty"`
		ClientID      string     `json:"client_id"`
		Epoch         uint32     `json:"epoch"`
		CompleteEpoch uint32     `json:"complete_epoch"`
		Expired       bool       `json:"expired"`
		Retain        bool       `json:"retain"`
		Since         *time.Time `json:"since,omitempty"`
		CsaSequence   uint32     `json:"csa_sequence"`
		Complete      bool       `json:"complete"`
		Permanent     bool       `json:"permanent,omitempty"`
		V40           bool       `json:"v40,omitempty"`
	}{
		MakeOpaque(r.Owner), hexOf(r.Verifier[:]), r.Principal, r.Addr, r.Impl, hex64(r.ClientID), r.Epoch, r.CompleteEpoch,
		r.Expired, r.Retain, when(r.Since), r.CsaSequence, r.Complete, r.Permanent, r.V40,
	})
}

// hex64 writes a number that JSON readers would round.
func hex64(v uint64) string {
	var b [8]byte
	for i := range b {
		b[i] = byte(v >> (56 - 8*i))
	}
	return hexOf(b[:])
}

// MarshalJSON is of json.Marshaler.
func (r OpenRecord) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Owner  jsonOwner  `json:"owner"`
		File   string     `json:"file"`
		Name   string     `json:"name,omitempty"`
		Access string     `json:"access"`
		Deny   string     `json:"deny"`
		UID    uint32     `json:"uid"`
		GID    uint32     `json:"gid"`
		Groups []uint32   `json:"groups,omitempty"`
		Epoch  uint32     `json:"epoch"`
		Since  *time.Time `json:"since,omitempty"`

		Stateid    string `json:"stateid,omitempty"`
		HeldAccess string `json:"held_access,omitempty"`
		HeldDeny   string `json:"held_deny,omitempty"`
	}{
		owner(r.Owner), hexOf(r.File), r.Name, share(r.Access), share(r.Deny), r.UID, r.GID, r.Groups, r.Epoch, when(r.Since),
		r.Stateid.text(), heldShare(r.HeldAccess), heldShare(r.HeldDeny),
	})
}

// MarshalJSON is of json.Marshaler.
func (r Lock) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Owner     jsonOwner   `json:"owner"`
		OpenOwner jsonOwner   `json:"open_owner"`
		File      string      `json:"file"`
		Ranges    []jsonRange `json:"ranges"`
		Epoch     uint32      `json:"epoch"`
		Since     *time.Time  `json:"since,omitempty"`
		Stateid   string      `json:"stateid,omitempty"`
		Held      []jsonRange `json:"held,omitempty"`
	}{owner(r.Owner), owner(r.OpenOwner), hexOf(r.File), ranges(r.Ranges), r.Epoch, when(r.Since), r.Stateid.text(), heldRanges(r.Held)})
}

// MarshalJSON is of json.Marshaler. The secret is not in it, nor is what could stand for it.
func (r Upstream) MarshalJSON() ([]byte, error) {
	sessions := make([]string, len(r.Sessions))
	for i := range r.Sessions {
		sessions[i] = hexOf(r.Sessions[i][:])
	}
	return json.Marshal(struct {
		Name        string            `json:"name"`
		Secret      Secret            `json:"secret"`
		OwnerID     Opaque            `json:"owner_id"`
		ClientID    string            `json:"client_id"`
		CsaSequence uint32            `json:"csa_sequence"`
		Sessions    []string          `json:"sessions"`
		ServerOwner Opaque            `json:"server_owner"`
		ServerMinor uint64            `json:"server_minor"`
		Scope       Opaque            `json:"scope"`
		ServerAddr  string            `json:"server_addr"`
		Flags       uint32            `json:"flags"`
		MachineName string            `json:"machine_name"`
		UID         uint32            `json:"uid"`
		GID         uint32            `json:"gid"`
		Groups      []uint32          `json:"groups,omitempty"`
		Caps        map[string]string `json:"caps,omitempty"`
		MaxLease    time.Duration     `json:"max_lease_ns"`
		Epoch       uint32            `json:"epoch"`
		Since       *time.Time        `json:"since,omitempty"`
	}{
		r.Name, r.Secret, MakeOpaque(string(r.OwnerID)), hex64(r.ClientID), r.CsaSequence, sessions, MakeOpaque(string(r.ServerOwner)),
		r.ServerMinor, MakeOpaque(string(r.Scope)), r.ServerAddr, r.Flags, r.MachineName, r.UID, r.GID, r.Groups, r.Caps,
		r.MaxLease, r.Epoch, when(r.Since),
	})
}

// MarshalJSON is of json.Marshaler.
func (r UpState) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name    string      `json:"name"`
		Kind    string      `json:"kind"`
		UpOwner string      `json:"up_owner"`
		File    string      `json:"file"`
		Other   string      `json:"other"`
		Seqid   uint32      `json:"seqid"`
		Access  string      `json:"access"`
		Deny    string      `json:"deny"`
		Ranges  []jsonRange `json:"ranges,omitempty"`
		Epoch   uint32      `json:"epoch"`
		Since   *time.Time  `json:"since,omitempty"`
	}{
		r.Name, r.Kind.String(), hexOf(r.UpOwner[:]), hexOf(r.File), hexOf(r.Other[:]), r.Seqid, share(r.Access), share(r.Deny),
		ranges(r.Ranges), r.Epoch, when(r.Since),
	})
}

// MarshalJSON is of json.Marshaler.
func (r HandleMap) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Digest   string `json:"digest"`
		Upstream string `json:"upstream"`
		Major    string `json:"fsid_major"`
		Minor    string `json:"fsid_minor"`
		FileID   string `json:"fileid"`
	}{hexOf(r.Digest[:]), hexOf(r.Upstream), hex64(r.FSID.Major), hex64(r.FSID.Minor), hex64(r.FileID)})
}

// MarshalJSON is of json.Marshaler.
func (r Monitor) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Host   string     `json:"host"`
		Addr   string     `json:"addr,omitempty"`
		MyName string     `json:"my_name,omitempty"`
		State  int32      `json:"state"`
		Epoch  uint32     `json:"epoch"`
		Since  *time.Time `json:"since,omitempty"`
	}{r.Host, r.Addr, r.MyName, r.State, r.Epoch, when(r.Since)})
}

// MarshalJSON is of json.Marshaler.
func (r Event) MarshalJSON() ([]byte, error) {
	out := struct {
		Seq    uint64     `json:"seq"`
		Time   *time.Time `json:"time"`
		Epoch  uint32     `json:"epoch"`
		Type   string     `json:"type"`
		Client *Opaque    `json:"client,omitempty"`
		Owner  *Opaque    `json:"owner,omitempty"`
		File   string     `json:"file,omitempty"`
		Name   string     `json:"name,omitempty"`
		Range  *jsonRange `json:"range,omitempty"`
		Result string     `json:"result,omitempty"`
		Text   string     `json:"text,omitempty"`
	}{r.Seq, when(r.Time), r.Epoch, r.Type, nil, nil, hexOf(r.File), r.Name, nil, r.Result, r.Text}
	if r.Client != "" {
		o := MakeOpaque(r.Client)
		out.Client = &o
	}
	if r.Owner != "" {
		o := MakeOpaque(r.Owner)
		out.Owner = &o
	}
	if r.Lock != fs.NoLock {
		l := lockRange(r.Range, r.Lock)
		out.Range = &l
	}
	return json.Marshal(out)
}

// MarshalJSON is of json.Marshaler; lists are never null.
func (s Snapshot) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Schema     int          `json:"schema"`
		Epoch      uint32       `json:"epoch"`
		EndedGrace uint32       `json:"ended_grace_epoch"`
		Complete   bool         `json:"complete"`
		Clients    []Client     `json:"clients"`
		Opens      []OpenRecord `json:"opens"`
		Locks      []Lock       `json:"locks"`
		Upstreams  []Upstream   `json:"upstreams"`
		UpStates   []UpState    `json:"upstream_states"`
		Monitors   []Monitor    `json:"monitors"`
	}{
		1, s.Epoch, s.EndedGrace, s.Complete, list(s.Clients), list(s.Opens), list(s.Locks), list(s.Upstreams), list(s.UpStates), list(s.Monitors),
	})
}

func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// text is seqid and other, as people compare them with packets; empty for none.
func (s Stateid) text() string {
	if s == (Stateid{}) {
		return ""
	}
	return fmt.Sprintf("%d:%x", s.Seqid, s.Other)
}

func heldShare(s fs.Share) string {
	if s == 0 {
		return ""
	}
	return share(s)
}

func heldRanges(s fs.RangeSet) []jsonRange {
	if len(s) == 0 {
		return nil
	}
	return ranges(s)
}
