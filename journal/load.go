package journal

import (
	"fmt"

	"holdfast/fs"
)

// Load returns what is held, as of now. Void records are left out:
//   - clients, opens and locks of an epoch before the last EndGrace;
//   - opens and locks of a client from an epoch before its CompleteEpoch;
//   - opens and locks of a client that is Expired.
func (j *Journal) Load() (*Snapshot, error) {
	s := &Snapshot{Epoch: j.epoch}
	err := j.store.view(s.read)
	if err != nil {
		return nil, fmt.Errorf("journal %s: load: %w", j.dir, err)
	}
	s.Whole, s.Partial = j.partial == "", j.partial
	if j.disk == nil { // nothing was written down about what was found
		s.Complete = j.complete
		s.Whole, s.Partial = false, "opened for reading only"
	}
	return s, nil
}

// read takes what is in force.
func (s *Snapshot) read(v view) error {
	rules, err := loadRules(v)
	if err != nil {
		return err
	}
	s.EndedGrace = rules.endedGrace
	s.Complete = rules.known && rules.incompleteSince == 0
	return scanRecords(v, func(key, value []byte, r any) (bool, error) {
		if rules.void(r) {
			return true, nil
		}
		switch r := r.(type) {
		case *Client:
			s.Clients = append(s.Clients, *r)
		case *OpenRecord:
			s.Opens = append(s.Opens, *r)
		case *Lock:
			s.Locks = append(s.Locks, *r)
		case *Upstream:
			s.Upstreams = append(s.Upstreams, *r)
		case *UpState:
			s.UpStates = append(s.UpStates, *r)
		case *Monitor:
			s.Monitors = append(s.Monitors, *r)
		}
		return true, nil
	})
}

// An UpstreamSnapshot is what is known of one origin, and a little of the rest.
type UpstreamSnapshot struct {
	Upstream *Upstream // nil if there is none
	States   []UpState // at this origin
	Complete bool      // as in Snapshot
	Held     bool      // an open or lock of an end client is in force, at whichever origin
}

// LoadUpstream is the part of Load that is about one origin. What end clients hold, which is most of a journal, is
// not read.
func (j *Journal) LoadUpstream(name string) (*UpstreamSnapshot, error) {
	s := &UpstreamSnapshot{}
	err := j.store.view(func(v view) error { return s.read(v, name) })
	if err != nil {
		return nil, fmt.Errorf("journal %s: load: %w", j.dir, err)
	}
	if j.disk == nil {
		s.Complete = j.complete
	}
	return s, nil
}

func (s *UpstreamSnapshot) read(v view, name string) error {
	rules, err := loadRules(v)
	if err != nil {
		return err
	}
	s.Complete = rules.known && rules.incompleteSince == 0
	// A name may begin as another one does.
	_, err = scanSome(v, append([]byte{kindUpstream}, name...), func(_, _ []byte, r any) (bool, error) {
		if u := r.(*Upstream); u.Name == name {
			s.Upstream = u
		}
		return s.Upstream == nil, nil
	})
	if err != nil {
		return err
	}
	_, err = scanSome(v, appendWord([]byte{kindUpState}, name), func(_, _ []byte, r any) (bool, error) {
		s.States = append(s.States, *r.(*UpState))
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, kind := range []byte{kindOpen, kindLock} {
		_, err = scanSome(v, []byte{kind}, func(_, _ []byte, r any) (bool, error) {
			s.Held = !rules.void(r)
			return !s.Held, nil
		})
		if err != nil || s.Held {
			return err
		}
	}
	return nil
}

// Monitors is the part of Load that is about hosts to notify.
func (j *Journal) Monitors() (list []Monitor, err error) {
	err = j.store.view(func(v view) error {
		_, err := scanSome(v, []byte{kindMonitor}, func(_, _ []byte, r any) (bool, error) {
			list = append(list, *r.(*Monitor))
			return true, nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("journal %s: load: %w", j.dir, err)
	}
	return list, nil
}

// Handle looks up a HandleMap; false if there is none.
func (j *Journal) Handle(digest [16]byte) (h HandleMap, ok bool, err error) {
	key := handleKey(&digest)
	err = j.store.view(func(v view) error {
		value, err := v.get(key)
		if err != nil || value == nil {
			return err
		}
		body, _, err := unseal(key, value)
		if err != nil {
			return err
		}
		r, err := decodeHandle(key, body)
		if err == nil {
			h, ok = *r, true
		}
		return err
	})
	if err != nil {
		return HandleMap{}, false, fmt.Errorf("journal %s: handle: %w", j.dir, err)
	}
	return h, ok, nil
}

// rules decide which records are void.
type rules struct {
	head
	known   bool // there is a head
	clients map[string]clientRule
}

type clientRule struct {
	complete uint32
	expired  bool
}

// loadRules reads the head and all clients.
func loadRules(v view) (*rules, error) {
	r := &rules{clients: make(map[string]clientRule)}
	value, err := v.get(headKey)
	if err != nil {
		return nil, err
	}
	if value != nil {
		body, _, err := unseal(headKey, value)
		if err != nil {
			return nil, err
		}
		h, err := decodeHead(headKey, body)
		if err != nil {
			return nil, err
		}
		r.head, r.known = *h, true
	}
	err = v.scan([]byte{kindClient}, nil, func(key, value []byte) (bool, error) {
		body, _, err := unseal(key, value)
		if err != nil {
			return false, err
		}
		c, err := decodeClient(key, body)
		if err != nil {
			return false, err
		}
		r.clients[c.Owner] = clientRule{complete: c.CompleteEpoch, expired: c.Expired}
		return true, nil
	})
	return r, err
}

// void tells whether a record is no longer in force.
func (r *rules) void(record any) bool {
	switch x := record.(type) {
	case *Client:
		return x.Epoch < r.endedGrace
	case *OpenRecord:
		return r.voidState(x.Owner, x.Epoch)
	case *Lock:
		return r.voidState(x.Owner, x.Epoch)
	}
	return false
}

func (r *rules) voidState(o fs.Owner, epoch uint32) bool {
	c := r.clients[o.Client]
	return epoch < r.endedGrace || epoch < c.complete || c.expired
}

// scanRecords decodes all records but the head, handles and events, in the order of their keys.
func scanRecords(v view, f func(key, value []byte, r any) (bool, error)) error {
	for _, kind := range []byte{kindClient, kindOpen, kindLock, kindUpstream, kindUpState, kindMonitor} {
		if more, err := scanSome(v, []byte{kind}, f); err != nil || !more {
			return err
		}
	}
	return nil
}

// scanSome decodes the records whose keys begin with prefix, until f returns false, which it tells.
func scanSome(v view, prefix []byte, f func(key, value []byte, r any) (bool, error)) (more bool, err error) {
	more = true
	err = v.scan(prefix, nil, func(key, value []byte) (bool, error) {
		body, _, err := unseal(key, value)
		if err != nil {
			return false, err
		}
		r, err := decodeRecord(key, body)
		if err != nil {
			return false, err
		}
		more, err = f(key, value, r)
		return more, err
	})
	return more, err
}
