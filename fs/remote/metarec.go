package remote

import (
	"encoding/binary"
	"errors"
	"time"

	"holdfast/fs"
)

// What is known of the tree goes to disk as a row of records (metalog.go). Each says one thing, beside the change
// attribute that it belongs to, in the words of the cache: numbers are unsigned varints, strings have their length
// before them.
type metaKind byte

const (
	metaAttr   metaKind = 1 + iota // handle, when, attributes
	metaName                       // directory, change, name, child; an empty child: there is none
	metaForget                     // directory, name
	metaAccess                     // handle, change, credential, asked, granted
	metaLink                       // handle, change, target
	metaPage                       // directory, change, the page
	metaMoved                      // directory, change before and after: the names are as before, but for what follows
	metaDrop                       // handle
	metaDoubt                      // handle: ask before it is used
	metaClean                      // the end: nothing is missing
)

// A metaRecord is one record, decoded. Which fields count says the kind.
type metaRecord struct {
	kind           metaKind
	handle, child  fs.Handle
	name           string // of the entry, credential, or target
	at, after      uint64
	asked, granted uint32
	when           time.Time
	attr           fs.Attr
	page           dirPage
}

var errMetaRecord = errors.New("not a record of what is known of a tree")

// append encodes it.
func (m *metaRecord) append(b []byte) []byte {
	num := func(v uint64) { b = binary.AppendUvarint(b, v) }
	str := func(s string) { num(uint64(len(s))); b = append(b, s...) }
	b = append(b, byte(m.kind))
	if m.kind == metaClean {
		return b
	}
	str(string(m.handle))
	switch m.kind {
	case metaAttr:
		num(uint64(m.when.UnixNano()))
		a := &m.attr
		for _, v := range []uint64{uint64(a.Type), uint64(a.Mode), uint64(a.Nlink), uint64(a.UID), uint64(a.GID), a.Size, a.Used,
			uint64(a.Rdev.Major), uint64(a.Rdev.Minor), a.FSID.Major, a.FSID.Minor, a.FileID, a.MountedOn, a.Change} {
			num(v)
		}
		for _, t := range []time.Time{a.Atime, a.Mtime, a.Ctime, a.Btime} {
			num(uint64(t.Unix()))
			num(uint64(t.Nanosecond()))
		}
	case metaName:
		num(m.at)
		str(m.name)
		str(string(m.child))
	case metaForget:
		str(m.name)
	case metaAccess:
		num(m.at)
		str(m.name)
		num(uint64(m.asked))
		num(uint64(m.granted))
	case metaLink:
		num(m.at)
		str(m.name)
	case metaMoved:
		num(m.at)
		num(m.after)
	case metaPage:
		num(m.at)
		num(m.page.start)
		num(uint64(len(m.page.entries))<<1 | bit(m.page.eof))
		for i := range m.page.entries {
			e := &m.page.entries[i]
			num(e.Cookie)
			num(e.FileID)
			num(uint64(e.Type))
			str(e.Name)
			str(string(e.Handle))
		}
	}
	return b
}

func bit(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

// decode reads a record, all of b. It keeps nothing of b.
func (m *metaRecord) decode(b []byte) error {
	bad := false
	num := func(limit uint64) uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > limit {
			bad, b = true, nil
			return 0
		}
		b = b[n:]
		return v
	}
	str := func(limit uint64) string {
		n := num(limit)
		if n > uint64(len(b)) {
			bad, b = true, nil
			return ""
		}
		s := string(b[:n])
		b = b[n:]
		return s
	}
	const (
		any64 = 1<<64 - 1
		any32 = 1<<32 - 1
	)
	if len(b) == 0 {
		return errMetaRecord
	}
	*m = metaRecord{kind: metaKind(b[0])}
	b = b[1:]
	if m.kind != metaClean {
		if m.handle = fs.Handle(str(256)); m.handle == "" {
			bad = true
		}
	}
	switch m.kind {
	case metaAttr:
		m.when = time.Unix(0, int64(num(any64)))
		a := &m.attr
		a.Type, a.Mode = fs.FileType(num(255)), uint32(num(any32))
		a.Nlink, a.UID, a.GID = uint32(num(any32)), uint32(num(any32)), uint32(num(any32))
		a.Size, a.Used = num(any64), num(any64)
		a.Rdev = fs.Rdev{Major: uint32(num(any32)), Minor: uint32(num(any32))}
		a.FSID = fs.FSID{Major: num(any64), Minor: num(any64)}
		a.FileID, a.MountedOn, a.Change = num(any64), num(any64), num(any64)
		for _, t := range []*time.Time{&a.Atime, &a.Mtime, &a.Ctime, &a.Btime} {
			sec := int64(num(any64))
			if *t = time.Unix(sec, int64(num(999_999_999))); sec == (time.Time{}).Unix() {
				*t = time.Time{}
			}
		}
	case metaName:
		m.at, m.name, m.child = num(any64), str(255), fs.Handle(str(256))
	case metaForget:
		m.name = str(255)
	case metaAccess:
		m.at, m.name, m.asked, m.granted = num(any64), str(1<<10), uint32(num(any32)), uint32(num(any32))
	case metaLink:
		m.at, m.name = num(any64), str(1<<16)
	case metaMoved:
		m.at, m.after = num(any64), num(any64)
	case metaPage:
		m.at, m.page.start = num(any64), num(any64)
		n := num(any64)
		m.page.eof = n&1 != 0
		for n >>= 1; n > 0 && !bad; n-- {
			e := fs.DirEntry{Cookie: num(any64), FileID: num(any64), Type: fs.FileType(num(255)), Name: str(255), Handle: fs.Handle(str(256))}
			m.page.entries = append(m.page.entries, e)
		}
	case metaDrop, metaDoubt, metaClean:
	default:
		bad = true
	}
	if bad || len(b) > 0 {
		return errMetaRecord
	}
	return nil
}
