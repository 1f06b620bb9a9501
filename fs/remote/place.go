package remote

import (
	"strings"

	"holdfast/fs"
)

// A place is where a file was seen last.
type place struct {
	dir  fs.Handle
	name string
}

// maxPlaces bounds what is remembered; it is only for people.
const maxPlaces = 100_000

// sawPlace remembers where a file is.
func (r *Remote) sawPlace(dir fs.Handle, name string, h fs.Handle) {
	d := r.data
	if d == nil || h == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.places) >= maxPlaces {
		for k := range d.places { // any half of them
			if delete(d.places, k); len(d.places) < maxPlaces/2 {
				break
			}
		}
	}
	d.places[h] = place{dir, name}
}

// namer tells where a file was seen, from the mount's root, as far as that is known.
func (r *Remote) namer(h fs.Handle) func() string {
	return func() string {
		d := r.data
		d.mu.Lock()
		defer d.mu.Unlock()
		var names []string
		for range 64 {
			p, ok := d.places[h]
			if h == r.root() || !ok {
				break
			}
			names = append(names, p.name)
			h = p.dir
		}
		if len(names) == 0 {
			return ""
		}
		var b strings.Builder
		if h != r.root() {
			b.WriteString("...")
		}
		for i := len(names) - 1; i >= 0; i-- {
			b.WriteString("/" + names[i])
		}
		return b.String()
	}
}
