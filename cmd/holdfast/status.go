package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/fs/remote"
	"holdfast/fs/remote/diskcache"
	"holdfast/internal/control"
	"holdfast/nfsdown"
)

// A statusView is one screen of what an instance does.
type statusView struct {
	Schema   int       `json:"schema"`
	Role     string    `json:"role"`
	Instance string    `json:"instance"`
	Version  string    `json:"version"`
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	// Phase is starting, fenced, connecting, restoring, grace, serving, degraded or stopping.
	Phase  string     `json:"phase"`
	Listen string     `json:"listen,omitempty"`
	Grace  *graceView `json:"grace,omitempty"`
	// Restart is how end clients saw the last start of this instance.
	Restart *restartView `json:"restart,omitempty"`
	Clients int          `json:"clients"`
	Opens   int          `json:"opens"`
	Locks   int          `json:"locks"`
	Waiters int          `json:"waiters"`
	// Delegated is what end clients have; nil if files are not delegated.
	Delegated *delegatedView `json:"delegated,omitempty"`
	Journal   struct {
		State    string `json:"state"`
		Complete bool   `json:"complete"`
		Epoch    uint32 `json:"epoch"`
		Records  uint64 `json:"records"`
		Commits  uint64 `json:"commits"`
		CommitNS uint64 `json:"commit_ns"`
		Error    string `json:"error,omitempty"`
	} `json:"journal"`
	Fence   *fenceView       `json:"fence,omitempty"`
	Origins []remote.Report  `json:"origins,omitempty"`
	Mounts  []string         `json:"mounts,omitempty"`
	Cache   *diskcache.Usage `json:"cache,omitempty"`
	// Problems is why the phase is degraded or what else wants attention; empty is good.
	Problems []string `json:"problems"`
}

// A delegatedView counts delegations to end clients, and since the start the recalls and the revocations.
type delegatedView struct {
	Read     int64  `json:"read"`
	Write    int64  `json:"write"`
	Recalled uint64 `json:"recalled"`
	Revoked  uint64 `json:"revoked"`
}

// A restartView is how end clients saw the last start.
type restartView struct {
	Mode   string `json:"mode"`             // invisible or grace
	Reason string `json:"reason,omitempty"` // why grace, or what went wrong
	Done   bool   `json:"done"`             // all is as it was before, but for what is lost
	Opens  int    `json:"opens"`
	Locks  int    `json:"locks"`
	Lost   int    `json:"lost"`
	TookNS int64  `json:"took_ns"`
}

func viewRestart(r nfsdown.RestartInfo) *restartView {
	v := &restartView{Mode: "grace", Reason: r.Reason, Done: r.Done, Opens: r.Opens, Locks: r.Locks, Lost: r.Lost, TookNS: int64(r.Took)}
	if r.Invisible {
		v.Mode = "invisible"
	}
	return v
}

func (v *restartView) text() string {
	switch {
	case v.Mode != "invisible":
		return "by grace: " + v.Reason
	case !v.Done:
		return fmt.Sprintf("invisible; %d opens and %d locks are being asked for", v.Opens, v.Locks)
	case v.Lost > 0:
		return fmt.Sprintf("invisible, but %d of %d opens and locks are lost; see events. %s", v.Lost, v.Opens+v.Locks, v.Reason)
	}
	return fmt.Sprintf("invisible; %d opens and %d locks are as before, after %s", v.Opens, v.Locks, time.Duration(v.TookNS).Round(time.Millisecond))
}

// A fenceView is the fence in front of local applications.
type fenceView struct {
	Closed  bool `json:"closed"`
	Waiting int  `json:"fence_waiting"`
}

func newStatus(g *globals) *cobra.Command {
	var watch, check bool
	c := &cobra.Command{
		Use: "status", Short: "Show on one screen what a running instance does", Args: cobra.NoArgs,
		Long: `Show on one screen what a running instance does.
With --check it prints one line and exits as monitoring plugins do: 0 good, 1 warning (grace, restoring, fence),
2 critical (journal failed or damaged, origin away), 3 unknown (not running).`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.dial()
			if err != nil {
				return err
			}
			for {
				var v statusView
				err := client.Get(cmd.Context(), "/v1/status", nil, &v)
				switch {
				case check:
					return checkStatus(&v, err)
				case err != nil:
					return err
				case g.json:
					err = printJSON(v)
				default:
					if watch {
						fmt.Print("\x1b[H\x1b[2J")
					}
					_, err = os.Stdout.WriteString(v.text())
				}
				if err != nil || !watch {
					return err
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(time.Second):
				}
			}
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "refresh every second")
	c.Flags().BoolVar(&check, "check", false, "one line and an exit code for monitoring")
	return c
}

