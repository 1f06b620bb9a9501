package rpc

import (
	"net"
	"runtime"
	"sync"
	"time"

	"holdfast/internal/xdr"
)

const (
	// keepEncoder is the size up to which a message keeps its buffer for the next one.
	keepEncoder = 64 << 10

	// batchBytes and batchMsgs bound what one write takes, so that WriteTimeout means progress.
	batchBytes = 1 << 20
	batchMsgs  = 256
)

// An outMsg is a message to be written: a reply, or a call of ours.
type outMsg struct {
	enc  xdr.Codec
	size int
	call *InCall      // of a reply
	out  *pendingCall // of a call

	taken   bool          // by the writer; guarded by Conn.mu
	written chan struct{} // closed when the writer has let go of it; made by who waits; guarded by Conn.mu
}

var msgPool = sync.Pool{New: func() any { return new(outMsg) }}

func getMsg() *outMsg { return msgPool.Get().(*outMsg) }

// drop ends the life of a message, written or not.
func (m *outMsg) drop() {
	if ic := m.call; ic != nil {
		ic.release()
		ic.end(m.size)
	}
	m.enc.Reuse(keepEncoder)
	m.size, m.call, m.out, m.taken, m.written = 0, nil, nil, false, nil
	msgPool.Put(m)
}

// enqueue gives a message to the writer, or drops it if the connection is dead. held is its share of
// the memory bound. It returns what ended the connection.
func (c *Conn) enqueue(m *outMsg, held int) error {
	c.mu.Lock()
	c.held += held
	if err := c.err; err != nil {
		c.mu.Unlock()
		m.drop()
		return err
	}
	c.out = append(c.out, m)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// take moves messages from the queue to batch.
func (c *Conn) take(batch []*outMsg) []*outMsg {
	c.mu.Lock()
	defer c.mu.Unlock()
	bytes := 0
	for c.outHead < len(c.out) && len(batch) < batchMsgs && bytes < batchBytes {
		m := c.out[c.outHead]
		c.out[c.outHead] = nil
		c.outHead++
		m.taken = true
		bytes += m.enc.Len()
		batch = append(batch, m)
	}
	if c.outHead == len(c.out) {
		c.out, c.outHead = c.out[:0], 0
	}
	c.writing = len(batch) > 0
	if !c.writing {
		c.cond.Broadcast() // Shutdown waits for this
	}
	return batch
}

// writeLoop writes until the connection dies.
func (c *Conn) writeLoop() {
	var (
		batch   []*outMsg
		vec     [][]byte
		setAt   time.Time
		timeout = c.opts.WriteTimeout
	)
	for {
		batch = c.take(batch[:0])
		if len(batch) == 0 {
			select {
			case <-c.wake:
				// Whoever else is about to send goes first: one system call then carries all,
				// which doubles the calls per second of many callers, and costs a single one nothing.
				runtime.Gosched()
				continue
			case <-c.done:
				return
			}
		}
		vec = vec[:0]
		for _, m := range batch {
			vec = m.enc.Buffers(vec)
		}
		var err error
		// A deadline is moved only when it has lost a quarter of its length.
		if now := time.Now(); timeout > 0 && now.Sub(setAt) > timeout/4 {
			setAt = now
			err = c.nc.SetWriteDeadline(now.Add(timeout))
		}
		if err == nil {
			bufs := net.Buffers(vec)
			_, err = bufs.WriteTo(c.nc)
		}
		clear(vec)
		if err != nil {
			c.fail(err)
		}
		c.letGo(batch)
		clear(batch)
		if err != nil {
			return
		}
	}
}

// letGo ends messages that are no longer in the queue.
func (c *Conn) letGo(batch []*outMsg) {
	c.mu.Lock()
	for _, m := range batch {
		if m.out != nil {
			m.out.msg = nil
		}
		if m.written != nil {
			close(m.written)
		}
	}
	c.mu.Unlock()
	for _, m := range batch {
		m.drop()
	}
}
