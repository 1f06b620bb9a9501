package loadgen

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
	"holdfast/internal/xdr"
)

func TestHistBuckets(t *testing.T) {
	last := -1
	for _, d := range []time.Duration{0, 1, 15, 16, 17, 31, 32, 33, 1000, 1023, 1024, 123456, time.Second, time.Hour, 1<<63 - 1} {
		b := bucket(d)
		if b < last {
			t.Errorf("%v is in bucket %d, below that of less", d, b)
		}
		last = b
		if u := upper(b); u < d || uint64(u) > uint64(d)+uint64(d)/16+1 {
			t.Errorf("the bucket of %d reaches to %d", d, u)
		}
	}
}

func TestHistQuantiles(t *testing.T) {
	var a, b hist
	for i := range 100 {
		[]*hist{&a, &b}[i%2].add(time.Duration(i+1) * time.Millisecond)
	}
	a.merge(&b)
	for _, q := range []struct {
		part float64
		want time.Duration
	}{{0.01, time.Millisecond}, {0.5, 50 * time.Millisecond}, {0.99, 99 * time.Millisecond}, {1, 100 * time.Millisecond}} {
		if got := a.quantile(q.part); got < q.want || got > q.want+q.want/16+1 {
			t.Errorf("quantile %v is %v, not %v", q.part, got, q.want)
		}
	}
	if got := new(hist).quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing is %v", got)
	}
}

