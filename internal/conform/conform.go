// Package conform is a suite of tests that any NFSv4.1 or 4.2 server can be run against, about what
// makes locks survive reboots: byte-range locks and share reservations, their reclaim after a restart
// of the server, and what happens to them when it is the client that restarts (RFC 8881 8.4, the
// design of reboot recovery for re-export servers, and draft-cel-nfsv4-state-retention).
//
// A test says what it wants of the server in a sentence, and the section that asks for it. It works on
// files of its own in a scratch directory, with clients of its own ([plain.Client]). What the RFC leaves
// open passes either way, as long as the server is consistent: a lock that it says it has kept is kept.
// What a server need not have is skipped, with the reason.
package conform

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/plain"
)

// An Outcome is what became of a test.
type Outcome string

// The outcomes.
const (
	Pass Outcome = "PASS"
	Fail Outcome = "FAIL"
	Skip Outcome = "SKIP"
)

// A Test is one thing that is wanted of a server.
type Test struct {
	Name    string `json:"name"`
	About   string `json:"about"`
	Section string `json:"section"` // of RFC 8881 unless it says another
	Slow    bool   `json:"slow,omitempty"`
	Restart bool   `json:"restart,omitempty"` // restarts the server
	run     func(*T)
}

// A Result is a test and its outcome. Took is nanoseconds.
type Result struct {
	Test
	Outcome Outcome       `json:"outcome"`
	Text    string        `json:"text,omitempty"` // why it failed or was skipped
	Took    time.Duration `json:"took_ns"`
}

// A Report is what became of all tests.
type Report struct {
	Schema  int           `json:"schema"`
	Addr    string        `json:"addr"`
	Impl    string        `json:"impl,omitempty"`
	Minor   uint32        `json:"minor_version"`
	Lease   time.Duration `json:"lease_ns"`
	Retain  bool          `json:"retain"` // the server agrees to retain state
	Passed  int           `json:"passed"`
	Failed  int           `json:"failed"`
	Skipped int           `json:"skipped"`
	Results []Result      `json:"results"`
}

// Options say which server is tested, and with what.
type Options struct {
	Addr     string // host:port
	Path     string // a directory in which the scratch directory may be made
	UID, GID uint32
	Minor    uint32 // 1 or 2; zero is the highest that the server has
	// Match chooses tests by name; nil is all.
	Match func(name string) bool
	// Slow runs the tests that wait for a lease to run out.
	Slow bool
	// Restart restarts the server abruptly, as a power failure would, and returns when it was started
	// again. Without it the tests that need one are skipped.
	Restart func(context.Context) error
	// Each, if not nil, hears of each result at once.
	Each func(*Result)
}

// Tests lists all tests in the order in which they run.
func Tests() []Test {
	var all []Test
	for _, group := range [][]Test{lockTests, shareTests, clientTests, completeTests, retainTests, courtesyTests, rebootTests} {
		all = append(all, group...)
	}
	return all
}

// Run runs the tests. The error says why it could not; a test that fails is no error.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	r := &Report{Schema: 1, Addr: o.Addr}
	s, err := o.enter(ctx, r)
	if err != nil {
		return r, err
	}
	// What was made is taken away even if ctx ended.
	defer func() {
		// Another client may have to wait for the end of a grace period first.
		clean, stop := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second+2*r.Lease)
		defer stop()
		if e := s.clean(clean); e != nil {
			err = errors.Join(err, fmt.Errorf("removing the scratch directory %s: %w", s.scratch, e))
		}
	}()
	for i, test := range Tests() {
		if o.Match != nil && !o.Match(test.Name) {
			continue
		}
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		res := s.test(ctx, i, test)
		switch res.Outcome {
		case Pass:
			r.Passed++
		case Fail:
			r.Failed++
		case Skip:
			r.Skipped++
		}
		r.Results = append(r.Results, res)
		if o.Each != nil {
			o.Each(&res)
		}
	}
	return r, ctx.Err()
}

// A suite is what the tests of one run share.
type suite struct {
	Options
	report  *Report
	scratch string // name of the scratch directory
	parent  nfs4.FH
	dir     nfs4.FH
	left    []string // files that a test could not remove
}

