package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/config"
	"holdfast/internal/probe"
)

func newProbe(g *globals) *cobra.Command {
	var courtesy bool
	var uid, gid uint32
	c := &cobra.Command{
		Use: "probe nfs://ORIGIN[:PORT]/PATH", Short: "Find out by trying what an origin can do for a re-export", Args: cobra.ExactArgs(1),
		Long: `Find out by trying what an origin can do for a re-export, and how long a reboot of the re-export
server may take there. Two clients, made for this, lock a scratch file in the directory; one of them
"restarts", with the same verifier (resume) and with a new one and reclaims (friendly), while the
other tries to get in. Nothing is left behind. --courtesy adds an absence that is longer than the
origin's lease, and takes that long. Exit code 0 if locks survive a reboot there in some way, 1 if not,
6 if the origin cannot be reached.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := config.ParseOrigin(args[0])
			if err != nil {
				return withExit(exitUsage, err)
			}
			opt, err := o.ParseOptions()
			if err != nil {
				return withExit(exitUsage, err)
			}
			po := probe.Options{Addr: o.Addr(opt), Path: o.Path, UID: uid, GID: gid, Courtesy: courtesy}
			if !g.quiet && !g.json {
				po.Say = func(text string) { fmt.Fprintln(os.Stderr, "trying: "+text) }
			}
			r, err := probe.Run(cmd.Context(), po)
			if g.json {
				if e := printJSON(r); e != nil {
					return e
				}
			} else if r.Lease != 0 {
				if _, e := os.Stdout.WriteString(probeText(r)); e != nil {
					return e
				}
			}
			switch {
			case err != nil && r.RTT == 0:
				return withExit(exitUnreachable, fmt.Errorf("%s: %w", po.Addr, err))
			case err != nil:
				return err
			case r.Recovery == "none":
				return withExit(exitFailed, fmt.Errorf("locks do not survive a reboot of a re-export server of this origin"))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&courtesy, "courtesy", false, "also stay away for longer than the lease; takes that long")
	c.Flags().Uint32Var(&uid, "uid", 0, "user id that makes the scratch file")
	c.Flags().Uint32Var(&gid, "gid", 0, "group id that makes the scratch file")
	return c
}

func probeText(r *probe.Report) string {
	var b strings.Builder
	p := func(what, format string, a ...any) {
		fmt.Fprintf(&b, "%-10s "+format+"\n", append([]any{what}, a...)...)
	}
	impl := r.Impl
	if impl == "" {
		impl = "does not say what it is"
	}
	p("origin", "%s  NFS 4.%d  %s  round trip %s", r.Addr, r.Minor, impl, shortTime(r.RTT))
	p("limits", "lease %v, read %d KiB, write %d KiB, %d requests at once, handles of %d bytes%s", r.Lease, r.MaxRead>>10, r.MaxWrite>>10, r.Slots, r.HandleBytes,
		map[bool]string{true: " (mapped for NFSv3 clients)"}[r.HandleBytes > 59])
	finding := func(what string, f probe.Finding) { p(what, "%-7s  %s", f.Answer, f.Text) }
	finding("locks", r.Locks)
	finding("resume", r.Resume)
	finding("friendly", r.Friendly)
	finding("courtesy", r.Courtesy)
	if r.Draft == probe.Yes {
		p("draft", "%-7s  agrees to retain state: absence limit %v, reclaim cap %v", r.Draft, r.AbsenceLimit, r.ReclaimCap)
	} else {
		p("draft", "%-7s  does not know the retention flag, or declines", r.Draft)
	}
	for _, a := range []probe.Answer{probe.Yes, probe.No, probe.Unknown} {
		var names []string
		for _, name := range slices.Sorted(maps.Keys(r.Operations)) {
			if r.Operations[name] == a {
				names = append(names, name)
			}
		}
		if names != nil {
			p("ops", "%-7s  %s", a, strings.Join(names, " "))
		}
	}
	switch r.Recovery {
	case "none":
		p("verdict", "a reboot of a re-export server loses all locks here, unless the origin reboots as well")
	default:
		beyond := ""
		if r.Courtesy.Answer == probe.Yes {
			beyond = "; longer while nobody else wants what is locked"
		}
		p("verdict", "--recovery=%s: a reboot may take %v and keep every lock%s", r.Recovery, r.Budget.Round(time.Second), beyond)
	}
	return b.String()
}