// look reads or changes a fakeServer.
func (s *fakeServer) look(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// A fakeServer has sessions of two slots, and checks what RFC 8881 section 2.10.6.1 says of them.
type fakeServer struct {
	t        *testing.T
	mu       sync.Mutex
	sessions map[nfs4.SessionID]*[2]uint32 // the last sequence number of each slot
	delays   int                           // requests to put off, after SEQUENCE
	early    int                           // requests to put off, at SEQUENCE
	created  uint32
	complete int
	cached   int
}

func (s *fakeServer) ServeRPC(_ context.Context, _ *rpc.Conn, call *rpc.InCall) {
	var h nfs4.CompoundHeader
	h.XDR(call.Body)
	var list []nfs4.Res
	s.mu.Lock()
	defer s.mu.Unlock()
	for range h.NumOps {
		_, a, err := nfs4.DecodeArgs(call.Body)
		if err != nil {
			s.t.Errorf("decode: %v", err)
		}
		r := s.serve(a)
		list = append(list, r)
		if r.Stat() != nfs4.NFS4_OK {
			break
		}
	}
	if err := call.Reply(func(c *xdr.Codec) { nfs4.EncodeCompoundRes(c, 0, h.Tag, list) }); err != nil {
		s.t.Errorf("reply: %v", err)
	}
}

func (s *fakeServer) serve(a nfs4.Args) nfs4.Res {
	switch a := a.(type) {
	case *nfs4.ExchangeIDArgs:
		return &nfs4.ExchangeIDRes{ClientID: 7, SequenceID: 41}
	case *nfs4.CreateSessionArgs:
		if a.Sequence != 41+s.created || a.ClientID != 7 {
			s.t.Errorf("CREATE_SESSION of client %d has the sequence number %d", a.ClientID, a.Sequence)
		}
		s.created++
		id := nfs4.SessionID{byte(s.created)}
		s.sessions[id] = &[2]uint32{}
		r := &nfs4.CreateSessionRes{SessionID: id, Sequence: a.Sequence, ForeChan: a.ForeChan, BackChan: a.BackChan}
		r.ForeChan.MaxRequests = min(r.ForeChan.MaxRequests, 2)
		return r
	case *nfs4.SequenceArgs:
		slots := s.sessions[a.SessionID]
		if slots == nil || a.SlotID > 1 || a.SequenceID != slots[a.SlotID]+1 {
			s.t.Errorf("SEQUENCE %+v, slots %v", a, slots)
			return nfs4.ErrRes(nfs4.OP_SEQUENCE, nfs4.NFS4ERR_SEQ_MISORDERED)
		}
		if s.early > 0 {
			s.early--
			return nfs4.ErrRes(nfs4.OP_SEQUENCE, nfs4.NFS4ERR_DELAY)
		}
		slots[a.SlotID]++
		if a.CacheThis {
			s.cached++
		}
		return &nfs4.SequenceRes{SessionID: a.SessionID, SequenceID: a.SequenceID, SlotID: a.SlotID}
	case *nfs4.RemoveArgs:
		if s.delays > 0 {
			s.delays--
			return nfs4.ErrRes(nfs4.OP_REMOVE, nfs4.NFS4ERR_DELAY)
		}
		return nfs4.ErrRes(nfs4.OP_REMOVE, nfs4.NFS4ERR_ACCESS)
	case *nfs4.ReclaimCompleteArgs:
		s.complete++
	case *nfs4.DestroySessionArgs:
		delete(s.sessions, a.SessionID)
	}
	return nfs4.NewRes(a.Op())
}

func TestClient(t *testing.T) {
	s := &fakeServer{t: t, sessions: map[nfs4.SessionID]*[2]uint32{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var srv rpc.Server
	served := make(chan error, 1)
	go func() {
		served <- srv.Serve(t.Context(), l, func(net.Conn) (rpc.Options, error) { return rpc.Options{Handler: s}, nil })
	}()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, rpc.ErrServerClosed) {
			t.Error(err)
		}
	})
	c, err := Dial(t.Context(), Config{Addr: l.Addr().String(), Lanes: 5, Conns: 2})
	if err != nil {
		t.Fatal(err)
	}
	s.look(func() {
		if len(c.Lanes) != 5 || s.created != 3 || s.complete != 1 {
			t.Errorf("%d lanes of %d sessions, %d RECLAIM_COMPLETE", len(c.Lanes), s.created, s.complete)
		}
	})
	var wg sync.WaitGroup
	for _, lane := range c.Lanes {
		wg.Go(func() {
			for range 10 {
				if err := lane.Do(t.Context(), nil, &nfs4.PutrootfhArgs{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// What is put off is sent again, with a new sequence number only if SEQUENCE was done.
	s.look(func() {
		if s.cached != 0 {
			t.Errorf("%d replies were to be cached that can be made again", s.cached)
		}
		s.early, s.delays = 2, 1
	})
	err = c.Lanes[4].Do(t.Context(), nil, &nfs4.PutrootfhArgs{}, &nfs4.RemoveArgs{Name: "x"})
	if !isStatus(err, nfs4.NFS4ERR_ACCESS) {
		t.Errorf("REMOVE: %v", err)
	}
	s.look(func() {
		if c.Delays() != 3 || s.cached != 2 {
			t.Errorf("%d delays, %d replies cached", c.Delays(), s.cached)
		}
	})
	err = c.Close(t.Context())
	s.look(func() {
		if err != nil || len(s.sessions) != 0 {
			t.Errorf("close: %v, %d sessions are left", err, len(s.sessions))
		}
	})
}

func TestLocalWorkloads(t *testing.T) {
	dir := t.TempDir()
	for _, w := range Workloads() {
		t.Run(w.Name, func(t *testing.T) {
			var phases []bool
			note := func(counting bool) { phases = append(phases, counting) }
			r, err := w.Local(t.Context(), dir, Options{Rounds: 3, FileSize: 2 << 20, Phase: note})
			if !w.HasLocal() {
				if !errors.Is(err, ErrNoLocal) {
					t.Errorf("error is %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.Rounds != uint64(3*w.Lanes) || r.Rate <= 0 || !slices.Equal(phases, []bool{true, false}) {
				t.Errorf("%+v, phases %v", r, phases)
			}
		})
	}
	left, err := os.ReadDir(filepath.Join(dir, workDir, "created"))
	if err != nil || len(left) > 0 {
		t.Errorf("created files are left: %v %v", left, err)
	}
}

func TestCheckFindsWrongData(t *testing.T) {
	b := noise(3 * small)
	fill(b, 10*small)
	if err := check(b[small:2*small], 11*small, small); err != nil {
		t.Error(err)
	}
	if check(b[:small], 11*small, small) == nil || check(b[:small-1], 10*small, small) == nil {
		t.Error("wrong data was taken for right")
	}
}

func TestSequentialOffsetsCoverTheFile(t *testing.T) {
	pick := picker(4*large, large, false)
	a, b := pick(0), pick(1)
	var got []uint64
	for range 2 {
		got = append(got, a(), b())
	}
	slices.Sort(got)
	if !slices.Equal(got, []uint64{0, large, 2 * large, 3 * large}) || a() != 0 {
		t.Errorf("offsets %v", got)
	}
}

func TestLimits(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- ServePeer(l) }()
	for _, limit := range Limits() {
		r, err := limit.Run(t.Context(), l.Addr().String(), t.TempDir(), Options{Rounds: 10})
		if err != nil || r.Rounds < 10 || r.Rate <= 0 {
			t.Errorf("%s: %+v %v", limit.Name, r, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// BenchmarkDo is what the load generator and a server that does nothing cost, 16 lanes.
func BenchmarkDo(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &fakeServer{sessions: map[nfs4.SessionID]*[2]uint32{}}
	var srv rpc.Server
	go func() {
		_ = srv.Serve(b.Context(), l, func(net.Conn) (rpc.Options, error) { return rpc.Options{Handler: s}, nil })
	}()
	c, err := Dial(b.Context(), Config{Addr: l.Addr().String(), Lanes: 16})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, lane := range c.Lanes {
		wg.Go(func() {
			put, get := &nfs4.PutfhArgs{FH: "handle"}, &nfs4.GetattrArgs{Request: usualAttrs}
			for n := i; n < b.N; n += 16 {
				if err := lane.Do(b.Context(), nil, put, get); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := c.Close(b.Context()); err != nil {
		b.Error(err)
	}
	if err := srv.Close(); err != nil {
		b.Error(err)
	}
}
