"""Check what features are asked for: their names, and a table of entities with times."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.contracts.sql import literal
from lakehouse.contracts.streams import Stream, find_stream
from lakehouse.engine.connection import columns_of
from lakehouse.errors import ParameterError
from lakehouse.pipeline.lineage.retention import first_kept_day
from lakehouse.pipeline.point_in_time.known_features import MAX_FEW, Requests, entity_column, first_day_read
from lakehouse.pipeline.point_in_time.together import AT, ENTITY, NUMBER, plan
from lakehouse.pipeline.readable_lake import ReadableLake

TIME = "time"
"""The column of the times."""

NOW = "now"
"""The text that stands for the time of the request."""

TIMES = pa.timestamp("us", "UTC")

EXAMPLE = f'{{"device_id": "d1", "{TIME}": "2025-11-20T14:00:00Z"}}'

Entities: TypeAlias = "pa.Table | Iterable[Mapping[str, Any]] | Mapping[str, Sequence[Any]] | Any"
"""Entities with times: an Arrow table, a data frame, an iterable of rows, or a mapping of columns."""


@dataclass(frozen=True, slots=True)
class StreamFeatures:
    """The features that are asked for of one stream."""

    stream: Stream
    entity: str
    """The column that holds the entity."""
    names: tuple[str, ...]
    """Columns of the stream's table of features."""


def find_features(lake: ReadableLake, names: Sequence[str]) -> list[StreamFeatures]:
    """Find features by their names, `stream.feature`, and group them by stream.

    Raises UnknownStreamError and ParameterError, which list what there is.
    """
    if isinstance(names, str) or not names:
        raise ParameterError('Name at least one feature, in a list such as ["iot.readings_7d"].')
    by_stream: dict[str, list[str]] = {}
    for name in names:
        stream, point, feature = name.partition(".") if isinstance(name, str) else ("", "", "")
        if not (stream and point and feature):
            raise ParameterError(f"The feature {name!r} is not named as STREAM.FEATURE, such as iot.readings_7d.")
        if feature in by_stream.setdefault(stream, []):
            raise ParameterError(f"The feature {name} is named twice; name it once.")
        by_stream[stream].append(feature)
    return [_of_stream(lake, stream, features) for stream, features in by_stream.items()]


def _of_stream(lake: ReadableLake, name: str, features: Sequence[str]) -> StreamFeatures:
    stream = find_stream({**lake.streams}, name)
    entity = entity_column(stream)
    columns = [column for column, _ in columns_of(lake.tables.load(f"serving.{name}_features"))]
    known = [column for column in columns if column not in ("dt", entity)]
    for feature in features:
        if feature not in known:
            raise ParameterError(f"There is no feature {feature!r} of {name}; there are {', '.join(known)}.")
    return StreamFeatures(stream, entity, tuple(features))


def read_entities(entities: Entities) -> pa.Table:
    """Read entities with times into a table whose column TIME has UTC times in microseconds.

    Raises ParameterError if they are no table, or if a time is missing or has no time zone.
    """
    if isinstance(entities, list | tuple) or (
        not hasattr(entities, "__arrow_c_stream__") and not isinstance(entities, Mapping | str | bytes)
    ):
        entities = _columns_of_rows(entities)
    try:
        given: Any = entities
        table = given if isinstance(given, pa.Table) else pa.table(given)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ParameterError(f"The entities can't be read as a table ({error}). Give rows such as {EXAMPLE}.") from None
    if TIME not in table.column_names:
        raise ParameterError(
            f"There is no column {TIME!r}; there are {', '.join(table.column_names) or 'none'}. Give rows such as {EXAMPLE}."
        )
    if len(set(table.column_names)) < len(table.column_names):
        raise ParameterError(f"A column is named twice: {', '.join(table.column_names)}.")
    return table.set_column(table.column_names.index(TIME), TIME, _times(table.column(TIME)))


def _columns_of_rows(rows: Any) -> dict[str, list[Any]]:
    try:
        listed = [dict(row) for row in rows]
    except (TypeError, ValueError):
        raise ParameterError(f"The entities are no table and no rows. Give rows such as {EXAMPLE}.") from None
    return {name: [row.get(name) for row in listed] for name in {name: None for row in listed for name in row}} or {
        TIME: []
    }


def _times(column: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if kind != column.type:
        column = column.cast(kind)
    if pa.types.is_timestamp(kind) and kind.tz is None and column.null_count < len(column):
        raise ParameterError(
            f"The times in {TIME!r} have no time zone. Say which they are in, for example"
            ' frame["time"].dt.tz_localize("UTC"), or write 2025-11-20T14:00:00Z.'
        )
    if column.null_count:
        row = pc.index(column.is_null(), value=True).as_py() + 1
        raise _bad_time(row, "is missing")
    if pa.types.is_timestamp(kind):
        floored = column if kind.unit != "ns" else pc.floor_temporal(column, unit="microsecond")
        return floored.cast(TIMES, safe=False)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        now = datetime.now(UTC)
        times: list[Any] = [_time(str(text), row, now) for row, text in enumerate(column.to_pylist(), 1)]
        return _chunked(times)
    if len(column) == 0:
        return _chunked([])
    value = column[0].as_py()
    if isinstance(value, float) and math.isnan(value):
        raise _bad_time(1, "is NaN")
    raise _bad_time(1, f"is {value!r}, which is no time")


def _chunked(times: list[Any]) -> "pa.ChunkedArray[Any]":
    return pa.chunked_array([pa.array(times, type=TIMES)])  # type: ignore[call-overload, unused-ignore]


def _time(text: str, row: int, now: datetime) -> datetime:
    if text.strip() == NOW:
        return now
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise _bad_time(row, f"is {text!r}, which is no time") from None
    if time.tzinfo is None:
        raise _bad_time(row, f"is {text!r}, which has no time zone")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise _bad_time(row, f"is {text!r}, which is out of range in UTC") from None


def _bad_time(row: int, fault: str) -> ParameterError:
    return ParameterError(
        f"Row {row}: {TIME} {fault}. Give a time with its zone, such as 2025-11-20T14:00:00Z, or {NOW!r}."
    )


def stream_requests(lake: ReadableLake, wanted: StreamFeatures, entities: pa.Table) -> pa.Table:
    """Make the requests of one stream, with NUMBER, ENTITY and AT in the types of its features.

    Raises ParameterError if the column of the entity is missing or has a value that is none, or if rows that a time needs
    have been dropped.
    """
    stream, entity = wanted.stream, wanted.entity
    if entity not in entities.column_names:
        raise ParameterError(
            f"There is no column {entity!r}, which the features of {stream.name} need; there are"
            f" {', '.join(entities.column_names)}."
        )
    kind = dict(columns_of(lake.tables.load(f"serving.{stream.name}_features")))[entity]
    column = _entities(entities.column(entity), entity, text=kind == "varchar")
    times = entities.column(TIME)
    _check_kept(stream, times)
    numbers = pa.array(np.arange(len(entities)))
    at = times.cast(pa.timestamp("us"), safe=False)
    columns: dict[str, Any] = {NUMBER: numbers, ENTITY: column, AT: at}
    return pa.table(columns)


def _entities(column: "pa.ChunkedArray[Any]", name: str, *, text: bool) -> "pa.ChunkedArray[Any]":
    """Cast entities to texts or integers. Each must be there, and no value is changed."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    column = column.cast(kind) if kind != column.type else column
    is_missing = column.is_null(nan_is_null=True)
    if (row := pc.index(is_missing, value=True).as_py()) >= 0:
        raise ParameterError(f"Row {row + 1}: {name} is missing. Give each row an entity, or leave the row out.")
    if text and pa.types.is_floating(kind):
        raise ParameterError(f"The column {name!r} has floats such as {column[0]}, but the entities are texts.")
    try:
        return column.cast(pa.string() if text else pa.int64())
    except pa.ArrowException as error:
        wanted = "texts" if text else "integers of 64 bits"
        raise ParameterError(f"The values in {name!r} are no {wanted} ({error}).") from None


def _check_kept(stream: Stream, times: "pa.ChunkedArray[Any]") -> None:
    first = first_kept_day(stream.contract, "silver")
    if first is None or not len(times):
        return
    earliest: datetime = pc.min(times).as_py()
    if first_day_read(max(earliest.date(), stream.contract.history_start)) < first:
        raise ParameterError(
            f"Features of {stream.name} at {earliest:%Y-%m-%dT%H:%M:%SZ} need rows of the 30 days before, but its contract"
            f" keeps silver since {first} only. Ask for later times."
        )


def add_features(entities: pa.Table, names: Sequence[str], computed: Mapping[StreamFeatures, pa.Table]) -> pa.Table:
    """Add a column for each feature. `computed` has the features of each stream, with NUMBER, in any order of rows.

    Raises ParameterError if the entities have such a column already.
    """
    columns: dict[str, Any] = {}
    for of_stream, rows in computed.items():
        table = rows.sort_by(NUMBER)
        columns |= {f"{of_stream.stream.name}.{name}": table.column(name) for name in of_stream.names}
    for name in names:
        if name in entities.column_names:
            raise ParameterError(f"The entities have a column {name!r} already. Rename it.")
        entities = entities.append_column(name, columns[name])
    return entities


def days_of(stream: Stream, times: "pa.ChunkedArray[Any]") -> list[date]:
    """List the distinct days of these times, from the start of the stream's history on."""
    dates = times.cast(pa.timestamp("us"), safe=False).cast(pa.date32(), safe=False)
    days: list[Any] = pc.unique(dates).to_pylist()
    return sorted(day for day in days if day >= stream.contract.history_start)


def describe_requests(wanted: StreamFeatures, requests: pa.Table, source: str) -> Requests:
    """Describe requests that can be read from `source`, a FROM item, as their SQL needs it."""
    at, entities = requests.column(AT), requests.column(ENTITY)
    literals = None if len(requests) > MAX_FEW else [*map(_literal, pc.unique(entities).to_pylist())]
    times: list[Any] = [] if plan(wanted.stream, wanted.names) else pc.unique(at).to_pylist()
    return Requests(source, days_of(wanted.stream, at), literals, times)


def inline_requests(requests: pa.Table) -> str:
    """Write requests as a FROM item with the same rows, so that a process without a table of them can compute them."""
    rows = ",\n".join(
        f"({row[NUMBER]}, {_literal(row[ENTITY])}, timestamp '{row[AT]}')" for row in requests.to_pylist()
    )
    return f"(select * from (values {rows}) as given({NUMBER}, {ENTITY}, {AT}))"


def _literal(entity: Any) -> str:
    return literal(entity) if isinstance(entity, str) else f"{entity}::bigint"
