"""counter.py FILE RECORD STOP: adds one to the number in FILE under an exclusive lock, again and again, until
STOP exists. RECORD then has how often; or what went wrong, and nothing is tried after that.

The number is written and synchronous before the lock is given back: two who hold the lock at once, a lock lost
in silence or a lost write each make the number smaller than the sum of the records."""
import fcntl, os, sys, time

file, record, stop = sys.argv[1:]


def note(text):
    with open(record + ".new", "w") as f:
        f.write(text + "\n")
    os.rename(record + ".new", record)


done, longest = 0, 0.0
fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
try:
    while not os.path.exists(stop):
        begun = time.monotonic()
        fcntl.lockf(fd, fcntl.LOCK_EX, 0, 0, 0)
        n = int(os.pread(fd, 20, 0) or b"0")
        os.pwrite(fd, b"%019d\n" % (n + 1), 0)
        os.fsync(fd)
        fcntl.lockf(fd, fcntl.LOCK_UN, 0, 0, 0)
        done += 1
        longest = max(longest, time.monotonic() - begun)
        note("running %d" % done)
    note("done %d longest %.1f" % (done, longest))
except OSError as e:
    note("failed after %d: %s" % (done, e))
