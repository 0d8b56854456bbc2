#!/usr/bin/python3
"""A probe: bytes and packets of each network interface, as the kernel counts them in /proc/net/dev."""
import json
import sys

COLUMNS = [  # and where its number stands behind the interface's name
    ("bytes", "received", "bytes", 0),
    ("packets", "received", "packets", 1),
    ("bytes", "sent", "bytes", 8),
    ("packets", "sent", "packets", 9),
]


def say(**words):
    print(json.dumps(words), flush=True)


def rows():
    with open("/proc/net/dev") as lines:
        for line in list(lines)[2:]:
            name, numbers = line.split(":")
            numbers = [int(number) for number in numbers.split()]
            yield {"labels": [name.strip()], "values": [numbers[place] for *_, place in COLUMNS]}


say(
    ebpf_process=[1],
    probe="interfaces",
    kind="interface",
    keys=["interface"],
    columns=[
        {"name": name, "labels": {"way": way}, "type": "counter", "unit": unit, "help": f"{name.title()} {way}"}
        for name, way, unit, _ in COLUMNS
    ],
)
for line in sys.stdin:
    question = json.loads(line)
    if "tick" in question:
        say(tick=question["tick"], rows=list(rows()))
