"""Alerts are listed in order, each once, a page at a time, and event streams are kept alive."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar.response.sse import ServerSentEventMessage

from lakehouse.errors import QueryError
from lakehouse.pipeline.table_specs import ALERT_COLUMNS
from lakehouse.serving.api.sse import keep_alive
from lakehouse.serving.monitoring.alerts import (
    Alert,
    AlertCursor,
    AlertsVersion,
    encode_cursor,
    merge_alerts,
    newest_sql,
    page_sql,
    parse_since,
)

NOON = datetime(2025, 11, 20, 12, tzinfo=UTC)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
alerts = st.builds(
    Alert,
    stream=st.sampled_from(["iot", "logs"]),
    alert=st.sampled_from(["a", "b"]),
    severity=st.just("info"),
    entity=st.none() | texts,
    event_time=st.integers(0, 3).map(lambda n: NOON + timedelta(microseconds=n)),
    value=st.just(1.0),
    threshold=st.none(),
    message=st.none(),
    dt=st.just(NOON.date()),
    event_key=st.none() | texts,
)


def database_with(stored: list[Alert]) -> duckdb.DuckDBPyConnection:
    """Create alert tables that hold these alerts."""
    database = duckdb.connect()
    database.execute("create schema serving")
    columns = ", ".join(f"{name} {kind}" for name, kind in ALERT_COLUMNS)
    for stream in ("iot", "logs"):
        database.execute(f"create table serving.{stream}_alerts ({columns})")
        for alert in stored:
            if alert.stream == stream:
                row = [getattr(alert, name) for name, _ in ALERT_COLUMNS]
                row[4] = alert.event_time.replace(tzinfo=None)
                database.execute(f"insert into serving.{stream}_alerts values ({', '.join('?' * len(row))})", row)
    return database


def read_page(database: duckdb.DuckDBPyConnection, place: tuple[str, ...] | None, limit: int) -> list[Alert]:
    tables = {name: f"from serving.{name}_alerts" for name in ("iot", "logs")}
    sql, parameters = newest_sql(tables, limit) if place is None else page_sql(tables, place, limit)
    rows: list[dict[str, Any]] = database.execute(sql, parameters).to_arrow_table().to_pylist()
    return [Alert.of(row) for row in rows]


def identity(alert: Alert) -> tuple[object, ...]:
    return (alert.event_time, alert.stream, alert.alert, alert.dt, alert.entity or "", alert.event_key or "")


@settings(max_examples=50)
@given(st.lists(alerts, unique_by=identity, max_size=12), st.integers(1, 4))
def test_pages_hold_each_alert_once_in_order(stored: list[Alert], limit: int) -> None:
    database = database_with(stored)
    place, seen = parse_since("2025-11-20").place, list[Alert]()
    while page := read_page(database, place, limit):
        assert len(page) <= limit
        seen += page
        place = page[-1].sort_key
    assert [identity(alert) for alert in seen] == sorted(map(identity, stored))
    newest = read_page(database, None, limit)
    assert [identity(alert) for alert in newest] == sorted(map(identity, stored), reverse=True)[:limit]


def alert(**fields: Any) -> Alert:
    plain: dict[str, Any] = {
        "stream": "iot", "alert": "a", "severity": "info", "entity": "e", "event_time": NOON, "value": 1.0,
        "threshold": None, "message": None, "dt": date(2025, 11, 20), "event_key": "k",
    }  # fmt: skip
    return Alert(**plain | fields)


def test_stored_alert_replaces_the_fed_one() -> None:
    early, late = alert(value=20.0), alert(value=35.0, event_time=NOON - timedelta(minutes=1))
    other = alert(event_key="other", event_time=NOON + timedelta(minutes=1))
    assert merge_alerts([late], [other, early], ()) == [late, other]
    assert merge_alerts([], [early, other], parse_since("2025-11-20T12:00:30Z").place) == [other]


VERSION = AlertsVersion({"iot": 1}, "a-1")
PLACE = alert().sort_key


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "2025-13-01", "WyJhIl0", "AAAA", "é", "W10", "0", "99999-01-01"),
        encode_cursor(AlertCursor()),
        encode_cursor(AlertCursor(until=VERSION)),
        encode_cursor(AlertCursor(PLACE)),
        encode_cursor(AlertCursor(PLACE[:1], until=VERSION)),
        encode_cursor(AlertCursor(("2025-11-20T12:00:00", *PLACE[1:]), until=VERSION)),
        encode_cursor(AlertCursor((*PLACE[:3], "20251120", *PLACE[4:]), until=VERSION)),
    ],
)
def test_invalid_since_is_rejected(text: str) -> None:
    with pytest.raises(QueryError, match="is neither a time"):
        parse_since(text)


@pytest.mark.parametrize(
    "cursor", [AlertCursor(seen=VERSION), AlertCursor(PLACE, VERSION, VERSION), AlertCursor(PLACE, until=VERSION)]
)
def test_cursor_survives_encoding(cursor: AlertCursor) -> None:
    assert parse_since(encode_cursor(cursor)) == cursor


@pytest.mark.parametrize("text", ["2025-11-20T14:00:00+02:00", "2025-11-20T12:00:00Z", "2025-11-20T12:00:00"])
def test_time_is_converted_to_utc(text: str) -> None:
    assert parse_since(text).place == ("2025-11-20 12:00:00.000000",)


@pytest.mark.parametrize("ends", [True, False])
def test_keep_alive_fills_silence_and_closes_its_source(ends: bool) -> None:
    closed: list[bool] = []

    async def source() -> AsyncGenerator[ServerSentEventMessage, None]:
        try:
            yield ServerSentEventMessage(data="1")
            await asyncio.sleep(0.1 if ends else 60)
            yield ServerSentEventMessage(data="2")
        finally:
            closed.append(True)

    async def receive() -> list[object]:
        received: list[object] = []
        messages = keep_alive(source(), asyncio.Event(), 0.03)
        async for message in messages:
            received.append(message.data or message.comment)
            if not ends and len(received) == 4:
                break
        await messages.aclose()  # type: ignore[attr-defined]
        return received

    received = asyncio.run(asyncio.wait_for(receive(), 20))
    assert received[0] == "1"
    assert "keep-alive" in received
    assert (received[-1] == "2") is ends
    assert closed == [True]
