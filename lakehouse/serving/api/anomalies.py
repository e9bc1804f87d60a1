"""Route `/v1/anomalies`: the anomalies of all streams that detect any, those of the last seconds included."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import msgspec
from litestar import Router, get
from litestar.params import QueryParameter

from lakehouse.contracts.sql import literal
from lakehouse.contracts.times import naive_utc
from lakehouse.http.problems import error_responses
from lakehouse.serving.api.state import HttpRequest, Serving
from lakehouse.serving.monitoring.anomalies import anomalies_table

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


router = Router("/v1/anomalies", route_handlers=[anomalies], tags=["alerts and quarantine"])
