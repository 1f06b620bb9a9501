package nfsdown

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"holdfast/fs"
	"holdfast/fs/fstest/memfs"
	"holdfast/internal/nfs4"
	"holdfast/internal/rpc"
)

// names that a resolver of tests gives to an address.
var testNames = map[string][]string{"192.0.2.77": {"other", "a.Example.org."}, "192.0.2.78": {"render7.lab"}}

func testConfig() Config {
	return Config{
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("192.0.2.9")}, nil
		},
		LookupNames: func(_ context.Context, a netip.Addr) []string { return testNames[a.String()] },
		LookupNetgroup: func(_ context.Context, group string) ([]string, error) {
			switch group {
			case "farm":
				return []string{"render7", "192.0.2.80", "-"}, nil
			case "all":
				return []string{""}, nil
			}
			return nil, errors.New("no such netgroup")
		},
		Logger: quiet,
	}
}

func TestMostSpecificClientRuleCounts(t *testing.T) {
	x := &Export{Path: "/", Clients: []ClientRule{
		{"*", Access{AnonUID: 1}}, {"10.0.0.0/8", Access{AnonUID: 2}}, {"10.1.0.0/255.255.0.0", Access{AnonUID: 3}}, {"10.1.2.3", Access{AnonUID: 4}},
		{"host.example", Access{AnonUID: 5}}, {"2001:db8::/32", Access{AnonUID: 6}}, {"*.Example.org", Access{AnonUID: 7}},
		{"@gone", Access{AnonUID: 10}}, {"@farm", Access{AnonUID: 8}}, {"render?.lab", Access{AnonUID: 9}},
	}}
	for addr, want := range map[string]uint32{
		"192.0.2.1": 1, "10.9.9.9": 2, "10.1.9.9": 3, "10.1.2.3": 4, "192.0.2.9": 5, "2001:db8::1": 6, "::1": 1, "192.0.2.77": 7,
		"192.0.2.78": 9, "192.0.2.80": 8, "::ffff:10.9.9.9": 2,
	} {
		acc, list, _, err := Explain(context.Background(), testConfig(), x, netip.MustParseAddr(addr))
		if err != nil || acc.AnonUID != want || acc.Denied {
			t.Errorf("%s: rule %d, want %d (%v)", addr, acc.AnonUID, want, err)
		}
		if !list[0].Matches || list[0].Counts != (want == 1) || slices.ContainsFunc(list, func(v Verdict) bool { return v.Counts && !v.Matches }) {
			t.Errorf("%s: %+v", addr, list)
		}
	}
	acc, list, _, err := Explain(context.Background(), testConfig(), &Export{Clients: x.Clients[2:3]}, netip.MustParseAddr("192.0.2.1"))
	if err != nil || !acc.Denied || list[0].Matches {
		t.Errorf("no rule, and not denied: %+v %+v %v", acc, list, err)
	}
	acc, _, _, err = Explain(context.Background(), testConfig(), &Export{Clients: []ClientRule{{"@all", Access{RW: true}}}, ReadOnly: true}, netip.MustParseAddr("192.0.2.1"))
	if err != nil || acc.Denied || acc.RW {
		t.Errorf("a netgroup of all hosts, read-only: %+v %v", acc, err)
	}
}

