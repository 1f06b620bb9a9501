package state

import (
	"context"
	"slices"

	"holdfast/fs"
)

// Release is state at the backend that is to be brought down to what is wanted here: an open to be
// closed or downgraded, or ranges to be unlocked. What is wanted is looked up when it runs, under
// the turn, so an owner that took the same thing again meanwhile keeps it.
type Release struct {
	srv  *Server
	open *open
	lock *lock // nil: the whole open with its locks

	done   chan struct{} // guarded by file.mu; closed when a try has ended
	failed bool          // guarded by file.mu; the last try failed
}

// releaseOpen makes sure that o is released, with the locks under it. file.mu is held.
func (s *Server) releaseOpen(eff *Effects, o *open) *Release {
	if o.release == nil {
		o.release = &Release{srv: s, open: o, done: make(chan struct{})}
		o.users++
	}
	if !slices.Contains(eff.Releases, o.release) {
		eff.Releases = append(eff.Releases, o.release)
	}
	return o.release
}

// releaseLock makes sure that the gone ranges of l are unlocked. file.mu is held.
func (s *Server) releaseLock(eff *Effects, l *lock) *Release {
	if l.release == nil {
		l.release = &Release{srv: s, open: l.open, lock: l, done: make(chan struct{})}
		l.users++
		l.open.users++
	}
	if !slices.Contains(eff.Releases, l.release) {
		eff.Releases = append(eff.Releases, l.release)
	}
	return l.release
}

// Owner is whose state it is and of which file.
func (r *Release) Owner() OwnerFile {
	if r.lock != nil {
		return OwnerFile{r.lock.owner, r.open.file.handle}
	}
	return OwnerFile{r.open.owner, r.open.file.handle}
}

// Run does it at b and returns what follows for those who waited. If the backend fails, the release
// is kept and Expire tries again. Running what is done already does nothing.
func (r *Release) Run(ctx context.Context, b Releaser) *Effects {
	if err := r.take(ctx); err != nil {
		return r.retryLater()
	}
	defer r.give()
	for {
		job, ok := r.next()
		if !ok {
			return r.finish()
		}
		if err := job.run(ctx, b); err != nil {
			return r.retryLater()
		}
		r.did(job)
	}
}

func (r *Release) take(ctx context.Context) error {
	if err := r.open.turn.take(ctx, r.lock == nil); err != nil {
		return err
	}
	if r.lock != nil {
		if err := r.lock.turn.take(ctx, true); err != nil {
			r.open.turn.give(false)
			return err
		}
	}
	return nil
}

func (r *Release) give() {
	if r.lock != nil {
		r.lock.turn.give(true)
	}
	r.open.turn.give(r.lock == nil)
}

// releaseJob is one round of calls.
type releaseJob struct {
	owner         fs.Owner
	file          fs.Handle
	closing       bool
	downgrade     bool
	access, deny  fs.Share // to downgrade to
	goneA, goneD  fs.Share // what was gone when the round began
	unlock        map[*lock]fs.RangeSet
	gone          map[*lock]fs.RangeSet
	lockOwnerName map[*lock]fs.Owner
}

// next says what there is to do; false if nothing.
func (r *Release) next() (*releaseJob, bool) {
	o := r.open
	o.file.mu.Lock()
	defer o.file.mu.Unlock()
	r.failed = false
	j := &releaseJob{owner: o.owner, file: o.file.handle, unlock: map[*lock]fs.RangeSet{}, gone: map[*lock]fs.RangeSet{}, lockOwnerName: map[*lock]fs.Owner{}}
	locks := []*lock{r.lock}
	if r.lock == nil {
		locks = locks[:0]
		for l := range o.locks {
			locks = append(locks, l)
		}
		j.goneA, j.goneD = o.goneAccess, o.goneDeny
		a, d := o.wanted()
		j.closing = a == 0 && o.atBackend
		j.downgrade = a != 0 && (j.goneA&^a != 0 || j.goneD&^d != 0)
		j.access, j.deny = a, d
	}
	for _, l := range locks {
		if len(l.gone) > 0 {
			j.gone[l] = l.gone
			j.lockOwnerName[l] = l.owner
			if rest := minus(l.gone, l.wanted()); len(rest) > 0 && !j.closing {
				j.unlock[l] = rest
			}
		}
	}
	return j, j.closing || j.goneA|j.goneD != 0 || len(j.gone) > 0
}

// run calls the backend. What it does not know of is given back already.
func (j *releaseJob) run(ctx context.Context, b Releaser) error {
	for l, set := range j.unlock {
		for _, part := range set {
			if err := b.Unlock(ctx, fs.Root, j.lockOwnerName[l], j.file, part.Range); !released(err) {
				return err
			}
		}
	}
	var err error
	switch {
	case j.closing:
		err = b.CloseFile(ctx, j.owner, j.file)
	case j.downgrade:
		err = b.Downgrade(ctx, j.owner, j.file, j.access, j.deny)
	}
	if released(err) {
		return nil
	}
	return err
}

// released tells whether after err the backend has nothing any more.
func released(err error) bool {
	switch fs.CodeOf(err) {
	case fs.OK, fs.BadStateid, fs.Expired, fs.AdminRevoked, fs.Stale, fs.BadHandle, fs.NoEnt:
		return true
	}
	return false
}

// did takes what was done out of what is gone.
func (r *Release) did(j *releaseJob) {
	o := r.open
	o.file.mu.Lock()
	defer o.file.mu.Unlock()
	for l, set := range j.gone {
		l.gone = minus(l.gone, set)
	}
	if r.lock == nil {
		o.goneAccess &^= j.goneA
		o.goneDeny &^= j.goneD
		if j.closing {
			o.atBackend = false
		}
	}
}

// finish ends the release and wakes those who waited.
func (r *Release) finish() *Effects {
	s, o, eff := r.srv, r.open, &Effects{}
	if r.lock == nil {
		o.party.closed(o.owner.Owner, o.file.handle)
	}
	o.file.mu.Lock()
	if r.lock != nil && r.lock.release == r {
		r.lock.release = nil
		r.lock.users--
		o.users--
		close(r.done)
	}
	if r.lock == nil && o.release == r {
		o.release = nil
		o.users--
		close(r.done)
	}
	s.wake(o.file, eff)
	for l := range o.locks {
		o.file.tidyLock(l)
	}
	o.file.tidyOpen(o)
	o.file.mu.Unlock()
	s.files.drop(o.file)
	return eff
}

// retryLater keeps the release for Expire. Those who wait for it are told DELAY meanwhile.
func (r *Release) retryLater() *Effects {
	r.open.file.mu.Lock()
	current := r.open.release == r || r.lock != nil && r.lock.release == r
	if current {
		r.failed = true
		close(r.done)
		r.done = make(chan struct{})
	}
	r.open.file.mu.Unlock()
	if current {
		r.srv.mu.Lock()
		r.srv.failed = append(r.srv.failed, r)
		r.srv.mu.Unlock()
	}
	return nil
}
