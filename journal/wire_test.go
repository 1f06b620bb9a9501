package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/fs"
)

var since = time.Unix(1_700_000_000, 123).UTC()

// samples has one full and one nearly empty record of each kind.
func samples() []any {
	o := fs.Owner{Client: "client\x00one", Owner: "open\xffowner"}
	set := fs.RangeSet{}.With(fs.Range{First: 0, Last: 0}, fs.WriteLock).With(fs.Range{First: 1, Last: 9}, fs.ReadLock).
		With(fs.Range{First: 1 << 40, Last: math.MaxUint64}, fs.WriteLock)
	return []any{
		&Client{Owner: "c", Verifier: [8]byte{1, 7: 2}, Principal: "p", Addr: "192.0.2.1:700", Impl: "i", ClientID: math.MaxUint64, Epoch: 3, CompleteEpoch: 2, Expired: true, Retain: true, Since: since, CsaSequence: 9, Complete: true, Permanent: true, V40: true},
		&Client{Owner: strings.Repeat("x", 1024), Epoch: 1},
		&OpenRecord{Owner: o, File: "file", Access: fs.ShareBoth, Deny: fs.ShareWrite, UID: 1, GID: math.MaxUint32, Groups: []uint32{4, 5}, Name: "ä/b", Epoch: 7, Since: since,
			Stateid: Stateid{Other: [12]byte{1, 11: 2}, Seqid: math.MaxUint32}, Seen: 0x0a0e, LiveAccess: fs.ShareRead, LiveDeny: fs.ShareWrite, HeldAccess: fs.ShareBoth, HeldDeny: fs.ShareRead, Reclaimed: true, Pending: true, BeforeAccess: fs.ShareRead, BeforeDeny: fs.ShareWrite},
		&OpenRecord{Owner: fs.Owner{Client: "c"}, File: "f", Epoch: 1},
		&Lock{Owner: o, OpenOwner: fs.Owner{Client: o.Client, Owner: "oo"}, File: "file", Ranges: set, Epoch: 7, Since: since, Stateid: Stateid{Other: [12]byte{3}, Seqid: 1}, Held: set[:1], Reclaimed: true, Pending: true, Before: set[1:], After: set[:1]},
		&Lock{Owner: o, OpenOwner: fs.Owner{Client: "other", Owner: "oo"}, File: "file", Ranges: fs.RangeSet{{Range: fs.Range{First: 5, Last: 5}, Type: fs.ReadLock}}, Epoch: 1},
		&Upstream{Name: "filer", Secret: Secret{9, 8, 7}, OwnerID: []byte("id"), Verifier: [8]byte{7}, ClientID: 5, CsaSequence: 6, Sessions: [][16]byte{{1}, {2}},
			ServerOwner: []byte("so"), ServerMinor: 3, Scope: []byte("sc"), ServerAddr: "192.0.2.2", Flags: 4, MachineName: "m", UID: 1, GID: 2, Groups: []uint32{3},
			Caps: map[string]string{"a": "b", "c": ""}, MaxLease: time.Minute, Epoch: 2, Since: since},
		&Upstream{Name: "u"},
		&UpState{Name: "filer", Kind: OpenState, UpOwner: [32]byte{1}, File: []byte("up"), Other: [12]byte{2}, Seqid: 3, Access: fs.ShareRead, Deny: fs.ShareNone, Modes: 0x8001, UID: 1, GID: 2, Groups: []uint32{3}, Epoch: 4, Since: since},
		&UpState{Name: "filer", Kind: LockState, UpOwner: [32]byte{1}, File: []byte("up"), OpenOwner: [32]byte{4}, Other: [12]byte{2}, Seqid: 3, Ranges: set},
		&HandleMap{Digest: [16]byte{1}, Upstream: []byte(strings.Repeat("h", 128)), FSID: fs.FSID{Major: 1, Minor: math.MaxUint64}, FileID: 3},
		&Monitor{Host: "h", Addr: "a", MyName: "m", Prog: 1, Vers: 2, Proc: 3, Priv: [16]byte{4}, State: -5, Epoch: 6, Since: since},
		&Event{Seq: 1 << 40, Time: since, Epoch: 2, Type: "lock", Client: "c", Owner: "o", File: "f", Name: "n", Range: fs.Range{First: 1, Last: math.MaxUint64}, Lock: fs.WriteLock, Result: "granted", Text: "t"},
		&Event{Seq: 1},
		&head{seq: 1, base: 2, epoch: 3, endedGrace: 4, incompleteSince: 5, count: 6, sum: math.MaxUint64 - 1, firstEvent: 7, nextEvent: 8, graceSince: 9},
	}
}

