package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"holdfast/internal/config"
	"holdfast/internal/control"
)

const defaultConfigFile = "/etc/holdfast/holdfast.yaml"

// globals are the flags that all commands have.
type globals struct {
	file        string
	json, quiet bool
	given       map[string]string // settings that flags set
	order       []string
}

// A settingFlag is a flag that stands for a setting: it checks the value at once and remembers it,
// since the file and the environment are read after the flags but count less.
type settingFlag struct {
	g     *globals
	name  string
	value config.Value
}

func (f settingFlag) String() string { return f.value.String() }
func (f settingFlag) Type() string   { return f.value.Type() }
func (f settingFlag) Set(s string) error {
	if err := f.value.Set(s); err != nil {
		return err
	}
	if f.g.given == nil {
		f.g.given = map[string]string{}
	}
	if _, again := f.g.given[f.name]; !again {
		f.g.order = append(f.g.order, f.name)
	}
	f.g.given[f.name] = s
	return nil
}

func (g *globals) addSettings(flags *pflag.FlagSet) {
	for _, s := range config.Default().Settings() {
		flags.Var(settingFlag{g, s.Flag, s.Value}, s.Flag, s.Help)
	}
}

// load gives the settings after flag, environment, file and default, not yet validated.
func (g *globals) load() (*config.Config, error) {
	path := g.file
	if path == "" {
		if _, err := os.Stat(defaultConfigFile); err == nil {
			path = defaultConfigFile
		}
	}
	c, err := config.Load(path, os.Environ())
	if err != nil {
		return nil, withExit(exitUsage, err)
	}
	for _, name := range g.order {
		if err := c.SetFlag(name, g.given[name]); err != nil {
			return nil, withExit(exitUsage, err)
		}
	}
	return c, nil
}

// dial returns a client of the running instance.
func (g *globals) dial() (*control.Client, error) {
	c, err := g.load()
	if err != nil {
		return nil, err
	}
	return control.Dial(c.SocketPath()), nil
}

// newLogger makes the log: text or JSON, to stderr or a file. The level can be changed while it runs.
func newLogger(c *config.Config, level *slog.LevelVar) (*slog.Logger, error) {
	if err := level.UnmarshalText([]byte(c.LogLevel.Value)); err != nil {
		return nil, err
	}
	var w io.Writer = os.Stderr
	if c.LogFile != "" {
		f, err := os.OpenFile(c.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, err
		}
		w = f
	}
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat.Value == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return slog.New(slog.NewTextHandler(w, options)), nil
}

// printJSON prints one object.
func printJSON(v any) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// table prints rows under a head, columns aligned, tabs between the cells of a row.
func table(head string, rows []string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	_, err := fmt.Fprintln(w, head)
	for _, r := range rows {
		_, e := fmt.Fprintln(w, r)
		err = errors.Join(err, e)
	}
	return errors.Join(err, w.Flush())
}

// row joins cells for table; an empty cell becomes "-".
func row(cells ...any) string {
	text := make([]string, len(cells))
	for i, c := range cells {
		text[i] = fmt.Sprint(c)
		if text[i] == "" {
			text[i] = "-"
		}
	}
	return strings.Join(text, "\t")
}

// ago prints how long something lasts, in the largest two units.
func ago(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}
