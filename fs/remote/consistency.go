package remote

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"holdfast/fs"
)

// Consistency says how old an answer may be that was not asked for at the origin. In each mode a change that
// was made through this mount is seen at once by all who use it; an open goes to the origin, whose answer
// tells what of the file is old; and a byte-range lock validates what is read under it (RFC 8881 10.3.2).
type Consistency string

// The modes. What is delegated to us cannot change, so no mode asks for it.
const (
	// Strict asks the origin for each open, lookup, getattr, access and listing: an answer is never older than
	// the request. Reads under an open are of the version that it, or anybody after it, found; that version is
	// compared with the origin's when it is older than acregmin, as without growing ages.
	Strict Consistency = "strict"
	// CloseToOpen is that of nfs(5), with its ages acregmin to acdirmax: the default.
	CloseToOpen Consistency = "close-to-open"
	// Relaxed lets attributes, names, listings and decisions be as old as Config.RelaxedAge, likewise the
	// version under which an open is read, and the data that is read without an open.
	Relaxed Consistency = "relaxed"
	// Immutable asks for nothing twice: for trees that are never changed. A change that an open or anything else
	// shows all the same is taken in.
	Immutable Consistency = "immutable"
)

// DefaultRelaxedAge is Config.RelaxedAge if it is not set.
const DefaultRelaxedAge = 10 * time.Minute

// Consistencies lists the modes.
func Consistencies() []string {
	return []string{string(Strict), string(CloseToOpen), string(Relaxed), string(Immutable)}
}

// setConsistency makes one setting of mode and times.
func (c *Config) setConsistency() error {
	if c.RelaxedAge <= 0 {
		c.RelaxedAge = DefaultRelaxedAge
	}
	switch c.Consistency {
	case "":
		c.Consistency = CloseToOpen
	case Strict:
		if c.Times.RegMax == 0 && c.Times.RegMin >= 0 {
			c.Times.RegMin = cmp.Or(c.Times.RegMin, 3*time.Second)
			c.Times.RegMax = c.Times.RegMin
		}
	case CloseToOpen, Immutable:
	case Relaxed:
		for _, d := range []*time.Duration{&c.Times.RegMin, &c.Times.RegMax, &c.Times.DirMin, &c.Times.DirMax} {
			if *d == 0 {
				*d = c.RelaxedAge
			}
		}
	default:
		return fmt.Errorf("remote: consistency %q is none of %v", c.Consistency, Consistencies())
	}
	return nil
}

// A view is what a request may be told from memory.
type view struct {
	now   time.Time
	begun uint64 // when the request began; 0: not known
}

func (r *Remote) view(ctx context.Context) view { return view{r.now(), fs.Begun(ctx)} }

// current tells whether a request may be answered from what is known of a file.
func (c *cache) current(n *node, v view) bool {
	if !c.readable(n, v.now) {
		return false
	}
	return c.mode != Strict || v.begun != 0 && n.asked > v.begun
}

// readable tells whether a read under an open may be.
func (c *cache) readable(n *node, now time.Time) bool {
	if n.attr == nil || n.fresh.IsZero() {
		return false
	}
	return c.mode == Immutable || now.Before(n.fresh)
}

// Doubt has everything that is known of the tree compared with the origin before it is used again, in each mode.
func (r *Remote) Doubt() error {
	r.cache.doubtAll()
	if l := r.cache.log; l != nil {
		return l.anew()
	}
	return nil
}

// changedHere tells those with caches of their own that a request has changed a file, or may have.
func (r *Remote) changedHere(ctx context.Context, h fs.Handle) {
	source := fs.SourceOf(ctx)
	r.tell(func(l fs.Listener) {
		if l, ok := l.(fs.ChangeListener); ok {
			l.ChangedHere(h, source)
		}
	})
}
