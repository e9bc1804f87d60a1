"""`query`: the rows of one SELECT, as a table, JSON or CSV."""

import csv
import json
import os
import sys
from collections.abc import Callable
from itertools import islice
from typing import Annotated

import typer

from lakehouse.cli.escaping import escape_in_json
from lakehouse.cli.printing import console, counted, print_table
from lakehouse.errors import QueryError
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.json_values import to_json
from lakehouse.serving.query.rendering import escape_formula
from lakehouse.serving.query.sql import QueryRows, run_query
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as storage

MAX_TABLE_ROWS = 200
"""Rows of a table for people; json and csv print all."""

Sql = Annotated[
    str,
    typer.Argument(help="One SELECT; tables are layer.name, such as silver.retail. - reads it from standard input."),
]
Format = Annotated[str, typer.Option("--format", help="table, json, csv, or csv-escaped for spreadsheets.")]


def query(sql: Sql, output: Format = "table") -> None:
    """Run the query and print its rows. Raises QueryError if it is invalid or fails."""
    printers = {"table": _table, "json": _json, "csv": _csv, "csv-escaped": _csv_escaped}
    if output not in printers:
        raise QueryError(f"--format {output!r} is not one of {', '.join(printers)}.")
    text = sys.stdin.read() if sql == "-" else sql
    settings = get_settings()
    with storage.running(settings) as connection:
        result = run_query(Lake(settings, connection, metadata_only=True), text)
        try:
            printers[output](result)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader, such as `head`, has seen enough. Discard the rest, or flushing at exit would fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _table(result: QueryRows) -> None:
    cells = [[_cell(value) for value in row] for row in islice(result.rows, MAX_TABLE_ROWS)]
    print_table("", result.columns, cells)
    hidden = sum(1 for _ in result.rows)
    more = f"; the first {MAX_TABLE_ROWS} are shown, --format csv prints all" if hidden else ""
    console.print(f"{counted(len(cells) + hidden, 'row')}{more}")


def _cell(value: object) -> str:
    plain = to_json(value)
    if plain is None:
        return ""
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, dict | list) else str(plain)


def _json(result: QueryRows) -> None:
    sys.stdout.write("[")
    for number, row in enumerate(result.rows):
        sys.stdout.write("\n" if number == 0 else ",\n")
        values = dict(zip(result.columns, map(to_json, row), strict=True))
        sys.stdout.write(escape_in_json(json.dumps(values, ensure_ascii=False)))
    sys.stdout.write("]\n")


def _csv(result: QueryRows, escape: Callable[[object], object] = lambda value: value) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(map(escape, result.columns))
    for row in result.rows:
        writer.writerow([_csv_value(value, escape) for value in row])


def _csv_escaped(result: QueryRows) -> None:
    """Print CSV in which no text is a formula of a spreadsheet."""
    _csv(result, escape_formula)


def _csv_value(value: object, escape: Callable[[object], object]) -> object:
    if isinstance(value, dict | list):
        return _cell(value)
    return escape(value) if isinstance(value, str) else to_json(value)
