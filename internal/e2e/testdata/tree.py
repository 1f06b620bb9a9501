#!/usr/bin/env python3
"""tree.py make DIR FILES | sum DIR: a tree of many small files, and the checksum of a tree."""
import hashlib, os, random, sys

if sys.argv[1] == "make":
    r = random.Random(7)
    for n in range(int(sys.argv[3])):
        d = f"{sys.argv[2]}/{n % 50}/{n % 7}"
        os.makedirs(d, exist_ok=True)
        with open(f"{d}/{n}", "wb") as f:
            f.write(r.randbytes(r.randrange(3000)))
        os.chmod(f"{d}/{n}", 0o600 + n % 64)
else:
    h, count = hashlib.sha256(), 0
    for here, dirs, files in os.walk(sys.argv[2]):
        dirs.sort()
        for name in sorted(files):
            path = f"{here}/{name}"
            with open(path, "rb") as f:
                h.update(f"{path[len(sys.argv[2]):]} {os.fstat(f.fileno()).st_mode:o} ".encode() + f.read())
            count += 1
    print(count, h.hexdigest())
