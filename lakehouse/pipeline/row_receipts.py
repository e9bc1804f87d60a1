"""Find out what became of a row that has landed: in which layer it is, whose duplicate, rejected why, or gone why.

A row's place is its landing object and its number there, as the receipt of a POST, `_object` and `_row` have them. The
search asks for rows by `yield`, so that a process runs its SQL where it can: see `find_row`.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from lakehouse.contracts.sql import clean_sql, literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.landing.keys import arrival_hour, hour_of
from lakehouse.landing.shared import has_landed
from lakehouse.pipeline.erasure_log import erased_rows
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.retention import first_kept_day, is_expired
from lakehouse.pipeline.lineage.staleness import last_changes, older_days
from lakehouse.pipeline.readable_lake import ReadableLake
from lakehouse.pipeline.withdrawal_log import withdrawn_objects

Outcome = Literal["silver", "duplicate", "rejected", "bronze", "realtime", "landed", "expired", "withdrawn", "erased"]


@dataclass(frozen=True, slots=True)
class Place:
    """A landing object, and the number of a row in it, from 1."""

    object: str
    row: int


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a row."""

    outcome: Outcome
    day: date | None = None
    """The partition of silver and quarantine."""
    reasons: tuple[str, ...] = ()
    duplicate_of: Place | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A SELECT to run over the lake, with its parameters."""

    sql: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


Rows = list[dict[str, Any]]
Search = Generator[Question, Rows, Found | None]

MEANINGS: Mapping[Outcome, str] = {
    "silver": "Silver has it.",
    "duplicate": "A later row has its key, or an equal row is in quarantine.",
    "rejected": "Quarantine has it, with the reasons.",
    "bronze": "Bronze has it. Its day is about to be computed; the unified view has it until then if it is valid.",
    "realtime": "The unified view has it. It reaches silver when its day is computed.",
    "landed": "It is stored, and no table has it yet.",
    "expired": "It is older than the contract keeps.",
    "withdrawn": "Its landing object was withdrawn.",
    "erased": "Rows of its landing object were erased.",
}


def find_row(lake: ReadableLake, stream: Stream, place: Place) -> Search:
    """Search the tables for a row. Returns None if no table has it.

    Yields one question after another; send it the rows of the answer. Blocks while metadata of tables is read.
    """
    bronze = lake.tables.load(f"bronze.{stream.name}")
    at = {"object": place.object, "row": place.row}
    hour = hour_of(place.object)
    arrived = f"arrival_dt = date '{hour.date()}' and " if hour else ""
    keys = ", ".join(map(quote, stream.contract.key))
    found = yield Question(
        f"""with place as (
          select * from {scan_sql(bronze)} where {arrived}_object = $object and _row = $row
        )
        select dt, _arrived_at, _valid, {keys} from ({clean_sql(stream.contract, "place")})""",
        at,
    )
    if not found:
        return (yield from _find_in_realtime(lake, stream, place, hour))
    (row,) = found
    day: date = row["dt"]
    if (first := first_kept_day(stream.contract, "silver")) and day < first:
        return Found("expired", day)
    holders = yield _holders(lake, stream, place, row)
    if rejected := [holder for holder in holders if holder["layer"] == "quarantine"]:
        return Found("rejected", day, reasons=tuple(rejected[0]["reasons"]))
    kept = (yield from _kept_row(lake, stream, row, holders)) if row["_valid"] else None
    if kept == place:
        return Found("silver", day)
    if older_days(bronze, {day: last_changes(bronze).get(day, 0)}, lake.tables.load(f"silver.{stream.name}")):
        return Found("bronze", day)
    return Found("duplicate", day, duplicate_of=kept)


def find_row_here(lake: Lake, stream: Stream, place: Place) -> Found | None:
    """Find a row by this process's own database, in the tables, in landing, or why it is gone. None if it never was there.

    Raises StorageUnavailableError and UnreadableTableError.
    """
    search, rows = find_row(lake, stream, place), None
    while True:
        try:
            question = search.send(rows)  # type: ignore[arg-type]
        except StopIteration as end:
            found: Found | None = end.value
            return found or find_outside_tables(lake, stream, place)
        with lake.engine.cursor() as cursor:
            rows = cursor.execute(question.sql, question.parameters).to_arrow_table().to_pylist()


def find_outside_tables(lake: Lake, stream: Stream, place: Place) -> Found | None:
    """Find a row that no table has: in landing, or why it is gone. None if it never was there. Blocks.

    Raises StorageUnavailableError.
    """
    hour, objects = hour_of(place.object), lake.objects
    if place.object in withdrawn_objects(objects, stream.name):
        return Found("withdrawn")
    if place.object in erased_rows(objects, stream.name):
        return Found("erased")
    if hour is not None and is_expired(stream.contract, "bronze", hour.date()):
        return Found("expired")
    with lake.engine.cursor() as cursor:
        bronze = scan_sql(lake.tables.load(f"bronze.{stream.name}"))
        arrived = f"arrival_dt = date '{hour.date()}' and " if hour else ""
        sql = f"select 1 from {bronze} where {arrived}_object = $object limit 1"
        if cursor.execute(sql, {"object": place.object}).fetchall():
            return None  # its other rows are there
    return Found("landed") if has_landed(objects, place.object) else None


def _holders(lake: ReadableLake, stream: Stream, place: Place, row: Mapping[str, Any]) -> Question:
    """Ask at once who may hold a row: quarantine; silver, by its key; and bronze, the last row with its key and arrival."""
    quarantine, silver = (scan_sql(lake.tables.load(f"{layer}.{stream.name}")) for layer in ("quarantine", "silver"))
    of_day = f"dt = date '{row['dt']}'"
    same, key = _same_key(stream, row)
    last = _last_row(lake, stream, row["dt"], same)
    sql = f"""select 'quarantine' as layer, reasons, null::timestamp as _arrived_at, _object, _row
        from {quarantine}
        where {of_day} and _object = $object and _row = $row
        union all
        select 'silver', null, _arrived_at, null, null from {silver} where {of_day} and {same}
        union all
        select 'bronze', null, $arrived::timestamp, _object, _row from ({last})"""
    return Question(sql, {**key, "object": place.object, "row": place.row, "arrived": _naive(row["_arrived_at"])})


def _kept_row(
    lake: ReadableLake, stream: Stream, row: Mapping[str, Any], holders: Rows
) -> Generator[Question, Rows, Place | None]:
    """Find the place of the row that silver has of a key: the last one that arrived when silver's row did."""
    held = [holder["_arrived_at"] for holder in holders if holder["layer"] == "silver"]
    if not held:
        return None
    if _naive(held[0]) == _naive(row["_arrived_at"]):
        last = [holder for holder in holders if holder["layer"] == "bronze"]
    else:
        same, key = _same_key(stream, row)
        last = yield Question(_last_row(lake, stream, row["dt"], same), {**key, "arrived": _naive(held[0])})
    return Place(last[0]["_object"], last[0]["_row"]) if last else None


