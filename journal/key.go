package journal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"holdfast/fs"
)

// The first byte of a key.
const (
	kindHead     = 'S' // the head record; nothing follows
	kindClient   = 'c' // co_ownerid
	kindOpen     = 'o' // owner, file
	kindLock     = 'l' // lock-owner, file
	kindUpstream = 'u' // name
	kindUpState  = 's' // name, kind, upstream owner, upstream handle
	kindHandle   = 'h' // digest
	kindMonitor  = 'm' // host
	kindEvent    = 'e' // number, 8 bytes big endian
)

var headKey = []byte{kindHead}

// kinds are all of them, for telling a key from noise.
const kinds = "Scolushme"

// limits on what names a record, in bytes: NFS4_OPAQUE_LIMIT of RFC 8881 3.1 and what we chose.
const (
	maxOpaque = 1024
	maxName   = 1024
)

var errKey = errors.New("malformed key")

func appendWord(k []byte, w string) []byte {
	k = binary.BigEndian.AppendUint16(k, uint16(len(w)))
	return append(k, w...)
}

// word splits a word off.
func word(k []byte) (string, []byte, error) {
	if len(k) < 2 {
		return "", nil, errKey
	}
	n := int(binary.BigEndian.Uint16(k))
	if n > len(k)-2 {
		return "", nil, errKey
	}
	return string(k[2 : 2+n]), k[2+n:], nil
}

func checkWord(what, w string, max int) error {
	if len(w) == 0 || len(w) > max {
		return fmt.Errorf("journal: %s of %d bytes", what, len(w))
	}
	return nil
}

func ownerKey(kind byte, o fs.Owner, file fs.Handle) ([]byte, error) {
	if err := checkWord("client owner", o.Client, maxOpaque); err != nil {
		return nil, err
	}
	if len(o.Owner) > maxOpaque {
		return nil, fmt.Errorf("journal: owner of %d bytes", len(o.Owner))
	}
	if err := checkWord("file handle", string(file), maxOpaque); err != nil {
		return nil, err
	}
	k := make([]byte, 0, 1+4+len(o.Client)+len(o.Owner)+len(file))
	k = appendWord(append(k, kind), o.Client)
	k = appendWord(k, o.Owner)
	return append(k, file...), nil
}

func splitOwnerKey(k []byte) (o fs.Owner, file fs.Handle, err error) {
	if len(k) == 0 {
		return o, "", errKey
	}
	if o.Client, k, err = word(k[1:]); err != nil {
		return o, "", err
	}
	if o.Owner, k, err = word(k); err != nil {
		return o, "", err
	}
	return o, fs.Handle(k), nil
}

func nameKey(kind byte, what, name string) ([]byte, error) {
	if err := checkWord(what, name, maxName); err != nil {
		return nil, err
	}
	return append([]byte{kind}, name...), nil
}

func upStateKey(name string, kind StateKind, owner *[32]byte, file []byte) ([]byte, error) {
	if err := checkWord("origin name", name, maxName); err != nil {
		return nil, err
	}
	if err := checkWord("upstream handle", string(file), maxOpaque); err != nil {
		return nil, err
	}
	if kind != OpenState && kind != LockState {
		return nil, fmt.Errorf("journal: state of %v", kind)
	}
	k := appendWord([]byte{kindUpState}, name)
	k = append(k, byte(kind))
	k = append(k, owner[:]...)
	return append(k, file...), nil
}

func handleKey(digest *[16]byte) []byte { return append([]byte{kindHandle}, digest[:]...) }

func eventKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kindEvent}, seq)
}
