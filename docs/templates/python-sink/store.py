#!/usr/bin/python3
import json, sqlite3, sys

def say(**words):
    print(json.dumps(words), flush=True)

say(ebpf_process=[1], format="samples")
start = json.loads(sys.stdin.readline())
if "refused" in start:
    sys.exit(start["refused"])
db = sqlite3.connect(start["options"]["database"])
db.execute("CREATE TABLE IF NOT EXISTS numbers (stream, batch, place, series, value, UNIQUE (stream, batch, place))")
for line in sys.stdin:
    batch = json.loads(line)
    if "batch" not in batch:
        continue
    rows = []
    for place, sample in enumerate(batch["samples"]):
        labels = ",".join(f"{key}={text}" for key, text in sample["labels"].items())
        value = sample["value"]["count"] if sample["type"] == "histogram" else sample["value"]
        # As text: a database's integers end at 2^63.
        rows.append((batch["stream"], batch["batch"], place, f"{sample['name']}{{{labels}}}", str(value)))
    with db:
        db.executemany("INSERT OR IGNORE INTO numbers VALUES (?, ?, ?, ?, ?)", rows)
    say(batch=batch["batch"], ok=True)
