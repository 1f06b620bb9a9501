// Package probe finds out by trying what an NFSv4 server can do for a re-export server: whether it
// holds locks over a restart of its client, by the same verifier (resume), by a reclaim (friendly),
// or beyond the lease (courtesy). It works on a scratch file, with two clients of its own, and
// leaves nothing behind.
package probe

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/nfs4"
	"holdfast/internal/plain"
)

// An Answer is what was found out about one thing.
type Answer string

// The answers.
const (
	Yes     Answer = "yes"
	No      Answer = "no"
	Unknown Answer = "unknown" // not tried, or the trial was cut short
)

// Options say whom to probe.
type Options struct {
	Addr string // host:port
	Path string // a directory in which the scratch file may be made
	UID  uint32
	GID  uint32
	// Courtesy tries an absence that is longer than the lease. It takes that long.
	Courtesy bool
	// Say, if not nil, is told what is being tried.
	Say func(string)
}

// A Report is what was found. Times are nanoseconds.
type Report struct {
	Schema int           `json:"schema"`
	Addr   string        `json:"addr"`
	Impl   string        `json:"impl,omitempty"`
	Minor  uint32        `json:"minor_version"`
	RTT    time.Duration `json:"rtt_ns"`
	Lease  time.Duration `json:"lease_ns"`
	// HandleBytes is the length of a file's handle; NFSv3 clients take 64 at most.
	HandleBytes int    `json:"handle_bytes"`
	MaxRead     uint64 `json:"max_read"`
	MaxWrite    uint64 `json:"max_write"`
	Slots       uint32 `json:"slots"`

	// Draft says that the server agreed to EXCHGID4_FLAG_RETAIN_STATE of the retention draft.
	Draft        Answer        `json:"draft_flag"`
	AbsenceLimit time.Duration `json:"absence_limit_ns,omitempty"`
	ReclaimCap   time.Duration `json:"reclaim_cap_ns,omitempty"`

	Locks    Finding `json:"locks"`    // another client is denied what is locked
	Resume   Finding `json:"resume"`   // the same verifier gets everything back
	Friendly Finding `json:"friendly"` // a new verifier can reclaim, and nobody gets in between
	Courtesy Finding `json:"courtesy"` // state outlives the lease while nobody wants it

	// Operations of NFSv4.2 and RFC 8276, by name.
	Operations map[string]Answer `json:"operations"`

	// Recovery is the mode that serve would use: reclaim, resume, or none.
	Recovery string `json:"recovery"`
	// Budget is how long a reboot of the re-export server may take and keep every lock.
	Budget time.Duration `json:"reboot_budget_ns"`
}

// A Finding is an answer and why.
type Finding struct {
	Answer Answer `json:"answer"`
	Text   string `json:"text"`
}

func (f *Finding) set(a Answer, format string, args ...any) {
	f.Answer, f.Text = a, fmt.Sprintf(format, args...)
}

// A prober is one run.
type prober struct {
	Options
	holder, rival *client
	dir           nfs4.FH
	name          string
	file          handle
	lockID        nfs4.Stateid
	report        Report
}

func (p *prober) say(format string, a ...any) {
	if p.Say != nil {
		p.Say(fmt.Sprintf(format, a...))
	}
}

// Run probes. The error says what kept it from finding out; the report has what is known by then.
func Run(ctx context.Context, o Options) (*Report, error) {
	p := &prober{Options: o}
	p.report = Report{Schema: 1, Addr: o.Addr, Draft: No, Operations: map[string]Answer{}, Recovery: "none"}
	for _, f := range []*Finding{&p.report.Locks, &p.report.Resume, &p.report.Friendly, &p.report.Courtesy} {
		f.set(Unknown, "not tried")
	}
	err := p.run(ctx)
	// What was begun is taken back even if ctx ended.
	clean, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	err = errors.Join(err, p.clean(clean))
	p.conclude()
	return &p.report, err
}

