"""`query`: the rows of one SELECT, as a table, JSON or CSV."""

import os
import sys
from itertools import islice
from typing import Annotated

import typer

from lakehouse.cli.escaping import escape_in_json
from lakehouse.cli.printing import console, counted, print_table
from lakehouse.errors import QueryError
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.rendering import csv_rows, distinct_names, json_objects, text_cells
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
    rows = (row for table in result.tables for row in text_cells(table))
    cells = list(islice(rows, MAX_TABLE_ROWS))
    print_table("", result.columns, cells)
    hidden = sum(1 for _ in rows)
    more = f"; the first {MAX_TABLE_ROWS} are shown, --format csv prints all" if hidden else ""
    console.print(f"{counted(len(cells) + hidden, 'row')}{more}")


def _json(result: QueryRows) -> None:
    names, separator = distinct_names(result.columns), "[\n"
    for table in result.tables:
        for rows in json_objects(table, names):
            sys.stdout.write(separator + escape_in_json(",\n".join(row.decode() for row in rows)))
            separator = ",\n"
    sys.stdout.write("]\n" if separator == ",\n" else "[]\n")


def _csv(result: QueryRows, *, escape_formulas: bool = False) -> None:
    names = distinct_names(result.columns)
    for piece in csv_rows(result.tables, result.schema, names, escape_formulas=escape_formulas):
        sys.stdout.write(piece)


def _csv_escaped(result: QueryRows) -> None:
    """Print CSV in which no text is a formula of a spreadsheet."""
    _csv(result, escape_formulas=True)
