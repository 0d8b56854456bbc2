#!/usr/bin/python3
"""Keeps every value in a SQLite database. A batch that comes again changes nothing: its key is (stream, batch)."""
import json
import sqlite3
import sys


def say(**words):
    print(json.dumps(words), flush=True)


say(ebpf_process=[1], format="rows", window=4)
start = json.loads(sys.stdin.readline())
if "refused" in start:
    sys.exit(start["refused"])
database = sqlite3.connect(start["options"]["database"])
database.execute(
    "CREATE TABLE IF NOT EXISTS cells (stream TEXT, batch INTEGER, row INTEGER, field INTEGER, time INTEGER,"
    " name TEXT, labels TEXT, value TEXT, PRIMARY KEY (stream, batch, row, field)) WITHOUT ROWID"
)
for line in sys.stdin:
    if "batch" not in (batch := json.loads(line)):
        continue
    key, seconds = (batch["stream"], batch["batch"]), batch["time"][0]
    cells = (
        # As text: SQLite's integers end at 2^63.
        (*key, row["id"], field, seconds, column["name"], json.dumps(row["labels"]), json.dumps(value))
        for kind in batch["kinds"]
        for row in kind["rows"]
        for field, (column, value) in enumerate(zip(kind["columns"], row["values"]))
        if value is not None
    )
    try:
        with database:
            database.executemany("INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?, ?, ?, ?, ?)", cells)
    except sqlite3.OperationalError as error:
        say(batch=batch["batch"], retry_after=5, reason=str(error))
    else:
        say(batch=batch["batch"], ok=True)
