package torture

import (
	"testing"
	"time"

	"holdfast/nfsup"
)

// storyLease is the lease of end clients in stories. The origin's is half as much again.
const storyLease = 4 * time.Second

// TestStories is what RFC 8881 8.4 says about partitions and reboots, between real processes: what a client
// keeps, and what it must be told that it lost.
func TestStories(t *testing.T) {
	need(t)
	for _, x := range []struct {
		name   string
		story  func(*stage)
		origin []string
	}{
		{"a partition shorter than the lease", shortPartition, nil},
		{"a partition longer than the lease", longPartition, nil},
		{"courtesy", courtesy, nil},
		{"a short partition during grace", shortPartitionInGrace, nil},
		{"a long partition during grace", longPartitionInGrace, nil},
		{"a client reboots", clientReboots, nil},
		{"two machines with one co_ownerid", clones, nil},
		{"the first edge condition", firstEdge, nil},
		{"the second edge condition", secondEdge, nil},
		{"the origin dropped us while we were away", awayTooLong, nil},
		{"a write that arrives after its server's death", delayed, unretained},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			cfg := scripted(t, storyLease)
			cfg.Origin = x.origin
			if *verbose {
				cfg.Log = t.Output()
			}
			for _, v := range play(t, cfg, x.story) {
				t.Errorf("%s", v)
			}
		})
	}
}

func shortPartition(s *stage) {
	a, b := s.worker("c00", "a"), s.worker("c10", "b")
	s.gets(a, 0)
	s.writes(a, 0)
	s.cut(a.c)
	s.refused(b, 0, "while its holder was cut off for less than the lease")
	rest(s.ctx, storyLease/4)
	s.refused(b, 0, "while its holder was cut off for less than the lease")
	s.heal(a.c)
	s.keeps(a, 0, "in a short partition")
	s.refused(b, 0, "after its holder was back")
}

// The rival comes by another re-export server: what it wants is freed at all three.
func longPartition(s *stage) {
	a, b := s.worker("c00", "a"), s.worker("c01", "b")
	s.gets(a, 0)
	s.writes(a, 0)
	s.cut(a.c)
	s.gets(b, 0)
	s.writes(b, 0)
	s.heal(a.c)
	s.loses(a, 0, "in a long partition")
	s.refused(a, 0, "while another has it")
	s.keeps(b, 0, "when the other came back")
}

// Nobody wants what a client has that is away: the origin keeps it. (A re-export server does not.)
func courtesy(s *stage) {
	a, b := s.worker("direct", "a"), s.worker("c10", "b")
	s.gets(a, 0)
	s.writes(a, 0)
	s.cut(a.c)
	s.gets(b, 1) // of the same file, and not in its way
	rest(s.ctx, storyLease*3/2*5/4)
	s.keeps(b, 1, "while another was away")
	s.heal(a.c)
	s.keeps(a, 0, "that nobody wanted while it was away for longer than its lease")
}

func shortPartitionInGrace(s *stage) {
	a, b, r := s.worker("c00", "a"), s.worker("c01", "b"), s.worker("c10", "r")
	s.gets(a, 0)
	s.writes(a, 0)
	s.gets(b, 1)
	s.kill(s.serves[0])
	s.cut(a.c)
	s.boot(s.serves[0])
	s.keeps(b, 1, "when its server restarted")
	s.refused(r, 0, "while its holder was cut off in grace")
	s.heal(a.c)
	s.keeps(a, 0, "when it was cut off for a part of grace")
	s.refused(r, 0, "after its holder has reclaimed it")
}

func longPartitionInGrace(s *stage) {
	a, b := s.worker("c00", "a"), s.worker("c01", "b")
	s.gets(a, 0)
	s.writes(a, 0)
	s.gets(b, 1)
	s.kill(s.serves[0])
	s.cut(a.c)
	s.boot(s.serves[0])
	s.gets(b, 0) // when grace is over
	s.writes(b, 0)
	s.heal(a.c)
	s.loses(a, 0, "because it was away for all of grace")
	s.keeps(b, 0, "when another came back after grace")
}

// A new verifier says that all is forgotten (8.4.1): nobody waits for a lease.
func clientReboots(s *stage) {
	a, b := s.worker("c00", "a"), s.worker("c10", "b")
	s.gets(a, 0)
	s.writes(a, 0)
	s.refused(b, 0, "that another has")
	if err := a.c.die(s.ctx, 0); err != nil {
		s.t.Fatal(err)
	}
	begun := s.since()
	s.gets(b, 0)
	if took := s.since() - begun; took > storyLease*3/4 {
		// The outage is the machine's own where it is slow; then nothing is known.
		s.note("story: that took %v", took)
	}
	s.writes(b, 0)
}

