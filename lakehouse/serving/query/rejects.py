"""What was refused and why: the reasons of a stream's quarantine counted, and rows of it as they arrived.

Rows that a corrected one has replaced are passed over, as everywhere.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from lakehouse.contracts.sql import BRONZE_COLUMNS, day_sql, literal, quarantine_sql, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind, scan_sql
from lakehouse.errors import QueryError
from lakehouse.pipeline.quarantine import open_rows_sql
from lakehouse.pipeline.unified_view import ReadableLake

REASONS = 200
"""Reasons that one answer lists; each row's own are all there."""

_PLACE = (r"(,? at (character|byte)) [0-9]+", r"\1 …")
KIND = f"regexp_replace(reason, {literal(_PLACE[0])}, {literal(_PLACE[1])})"
"""Reasons are counted together that differ in the place alone at which reading a row failed."""

RAW_LENGTH = 20_000
"""Characters of a row's raw text that one answer holds."""


_SHOWN = f"""select
  dt,
  left(raw, {RAW_LENGTH}) as raw,
  length(raw) as raw_length,
  reasons,
  _object as object,
  _row as row,
  _arrived_at as arrived_at"""


class Reason(msgspec.Struct, frozen=True):
    """One way in which rows broke the contract. A row with several reasons counts for each."""

    reason: str
    """In its words; `…` stands for the place in a row that could not be read."""
    rows: int
    first_day: date
    last_day: date
    last_arrived_at: datetime


class RejectSample(msgspec.Struct, frozen=True):
    """A row that was refused: what arrived, why it was refused, where it came from."""

    dt: date
    raw: str | None
    """The text as it arrived, at most its first 20,000 characters."""
    raw_length: int | None
    """How many characters it has."""
    reasons: list[str]
    object: str | None
    """The landing object it came in."""
    row: int | None
    """Its number there, from 1."""
    arrived_at: datetime
    just_arrived: bool = False
    """Whether it is not in the table yet, nor counted: that comes when its day is computed."""


class RecentArrivals(msgspec.Struct, frozen=True):
    """What came over HTTP in the last five minutes. Those that are broken are counted below when their day is computed."""

    events: int
    broken: int
    """Events that break their contract."""


class QuarantineReport(msgspec.Struct, frozen=True):
    """A stream's quarantine: how many rows, every reason, and some of the rows, the newest first."""

    stream: str
    rows: int
    """Rows in quarantine, of those asked for."""
    arrived: RecentArrivals
    reasons: list[Reason]
    samples: list[RejectSample]
    """Those that have just arrived come first."""


def parse_time(text: str) -> datetime:
    """A time or day in UTC, without a zone. Raises QueryError."""
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
    except (ValueError, OverflowError) as problem:
        raise QueryError(f"since={text[:80]!r} is no time; write one such as 2025-11-20T14:00:00Z (UTC).") from problem


def reasons_sql(lake: ReadableLake, stream: Stream) -> str:
    """Rows by reason, the most frequent first; a first row without a reason counts all rows. Parameters: since, reason."""
    return f"""with refused as (
  {_refused(lake, stream)}
)
select null as reason, count(*) as rows, null as first_day, null as last_day, null as last_arrived_at
from refused
union all
(
  select reason, count(*) as rows, min(dt) as first_day, max(dt) as last_day, max(_arrived_at) as last_arrived_at
  from (
    select dt, _arrived_at, unnest(kinds) as reason
    from refused
  )
  group by reason
  order by rows desc, reason
  limit {REASONS}
)"""


def samples_sql(lake: ReadableLake, stream: Stream) -> str:
    """RejectSample rows, those that arrived last first. Parameters: since, reason, limit."""
    return f"""{_SHOWN}
from (
  {_refused(lake, stream)}
)
order by _arrived_at desc, _object desc, _row desc
limit $limit"""


def recent_rejects_sql(stream: Stream, rows: str) -> str:
    """The refused ones among rows of a relation, which are as the readers give them."""
    contract = stream.contract
    columns = ", ".join([*(quote(field.name) for field in contract.fields), *BRONZE_COLUMNS])
    bronze = f"select {columns}, {day_sql(contract, rows)} as dt from {rows}"
    return f"{_SHOWN}\nfrom ({bind(quarantine_sql(contract), {'bronze': bronze})})"


def in_bronze_sql(lake: ReadableLake, stream: Stream, rows: Iterable[RejectSample]) -> str:
    """The landing objects of these rows that bronze holds."""
    scan = scan_sql(lake.tables.load(f"bronze.{stream.name}"))
    objects = {row.object: row.arrived_at.date() for row in rows if row.object is not None}
    days = ", ".join(f"date '{day}'" for day in sorted({*objects.values()}))
    keys = ", ".join(map(literal, sorted(objects)))
    return f"select distinct _object as object from {scan} where arrival_dt in ({days}) and _object in ({keys})"


def _refused(lake: ReadableLake, stream: Stream) -> str:
    arrived = "$since::timestamp is null or _arrived_at >= $since::timestamp"
    return f"""select *
  from (
    select *, list_distinct(list_transform(reasons, lambda reason: {KIND})) as kinds
    from ({open_rows_sql(lake, stream, arrived)})
  )
  where $reason::varchar is null or list_contains(kinds, $reason::varchar)"""


def matches_filter(row: RejectSample, since: datetime | None, reason: str | None) -> bool:
    """Whether a row arrived then or later, and has that reason in the words in which it is counted."""
    kinds = {re.sub(*_PLACE, one) for one in row.reasons}
    return (since is None or row.arrived_at.replace(tzinfo=None) >= since) and (reason is None or reason in kinds)


def reject_samples(rows: Iterable[Mapping[str, Any]], *, just_arrived: bool = False) -> list[RejectSample]:
    """What the rows of `samples_sql` or `recent_rejects_sql` say."""
    return [
        RejectSample(**{**row, "arrived_at": row["arrived_at"].replace(tzinfo=UTC)}, just_arrived=just_arrived)
        for row in rows
    ]


def quarantine_report(
    stream: str, arrived: RecentArrivals, reasons: Iterable[Mapping[str, Any]], samples: Sequence[RejectSample]
) -> QuarantineReport:
    """What the rows of `reasons_sql` say, and samples."""
    rows = 0
    found: list[Reason] = []
    for row in reasons:
        if row["reason"] is None:
            rows = row["rows"]
        else:
            found.append(Reason(**{**row, "last_arrived_at": row["last_arrived_at"].replace(tzinfo=UTC)}))
    return QuarantineReport(stream, rows, arrived, found, list(samples))
