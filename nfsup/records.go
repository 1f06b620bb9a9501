package nfsup

// What is held is told to Journal.StateChanged as it changes, so that another process can resume. The
// tables only note which entries are dirty; one goroutine tells what they are by then, so the newest
// always comes last, and what came and went in between costs nothing.

// A records is guarded by stateTable.mu.
type records struct {
	on    bool
	opens map[openKey]struct{}
	locks map[lockKey]struct{}
	ask   chan struct{} // of one
}

func (r *records) init(on bool) {
	r.on = on
	r.opens = make(map[openKey]struct{})
	r.locks = make(map[lockKey]struct{})
	r.ask = make(chan struct{}, 1)
}

// touch notes that an open changed.
//
// +checklocks:t.mu
func (t *stateTable) touch(k openKey) {
	if t.records.on {
		t.records.opens[k] = struct{}{}
		t.records.wake()
	}
}

// touchLock notes that a lock-owner's locks changed.
//
// +checklocks:t.mu
func (t *stateTable) touchLock(k lockKey) {
	if t.records.on {
		t.records.locks[k] = struct{}{}
		t.records.wake()
	}
}

func (r *records) wake() {
	select {
	case r.ask <- struct{}{}:
	default:
	}
}

// keepRecords tells changes until the client ends.
func (c *Client) keepRecords() {
	for {
		select {
		case <-c.state.records.ask:
			c.tellState()
		case <-c.ctx.Done():
			return
		}
	}
}

// perChange bounds a StateChange.
const perChange = 256

// tellState tells all that is dirty, opens before the locks under them.
func (c *Client) tellState() {
	f := c.cfg.Journal.StateChanged
	if f == nil {
		return
	}
	c.tellTurn.Lock()
	defer c.tellTurn.Unlock()
	for {
		ch, more := c.state.takeDirty()
		if len(ch.Opens)+len(ch.Locks)+len(ch.GoneOpens)+len(ch.GoneLocks) > 0 {
			f(ch)
		}
		if !more {
			return
		}
	}
}

func (t *stateTable) takeDirty() (ch StateChange, more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &t.records
	n := 0
	for k := range r.opens {
		if n++; n > perChange {
			return ch, true
		}
		delete(r.opens, k)
		if o := t.opens[k]; o != nil {
			ch.Opens = append(ch.Opens, o.state())
		} else {
			ch.GoneOpens = append(ch.GoneOpens, StateKey{k.owner, k.fh})
		}
	}
	for k := range r.locks {
		if n++; n > perChange {
			return ch, true
		}
		delete(r.locks, k)
		if l := t.locks[k]; l != nil && l.has && len(l.all()) > 0 {
			ch.Locks = append(ch.Locks, l.state())
		} else {
			ch.GoneLocks = append(ch.GoneLocks, StateKey{k.owner, k.fh})
		}
	}
	return ch, false
}

// +checklocks:t.mu
func (o *openState) state() OpenState {
	s := OpenState{Owner: o.key.owner, FH: o.key.fh, Stateid: o.stateid, Modes: uint16(o.modes), Cred: o.cred}
	s.Access, s.Deny = o.modes.wire()
	return s
}

// +checklocks:t.mu
func (l *lockState) state() LockState {
	return LockState{
		OpenOwner: l.open.key.owner, LockOwner: l.key.owner, FH: l.key.fh,
		Ranges: l.all(), Stateid: l.stateid, Cred: l.cred,
	}
}
