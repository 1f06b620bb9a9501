package remote

import (
	"context"
	"testing"

	"holdfast/fs"
	"holdfast/internal/nfs4"
)

func benchRig(b *testing.B) (*Remote, fs.Handle) {
	f := newFake()
	f.add(f.root, "f", nfs4.NF4REG)
	cfg := Config{Name: "n", Server: "s", Reexport: true}
	if err := cfg.setDefaults(); err != nil {
		b.Fatal(err)
	}
	r, err := newRemote(context.Background(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	if err := r.attach(context.Background(), f); err != nil {
		b.Fatal(err)
	}
	h, _, err := r.Lookup(context.Background(), alice, r.root(), "f")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	return r, h
}

func BenchmarkGetAttrHit(b *testing.B) {
	r, h := benchRig(b)
	for b.Loop() {
		_, _ = r.GetAttr(context.Background(), alice, h)
	}
}

func BenchmarkLookupHit(b *testing.B) {
	r, _ := benchRig(b)
	for b.Loop() {
		_, _, _ = r.Lookup(context.Background(), alice, r.root(), "f")
	}
}

func BenchmarkAccessHit(b *testing.B) {
	r, h := benchRig(b)
	for b.Loop() {
		_, _ = r.Access(context.Background(), alice, h, fs.AccessRead)
	}
}

func BenchmarkUpOwner(b *testing.B) {
	s := secret{1}
	o := fs.Owner{Client: "Linux NFSv4.2 client.example.org/10.0.0.1", Owner: "open id:\x00\x00\x00\x01"}
	for b.Loop() {
		s.upOwner(openOwner, o)
	}
}
