"""A client that follows the cursor receives every new alert once, whenever its event happened."""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from lakehouse.contracts.sql import literal
from lakehouse.pipeline.commits import replace_days
from lakehouse.pipeline.table_specs import ALERT_COLUMNS, empty_sql
from lakehouse.serving.monitoring.alert_feed import AlertFeed, _StreamAlerts
from lakehouse.serving.monitoring.alert_pages import AlertPages
from lakehouse.serving.monitoring.alerts import Alert, parse_since
from lakehouse.serving.monitoring.anomalies import AnomalyTails
from lakehouse.serving.query.reader_pool import ReaderPool
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker
from lakehouse.storage.iceberg.snapshots import expire
from lakehouse_tests.nightly import more_at_night
from lakehouse_tests.pipeline.own import Own, span
from lakehouse_tests.serving.query.trackers import reading

DAYS = span(date(2021, 6, 1), 3)


class AlertClient:
    """The alert table and feed of one stream, and a client that follows the cursor."""

    def __init__(self, own: Own, tracker: SnapshotTracker, readers: ReaderPool) -> None:
        self.name = f"serving.{own.name}_alerts"
        self._own = own
        self._tracker = tracker
        self._feed = AlertFeed(tracker, readers, AnomalyTails(readers))
        self._state = _StreamAlerts()
        self._pages = AlertPages(tracker, readers, self._feed)
        self._cursor = "2010-01-01"
        self.table: dict[date, list[Alert]] = {}

    def alert(self, key: str, day: date, minute: int = 0, value: float = 1.0) -> Alert:
        """Return an alert of that day."""
        at = datetime(day.year, day.month, day.day, 12, minute, tzinfo=UTC)
        return Alert(
            stream=self._own.name, alert="a", severity="info", entity=None, event_time=at, value=value,
            threshold=None, message="it's \"odd\"", dt=day, event_key=key,
        )  # fmt: skip

    def store(self, day: date, *alerts: Alert) -> None:
        """Replace a day of the table with these alerts."""
        rows = [
            "select " + ", ".join(f"{_sql(getattr(alert, name))}::{kind} as {name}" for name, kind in ALERT_COLUMNS)
            for alert in alerts
        ]
        replace_days(self._own.lake, self.name, " union all ".join(rows) or empty_sql(ALERT_COLUMNS), [day])
        self.table[day] = [*alerts]
        self._tracker.refresh()

    def feed(self, *fresh: Alert) -> None:
        """Add these alerts, and those of the table, to the feed."""
        stored: dict[tuple[object, ...], Alert] = {
            alert.identity: alert for alerts in self.table.values() for alert in alerts
        }
        self._feed._add(self._state, stored, self._state.fresh | {alert.identity: alert for alert in fresh})

    def restart(self) -> None:
        """Replace the feed with that of a new process."""
        self.__init__(self._own, self._tracker, self._pages._readers)  # type: ignore[misc]

    def page(self, limit: int = 100) -> list[Alert]:
        """Read the next page."""
        page = asyncio.run(self._pages.since([self._own.name], parse_since(self._cursor), limit))
        self._cursor = page.next
        return page.alerts

    def rest(self, limit: int = 100) -> list[Alert]:
        """Read all pages up to the first empty one."""
        alerts: list[Alert] = []
        while page := self.page(limit):
            assert len(page) <= limit
            alerts += page
        return alerts

    def newest(self, limit: int) -> list[Alert]:
        """Read the newest alerts. The next page continues after them."""
        page = asyncio.run(self._pages.newest([self._own.name], limit))
        self._cursor = page.next
        return page.alerts

    def expire_history(self) -> None:
        """Expire all snapshots of the table but the current one."""
        table = self._own.lake.tables.load(self.name)
        current = table.current_snapshot()
        assert expire(table, [snapshot for snapshot in table.metadata.snapshots if snapshot != current], {})
        self._tracker.refresh()


def _sql(value: Any) -> str:
    match value:
        case None | float():
            return "null" if value is None else str(value)
        case datetime():
            return literal(f"{value:%Y-%m-%d %H:%M:%S}")
        case _:
            return literal(str(value))


@pytest.fixture
def client(make_stream: Callable[..., Own], tmp_path: Path) -> Iterator[AlertClient]:
    own = make_stream()
    with reading(own, tmp_path, "silver", "realtime", "serving.alerts") as (tracker, readers):
        yield AlertClient(own, tracker, readers)


