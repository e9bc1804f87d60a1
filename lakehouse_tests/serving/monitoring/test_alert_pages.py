"""Who follows the cursor is given every alert that comes up, whenever it happened, and none a second time."""

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
from lakehouse.serving.monitoring.alert_feed import AlertFeed, _Seen
from lakehouse.serving.monitoring.alert_pages import AlertPages
from lakehouse.serving.monitoring.alerts import Alert, parse_since
from lakehouse.serving.query.lake_snapshot import SnapshotTracker
from lakehouse.serving.query.reader_pool import ReaderPool
from lakehouse.storage.iceberg.snapshots import expire
from lakehouse_tests.pipeline.own import Own, span
from lakehouse_tests.serving.trackers import reading

DAYS = span(date(2021, 6, 1), 3)


class Desk:
    """Alerts of one stream: those of its table, those that are fed before, and a reader who follows the cursor."""

    def __init__(self, own: Own, tracker: SnapshotTracker, readers: ReaderPool) -> None:
        self.name = f"serving.{own.name}_alerts"
        self._own = own
        self._tracker = tracker
        self._feed = AlertFeed(tracker, readers)
        self._looked = _Seen()
        self._pages = AlertPages(tracker, readers, self._feed)
        self._next = "2010-01-01"
        self.table: dict[date, list[Alert]] = {}

    def alert(self, key: str, day: date, minute: int = 0, value: float = 1.0) -> Alert:
        """An alert of that day."""
        at = datetime(day.year, day.month, day.day, 12, minute, tzinfo=UTC)
        return Alert(
            stream=self._own.name, alert="a", severity="info", entity=None, event_time=at, value=value,
            threshold=None, message="it's \"odd\"", dt=day, event_key=key,
        )  # fmt: skip

    def store(self, day: date, *alerts: Alert) -> None:
        """Have the table hold these of a day and no others."""
        rows = [
            "select " + ", ".join(f"{_sql(getattr(alert, name))}::{kind} as {name}" for name, kind in ALERT_COLUMNS)
            for alert in alerts
        ]
        replace_days(self._own.lake, self.name, " union all ".join(rows) or empty_sql(ALERT_COLUMNS), [day])
        self.table[day] = [*alerts]
        self._tracker.refresh()

    def feed(self, *fresh: Alert) -> None:
        """Have the feed find these beside what the table holds."""
        stored: dict[tuple[object, ...], Alert] = {
            alert.identity: alert for alerts in self.table.values() for alert in alerts
        }
        self._feed._feed(self._looked, stored, self._looked.fresh | {alert.identity: alert for alert in fresh})

    def restart(self) -> None:
        """The feed is another process's, which knows nothing yet."""
        self.__init__(self._own, self._tracker, self._pages._readers)  # type: ignore[misc]

    def page(self, limit: int = 100) -> list[Alert]:
        """The next page."""
        page = asyncio.run(self._pages.since([self._own.name], parse_since(self._next), limit))
        self._next = page.next
        return page.alerts

    def rest(self, limit: int = 100) -> list[Alert]:
        """All pages up to the first that has nothing."""
        found: list[Alert] = []
        while page := self.page(limit):
            assert len(page) <= limit
            found += page
        return found

    def newest(self, limit: int) -> list[Alert]:
        """The newest alerts; the reader goes on after them."""
        page = asyncio.run(self._pages.newest([self._own.name], limit))
        self._next = page.next
        return page.alerts

    def forget(self) -> None:
        """Have the table forget all but what it holds."""
        table = self._own.lake.tables.load(self.name)
        current = table.current_snapshot()
        assert expire(table, [one for one in table.metadata.snapshots if one != current], {})
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
def desk(make_stream: Callable[..., Own], tmp_path: Path) -> Iterator[Desk]:
    own = make_stream()
    with reading(own, tmp_path, "silver", "realtime", "serving.alerts") as (tracker, readers):
        yield Desk(own, tracker, readers)


def test_one_that_arrives_late_follows_those_that_happened_later(desk: Desk) -> None:
    early, late, other = (desk.alert(key, day) for key, day in zip("abc", DAYS, strict=True))
    desk.store(DAYS[1], late)
    assert desk.rest() == [late]
    desk.store(DAYS[0], early)
    desk.store(DAYS[2], other)
    desk.store(DAYS[1], late)
    assert desk.rest() == [early, other]
    changed = desk.alert("a", DAYS[0], value=2.0)
    desk.store(DAYS[0], changed)
    assert desk.rest() == [changed]
    desk.store(DAYS[0])
    assert desk.rest() == []


def test_the_newest_are_followed_by_what_comes_up(desk: Desk) -> None:
    one, two, three = (desk.alert(key, DAYS[1], minute) for minute, key in enumerate("abc"))
    desk.store(DAYS[1], one, two)
    desk.feed(three)
    assert desk.newest(2) == [three, two]
    late = desk.alert("late", DAYS[0])
    desk.store(DAYS[0], late)
    desk.store(DAYS[1], one, two, three)
    assert desk.rest() == [late]


def test_pages_of_one_answer_are_made_of_the_same_whatever_comes_up_meanwhile(desk: Desk) -> None:
    first = [desk.alert(str(number), DAYS[1], number) for number in range(5)]
    desk.store(DAYS[1], *first)
    assert desk.page(2) == first[:2]
    early, fresh = desk.alert("early", DAYS[0]), desk.alert("fresh", DAYS[2])
    desk.store(DAYS[0], early)
    desk.feed(fresh)
    assert desk.page(2) == first[2:4]
    desk.store(DAYS[2], fresh)
    assert [desk.page(2), desk.page(2), desk.page(2)] == [first[4:], [early, fresh], []]


def test_what_was_fed_before_a_table_had_it_is_given_then_and_not_again(desk: Desk) -> None:
    assert desk.rest() == []
    one, two = desk.alert("a", DAYS[0]), desk.alert("b", DAYS[0], 1)
    desk.feed(one, two)
    assert desk.page(1) == [one]
    assert desk.rest(1) == [two]
    better = desk.alert("b", DAYS[0], 1, value=3.0)
    desk.store(DAYS[0], one, better)
    desk.feed()
    assert desk.rest(1) == [better]


def test_after_a_restart_some_may_come_again_and_none_is_missed(desk: Desk) -> None:
    one, two, three = (desk.alert(key, DAYS[0], minute) for minute, key in enumerate("abc"))
    desk.feed(one)
    followed = desk.rest(), desk._next
    desk.restart()
    desk._next = followed[1]
    desk.feed(two)
    desk.store(DAYS[0], one, two, three)
    assert followed[0] == [one]
    assert desk.rest(2) == [one, two, three]


def test_where_the_past_is_forgotten_changed_days_are_given_whole(desk: Desk) -> None:
    kept, one, two = desk.alert("kept", DAYS[0]), desk.alert("a", DAYS[1]), desk.alert("b", DAYS[1], 1)
    desk.store(DAYS[0], kept)
    desk.store(DAYS[1], one)
    assert desk.rest() == [kept, one]
    desk.store(DAYS[1], one, two)
    desk.forget()
    assert desk.rest(1) == [one, two]
    assert desk.rest() == []


@pytest.mark.parametrize("seed", range(2))
def test_in_any_order_of_arriving_feeding_storing_and_reading_each_is_given_once(desk: Desk, seed: int) -> None:
    chance = random.Random(seed)
    fed: list[Alert] = []
    given: list[Alert] = []
    known: set[Alert] = set()
    for number in range(30):
        day = chance.choice(DAYS)
        new = desk.alert(str(number), day, chance.randrange(60))
        what = chance.choice(["feed", "store", "settle", "read", "read"])
        if what == "feed":
            desk.feed(new)
            fed.append(new)
            known.add(new)
        elif what == "store":
            desk.store(day, *desk.table.get(day, []), new)
            known.add(new)
        elif what == "settle" and fed:
            one = fed.pop(chance.randrange(len(fed)))
            desk.store(one.dt, *desk.table.get(one.dt, []), one)
            if chance.random() < 0.5:
                desk.feed()
        else:
            given += desk.page(chance.randint(1, 3))
    given += desk.rest(2)
    assert sorted(_keys(given)) == sorted(_keys(known))


def _keys(alerts: Sequence[Alert] | set[Alert]) -> list[str]:
    return [str(alert.event_key) for alert in alerts]
