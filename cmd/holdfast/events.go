package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/config"
	"holdfast/internal/control"
	"holdfast/journal"
)

func newEvents(g *globals) *cobra.Command {
	var follow bool
	var since config.Duration
	var types string
	c := &cobra.Command{
		Use: "events", Short: "Show the audit trail: boots, grace, reclaims, losses", Args: cobra.NoArgs,
		Long: `Show the audit trail. It is read from the running instance, or from the journal of a stopped one.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.dial()
			if err != nil {
				return err
			}
			q := url.Values{"types": {types}}
			if since != 0 {
				q.Set("since", since.String())
			}
			if follow {
				q.Set("follow", "1")
			}
			err = client.Stream(cmd.Context(), "/v1/events", q, func(b []byte) error { return printEvent(g, b) })
			if errors.Is(err, control.ErrNotRunning) && !follow {
				return storedEvents(g, q)
			}
			if cmd.Context().Err() != nil {
				return nil // ^C is how one stops following
			}
			return err
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens from now on")
	c.Flags().Var(&since, "since", "only what is not older than this")
	c.Flags().StringVar(&types, "type", "", "only these types, separated by commas")
	return c
}

// storedEvents reads the trail of an instance that does not run.
func storedEvents(g *globals, q url.Values) error {
	cfg, err := g.load()
	if err != nil {
		return err
	}
	j, _, err := journal.OpenReadOnly(filepath.Join(cfg.Dir(), "journal"))
	if err != nil {
		return withExit(exitJournal, err)
	}
	err = eachEvent(j, q, time.Now(), func(v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return printEvent(g, b)
	})
	return errors.Join(err, j.Close())
}

// eventFilter is what --since and --type keep.
func eventFilter(q url.Values, now time.Time) (func(*journal.Event) bool, error) {
	var after time.Time
	if s := q.Get("since"); s != "" {
		var d config.Duration
		if err := d.Set(s); err != nil {
			return nil, err
		}
		after = now.Add(-d.Std())
	}
	types := map[string]bool{}
	for _, t := range strings.Split(q.Get("types"), ",") {
		if t != "" {
			types[t] = true
		}
	}
	return func(e *journal.Event) bool {
		return !e.Time.Before(after) && (len(types) == 0 || types[e.Type])
	}, nil
}

func eachEvent(j *journal.Journal, q url.Values, now time.Time, emit func(any) error) error {
	keep, err := eventFilter(q, now)
	if err != nil {
		return err
	}
	for e, err := range j.Events(0, keep) {
		if err != nil {
			return err
		}
		if err := emit(viewEvent(&e)); err != nil {
			return err
		}
	}
	return nil
}

type eventView struct {
	Schema int        `json:"schema"`
	Seq    uint64     `json:"seq"`
	Time   time.Time  `json:"time"`
	Epoch  uint32     `json:"epoch"`
	Type   string     `json:"type"`
	Client string     `json:"client,omitempty"`
	Owner  *ownerView `json:"owner,omitempty"`
	Name   string     `json:"name,omitempty"`
	First  *uint64    `json:"first,omitempty"`
	Last   *uint64    `json:"last,omitempty"`
	Lock   string     `json:"lock,omitempty"`
	Result string     `json:"result,omitempty"`
	Text   string     `json:"text,omitempty"`
}

func viewEvent(e *journal.Event) eventView {
	v := eventView{Schema: 1, Seq: e.Seq, Time: e.Time.UTC(), Epoch: e.Epoch, Type: e.Type, Client: guess(e.Client), Name: e.Name, Result: e.Result, Text: e.Text}
	if e.Owner != "" {
		o := viewOwner(e.Owner)
		v.Owner = &o
	}
	if e.Lock != 0 {
		first, last := e.Range.First, e.Range.Last
		v.First, v.Last, v.Lock = &first, &last, e.Lock.String()
	}
	return v
}

// printEvent prints one line for people, or the object as it is.
func printEvent(g *globals, b []byte) error {
	if g.json {
		_, err := os.Stdout.Write(append(b, '\n'))
		return err
	}
	var e eventView
	if err := json.Unmarshal(b, &e); err != nil {
		return err
	}
	_, err := fmt.Println(e.line())
	return err
}

// line is an event for people.
func (e *eventView) line() string {
	words := []string{e.Time.Local().Format("2006-01-02 15:04:05.000"), fmt.Sprintf("boot %d", e.Epoch), fmt.Sprintf("%-16s", e.Type)}
	if e.Result != "" {
		words = append(words, e.Result)
	}
	if e.Client != "" {
		words = append(words, clip(e.Client, 48))
	}
	if e.Name != "" {
		words = append(words, e.Name)
	}
	if e.First != nil {
		words = append(words, e.Lock+" "+rangeText(*e.First, *e.Last))
	}
	if e.Text != "" {
		words = append(words, e.Text)
	}
	return strings.Join(words, "  ")
}