// checkStatus is the monitoring plugin.
func checkStatus(v *statusView, err error) error {
	line := func(code int, word, text string) error {
		fmt.Printf("HOLDFAST %s - %s\n", word, text)
		if code == 0 {
			return nil
		}
		return withExit(code, errors.New(""))
	}
	if err != nil {
		if errors.Is(err, control.ErrNotRunning) {
			return line(3, "UNKNOWN", "not running")
		}
		return line(3, "UNKNOWN", err.Error())
	}
	summary := fmt.Sprintf("%s, %d clients, %d locks", v.Phase, v.Clients, v.Locks)
	switch {
	case v.Journal.Error != "" || !v.Journal.Complete || v.Phase == "degraded":
		return line(2, "CRITICAL", summary+": "+strings.Join(v.Problems, "; "))
	case v.Phase != "serving":
		return line(1, "WARNING", summary)
	case len(v.Problems) > 0:
		return line(1, "WARNING", summary+": "+strings.Join(v.Problems, "; "))
	}
	return line(0, "OK", summary)
}

func (v *statusView) text() string {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	p("%s %q  %s  pid %d  up %s  %s", v.Role, v.Instance, strings.ToUpper(v.Phase), v.PID, ago(time.Since(v.Started)), v.Version)
	if v.Fence != nil {
		state := "open: local applications see the files"
		if v.Fence.Closed {
			state = fmt.Sprintf("CLOSED until re-export begins; %d requests wait", v.Fence.Waiting)
		}
		p("fence     %s", state)
	}
	if v.Restart != nil {
		p("restart   %s", v.Restart.text())
	}
	if g := v.Grace; g != nil {
		switch g.Phase {
		case "none":
			p("grace     none was needed")
		case "active":
			p("grace     %s left; %d of %d clients done; reclaims %d granted, %d refused, %d to come", ago(time.Duration(g.LeftNS)), g.Done, g.Expected, g.Granted, g.Refused, g.Remaining)
			for _, m := range g.Missing {
				p("          missing: %s", m)
			}
			for _, path := range g.OverFor {
				p("          over for %s: its origin takes no reclaims", path)
			}
			for _, l := range g.LostEarly {
				p("          lost: %s", l)
			}
		default:
			p("grace     over; %d of %d clients came back; reclaims %d granted, %d refused, %d lost", g.Done, g.Expected, g.Granted, g.Refused, len(g.Lost))
			for _, l := range g.Lost {
				p("          lost: %s", l)
			}
		}
	}
	for _, o := range v.Origins {
		p("origin    %s at %s  4.%d  rtt %s  lease %s (%s left)  %d connections", o.Name, o.Addr, o.Minor, shortTime(o.RTT), ago(o.Lease), ago(time.Until(o.LeaseExpires)), o.Connections)
		p("          %s  a reboot may take %s  recovery %s, %s  %d clients there", friendlyText(o.Retain), ago(o.Budget), o.Came, o.Phase, o.Clients)
		p("          consistency %s", consistencyText(&o))
		if o.Lost != "" {
			p("          nothing can be reclaimed: %s", o.Lost)
		}
	}
	if c := v.Cache; c != nil {
		limit := ""
		if c.Limit > 0 {
			limit = " of " + sizeText(c.Limit)
		}
		p("cache     %s%s in %d files; least lately used %s ago", sizeText(c.Bytes), limit, c.Objects, ago(time.Duration(c.Oldest)*time.Second))
		for _, o := range v.Origins {
			d := o.Data
			if d == nil {
				continue
			}
			p("          %s: %.1f%% of the bytes hit, %s saved; missed: %d not there, %d changed, %d through", o.Name, 100*d.HitRatio, sizeText(int64(d.Saved)), d.Cold, d.Changed, d.NoOpen+d.Denied+d.Unsettled)
			if d.IsAway {
				p("          %s is away; what is cached was valid %s ago (origin-away: %s)", o.Name, ago(time.Duration(d.OldestSeen)), d.Away)
			}
		}
	}
	if v.Listen != "" {
		p("serving   %s  %d clients, %d opens, %d locks, %d waiting", v.Listen, v.Clients, v.Opens, v.Locks, v.Waiters)
		if d := v.Delegated; d != nil {
			p("delegated %d files for reading, %d for writing; %d recalls, %d not obeyed", d.Read, d.Write, d.Recalled, d.Revoked)
		}
	}
	for _, m := range v.Mounts {
		p("mounted   %s", m)
	}
	p("journal   %s, boot %d, %d records, %d commits", v.Journal.State, v.Journal.Epoch, v.Journal.Records, v.Journal.Commits)
	for _, t := range v.Problems {
		p("PROBLEM   %s", t)
	}
	return b.String()
}

func friendlyText(retain bool) string {
	if retain {
		return "friendly: it said that it holds our locks over our restart"
	}
	return "it did not say that it holds our locks over our restart"
}

// consistencyText says what clients may see.
func consistencyText(o *remote.Report) string {
	switch o.Consistency {
	case remote.Strict:
		return "strict: each open, lookup and getattr asks the origin"
	case remote.Immutable:
		return "immutable: nothing is asked for twice"
	}
	return fmt.Sprintf("%s: files are at most %s old, directories %s", o.Consistency, ago(o.AgeFiles), ago(o.AgeDirs))
}

// shortTime prints a round trip.
func shortTime(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }
