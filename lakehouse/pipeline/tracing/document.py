"""The document of a trace, the same on the command line and over HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from lakehouse.pipeline.tracing.places import Places
from lakehouse.pipeline.tracing.trace import DayOrigin, ObjectOrigin, RowOrigin, StreamOrigins, Trace


@dataclass(frozen=True, slots=True)
class TracedStep:
    """A step of the way: from the rows of a table to those of one that it is computed from."""

    table: str
    source: str
    by_row: bool
    """Whether the rows are those that were used; else they are all rows of the days that were read."""
    reason: str
    """Why they are all of them."""
    stale: list[date]
    """Days that changed in the source after the table was computed."""


@dataclass(frozen=True, slots=True)
class TracedDay:
    """The rows of the landing objects on one day: landed = silver + quarantined + duplicates + unaccounted."""

    day: date
    rows: int
    """How many rows were traced."""
    landed: int
    silver: int
    quarantined: int
    duplicates: int
    unaccounted: int
    """Not 0 only while the day is stale, or if something is wrong."""
    partition: dict[str, int] | None
    """The ledger of the whole day; null if it was not computed yet, or its snapshot has expired."""


@dataclass(frozen=True, slots=True)
class TracedObject:
    """The rows of one landing object on one day."""

    object: str
    day: date
    rows: int
    """How many rows were traced."""
    landed: int | None
    """Null, as the other counts, of an object that only realtime has."""
    silver: int | None
    quarantined: int | None
    duplicates: int | None
    bytes: int | None
    """As stored; null if the object is gone."""
    stored_in: str | None
    """The shared object that holds it, for keys that may read all streams; null if it is stored by itself."""
    stored_from: int | None
    """How many bytes of the shared object are before it."""


@dataclass(frozen=True, slots=True)
class TracedRow:
    """One row of bronze, or of realtime."""

    object: str
    row: int
    """Its number in the object, from 1."""
    day: date
    key: dict[str, str | None]
    first_byte: int | None
    """How many bytes of the landing object are before it; null if that is not known."""
    bytes: int | None


@dataclass(frozen=True, slots=True)
class TracedStream:
    """The origins of rows in one stream."""

    stream: str
    silver_rows: int
    without_bronze: int
    """Rows of silver without their row of bronze, because that has expired or was erased."""
    bronze_rows: int
    realtime_rows: int
    """Rows of the unified view that silver lacks, and realtime has."""
    tail_rows: int
    """Rows of the unified view that no table has yet. Their place is known once realtime has them, in some minutes."""
    objects: int
    days: list[TracedDay]
    by_object: list[TracedObject]
    """The landing objects with most of the rows."""
    rows: list[TracedRow]


@dataclass(frozen=True, slots=True)
class TraceDocument:
    """The origins of the rows of a table that meet a condition."""

    table: str
    where: str
    matched: int
    """How many rows of the table meet the condition."""
    steps: list[TracedStep]
    streams: list[TracedStream]


def make_document(trace: Trace, places: Mapping[str, Places], *, shared: bool = True) -> TraceDocument:
    """Make the document of a trace, with the places of each stream's rows.

    Without `shared`, the names of shared objects are left out, because they tell of other streams.
    """
    steps = [TracedStep(hop.table, hop.source, hop.by_row, hop.reason, [*hop.stale]) for hop in trace.hops]
    streams = [_stream(origins, places.get(origins.stream, Places()), shared) for origins in trace.streams]
    return TraceDocument(trace.table, trace.where, trace.matched, steps, streams)


def _stream(origins: StreamOrigins, places: Places, shared: bool) -> TracedStream:
    return TracedStream(
        origins.stream,
        origins.silver_rows,
        origins.without_bronze,
        origins.bronze_rows,
        origins.realtime_rows,
        origins.tail_rows,
        origins.objects,
        [*map(_day, origins.days)],
        [_object(each, places, shared) for each in origins.by_object],
        [_row(row, places) for row in origins.rows],
    )


def _day(day: DayOrigin) -> TracedDay:
    counts = (day.rows, day.landed, day.silver, day.quarantined, day.duplicates)
    return TracedDay(day.day, *counts, day.unaccounted, dict(day.partition) if day.partition else None)


def _object(origin: ObjectOrigin, places: Places, shared: bool) -> TracedObject:
    counts = (origin.rows, origin.landed, origin.silver, origin.quarantined, origin.duplicates)
    landed = places.objects.get(origin.object)
    size = landed.size if landed else None
    store = (landed.shared_key, landed.offset) if landed and landed.shared_key and shared else (None, None)
    return TracedObject(origin.object, origin.day, *counts, size, *store)


def _row(row: RowOrigin, places: Places) -> TracedRow:
    position = places.rows.get((row.object, row.row))
    place = (position.first_byte, position.bytes) if position else (None, None)
    return TracedRow(row.object, row.row, row.day, dict(row.key), *place)
