package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/control"
)

// register puts the questions that a running instance answers on its control socket.
func (in *instance) register() {
	c := in.control
	c.Get("/v1/status", func(context.Context, url.Values) (any, error) { return in.status(), nil })
	c.Get("/v1/clients", in.listed(func() any { return viewClients(in.server.State().Clients()) }))
	c.Get("/v1/opens", in.listed(func() any { return viewOpens(in.server.State().Opens()) }))
	c.Get("/v1/locks", in.listed(func() any {
		s := in.server.State()
		return viewLocks(s.Locks(), s.Waiters())
	}))
	c.Get("/v1/delegs", func(context.Context, url.Values) (any, error) {
		items := []delegView{}
		if in.client != nil {
			for _, r := range in.client.connected() {
				items = append(items, viewUpDelegs(r)...)
			}
		}
		if in.server != nil {
			items = append(items, viewDownDelegs(in.server.State().Delegations())...)
		}
		return map[string]any{"schema": 1, "items": items}, nil
	})
	c.Get("/v1/why", in.why)
	c.Get("/v1/stats", func(context.Context, url.Values) (any, error) { return in.stats(), nil })
	c.Get("/v1/grace", func(context.Context, url.Values) (any, error) {
		if in.server == nil {
			return nil, errNoServer
		}
		return viewGrace(in.server.GraceInfo()), nil
	})
	c.Post("/v1/grace/end", in.endGrace)
	c.Post("/v1/reload", func(ctx context.Context, _ url.Values) (any, error) {
		notes, err := in.reloadNow(ctx)
		return map[string]any{"schema": 1, "restart_needed_for": notes}, err
	})
	c.Stream("/v1/events", in.events)
	c.Get("/v1/journal", func(context.Context, url.Values) (any, error) {
		snap, err := in.journal.Load()
		if err != nil {
			return nil, err
		}
		return viewJournal(in.report, snap)
	})
	in.registerCache()
	c.Bytes("/v1/journal/backup", func(_ context.Context, w io.Writer) error { return in.journal.Backup(w) })
}

var errNoServer = &control.Error{Exit: exitFailed, Text: "this instance serves no NFS clients (yet)"}

// listed wraps a list in its object; an instance without a server has empty ones.
func (in *instance) listed(f func() any) func(context.Context, url.Values) (any, error) {
	return func(context.Context, url.Values) (any, error) {
		items := any([]string{})
		if in.server != nil {
			items = f()
		}
		return map[string]any{"schema": 1, "items": items}, nil
	}
}

// endGrace ends grace if nobody loses a lock by it, or if the caller says yes.
func (in *instance) endGrace(_ context.Context, q url.Values) (any, error) {
	if in.server == nil {
		return nil, errNoServer
	}
	g := in.server.GraceInfo()
	if g.Phase.String() == "active" && g.Remaining > 0 && q.Get("yes") == "" {
		text := fmt.Sprintf("%d opens and locks are not reclaimed yet and would be lost; --yes does it", g.Remaining)
		for _, m := range g.Missing {
			text += "\nmissing: " + guess(m)
		}
		return nil, &control.Error{Exit: exitLosesLocks, Text: text}
	}
	in.server.EndGrace()
	return viewGrace(in.server.GraceInfo()), nil
}

func (in *instance) events(ctx context.Context, q url.Values, emit func(any) error) error {
	if q.Get("follow") == "" {
		return eachEvent(in.journal, q, time.Now(), emit)
	}
	keep, err := eventFilter(q, time.Now())
	if err != nil {
		return err
	}
	from := uint64(0)
	if q.Get("since") == "" {
		from = in.journal.LastEvent() + 1
	}
	for e, err := range in.journal.Follow(ctx, from) {
		if err != nil {
			return err
		}
		if !keep(&e) {
			continue
		}
		if err := emit(viewEvent(&e)); err != nil {
			return err
		}
	}
	return nil
}

