package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/control"
	"holdfast/journal"
)

func newJournal(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "journal", Short: "Look at, check, save or restore the lock journal"}
	c.AddCommand(journalShow(g), journalVerify(g), journalBackup(g), journalRestore(g), journalCompact(g))
	return c
}

func journalDir(g *globals) (dir, socket string, err error) {
	cfg, err := g.load()
	if err != nil {
		return "", "", err
	}
	return filepath.Join(cfg.Dir(), "journal"), cfg.SocketPath(), nil
}

// stopped refuses to touch the journal of a running instance.
func stopped(socket string) error {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return nil
	}
	return errors.Join(fmt.Errorf("the instance is running; stop it first"), c.Close())
}

type journalView struct {
	Schema  int               `json:"schema"`
	Report  *journal.Report   `json:"report"`
	Clients []json.RawMessage `json:"clients"`
	Opens   []openView        `json:"opens"`
	Locks   []lockView        `json:"locks"`
	Origins []originView      `json:"origins"`
}

type originView struct {
	Name     string            `json:"name"`
	Addr     string            `json:"addr"`
	ClientID string            `json:"client_id"`
	Epoch    uint32            `json:"epoch"`
	Caps     map[string]string `json:"caps,omitempty"`
}

func viewJournal(r *journal.Report, s *journal.Snapshot) (*journalView, error) {
	v := &journalView{Schema: 1, Report: r, Clients: []json.RawMessage{}, Opens: []openView{}, Locks: []lockView{}, Origins: []originView{}}
	for i := range s.Clients {
		b, err := json.Marshal(&s.Clients[i])
		if err != nil {
			return nil, err
		}
		v.Clients = append(v.Clients, b)
	}
	for _, o := range s.Opens {
		v.Opens = append(v.Opens, openView{Client: viewOwner(o.Owner.Client), Owner: viewOwner(o.Owner.Owner), File: fmt.Sprintf("%x", string(o.File)),
			Name: o.Name, Access: shareText(o.Access), Deny: shareText(o.Deny), Since: o.Since.UTC()})
	}
	for _, l := range s.Locks {
		for _, r := range l.Ranges {
			v.Locks = append(v.Locks, lockView{Client: viewOwner(l.Owner.Client), Owner: viewOwner(l.Owner.Owner), File: fmt.Sprintf("%x", string(l.File)),
				First: r.Range.First, Last: r.Range.Last, Type: r.Type.String(), State: "journalled", Since: l.Since.UTC()})
		}
	}
	for _, u := range s.Upstreams {
		v.Origins = append(v.Origins, originView{u.Name, u.ServerAddr, fmt.Sprintf("%016x", u.ClientID), u.Epoch, u.Caps})
	}
	return v, nil
}

func journalShow(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show what the journal says is held", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, socket, err := journalDir(g)
			if err != nil {
				return err
			}
			var v journalView
			err = control.Dial(socket).Get(cmd.Context(), "/v1/journal", nil, &v)
			if errors.Is(err, control.ErrNotRunning) {
				j, report, err := journal.OpenReadOnly(dir)
				if err != nil {
					return withExit(exitJournal, err)
				}
				snap, err := j.Load()
				if err := errors.Join(err, j.Close()); err != nil {
					return withExit(exitJournal, err)
				}
				stored, err := viewJournal(report, snap)
				if err != nil {
					return err
				}
				v = *stored
			} else if err != nil {
				return err
			}
			if g.json {
				return printJSON(v)
			}
			return printJournal(&v)
		},
	}
}

func printJournal(v *journalView) error {
	fmt.Printf("journal: %s, boot %d, %d clients, %d opens, %d locks\n", v.Report.State, v.Report.Epoch, len(v.Clients), len(v.Opens), len(v.Locks))
	for _, n := range v.Report.Notes {
		fmt.Println("  " + n)
	}
	var rows []string
	for _, l := range v.Locks {
		last := fmt.Sprint(l.Last)
		if l.Last == ^uint64(0) {
			last = "end"
		}
		rows = append(rows, row(clip(l.File, 32), fmt.Sprintf("%d-%s", l.First, last), l.Type, l.Client.short(), l.Owner.short()))
	}
	if len(rows) == 0 {
		return nil
	}
	return table(row("FILE", "RANGE", "TYPE", "CLIENT", "OWNER"), rows)
}

func journalVerify(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "verify", Short: "Read all of a stopped instance's journal; exit code 5 if it is damaged", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, socket, err := journalDir(g)
			if err != nil {
				return err
			}
			if err := stopped(socket); err != nil {
				return err
			}
			r, err := journal.Verify(dir)
			if err != nil {
				return withExit(exitJournal, err)
			}
			if g.json {
				err = printJSON(r)
			} else if !g.quiet {
				_, err = fmt.Print(r.Text())
			}
			if err != nil {
				return err
			}
			if !r.Complete {
				return withExit(exitJournal, errors.New("the journal is not complete"))
			}
			return nil
		},
	}
}

func journalBackup(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "Save the journal to a file (- is stdout), of a running instance too", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, socket, err := journalDir(g)
			if err != nil {
				return err
			}
			if args[0] == "-" {
				return backup(cmd, dir, socket, os.Stdout)
			}
			// whole or not at all: a half backup must not look like one
			f, err := os.OpenFile(args[0]+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			err = backup(cmd, dir, socket, f)
			if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
				return errors.Join(err, os.Remove(f.Name()))
			}
			return os.Rename(f.Name(), args[0])
		},
	}
}

func backup(cmd *cobra.Command, dir, socket string, w io.Writer) error {
	err := control.Dial(socket).Download(cmd.Context(), "/v1/journal/backup", w)
	if !errors.Is(err, control.ErrNotRunning) {
		return err
	}
	j, _, err := journal.OpenReadOnly(dir)
	if err != nil {
		return withExit(exitJournal, err)
	}
	return errors.Join(j.Backup(w), j.Close())
}

func journalRestore(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "restore FILE", Short: "Make a journal from a backup; refuses to touch one that is there", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, socket, err := journalDir(g)
			if err != nil {
				return err
			}
			if err := stopped(socket); err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			return errors.Join(journal.Restore(dir, f), f.Close())
		},
	}
}

func journalCompact(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "compact", Short: "Drop what is void from a stopped instance's journal", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, socket, err := journalDir(g)
			if err != nil {
				return err
			}
			if err := stopped(socket); err != nil {
				return err
			}
			j, _, err := journal.Open(dir, journal.Options{})
			if err != nil {
				return withExit(exitJournal, err)
			}
			n, err := j.Compact(cmd.Context())
			if err = errors.Join(err, j.Close()); err == nil && !g.quiet {
				fmt.Printf("%d void records dropped\n", n)
			}
			return err
		},
	}
}
