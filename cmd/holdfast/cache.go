package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/fs"
	"holdfast/fs/remote"
	"holdfast/fs/remote/diskcache"
	"holdfast/internal/config"
	"holdfast/internal/control"
)

// openCache opens the data cache that the settings ask for; nil if there is none.
func (c *client) openCache() error {
	dir := c.in.cfg.CachePath(c.in.role)
	if dir == "" {
		return nil
	}
	cfg := c.in.cfg
	s, err := diskcache.Open(diskcache.Config{
		Dir: dir, Limit: int64(cfg.CacheSize), Floor: int64(cfg.CacheFloor.Bytes), FloorPercent: cfg.CacheFloor.Percent, Logger: c.in.log,
	})
	if err != nil {
		return withExit(exitUsage, fmt.Errorf("%w; give it another --cache-dir, or --cache-dir=none for no data cache", err))
	}
	c.store = s
	return nil
}

// treeDir is where what is known of the trees is kept; it is claimed with the store.
func (c *client) treeDir() string {
	if c.store == nil {
		return ""
	}
	return filepath.Join(c.in.cfg.CachePath(c.in.role), "tree")
}

var errNoCache = &control.Error{Exit: exitFailed, Text: "this instance has no data cache; see --cache-dir"}

// registerCache puts the cache commands on the control socket.
func (in *instance) registerCache() {
	c := in.control
	c.Get("/v1/cache/usage", func(context.Context, url.Values) (any, error) {
		s, err := in.cacheStore()
		if err != nil {
			return nil, err
		}
		v := cacheUsage{Schema: 1, Usage: s.Usage(), Origins: map[string]*remote.DataReport{}}
		for _, r := range in.client.connected() {
			rep := r.Status()
			v.Origins[rep.Name] = rep.Data
		}
		return v, nil
	})
	c.Stream("/v1/cache/ls", func(ctx context.Context, _ url.Values, emit func(any) error) error {
		s, err := in.cacheStore()
		if err != nil {
			return err
		}
		names := map[uint64]string{}
		for _, r := range in.client.connected() {
			names[r.DataSpace()] = r.Status().Name
		}
		var failed error
		err = s.List(ctx, func(i diskcache.Info) bool {
			failed = emit(cacheItem{1, names[i.ID.Space], i})
			return failed == nil
		})
		return errors.Join(err, failed)
	})
	c.Stream("/v1/cache/warmup", func(ctx context.Context, q url.Values, emit func(any) error) error {
		return in.warmup(ctx, q["path"], emit)
	})
	c.Post("/v1/cache/drop", func(ctx context.Context, q url.Values) (any, error) {
		s, err := in.cacheStore()
		if err != nil {
			return nil, err
		}
		for _, r := range in.client.connected() {
			if err := r.Doubt(); err != nil {
				return nil, err
			}
		}
		if q.Get("all") != "" {
			return map[string]any{"schema": 1, "objects": s.DropAll()}, nil
		}
		n := 0
		err = in.eachCached(ctx, q["path"], func(id diskcache.ID) error {
			if s.Drop(id) {
				n++
			}
			return nil
		})
		return map[string]any{"schema": 1, "objects": n}, err
	})
	for name, on := range map[string]bool{"pin": true, "unpin": false} {
		c.Post("/v1/cache/"+name, func(ctx context.Context, q url.Values) (any, error) {
			s, err := in.cacheStore()
			if err != nil {
				return nil, err
			}
			var ids []diskcache.ID
			err = in.eachCached(ctx, q["path"], func(id diskcache.ID) error {
				ids = append(ids, id)
				return nil
			})
			if err == nil {
				err = s.Pin(on, ids...)
			}
			return map[string]any{"schema": 1, "objects": len(ids)}, err
		})
	}
	c.Post("/v1/cache/gc", func(context.Context, url.Values) (any, error) {
		s, err := in.cacheStore()
		if err != nil {
			return nil, err
		}
		return map[string]any{"schema": 1, "freed_bytes": s.GC()}, nil
	})
	c.Stream("/v1/cache/verify", func(ctx context.Context, _ url.Values, emit func(any) error) error {
		s, err := in.cacheStore()
		if err != nil {
			return err
		}
		var last time.Time
		got, err := s.Verify(ctx, func(c diskcache.Checked) {
			if time.Since(last) > time.Second/4 {
				last = time.Now()
				_ = emit(cacheChecked{1, false, c}) // who went away ends ctx too
			}
		})
		if err != nil {
			return err
		}
		return emit(cacheChecked{1, true, got})
	})
}

