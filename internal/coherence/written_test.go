package coherence_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/fs"
	"holdfast/fs/remote"
	"holdfast/internal/coherence"
	"holdfast/internal/stage"
)

// TestWhatWasWrittenIsReadFromTheCache: what an end client writes while serve has a write delegation of the file is
// read back, by it and by another, without a READ at the origin. Without a delegation the origin is asked.
func TestWhatWasWrittenIsReadFromTheCache(t *testing.T) {
	for _, delegate := range []string{"on", "off"} {
		t.Run("delegate "+delegate, func(t *testing.T) {
			binary := stage.Need(t)
			base := stage.Dir(t)
			data := filepath.Join(base, "data")
			must(t, os.MkdirAll(data, 0o755))
			addr, down := stage.Port(t), stage.Port(t)
			export := []string{"--export", "/data *(rw,no_root_squash,insecure)", "--rpcbind", "off"}
			stage.Start(t, binary, base, "origin", append([]string{"origin", data, "--listen", addr, "--retain", "always", "--delegate", delegate}, export...)...)
			serve := stage.Start(t, binary, base, "serve", append([]string{"serve", addr + ":/data", "--listen", down}, export...)...)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			client := func(name string) (*remote.Remote, fs.Handle) {
				c, err := remote.Mount(ctx, remote.Config{Name: name, Server: down, Path: "/data"})
				must(t, err)
				t.Cleanup(c.Abandon)
				root, err := c.Root(ctx)
				must(t, err)
				return c, root
			}
			content := coherence.Fill(make([]byte, 1<<20+776), 7)
			read := func(c *remote.Remote, root fs.Handle, owner string) {
				t.Helper()
				o := fs.Owner{Client: "end", Owner: owner}
				res, err := c.Open(ctx, fs.Root, &fs.OpenRequest{Owner: o, Access: fs.ShareRead, Dir: root, Name: "f"})
				must(t, err)
				got := make([]byte, len(content)+1)
				n, _, err := c.Read(ctx, fs.Root, fs.IORef{Handle: res.File, Open: o}, 0, got)
				must(t, err)
				if string(got[:n]) != string(content) {
					t.Errorf("%d bytes, or wrong ones", n)
				}
				must(t, c.CloseFile(ctx, o, res.File))
			}
			writer, root := client("writer")
			o := fs.Owner{Client: "end", Owner: "w"}
			res, err := writer.Open(ctx, fs.Root, &fs.OpenRequest{Owner: o, Access: fs.ShareBoth, Dir: root, Name: "f", Create: fs.Unchecked, Attr: fs.SetAttr{Size: new(uint64)}})
			must(t, err)
			for off := 0; off < len(content); off += 64 << 10 {
				_, err := writer.Write(ctx, fs.Root, fs.IORef{Handle: res.File, Open: o}, uint64(off), content[off:min(off+64<<10, len(content))], fs.Unstable)
				must(t, err)
			}
			_, err = writer.Commit(ctx, fs.Root, res.File, 0, 0)
			must(t, err)
			must(t, writer.CloseFile(ctx, o, res.File))
			before := upstream(t, serve)
			read(writer, root, "r")
			for i := range 5 { // some of them are at the origin another client than the writer
				c, root := client(fmt.Sprint("reader", i))
				read(c, root, "r")
			}
			after := upstream(t, serve)
			reads := after["READ"] + after["READ_PLUS"] - before["READ"] - before["READ_PLUS"]
			t.Logf("%d READs upstream", reads)
			if (reads == 0) != (delegate == "on") {
				t.Errorf("%d READs upstream", reads)
			}
		})
	}
}
