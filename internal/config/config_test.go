package config

import (
	"strings"
	"testing"
	"time"
)

func TestPrecedenceIsFlagThenEnvironmentThenFile(t *testing.T) {
	c := Default()
	if err := c.parse("f.yaml", []byte("locks: {lease: 10s, grace: 11s, fence: eagain}")); err != nil {
		t.Fatal(err)
	}
	if err := c.environment([]string{"HOLDFAST_GRACE=12s", "HOLDFAST_LEASE=13s"}); err != nil {
		t.Fatal(err)
	}
	if err := c.SetFlag("lease", "14s"); err != nil {
		t.Fatal(err)
	}
	if c.Lease.Std() != 14*time.Second || c.Grace.Std() != 12*time.Second || c.Fence.Value != "eagain" {
		t.Fatalf("got %v %v %v", c.Lease, c.Grace, c.Fence.Value)
	}
	for key, want := range map[string]string{"locks.lease": "flag --lease", "locks.grace": "env HOLDFAST_GRACE", "locks.fence": "f.yaml:1"} {
		if c.Sources[key] != want {
			t.Errorf("source of %s is %q, want %q", key, c.Sources[key], want)
		}
	}
}

func TestBadFilesSayWhereAndWhat(t *testing.T) {
	for text, want := range map[string]string{
		"locks:\n  leese: 90s":           `f:2: there is no key "locks.leese"; did you mean "lease"?`,
		"originss: []":                   `did you mean "origins"?`,
		"locks: {lease: 90}":             "has no unit",
		"locks: {lease: -90s}":           "negative",
		"locks: {fence: maybe}":          "not one of block, eagain",
		"instance: a\ninstance: b":       "twice",
		"origins: [{nam: x}]":            `did you mean "name"?`,
		"origins: x":                     "is a list",
		"locks: [1]":                     "expected keys",
		"mounts: [{allow_other: maybe}]": "f:1",
		"\t":                             "f:",
	} {
		err := Default().parse("f", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestExampleIsTheDefaults(t *testing.T) {
	c := Default()
	if err := c.parse("example", []byte(Example)); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate("serve"); err != nil {
		t.Fatal(err)
	}
	d := Default().Settings()
	for i, s := range c.Settings() {
		if s.Value.String() != d[i].Value.String() {
			t.Errorf("%s is %s in the example and %s by default", s.Key, s.Value, d[i].Value)
		}
	}
}

func TestValidateSaysTheRemedy(t *testing.T) {
	c := Default()
	c.Lease, c.Grace = Duration(90*time.Second), Duration(10*time.Second)
	if err := c.Validate("serve"); err == nil || !strings.Contains(err.Error(), "set grace to at least 1m30s") || !strings.Contains(err.Error(), "no origin") {
		t.Fatal(err)
	}
}

func TestParseOrigin(t *testing.T) {
	for text, want := range map[string][2]string{
		"filer:/proj":        {"filer", "/proj"},
		"filer:12049:/proj/": {"filer:12049", "/proj"},
		"nfs://filer:12/a/b": {"filer:12", "/a/b"},
		"[fe80::1]:/x":       {"[fe80::1]", "/x"},
		"10.0.0.1:/":         {"10.0.0.1", "/"},
		"filer":              {},
		":/x":                {},
		"nfs:///x":           {},
	} {
		o, err := ParseOrigin(text)
		if (want[0] == "") != (err != nil) || o.Server != want[0] || o.Path != want[1] {
			t.Errorf("%q: %+v %v", text, o, err)
		}
	}
	o := Origin{Server: "[fe80::1]"}
	if a := o.Addr(DefaultOptions()); a != "[fe80::1]:2049" {
		t.Error(a)
	}
}

func TestOptions(t *testing.T) {
	o := Origin{Options: "vers=4.1,nconnect=4,timeo=50,actimeo=7,soft,port=12049,_netdev"}
	opt, err := o.ParseOptions()
	if err != nil || opt.Minor != 1 || opt.NConnect != 4 || opt.Timeout != 5*time.Second || opt.AcDirMax != 7*time.Second || opt.Hard || opt.Port != 12049 {
		t.Fatalf("%+v %v", opt, err)
	}
	for _, bad := range []string{"vers=3", "nconnect=0", "nconnect=x", "wibble", "acregmin=90", "sec=krb5", "proto=udp", "consistency=lax", "consistency="} {
		o.Options = bad
		if _, err := o.ParseOptions(); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestConsistencyIsOfAllOrOfAnOrigin(t *testing.T) {
	c := Default()
	if err := c.parse("f", []byte("origins: [{name: a, server: s, path: /a, options: \"consistency=immutable\"}]\ncache: {consistency: relaxed, relaxed_age: 90s}\n")); err != nil {
		t.Fatal(err)
	}
	opt, err := c.Origins[0].ParseOptions()
	if err != nil || opt.Consistency != "immutable" || opt.Ages || c.Consistency.Value != "relaxed" || c.RelaxedAge.Std() != 90*time.Second {
		t.Errorf("%+v, %v, %v, %v", opt, err, c.Consistency, c.RelaxedAge)
	}
	c.Origins[0].Options = "actimeo=0"
	if opt, _ := c.Origins[0].ParseOptions(); !opt.Ages || opt.AcRegMin != 0 {
		t.Error("ages that were given are not known as given")
	}
	if err := c.parse("f", []byte("cache: {consistency: lax}")); err == nil || !strings.Contains(err.Error(), "f:1") {
		t.Errorf("a mode that is none: %v", err)
	}
	c.RelaxedAge = Duration(48 * time.Hour)
	if err := c.Validate("serve"); err == nil || !strings.Contains(err.Error(), "--consistency=immutable") {
		t.Errorf("no remedy: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Example)
	f.Add("locks: {lease: 1}")
	f.Fuzz(func(t *testing.T, text string) {
		c := Default()
		if c.parse("f", []byte(text)) == nil {
			_ = c.Validate("serve")
		}
	})
}
