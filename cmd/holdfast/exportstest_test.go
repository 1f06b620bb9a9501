package main

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"holdfast/internal/config"
	"holdfast/nfsdown"
)

func TestExportTest(t *testing.T) {
	cfg := config.Default()
	cfg.Exports = []string{
		"/proj *(ro) 10.0.0.0/8(rw,insecure,all_squash,anonuid=0) 10.1.0.0/16(rw,no_root_squash)", "/proj/deep @farm(rw,sec=sys)",
		"/far *(refer=/x@[::1]+b)",
	}
	all, err := cfg.ExportList()
	if err != nil {
		t.Fatal(err)
	}
	ask := nfsdown.Config{
		LookupNames:    func(context.Context, netip.Addr) []string { return nil },
		LookupNetgroup: func(context.Context, string) ([]string, error) { return []string{"10.2.2.2"}, nil },
	}
	for _, c := range []struct {
		addr, path, export string
		allowed            bool
		option, why        string
	}{
		{"192.0.2.1", "/proj/a", "/proj", true, "ro", "* is the most specific"},
		{"10.5.5.5", "/proj", "/proj", true, "anonuid=0", "everybody is user 0"},
		{"10.1.5.5", "/proj/", "/proj", true, "no_root_squash", "below 1024"},
		{"10.1.5.5", "/proj/deep/x", "/proj/deep", false, "", "no client"},
		{"10.2.2.2", "/proj/deep", "/proj/deep", true, "sec=sys", "@farm is the most"},
		{"10.2.2.2", "/project", "", false, "", "no export"},
		{"10.2.2.2", "/far", "/far", true, "refer=/x@[::1]+b", "sent to /x@[::1]+b"},
	} {
		r, err := testExport(context.Background(), ask, all, netip.MustParseAddr(c.addr), c.path)
		if err != nil {
			t.Fatal(err)
		}
		has := c.option == "" && len(r.Options) == 0
		for _, o := range r.Options {
			has = has || o == c.option
		}
		if r.Export != c.export || r.Allowed != c.allowed || !has || !strings.Contains(strings.Join(r.Why, "\n"), c.why) {
			t.Errorf("%s at %s: %+v", c.addr, c.path, r)
		}
	}
}
