"""Keys and arrival times of landing objects, and the hour partitions they fall into. Nothing here touches storage."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import product

ARRIVAL_HOUR_FORMAT = "%Y-%m-%d-%H"
"""The `arrival_hour` column of realtime tables. It has no colon because the value becomes part of S3 keys."""

_HOUR_PARTITION_FORMAT = "%Y-%m-%d-%H:%M"
"""Dagster's format of hourly partition keys."""

READ_AS = "read-as~"
"""The start of the name of a folder under `incoming/` whose files are read as the rest of the name says."""

LANDED_NAME = re.compile(r"data_(\d{2})(\d{2})(\d{2})(\d{6})_[0-9a-z]+-\d+\.json(\.gz|\.zst)?", re.ASCII)
"""The file name that `realtime_key` gives an object: its time of day, its writer and a sequence number."""

_HOUR_FOLDER = re.compile(r"realtime/[^/]+/year=(\d{4})/month=(\d{1,2})/day=(\d{1,2})/hour=(\d{1,2})/")

_FIREHOSE_NAME = re.compile(r".+-\d+-(\d{4}-\d{2}-\d{2}-\d{2}-\d{2}-\d{2})-[0-9a-f]{8}-[0-9a-f-]{27}(\.\w+)*", re.ASCII)
"""https://docs.aws.amazon.com/firehose/latest/dev/s3-object-name.html"""

_MINUTE_NAME = re.compile(r"data_(\d{2})(\d{2})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class LandingObject:
    """One object of raw events, as a listing describes it."""

    key: str
    stream: str
    arrived_at: datetime
    """Aware, UTC."""
    size: int
    """Bytes as stored, so compressed bytes if the object is compressed."""
    shared_key: str | None = field(default=None, compare=False)
    """Key of the shared object that this one is a section of; None if it is stored by itself. See `shared`."""
    offset: int = field(default=0, compare=False)
    """Where the section begins in the shared object."""

    @property
    def hour(self) -> str:
        """The hourly partition of the arrival time, for example `2025-11-20-14:00`."""
        return hour_partition(self.arrived_at)

    @property
    def day(self) -> date:
        """The date of the arrival time, UTC."""
        return self.arrived_at.date()


def hour_partition(at: datetime) -> str:
    """Format the hour of a UTC time as a Dagster partition key, for example `2025-11-20-14:00`."""
    return f"{at:%Y-%m-%d-%H}:00"


def arrival_hour(at: datetime) -> str:
    """Format the hour of a UTC time as the `arrival_hour` column holds it, for example `2025-11-20-14`."""
    return at.strftime(ARRIVAL_HOUR_FORMAT)


def parse_hour(partition: str) -> datetime:
    """Parse a Dagster hourly partition key into the start of its hour, UTC. Raises ValueError."""
    return datetime.strptime(partition, _HOUR_PARTITION_FORMAT).replace(tzinfo=UTC)


def arrival_time(key: str, modified: datetime) -> datetime:
    """Derive an object's arrival time, UTC, from its key and its modification time in storage.

    Under `realtime/` the key decides as far as it can. The hour comes from the folder. The minute comes from a
    `data_HHMM…` name, the second from a Firehose name, and the microsecond from a name that `realtime_key` made. A name
    without a time takes the modification time if that lies in the folder's hour, else the start of the hour. Every
    other key takes the modification time.
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
    """Parse the hour folder that a key is in, UTC. None if the key is in no hour folder."""
    folder = _HOUR_FOLDER.match(key)
    if folder is None:
        return None
    try:
        return datetime(*(int(part) for part in folder.groups()), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None


def _named_time(hour: datetime, name: str) -> datetime | None:
    if landed := LANDED_NAME.fullmatch(name):
        clock, microsecond = [int(part) for part in landed.groups()[:3]], int(landed[4])
    elif firehose := _FIREHOSE_NAME.fullmatch(name):
        return _firehose_time(hour, firehose[1])
    elif minute := _MINUTE_NAME.match(name):
        clock, microsecond = [int(minute[1]), int(minute[2]), 0], 0
    else:
        return None
    if clock[0] != hour.hour or clock[1] > 59 or clock[2] > 59:
        return None
    return hour.replace(minute=clock[1], second=clock[2], microsecond=microsecond)


def _firehose_time(hour: datetime, text: str) -> datetime | None:
    try:
        time = datetime.strptime(text, "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return time if hour <= time < hour + timedelta(hours=1) else None


def realtime_key(stream: str, at: datetime, writer: str, number: int) -> str:
    """Build the key under which `writer` lands its object `number` at this time."""
    at = at.astimezone(UTC)
    return f"{_hour_folder(stream, at)}/data_{at:%H%M%S%f}_{writer}-{number}.json"


def _hour_folder(stream: str, at: datetime) -> str:
    return f"realtime/{stream}/year={at.year:04d}/month={at.month:02d}/day={at.day:02d}/hour={at.hour:02d}"


def year_prefix(stream: str, year: int) -> str:
    """Build the folder that a year's objects are in."""
    return f"realtime/{stream}/year={year:04d}"


def day_prefixes(stream: str, day: date) -> Iterator[str]:
    """Build every folder that a day's objects may be in: months and days come with and without a leading zero."""
    for month, day_of_month in product(_spellings(day.month), _spellings(day.day)):
        yield f"{year_prefix(stream, day.year)}/month={month}/day={day_of_month}"


def hour_prefixes(stream: str, hour: datetime) -> Iterator[str]:
    """Build every folder that an hour's objects may be in."""
    for day, number in product(day_prefixes(stream, hour.date()), _spellings(hour.hour)):
        yield f"{day}/hour={number}"


def _spellings(number: int) -> Iterable[str]:
    return dict.fromkeys((f"{number:02d}", str(number)))