func encodeRecord(r any) (key, value []byte, err error) {
	switch r := r.(type) {
	case *Client:
		return encodeClient(r)
	case *OpenRecord:
		return encodeOpen(r)
	case *Lock:
		return encodeLock(r)
	case *Upstream:
		return encodeUpstream(r)
	case *UpState:
		return encodeUpState(r)
	case *HandleMap:
		return encodeHandle(r)
	case *Monitor:
		return encodeMonitor(r)
	case *Event:
		key, value = encodeEvent(r)
		return key, value, nil
	case *head:
		return headKey, encodeHead(r), nil
	}
	return nil, nil, fmt.Errorf("unknown %T", r)
}

var equalRecords = cmp.Options{cmp.AllowUnexported(head{})}

func TestRecordsSurviveEncoding(t *testing.T) {
	for _, want := range samples() {
		key, value, err := encodeRecord(want)
		if err != nil {
			t.Errorf("%T: %v", want, err)
			continue
		}
		sealed := seal(key, bytes.Clone(value), 42)
		body, seq, err := unseal(key, sealed)
		if err != nil || seq != 42 || !bytes.Equal(body, value) {
			t.Errorf("%T: unseal: %v, group %d", want, err, seq)
		}
		got, err := decodeRecord(key, value)
		if err != nil {
			t.Errorf("%T: %v", want, err)
		} else if d := cmp.Diff(want, got, equalRecords); d != "" {
			t.Errorf("%T: %s", want, d)
		}
		for i := range value {
			if _, err := decodeRecord(key, value[:i]); err == nil {
				t.Errorf("%T: %d of %d bytes were accepted", want, i, len(value))
			}
		}
		if _, err := decodeRecord(key, append(bytes.Clone(value), 0)); err == nil {
			t.Errorf("%T: a byte too many was accepted", want)
		}
		for i := range sealed {
			sealed[i] ^= 0x40
			if _, _, err := unseal(key, sealed); err == nil {
				t.Errorf("%T: a flip at %d was not noticed", want, i)
			}
			sealed[i] ^= 0x40
		}
		if _, _, err := unseal(append(bytes.Clone(key), 'x'), sealed); err == nil {
			t.Errorf("%T: a value under another key was accepted", want)
		}
	}
}

func TestNewerRecordVersionIsRefused(t *testing.T) {
	key, value, _ := encodeClient(&Client{Owner: "c", Epoch: 1})
	value[0]++
	if _, err := decodeRecord(key, value); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("got %v", err)
	}
}

