// Package judge decides whether what clients saw of byte-range locks and share reservations can have
// happened at one honest server. It hands each history to porcupine, whose model here is that of DESIGN's I1:
// two owners never hold conflicting locks, whatever crashed.
//
// A history is a list of [Op]. Its objects, called cells, are independent: a small range of bytes of a file
// ("f0/3"), of which locks cover some, or a file's share reservations ("s1"). A lock of several cells is
// an operation on each.
//
// What a crash leaves unknown is said in the history, not guessed here:
//
//   - An operation without an answer is Maybe: it may have been done, once, between Call and Return. A
//     client that came back under a new verifier bounds it: by then the server had let go of everything.
//   - A [Loss] is a hold that ended at an unknown time between Call, when the grant that it ends was asked
//     for, and Return, when the client was told. A lock that is lost and whose holder is never told has
//     no Loss, and so the grant of another owner cannot be explained: that is I2, never neither.
//   - A [Write] needs its owner to hold the cell exclusively at the moment it takes effect, and a [Read] gives
//     what the last Write put there. The values are fencing numbers: each is one more than the value that
//     its writer read before. So a write of somebody who had lost the lock cannot hide.
//
// [Story] writes a history as text, one operation a line, and [Parse] reads it: a failing one, shrunk by
// [Shrink], goes into testdata and is judged by `go test` for ever.
package judge
