package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// ganeshaConfig is NFSv4 of a directory.
const ganeshaConfig = `NFS_CORE_PARAM {
	NFS_Port = %[1]d; MNT_Port = 0; NLM_Port = 0; Rquota_Port = 0;
	Bind_addr = 127.0.0.1;
	Protocols = 4;
	Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
	Dbus_Name_Prefix = e2e%[1]d;
	mount_path_pseudo = true;
}
NFS_KRB5 { Active_krb5 = false; }
NFSV4 {
	Lease_Lifetime = %[2]d; Grace_Period = %[2]d; Graceless = %[4]t;
	Minor_Versions = 1, 2;
	Delegations = false;
	Only_Numeric_Owners = true; Allow_Numeric_Owners = true;
	RecoveryBackend = fs;
	RecoveryRoot = %[3]s/recovery;
}
EXPORT_DEFAULTS { Access_Type = RW; Squash = no_root_squash; SecType = sys, none; Protocols = 4; Transports = TCP; }
EXPORT {
	Export_Id = 1; Path = %[3]s/data; Pseudo = /export;
	Filesystem_Id = 101.1; PrivilegedPort = false;
	FSAL { Name = VFS; }
}
LOG { Default_Log_Level = EVENT; }
`

// ganesha starts nfs-ganesha on the host, over a directory of its own: an origin that was never changed. The
// rival is a program on the host: FSAL_VFS has its locks in the kernel. graceless: it starts without a grace period,
// and so nothing can be reclaimed after a restart of it.
func ganesha(t *testing.T, lease int, graceless bool) outside {
	t.Helper()
	binary, err := exec.LookPath("ganesha.nfsd")
	if err != nil {
		t.Fatalf("%v: run scripts/setup", err)
	}
	ownPortmapper(t)
	if c, err := net.Dial("tcp", "127.0.0.1:111"); err == nil {
		c.Close()
	} else {
		launch(t, "127.0.0.1:111", exec.Command("rpcbind", "-f")) // without it ganesha does not start
	}
	dir := scratch(t, "ganesha")
	for _, d := range []string{filepath.Join(dir, "recovery"), filepath.Join(dir, "data"), "/var/lib/nfs/ganesha", "/var/run/ganesha"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	conf, p := filepath.Join(dir, "conf"), port(t)
	if err := os.WriteFile(conf, fmt.Appendf(nil, ganeshaConfig, p, lease, dir, graceless), 0o600); err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", p)
	boot := func() func() {
		return launch(t, address, exec.Command(binary, "-F", "-f", conf, "-L", filepath.Join(dir, "log"), "-p", filepath.Join(dir, "pid")))
	}
	kill := boot()
	return outside{address + ":/export", filepath.Join(dir, "data"), func(script string) string {
		t.Helper()
		cmd := exec.Command("sh", "-c", script)
		cmd.Env = append(os.Environ(), "PATH="+filepath.Join(repo, "scripts/vm/bin")+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return string(out)
	}, func() {
		t.Helper()
		kill()
		kill = boot()
	}}
}

// launch starts a daemon that is none of ours, and waits until it listens. The result is kill -9.
func launch(t *testing.T, address string, cmd *exec.Cmd) (kill func()) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-exited
		}
	})
	until(t, 30*time.Second, cmd.Path+" listens", func() bool {
		select {
		case <-exited:
			t.Fatalf("%s ended: %v", cmd.Path, cmd.ProcessState)
		default:
		}
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return func() {
		_ = cmd.Process.Kill()
		<-exited
	}
}
