package rpc

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"holdfast/internal/xdr"
)

func sysBody(t testing.TB, a Cred) []byte {
	e := xdr.NewEncoder(nil)
	a.encode(e)
	if e.Err() != nil {
		t.Fatal(e.Err())
	}
	return e.Bytes()[8:]
}

func TestCred(t *testing.T) {
	for _, a := range []Cred{
		{},
		{Flavor: AUTH_SYS},
		{Flavor: AUTH_SYS, Stamp: 1, Machine: "host\xff\x00", UID: 1000, GID: 100, Groups: []uint32{4, 27}},
		{Flavor: AUTH_SYS, Machine: strings.Repeat("m", MaxMachine), Groups: make([]uint32, MaxGroups)},
	} {
		e := xdr.NewEncoder(nil)
		a.encode(e)
		d := xdr.NewDecoder(e.Bytes())
		var flavor uint32
		var body []byte
		d.Uint32(&flavor)
		d.Opaque(&body, MaxAuth)
		if e.Err() != nil || d.Err() != nil || d.Len() != 0 {
			t.Fatalf("%+v: %v, %v, %d left", a, e.Err(), d.Err(), d.Len())
		}
		back, stat := ParseCred(flavor, body)
		if stat != AUTH_OK || !reflect.DeepEqual(a, back) {
			t.Errorf("%+v became %+v, %v", a, back, stat)
		}
	}
	a := Cred{Flavor: AUTH_SYS, Stamp: 5, Machine: "abc", UID: 6, GID: 7, Groups: []uint32{8}}
	if got := hex.EncodeToString(sysBody(t, a)); got != "0000000500000003616263000000000600000007"+"0000000100000008" {
		t.Errorf("AUTH_SYS is encoded as %s", got)
	}
}

func TestCredRefused(t *testing.T) {
	body := sysBody(t, Cred{Flavor: AUTH_SYS, Machine: "m", Groups: []uint32{1, 2}})
	many := bytes.Clone(body)
	many[len(many)-9] = 17
	many = append(many, make([]byte, 15*4)...)
	for _, tc := range []struct {
		name   string
		flavor uint32
		body   []byte
		want   AuthStat
	}{
		{"cut short", AUTH_SYS, body[:len(body)-1], AUTH_BADCRED},
		{"empty", AUTH_SYS, nil, AUTH_BADCRED},
		{"with something after it", AUTH_SYS, append(bytes.Clone(body), 0, 0, 0, 0), AUTH_BADCRED},
		{"of 17 groups", AUTH_SYS, many, AUTH_BADCRED},
		{"of RPCSEC_GSS", RPCSEC_GSS, nil, AUTH_REJECTEDCRED},
		{"of AUTH_TLS", AUTH_TLS, nil, AUTH_REJECTEDCRED},
		{"of AUTH_SHORT", AUTH_SHORT, nil, AUTH_REJECTEDCRED},
		{"of an unknown flavour", 390003, nil, AUTH_REJECTEDCRED},
	} {
		if _, stat := ParseCred(tc.flavor, tc.body); stat != tc.want {
			t.Errorf("a credential %s gives %v, want %v", tc.name, stat, tc.want)
		}
	}
	for _, a := range []Cred{
		{Flavor: RPCSEC_GSS},
		{Flavor: AUTH_SYS, Machine: strings.Repeat("m", MaxMachine+1)},
		{Flavor: AUTH_SYS, Groups: make([]uint32, MaxGroups+1)},
	} {
		e := xdr.NewEncoder(nil)
		if a.encode(e); e.Err() == nil {
			t.Errorf("%+v was encoded", a)
		}
	}
}

func FuzzCred(f *testing.F) {
	f.Add(uint32(AUTH_SYS), sysBody(f, Cred{Flavor: AUTH_SYS, Machine: "m", UID: 1, Groups: []uint32{1, 2}}))
	f.Add(uint32(AUTH_NONE), []byte{})
	f.Fuzz(func(t *testing.T, flavor uint32, body []byte) {
		a, stat := ParseCred(flavor, body)
		if stat != AUTH_OK || flavor != AUTH_SYS {
			return
		}
		if len(a.Groups) > MaxGroups || len(a.Machine) > MaxMachine {
			t.Fatalf("%+v", a)
		}
		back, stat := ParseCred(AUTH_SYS, sysBody(t, a))
		if stat != AUTH_OK || !reflect.DeepEqual(a, back) {
			t.Fatalf("%+v became %+v, %v", a, back, stat)
		}
	})
}
