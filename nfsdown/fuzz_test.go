package nfsdown

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"holdfast/fs/fstest/memfs"
	"holdfast/internal/nfs4"
	"holdfast/internal/xdr"
)

const goodXid = 0xfeedbeef

// record is a call as it is on the wire.
func record(minor uint32, ops ...nfs4.Args) []byte {
	e := xdr.NewEncoder(nil)
	for _, u := range []uint32{1, 0, 2, nfs4.Program, nfs4.Version, nfs4.ProcCompound, 0, 0, 0, 0} {
		e.Uint32(&u)
	}
	nfs4.EncodeCompound(e, "", minor, ops)
	return append([]byte(nil), e.Bytes()...)
}

// FuzzCompound sends what it likes to a server: it must not panic, and what it answers must be records.
func FuzzCompound(f *testing.F) {
	f.Add(record(1, &nfs4.ExchangeIDArgs{Owner: nfs4.ClientOwner{ID: "x"}}))
	f.Add(record(2, &nfs4.SequenceArgs{SequenceID: 1}, putroot, &nfs4.GetattrArgs{Request: attrs42}))
	f.Add(record(2, &nfs4.SequenceArgs{SequenceID: 1}, putroot, openArgs("o", "f", 3, 0), &nfs4.ReadArgs{Stateid: nfs4.CurrentStateid, Count: 10}))
	f.Add(record(2, &nfs4.SequenceArgs{SequenceID: 1}, putroot, &nfs4.ReaddirArgs{MaxCount: 1000, Request: attrs42}))
	f.Add([]byte{0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		srv, err := New(Config{Exports: []Export{{Path: "/", Backend: memfs.New()}}, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := srv.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		}()
		ours, theirs := net.Pipe()
		conn := srv.ServeConn(theirs)
		// A session that the request can use: its id replaces whatever stands where SEQUENCE has it.
		w := &fuzzPeer{t: t, nc: ours}
		sess := w.session()
		body := append([]byte(nil), data...)
		if len(body) >= 56+16 && binary.BigEndian.Uint32(body[52:]) == uint32(nfs4.OP_SEQUENCE) {
			copy(body[56:], sess[:])
		}
		// A second, good call must be answered, or the connection be closed.
		good := record(2, &nfs4.ExchangeIDArgs{Owner: nfs4.ClientOwner{ID: "second"}})
		binary.BigEndian.PutUint32(good, goodXid)
		if len(body) >= 4 && binary.BigEndian.Uint32(body) == goodXid {
			return
		}
		w.send(body, good)
		_ = ours.SetReadDeadline(time.Now().Add(10 * time.Second))
		for {
			rec, err := w.read()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("neither answered nor closed")
			}
			if err != nil || binary.BigEndian.Uint32(rec) == goodXid {
				break
			}
		}
		_ = ours.Close()
		<-conn.Done()
	})
}

type fuzzPeer struct {
	t  *testing.T
	nc net.Conn
}

// send writes records, one after another, in the background: a pipe has no buffer.
func (p *fuzzPeer) send(recs ...[]byte) {
	var b []byte
	for _, rec := range recs {
		b = binary.BigEndian.AppendUint32(b, uint32(len(rec))|1<<31)
		b = append(b, rec...)
	}
	go func() { _, _ = p.nc.Write(b) }()
}

// read reads a reply record.
func (p *fuzzPeer) read() ([]byte, error) {
	var rec []byte
	for {
		var head [4]byte
		if _, err := io.ReadFull(p.nc, head[:]); err != nil {
			return nil, err
		}
		n := binary.BigEndian.Uint32(head[:])
		if n&^(1<<31) > 4<<20 {
			p.t.Fatalf("a fragment of %d bytes", n&^(1<<31))
		}
		part := make([]byte, n&^(1<<31))
		if _, err := io.ReadFull(p.nc, part); err != nil {
			return nil, err
		}
		rec = append(rec, part...)
		if n>>31 == 1 {
			if len(rec)%4 != 0 || len(rec) < 8 {
				p.t.Fatalf("a reply of %d bytes", len(rec))
			}
			return rec, nil
		}
	}
}

// session makes a client and a session.
func (p *fuzzPeer) session() nfs4.SessionID {
	call := func(a nfs4.Args) nfs4.Res {
		p.send(record(2, a))
		rec, err := p.read()
		if err != nil {
			p.t.Fatal(err)
		}
		d := xdr.NewDecoder(rec[24:])
		_, list, err := nfs4.DecodeCompoundRes(d, []nfs4.Args{a})
		if err != nil {
			p.t.Fatal(err)
		}
		return list[0]
	}
	x := call(&nfs4.ExchangeIDArgs{Owner: nfs4.ClientOwner{ID: "fuzz"}}).(*nfs4.ExchangeIDRes)
	chan4 := nfs4.ChannelAttrs{MaxRequestSize: 1 << 17, MaxResponseSize: 1 << 17, MaxResponseSizeCached: 4096, MaxOperations: 100, MaxRequests: 4}
	r := call(&nfs4.CreateSessionArgs{ClientID: x.ClientID, Sequence: x.SequenceID, ForeChan: chan4, BackChan: chan4}).(*nfs4.CreateSessionRes)
	return r.SessionID
}
