"""`query`: the rows of one SELECT, or of a named query, as a table, JSON or CSV."""

import os
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Annotated, Any

import typer

from lakehouse.cli.escaping import escape_in_json
from lakehouse.cli.printing import console, counted, print_table
from lakehouse.errors import ParameterError, QueryError
from lakehouse.pipeline.audit_log_table import AUDIT_LOG, copy_entries
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.named_queries import find_query, read_queries
from lakehouse.serving.query.rendering import csv_rows, distinct_names, json_objects, text_cells
from lakehouse.serving.query.sql import QueryRows, run_query
from lakehouse.settings import Settings, get_settings
from lakehouse.storage.embedded import lifecycle as storage

MAX_TABLE_ROWS = 200
"""Rows of a table for people; json and csv print all."""

Sql = Annotated[
    str | None,
    typer.Argument(help="One SELECT; tables are layer.name, such as silver.retail. - reads it from standard input."),
]
Name = Annotated[str | None, typer.Option("--name", help="Run this named query in place of SQL; `queries` lists them.")]
Given = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter: $NAME in the SQL. Repeat it for more."),
]
Format = Annotated[str, typer.Option("--format", help="table, json, csv, or csv-escaped for spreadsheets.")]


def query(sql: Sql = None, name: Name = None, given: Given = None, output: Format = "table") -> None:
    """Run the query and print its rows. Raises QueryError if it is invalid or fails, and ParameterError."""
    printers = {"table": _table, "json": _json, "csv": _csv, "csv-escaped": _csv_escaped}
    if output not in printers:
        raise QueryError(f"--format {output!r} is not one of {', '.join(printers)}.")
    settings = get_settings()
    text, parameters = _resolve(settings, sql, name, _parse_parameters(given or []))
    with storage.running(settings) as connection:
        if AUDIT_LOG in text:
            copy_entries(Lake(settings, connection))
        result = run_query(Lake(settings, connection, metadata_only=True), text, parameters)
        try:
            printers[output](result)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader, such as `head`, has seen enough. Discard the rest, or flushing at exit would fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _resolve(
    settings: Settings, sql: str | None, name: str | None, given: dict[str, str]
) -> tuple[str, Mapping[str, Any]]:
    """Return the SQL to run and the values of its parameters."""
    if (sql is None) == (name is None):
        raise QueryError("Pass either SQL or --name. `lakehouse queries` lists the named queries.")
    if name is not None:
        named = find_query(read_queries(settings.queries, examples=settings.examples), name)
        return named.sql, named.bind(given)
    return sys.stdin.read() if sql == "-" else str(sql), given


def _parse_parameters(texts: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ParameterError(f"-p {text!r} is not NAME=VALUE.")
        if name in given:
            raise ParameterError(f"{name} is given twice; give it once.")
        given[name] = value
    return given


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