// Two machines were given one name, as clones of an image are. To the server the second is the first after a
// reboot (18.35.4 case 5): whatever comes of it, the two never have one lock at one time, and whoever loses it is told.
func clones(s *stage) {
	first := s.by("c00")
	a := s.worker("c00", "a")
	s.gets(a, 0)
	s.writes(a, 0)
	second := &client{w: s.world, name: "c00", link: first.link, path: first.path, owners: map[nfsup.UpOwner]*owner{}, lives: 1000, mortal: true}
	first.mortal = true
	if err := second.connect(s.ctx); err != nil {
		s.t.Fatal(err)
	}
	s.clients = append(s.clients, second)
	if err := second.lookup(s.ctx, []string{stageFile}); err != nil {
		s.t.Fatal(err)
	}
	b := s.workerOf(second, "b")
	// The first one, when it hears of it, says that it is another machine in its turn. That may go on for
	// ever; what they are told must be true all the while.
	for range 20 {
		if b.tries(0) {
			s.writesOnce(b, 0)
		}
		if a.tries(0) {
			s.writesOnce(a, 0)
		}
	}
	second.up.Abandon()
	first.up.Abandon()
	s.clients = s.clients[:len(s.clients)-1]
	second.end()
	first.life.Lock()
	defer first.life.Unlock()
	if err := first.connect(s.ctx); err != nil {
		s.t.Fatal(err)
	}
}

// The first edge condition of 8.4.3: the lease is over, another has the lock and gives it back, the server
// restarts. The first one may not reclaim it then, and it is told.
func firstEdge(s *stage) {
	a, b := s.worker("c00", "a"), s.worker("c01", "b")
	s.gets(a, 0)
	s.writes(a, 0)
	s.cut(a.c)
	s.gets(b, 0)
	s.writes(b, 0)
	s.frees(b, 0)
	s.kill(s.serves[0])
	s.heal(a.c)
	s.boot(s.serves[0])
	s.loses(a, 0, "in the first edge condition")
	s.gets(a, 0)
	s.writes(a, 0)
}

// The second edge condition: the server restarts, and the client is away for all of grace; another has the lock
// and gives it back, and the server restarts again.
func secondEdge(s *stage) {
	a, b := s.worker("c00", "a"), s.worker("c01", "b")
	s.gets(a, 0)
	s.writes(a, 0)
	s.kill(s.serves[0])
	s.cut(a.c)
	s.boot(s.serves[0])
	s.gets(b, 0)
	s.writes(b, 0)
	s.frees(b, 0)
	s.kill(s.serves[0])
	s.heal(a.c)
	s.boot(s.serves[0])
	s.loses(a, 0, "in the second edge condition")
	s.gets(a, 0)
	s.writes(a, 0)
}

// The re-export server is away for longer than the origin waits, and a client of the origin has the lock
// meanwhile. The reclaim is refused, and is not made a lock (I3): its holder is told.
func awayTooLong(s *stage) {
	a, r := s.worker("c00", "a"), s.worker("direct", "r")
	s.gets(a, 0)
	s.writes(a, 0)
	s.kill(s.serves[0])
	s.gets(r, 0)
	s.writes(r, 0)
	s.frees(r, 0)
	s.boot(s.serves[0])
	s.returns(a.c)
	if a.has(0) { // the judge says what that means
		s.writesOnce(a, 0)
	}
}

// delayed has a write of a re-export server arrive at the origin when the server's next life is under way.
// It is resumed, so the write's stateid and session are good unless they were fenced (DESIGN 3, resume, 3).
func delayed(s *stage) {
	a := s.worker("c00", "a")
	s.gets(a, 0)
	for range 3 {
		s.writes(a, 0)
		fh, cell := a.c.files[stageFile], cellOf(stageFile, 0)
		value, ok := a.read(cell, fh, 0)
		if !ok {
			s.t.Fatal("the cell cannot be read")
		}
		thaw := s.links["link serve0"].Freeze()
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.write(cell, fh, 0, value+1) // until the server is back
		}()
		rest(s.ctx, time.Second) // it is in the link by now; nothing tells
		s.kill(s.serves[0])
		s.boot(s.serves[0])
		<-done
		s.keeps(a, 0, "when its server restarted") // and writes: the same number, if what was delayed was refused
		s.writes(a, 0)
		thaw()
		rest(s.ctx, time.Second) // what is to arrive has arrived; nothing tells
		s.peeked()
	}
}
