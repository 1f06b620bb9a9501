package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newCache(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use: "cache", Short: "Look at the data cache of a running instance, fill it, empty it",
		Long: `The data cache keeps file data on a local disk. It survives restarts: what is there is compared with the
origin's change attribute at each open, and used if nothing has changed. Paths are below a local mount
or an export.`,
	}
	c.AddCommand(
		newCacheUsage(g), newCacheLs(g), newCacheWarmup(g),
		cachePost(g, "drop", "Throw cached data away; it is fetched again when it is read", true, "dropped %d files"),
		cachePost(g, "pin", "Keep files from being evicted; with warmup they are there until unpin", false, "pinned %d files"),
		cachePost(g, "unpin", "Let files be evicted again", false, "unpinned %d files"),
		&cobra.Command{
			Use: "gc", Short: "Evict now what is above the limits", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				var a struct {
					Schema int   `json:"schema"`
					Freed  int64 `json:"freed_bytes"`
				}
				client, err := g.dial()
				if err == nil {
					err = client.Post(cmd.Context(), "/v1/cache/gc", nil, &a)
				}
				if err != nil || g.quiet {
					return err
				}
				if g.json {
					return printJSON(a)
				}
				fmt.Println("freed", sizeText(a.Freed))
				return nil
			},
		},
		newCacheVerify(g),
	)
	return c
}

func newCacheUsage(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "usage", Short: "How full it is, how often it helped, and why not", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var v cacheUsage
			client, err := g.dial()
			if err == nil {
				err = client.Get(cmd.Context(), "/v1/cache/usage", nil, &v)
			}
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(v)
			}
			fmt.Print(v.text())
			return nil
		},
	}
}

func (v *cacheUsage) text() string {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	limit := "no limit"
	if v.Limit > 0 {
		limit = "of " + sizeText(v.Limit)
	}
	p("directory  %s", v.Dir)
	p("used       %s %s in %d files; %s pinned; least lately used %s ago", sizeText(v.Bytes), limit, v.Objects, sizeText(v.Pinned), ago(time.Duration(v.Oldest)*time.Second))
	p("disk       %s free, %s stay free for others", sizeText(v.Free), sizeText(v.Floor))
	p("since the start: stored %s, evicted %d files and parts of %s, replaced %d by newer versions, dropped %d", sizeText(int64(v.Stored)), v.Evicted, sizeText(int64(v.Freed)), v.Replaced, v.Dropped)
	if v.Full {
		p("FULL       nothing is stored until there is room")
	}
	if !v.Ready {
		p("           the directory is still being read; objects there are usable")
	}
	if v.Rotten > 0 || v.Failed > 0 {
		p("DAMAGE     %d blocks did not match their checksum and were fetched again; %d disk errors", v.Rotten, v.Failed)
	}
	for name, d := range v.Origins {
		if d == nil {
			continue
		}
		p("origin %s", name)
		p("  hits     %.1f%% of the bytes; %s saved, %s fetched (%s of it ahead of readers)", 100*d.HitRatio, sizeText(int64(d.Saved)), sizeText(int64(d.Fetched)), sizeText(int64(d.Ahead)))
		p("  reads    %d hit, %d missed: %d not there, %d changed since", d.Hits, d.Misses, d.Cold, d.Changed)
		p("  through  %d without a known open or beside own writes, %d that the origin is to refuse, %d of files that change all the time", d.NoOpen, d.Denied, d.Unsettled)
		p("  fresh    %d reads asked for attributes first; %d fetches were too young to be kept", d.Revalidated, d.Recent)
		p("  own      writes kept the data %d times, and not %d times", d.OwnKept, d.OwnDropped)
		if d.IsAway || d.Stale > 0 {
			p("  AWAY     now %v, since %s; %d reads were served meanwhile (origin-away is %s)", d.IsAway, ago(time.Duration(d.OldestSeen)), d.Stale, d.Away)
		}
	}
	return b.String()
}

func newCacheLs(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List what is there, the most recently used first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.dial()
			if err != nil {
				return err
			}
			var rows []string
			err = client.Stream(cmd.Context(), "/v1/cache/ls", nil, func(line []byte) error {
				if g.json {
					_, err := fmt.Printf("%s\n", line)
					return err
				}
				var i cacheItem
				if err := json.Unmarshal(line, &i); err != nil {
					return err
				}
				flags := ""
				if i.Pinned {
					flags = "pinned"
				}
				name := i.Name
				if name == "" {
					name = fmt.Sprintf("file %d", i.FileID)
				}
				rows = append(rows, row(sizeText(i.Bytes), sizeText(int64(i.Size)), ago(time.Since(i.LastUsed)), flags, i.Origin, name))
				return nil
			})
			if err != nil || g.json {
				return err
			}
			return table(row("CACHED", "SIZE", "USED AGO", "FLAGS", "ORIGIN", "NAME"), rows)
		},
	}
}

