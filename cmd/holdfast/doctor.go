package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/config"
	"holdfast/internal/rpc"
	"holdfast/nfsup"
)

// A finding is one line of doctor.
type finding struct {
	What  string `json:"what"`
	Level string `json:"level"` // ok, warning, bad
	Text  string `json:"text"`
	exit  int
}

func newDoctor(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "doctor [ORIGIN:/PATH]", Short: "Check this host, and an origin, before service begins", Args: cobra.MaximumNArgs(1),
		Long: `Check this host and, if one is named, an origin: can it be reached, which version, which lease, does it
say that it is friendly to re-exports, how long may a reboot take. Exit code 0 if nothing is bad, 6
if the origin cannot be reached, else 1.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := g.load()
			if err != nil {
				return err
			}
			list := checkHost(cfg)
			if len(args) == 1 {
				o, err := config.ParseOrigin(args[0])
				if err != nil {
					return withExit(exitUsage, err)
				}
				list = append(list, checkOrigin(cmd.Context(), &o)...)
			}
			return reportFindings(g, list)
		},
	}
}

func reportFindings(g *globals, list []finding) error {
	code := 0
	for i := range list {
		if list[i].Level == "bad" {
			code = max(code, 1, list[i].exit)
		}
	}
	if g.json {
		if err := printJSON(map[string]any{"schema": 1, "findings": list}); err != nil {
			return err
		}
	} else {
		var rows []string
		for _, f := range list {
			rows = append(rows, row(strings.ToUpper(f.Level), f.What, f.Text))
		}
		if err := table(row("", "CHECK", "FINDING"), rows); err != nil {
			return err
		}
	}
	if code != 0 {
		return withExit(code, errors.New("something is bad; see above"))
	}
	return nil
}

func ok(what, format string, a ...any) finding {
	return finding{What: what, Level: "ok", Text: fmt.Sprintf(format, a...)}
}

func warn(what, format string, a ...any) finding {
	return finding{What: what, Level: "warning", Text: fmt.Sprintf(format, a...)}
}

func bad(what string, exit int, format string, a ...any) finding {
	return finding{What: what, Level: "bad", Text: fmt.Sprintf(format, a...), exit: exit}
}

// checkHost looks at what every role needs here.
func checkHost(cfg *config.Config) []finding {
	var list []finding
	if os.Geteuid() == 0 {
		list = append(list, ok("user", "root"))
	} else {
		list = append(list, bad("user", 0, "not root: Holdfast acts for many users and must be started as root"))
	}
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err == nil {
		list = append(list, ok("/dev/fuse", "can be opened"))
		if err := f.Close(); err != nil {
			list = append(list, warn("/dev/fuse", "%v", err))
		}
	} else {
		list = append(list, warn("/dev/fuse", "%v: no local mounts; modprobe fuse", err))
	}
	dir := cfg.Dir()
	for {
		if _, err := os.Stat(dir); err == nil || dir == "/" {
			break
		}
		dir = filepath.Dir(dir)
	}
	if d, err := syncTime(dir); err != nil {
		list = append(list, bad("state directory", 0, "%v", err))
	} else if d > 20*time.Millisecond {
		list = append(list, warn("state directory", "%s: a durable write takes %v, so each lock does; use a faster disk", cfg.Dir(), d.Round(time.Millisecond)))
	} else {
		list = append(list, ok("state directory", "%s: a durable write takes %v", cfg.Dir(), d.Round(10*time.Microsecond)))
	}
	if ln, err := net.Listen("tcp", cfg.Listen); err != nil {
		list = append(list, warn("port", "%s: %v; if Holdfast runs already, all is well", cfg.Listen, err))
	} else {
		list = append(list, ok("port", "%s is free", cfg.Listen))
		if err := ln.Close(); err != nil {
			list = append(list, warn("port", "%v", err))
		}
	}
	return list
}

// syncTime is the median of five durable writes.
func syncTime(dir string) (d time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".holdfast-doctor-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	times := make([]time.Duration, 5)
	for i := range times {
		begin := time.Now()
		if _, err := f.Write(make([]byte, 200)); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		times[i] = time.Since(begin)
	}
	for i := range times {
		for j := i; j > 0 && times[j] < times[j-1]; j-- {
			times[j], times[j-1] = times[j-1], times[j]
		}
	}
	return times[2], nil
}

// checkOrigin asks an origin what it is, as a client of its own that leaves nothing behind.
func checkOrigin(ctx context.Context, o *config.Origin) []finding {
	opt, err := o.ParseOptions()
	if err != nil {
		return []finding{bad("origin", exitUsage, "%v", err)}
	}
	addr := o.Addr(opt)
	ctx, stop := context.WithTimeout(ctx, 15*time.Second)
	defer stop()
	now := time.Now()
	cfg := nfsup.Config{
		Addr: addr, MinorVersion: 2, Retain: true, Cred: &rpc.Cred{Flavor: rpc.AUTH_SYS, Machine: config.Hostname()},
		OwnerID: []byte("holdfast doctor " + config.Hostname() + " " + strconv.FormatInt(now.UnixNano(), 36) + " " + strconv.Itoa(os.Getpid())),
	}
	copy(cfg.Verifier[:], strconv.FormatInt(now.UnixNano(), 36))
	c, err := nfsup.Dial(ctx, cfg)
	if err != nil {
		return []finding{bad("origin", exitUnreachable, "%s: %v", addr, err)}
	}
	info := c.Info()
	list := []finding{
		ok("origin", "%s answers in %v: NFS 4.%d, %s", addr, info.RTT.Round(10*time.Microsecond), info.MinorVersion, orUnknown(info.ServerImpl)),
		ok("lease", "%v: a reboot of the re-export server must end within it", info.Lease),
		ok("transfers", "read %d KiB, write %d KiB, %d requests at once", info.MaxRead>>10, info.MaxWrite>>10, info.Slots),
	}
	if info.Lease < 20*time.Second {
		list = append(list, warn("lease", "%v is short: a machine that boots slowly loses its clients' locks", info.Lease))
	}
	if info.RetainGranted {
		list = append(list, ok("friendly", "says that it retains state over our restart (absence %v, reclaim cap %v)", info.AbsenceLimit, info.ReclaimCap))
	} else {
		list = append(list, warn("friendly", "does not say that it retains state over a client's restart; unless it is known to, locks are lost when the re-export server restarts"))
	}
	if !info.BackChannel {
		list = append(list, warn("callbacks", "the origin has no back channel to us: waiting for a lock polls"))
	}
	if err := c.Close(ctx); err != nil {
		list = append(list, warn("origin", "leaving: %v", err))
	}
	return list
}

func orUnknown(s string) string {
	if s == "" {
		return "implementation unknown"
	}
	return s
}
