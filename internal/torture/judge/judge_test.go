package judge

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var story = flag.String("story", "", "judge this file too, which a run of the torture has written")

// TestStories judges the stories in testdata. A name that begins with "violated" says what must come of it.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	if *story != "" {
		files = append(files, *story)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			ops, err := Parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			found := Judge(ops, time.Minute)
			for _, f := range found {
				t.Logf("%s %s\n%s", f.Cell, f.Verdict, Story(f.Ops))
			}
			if want := strings.HasPrefix(filepath.Base(file), "violated"); want != (len(found) > 0) {
				t.Errorf("violated: %v, want %v", len(found) > 0, want)
			}
		})
	}
}

// TestHonestServer makes histories at an honest server with crashes, losses and answers that never came,
// and the judge must believe them all; then it changes one thing that matters, and the judge must see it.
func TestHonestServer(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ops := honest(rt)
		if v := Cell(ops, time.Minute); v != Honest {
			rt.Fatalf("%s:\n%s", v, Story(ops))
		}
		back, err := Parse(Story(ops))
		if err != nil || Story(back) != Story(ops) {
			rt.Fatalf("%v\n%s\n%s", err, Story(ops), Story(back))
		}
		// A rival holds all the time, and says so: nobody else can have written.
		wrote := false
		for _, o := range ops {
			wrote = wrote || o.Kind == Write && !o.Maybe
		}
		if !wrote {
			return
		}
		bad := append([]Op{{Cell: "c", Owner: "rival", Kind: Lock, Mode: Exclusive, Call: -2, Return: -1}}, ops...)
		if v := Cell(bad, time.Minute); v != Violated {
			rt.Fatalf("a rival: %s\n%s", v, Story(bad))
		}
		small := Shrink(bad)
		if v := Cell(small, time.Minute); v != Violated || len(small) > 6 {
			rt.Fatalf("shrunk to %d of %d, %s\n%s", len(small), len(bad), v, Story(small))
		}
	})
}

// honest runs owners one step at a time at the model itself, and stretches the intervals around the
// moments at which things took effect.
func honest(rt *rapid.T) []Op {
	var s state
	var ops []Op
	owners := []string{"a", "b", "c"}
	free := map[string]int64{}  // when the owner's last answer came
	since := map[string]int64{} // when its grant was asked for
	now := int64(0)
	for range rapid.IntRange(1, 40).Draw(rt, "n") {
		now += 100
		o := Op{Cell: "c", Owner: rapid.SampledFrom(owners).Draw(rt, "owner"), Kind: Kind(rapid.IntRange(0, int(Read)).Draw(rt, "kind"))}
		if free[o.Owner] >= now {
			continue
		}
		held := s.holds()[o.Owner]
		o.Mode = uint8(rapid.IntRange(1, 2).Draw(rt, "mode"))
		o.Call = max(free[o.Owner]+1, now-int64(rapid.IntRange(0, 150).Draw(rt, "before")))
		o.Return = now + int64(rapid.IntRange(0, 150).Draw(rt, "after"))
		switch o.Kind {
		case Lock:
		case Loss:
			if held == 0 {
				continue
			}
			o.Call, o.Mode = since[o.Owner], 0
		case Write:
			o.Value = s.value + 1
			fallthrough
		default:
			if o.Kind == Read {
				o.Value = s.value
			}
			o.Mode = 0
		}
		after, ok := s.done(&o)
		o.Maybe = o.Kind != Loss && o.Kind != Read && rapid.IntRange(0, 5).Draw(rt, "lost answer") == 0
		if !ok {
			if !o.Maybe {
				continue // refused, and it was told
			}
			after = s // it never arrived
		}
		s = after
		if o.Kind == Lock && (since[o.Owner] == 0 || held == 0) {
			since[o.Owner] = o.Call
		}
		free[o.Owner] = o.Return
		ops = append(ops, o)
	}
	return ops
}

func TestParseRefuses(t *testing.T) {
	for _, line := range []string{"x", "1-2 c a lock", "1-2 c a lock both", "2-1 c a unlock", "1 c a unlock", "1-2 c a jump",
		"1-2 c a unlock 3", "1-2 c a write", "1-2 c a open access=4,deny=0", "1-2 c a write x", "a-2 c a unlock", "1-b c a unlock"} {
		if ops, err := Parse(line); err == nil {
			t.Errorf("%q is %v", line, ops)
		}
	}
	o := Op{Cell: "s", Owner: "a", Kind: Open, Mode: 2 | 1<<2, Call: 1, Return: 5, Maybe: true}
	if got, err := Parse("# a comment\n\n" + o.String()); err != nil || !reflect.DeepEqual(got, []Op{o}) {
		t.Errorf("%v %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("1-2 c a lock shared maybe\n3-4 c b write 7\n5-6 s a open access=3,deny=1")
	f.Fuzz(func(t *testing.T, text string) {
		ops, err := Parse(text)
		if err != nil {
			return
		}
		back, err := Parse(Story(ops))
		if err != nil || Story(back) != Story(ops) {
			t.Fatalf("%v: %q", err, Story(ops))
		}
	})
}