func TestBadRecordsAreRefused(t *testing.T) {
	o := fs.Owner{Client: "c", Owner: "o"}
	one := fs.RangeSet{{Range: fs.Range{First: 1, Last: 2}, Type: fs.ReadLock}}
	for name, r := range map[string]any{
		"a client without epoch":     &Client{Owner: "c"},
		"a client without name":      &Client{Epoch: 1},
		"a client with a long name":  &Client{Owner: strings.Repeat("x", 1025), Epoch: 1},
		"an open without epoch":      &OpenRecord{Owner: o, File: "f"},
		"an open of nobody":          &OpenRecord{File: "f", Epoch: 1},
		"an open without file":       &OpenRecord{Owner: o, Epoch: 1},
		"an open with unknown bits":  &OpenRecord{Owner: o, File: "f", Access: 4, Epoch: 1},
		"a lock without epoch":       &Lock{Owner: o, File: "f", Ranges: one},
		"a lock with overlap":        &Lock{Owner: o, File: "f", Epoch: 1, Ranges: append(one[:1:1], one...)},
		"a lock without type":        &Lock{Owner: o, File: "f", Epoch: 1, Ranges: fs.RangeSet{{Range: one[0].Range}}},
		"a state of unknown kind":    &UpState{Name: "u", File: []byte("f")},
		"a handle that is no handle": &HandleMap{},
	} {
		if _, _, err := encodeRecord(r); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, r := range samples() {
		key, value, _ := encodeRecord(r)
		f.Add(key, value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		r, err := decodeRecord(key, value)
		if err != nil {
			return
		}
		k, v, err := encodeRecord(r)
		if err != nil {
			return // what cannot be written anew, such as epoch 0
		}
		again, err := decodeRecord(k, v)
		if err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if !bytes.Equal(k, key) || !reflect.DeepEqual(r, again) {
			t.Errorf("%#v became %#v", r, again)
		}
		if len(v) > 2*len(value)+64 {
			t.Errorf("%d bytes became %d", len(value), len(v))
		}
	})
}

// realFiles returns a log and a table that Badger wrote.
func realFiles(f *testing.F) (wal, table []byte) {
	dir := f.TempDir()
	j, _ := mustOpen(f, dir)
	put := func(n int) {
		mustCommit(f, j, func(b *Batch) {
			b.PutLock(lockOf(alice(n), "f", 1))
			b.DeleteLock(alice(n-5), "f")
		})
	}
	for n := range 100 {
		put(n)
	}
	j, _ = reboot(f, j)
	put(100)
	read := func(pattern string) []byte {
		names, err := filepath.Glob(filepath.Join(dir, dbName, pattern))
		if err != nil || len(names) == 0 {
			f.Fatalf("no %s: %v", pattern, err)
		}
		b, err := os.ReadFile(names[len(names)-1])
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	wal, table = read("*.mem"), read("*.sst")
	return append(bytes.TrimRight(wal, "\x00"), 0, 0, 0, 0), table
}

func FuzzScanWAL(f *testing.F) {
	wal, _ := realFiles(f)
	f.Add(wal)
	f.Add(bytes.Repeat([]byte{0}, 100))
	f.Fuzz(func(t *testing.T, data []byte) {
		w := scanWAL("x", data)
		if w.end > len(data) {
			t.Errorf("ends at %d of %d", w.end, len(data))
		}
	})
}

func FuzzScanTable(f *testing.F) {
	_, table := realFiles(f)
	f.Add(table)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, b := range scanTable("x", data).blocks {
			if _, err := blockEntries(b); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzReadBackup(f *testing.F) {
	j, _ := mustOpen(f, f.TempDir())
	var backup bytes.Buffer
	if err := j.Backup(&backup); err != nil {
		f.Fatal(err)
	}
	f.Add(backup.Bytes())
	f.Add([]byte(backupMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := readBackup(bytes.NewReader(data)); err == nil && len(data) < len(backupMagic)+6 {
			t.Error("accepted")
		}
	})
}

func TestSecretIsNeverPrinted(t *testing.T) {
	u := Upstream{Name: "u", Secret: Secret([]byte("SIXTEEN_SECRETS!"))}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		fmt.Fprintf(&out, verb+"\n", u.Secret)
		fmt.Fprintf(&out, verb+"\n", u)
		fmt.Fprintf(&out, verb+"\n", &u)
	}
	j, err := json.Marshal(Snapshot{Upstreams: []Upstream{u}})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	b, _ := json.Marshal(u.Secret)
	out.Write(b)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", u.Secret, "upstream", u)
	low := strings.ToLower(out.String())
	for _, leak := range []string{"sixteen", "5349585445454e", "83 73 88", "0x53, 0x49"} {
		if strings.Contains(low, leak) {
			t.Errorf("%q is in\n%s", leak, out.String())
		}
	}
}

func TestJSON(t *testing.T) {
	l := samples()[4].(*Lock)
	b, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"owner":{"client":{"hex":"636c69656e74006f6e65","text":"client.one"},"owner":{"hex":"6f70656eff6f776e6572","text":"open.owner"}},` +
		`"open_owner":{"client":{"hex":"636c69656e74006f6e65","text":"client.one"},"owner":{"hex":"6f6f","text":"oo"}},"file":"66696c65",` +
		`"ranges":[{"first":0,"last":0,"type":"write"},{"first":1,"last":9,"type":"read"},{"first":1099511627776,"last":null,"type":"write"}],` +
		`"epoch":7,"since":"2023-11-14T22:13:20.000000123Z","stateid":"1:030000000000000000000000","held":[{"first":0,"last":0,"type":"write"}]}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	for _, r := range samples() {
		if _, ok := r.(*head); ok {
			continue
		}
		b, err := json.Marshal(r)
		if err != nil || !json.Valid(b) || bytes.ContainsAny(b, "\x00") {
			t.Errorf("%T: %s, %v", r, b, err)
		}
	}
	if b, _ := json.Marshal(Snapshot{}); !strings.Contains(string(b), `"locks":[]`) {
		t.Errorf("an empty list is null: %s", b)
	}
}
