package config

import "testing"

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1KiB": 1024, "200GiB": 200 << 30, "1.5MB": 1_500_000, "7B": 7, "2 TiB": 2 << 40} {
		var z Size
		if err := z.Set(text); err != nil || int64(z) != want {
			t.Errorf("%s: %d, %v", text, z, err)
		}
		var again Size
		if err := again.Set(z.String()); err != nil || again != z {
			t.Errorf("%s is written as %s, which is %d", text, z.String(), again)
		}
	}
	for _, text := range []string{"", "5", "GiB", "-1GiB", "1giB", "1e30PB", "NaNB", "1 2GiB"} {
		if err := new(Size).Set(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	var f Floor
	for text, want := range map[string]Floor{"10%": {Percent: 10}, "5GiB": {Bytes: 5 << 30}, "0": {}, "0%": {}} {
		if err := f.Set(text); err != nil || f != want {
			t.Errorf("%s: %+v, %v", text, f, err)
		}
	}
	for _, text := range []string{"100%", "-1%", "%", "x"} {
		if f.Set(text) == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
