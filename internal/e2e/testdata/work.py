#!/usr/bin/env python3
"""work.py DIR [NAME...]: real work on a mount; each function is one kind, prints `ok NAME`, and
fails loudly. It knows nothing of NFS: the same work must go well on any POSIX file system."""
import ctypes, errno, hashlib, mmap, os, random, sqlite3, subprocess, sys, threading

D = sys.argv[1].encode()
libc = ctypes.CDLL(None, use_errno=True)


def p(*names):
    return os.path.join(D, *[n if isinstance(n, bytes) else n.encode() for n in names])


def put(path, data):
    with open(path, "wb") as f:
        f.write(data)


def get(path):
    with open(path, "rb") as f:
        return f.read()


def fails(code, f, *a):
    try:
        f(*a)
    except OSError as e:
        assert e.errno == code, f"{errno.errorcode[e.errno]}, not {errno.errorcode[code]}"
        return
    raise AssertionError(f"did not fail with {errno.errorcode[code]}")


def names():
    """latin-1, spaces, newlines, 255 bytes: names are bytes."""
    os.mkdir(p("names"))
    all_ = [b"caf\xe9", "café".encode(), b"a b", b"new\nline", b"\x01", b"x" * 255, b"-rf", b"*", b"..."]
    for n in all_:
        put(p("names", n), n)
    assert sorted(os.listdir(p("names"))) == sorted(all_)
    for n in all_:
        assert get(p("names", n)) == n
    fails(errno.ENAMETOOLONG, put, p("names", b"y" * 256), b"")
    for n in all_:
        os.unlink(p("names", n))
    os.rmdir(p("names"))


def attributes():
    f = p("attributes")
    put(f, b"x" * 1000)
    os.chmod(f, 0o640)
    os.utime(f, ns=(1_000_000_000_123_456_789, 1_100_000_000_987_654_321))
    st = os.stat(f)
    assert st.st_mode & 0o7777 == 0o640 and st.st_size == 1000
    assert st.st_mtime_ns == 1_100_000_000_987_654_321, st.st_mtime_ns
    os.truncate(f, 10)
    assert os.stat(f).st_size == 10
    os.truncate(f, 100)
    assert get(f) == b"x" * 10 + b"\0" * 90
    if os.geteuid() == 0:
        os.chown(f, 1234, 5678)
        st = os.stat(f)
        assert (st.st_uid, st.st_gid) == (1234, 5678)
    os.unlink(f)


def links():
    put(p("l1"), b"data")
    os.link(p("l1"), p("l2"))
    assert os.stat(p("l1")).st_nlink == 2
    os.symlink("l1", p("l3"))
    assert os.readlink(p("l3")) == b"l1" and get(p("l3")) == b"data"
    fails(errno.EEXIST, os.link, p("l1"), p("l2"))
    os.mkfifo(p("l4"))
    os.unlink(p("l1"))
    assert get(p("l2")) == b"data"
    for n in ("l2", "l3", "l4"):
        os.unlink(p(n))


def rename_open():
    """a file that is renamed, replaced or removed while it is open goes on living."""
    put(p("ro1"), b"one")
    put(p("ro2"), b"two")
    f = open(p("ro2"), "r+b")
    os.rename(p("ro1"), p("ro2"))
    assert get(p("ro2")) == b"one"
    assert f.read() == b"two"
    f.seek(0)
    f.write(b"TWO")
    f.flush()
    f.seek(0)
    assert f.read() == b"TWO"
    f.close()
    f = open(p("ro2"), "r+b")
    os.unlink(p("ro2"))
    f.seek(0, 2)
    f.write(b"more")
    f.flush()
    f.seek(0)
    assert f.read() == b"onemore"
    f.close()
    assert not os.path.exists(p("ro2"))
    os.mkdir(p("rd1"))
    os.mkdir(p("rd2"))
    put(p("rd2", "x"), b"")
    fails(errno.ENOTEMPTY, os.rename, p("rd1"), p("rd2"))
    fails(errno.ENOTEMPTY, os.rmdir, p("rd2"))
    os.rename(p("rd2"), p("rd1"))
    os.unlink(p("rd1", "x"))
    os.rmdir(p("rd1"))