def _last_row(lake: ReadableLake, stream: Stream, day: date, same: str) -> str:
    """Write the SELECT of the place of the last valid row of bronze that has a key, and arrived at `$arrived`."""
    bronze = scan_sql(lake.tables.load(f"bronze.{stream.name}"))
    return f"""with near as (select * from {bronze} where dt = date '{day}' and _arrived_at = $arrived::timestamp)
        select _object, _row from ({clean_sql(stream.contract, "near")})
        where _valid and {same}
        order by _object desc, _row desc
        limit 1"""


def _same_key(stream: Stream, row: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Write the condition that a row has this row's key, and its parameters."""
    key = {f"key{number}": row[name] for number, name in enumerate(stream.contract.key)}
    names = zip(stream.contract.key, key, strict=True)
    return " and ".join(f"{quote(name)} is not distinct from ${number}" for name, number in names), key


def _naive(time: datetime) -> datetime:
    return time.replace(tzinfo=None)


def _find_in_realtime(lake: ReadableLake, stream: Stream, place: Place, hour: datetime | None) -> Search:
    if hour is None:
        return None
    realtime = scan_sql(lake.tables.load(f"realtime.{stream.name}"))
    where = f"arrival_hour = {literal(arrival_hour(hour))} and _object = $object and _row = $row"
    found = yield Question(f"select dt from {realtime} where {where}", {"object": place.object, "row": place.row})
    return Found("realtime", found[0]["dt"]) if found else None
