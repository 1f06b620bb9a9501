package journal

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// State is what Open found.
type State uint8

// The states of a journal, best first.
const (
	// Intact: nothing is wrong.
	Intact State = iota
	// Torn: the last group commit was cut off before it was acknowledged, as a power cut does. Nothing
	// that was acknowledged is lost.
	Torn
	// Repaired: there was rot or a file was missing, but every record of a client, open, lock, origin
	// and handle is proven to be there. Notes say what it was.
	Repaired
	// Damaged: acknowledged records are lost, or it cannot be excluded.
	Damaged
)

func (s State) String() string {
	switch s {
	case Intact:
		return "intact"
	case Torn:
		return "torn"
	case Repaired:
		return "repaired"
	case Damaged:
		return "damaged"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// MarshalText is of encoding.TextMarshaler, for JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is the way back.
func (s *State) UnmarshalText(text []byte) error {
	for _, v := range []State{Intact, Torn, Repaired, Damaged} {
		if v.String() == string(text) {
			*s = v
			return nil
		}
	}
	return fmt.Errorf("journal: %q is no state", text)
}

// A SeqRange is the group commits First to Last, both included.
type SeqRange struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// A Report says in what state a journal was found, by Open, OpenReadOnly or Verify.
type Report struct {
	Dir   string `json:"dir"`
	State State  `json:"state"`
	// Complete is false if records may be missing: because of what was found now, or of damage found
	// at an earlier boot (IncompleteSince) whose grace period has not ended yet.
	Complete        bool   `json:"complete"`
	IncompleteSince uint32 `json:"incomplete_since_epoch,omitempty"`
	// New says that there was no journal in the directory.
	New bool `json:"new"`
	// Epoch is the epoch of the last boot; of this one, after Open.
	Epoch uint32 `json:"epoch"`
	// Seq is the last group commit found, Marked the last that is known to have been acknowledged.
	Seq    uint64 `json:"seq"`
	Marked uint64 `json:"marked"`
	// Missing are group commits that are known to be lost. It may be empty although State is Damaged:
	// rot in a table takes records, not commits.
	Missing []SeqRange `json:"missing,omitempty"`
	// LostEvents is how many entries of the event log are lost. Those do not make a journal Damaged.
	LostEvents uint64 `json:"lost_events,omitempty"`
	// Records counts live records, void ones included.
	Records uint64 `json:"records"`
	// Notes are sentences about what was found and done, in no fixed form.
	Notes []string `json:"notes,omitempty"`
	// SetAside is where the files as they were found were moved to, if they could not be used.
	SetAside string `json:"set_aside,omitempty"`
}

// Text says it all in a few lines for people.
func (r *Report) Text() string {
	var b strings.Builder
	switch {
	case r.New:
		fmt.Fprintf(&b, "journal %s: new\n", r.Dir)
	default:
		fmt.Fprintf(&b, "journal %s: %v, epoch %d, %d records, group commit %d\n", r.Dir, r.State, r.Epoch, r.Records, r.Seq)
	}
	for _, m := range r.Missing {
		if m.First == m.Last {
			fmt.Fprintf(&b, "  lost: group commit %d\n", m.First)
		} else {
			fmt.Fprintf(&b, "  lost: group commits %d to %d\n", m.First, m.Last)
		}
	}
	if r.LostEvents > 0 {
		fmt.Fprintf(&b, "  lost: %d entries of the event log\n", r.LostEvents)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "  %s\n", n)
	}
	if r.SetAside != "" {
		fmt.Fprintf(&b, "  the files as they were found are kept in %s\n", r.SetAside)
	}
	if !r.Complete {
		b.WriteString("  incomplete: a reclaim that is not in the journal is unknown, not wrong; the origin decides\n")
	}
	return b.String()
}

func (r *Report) String() string { return strings.TrimSuffix(r.Text(), "\n") }

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// worsen raises the state to at least s.
func (r *Report) worsen(s State) {
	if s > r.State {
		r.State = s
	}
}

// say logs the report, as loudly as it is bad.
func (r *Report) say(l *slog.Logger) {
	level := slog.LevelInfo
	switch {
	case !r.Complete:
		level = slog.LevelError
	case r.State != Intact:
		level = slog.LevelWarn
	}
	l.Log(context.Background(), level, r.String(), "state", r.State.String(), "epoch", r.Epoch)
}
