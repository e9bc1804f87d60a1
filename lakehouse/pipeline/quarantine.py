"""Read the rejected rows in quarantine, and bring them in: by a changed contract, or as corrected rows that land anew.

A corrected row is an event like any other. Its landing object records which rejected row it replaces. The rejected row
stays in quarantine, because it did land and was rejected, and is no longer open.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from io import BytesIO

import duckdb

from lakehouse.contracts.sql import clean_sql, day_sql, literal, quarantine_sql, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import days_filter
from lakehouse.engine.stream_writer import write_stream
from lakehouse.errors import LakehouseError
from lakehouse.landing.readers import InputObject, bronze_rows, json_text
from lakehouse.landing.readers.json_text import Literal, Pairs, Value
from lakehouse.landing.writer import land_as
from lakehouse.pipeline.commits import commit_files, partition_sizes, retry_on_conflict
from lakehouse.pipeline.file_names import file_sql
from lakehouse.pipeline.ingest import READ_BATCH_ROWS
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.open_rows import REPLACES_FIELD, corrections_prefix, open_rows_sql
from lakehouse.storage.iceberg.commit import upload
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import days_from_date, partitions_filter

RowPlace = tuple[str, int]
"""The key of a landing object and the number of a row in it."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row in quarantine."""

    dt: date
    raw: str
    reasons: list[str]
    object: str
    row: int
    arrived_at: datetime
    file: str | None = None
    """The name of the file that it came from; None for rows of no file, and of earlier releases."""


@dataclass(frozen=True, slots=True)
class ReplayPreview:
    """The outcome of a replay of rejected rows by the current contract. `lakehouse quarantine --json` has its fields."""

    valid: int = 0
    refused: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    """How many rows would stay rejected for each reason."""
    days: Sequence[date] = ()
    """The event dates that would change."""
    held_back: Sequence[date] = ()
    """The days of which the quality gate would block every landing object."""


def filter_sql(first: date | None = None, last: date | None = None, reason: str | None = None) -> str:
    """Generate the filter of rejected rows from `first` to `last`, with a reason that contains the text, in any case."""
    parts = [f"dt >= date '{first}'"] if first else []
    parts += [f"dt <= date '{last}'"] if last else []
    if reason:
        parts.append(f"len(list_filter(reasons, lambda item: contains(lower(item), {literal(reason.lower())}))) > 0")
    return " and ".join(parts) or "true"


def count_by_reason(lake: Lake, stream: Stream, where: str = "true") -> list[tuple[date, str, int]]:
    """Count open rows by day and reason. A row counts for each of its reasons."""
    with lake.engine.cursor() as cursor:
        return cursor.execute(
            f"""select dt, reason, count(*) as rows
            from (select dt, unnest(reasons) as reason from ({open_rows_sql(lake, stream, where)}))
            group by dt, reason
            order by dt, rows desc, reason"""
        ).fetchall()


def rejected_rows(lake: Lake, stream: Stream, where: str = "true", limit: int | None = None) -> Iterable[RejectedRow]:
    """Yield open rows by day, landing object and row number."""
    at_most = f"limit {limit}" if limit is not None else ""
    with lake.engine.cursor() as cursor:
        result = cursor.execute(
            f"""select dt, raw, reasons, _object, _row, _arrived_at, {file_sql(lake.tables.load(f"quarantine.{stream.name}"))}
            from ({open_rows_sql(lake, stream, where)})
            order by dt, _object, _row
            {at_most}"""
        )
        while batch := result.fetchmany(1000):
            yield from (RejectedRow(*row) for row in batch)


def preview_replay(lake: Lake, stream: Stream, where: str = "true") -> ReplayPreview:
    """Compute what the current contract would make of the rows in quarantine. Nothing is written."""
    bronze = scan_sql(lake.tables.load(f"bronze.{stream.name}"))
    with lake.engine.cursor() as cursor:
        cursor.execute(f"create temp table refused as {open_rows_sql(lake, stream, where)}")
        if not cursor.execute("select count(*) from refused").fetchall()[0][0]:
            return ReplayPreview()
        cursor.execute(f"""create temp table rows_again as
            select bronze.* replace ({day_sql(stream.contract)} as dt), refused.dt as was, refused.reasons as before
            from {bronze} as bronze
            join refused using (_object, _row)""")
        return _preview(cursor, stream, bronze)


def _preview(cursor: duckdb.DuckDBPyConnection, stream: Stream, bronze: str) -> ReplayPreview:
    contract = stream.contract
    cursor.execute(
        f"create temp table still as select _object, _row, reasons from ({quarantine_sql(contract, 'rows_again')})"
    )
    valid, refused = cursor.execute(
        f"select count(*) filter (_valid), count(*) filter (not _valid) from ({clean_sql(contract, 'rows_again')})"
    ).fetchall()[0]
    reasons = cursor.execute("""
        select reason, count(*)
        from (select unnest(reasons) as reason from still)
        group by reason
        order by count(*) desc, reason""").fetchall()
    changed = cursor.execute("""
        select distinct unnest([was, dt]) as day
        from rows_again
        left join still using (_object, _row)
        where was <> dt or still.reasons is distinct from before
        order by day""").fetchall()
    days = [day for (day,) in changed]
    gated = cursor.execute(
        f"""with days_again as (
          select * replace ({day_sql(contract)} as dt)
          from {bronze} as bronze
          where {days_filter(days)} or (_object, _row) in (select (_object, _row) from rows_again)
        )
        select dt
        from (
          select dt, count(*) filter (_valid) as valid, count(*) as rows
          from ({clean_sql(contract, "days_again")})
          group by dt, _object
        )
        group by dt
        having sum(valid) > 0 and max(valid / rows) < {contract.quality_threshold}"""
    ).fetchall()
    blocked = sorted(day for (day,) in gated if day in days)
    return ReplayPreview(valid, refused, dict(reasons), days, blocked)