def test_late_alert_follows_those_of_later_events(client: AlertClient) -> None:
    early, late, other = (client.alert(key, day) for key, day in zip("abc", DAYS, strict=True))
    client.store(DAYS[1], late)
    assert client.rest() == [late]
    client.store(DAYS[0], early)
    client.store(DAYS[2], other)
    client.store(DAYS[1], late)
    assert client.rest() == [early, other]
    changed = client.alert("a", DAYS[0], value=2.0)
    client.store(DAYS[0], changed)
    assert client.rest() == [changed]
    client.store(DAYS[0])
    assert client.rest() == []


def test_new_alerts_follow_the_newest_page(client: AlertClient) -> None:
    first, second, third = (client.alert(key, DAYS[1], minute) for minute, key in enumerate("abc"))
    client.store(DAYS[1], first, second)
    client.feed(third)
    assert client.newest(2) == [third, second]
    late = client.alert("late", DAYS[0])
    client.store(DAYS[0], late)
    client.store(DAYS[1], first, second, third)
    assert client.rest() == [late]


def test_pages_of_one_result_do_not_mix_in_new_alerts(client: AlertClient) -> None:
    first = [client.alert(str(number), DAYS[1], number) for number in range(5)]
    client.store(DAYS[1], *first)
    assert client.page(2) == first[:2]
    early, fresh = client.alert("early", DAYS[0]), client.alert("fresh", DAYS[2])
    client.store(DAYS[0], early)
    client.feed(fresh)
    assert client.page(2) == first[2:4]
    client.store(DAYS[2], fresh)
    assert [client.page(2), client.page(2), client.page(2)] == [first[4:], [early, fresh], []]


def test_alert_fed_before_it_is_stored_comes_once(client: AlertClient) -> None:
    assert client.rest() == []
    first, second = client.alert("a", DAYS[0]), client.alert("b", DAYS[0], 1)
    client.feed(first, second)
    assert client.page(1) == [first]
    assert client.rest(1) == [second]
    changed = client.alert("b", DAYS[0], 1, value=3.0)
    client.store(DAYS[0], first, changed)
    client.feed()
    assert client.rest(1) == [changed]


def test_restart_may_repeat_alerts_but_misses_none(client: AlertClient) -> None:
    first, second, third = (client.alert(key, DAYS[0], minute) for minute, key in enumerate("abc"))
    client.feed(first)
    before_restart, cursor = client.rest(), client._cursor
    client.restart()
    client._cursor = cursor
    client.feed(second)
    client.store(DAYS[0], first, second, third)
    assert before_restart == [first]
    assert client.rest(2) == [first, second, third]


def test_changed_days_are_repeated_after_snapshot_expiry(client: AlertClient) -> None:
    kept, first, second = client.alert("kept", DAYS[0]), client.alert("a", DAYS[1]), client.alert("b", DAYS[1], 1)
    client.store(DAYS[0], kept)
    client.store(DAYS[1], first)
    assert client.rest() == [kept, first]
    client.store(DAYS[1], first, second)
    client.expire_history()
    assert client.rest(1) == [first, second]
    assert client.rest() == []


@pytest.mark.parametrize("seed", range(more_at_night(1, 10)))
def test_each_alert_comes_once_in_any_order_of_events(client: AlertClient, seed: int) -> None:
    rng = random.Random(seed)
    fed: list[Alert] = []
    received: list[Alert] = []
    raised: set[Alert] = set()
    for number in range(30):
        day = rng.choice(DAYS)
        new = client.alert(str(number), day, rng.randrange(60))
        action = rng.choice(["feed", "store", "settle", "read", "read"])
        if action == "feed":
            client.feed(new)
            fed.append(new)
            raised.add(new)
        elif action == "store":
            client.store(day, *client.table.get(day, []), new)
            raised.add(new)
        elif action == "settle" and fed:
            alert = fed.pop(rng.randrange(len(fed)))
            client.store(alert.dt, *client.table.get(alert.dt, []), alert)
            if rng.random() < 0.5:
                client.feed()
        else:
            received += client.page(rng.randint(1, 3))
    received += client.rest(2)
    assert sorted(_keys(received)) == sorted(_keys(raised))


def _keys(alerts: Sequence[Alert] | set[Alert]) -> list[str]:
    return [str(alert.event_key) for alert in alerts]
