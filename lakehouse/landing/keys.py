"""Names of landing objects: from a key to its stream and arrival time and back. Nothing here touches storage."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import product

HOUR_FORMAT = "%Y-%m-%d-%H:%M"
"""Of Dagster's hourly partition keys."""

_HOUR_FOLDER = re.compile(r"realtime/[^/]+/year=(\d{4})/month=(\d{1,2})/day=(\d{1,2})/hour=(\d{1,2})/")
OUR_NAME = re.compile(r"data_(\d{2})(\d{2})(\d{2})(\d{6})_[0-9a-z]+-\d+\.json(\.gz|\.zst)?", re.ASCII)
"""What `land` names its objects: when they arrived, and whose they are."""

_FIREHOSE_NAME = re.compile(r".+-\d+-(\d{4}-\d{2}-\d{2}-\d{2}-\d{2}-\d{2})-[0-9a-f]{8}-[0-9a-f-]{27}(\.\w+)*", re.ASCII)
"""https://docs.aws.amazon.com/firehose/latest/dev/s3-object-name.html"""

_MINUTE_NAME = re.compile(r"data_(\d{2})(\d{2})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class LandingObject:
    """One object of raw events."""

    key: str
    stream: str
    arrived_at: datetime
    """Aware, UTC."""
    size: int
    """Bytes, compressed as it lies there."""

    @property
    def hour(self) -> str:
        """The hour of arrival as Dagster's hourly partition key, e.g. `2025-11-20-14:00`."""
        return f"{self.arrived_at:%Y-%m-%d-%H}:00"

    @property
    def day(self) -> date:
        """The day of arrival, UTC."""
        return self.arrived_at.date()


def arrival(key: str, modified: datetime) -> datetime:
    """When the object of this key arrived, UTC; `modified` is what storage says.

    Under `realtime/` the name decides as far as it can: the hour is its folder's; the minute that of `data_HHMM…`, the
    second that of a name of Firehose's, and the rest that of our own `data_HHMMSSffffff_<writer>-<seq>.json`. A name that
    says nothing arrived at the modified time if that lies in its hour, else at the hour's start. Everywhere else it is
    the modified time.
    """
    modified = modified.astimezone(UTC)
    hour = hour_of(key)
    if hour is None:
        return modified
    named = _named_time(hour, key.rsplit("/", 1)[-1])
    if named is not None:
        return named
    return modified if hour <= modified < hour + timedelta(hours=1) else hour


def hour_of(key: str) -> datetime | None:
    """The hour whose folder a key is in, UTC; None when it is in no hour's."""
    folder = _HOUR_FOLDER.match(key)
    if folder is None:
        return None
    try:
        return datetime(*(int(part) for part in folder.groups()), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None


def _named_time(hour: datetime, name: str) -> datetime | None:
    if ours := OUR_NAME.fullmatch(name):
        clock, fraction = [int(part) for part in ours.groups()[:3]], int(ours[4])
    elif fire := _FIREHOSE_NAME.fullmatch(name):
        return _firehose_time(hour, fire[1])
    elif foreign := _MINUTE_NAME.match(name):
        clock, fraction = [int(foreign[1]), int(foreign[2]), 0], 0
    else:
        return None
    if clock[0] != hour.hour or clock[1] > 59 or clock[2] > 59:
        return None
    return hour.replace(minute=clock[1], second=clock[2], microsecond=fraction)


def _firehose_time(hour: datetime, text: str) -> datetime | None:
    try:
        time = datetime.strptime(text, "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return time if hour <= time < hour + timedelta(hours=1) else None


def realtime_key(stream: str, at: datetime, writer: str, number: int) -> str:
    """The key of the object that `writer` lands as its `number`th at this time."""
    at = at.astimezone(UTC)
    return f"realtime/{stream}/{_folder(at)}/data_{at:%H%M%S%f}_{writer}-{number}.json"


def _folder(at: datetime) -> str:
    return f"year={at.year:04d}/month={at.month:02d}/day={at.day:02d}/hour={at.hour:02d}"


def day_prefixes(stream: str, day: date) -> Iterator[str]:
    """The folders in which a day's objects may be: months and days are written with and without their zero."""
    for month, dom in product(_spellings(day.month), _spellings(day.day)):
        yield f"realtime/{stream}/year={day.year:04d}/month={month}/day={dom}"


def hour_prefixes(stream: str, hour: datetime) -> Iterator[str]:
    """The folders in which an hour's objects may be."""
    for day, number in product(day_prefixes(stream, hour.date()), _spellings(hour.hour)):
        yield f"{day}/hour={number}"


def _spellings(number: int) -> Iterable[str]:
    return dict.fromkeys((f"{number:02d}", str(number)))


def parse_hour(hour: str) -> datetime:
    """The start of a Dagster hourly partition, UTC. Raises ValueError."""
    return datetime.strptime(hour, HOUR_FORMAT).replace(tzinfo=UTC)
