package main

import (
	"testing"

	"holdfast/internal/config"
)

// Without being told to, serve passes on what an origin has delegated to it, and an origin delegates nothing: it cannot
// see all that programs of its host do.
func TestWhoDelegates(t *testing.T) {
	for _, c := range []struct {
		role, value string
		want        bool
	}{
		{"serve", "", true}, {"serve", "covered", true}, {"serve", "auto", true}, {"serve", "on", true}, {"serve", "off", false},
		{"origin", "", false}, {"origin", "covered", false}, {"origin", "auto", true}, {"origin", "on", true}, {"origin", "off", false},
	} {
		cfg := config.Default()
		if c.value != "" {
			if err := cfg.Delegate.Set(c.value); err != nil {
				t.Fatal(err)
			}
		}
		if got := (&instance{role: c.role, cfg: cfg}).delegates(); got != c.want {
			t.Errorf("%s --delegate=%q: %v", c.role, c.value, got)
		}
	}
}
