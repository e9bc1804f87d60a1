"""Features at a time are what a computation over the rows that had arrived and happened by then gives, in plain Python."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.contracts.sql import literal
from lakehouse.landing.listing import list_day
from lakehouse.pipeline.features import features_sql
from lakehouse.pipeline.point_in_time import known_features as known_features_module
from lakehouse.pipeline.point_in_time.arrivals import with_fresh_sql
from lakehouse.pipeline.table_specs import table_specs
from lakehouse.serving.features import requests
from lakehouse.serving.features.requests import read_entities
from lakehouse.serving.features.stored_arrivals import copy_sql
from lakehouse.serving.features.training_set import known_features
from lakehouse.serving.query.linked_tail import LakeWithTail
from lakehouse.serving.query.tail_reader import TailReader
from lakehouse.serving.query.tail_segments import SegmentStore
from lakehouse_tests.pipeline.landings import examples
from lakehouse_tests.pipeline.own import Own, payment, span, threshold

MICROSECOND = timedelta(microseconds=1)
WINDOWS = (1, 7, 30)
ACCOUNTS = ("a", "b", "never")
DAYS_BETWEEN_EXAMPLES = 100
"""Rows lie up to 31 days before an example, times up to 33 days after its first day, and a window has 30 days."""

_numbers = count()


def first_day() -> date:
    """Return the first day of an example, far enough from the one before."""
    return date(2012, 1, 1) + timedelta(days=DAYS_BETWEEN_EXAMPLES * (next(_numbers) % 80))


@dataclass(frozen=True)
class Row:
    """A transaction to land, with the key of another or of its own."""

    key: int
    account: str
    minutes_before: int
    """How long before its arrival it happened. A negative one is ahead of its time."""
    amount: str
    status: str

    @property
    def is_valid(self) -> bool:
        return Decimal(self.amount) > 0


@dataclass(frozen=True)
class Arrived:
    """A row as it arrived, and its place among others."""

    row: Row
    at: datetime
    place: tuple[str, int]

    @property
    def happened(self) -> datetime:
        return self.at - timedelta(minutes=self.row.minutes_before)


MINUTES_BEFORE = st.sampled_from((0, 1, 30, 30, 600, 1440, 1445, 3 * 1440, 12 * 1440, 29 * 1440, 31 * 1440, -20))
ROWS = st.builds(
    Row,
    key=st.integers(0, 3),
    account=st.sampled_from(("a", "a", "b")),
    minutes_before=MINUTES_BEFORE,
    amount=st.sampled_from(("1.25", "7", "1200.5", "-1")),
    status=st.sampled_from(("settled", "declined")),
)
OBJECTS = st.lists(
    st.tuples(st.integers(0, 3 * 24 * 6), st.lists(ROWS, min_size=1, max_size=4)), min_size=1, max_size=3
)
"""Objects: tens of minutes after the start of the first of three days, and rows."""


def oracle(arrived: Sequence[Arrived], account: str, at: datetime) -> dict[str, Any]:
    """Compute an account's features at a time from nothing but the rows that had arrived and happened by then."""
    latest: dict[tuple[date, int], Arrived] = {}
    for one in sorted(arrived, key=lambda one: (one.at, one.place)):
        if one.row.is_valid and one.at <= at and one.happened <= at:
            latest[one.happened.date(), one.row.key] = one
    mine = [one for one in latest.values() if one.row.account == account]
    found: dict[str, Any] = {}
    in_30_days = _within(mine, at, 30)
    for window in WINDOWS:
        rows = _within(mine, at, window)
        amounts = [Decimal(one.row.amount) for one in rows]
        found |= {
            f"transactions_{window}d": len(rows),
            f"declined_{window}d": sum(one.row.status == "declined" for one in rows),
            f"night_transactions_{window}d": sum(one.happened.hour < 6 for one in rows),
            f"amount_{window}d": sum(amounts, Decimal(0)),
            f"max_amount_{window}d": max(amounts, default=None),
            f"active_days_{window}d": len({one.happened.date() for one in rows}),
        }
    return found if in_30_days else dict.fromkeys(found)


def _within(arrived: Sequence[Arrived], at: datetime, days: int) -> list[Arrived]:
    return [one for one in arrived if 0 <= (at.date() - one.happened.date()).days < days]


