"""The load of docs/accuracy.md: five files written and read again, programs that live for a millisecond, and failures.

usage: python3 load.py FOLDER [PREFIX [PROGRAMS]]

Each program runs under a name that nobody else has, `acc-dd` and the like (PREFIX is `acc-`), one after the other. At its
end, before anybody asks for its status, the kernel's own account of it is read (/proc/PID/io). Prints a JSON object: for
each name what the programs were told to do, and what /proc/PID/io says of them together.
"""
import json
import os
import shutil
import sys

BLOCK, BLOCKS, FILES = 4096, 1000, 5
# What /proc/PID/io has, by our words.
WORDS = {
    "reads": "syscr", "bytes read": "rchar", "writes": "syscw", "bytes written": "wchar",
    "bytes from disks": "read_bytes", "bytes for disks": "write_bytes",
}


def run(path, arguments):
    """Runs a program to its end; what the kernel says of it by then."""
    # Nothing is opened or closed between fork and exec: all that is counted is the program's own.
    pid = os.posix_spawn(path, [path, *arguments], {"LC_ALL": "C"})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with open(f"/proc/{pid}/io") as lines:
        io = {key: int(value) for key, value in (line.split(": ") for line in lines)}
    os.waitpid(pid, 0)
    return io


def main(folder, prefix="acc-", programs=1000):
    programs = int(programs)
    commands = {"dd": [], "true": [[]] * programs, "grep": [["-qs", "x", f"{folder}/missing"], ["-qs", "x", "/"]]}
    files = [f"{folder}/file-{number}" for number in range(FILES)]
    for file in files:
        commands["dd"].append(["if=/dev/zero", f"of={file}", f"bs={BLOCK}", f"count={BLOCKS}", "status=none"])
    for file in files:
        commands["dd"].append([f"if={file}", "of=/dev/null", f"bs={BLOCK}", "status=none"])
    # Each file is read to its end, which takes a read that finds nothing.
    told = {
        "dd": {
            "reads": FILES * (BLOCKS + BLOCKS + 1), "bytes read": 2 * FILES * BLOCKS * BLOCK,
            "writes": 2 * FILES * BLOCKS, "bytes written": 2 * FILES * BLOCKS * BLOCK, "opens": 4 * FILES,
        },
        "true": {"reads": 0, "bytes read": 0, "writes": 0, "bytes written": 0, "opens": 0},
        "grep": {"reads": 1, "bytes read": 0, "writes": 0, "bytes written": 0, "opens": 2},
    }
    report = {}
    for name, runs in commands.items():
        path = f"{folder}/{prefix}{name}"
        os.symlink(shutil.which(name), path)
        io = dict.fromkeys(WORDS, 0)
        for arguments in runs:
            of_one = run(path, arguments)
            for ours, theirs in WORDS.items():
                io[ours] += of_one[theirs]
        report[prefix + name] = {"processes": len(runs), "told": told[name], "proc": io}
    print(json.dumps(report))


main(*sys.argv[1:])