func (p *prober) run(ctx context.Context) error {
	if err := p.enter(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{p.tryLock, p.tryOperations, p.tryResume, p.tryCourtesy, p.tryFriendly} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// newClient makes a client that the server has never seen.
func (p *prober) newClient(minor uint32, role string) (*client, error) {
	c, err := plain.New(p.Addr, minor, "holdfast probe "+role, p.UID, p.GID)
	if err != nil {
		return nil, err
	}
	return &client{*c}, nil
}

// enter brings both clients in, and reads what the server says of itself.
func (p *prober) enter(ctx context.Context) (err error) {
	p.say("connecting to %s", p.Addr)
	var granted bool
	for minor := uint32(2); ; minor-- {
		if p.holder, err = p.newClient(minor, "holder"); err != nil {
			return err
		}
		granted, p.report.Slots, err = p.holder.Join(ctx, true)
		if s, _ := plain.StatusOf(err); s == nfs4.NFS4ERR_MINOR_VERS_MISMATCH && minor == 2 {
			p.holder.Cut()
			continue
		}
		if err != nil {
			return err
		}
		break
	}
	p.report.Minor, p.report.Impl = p.holder.Minor, p.holder.Impl
	if granted {
		p.report.Draft = Yes
	}
	if p.rival, err = p.newClient(p.holder.Minor, "rival"); err != nil {
		return err
	}
	if _, _, err = p.rival.Join(ctx, false); err != nil {
		return err
	}
	for _, c := range []*client{p.holder, p.rival} {
		if _, err := c.Do(ctx, true, &nfs4.ReclaimCompleteArgs{}); err != nil {
			return err
		}
	}
	begin := time.Now()
	if _, err := p.holder.Do(ctx, true, &nfs4.PutrootfhArgs{}); err != nil {
		return err
	}
	p.report.RTT = time.Since(begin)
	if p.dir, err = p.holder.Lookup(ctx, p.Path); err != nil {
		return fmt.Errorf("%s: %w", p.Path, err)
	}
	return p.attributes(ctx)
}

func (p *prober) attributes(ctx context.Context) error {
	want := nfs4.Bits(nfs4.FATTR4_SUPPORTED_ATTRS, nfs4.FATTR4_LEASE_TIME, nfs4.FATTR4_MAXREAD, nfs4.FATTR4_MAXWRITE)
	list, err := p.holder.Do(ctx, true, &nfs4.PutfhArgs{FH: p.dir}, &nfs4.GetattrArgs{Request: want})
	if err != nil {
		return err
	}
	a := &list[1].(*nfs4.GetattrRes).Attrs
	p.report.Lease = time.Duration(a.LeaseTime) * time.Second
	p.report.MaxRead, p.report.MaxWrite = a.MaxRead, a.MaxWrite
	draft := nfs4.Bits(nfs4.FATTR4_RETAIN_ABSENCE_LIMIT, nfs4.FATTR4_RETAIN_RECLAIM_CAP)
	if !a.SupportedAttrs.Contains(draft) {
		return nil
	}
	list, err = p.holder.Do(ctx, true, &nfs4.PutfhArgs{FH: p.dir}, &nfs4.GetattrArgs{Request: draft})
	if err != nil {
		return err
	}
	a = &list[1].(*nfs4.GetattrRes).Attrs
	p.report.AbsenceLimit = time.Duration(a.RetainAbsenceLimit) * time.Second
	p.report.ReclaimCap = time.Duration(a.RetainReclaimCap) * time.Second
	return nil
}

// tryLock makes the scratch file and locks a range of it, which the rival must be denied.
func (p *prober) tryLock(ctx context.Context) (err error) {
	p.say("a lock on a scratch file (a server in grace makes this wait)")
	p.name = ".holdfast-probe-" + hex.EncodeToString(p.holder.Verf[:])
	if p.file, err = p.holder.create(ctx, p.dir, p.name); err != nil {
		p.name = ""
		return fmt.Errorf("cannot make a scratch file: %w", err)
	}
	p.report.HandleBytes = len(p.file.fh)
	if p.lockID, err = p.holder.lock(ctx, p.file, false); err != nil {
		p.report.Locks.set(No, "LOCK: %v", err)
		return fmt.Errorf("the server grants no byte-range locks: %w", err)
	}
	denied, err := p.rival.denied(ctx, p.file.fh)
	if err != nil {
		return err
	}
	if !denied {
		p.report.Locks.set(No, "another client is not denied what is locked")
		return errors.New("the server does not keep locks")
	}
	p.report.Locks.set(Yes, "another client is denied what is locked")
	return nil
}

// clean unlocks, closes, removes the scratch file, and signs off.
func (p *prober) clean(ctx context.Context) error {
	var errs []error
	for _, c := range []*client{p.holder, p.rival} {
		if c == nil || c.Slot == 0 {
			continue
		}
		if c == p.holder && p.name != "" {
			if p.file.open != (nfs4.Stateid{}) {
				_, err := c.Do(ctx, true, &nfs4.PutfhArgs{FH: p.file.fh},
					&nfs4.LockuArgs{LockType: nfs4.WRITE_LT, LockStateid: p.lockID, Length: nfs4.MaxFileLen}, &nfs4.CloseArgs{OpenStateid: p.file.open})
				if err != nil {
					errs = append(errs, fmt.Errorf("giving the lock back: %w", err))
				}
			}
			if _, err := c.Do(ctx, true, &nfs4.PutfhArgs{FH: p.dir}, &nfs4.RemoveArgs{Name: p.name}); err != nil {
				errs = append(errs, fmt.Errorf("removing the scratch file %s: %w", p.name, err))
			}
		}
		if err := c.Leave(ctx); err != nil {
			errs = append(errs, fmt.Errorf("signing off: %w", err))
		}
	}
	return errors.Join(errs...)
}
