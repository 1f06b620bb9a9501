package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/fs"
	"holdfast/internal/control"
	"holdfast/journal"
	"holdfast/nfsdown"
)

func newWhy(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "why FILE", Short: "Say who holds a file, who waits for it, and who lost what and when", Args: cobra.ExactArgs(1),
		Long: `Say who has a file open or locked, who waits for a lock on it, whether somebody holds a lock that is
no client of this server (another client of the origin, or an application on this host), and what
the audit trail says of the file. FILE is the path as clients know it (/proj/a/b), or below a local
mount of this instance. A file that is not there any more is looked for by its name.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.dial()
			if err != nil {
				return err
			}
			q := url.Values{"path": {args[0]}}
			if abs, err := filepath.Abs(args[0]); err == nil {
				q.Set("abs", abs)
			}
			var v whyView
			if err := c.Get(cmd.Context(), "/v1/why", q, &v); err != nil {
				return err
			}
			if g.json {
				return printJSON(v)
			}
			_, err = os.Stdout.WriteString(v.text())
			return err
		},
	}
}

// A whyView is all that is known of one file.
type whyView struct {
	Schema int    `json:"schema"`
	Path   string `json:"path"`
	File   string `json:"file,omitempty"` // its handle
	// Found is false if there is no such file: what follows goes by its last name.
	Found bool        `json:"found"`
	Opens []openView  `json:"opens"`
	Locks []lockView  `json:"locks"` // waiting ones too
	Other []otherView `json:"others"`
	// Trail is what the audit trail says, oldest first.
	Trail []eventView `json:"trail"`
}

// An otherView is a lock of somebody who is no client of this server.
type otherView struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	Type  string `json:"type"`
	// Who is local (an application on this host), or origin (another client of the origin, or a
	// program there).
	Who   string    `json:"who"`
	Owner ownerView `json:"owner"`
}

// maxTrail and maxOthers bound an answer.
const (
	maxTrail  = 200
	maxOthers = 64
)

// why answers for one file.
func (in *instance) why(ctx context.Context, q url.Values) (any, error) {
	if in.server == nil {
		return nil, errNoServer
	}
	name := in.exportedPath(q)
	v := &whyView{Schema: 1, Path: name, Opens: []openView{}, Locks: []lockView{}, Other: []otherView{}, Trail: []eventView{}}
	found, err := in.server.Resolve(ctx, name)
	switch {
	case err == nil:
		v.Found, v.File = true, hex.EncodeToString([]byte(found.Handle))
	case errors.Is(err, fs.NoEnt), errors.Is(err, fs.NotDir):
	case errors.Is(err, nfsdown.ErrNotExported):
		return nil, &control.Error{Exit: exitUsage, Text: fmt.Sprintf("%s: %v; `holdfast exports list` shows them", name, err)}
	default:
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	last := path.Base(name)
	ours := func(file, called string) bool {
		if v.Found {
			return file == v.File
		}
		return called == last
	}
	for _, o := range viewOpens(in.server.State().Opens()) {
		if ours(o.File, o.Name) {
			v.Opens = append(v.Opens, o)
		}
	}
	s := in.server.State()
	for _, l := range viewLocks(s.Locks(), s.Waiters()) {
		if ours(l.File, l.Name) {
			v.Locks = append(v.Locks, l)
		}
	}
	if v.Found {
		if err := v.others(ctx, found); err != nil {
			return nil, fmt.Errorf("%s: asking for other locks: %w", name, err)
		}
	}
	for e, err := range in.journal.Events(0, func(e *journal.Event) bool {
		return e.File != "" && ours(hex.EncodeToString([]byte(e.File)), e.Name)
	}) {
		if err != nil {
			return nil, err
		}
		if len(v.Trail) == maxTrail {
			v.Trail = v.Trail[1:]
		}
		v.Trail = append(v.Trail, viewEvent(&e))
	}
	return v, nil
}

// exportedPath is the path in the server's name space: one below a local mount is that of its origin.
func (in *instance) exportedPath(q url.Values) string {
	abs := q.Get("abs")
	for _, m := range in.cfg.Mounts {
		rest, ok := strings.CutPrefix(abs, strings.TrimRight(m.Dir, "/"))
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		for _, o := range in.cfg.Origins {
			if o.Name == m.Origin {
				return path.Join(o.Path, rest)
			}
		}
	}
	return path.Clean("/" + q.Get("path"))
}

// others asks the backend for locks that nobody here accounts for.
func (v *whyView) others(ctx context.Context, f *nfsdown.Resolved) error {
	if f.Attr.Type != fs.Regular {
		return nil
	}
	nobody := fs.Owner{Client: fs.LocalClient + "why", Owner: "why"}
	for from := uint64(0); len(v.Other) < maxOthers; {
		var d *fs.DeniedError
		err := f.Backend.TestLock(ctx, fs.Root, nobody, f.Inner, fs.Range{First: from, Last: ^uint64(0)}, fs.WriteLock)
		if err == nil {
			return nil
		}
		if !errors.As(err, &d) {
			return err
		}
		if !v.known(d) {
			who := "origin"
			if strings.HasPrefix(d.Owner.Client, fs.LocalClient) {
				who = "local"
			}
			v.Other = append(v.Other, otherView{d.Range.First, d.Range.Last, d.Type.String(), who, viewOwner(d.Owner.Owner)})
		}
		if d.Range.Last == ^uint64(0) || d.Range.Last < from {
			return nil
		}
		from = d.Range.Last + 1
	}
	return nil
}

// known tells whether a lock that stands in the way is one of the list.
func (v *whyView) known(d *fs.DeniedError) bool {
	for i := range v.Locks {
		l := &v.Locks[i]
		if l.State != "waiting" && l.First <= d.Range.First && l.Last >= d.Range.Last && l.Type == d.Type.String() {
			return true
		}
	}
	return false
}

func (v *whyView) text() string {
	var b strings.Builder
	p := func(what, format string, a ...any) {
		fmt.Fprintf(&b, "%-9s "+format+"\n", append([]any{what}, a...)...)
	}
	if v.Found {
		p("file", "%s", v.Path)
	} else {
		p("file", "%s is not there; what follows is of files that had this name", v.Path)
	}
	for i := range v.Opens {
		o := &v.Opens[i]
		p("open", "%s, denies %s, %s for %s: %s", o.Access, o.Deny, openState(o), ago(time.Since(o.Since)), o.Client.short())
	}
	for i := range v.Locks {
		l := &v.Locks[i]
		if l.State == "waiting" {
			p("waits", "%s %s for %s: %s", l.Type, rangeText(l.First, l.Last), ago(time.Since(l.Since)), l.Client.short())
			continue
		}
		p("holds", "%s %s, %s for %s: %s", l.Type, rangeText(l.First, l.Last), l.State, ago(time.Since(l.Since)), l.Client.short())
	}
	for _, o := range v.Other {
		who := "another client of the origin, or a program there"
		if o.Who == "local" {
			who = "an application on this host"
		}
		p("holds", "%s %s: %s", o.Type, rangeText(o.First, o.Last), who)
	}
	if len(v.Opens)+len(v.Locks)+len(v.Other) == 0 {
		p("nobody", "has it open or locked")
	}
	for i := range v.Trail {
		p("trail", "%s", v.Trail[i].line())
	}
	return b.String()
}

// rangeText prints a byte range, both ends included.
func rangeText(first, last uint64) string {
	if last == ^uint64(0) {
		return fmt.Sprintf("%d-end", first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}
