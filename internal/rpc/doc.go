// Package rpc is ONC RPC version 2 (RFC 5531) over streams with record marking.
//
// A [Conn] is symmetrical, since the back channel of NFSv4.1 shares the connection of the fore channel
// (RFC 8881 section 2.10.3.1): either side makes calls with [Conn.Call] and serves them with a [Handler].
//
// Goroutines of a connection: one reads records and hands calls to workers and replies to their
// callers; one writes, with as few system calls as there is output waiting; and a worker per call that
// is being served, some of which stay for the next. Memory is bounded by [Options]: no more calls are
// read while too many, or too large ones, are being served or their replies wait to be written.
//
// Records, and whatever was decoded from them without a copy, live in pooled buffers: until the
// decode function of a Call returns, and until both ServeRPC has returned and the reply is written.
package rpc
