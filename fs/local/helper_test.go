//go:build linux

package local

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"holdfast/fs"
)

// contextFor is the context of cleanups, which outlive that of their test.
func contextFor() context.Context { return context.Background() }

func owner(n string) fs.Owner { return fs.Owner{Client: "c", Owner: n} }

func ptr[T any](v T) *T { return &v }

var rootCred = fs.Root

type (
	credential         = syscall.Credential
	syscallSysProcAttr = syscall.SysProcAttr
)

// unprivilegedProgram is TestUnprivileged's other half, in the current directory.
func unprivilegedProgram() {
	fail := func(err error) {
		fmt.Println(err)
		os.Exit(1)
	}
	if err := os.Mkdir("export", 0o755); err != nil {
		fail(err)
	}
	cfg := Config{Dir: "export", StateDir: "state", Logger: quiet()}
	if _, err := New(contextFor(), cfg); fs.CodeOf(err) != fs.Perm {
		fail(fmt.Errorf("without the setting: %v", err))
	}
	cfg.Unprivileged = true
	l, err := New(contextFor(), cfg)
	if err != nil {
		fail(err)
	}
	b := l.(*Backend)
	r, err := b.Open(contextFor(), &fs.Cred{UID: 1, GID: 1}, &fs.OpenRequest{Owner: owner("o"), Access: fs.ShareBoth, Dir: b.rootHandle, Name: "f", Create: fs.Guarded})
	if err != nil {
		fail(err)
	}
	if r.Attr.UID != 65534 || b.table == nil {
		fail(fmt.Errorf("owner %d, table %v", r.Attr.UID, b.table != nil))
	}
	if _, err := b.Write(contextFor(), fs.Root, fs.IORef{Handle: r.File, Open: owner("o")}, 0, []byte("x"), fs.FileSync); err != nil {
		fail(err)
	}
	if err := b.Close(contextFor()); err != nil {
		fail(err)
	}
	fmt.Println("good")
}

func yield() { runtime.Gosched() }

func uidOf(path string) (uint32, error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return st.Sys().(*syscall.Stat_t).Uid, nil
}