// paths turns arguments into absolute paths; with a list, a file or - has more of them, one a line.
func cachePaths(args []string, list string) (url.Values, error) {
	q := url.Values{}
	if list != "" {
		f := os.Stdin
		if list != "-" {
			var err error
			if f, err = os.Open(list); err != nil {
				return nil, err
			}
			defer f.Close()
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if lines.Text() != "" {
				args = append(args, lines.Text())
			}
		}
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	if len(args) == 0 {
		return nil, withExit(exitUsage, errors.New("no path was given"))
	}
	for _, a := range args {
		p, err := filepath.Abs(a)
		if err != nil {
			return nil, err
		}
		q.Add("path", p)
	}
	return q, nil
}

func cachePost(g *globals, verb, short string, all bool, done string) *cobra.Command {
	var everything bool
	c := &cobra.Command{
		Use: verb + " PATH...", Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{"all": {"1"}}
			if !everything {
				var err error
				if q, err = cachePaths(args, ""); err != nil {
					return err
				}
			}
			var a struct {
				Schema  int `json:"schema"`
				Objects int `json:"objects"`
			}
			client, err := g.dial()
			if err == nil {
				err = client.Post(cmd.Context(), "/v1/cache/"+verb, q, &a)
			}
			if err != nil || g.quiet {
				return err
			}
			if g.json {
				return printJSON(a)
			}
			fmt.Printf(done+"\n", a.Objects)
			return nil
		},
	}
	if all {
		c.Flags().BoolVar(&everything, "all", false, "everything there is")
	}
	return c
}

// batch is how many paths go in one request.
const cacheBatch = 200

func newCacheWarmup(g *globals) *cobra.Command {
	var list string
	c := &cobra.Command{
		Use: "warmup [PATH...]", Short: "Fetch files and trees before they are needed",
		Long: `Fetch files and trees before they are needed. What is there and still valid is not fetched again, so a
warm-up that was interrupted is simply started again. Exit code 1 if a file could not be fetched.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := cachePaths(args, list)
			if err != nil {
				return err
			}
			client, err := g.dial()
			if err != nil {
				return err
			}
			bar := isTerminal(os.Stderr) && !g.quiet && !g.json
			began := time.Now()
			var total, now warmProgress
			paths := q["path"]
			for at := 0; at < len(paths); at += cacheBatch {
				now = warmProgress{}
				err := client.Stream(cmd.Context(), "/v1/cache/warmup", url.Values{"path": paths[at:min(at+cacheBatch, len(paths))]}, func(line []byte) error {
					if g.json {
						fmt.Printf("%s\n", line)
					}
					now = warmProgress{}
					if err := json.Unmarshal(line, &now); err != nil {
						return err
					}
					if now.Error != "" {
						if bar {
							fmt.Fprint(os.Stderr, "\r\x1b[K")
						}
						fmt.Fprintln(os.Stderr, "holdfast:", now.Error)
					}
					if bar {
						fmt.Fprintf(os.Stderr, "\r\x1b[K%s", total.plus(&now).line(began, float64(at)/float64(len(paths))))
					}
					return nil
				})
				if bar {
					fmt.Fprint(os.Stderr, "\r\x1b[K")
				}
				if err != nil {
					return err
				}
				if !now.Done {
					return errors.New("the instance ended before the warm-up did; start it again to go on")
				}
				total = *total.plus(&now)
			}
			if !g.json && !g.quiet {
				fmt.Println(total.line(began, 1))
			}
			if total.Failed > 0 {
				return fmt.Errorf("%d files could not be fetched", total.Failed)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&list, "from", "f", "", "also the paths in this file, one a line; - is standard input")
	return c
}

func (p *warmProgress) plus(q *warmProgress) *warmProgress {
	return &warmProgress{File: q.File, Files: p.Files + q.Files, Bytes: p.Bytes + q.Bytes, Fetched: p.Fetched + q.Fetched, Failed: p.Failed + q.Failed}
}

// line is the progress: a bar of the paths of a list, and what was done.
func (p *warmProgress) line(began time.Time, part float64) string {
	took := time.Since(began)
	rate := int64(float64(p.Fetched) / max(took.Seconds(), 0.001))
	s := fmt.Sprintf("%d files, %s, %s fetched at %s/s in %s", p.Files, sizeText(p.Bytes), sizeText(p.Fetched), sizeText(rate), ago(took))
	if part > 0 && part < 1 {
		n := int(20 * part)
		s = "[" + strings.Repeat("#", n) + strings.Repeat(".", 20-n) + "] " + s
	}
	if p.Failed > 0 {
		s += fmt.Sprintf(", %d failed", p.Failed)
	}
	if p.File != "" {
		s += "  " + clip(filepath.Base(p.File), 30)
	}
	return s
}

func newCacheVerify(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "verify", Short: "Compare all cached data with its checksums; what does not match is forgotten", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.dial()
			if err != nil {
				return err
			}
			var c cacheChecked
			bar := isTerminal(os.Stderr) && !g.quiet && !g.json
			err = client.Stream(cmd.Context(), "/v1/cache/verify", nil, func(line []byte) error {
				if err := json.Unmarshal(line, &c); err != nil {
					return err
				}
				if bar {
					fmt.Fprintf(os.Stderr, "\r\x1b[K%d files, %s", c.Objects, sizeText(c.Bytes))
				}
				return nil
			})
			if bar {
				fmt.Fprint(os.Stderr, "\r\x1b[K")
			}
			if err != nil {
				return err
			}
			if !c.Done {
				return errors.New("the instance ended before the check did")
			}
			if g.json {
				err = printJSON(c)
			} else if !g.quiet {
				fmt.Printf("%d files, %s good; %d rotten blocks, %d broken files were forgotten\n", c.Objects, sizeText(c.Bytes), c.Rotten, c.Broken)
			}
			if err == nil && c.Rotten+int64(c.Broken) > 0 {
				return errors.New("there was damage; the data is fetched again when it is read")
			}
			return err
		},
	}
}