func TestNameServicesAreAskedOnlyIfTheyCanCount(t *testing.T) {
	cfg := testConfig()
	cfg.LookupNames = func(context.Context, netip.Addr) []string { t.Error("names were asked for"); return nil }
	x := &Export{Clients: []ClientRule{{"@farm", Access{}}, {"*.lab", Access{}}, {"10.0.0.0/8", Access{RW: true}}}}
	rs, _, err := rules(context.Background(), x.Clients, cfg.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	if acc, _ := match(rs, cfg.who(context.Background(), netip.MustParseAddr("10.1.1.1"), nil)); !acc.RW {
		t.Errorf("%+v", acc)
	}
}

func TestNetgroupLine(t *testing.T) {
	got := netgroupHosts("farm                  (render1,,) ( render2 ,-,lab) (,user,) (-,x,y) (broken")
	if !slices.Equal(got, []string{"render1", "render2", "", "-"}) {
		t.Errorf("%q", got)
	}
}

func TestSquash(t *testing.T) {
	user := &fs.Cred{UID: 5, GID: 6, Groups: []uint32{0, 7}}
	root := &fs.Cred{Groups: []uint32{0, 1}}
	for _, c := range []struct {
		a         Access
		in        *fs.Cred
		anonymous bool
		want      fs.Cred
	}{
		{Access{}, user, false, fs.Cred{UID: 5, GID: 6, Groups: []uint32{65534, 7}}},
		{Access{AnonUID: 8, AnonGID: 9}, root, false, fs.Cred{UID: 8, GID: 9, Groups: []uint32{9, 1}}},
		{Access{Squash: NoRootSquash}, root, false, *root},
		{Access{Squash: NoRootSquash, AnonUID: 8}, root, true, fs.Cred{UID: 8, GID: 65534}},
		{Access{Squash: AllSquash, AnonUID: 8}, user, false, fs.Cred{UID: 8, GID: 65534}},
		{Access{Squash: AllSquash, AnonRoot: true}, user, false, fs.Cred{}},
	} {
		got := c.a.apply(c.in, c.anonymous)
		if got.UID != c.want.UID || got.GID != c.want.GID || !slices.Equal(got.Groups, c.want.Groups) {
			t.Errorf("%+v of %+v: %+v", c.a, c.in, got)
		}
	}
}

// TestReferral: a file system that is elsewhere says where, and nothing else.
func TestReferral(t *testing.T) {
	w := newWorld(t, func(cfg *Config) {
		here := memfs.New()
		cfg.Exports = []Export{
			{Path: "/here", Backend: here, Clients: open2("*"), Replicas: []Location{{"/copy", []string{"two"}}}},
			{Path: "/away/far", Clients: open2("*"), Refer: []Location{{"/srv/x", []string{"one", "192.0.2.1"}}, {"/", []string{"three"}}}},
		}
	})
	p := w.client("alice")
	where := nfs4.Bits(nfs4.FATTR4_FS_LOCATIONS, nfs4.FATTR4_FSID, nfs4.FATTR4_MOUNTED_ON_FILEID, nfs4.FATTR4_SIZE)
	get := &nfs4.GetattrArgs{Request: where}
	far := at("away", "far")
	f := last[*nfs4.GetattrRes](p.ok(with(far, get)...)).Attrs
	if l := f.FSLocations; l == nil || !slices.Equal(l.Root, []string{"away", "far"}) || len(l.Locations) != 2 ||
		!slices.Equal(l.Locations[0].Servers, []string{"one", "192.0.2.1"}) || !slices.Equal(l.Locations[0].RootPath, []string{"srv", "x"}) ||
		len(l.Locations[1].RootPath) != 0 {
		t.Errorf("%+v", l)
	}
	if f.Mask.Has(nfs4.FATTR4_SIZE) || !f.Mask.Has(nfs4.FATTR4_FSID) {
		t.Errorf("attributes of an absent file system: %v", f.Mask)
	}
	p.fails(nfs4.NFS4ERR_MOVED, with(far, &nfs4.GetfhArgs{})...)
	p.fails(nfs4.NFS4ERR_MOVED, with(far, &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_SIZE)})...)
	p.fails(nfs4.NFS4ERR_MOVED, with(far, &nfs4.LookupArgs{Name: "x"})...)
	p.fails(nfs4.NFS4ERR_MOVED, with(far, &nfs4.ReaddirArgs{MaxCount: 4000})...)
	p.fails(nfs4.NFS4ERR_MOVED, with(far, openArgs("o", "f", nfs4.OPEN4_SHARE_ACCESS_READ, 0))...)
	// In the directory above, it is listed by those who can take that.
	list := last[*nfs4.ReaddirRes](p.ok(with(at("away"), &nfs4.ReaddirArgs{MaxCount: 4000, Request: nfs4.Bits(nfs4.FATTR4_RDATTR_ERROR, nfs4.FATTR4_FSID, nfs4.FATTR4_SIZE)})...))
	if len(list.Entries) != 1 || list.Entries[0].Attrs.FSID != f.FSID || list.Entries[0].Attrs.RdattrError != nfs4.NFS4ERR_MOVED || list.Entries[0].Attrs.Mask.Has(nfs4.FATTR4_SIZE) {
		t.Errorf("%+v", list.Entries)
	}
	f = last[*nfs4.GetattrRes](p.ok(with(at("here"), get)...)).Attrs
	if l := f.FSLocations; l == nil || len(l.Locations) != 1 || !slices.Equal(l.Locations[0].RootPath, []string{"copy"}) || !f.Mask.Has(nfs4.FATTR4_SIZE) {
		t.Errorf("replicas: %+v", l)
	}
}

// TestSecurityFlavors: sec= decides who is let in, and SECINFO tells.
func TestSecurityFlavors(t *testing.T) {
	w := newWorld(t, func(cfg *Config) {
		cfg.Exports = nil
		for path, a := range map[string]Access{"/sys": {RW: true, NoNone: true}, "/none": {RW: true, NoSys: true}, "/both": {RW: true}} {
			cfg.Exports = append(cfg.Exports, Export{Path: path, Backend: memfs.New(), Clients: []ClientRule{{"*", a}}})
		}
	})
	p := w.client("alice")
	sys := p.fh("sys")
	if r := last[*nfs4.SecinfoRes](p.ok(putroot, &nfs4.SecinfoArgs{Name: "none"})); len(r.Flavors) != 1 || r.Flavors[0].Flavor != nfs4.AUTH_NONE {
		t.Errorf("%+v", r)
	}
	if r := last[*nfs4.SecinfoRes](p.ok(putroot, &nfs4.SecinfoArgs{Name: "both"})); len(r.Flavors) != 2 {
		t.Errorf("%+v", r)
	}
	p.fails(nfs4.NFS4ERR_WRONGSEC, at("none")...)
	p.cred = rpc.Cred{Flavor: rpc.AUTH_NONE}
	p.ok(with(at("none"), &nfs4.GetfhArgs{})...)
	p.fails(nfs4.NFS4ERR_WRONGSEC, at("sys")...)
	get := &nfs4.GetattrArgs{Request: nfs4.Bits(nfs4.FATTR4_TYPE)}
	if st, list := p.do(put(sys), get); st != nfs4.NFS4ERR_WRONGSEC || len(list) != 1 {
		t.Errorf("PUTFH, GETATTR: %v after %d", st, len(list))
	}
	if r := last[*nfs4.SecinfoNoNameRes](p.ok(put(sys), &nfs4.SecinfoNoNameArgs{})); len(r.Flavors) != 1 || r.Flavors[0].Flavor != nfs4.AUTH_SYS {
		t.Errorf("%+v", r)
	}
}
