"""A stream's rejected rows: SQL and result classes of its quarantine, counted by reason and sampled.

Rows that a corrected row has replaced are left out, as everywhere.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from lakehouse.contracts.sql import BRONZE_COLUMNS, day_sql, literal, quarantine_sql, quote
from lakehouse.contracts.streams import Stream
from lakehouse.contracts.times import naive_utc
from lakehouse.engine.connection import bind, scan_sql
from lakehouse.errors import QueryError
from lakehouse.pipeline.file_names import file_sql
from lakehouse.pipeline.open_rows import open_rows_sql
from lakehouse.pipeline.readable_lake import ReadableLake

MAX_REASONS = 200
"""Reasons that one report lists. Each row still carries all of its own."""

MAX_RAW_CHARACTERS = 20_000
"""Characters of a row's raw text that one report holds."""

_PLACE = (r"(,? at (character|byte)) [0-9]+", r"\1 …")
REASON_KIND_SQL = f"regexp_replace(reason, {literal(_PLACE[0])}, {literal(_PLACE[1])})"
"""A reason without the place at which reading a row failed, so that reasons that differ only there count as one."""

_SAMPLE_COLUMNS = f"""select
  dt,
  left(raw, {MAX_RAW_CHARACTERS}) as raw,
  length(raw) as raw_length,
  reasons,
  _object as object,
  _row as row,
  _arrived_at as arrived_at,
  {{file}} as file"""


class Reason(msgspec.Struct, frozen=True):
    """One way in which rows break the contract. A row with several reasons counts for each."""

    reason: str
    """The reason's text; `…` stands for the place in a row that could not be read."""
    rows: int
    first_day: date
    last_day: date
    last_arrived_at: datetime


class RejectSample(msgspec.Struct, frozen=True):
    """A rejected row: its text, every reason and where it came from."""

    dt: date
    raw: str | None
    """The text as it arrived, at most its first 20,000 characters."""
    raw_length: int | None
    """The length of the whole text in characters."""
    reasons: list[str]
    object: str | None
    """The landing object that it arrived in."""
    row: int | None
    """Its number in that object, from 1."""
    arrived_at: datetime
    file: str | None = None
    """The name of the file that it came from, if any."""
    just_arrived: bool = False
    """Whether the row is in no table yet. It is counted when its day is computed."""


class RecentArrivals(msgspec.Struct, frozen=True):
    """Events that arrived over HTTP in the last five minutes. The report counts rejected ones when their day is computed."""

    events: int
    broken: int
    """Events that break their contract."""


class QuarantineReport(msgspec.Struct, frozen=True):
    """A stream's quarantine: the number of rejected rows, their reasons, and the newest rows."""

    stream: str
    rows: int
    """Rows in quarantine that match the filter."""
    arrived: RecentArrivals
    reasons: list[Reason]
    samples: list[RejectSample]
    """The newest rows; those in no table yet come first."""


def parse_time(text: str) -> datetime:
    """Parse a time or a day as UTC without a zone. Raises QueryError."""
    try:
        return naive_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError) as error:
        raise QueryError(f"since={text[:80]!r} is not a time. Write one such as 2025-11-20T14:00:00Z (UTC).") from error


def reasons_sql(lake: ReadableLake, stream: Stream) -> str:
    """Return a SELECT of rows by reason, the most frequent first. Its first row has no reason and counts all rows.

    Parameters: since, reason.
    """
    return f"""with rejects as (
  {_filtered_sql(lake, stream)}
)
select null as reason, count(*) as rows, null as first_day, null as last_day, null as last_arrived_at
from rejects
union all
(
  select reason, count(*) as rows, min(dt) as first_day, max(dt) as last_day, max(_arrived_at) as last_arrived_at
  from (
    select dt, _arrived_at, unnest(kinds) as reason
    from rejects
  )
  group by reason
  order by rows desc, reason
  limit {MAX_REASONS}
)"""


def samples_sql(lake: ReadableLake, stream: Stream) -> str:
    """Return a SELECT of the newest rejected rows. Parameters: since, reason, limit."""
    file = file_sql(lake.tables.load(f"quarantine.{stream.name}"))
    return f"""{_SAMPLE_COLUMNS.format(file=file)}
from (
  {_filtered_sql(lake, stream)}
)
order by _arrived_at desc, _object desc, _row desc
limit $limit"""


def recent_rejects_sql(stream: Stream, rows: str) -> str:
    """Return a SELECT of the rejected rows of a relation, whose rows are as the landing readers return them."""
    contract = stream.contract
    columns = ", ".join([*(quote(field.name) for field in contract.fields), *BRONZE_COLUMNS])
    bronze = f"select {columns}, {day_sql(contract, rows)} as dt from {rows}"
    return f"{_SAMPLE_COLUMNS.format(file='null')}\nfrom ({bind(quarantine_sql(contract), {'bronze': bronze})})"


def in_bronze_sql(lake: ReadableLake, stream: Stream, rows: Iterable[RejectSample]) -> str:
    """Return a SELECT of those landing objects of these rows that bronze holds."""
    scan = scan_sql(lake.tables.load(f"bronze.{stream.name}"))
    objects = {row.object: row.arrived_at.date() for row in rows if row.object is not None}
    days = ", ".join(f"date '{day}'" for day in sorted({*objects.values()}))
    keys = ", ".join(map(literal, sorted(objects)))
    return f"select distinct _object as object from {scan} where arrival_dt in ({days}) and _object in ({keys})"


def _filtered_sql(lake: ReadableLake, stream: Stream) -> str:
    """Return a SELECT of the rows in quarantine that match since and reason, with the kinds of their reasons."""
    arrived = "$since::timestamp is null or _arrived_at >= $since::timestamp"
    return f"""select *
  from (
    select *, list_distinct(list_transform(reasons, lambda reason: {REASON_KIND_SQL})) as kinds
    from ({open_rows_sql(lake, stream, arrived)})
  )
  where $reason::varchar is null or list_contains(kinds, $reason::varchar)"""


def matches_filter(row: RejectSample, since: datetime | None, reason: str | None) -> bool:
    """Return whether a row arrived at `since` or later and has this reason, as `_filtered_sql` decides it for the table."""
    kinds = {re.sub(*_PLACE, text) for text in row.reasons}
    return (since is None or row.arrived_at.replace(tzinfo=None) >= since) and (reason is None or reason in kinds)


def reject_samples(rows: Iterable[Mapping[str, Any]], *, just_arrived: bool = False) -> list[RejectSample]:
    """Build samples from the rows of `samples_sql` or `recent_rejects_sql`."""
    return [
        RejectSample(**{**row, "arrived_at": row["arrived_at"].replace(tzinfo=UTC)}, just_arrived=just_arrived)
        for row in rows
    ]


def quarantine_report(
    stream: str, arrived: RecentArrivals, rows: Iterable[Mapping[str, Any]], samples: Sequence[RejectSample]
) -> QuarantineReport:
    """Build the report from the rows of `reasons_sql` and samples."""
    total = 0
    reasons: list[Reason] = []
    for row in rows:
        if row["reason"] is None:
            total = row["rows"]
        else:
            reasons.append(Reason(**{**row, "last_arrived_at": row["last_arrived_at"].replace(tzinfo=UTC)}))
    return QuarantineReport(stream, total, arrived, reasons, list(samples))
