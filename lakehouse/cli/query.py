"""`query`: one SELECT's rows as a table, JSON or CSV."""

import csv
import json
import os
import sys
from itertools import islice

from lakehouse.cli.printing import console, print_table
from lakehouse.errors import QueryError
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.json_values import to_json
from lakehouse.serving.query.sql import QueryRows, run_query
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as server

SHOWN = 200
"""Rows of a table for people; json and csv give all."""


def print_query(sql: str, output: str) -> None:
    """Run the query and print its rows. Raises QueryError."""
    printers = {"table": _table, "json": _json, "csv": _csv}
    if output not in printers:
        raise QueryError(f"--format {output!r} is none of {', '.join(printers)}.")
    settings = get_settings()
    with server.running(settings) as connection:
        found = run_query(Lake(settings, connection, metadata_only=True), sql)
        try:
            printers[output](found)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read our output has seen enough; what is left of it goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _table(found: QueryRows) -> None:
    rows = [[_cell(value) for value in row] for row in islice(found.rows, SHOWN)]
    print_table("", found.columns, rows)
    more = sum(1 for _ in found.rows)
    console.print(
        f"{len(rows) + more:,} rows" + (f"; the first {SHOWN} are shown, --format csv gives all" if more else "")
    )


def _cell(value: object) -> str:
    plain = to_json(value)
    return (
        "" if plain is None else json.dumps(plain, ensure_ascii=False) if isinstance(plain, dict | list) else str(plain)
    )


def _json(found: QueryRows) -> None:
    sys.stdout.write("[")
    for number, row in enumerate(found.rows):
        sys.stdout.write("\n" if number == 0 else ",\n")
        json.dump(dict(zip(found.columns, map(to_json, row), strict=True)), sys.stdout, ensure_ascii=False)
    sys.stdout.write("]\n")


def _csv(found: QueryRows) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(found.columns)
    for row in found.rows:
        writer.writerow([_cell(value) if isinstance(value, dict | list) else to_json(value) for value in row])