def validate_rows(lake: Lake, stream: Stream, lines: Sequence[bytes]) -> dict[int, list[str]]:
    """Check NDJSON lines against the current contract. Returns the reasons of each that breaks it, by its number from 0."""
    content = b"\n".join(lines)
    source = InputObject("rows.ndjson", datetime.now(UTC), len(content), lambda: BytesIO(content))
    with lake.engine.cursor() as cursor:
        bronze_rows(cursor, stream.contract, [source]).create_view("read_rows")
        cursor.execute(
            f"create temp table rows_given as select *, {day_sql(stream.contract, 'read_rows')} as dt from read_rows"
        )
        rows = cursor.execute(f"select _row, reasons from ({quarantine_sql(stream.contract, 'rows_given')})").fetchall()
    return {row - 1: reasons for row, reasons in rows}


def event_line(values: Mapping[str, Value]) -> bytes:
    """Write an event's fields, as `json_text` parses them, as one line of JSON without its line end."""
    # Half of a surrogate pair is escaped, so that the readers reject it as they did before.
    return json_text.dump(Pairs(sorted(values.items()))).encode("utf-8", "backslashreplace")


def land_corrections(lake: Lake, stream: Stream, rows: Sequence[tuple[RowPlace, Mapping[str, Value]]]) -> str:
    """Land corrected rows, each with the place of the rejected row it replaces. Returns the key of their object.

    The same rows land once, however often you call this. Raises LakehouseError if a place is not that of an open row.
    """
    _require_open(lake, stream, [place for place, _ in rows])
    lines = [
        event_line({**values, REPLACES_FIELD: Pairs([("object", key), ("row", Literal(row))])})
        for (key, row), values in rows
    ]
    content = b"\n".join(sorted(lines)) + b"\n"
    key = f"{corrections_prefix(stream)}{hashlib.sha256(content).hexdigest()}.ndjson"
    land_as(lake.objects, key, content)
    return key


def _require_open(lake: Lake, stream: Stream, places: Sequence[RowPlace]) -> None:
    with lake.engine.cursor() as cursor:
        open_places = set(cursor.execute(f"select _object, _row from ({open_rows_sql(lake, stream)})").fetchall())
    if unknown := [place for place in places if place not in open_places]:
        key, row = unknown[0]
        raise LakehouseError(
            f"{len(unknown)} of the rows replace no open row in quarantine.{stream.name}, such as row {row} of {key}. "
            "`lakehouse quarantine export` writes those that are open."
        )


def move_redated_rows(lake: Lake, stream: Stream, *, run_id: str = "") -> list[date]:
    """Move bronze rows to the event dates that a changed contract gives them. Returns the event dates that changed."""
    return retry_on_conflict(partial(_move, lake, stream, run_id))


def _move(lake: Lake, stream: Stream, run_id: str) -> list[date]:
    table = lake.tables.load(f"bronze.{stream.name}")
    scan, day = scan_sql(table), day_sql(stream.contract)
    with lake.engine.cursor() as cursor:
        partitions = cursor.execute(
            f"select distinct arrival_dt, dt from {scan} as bronze where dt is distinct from {day}"
        ).fetchall()
        if not partitions:
            return []
        arrivals = sorted({arrival for arrival, _ in partitions})
        wanted = {(days_from_date(arrival), days_from_date(dt)) for arrival, dt in partitions}
        touched = partitions_filter("arrival_dt", arrivals)
        removed = [file for file in select_files(table, touched) if (file.partition[0], file.partition[1]) in wanted]
        pairs = ", ".join(f"(date '{arrival}', date '{dt}')" for arrival, dt in partitions)
        columns = ", ".join(
            f"{day} as dt" if column.name == "dt" else quote(column.name) for column in table.schema().fields
        )
        with lake.engine.scratch() as folder:
            rows = cursor.execute(
                f"select {columns} from {scan} as bronze"
                f" where {days_filter(arrivals, 'arrival_dt')} and (arrival_dt, dt) in ({pairs})"
            )
            files = write_stream(lake.engine, iter(rows.to_arrow_reader(READ_BATCH_ROWS)), "from chunk", table, folder)
            added = upload(lake.connection, table, files)
            ledger = {str(dt): {"rows": 0} for _, dt in partitions}
            ledger |= {str(dt): {"rows": size["rows"]} for dt, size in partition_sizes(files, added).items()}
            commit_files(lake, table, added, touched, removed=removed, ledger=ledger, run_id=run_id)
    return sorted(date.fromisoformat(name) for name in ledger)
