package state

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

var rewrite = flag.Bool("rewrite", false, "write what the stories come to into their files")

// TestStories plays the files in testdata. A line is
//
//	command arguments => outcome
//
// and a line that begins with # is for people. The commands are the cases below.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want := strings.Split(string(text), "\n")
			for i, line := range strings.Split(got, "\n") {
				if i >= len(want) || line != want[i] {
					t.Errorf("line %d\n got %s\nwant %s", i+1, line, want[min(i, len(want)-1)])
				}
			}
		})
	}
}

func play(t *testing.T, text string) string {
	var w *world
	var out bytes.Buffer
	cfg := Config{Lease: 90 * time.Second, WaiterHold: 5 * time.Second}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		cmd, _, _ := strings.Cut(line, " => ")
		words := strings.Fields(cmd)
		switch {
		case len(words) == 0 || words[0][0] == '#':
			fmt.Fprintln(&out, line)
			continue
		case words[0] == "config":
			configure(t, &cfg, words[1:])
			fmt.Fprintln(&out, line)
			continue
		}
		if w == nil {
			w = newWorld(t, cfg)
			w.backend.remote = slices.Contains(words, "remote")
		}
		if words[0] == "world" {
			fmt.Fprintln(&out, line)
			continue
		}
		fmt.Fprintf(&out, "%s => %s\n", cmd, w.step(words))
		if err := w.checkInvariants(); err != nil {
			t.Fatalf("line %d: %s: %v", i+1, cmd, err)
		}
	}
	return out.String()
}

func configure(t *testing.T, cfg *Config, words []string) {
	for _, word := range words {
		k, v, _ := strings.Cut(word, "=")
		d, _ := time.ParseDuration(v)
		switch k {
		case "retain":
			cfg.Retain = map[string]RetainPolicy{"always": RetainAlways, "negotiated": RetainNegotiated, "never": RetainNever}[v]
		case "courtesy":
			cfg.CourtesyLimit = d
		case "cap":
			cfg.ReclaimCap = d
		case "absence":
			cfg.AbsenceLimit = d
		case "in-grace":
			cfg.ReclaimsOnly = v == "reclaims"
		case "parts": // files named "p/f" and "p/g" are of one part
			cfg.Part = partOf
		case "unknown":
			cfg.UnknownReclaim = map[string]UnknownReclaim{"forward": UnknownForward, "refuse": UnknownRefuse}[v]
		default:
			t.Fatalf("config %s", word)
		}
	}
}

// modes reads "rw" or "rw!w": access, and deny after the mark.
func modes(s string) (access, deny fs.Share) {
	a, d, _ := strings.Cut(s, "!")
	of := func(s string) (m fs.Share) {
		if strings.Contains(s, "r") {
			m |= fs.ShareRead
		}
		if strings.Contains(s, "w") {
			m |= fs.ShareWrite
		}
		return m
	}
	return of(a), of(d)
}

func parseRange(s string) fs.Range {
	a, b, _ := strings.Cut(s, "-")
	r := fs.Range{Last: fs.ToEOF}
	r.First, _ = strconv.ParseUint(a, 10, 64)
	if b != "end" {
		r.Last, _ = strconv.ParseUint(b, 10, 64)
	}
	return r
}

func parseType(s string) fs.LockType {
	if s == "write" {
		return fs.WriteLock
	}
	return fs.ReadLock
}

