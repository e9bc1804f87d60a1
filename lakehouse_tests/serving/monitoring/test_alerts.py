"""Alerts are listed in order, each once, a page at a time."""

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
from lakehouse.serving.api.sse import kept_alive
from lakehouse.serving.monitoring.alerts import Alert, Seen, Since, cursor_of, merged, newest_sql, page_sql, parse_since

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


def stored(found: list[Alert]) -> duckdb.DuckDBPyConnection:
    """Tables with these alerts."""
    database = duckdb.connect()
    database.execute("create schema serving")
    columns = ", ".join(f"{name} {kind}" for name, kind in ALERT_COLUMNS)
    for stream in ("iot", "logs"):
        database.execute(f"create table serving.{stream}_alerts ({columns})")
        for alert in found:
            if alert.stream == stream:
                row = [getattr(alert, name) for name, _ in ALERT_COLUMNS]
                row[4] = alert.event_time.replace(tzinfo=None)
                database.execute(f"insert into serving.{stream}_alerts values ({', '.join('?' * len(row))})", row)
    return database


def ask(database: duckdb.DuckDBPyConnection, place: tuple[str, ...] | None, limit: int) -> list[Alert]:
    tables = {name: f"from serving.{name}_alerts" for name in ("iot", "logs")}
    sql, parameters = newest_sql(tables, limit) if place is None else page_sql(tables, place, limit)
    rows: list[dict[str, Any]] = database.execute(sql, parameters).to_arrow_table().to_pylist()
    return [Alert.of(row) for row in rows]


def identity(alert: Alert) -> tuple[object, ...]:
    return (alert.event_time, alert.stream, alert.alert, alert.dt, alert.entity or "", alert.event_key or "")


@settings(deadline=None, max_examples=50)
@given(st.lists(alerts, unique_by=identity, max_size=12), st.integers(1, 4))
def test_a_reader_who_goes_from_place_to_place_sees_each_alert_once_and_in_order(
    found: list[Alert], limit: int
) -> None:
    database = stored(found)
    place, seen = parse_since("2025-11-20").place, list[Alert]()
    while page := ask(database, place, limit):
        assert len(page) <= limit
        seen += page
        place = page[-1].place
    assert [identity(alert) for alert in seen] == sorted(map(identity, found))
    newest = ask(database, None, limit)
    assert [identity(alert) for alert in newest] == sorted(map(identity, found), reverse=True)[:limit]


def alert(**fields: Any) -> Alert:
    plain: dict[str, Any] = {
        "stream": "iot", "alert": "a", "severity": "info", "entity": "e", "event_time": NOON, "value": 1.0,
        "threshold": None, "message": None, "dt": date(2025, 11, 20), "event_key": "k",
    }  # fmt: skip
    return Alert(**plain | fields)


def test_what_a_table_holds_stands_for_what_was_known_earlier() -> None:
    early, late = alert(value=20.0), alert(value=35.0, event_time=NOON - timedelta(minutes=1))
    other = alert(event_key="other", event_time=NOON + timedelta(minutes=1))
    assert merged([late], [other, early], ()) == [late, other]
    assert merged([], [early, other], parse_since("2025-11-20T12:00:30Z").place) == [other]


SEEN = Seen({"iot": 1}, "a-1")
PLACE = alert().place


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "2025-13-01", "WyJhIl0", "AAAA", "é", "W10", "0", "99999-01-01"),
        cursor_of(Since()),
        cursor_of(Since(until=SEEN)),
        cursor_of(Since(PLACE)),
        cursor_of(Since(PLACE[:1], until=SEEN)),
        cursor_of(Since(("2025-11-20T12:00:00", *PLACE[1:]), until=SEEN)),
        cursor_of(Since((*PLACE[:3], "20251120", *PLACE[4:]), until=SEEN)),
    ],
)
def test_what_is_neither_a_time_nor_a_cursor_is_refused(text: str) -> None:
    with pytest.raises(QueryError, match="is neither a time"):
        parse_since(text)


@pytest.mark.parametrize("since", [Since(seen=SEEN), Since(PLACE, SEEN, SEEN), Since(PLACE, until=SEEN)])
def test_a_cursor_is_what_it_was_made_of(since: Since) -> None:
    assert parse_since(cursor_of(since)) == since


@pytest.mark.parametrize("text", ["2025-11-20T14:00:00+02:00", "2025-11-20T12:00:00Z", "2025-11-20T12:00:00"])
def test_a_time_is_taken_in_utc(text: str) -> None:
    assert parse_since(text).place == ("2025-11-20 12:00:00.000000",)


@pytest.mark.parametrize("ends", [True, False])
def test_silence_is_broken_and_an_end_is_an_end(ends: bool) -> None:
    closed: list[bool] = []

    async def source() -> AsyncGenerator[ServerSentEventMessage, None]:
        try:
            yield ServerSentEventMessage(data="1")
            await asyncio.sleep(0.1 if ends else 60)
            yield ServerSentEventMessage(data="2")
        finally:
            closed.append(True)

    async def hear() -> list[object]:
        heard: list[object] = []
        messages = kept_alive(source(), asyncio.Event(), 0.03)
        async for message in messages:
            heard.append(message.data or message.comment)
            if not ends and len(heard) == 4:
                break
        await messages.aclose()  # type: ignore[attr-defined]
        return heard

    heard = asyncio.run(asyncio.wait_for(hear(), 20))
    assert heard[0] == "1"
    assert "still here" in heard
    assert (heard[-1] == "2") is ends
    assert closed == [True]
