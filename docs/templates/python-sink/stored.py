#!/usr/bin/python3
import os, sqlite3

database = os.path.join(os.path.dirname(os.path.abspath(__file__)), "conformance.db")
try:
    numbers = sqlite3.connect(database).execute("SELECT series, value FROM numbers ORDER BY rowid")
except sqlite3.OperationalError:
    numbers = []  # nothing has arrived so far
for series, value in numbers:
    print(series, value)