NAMES = [*oracle([], "a", datetime(2025, 1, 1, tzinfo=UTC))]


def land(own: Own, first: date, objects: Sequence[tuple[int, Sequence[Row]]]) -> Iterator[Arrived]:
    for tens, rows in objects:
        at = datetime(first.year, first.month, first.day, tzinfo=UTC) + timedelta(minutes=10 * tens)
        events = [
            payment(
                f"{row.key}",
                at - timedelta(minutes=row.minutes_before),
                account_id=row.account,
                amount=row.amount,
                status=row.status,
            )
            for row in rows
        ]
        key = own.land(events, at)
        yield from (Arrived(row, at, (key, number)) for number, row in enumerate(rows))


def times_around(arrived: Sequence[Arrived]) -> list[datetime]:
    """List the times at which something becomes known, and those just before, and ends of days."""
    moments = {moment for one in arrived for moment in (one.at, one.happened)}
    days = {moment.replace(hour=0, minute=0) for moment in moments}
    later = {day + timedelta(days=after) for day in days for after in (1, 7, 30)}
    return sorted(moments | {moment - MICROSECOND for moment in moments | later})


def store(own: Own, path: Path, days: Sequence[date]) -> str:
    """Store what bronze has of these days, as the serving process does. Returns the SELECT of it."""
    with own.lake.engine.cursor() as cursor:
        cursor.execute(copy_sql(own.lake, own.stream, days, path))
    return f"from read_parquet({literal(str(path))})"


def known(
    own: Own,
    tail: Sequence[str],
    rows: Sequence[dict[str, Any]],
    names: Sequence[str] = NAMES,
    arrivals: Callable[[Sequence[date]], str] | None = None,
) -> list[Any]:
    """Ask for features of rows, and return their values without the stream's name."""
    if arrivals:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(known_features_module, "arrivals_sql", lambda _lake, _stream, days: arrivals(days))
            return known(own, tail, rows, names)
    fresh = LakeWithTail(own.lake, {own.name: tail})
    table = known_features(own.lake, fresh, read_entities(rows), [f"{own.name}.{name}" for name in names])
    return [{name: row[f"{own.name}.{name}"] for name in names} for row in table.to_pylist()]


@pytest.fixture(scope="module")
def shared(make_shared_stream: Callable[..., Own]) -> Own:
    return make_shared_stream(edit=threshold(0.01))


@pytest.fixture(scope="module")
def by_itself(make_shared_stream: Callable[..., Own]) -> Own:
    """A stream of which each time is computed by itself, because a window in its SQL reads other rows."""
    own = make_shared_stream(edit=threshold(0.01), tables=False)
    silver = own.stream.folder / "silver.sql"
    text = silver.read_text().replace(
        "  timed.*,", "  timed.*,\n  row_number() over (partition by timed.dt order by timed.event_id) as place,"
    )
    silver.write_text(text)
    features = own.stream.folder / "features.sql"
    features.write_text(features.read_text().replace("account_id is not null", "account_id is not null and place > 0"))
    own.lake.tables.ensure(table_specs([own.stream]))
    return own


@pytest.fixture
def segments(shared: Own, tmp_path: Path) -> SegmentStore:
    return SegmentStore(tmp_path, shared.lake.engine)


@examples(5, nightly=200)
@given(
    in_bronze=OBJECTS,
    in_realtime=OBJECTS,
    in_tail=OBJECTS,
    stale=st.sets(st.integers(-31, 2), max_size=5),
    again=st.booleans(),
)
def test_features_are_what_was_known_then(
    shared: Own, segments: SegmentStore, in_bronze: Any, in_realtime: Any, in_tail: Any, stale: set[int], again: bool
) -> None:
    check(shared, segments, in_bronze, in_realtime, in_tail, stale, again=again)


@examples(2, nightly=50)
@given(in_bronze=OBJECTS, in_realtime=OBJECTS, in_tail=OBJECTS, stale=st.sets(st.integers(-31, 2), max_size=5))
def test_features_of_any_sql_are_what_was_known_then(
    by_itself: Own, segments: SegmentStore, in_bronze: Any, in_realtime: Any, in_tail: Any, stale: set[int]
) -> None:
    check(by_itself, segments, in_bronze, in_realtime, in_tail, stale, again=False)


