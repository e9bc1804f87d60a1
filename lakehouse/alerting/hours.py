"""The hours in which a rule sends messages."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from lakehouse.alerting.schema import WEEKDAYS, Weekday

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")

WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of some days of the week. Those that end before they begin last until the next day."""

    first: time
    last: time
    days: Collection[Weekday]
    zone: ZoneInfo

    def next_open(self, now: datetime) -> datetime:
        """Return `now` within the hours, else the next time at which they begin."""
        today = now.astimezone(self.zone).date()
        begins = []
        for offset in range(-1, WEEK.days + 1):
            day = today + timedelta(days=offset)
            if WEEKDAYS[day.weekday()] not in self.days:
                continue
            begin = datetime.combine(day, self.first, self.zone)
            end = datetime.combine(day + timedelta(days=self.last <= self.first), self.last, self.zone)
            if begin.astimezone(UTC) <= now < end.astimezone(UTC):
                return now
            begins.append(begin.astimezone(UTC))
        return min(begin for begin in begins if begin > now)


def parse_hours(text: str | None, days: Collection[Weekday], zone: ZoneInfo) -> Hours:
    """Parse hours such as 08:00-18:00; None is the whole day. Raises ValueError."""
    match = _HOURS.fullmatch(text or "00:00-00:00")
    if match is None or (text and match[0][:5] == match[0][6:]):
        raise ValueError(f"{text!r} is not two times of a day; write hours such as 08:00-18:00 or 22:00-06:00")
    first_hour, first_minute, last_hour, last_minute = map(int, match.groups())
    return Hours(time(first_hour, first_minute), time(last_hour, last_minute), days, zone)
