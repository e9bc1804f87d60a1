"""Routes under `/v1/anomalies`: the anomalies of all streams that detect any, and a series with its band."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Router, get
from litestar.params import QueryParameter

from lakehouse.anomalies.extremes import Floats
from lakehouse.contracts.sql import literal
from lakehouse.contracts.times import naive_utc
from lakehouse.http.problems import Problem, error_responses
from lakehouse.serving.api.state import HttpRequest, Serving
from lakehouse.serving.monitoring.anomalies import anomalies_table
from lakehouse.serving.monitoring.anomaly_band import band_of

DEFAULT_AGE = timedelta(days=7)


class Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    """An unusual value of a series, or its silence."""

    stream: str
    entity: str
    """The values that tell the series from others."""
    event_time: datetime
    kind: str
    """spike, dip, shift_up, shift_down, spread, pattern, quiet, stuck or silence."""
    severity: str
    value: float | None
    """Null for a silence, as are the expected value and the band."""
    expected: float | None
    low: float | None
    high: float | None
    score: float
    """How rare it is, as a multiple of what is needed for an anomaly."""
    contribution: dict[str, float]
    """The share that each kind has in it."""
    message: str
    dt: date
    event_key: str
    """Key of the event that it began with."""


class AnomalyList(msgspec.Struct, frozen=True):
    """Anomalies, newest first."""

    anomalies: list[Anomaly]


StreamParameter = Annotated[str | None, QueryParameter(description="Only anomalies of this stream.")]
EntityParameter = Annotated[
    str | None,
    QueryParameter(
        max_length=1000, description="Only anomalies of the series of this `entity`, such as `d1, temperature`."
    ),
]
SinceParameter = Annotated[
    datetime | None, QueryParameter(description="Only anomalies since this time; without it, those of seven days.")
]
LimitParameter = Annotated[int, QueryParameter(ge=1, le=1000, description="Maximum number of anomalies.")]


@get("/", summary="List anomalies", responses=error_responses(400, 401, 403, 404, 408, 429, 503))
async def anomalies(
    request: HttpRequest,
    serving: Serving,
    stream: StreamParameter = None,
    entity: EntityParameter = None,
    since: SinceParameter = None,
    limit: LimitParameter = 100,
) -> AnomalyList:
    """List anomalies, newest first, including those of the last seconds. Streams whose contract declares none have none."""
    snapshot = serving.snapshot
    names = serving.selected_streams(request, stream)
    names = [name for name in names if anomalies_table(snapshot, name) is not None]
    if not names:
        return AnomalyList([])
    first = naive_utc(since or datetime.now(UTC) - DEFAULT_AGE)
    result = await serving.readers.run(
        _newest_sql(names, entity), [*_parameters(first, entity), limit], snapshot=snapshot
    )
    stored: list[dict[str, Any]] = result.table.to_pylist()
    fresh = [
        {**row, "stream": name, "dt": row["event_time"].date()}
        for name in names
        for row in serving.anomaly_tails.found(name)
        if row["event_time"] >= first and entity in (None, row["entity"])
    ]
    by_identity = {_identity(row): row for row in (*fresh, *stored)}
    newest = sorted(by_identity.values(), key=lambda row: row["event_time"], reverse=True)
    return AnomalyList([_anomaly(row) for row in newest[:limit]])


def _newest_sql(streams: Sequence[str], entity: str | None) -> str:
    columns = ", ".join(name for name in Anomaly.__struct_fields__ if name != "stream")
    where = "dt >= ?::date and event_time >= ?::timestamp" + (" and entity = ?" if entity is not None else "")
    selects = (f"select {literal(name)} as stream, {columns} from serving.{name}_anomalies" for name in streams)
    return f"select * from ({' union all '.join(selects)}) where {where} order by event_time desc limit ?"


def _parameters(first: datetime, entity: str | None) -> list[str]:
    return [first.date().isoformat(), first.isoformat(" "), *([] if entity is None else [entity])]


def _identity(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["stream"], row["entity"], row["kind"], row["event_key"]


def _anomaly(row: Mapping[str, Any]) -> Anomaly:
    values: dict[str, Any] = {name: row.get(name) for name in Anomaly.__struct_fields__}
    times = {"event_time": row["event_time"].replace(tzinfo=UTC), "contribution": json.loads(row["contribution"])}
    return Anomaly(**values | times)


class SeriesBand(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a series on a day, a list for each column, with what its detector expected."""

    stream: str
    entity: str
    day: date
    rows: int
    """How many rows the series has on the day; the lists hold the last of them."""
    event_time: list[datetime]
    value: list[float]
    expected: list[float | None]
    low: list[float | None]
    """The lower end of the band of normal values; null while the detector knows too little."""
    high: list[float | None]
    is_anomaly: list[bool]


DayParameter = Annotated[date | None, QueryParameter(description="The day, UTC; without it, today.")]
RowsParameter = Annotated[
    int, QueryParameter(ge=1, le=20_000, description="Maximum number of rows, the last of the day.")
]


@get("/series", summary="Get a series with its band", responses=error_responses(400, 401, 403, 404, 408, 429, 503))
async def series(
    request: HttpRequest,
    serving: Serving,
    stream: Annotated[str, QueryParameter(description="A stream whose contract declares anomalies.")],
    entity: Annotated[str, QueryParameter(max_length=1000, description="The series, as anomalies name it.")],
    day: DayParameter = None,
    rows: RowsParameter = 5_000,
) -> SeriesBand:
    """Return the values of a series on a day, the expected ones, and the band of normal values, as its detector has them."""
    snapshot, found = serving.snapshot, serving.get_stream(request, stream)
    day = day or datetime.now(UTC).date()
    if anomalies_table(snapshot, stream) is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"The contract of {stream} declares no anomalies.")
    band = await band_of(serving.readers, snapshot, found, entity, day)
    if band is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"{stream} has no series {entity!r} with rows on {day}.")
    shown = band.last(rows)
    return SeriesBand(
        stream=stream,
        entity=entity,
        day=day,
        rows=len(band.times),
        event_time=[datetime.fromtimestamp(seconds, UTC) for seconds in shown.times.tolist()],
        value=shown.values.tolist(),
        expected=_numbers(shown.expected),
        low=_numbers(shown.low),
        high=_numbers(shown.high),
        is_anomaly=[*shown.is_anomaly],
    )


def _numbers(values: Floats) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]


router = Router("/v1/anomalies", route_handlers=[anomalies, series], tags=["alerts and quarantine"])
