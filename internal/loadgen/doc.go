// Package loadgen makes load and measures what becomes of it.
//
// A [Client] is a small NFSv4.1 client with nothing but what a measurement needs: a session (RFC 8881
// section 2.10) whose slots are handed out as [Lane]s, each of which has one request outstanding. So
// the depth of a workload is its number of lanes, and no lane waits for another at our side.
//
// A [Workload] is one thing to measure, once against an NFS server ([Workload.NFS]) and once with
// plain system calls in a directory ([Workload.Local]), which may be a mount. Both count whole rounds,
// such as one LOCK and one LOCKU, that end within the measured time.
//
// What the machine itself can do is measured by [Limits].
package loadgen