// reloadNow takes exports and log level again from the file, as SIGHUP asks for.
func (in *instance) reloadNow(ctx context.Context) ([]string, error) {
	notes, err := in.reload(ctx)
	if err != nil {
		in.log.Error("reload failed; the settings in force stay", "err", err)
		return nil, err
	}
	in.log.Info("reloaded", "needs_restart", notes)
	return notes, nil
}

func (in *instance) reload(ctx context.Context) ([]string, error) {
	cfg, err := in.fresh()
	if err != nil {
		return nil, err
	}
	if err := cfg.Validate(in.role); err != nil {
		return nil, err
	}
	if in.server != nil {
		list, err := in.exports(cfg)
		if err != nil {
			return nil, err
		}
		if err := in.server.ReloadExports(ctx, list); err != nil {
			return nil, err
		}
	}
	if err := in.level.UnmarshalText([]byte(cfg.LogLevel.Value)); err != nil {
		return nil, err
	}
	in.reloadCache(cfg)
	return restartNeeded(in.cfg, cfg), nil
}

// restartNeeded names the settings that changed and are only read at the start.
func restartNeeded(old, now *config.Config) []string {
	var names []string
	before := old.Settings()
	for i, s := range now.Settings() {
		if s.Key != "log.level" && s.Key != "exports_file" && s.Key != "cache.size" && s.Key != "cache.free_floor" && s.Value.String() != before[i].Value.String() {
			names = append(names, s.Key)
		}
	}
	if !slices.Equal(old.Origins, now.Origins) {
		names = append(names, "origins")
	}
	if !slices.Equal(old.Mounts, now.Mounts) {
		names = append(names, "mounts")
	}
	return names
}

// phaseNow is the phase that was set, refined by what the server knows.
func (in *instance) phaseNow() string {
	p := *in.phase.Load()
	if p == "serving" && in.server != nil {
		if !in.server.Restart().Done {
			return "restoring"
		}
		if ph := in.server.GraceInfo().Phase.String(); ph == "active" || ph == "ending" {
			return "grace"
		}
	}
	return p
}

func (in *instance) status() *statusView {
	v := &statusView{Schema: 1, Role: in.role, Instance: in.cfg.Instance, Version: version, PID: os.Getpid(), Started: in.started.UTC(),
		Phase: in.phaseNow(), Problems: []string{}}
	js := in.journal.Stats()
	v.Journal.State, v.Journal.Complete, v.Journal.Epoch = in.report.State.String(), in.report.Complete, in.report.Epoch
	v.Journal.Records, v.Journal.Commits, v.Journal.CommitNS = js.Records, js.Commits, js.CommitNanos
	if err := in.journal.Err(); err != nil {
		v.Journal.Error = err.Error()
		v.Problems = append(v.Problems, "journal: "+err.Error())
	}
	if !in.report.Complete {
		v.Problems = append(v.Problems, "the journal is not complete: "+in.report.String())
	}
	if s := in.server; s != nil {
		v.Listen = in.cfg.Listen
		st := s.State()
		for _, c := range st.Clients() {
			v.Clients++
			v.Opens += c.Opens
			v.Locks += c.Locks
		}
		v.Waiters = len(st.Waiters())
		if in.delegates() {
			v.Delegated = delegatedOf(st)
		}
		g := viewGrace(s.GraceInfo())
		v.Grace = &g
		v.Restart = viewRestart(s.Restart())
		if in.cfg.Restart.Value == "invisible" && v.Restart.Mode != "invisible" {
			v.Problems = append(v.Problems, "--restart=invisible was not possible: "+v.Restart.Reason)
		}
		if v.Restart.Lost > 0 {
			v.Problems = append(v.Problems, fmt.Sprintf("%d opens or locks were lost by the restart: %s", v.Restart.Lost, v.Restart.Reason))
		}
	}
	if in.client != nil {
		in.client.status(v)
	}
	return v
}
