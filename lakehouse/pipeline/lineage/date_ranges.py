"""Sets of days as short text, for tags and table properties: `2010-12-01..2010-12-03,2010-12-05`."""

from collections.abc import Iterable
from datetime import date, timedelta


def format_days(days: Iterable[date]) -> str:
    """Format days as ranges, in order."""
    return ",".join(f"{first}..{last}" if first < last else str(first) for first, last in day_ranges(days))


def parse_days(text: str) -> list[date]:
    """List the days of a text that `format_days` made, in order. Raises ValueError for other text."""
    days: list[date] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("..")
        start, end = date.fromisoformat(first), date.fromisoformat(last or first)
        days += [start + timedelta(days=n) for n in range((end - start).days + 1)]
    return days


def day_ranges(days: Iterable[date]) -> list[tuple[date, date]]:
    """Merge days into inclusive ranges without gaps, in order."""
    ranges: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if ranges and day - ranges[-1][1] == timedelta(days=1):
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges
