package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseExport(t *testing.T) {
	e, err := ParseExport("/proj/ *(ro) 10.0.0.0/8(rw) 10.1.0.0/16(rw,all_squash,anonuid=5) host(rw,no_root_squash,insecure) *.lab(sec=null:sys) @farm(anongid=-2)")
	if err != nil {
		t.Fatal(err)
	}
	want := []ExportClient{
		{"*", false, "root", 65534, 65534, false, ""}, {"10.0.0.0/8", true, "root", 65534, 65534, false, ""},
		{"10.1.0.0/16", true, "all", 5, 65534, false, ""}, {"host", true, "none", 65534, 65534, true, ""},
		{"*.lab", false, "root", 65534, 65534, false, "none:sys"}, {"@farm", false, "root", 65534, 1<<32 - 2, false, ""},
	}
	if e.Path != "/proj" || !slices.Equal(e.Clients, want) {
		t.Errorf("%+v", e)
	}
	for _, text := range []string{"/p", "/p # *(rw)", "/p -ro"} {
		if e, err := ParseExport(text); err != nil || len(e.Clients) != 1 || e.Clients[0].Pattern != "*" || e.Clients[0].ReadWrite {
			t.Errorf("%q is for everybody, read-only: %+v %v", text, e, err)
		}
	}
	for bad, want := range map[string]string{
		"": "absolute path", "proj *": "absolute path", "/p *(rw": "parenthesis", "/p *(wibble)": "not known",
		"/p *(no_rot_squash)": `did you mean "no_root_squash"`, "/p 10.0.0.0/99": "not a network", "/p 10.0.0.0/x": "not a network",
		"/p *(async)": "refused", "/p *(sec=krb5)": "Kerberos", "/p *(sec=sys:sys)": "twice", "/p *(anonuid=x)": "not a number",
		"/p *(rw=1)": "no value", "/p *(fsid)": "needs a value", "/p *(fsid=root)": "not supported", "/p *(fsid=zz)": "UUID",
		"/p a(fsid=1) b(fsid=2)": "two values", "/p a(rw) A(ro)": "twice", "/p @": "netgroup", "/p a[b(rw)": "bracket",
		"/p *(refer=/x)": "write it as", "/p *(refer=x@h)": "write it as", "/p *(refer=/x@)": "write it as", "/p *(refer=/x@[::1)": "write it as",
		"/p *(sec=sys,rw,sec=none,ro)": "one list", "/p \"*": "quote", "/p *\n/q *": "more than one", "/p *(hide)": "refused",
	} {
		if _, err := ParseExport(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want something with %q", bad, err, want)
		}
	}
}

func TestFSIDAndReferral(t *testing.T) {
	e, err := ParseExport("/p *(fsid=0x10) b(ro,refer=/x@one+[2001:db8::1]:/y/@two)")
	want := []Location{{"/x", []string{"one", "2001:db8::1"}}, {"/y", []string{"two"}}}
	if err != nil || e.FSID != 16 || !reflect.DeepEqual(e.Refer, want) {
		t.Errorf("%+v %v", e, err)
	}
	a, err1 := ParseExport("/p *(fsid=6d4b5a35-0E1F-4f3f-9a44-cc0ff5f0d2a3)")
	b, err2 := ParseExport("/q *(fsid=6d4b5a350e1f4f3f9a44cc0ff5f0d2a3)")
	if err1 != nil || err2 != nil || a.FSID == 0 || a.FSID != b.FSID {
		t.Errorf("a UUID: %+v %v, %+v %v", a, err1, b, err2)
	}
}

func TestSquashOptionsInAnyOrder(t *testing.T) {
	for options, want := range map[string]string{
		"all_squash,no_root_squash": "all", "no_root_squash,all_squash": "all", "all_squash,no_all_squash": "root",
		"no_root_squash,no_all_squash": "none", "no_root_squash,root_squash": "root", "all_squash,root_squash": "all",
	} {
		if e, err := ParseExport("/p *(" + options + ")"); err != nil || e.Clients[0].Squash != want {
			t.Errorf("%s: %+v %v, want %s", options, e, err, want)
		}
	}
}