def check(
    own: Own,
    segments: SegmentStore,
    in_bronze: Any,
    in_realtime: Any,
    in_tail: Any,
    stale: set[int],
    *,
    again: bool,
) -> None:
    """Land objects in three steps, of which silver, bronze, realtime and the tail see some each, and ask for features."""
    first = first_day()
    arrivals = span(first, 4)
    arrived = [*land(own, first, in_bronze)]
    own.bronze(*arrivals)
    own.clean(*(first + timedelta(days=day) for day in range(-31, 3) if day not in stale))
    stored = store(own, segments.folder / f"{first}.parquet", [first + timedelta(days=day) for day in range(-70, 70)])
    of_realtime = [*land(own, first, in_realtime)]
    own.refresh_realtime(*{f"{one.at:%Y-%m-%d-%H}:00" for one in of_realtime})
    landed = [*land(own, first, in_tail)]
    of_tail = {one.place[0] for one in landed}
    arrived += [*of_realtime, *landed]
    listed = [obj for day in arrivals for obj in list_day(own.lake.objects, own.name, day) if obj.key in of_tail]
    read = TailReader(own.lake, own.lake.engine, segments).read({own.name: listed})
    tail = [str(one.segment.path) for one in read if one.segment]
    if again:
        own.bronze(*arrivals)
        own.clean(*(first + timedelta(days=day) for day in range(-31, 3) if day in stale))
    times = times_around(arrived)[:35]
    rows: list[dict[str, Any]] = [{"account_id": account, "time": at} for at in times for account in ACCOUNTS]
    expected = [oracle(arrived, row["account_id"], row["time"]) for row in rows]
    fresh = LakeWithTail(own.lake, {own.name: tail})
    from_stored = partial(with_fresh_sql, fresh, own.stream, stored)
    for few in (0, 200):  # computed together, and each by itself
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(requests, "MAX_FEW", few)
            assert known(own, tail, rows) == expected
            # What was stored earlier is enough, with realtime and the tail as they are now.
            assert known(own, tail, rows, arrivals=from_stored) == expected
    some = rows[:: max(1, len(rows) // 3)]
    assert [known(own, tail, [row])[0] for row in some] == [
        oracle(arrived, row["account_id"], row["time"]) for row in some
    ]


@pytest.mark.parametrize("in_realtime", [False, True])
def test_corrected_event_counts_as_it_was_until_the_correction(
    make_stream: Callable[..., Own], in_realtime: bool
) -> None:
    own, event = make_stream(), datetime(2025, 6, 1, 9, tzinfo=UTC)
    for hour, account, amount in ((9, "a", "5"), (10, "a", "7"), (12, "b", "7")):
        own.land([payment("1", event, account_id=account, amount=amount)], event.replace(hour=hour))
    if in_realtime:
        own.refresh_realtime(*(f"2025-06-01-{hour:02}:00" for hour in (9, 10, 12)))
    else:
        own.bronze()
        own.clean(event.date())
    rows = [{"account_id": account, "time": event.replace(hour=hour)} for hour in (8, 9, 11, 12) for account in "ab"]
    values = [row["amount_1d"] for row in known(own, [], rows, ["amount_1d"])]
    assert values == [None, None, 5, None, 7, None, None, 7]


def test_features_at_the_end_of_a_day_are_those_of_the_table(make_stream: Callable[..., Own]) -> None:
    own, day = make_stream(), date(2025, 6, 1)
    at = datetime(2025, 6, 1, 9, tzinfo=UTC)
    own.land([payment(f"{n}", at, account_id=f"{n % 3}", amount=f"{n + 1}") for n in range(10)], at)
    own.bronze(day)
    own.clean(day)
    own.below(day)
    with own.lake.engine.cursor() as cursor:
        silver = own.lake.tables.load(f"silver.{own.name}")
        table = cursor.execute(features_sql(own.stream, silver, [day])).to_arrow_table()
    of_table = sorted(table.drop_columns(["dt"]).to_pylist(), key=lambda row: row["account_id"])
    names = [name for name in of_table[0] if name != "account_id"]
    rows = [{"account_id": row["account_id"], "time": "2025-06-01T23:59:59.999999Z"} for row in of_table]
    assert known(own, [], rows, names) == [{name: row[name] for name in names} for row in of_table]
