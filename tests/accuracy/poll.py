"""What somebody sees who looks at all processes in /proc once in a while, as top and most agents do.

usage: python3 poll.py PREFIX [SECONDS]

Until it is interrupted it looks every so many seconds (1). Prints how many processes it met whose name begins with the
prefix, and the sums of the last /proc/PID/io that it read of each.
"""
import json
import os
import signal
import sys
import time

WORDS = {"rchar": "bytes read", "wchar": "bytes written", "syscr": "reads", "syscw": "writes"}


def look(prefix, seen):
    """One look."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm") as comm:
                name = comm.read().rstrip("\n")
            if name.startswith(prefix):
                with open(f"/proc/{pid}/io") as lines:
                    io = dict(line.split(": ") for line in lines)
                seen[name, pid] = {WORDS[key]: int(value) for key, value in io.items() if key in WORDS}
        except OSError:
            pass  # It ended meanwhile.


def main(prefix, seconds=1):
    seen, stopped = {}, []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(True))
    print("looking", flush=True)
    while not stopped:
        look(prefix, seen)
        time.sleep(float(seconds))
    sums = {}
    for (name, _), io in seen.items():
        of_name = sums.setdefault(name, {"processes": 0})
        of_name["processes"] += 1
        for word, number in io.items():
            of_name[word] = of_name.get(word, 0) + number
    print(json.dumps(sums))


main(*sys.argv[1:])
