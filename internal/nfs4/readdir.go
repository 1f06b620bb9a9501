package nfs4

import "holdfast/internal/xdr"

// A DirEntry is an entry of READDIR, without the link to the next one.
type DirEntry struct {
	Cookie uint64
	Name   string
	Attrs  Fattr
}

// XDR codes e.
func (e *DirEntry) XDR(c *xdr.Codec) {
	c.Uint64(&e.Cookie)
	c.String(&e.Name, maxName)
	e.Attrs.XDR(c)
}

// A ReaddirRes is the answer to READDIR.
//
// A server appends entries with [ReaddirRes.Append] until it refuses one; a client, and a test,
// finds them in Entries. What Append took goes before Entries.
type ReaddirRes struct {
	Status     Status
	CookieVerf Verifier
	Entries    []DirEntry
	EOF        bool

	appended *xdr.Codec // encoded entries, each after the word that says it is there
}

// readdirFrame is the size of READDIR4resok without its entries: the verifier, the end of the list,
// and eof.
const readdirFrame = 8 + 4 + 4

// Append encodes e into the reply unless READDIR4resok would then be larger than maxCount bytes
// (RFC 8881 section 18.23.3), and tells whether it did. If the first entry is refused, the answer is
// NFS4ERR_TOOSMALL. An entry that cannot be encoded is refused with an error.
func (x *ReaddirRes) Append(e *DirEntry, maxCount int) (bool, error) {
	if x.appended == nil {
		x.appended = xdr.NewEncoder(nil)
	}
	c := x.appended
	mark := c.Mark()
	there := true
	c.Bool(&there)
	e.XDR(c)
	if err := c.Err(); err != nil {
		// The error sticks, so what was there before moves to a codec without one.
		x.appended = xdr.NewEncoder(c.Bytes()[:mark])
		return false, err
	}
	if c.Len()+readdirFrame > maxCount {
		c.Truncate(mark)
		return false, nil
	}
	return true, nil
}

// Size is the size of READDIR4resok in bytes with what was appended so far.
func (x *ReaddirRes) Size() int {
	if x.appended == nil {
		return readdirFrame
	}
	return readdirFrame + x.appended.Len()
}

// Appended tells whether Append took an entry.
func (x *ReaddirRes) Appended() bool { return x.Size() > readdirFrame }

// XDR codes x.
func (x *ReaddirRes) XDR(c *xdr.Codec) {
	x.Status.XDR(c)
	if x.Status != NFS4_OK {
		return
	}
	x.CookieVerf.XDR(c)
	if c.Decoding() {
		x.decodeEntries(c)
	} else {
		if x.appended != nil {
			b := x.appended.Bytes()
			c.Raw(&b)
		}
		for i := range x.Entries {
			there := true
			c.Bool(&there)
			x.Entries[i].XDR(c)
		}
		var end bool
		c.Bool(&end)
	}
	c.Bool(&x.EOF)
}

func (x *ReaddirRes) decodeEntries(c *xdr.Codec) {
	x.Entries = nil
	for {
		var there bool
		c.Bool(&there)
		if c.Err() != nil || !there {
			return
		}
		x.Entries = append(x.Entries, DirEntry{})
		x.Entries[len(x.Entries)-1].XDR(c)
	}
}