// enter makes the scratch directory, and reads what the server says of itself.
func (o Options) enter(ctx context.Context, r *Report) (*suite, error) {
	s := &suite{Options: o, report: r}
	c, err := s.first(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Cut()
	r.Minor, r.Impl = c.Minor, c.Impl
	if _, err := c.Do(ctx, true, &nfs4.ReclaimCompleteArgs{}); err != nil {
		return nil, err
	}
	if s.parent, err = c.Lookup(ctx, o.Path); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Path, err)
	}
	v, err := plain.NewVerifier()
	if err != nil {
		return nil, err
	}
	s.scratch = ".holdfast-conform-" + hex.EncodeToString(v[:])
	list, err := c.Do(ctx, true, &nfs4.PutfhArgs{FH: s.parent},
		&nfs4.CreateArgs{Type: nfs4.CreateType{Type: nfs4.NF4DIR}, Name: s.scratch, Attrs: nfs4.Fattr{Mask: nfs4.Bits(nfs4.FATTR4_MODE), Mode: 0o700}},
		&nfs4.GetfhArgs{}, &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_LEASE_TIME)})
	if err != nil {
		return nil, fmt.Errorf("cannot make a scratch directory in %s: %w", o.Path, err)
	}
	s.dir = list[2].(*nfs4.GetfhRes).FH
	r.Lease = time.Duration(list[3].(*nfs4.GetattrRes).Attrs.LeaseTime) * time.Second
	return s, c.Leave(ctx)
}

// first finds the highest minor version that the server has.
func (s *suite) first(ctx context.Context) (*plain.Client, error) {
	minors := []uint32{2, 1}
	if s.Minor != 0 {
		minors = []uint32{s.Minor}
	}
	for i, minor := range minors {
		c, err := plain.New(s.Addr, minor, "holdfast conform", s.UID, s.GID)
		if err != nil {
			return nil, err
		}
		granted, _, err := c.Join(ctx, true)
		if st, _ := plain.StatusOf(err); st == nfs4.NFS4ERR_MINOR_VERS_MISMATCH && i+1 < len(minors) {
			c.Cut()
			continue
		}
		if err != nil {
			c.Cut()
			return nil, err
		}
		s.report.Retain = granted
		return c, nil
	}
	panic("unreachable: the last minor version returns")
}

// clean removes the scratch directory.
func (s *suite) clean(ctx context.Context) error {
	c, err := plain.New(s.Addr, s.report.Minor, "holdfast conform", s.UID, s.GID)
	if err != nil {
		return err
	}
	defer c.Cut()
	if _, _, err := c.Join(ctx, false); err != nil {
		return err
	}
	if _, err := c.Do(ctx, true, &nfs4.ReclaimCompleteArgs{}); err != nil {
		return err
	}
	for _, name := range s.left {
		_, err := c.Do(ctx, true, &nfs4.PutfhArgs{FH: s.dir}, &nfs4.RemoveArgs{Name: name})
		if st, answered := plain.StatusOf(err); !answered || st != nfs4.NFS4_OK && st != nfs4.NFS4ERR_NOENT {
			return err
		}
	}
	if _, err := c.Do(ctx, true, &nfs4.PutfhArgs{FH: s.parent}, &nfs4.RemoveArgs{Name: s.scratch}); err != nil {
		return err
	}
	return c.Leave(ctx)
}

// test runs one test.
func (s *suite) test(ctx context.Context, number int, test Test) Result {
	r := Result{Test: test, Outcome: Pass}
	switch {
	case test.Slow && !s.Slow:
		r.Outcome, r.Text = Skip, "it waits for a lease to run out: --slow runs it"
		return r
	case test.Restart && s.Restart == nil:
		r.Outcome, r.Text = Skip, "it restarts the server: give --restart-command"
		return r
	}
	begin := time.Now()
	// Grace periods and leases are waited for, a server that hangs is not.
	ctx, stop := context.WithTimeoutCause(ctx, time.Minute+8*s.report.Lease, errors.New("the test took too long"))
	defer stop()
	t := &T{ctx: ctx, suite: s, name: fmt.Sprintf("%02d-%s", number, path.Base(test.Name))}
	func() {
		defer func() {
			switch e := recover().(type) {
			case nil:
			case verdict:
				r.Outcome, r.Text = e.outcome, e.text
			default:
				panic(e)
			}
		}()
		test.run(t)
	}()
	clean, end := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer end()
	t.clean(clean)
	s.left = append(s.left, t.files...)
	r.Took = time.Since(begin)
	return r
}
