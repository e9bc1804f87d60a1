"""Sets of days as text, short enough for a tag: `2010-12-01..2010-12-03,2010-12-05`."""

from collections.abc import Iterable
from datetime import date, timedelta


def format_days(days: Iterable[date]) -> str:
    """The days as ranges, in order."""
    return ",".join(f"{first}..{last}" if first < last else str(first) for first, last in day_ranges(days))


def parse_days(text: str) -> list[date]:
    """The days of such a text, in order. Raises ValueError."""
    days: list[date] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("..")
        start, end = date.fromisoformat(first), date.fromisoformat(last or first)
        days += [start + timedelta(days=n) for n in range((end - start).days + 1)]
    return days


def day_ranges(days: Iterable[date]) -> list[tuple[date, date]]:
    """The days as inclusive ranges without gaps, in order."""
    found: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if found and day - found[-1][1] == timedelta(days=1):
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found
