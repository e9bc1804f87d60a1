"""Landings to draw from, and the steps that compute them, for properties that hold whatever arrives and whatever runs when.

Examples share their tables, so each gets days of its own. They are few, because each takes seconds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from lakehouse.pipeline.exports import export_unified
from lakehouse_tests.nightly import more_at_night
from lakehouse_tests.pipeline.own import Own, noon, payment, span

DAYS_BETWEEN_EXAMPLES = 60

BROKEN: tuple[dict[str, Any], ...] = (
    {"amount": "-1"},
    {"amount": "1.005", "currency": "euro"},
    {"status": "lost"},
    {"account_id": ""},
)
MALFORMED = ("{", "[1]", "null", '{"event_id": {"a": 1}}', "\\x")
DAYS_BACK = (0, 0, 0, 1, 40)
"""How many days before its arrival an event may have happened: mostly none."""


@dataclass(frozen=True)
class Row:
    """A row to land: its kind, its key, and what distinguishes it from others with that key."""

    kind: str
    key: int
    back: int
    variant: int

    def line(self, arrival: date) -> dict[str, Any] | str:
        """Make the event, or a text that is none."""
        if self.kind == "malformed":
            return MALFORMED[self.variant % len(MALFORMED)]
        event = payment(f"e{self.key}", noon(arrival - timedelta(days=self.back)), amount=f"{self.variant + 1}.25")
        if self.kind == "invalid":
            return event | BROKEN[self.variant % len(BROKEN)]
        if self.kind == "undated":
            times = ("yesterday", "", "0000-01-01", f"{arrival + timedelta(days=3)}")
            return event | {"event_time": times[self.variant]}
        return event

    def day(self, arrival: date) -> date:
        """Return the partition it belongs to."""
        return arrival - timedelta(days=self.back) if self.kind in ("valid", "invalid") else arrival


@dataclass(frozen=True)
class Landing:
    """One object: when it arrived and what it holds."""

    at: datetime
    rows: tuple[Row, ...]

    def land(self, own: Own) -> None:
        """Land the object."""
        own.land([row.line(self.at.date()) for row in self.rows], self.at)

    @property
    def days(self) -> set[date]:
        """The partitions that its rows belong to."""
        return {row.day(self.at.date()) for row in self.rows}


ROWS = st.builds(
    Row,
    kind=st.sampled_from(("valid", "valid", "valid", "invalid", "malformed", "undated")),
    key=st.integers(0, 3),
    back=st.sampled_from(DAYS_BACK),
    variant=st.integers(0, 3),
)
OBJECTS = st.lists(
    st.tuples(st.integers(0, 2), st.lists(ROWS, min_size=1, max_size=6).map(tuple)), min_size=1, max_size=4
)
"""Objects of up to three days in a row: the number of the day, and the rows."""

DrawnObjects = list[tuple[int, tuple[Row, ...]]]


def landings_from(first: date, drawn: DrawnObjects) -> list[Landing]:
    """Date drawn objects: they arrive from noon of their day on, a second apart."""
    return [
        Landing(noon(first + timedelta(days=day)) + timedelta(seconds=number), rows)
        for number, (day, rows) in enumerate(drawn)
    ]


def first_days(origin: date) -> Callable[[], date]:
    """Return a function that gives each example its first day, far enough from the example before."""
    numbers = count()
    return lambda: origin + timedelta(days=DAYS_BETWEEN_EXAMPLES * next(numbers))


def examples(number: int, nightly: int) -> settings:
    """Return settings for this many examples against real storage, more with NIGHTLY=1."""
    return settings(
        max_examples=more_at_night(number, nightly),
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # a failing example is small, and shrinking it would take minutes
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def arrival_days(first: date) -> list[date]:
    """List the days on which objects of an example arrive."""
    return span(first, 3)


def run_step(own: Own, step: str, first: date, days: Sequence[date]) -> None:
    """Compute a layer of an example: `bronze` or `realtime` of its arrivals, the others of these event dates.

    `bronze again` and `realtime again` replace what is there.
    """
    arrivals = arrival_days(first)
    match step.split():
        case ["bronze", *again]:
            own.bronze(*arrivals, replace=bool(again))
        case ["realtime", *again]:
            own.refresh_realtime(*(f"{day}-12:00" for day in arrivals), replace=bool(again))
        case ["silver"]:
            own.clean(*days)
        case ["below"]:
            own.below(*days)
        case ["export"]:
            export_unified(own.lake, own.stream, days)
        case _:
            raise ValueError(step)