// step does one command. Opens are named by their owner; a lock-owner x is under the open-owner o
// unless "under=" says another.
func (w *world) step(a []string) string {
	has := func(s string) bool { return slices.Contains(a, s) }
	value := func(k, def string) string {
		for _, s := range a {
			if v, ok := strings.CutPrefix(s, k+"="); ok {
				return v
			}
		}
		return def
	}
	switch a[0] {
	case "connect": // connect alice [retain] [verifier=N] [principal=P]
		c := w.client(a[1])
		c.retain = has("retain")
		c.verifier, _ = strconv.ParseUint(value("verifier", fmt.Sprint(c.verifier)), 10, 64)
		c.principal = value("principal", c.principal)
		err := c.connect()
		flags := ""
		if err == nil && c.flags&nfs4.EXCHGID4_FLAG_CONFIRMED_R != 0 {
			flags += " confirmed"
		}
		if err == nil && c.flags&nfs4.EXCHGID4_FLAG_RETAIN_STATE != 0 {
			flags += " retain"
		}
		if err == nil && c.flags&nfs4.EXCHGID4_FLAG_RECLAIMABLE_R != 0 {
			flags += " reclaimable"
		}
		return word(err) + flags
	case "restart": // the client comes back with a new verifier
		c := w.client(a[1])
		c.verifier++
		return w.step(append([]string{"connect"}, a[1:]...))
	case "complete":
		return word(w.client(a[1]).complete())
	case "complete-half": // the server dies with RECLAIM_COMPLETE durable, and nothing that follows from it
		c := w.client(a[1])
		p, err := w.srv.PrepareReclaimComplete(c.c, false)
		if err == nil {
			err = w.commit(p.Batch)
		}
		w.crash()
		return word(err)
	case "renew":
		c := w.client(a[1])
		r, flags, err := c.begin()
		if err != nil {
			return word(err)
		}
		r.Done(nil)
		out := "ok"
		if flags&nfs4.SEQ4_STATUS_ADMIN_STATE_REVOKED != 0 {
			out += " admin-revoked"
		}
		if flags&nfs4.SEQ4_STATUS_EXPIRED_SOME_STATE_REVOKED != 0 {
			out += " some-expired"
		}
		return out
	case "open", "reclaim-open": // open alice o f rw!w
		access, deny := modes(a[4])
		return word(w.client(a[1]).open(a[2], fs.Handle(a[3]), access, deny, a[0] != "open"))
	case "downgrade":
		access, deny := modes(a[4])
		return word(w.client(a[1]).downgrade(a[2], fs.Handle(a[3]), access, deny))
	case "close":
		return word(w.client(a[1]).close(a[2], fs.Handle(a[3])))
	case "lock", "reclaim": // lock alice x f 0-10 write [wait] [under=o]
		return word(w.client(a[1]).lock(value("under", "o"), a[2], fs.Handle(a[3]), parseRange(a[4]), parseType(a[5]), has("wait"), a[0] == "reclaim"))
	case "lock-half": // as lock, but the server dies with the intent durable and the lock at the backend
		c := w.client(a[1])
		p, err := c.planLock(context.Background(), c.lockRequest(value("under", "o"), a[2], fs.Handle(a[3]), parseRange(a[4]), parseType(a[5]), false, false))
		if err != nil {
			return word(err)
		}
		if err := w.commit(p.Batch); err != nil {
			return word(err)
		}
		err = w.backend.Lock(&p.Request)
		w.crash()
		return word(err)
	case "test": // test alice x f 0-10 write
		c := w.client(a[1])
		return word(w.srv.TestLock(c.c, a[2], fs.Handle(a[3]), parseRange(a[4]), parseType(a[5])))
	case "unlock":
		return word(w.client(a[1]).unlock(a[2], fs.Handle(a[3]), parseRange(a[4])))
	case "write", "read": // write alice o f | write anybody f
		io, sid, c, file := IOWrite, nfs4.Stateid{}, (*Client)(nil), fs.Handle(a[len(a)-1])
		if a[0] == "read" {
			io = IORead
		}
		if a[1] != "anybody" {
			t := w.client(a[1])
			c, sid = t.c, t.opens[owned(a[2], file)]
		}
		_, err := w.srv.ResolveIO(c, sid, file, io)
		return word(err)
	case "test-stateid", "free-stateid": // test-stateid alice lock x f
		c := w.client(a[1])
		sid := c.opens[owned(a[3], fs.Handle(a[4]))]
		if a[2] == "lock" {
			sid = c.locks[owned(a[3], fs.Handle(a[4]))]
		}
		if a[0] == "test-stateid" {
			return strings.TrimPrefix(w.srv.TestStateid(c.c, sid).String(), "NFS4ERR_")
		}
		eff, err := w.srv.FreeStateid(c.c, sid)
		w.run(eff)
		return word(err)
	case "revoke": // revoke alice x f 0-10 | revoke alice o f all
		var set fs.RangeSet
		owner := fs.Owner{Client: a[1], Owner: a[2]}
		if a[4] != "all" {
			set = fs.RangeSet{{Range: parseRange(a[4]), Type: fs.WriteLock}}
			w.backend.locks[OwnerFile{owner, fs.Handle(a[3])}] = minus(w.backend.locks[OwnerFile{owner, fs.Handle(a[3])}], set)
		} else {
			w.backend.CloseFile(context.Background(), owner, fs.Handle(a[3]))
		}
		w.run(w.srv.Revoke(owner, fs.Handle(a[3]), set, fs.AdminRevoked))
		return "done"
	case "advance":
		d, err := time.ParseDuration(a[1])
		if err != nil {
			return err.Error()
		}
		w.now = w.now.Add(d)
		return "done"
	case "expire":
		w.run(w.srv.Expire())
		return "done"
	case "boot", "crash":
		w.crash()
		return w.srv.Phase().String()
	case "rot": // the journal says that it is incomplete
		snap, err := w.journal.Load()
		if err != nil {
			return err.Error()
		}
		snap.Complete, snap.Opens, snap.Locks = false, nil, nil
		if !w.backend.remote {
			w.backend.clear()
		}
		w.srv = New(w.cfg, snap)
		return w.srv.Phase().String()
	case "backend": // backend fails=CODE | backend ok | backend no-grace | backend no-grace=p
		w.backend.fail, w.backend.noGr, w.backend.noGrAt = nil, has("no-grace"), partOf(fs.Handle(value("no-grace", "")+"/"))
		if has("unreachable") {
			w.backend.fail = fs.Unreachable
		}
		return "done"
	case "available":
		w.run(w.srv.LockAvailable(fs.Handle(a[3]), fs.Owner{Client: a[1], Owner: a[2]}, parseRange(a[4])))
		return "done"
	case "nograce":
		w.run(w.srv.NoGrace())
		return w.endStory(false)
	case "nograce-at": // nograce-at p [dies=before|durable|told]
		w.run(w.srv.NoGraceAt(partOf(fs.Handle(a[1] + "/"))))
		steps := map[string]int{"before": 0, "durable": 1, "told": 2, "": 3}[value("dies", "")]
		out := "over there" + lostWords(w.endPart(steps))
		if steps < 3 {
			w.crash()
		}
		return out
	case "phase-at":
		return w.srv.PhaseAt(fs.Handle(a[1])).String()
	case "end": // end grace if it may end; "end now" whatever is lost
		return w.endStory(has("now"))
	case "phase":
		return w.srv.Phase().String()
	case "told": // who was sent CB_NOTIFY_LOCK since the last time
		list := w.notices
		w.notices = nil
		if len(list) == 0 {
			return "nobody"
		}
		return strings.Join(list, " ")
	case "journal":
		if r := w.records(); len(r) > 0 {
			return strings.Join(r, "; ")
		}
		return "no locks"
	case "held":
		var list []string
		for _, l := range w.srv.Locks() {
			list = append(list, fmt.Sprintf("%s/%s %s live %s held %s", l.Owner.Client, l.Owner.Owner, l.File, ranges(l.Live), ranges(l.Held)))
		}
		if len(list) == 0 {
			return "no locks"
		}
		return strings.Join(list, "; ")
	case "missing":
		i := w.srv.GraceInfo()
		return fmt.Sprintf("%d of %d done, missing %v, %d granted, %d refused", i.Done, i.Expected, i.Missing, i.Granted, i.Refused)
	case "destroy":
		c := w.client(a[1])
		if c.ss != nil {
			eff, err := w.srv.DestroySession(c.ss.ID(), nil, true)
			if err != nil {
				return word(err)
			}
			w.run(eff)
		}
		eff, err := w.srv.DestroyClientID(c.c.ID(), nil)
		w.run(eff)
		return word(err)
	}
	return "what is " + a[0] + "?"
}

func (w *world) endStory(now bool) string {
	before := w.srv.Phase()
	lost := w.endGrace(now)
	if w.srv.Phase() == before {
		return "not yet"
	}
	return "over" + lostWords(lost)
}

func lostWords(lost []Lost) (out string) {
	sortLost(lost)
	for _, l := range lost {
		if l.Locks == nil {
			out += fmt.Sprintf(", lost %s/%s open %s", l.Owner.Client, l.Owner.Owner, l.File)
		} else {
			out += fmt.Sprintf(", lost %s/%s %s %s", l.Owner.Client, l.Owner.Owner, l.File, ranges(l.Locks))
		}
	}
	return out
}
