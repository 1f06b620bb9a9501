package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// What nfs-ganesha is told: NFSv4, without delegations, as holdfast serves.
const ganeshaConfig = `NFS_CORE_PARAM {
	NFS_Port = %[1]d; MNT_Port = 0; NLM_Port = 0; Rquota_Port = 0;
	Bind_addr = 127.0.0.1;
	Protocols = 4;
	Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
	DRC_Disabled = false;
	Dbus_Name_Prefix = %[2]s%[3]d;
	mount_path_pseudo = true;
}
NFS_KRB5 { Active_krb5 = false; }
NFSV4 {
	Lease_Lifetime = 90; Grace_Period = 90;
	Minor_Versions = 1, 2;
	Delegations = false;
	Only_Numeric_Owners = true; Allow_Numeric_Owners = true;
	RecoveryBackend = fs;
	RecoveryRoot = %[4]s/recovery;
}
EXPORT_DEFAULTS { Access_Type = RW; Squash = no_root_squash; SecType = sys, none; Protocols = 4; Transports = TCP; }
LOG { Default_Log_Level = EVENT; }
`

// ganesha starts nfs-ganesha over a directory of its own. An error says why it cannot be measured.
func (f *fleet) ganesha() (*target, error) {
	t, err := f.startGanesha("ganesha", fmt.Sprintf(`EXPORT {
	Export_Id = 1; Path = %s; Pseudo = /export;
	Filesystem_Id = 101.1; PrivilegedPort = false;
	FSAL { Name = VFS; }
}
`, filepath.Join(f.s.dir, "ganesha", "data")))
	if err != nil {
		return nil, err
	}
	t.path = "/export"
	return t, nil
}

// startGanesha starts one with an export, in a directory of that name.
func (f *fleet) startGanesha(name, export string) (*target, error) {
	binary, err := exec.LookPath("ganesha.nfsd")
	if err != nil {
		return nil, errors.New("not measured: not installed (Debian: nfs-ganesha, nfs-ganesha-vfs, rpcbind)")
	}
	if err := f.rpcbind(); err != nil {
		return nil, err
	}
	dir := filepath.Join(f.s.dir, name)
	for _, d := range []string{filepath.Join(dir, "recovery"), filepath.Join(dir, "data"), "/var/lib/nfs/ganesha", "/var/run/ganesha"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, ganeshaConfig+"%[5]s", port, name, os.Getpid(), dir, export), 0o600); err != nil {
		return nil, err
	}
	d, err := f.launch(name, exec.Command(binary, "-F", "-f", conf, "-L", filepath.Join(f.s.dir, name+".ganesha.log"), "-p", filepath.Join(dir, "pid")))
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	if err := listening(d, "tcp", addr); err != nil {
		return nil, err
	}
	return &target{name: name, addr: addr, daemons: []*daemon{d}}, nil
}

// proxy starts nfs-ganesha's PROXY_V4 in front of the origin. An error says why it cannot be measured.
func (f *fleet) proxy(origin string, work *daemon) (*target, error) {
	if m, _ := filepath.Glob("/usr/lib/*/ganesha/libfsalproxy_v4.so"); len(m) == 0 {
		return nil, errors.New("not measured: not installed (Debian: nfs-ganesha-proxy-v4)")
	}
	host, port, err := net.SplitHostPort(origin)
	if err != nil {
		return nil, err
	}
	t, err := f.startGanesha("proxy", fmt.Sprintf(`EXPORT {
	Export_Id = 2; Path = /data; Pseudo = /data;
	Filesystem_Id = 102.2; PrivilegedPort = false;
	FSAL { Name = PROXY_V4; Srv_Addr = %s; NFS_Port = %s; Use_Privileged_Client_Port = false; Retry_SleepTime = 1; RPC_Client_Timeout = 10; }
}
`, host, port))
	if err != nil {
		return nil, err
	}
	t.path, t.daemons = "/data", append(t.daemons, work)
	return t, nil
}

// rpcbind starts rpcbind, without which nfs-ganesha does not, unless it runs.
func (f *fleet) rpcbind() error {
	if c, err := net.Dial("tcp", "127.0.0.1:111"); err == nil {
		return c.Close()
	}
	d, err := f.launch("rpcbind", exec.Command("rpcbind", "-f"))
	if err != nil {
		return fmt.Errorf("not measured: it needs rpcbind: %w", err)
	}
	return listening(d, "tcp", "127.0.0.1:111")
}

// listening waits until somebody listens at addr.
func listening(d *daemon, network, addr string) error {
	for range 200 {
		if c, err := net.Dial(network, addr); err == nil {
			return c.Close()
		}
		select {
		case <-d.exited:
			return fmt.Errorf("%s ended: %v\n%s", d.name, d.cmd.ProcessState, d.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s does not listen at %s\n%s", d.name, addr, d.tail())
}
