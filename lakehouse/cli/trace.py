"""`trace`: the rows of silver and bronze, landing objects and bytes that rows of a table were made of."""

from dataclasses import asdict
from typing import Annotated

import typer

from lakehouse.cli.options import Json
from lakehouse.cli.printing import counted, print_json, print_table, print_text
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.tracing.document import TraceDocument, TracedStream, make_document
from lakehouse.pipeline.tracing.places import find_places
from lakehouse.serving.query.tracing import trace_rows
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as storage

Table = Annotated[str, typer.Argument(help="A table, such as gold.retail_daily, silver.iot or one of a model.")]
Where = Annotated[
    str, typer.Option("--where", help="Which of its rows: an SQL condition, such as dt = date '2025-11-20'.")
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="List at most so many objects and rows.")]

COUNTS = ("landed", "silver", "quarantined", "duplicates")


def trace(table: Table, where: Where, limit: Limit = 20, as_json: Json = False) -> None:
    """Print what the rows were made of, with sums by day and landing object.

    Raises QueryError if the condition is wrong, or for a table whose rows can't be traced.
    """
    settings = get_settings()
    with storage.running(settings) as connection:
        lake = Lake(settings, connection, metadata_only=True)
        found = trace_rows(lake, table, where, limit)
        places = {each.stream: find_places(lake.objects, lake.stream(each.stream), each) for each in found.streams}
    document = make_document(found, places)
    if as_json:
        print_json(asdict(document))
    else:
        _print(document)


def _print(document: TraceDocument) -> None:
    print_text(f"{document.table}: {counted(document.matched, 'row')}")
    for step in document.steps:
        how = "by row" if step.by_row else f"all rows of the days, because {step.reason}"
        print_text(f"{step.table} is made of {step.source}: {how}")
        if step.stale:
            print_text(f"{step.source} has changed since then on {', '.join(map(str, step.stale))}")
    for stream in document.streams:
        _print_stream(stream)


def _print_stream(stream: TracedStream) -> None:
    name, rows = stream.stream, f"{counted(stream.bronze_rows, 'row')} of bronze"
    if stream.realtime_rows:
        rows += f" and {counted(stream.realtime_rows, 'row')} of realtime"
    days = [
        [day.day, day.rows, day.landed, day.silver, day.quarantined, day.duplicates, day.unaccounted]
        for day in stream.days
    ]
    print_table(
        f"{name}: {rows} in {counted(stream.objects, 'landing object')}, and all rows of these objects",
        ["day", "traced", *COUNTS, "unaccounted"],
        days,
        right=["traced", *COUNTS, "unaccounted"],
    )
    for day in stream.days:
        if day.partition:
            counts = ", ".join(f"{day.partition[name]:,} {name}" for name in COUNTS)
            print_text(f"all of {name} on {day.day}: {counts}")
    if stream.without_bronze:
        print_text(f"{counted(stream.without_bronze, 'row')} of silver.{name} without bronze: expired or erased")
    if stream.tail_rows:
        print_text(f"{counted(stream.tail_rows, 'row')} that no table has yet; trace again in some minutes")
    objects = [
        [
            *(each.object, each.day, each.rows),
            *map(_known, (each.landed, each.silver, each.quarantined, each.duplicates, each.bytes)),
        ]
        for each in stream.by_object
    ]
    print_table("", ["landing object", "day", "traced", *COUNTS, "bytes"], objects, right=["traced", *COUNTS, "bytes"])
    print_table(
        "",
        ["landing object", "row", "first byte", "bytes", "key"],
        [[row.object, row.row, _known(row.first_byte), _known(row.bytes), _key(row.key)] for row in stream.rows],
        right=["row", "first byte", "bytes"],
    )
    if (hidden := stream.bronze_rows + stream.realtime_rows - len(stream.rows)) > 0:
        print_text(f"{counted(hidden, 'more row')}: --limit lists more, --json prints them for programs")


def _known(number: int | None) -> int | str:
    return "" if number is None else number


def _key(key: dict[str, str | None]) -> str:
    return ", ".join(f"{name}={value}" for name, value in key.items())