func (in *instance) cacheStore() (*diskcache.Store, error) {
	if in.client == nil || in.client.store == nil {
		return nil, errNoCache
	}
	return in.client.store, nil
}

type cacheUsage struct {
	Schema int `json:"schema"`
	diskcache.Usage
	Origins map[string]*remote.DataReport `json:"origins"`
}

type cacheItem struct {
	Schema int    `json:"schema"`
	Origin string `json:"origin,omitempty"`
	diskcache.Info
}

type cacheChecked struct {
	Schema int  `json:"schema"`
	Done   bool `json:"done"`
	diskcache.Checked
}

// warmProgress is what a warm-up tells, several times a second and at its end.
type warmProgress struct {
	Schema  int    `json:"schema"`
	Done    bool   `json:"done"`
	File    string `json:"file,omitempty"` // the one it is at
	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"`   // of those files
	Fetched int64  `json:"fetched"` // from the origin
	Failed  int    `json:"failed"`
	Error   string `json:"error,omitempty"` // of one file; the others go on
}

// locate finds the origin that a path of this host, or of an export, belongs to.
func (in *instance) locate(path string) (*remote.Remote, string, error) {
	path = filepath.Clean(path)
	best, name, rel := -1, "", ""
	try := func(prefix, origin string) {
		prefix = filepath.Clean(prefix)
		if rest, ok := strings.CutPrefix(path, strings.TrimSuffix(prefix, "/")); ok && (rest == "" || rest[0] == '/') && len(prefix) > best {
			best, name, rel = len(prefix), origin, rest
		}
	}
	for _, o := range in.cfg.Origins {
		try(o.Path, o.Name)
	}
	for _, m := range in.cfg.Mounts {
		try(m.Dir, m.Origin)
	}
	if best < 0 {
		return nil, "", &control.Error{Exit: exitFailed, Text: path + " is not below a mount or an export of this instance"}
	}
	for _, r := range in.client.connected() {
		if r.Status().Name == name {
			return r, rel, nil
		}
	}
	return nil, "", &control.Error{Exit: exitUnreachable, Text: "origin " + name + " is not connected yet"}
}

// eachCached calls f for each regular file at and below the paths.
func (in *instance) eachCached(ctx context.Context, paths []string, f func(diskcache.ID) error) error {
	for _, p := range paths {
		r, rel, err := in.locate(p)
		if err != nil {
			return err
		}
		err = r.Walk(ctx, fs.Root, rel, func(_ string, h fs.Handle, a *fs.Attr) error {
			id, err := r.DataID(ctx, h, a)
			if err != nil {
				return err
			}
			return f(id)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

func (in *instance) warmup(ctx context.Context, paths []string, emit func(any) error) error {
	if _, err := in.cacheStore(); err != nil {
		return err
	}
	p := warmProgress{Schema: 1}
	last := time.Now()
	tell := func(now bool) error {
		if !now && time.Since(last) < time.Second/5 {
			return nil
		}
		last = time.Now()
		err := emit(p)
		p.Error = ""
		return err
	}
	fail := func(name string, err error) error {
		p.Failed++
		p.Error = name + ": " + err.Error()
		return tell(true)
	}
	for _, path := range paths {
		r, rel, err := in.locate(path)
		if err != nil {
			return err
		}
		err = r.Walk(ctx, fs.Root, rel, func(name string, h fs.Handle, a *fs.Attr) error {
			p.File = name
			if err := tell(false); err != nil {
				return err
			}
			there, err := r.Warm(ctx, fs.Root, h, func(n int64) {
				p.Fetched += n
				p.Bytes += n
				_ = tell(false) // who went away ends ctx too
			})
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return fail(name, err)
			}
			p.Bytes += there
			p.Files++
			return nil
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if err := fail(path, err); err != nil {
				return err
			}
		}
	}
	p.Done, p.File = true, ""
	return tell(true)
}

// sizeText prints bytes for people.
func sizeText(n int64) string {
	switch {
	case n >= 10<<40:
		return fmt.Sprintf("%.0f TiB", float64(n)/(1<<40))
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

// isTerminal tells whether a progress bar makes sense.
func isTerminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// reloadCache takes new limits.
func (in *instance) reloadCache(cfg *config.Config) {
	if s, err := in.cacheStore(); err == nil {
		s.SetLimits(int64(cfg.CacheSize), int64(cfg.CacheFloor.Bytes), cfg.CacheFloor.Percent)
	}
}