def append():
    """eight writers in one process, with one descriptor each: nothing is lost within a client."""
    f = p("append")
    put(f, b"")
    line = b"%04d" + b"." * 59 + b"\n"

    def writer(n):
        fd = os.open(f, os.O_WRONLY | os.O_APPEND)
        for _ in range(20):
            os.write(fd, line % n)
        os.close(fd)
    threads = [threading.Thread(target=writer, args=(n,)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    rows = get(f).splitlines()
    assert len(rows) == 160, len(rows)
    for n in range(8):
        assert sum(r.startswith(b"%04d" % n) for r in rows) == 20
    os.unlink(f)


def sparse():
    """over 4 GiB, with holes that stay holes and are found."""
    f = p("sparse")
    fd = os.open(f, os.O_RDWR | os.O_CREAT, 0o644)
    far = 5 << 30
    os.pwrite(fd, b"far", far)
    os.pwrite(fd, b"near", 0)
    os.fsync(fd)
    assert os.fstat(fd).st_size == far + 3
    assert os.pread(fd, 10, 1 << 32) == b"\0" * 10
    assert os.pread(fd, 10, far) == b"far"
    assert os.fstat(fd).st_blocks * 512 < 1 << 20, "the hole was filled"
    try:
        hole = os.lseek(fd, 0, os.SEEK_HOLE)
        data = os.lseek(fd, 1 << 20, os.SEEK_DATA)
        # a file system without knowledge of holes says that all is data
        assert (0 < hole <= 1 << 20 and (1 << 20) < data <= far) or hole == far + 3, (hole, data)
    except OSError as e:
        assert e.errno in (errno.EOPNOTSUPP, errno.EINVAL), e
    os.close(fd)
    os.unlink(f)


def fallocate():
    f = p("fallocate")
    fd = os.open(f, os.O_RDWR | os.O_CREAT, 0o644)
    call = lambda mode, off, n: libc.fallocate64(fd, mode, ctypes.c_int64(off), ctypes.c_int64(n))
    if call(0, 0, 1 << 20):
        assert ctypes.get_errno() == errno.EOPNOTSUPP, ctypes.get_errno()
        os.close(fd)
        os.unlink(f)
        return "not supported here"
    assert os.fstat(fd).st_size == 1 << 20
    os.pwrite(fd, b"x" * 65536, 0)
    assert call(3, 0, 32768) == 0, os.strerror(ctypes.get_errno())  # punch, keep size
    assert os.pread(fd, 65536, 0) == b"\0" * 32768 + b"x" * 32768
    os.close(fd)
    os.unlink(f)


def xattrs():
    f = p("xattrs")
    put(f, b"")
    try:
        os.setxattr(f, b"user.colour", b"r\xe9d")
    except OSError as e:
        assert e.errno == errno.EOPNOTSUPP, e
        os.unlink(f)
        return "not supported here"
    assert os.getxattr(f, b"user.colour") == b"r\xe9d"
    fails(errno.EEXIST, os.setxattr, f, b"user.colour", b"x", os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, f, b"user.none", b"x", os.XATTR_REPLACE)
    fails(errno.ENODATA, os.getxattr, f, b"user.none")
    os.setxattr(f, b"user.size", b"v" * 2000)
    assert sorted(a for a in os.listxattr(f) if a.startswith("user.")) == ["user.colour", "user.size"]
    os.removexattr(f, b"user.colour")
    assert [a for a in os.listxattr(f) if a.startswith("user.")] == ["user.size"]
    os.unlink(f)


def mapping():
    f = p("mapping")
    put(f, bytes(range(256)) * 256)
    with open(f, "r+b") as h:
        with mmap.mmap(h.fileno(), 0) as m:
            assert m[1000] == 1000 % 256
            m[0:5] = b"hello"
            m[65530:65536] = b"world!"
            m.flush()
    b = get(f)
    assert b[:5] == b"hello" and b[-6:] == b"world!" and len(b) == 65536
    os.unlink(f)


def copy_range():
    a, b = p("cr1"), p("cr2")
    data = random.Random(1).randbytes(300_000)
    put(a, data)
    with open(a, "rb") as x, open(b, "wb") as y:
        n = 0
        while n < len(data):
            k = os.copy_file_range(x.fileno(), y.fileno(), len(data) - n)
            assert k > 0
            n += k
    assert get(b) == data
    os.unlink(a)
    os.unlink(b)


def permission():
    """what another user may not do is refused, also when the answer could come from a cache."""
    if os.geteuid():
        return "needs root"
    f = p("permission")
    put(f, b"secret")
    os.chmod(f, 0o600)
    assert get(f) == b"secret"
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([4242])
            os.setgid(4242)
            os.setuid(4242)
            fails(errno.EACCES, get, f)
            fails(errno.EACCES, put, f, b"")
            os._exit(0)
        except BaseException as e:
            print("permission:", repr(e), flush=True)
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    os.chown(f, 0, 4242)
    os.chmod(f, 0o640)
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([4242])
            os.setgid(99)
            os.setuid(4242)
            assert get(f) == b"secret"
            os._exit(0)
        except BaseException as e:
            print("permission by group:", repr(e), flush=True)
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    os.unlink(f)


def database():
    f = os.fsdecode(p("db.sqlite"))
    db = sqlite3.connect(f, timeout=60)
    db.execute("create table t (n integer, who text)")
    db.commit()
    for n in range(20):
        db.execute("insert into t values (?, 'me')", (n,))
        db.commit()
    assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    assert db.execute("select count(*) from t").fetchone() == (20,)
    db.close()
    os.unlink(f)


def git():
    g = os.fsdecode(p("git"))
    env = dict(os.environ, HOME="/tmp", GIT_CONFIG_NOSYSTEM="1", GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a",
               GIT_COMMITTER_EMAIL="a@b")

    def run(*a):
        r = subprocess.run(["git", "-c", "safe.directory=*", "-c", "gc.auto=0", *a], env=env, capture_output=True, text=True)
        assert r.returncode == 0, f"git {a}: {r.stderr}"
        return r.stdout
    run("init", "-q", g)
    for n in range(30):
        put(p("git", f"f{n}"), b"%d\n" % n * 100)
    run("-C", g, "add", "-A")
    run("-C", g, "commit", "-q", "-m", "first")
    run("clone", "-q", g, g + "2")
    put(p("git2", "f0"), b"changed")
    run("-C", g + "2", "commit", "-q", "-am", "second")
    run("-C", g + "2", "fsck", "--strict")
    assert run("-C", g + "2", "status", "--porcelain") == ""
    subprocess.run(["rm", "-r", g, g + "2"], check=True)


def large():
    """16 MiB of random data, written, read back in another order, compared."""
    f = p("large")
    data = random.Random(2).randbytes(16 << 20)
    put(f, data)
    fd = os.open(f, os.O_RDONLY)
    order = list(range(0, len(data), 1 << 18))
    random.Random(3).shuffle(order)
    for off in order:
        assert os.pread(fd, 1 << 18, off) == data[off:off + (1 << 18)], off
    os.close(fd)
    assert hashlib.sha256(get(f)).digest() == hashlib.sha256(data).digest()
    os.unlink(f)


def exclusive():
    f = p("exclusive")
    os.close(os.open(f, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    assert os.stat(f).st_mode & 0o777 == 0o600
    fails(errno.EEXIST, os.open, f, os.O_CREAT | os.O_EXCL | os.O_RDWR)
    fails(errno.ENOENT, os.open, p("nothing"), os.O_RDONLY)
    fails(errno.ENOTDIR, os.open, f + b"/x", os.O_RDONLY)
    fails(errno.EISDIR, os.open, D, os.O_RDWR)
    os.unlink(f)


ALL = [names, attributes, links, exclusive, rename_open, append, sparse, fallocate, xattrs, mapping, copy_range, permission, large, database, git]
wanted = sys.argv[2:]
for f in ALL:
    if not wanted or f.__name__ in wanted:
        said = f()
        print("ok", f.__name__, said or "", flush=True)
left = os.listdir(D)
assert left == [] or wanted, left
