package fuse

import (
	"context"
	"sync"

	"holdfast/fs"
)

// dirty is what a file owes to the origin's disk: writes that were answered Unstable and not yet
// followed by a Commit with the same verifier (RFC 8881 18.3, invariant I7). The data itself is not
// kept here, so when the verifier says that it may be lost, all who had the file open are told: EIO.
type dirty struct {
	mu        sync.Mutex
	verifier  fs.WriteVerifier // of the writes that are not committed
	wrote     uint64           // unstable writes answered
	committed uint64           // of those, how many are durable or reported lost
	lost      uint64           // how often data was lost; see file.seen
}

// add counts an answered write.
func (d *dirty) add(res *fs.WriteResult) (lost bool) {
	if res.Committed != fs.Unstable {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wrote > d.committed && d.verifier != res.Verifier {
		d.committed = d.wrote
		d.lost++
		lost = true
	}
	d.verifier = res.Verifier
	d.wrote++
	return lost
}

// losses is the present count, for a file that is opened now.
func (d *dirty) losses() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

// commit makes the file durable as far as it was written when commit was called.
func (s *server) commit(ctx context.Context, cred *fs.Cred, n *node) error {
	d := &n.dirty
	d.mu.Lock()
	upTo, verifier := d.wrote, d.verifier
	clean := d.wrote == d.committed
	d.mu.Unlock()
	if clean {
		return nil
	}
	got, err := s.backend.Commit(ctx, cred, n.handle, 0, 0)
	if err != nil {
		return err
	}
	d.mu.Lock()
	lost := got != verifier && upTo > d.committed
	if lost {
		d.lost++
	}
	d.committed = max(d.committed, upTo)
	d.mu.Unlock()
	if lost {
		s.logLost(n)
	}
	return nil
}

func (s *server) logLost(n *node) {
	s.log.Error("the origin restarted before it had written data to disk; writers get EIO", "node", n.id)
}

// report tells the holder of a file once of each loss.
func (f *file) report() error {
	if now := f.node.dirty.losses(); f.seen.Swap(now) < now {
		return fs.E("COMMIT", fs.IO, errLost)
	}
	return nil
}

// sync is commit and report.
func (s *server) sync(ctx context.Context, f *file) error {
	if err := s.commit(ctx, f.cred, f.node); err != nil {
		return err
	}
	return f.report()
}
