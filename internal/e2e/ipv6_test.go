package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ipv6 gives a VM an address of IPv6; the other one is the host's.
func (v *VM) ipv6() (host, own netip.Addr) {
	v.t.Helper()
	out, err := vmCommand("ipv6", v.name).CombinedOutput()
	words := strings.Fields(string(out))
	if err != nil || len(words) != 2 {
		v.t.Fatalf("vm ipv6 %s: %v\n%s", v.name, err, out)
	}
	return netip.MustParseAddr(words[0]), netip.MustParseAddr(words[1])
}

// mount6 mounts over IPv6.
func (v *VM) mount6(host netip.Addr, port int, dir, options string) (out string, err error) {
	b, err := vmCommand("mount", v.name, fmt.Sprintf("[%s]:/data", host), dir, "-o", fmt.Sprintf("port=%d,%s", port, options)).CombinedOutput()
	if err == nil {
		v.t.Cleanup(func() {
			if out, err := v.try("sh", "-c", "pkill lockprobe; umount -f "+dir+" || umount -l "+dir); err != nil {
				v.t.Logf("%s: umount: %v %s", v.name, err, out)
			}
		})
	}
	return string(b), err
}

// TestIPv6: a kernel client mounts over IPv6 from a serve whose origin is reached over IPv6, and whose export names
// networks of IPv6. Its locks are the same as those of a client over IPv4, and survive a reboot of serve.
func TestIPv6(t *testing.T) {
	v := vms(t, "alice6", "bob6") // of their own: a kernel that has loaded IPv6 once, has it for all tests that follow
	alice, bob := v[0], v[1]
	host, own := alice.ipv6()
	_, bobs := bob.ipv6()
	dir := scratch(t, "export")
	_, o := startOrigin(t, dir)
	p := port(t)
	network := netip.PrefixFrom(own, 64).Masked()
	exports := filepath.Join(scratch(t, "settings"), "exports")
	if err := os.WriteFile(exports, fmt.Appendf(nil, "/data %s(ro,insecure) %s(rw,no_root_squash,insecure) %s/24(rw,no_root_squash,insecure)\n", network, own, bridge), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := start(t, "serve", scratch(t, "serve-state"), "serve", fmt.Sprintf("[::1]:%d:/data", o), "--exports-file", exports,
		"--listen", fmt.Sprintf(":%d", p), "--lease", "20s", "--grace", "20s", "--restart", "grace", "--recovery", "reclaim")
	for _, vers := range []string{"4.0", "4.1", "4.2"} {
		if out, err := alice.mount6(host, p, "/mnt/v"+vers, "vers="+vers); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		at := "/mnt/v" + vers
		must(t, "what was written", alice.sh(fmt.Sprintf("echo by %s >%s/f%[1]s; sync; cat %[2]s/f%[1]s", vers, at)), "by "+vers)
		if got := command(t, "cat", filepath.Join(dir, "f"+vers)); got != "by "+vers+"\n" {
			t.Errorf("at the origin: %q", got)
		}
	}
	alice.sh("mount --bind /host/etc/netconfig /etc/netconfig") // that of the VM hides IPv6 from daemons
	out, err := alice.mount6(host, p, "/mnt/v3", fmt.Sprintf("vers=3,nolock,proto=tcp6,mountport=%d,mountproto=tcp6", p))
	alice.sh("umount /etc/netconfig")
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	must(t, "by NFSv3", alice.sh("cat /mnt/v3/f4.2; echo by 3 >/mnt/v3/f3; sync; cat /mnt/v4.2/f3"), "by 4.2\nby 3")

	t.Run("others of the network", func(t *testing.T) { // bob unmounts, or Linux finds the same server at its other address
		bob := &VM{t, bob.name}
		if out, err := bob.mount6(host, p, "/mnt/six", "vers=4.2"); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		out, err := bob.try("sh", "-c", "cat /mnt/six/f4.2; echo more >/mnt/six/f4.2")
		if err == nil || !strings.Contains(out, "by 4.2") || !strings.Contains(out, "Read-only file system") {
			t.Errorf("bob, who may only read: %v %q", err, out)
		}
	})
	for addr, want := range map[netip.Addr]string{own: "rw", bobs: "ro"} {
		out, err := serve.cli("exports", "test", addr.String(), "/data", "--exports-file", exports)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("exports test %s: %v\n%s\nwant %s", addr, err, out, want)
		}
	}
	if out, err := serve.cli("exports", "test", "fd00::1", "/data", "--exports-file", exports); err == nil || !strings.Contains(out, "refused") {
		t.Errorf("exports test of an address that no network has: %s", out)
	}
	clients, err := serve.cli("clients")
	if err != nil {
		t.Fatal(err)
	}
	must(t, "clients", clients, own.String())

	bob.mount(p, "/data", "/mnt/four", "vers=4.2")
	for i, vers := range []string{"4.0", "4.1", "4.2"} {
		at := fmt.Sprint(10 * i)
		must(t, vers, alice.hold("a"+vers, "/mnt/v"+vers+"/f", "write", at, "10"), "granted")
	}
	rival := func(when string) {
		t.Helper()
		out := bob.probe("/mnt/four/f", "write", "0", "10", "write", "10", "10", "write", "20", "10")
		if strings.Count(out, "denied") != 3 || strings.Contains(out, "granted") {
			t.Fatalf("%s, bob over IPv4: %q", when, out)
		}
	}
	rival("before the reboot")
	serve.kill9()
	serve.boot()
	rival("in grace")
	until(t, 60*time.Second, "grace is over", func() bool { return serve.phase() == "serving" })
	rival("after grace")
	for i, vers := range []string{"4.0", "4.1", "4.2"} {
		must(t, vers+" writes under its lock", alice.ask("a"+vers, "put", fmt.Sprint(10*i), vers, "unlock", fmt.Sprint(10*i), "10"), "done")
	}
	if out := bob.probe("/mnt/four/f", "write", "0", "30"); !strings.Contains(out, "granted") {
		t.Errorf("bob, when all is given back: %q", out)
	}
	if n := count(serve.events(), 0, "lost", ""); n != 0 {
		t.Errorf("%d events say that something was lost", n)
	}
}
