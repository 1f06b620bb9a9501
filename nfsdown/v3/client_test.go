package v3

import (
	"bytes"
	"io"
	"testing"

	"github.com/willscott/go-nfs-client/nfs"
	"github.com/willscott/go-nfs-client/nfs/rpc"
)

// A client that others wrote finds its way.
func TestWithAnotherClient(t *testing.T) {
	w := newWorld(t, nil)
	c, err := rpc.DialTCP("tcp", w.addr, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var m nfs.Mount
	m.Client = c
	auth := rpc.NewAuthUnix("test", 0, 0).Auth()
	target, err := m.Mount("/data", auth)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := target.FSInfo(); err != nil {
		t.Error(err)
	}
	if _, err := target.Mkdir("/dir", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := target.OpenFile("/dir/file", 0o644)
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("some text\n"), 30000)
	if _, err := io.Copy(f, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	g, err := target.Open("/dir/file")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(g); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(data), err)
	}
	if err := target.Symlink("/dir/file", "/link"); err != nil {
		t.Error(err)
	}
	if err := target.Rename("/dir/file", "/dir/other"); err != nil {
		t.Error(err)
	}
	list, err := target.ReadDirPlus("/dir")
	if err != nil || len(list) == 0 || list[len(list)-1].Name() != "other" {
		t.Errorf("%+v %v", list, err)
	}
	if err := target.RemoveAll("/dir"); err != nil {
		t.Error(err)
	}
	if _, _, err := target.Lookup("/dir"); err == nil {
		t.Error("/dir is still there")
	}
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
}
