"""Find landing objects by stream, day and hour. See `keys` for what a key says and `readers` for the rows."""

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from itertools import chain

from lakehouse.landing.incoming import select_incoming
from lakehouse.landing.keys import (
    LandingObject,
    arrival_time,
    day_prefixes,
    hour_of,
    hour_partition,
    hour_prefixes,
    parse_hour,
)
from lakehouse.landing.shared import SHARED_FOLDER, section_of, shared_day, shared_hour
from lakehouse.storage.objects.store import ObjectInfo, Objects


def list_hour(objects: Objects, stream: str, hour: str) -> list[LandingObject]:
    """List what landed under `realtime/` in an hour (`2025-11-20-14:00`), sorted by key."""
    start = parse_hour(hour)
    return _list_realtime(objects, stream, hour_prefixes(stream, start), shared_hour(start))


def list_realtime_day(objects: Objects, stream: str, day: date) -> list[LandingObject]:
    """List what landed under `realtime/` on a day, sorted by key."""
    return _list_realtime(objects, stream, day_prefixes(stream, day), shared_day(day))


def list_incoming(objects: Objects, stream: str, *, since: datetime | None = None) -> list[LandingObject]:
    """List the data that landed under `incoming/`, sorted by key. With `since`, only what arrived then or later."""
    files = select_incoming(objects, stream).files
    return [file for file in files if since is None or file.arrived_at >= since]


def list_day(objects: Objects, stream: str, day: date) -> list[LandingObject]:
    """List everything that landed on a day, sorted by key."""
    return list_days(objects, stream, day, day)[day]


def list_days(objects: Objects, stream: str, first: date, last: date) -> dict[date, list[LandingObject]]:
    """List what landed on each day from `first` to `last`, sorted by key. Lists `incoming/` once for all days."""
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    by_day: dict[date, list[LandingObject]] = {day: [] for day in days}
    with_folder = days if len(days) == 1 else days_landed(objects, stream, first, last)
    for day in with_folder:
        by_day[day] = list_realtime_day(objects, stream, day)
    for landing in list_incoming(objects, stream):
        if landing.day in by_day:
            by_day[landing.day].append(landing)
    return {day: sorted(landings) for day, landings in by_day.items()}


def days_landed(objects: Objects, stream: str, first: date, last: date) -> list[date]:
    """List the days from `first` to `last` that have a folder under `realtime/`, of the stream or of shared objects.

    Lists folders only, no objects.
    """
    return sorted({hour.date() for hour in _hours(_day_folders(objects, stream, first, last), "/hour=0/")})


def hours_landed(objects: Objects, stream: str, first: date, last: date, *, shared: bool = True) -> list[str]:
    """List the hours (`2025-11-20-14:00`) of these days that have a folder, as `days_landed` does.

    Without `shared`, only those in which an object of the stream landed by itself.
    """
    folders = (hour for day in _day_folders(objects, stream, first, last, shared) for hour in objects.folders(day))
    return sorted({hour_partition(hour) for hour in _hours(folders, "/")})


def _day_folders(objects: Objects, stream: str, first: date, last: date, shared: bool = True) -> Iterator[str]:
    start = first.replace(month=1, day=1)
    for name in (stream, SHARED_FOLDER) if shared else (stream,):
        years = (
            year
            for year in objects.folders(f"realtime/{name}")
            if _is_within(f"{year}/month=1/day=1/hour=0/", start, last)
        )
        for month in chain.from_iterable(map(objects.folders, years)):
            if _is_within(f"{month}/day=1/hour=0/", first.replace(day=1), last):
                yield from (day for day in objects.folders(month) if _is_within(f"{day}/hour=0/", first, last))


def _is_within(key: str, first: date, last: date) -> bool:
    hour = hour_of(key)
    return hour is not None and first <= hour.date() <= last


def _hours(folders: Iterable[str], suffix: str) -> Iterator[datetime]:
    return (hour for folder in folders if (hour := hour_of(folder + suffix)) is not None)


def _list_realtime(objects: Objects, stream: str, prefixes: Iterable[str], shared_prefix: str) -> list[LandingObject]:
    own = (landing for prefix in prefixes for landing in _non_empty(objects.list(prefix), stream))
    shared = (section for info in objects.list(shared_prefix) if (section := section_of(info.key, stream)))
    # By key, because a section that is being moved is in two objects.
    landings = {landing.key: landing for landing in chain(own, shared) if hour_of(landing.key) is not None}
    return sorted(landings.values())


def _non_empty(infos: Iterable[ObjectInfo], stream: str) -> Iterator[LandingObject]:
    """Skip folder markers and empty objects, which hold no events."""
    for info in infos:
        if info.size > 0:
            yield LandingObject(info.key, stream, arrival_time(info.key, info.modified), info.size)