func TestExportsFile(t *testing.T) {
	const text = "# whole line\n\n" +
		"/a\t-rw,no_root_squash one two(ro) -ro,sec=sys three # rest\n" +
		"\"/with space\" *(rw)\r\n" +
		"/oct\\040al\\134 \\\n  host1(rw) \\\n\thost2\n" +
		"/a four\n" +
		"   /last *(rw)"
	list, err := parseExports("f", text)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		for _, c := range e.Clients {
			mode := "ro"
			if c.ReadWrite {
				mode = "rw"
			}
			got = append(got, strings.Join([]string{e.Source, e.Path, c.Pattern, mode, c.Squash, c.Sec}, "|"))
		}
	}
	want := []string{
		"f:3|/a|one|rw|none|", "f:3|/a|two|ro|none|", "f:3|/a|three|ro|none|sys", "f:4|/with space|*|rw|root|",
		`f:5|/oct al\|host1|rw|root|`, `f:5|/oct al\|host2|ro|root|`, "f:8|/a|four|ro|root|", "f:9|/last|*|rw|root|",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	// Each error has its line, and does not hide the next.
	list, err = parseExports("f", "/a *(rw)\n\\\n/b *(rx)\n/c *\n\"/d *\n*(rw) /e\n")
	if err == nil || len(list) != 2 {
		t.Fatalf("%d exports, %v", len(list), err)
	}
	for _, want := range []string{`f:3: option "rx" is not known; did you mean`, "f:5: a quote", "f:6: an export begins"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestExportListOfFilesAndDirectories(t *testing.T) {
	dir := t.TempDir()
	d := filepath.Join(dir, "exports.d")
	if err := os.Mkdir(d, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"exports": "/a one\n/b *(fsid=7)\n", "exports.d/2.exports": "/c *\n", "exports.d/1.exports": "/a two(rw)\n",
		"exports.d/.hidden.exports": "nonsense", "exports.d/notes.txt": "nonsense",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := Default()
	c.Exports = []string{"/z *(rw)"}
	c.ExportsFile = filepath.Join(dir, "exports") + ", " + d
	list, err := c.ExportList()
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, e := range list {
		paths = append(paths, e.Path)
	}
	if !slices.Equal(paths, []string{"/z", "/a", "/b", "/c"}) || len(list[1].Clients) != 2 || !list[1].Clients[1].ReadWrite || list[2].FSID != 7 {
		t.Errorf("%q %+v", paths, list[1])
	}
	if err := os.WriteFile(filepath.Join(d, "3.exports"), []byte("\n/a TWO(ro)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ExportList(); err == nil || !strings.Contains(err.Error(), "3.exports:2: client") {
		t.Errorf("the same client twice: %v", err)
	}
	c.ExportsFile = filepath.Join(dir, "none")
	if err := c.Validate("origin"); err == nil || !strings.Contains(err.Error(), "exports_file") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func FuzzParseExports(f *testing.F) {
	f.Add("/proj 10.0.0.0/8(rw,root_squash) admin(rw,no_root_squash)")
	f.Add("\"/a b\" -rw,sec=sys @g \\\n *.lab(refer=/x@[::1]+b:/y@c)#c\n/\\040 *(fsid=3)")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseExports("f", text)
		for _, e := range list {
			if len(e.Clients) == 0 || !strings.HasPrefix(e.Path, "/") || e.Source == "" {
				t.Fatalf("%+v", e)
			}
		}
		if _, one := ParseExport(text); one == nil && (err != nil || len(list) != 1) {
			t.Fatalf("one line is understood, and as a file it is %d exports, %v", len(list), err)
		}
	})
}
