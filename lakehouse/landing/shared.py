"""Shared landing objects: the events of several streams in one object, so that few events take few PUTs.

Each stream has a section of the object. A section is a landing object like any other, with the key that it would have by
itself, and it is read by a range of bytes. The name of the shared object lists its sections: `…~iot.1234~orders.567.json`
has 1,234 bytes of iot, then 567 of orders. When sections are deleted, the others move to an object whose name has one more
`~` before the list. It sorts later, so a listing in progress meets one of the two.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, date, datetime
from io import BytesIO
from itertools import takewhile
from pathlib import Path
from tempfile import gettempdir

from filelock import FileLock

from lakehouse.errors import ObjectNotFoundError
from lakehouse.landing.fetched_objects import FetchedObjects
from lakehouse.landing.keys import (
    LANDED_NAME,
    LandingObject,
    arrival_time,
    day_prefixes,
    hour_of,
    hour_prefixes,
    realtime_key,
)
from lakehouse.landing.readers.content import InputStream
from lakehouse.storage.durability import sync
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects

SHARED_FOLDER = "_shared"
"""Takes a stream's place in the key. No stream has this name, because theirs start with a letter."""

MAX_NAME_BYTES = 250
"""The embedded storage allows 255 bytes."""

_KEY = re.compile(
    rf"realtime/{SHARED_FOLDER}(/.+/data_\d{{12}}_[0-9a-z]+-\d+)(~+)([a-z][a-z0-9_]*\.\d+(?:~[a-z][a-z0-9_]*\.\d+)*)\.json",
    re.ASCII,
)
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class _Name:
    """The parts of a shared object's key."""

    stem: str
    """The part that the keys of its sections share, from the slash after the stream to the suffix."""
    mark: str
    """As many `~` as the object has been rewritten, and one."""
    sizes: Mapping[str, int]

    def key(self) -> str:
        sections = "~".join(f"{stream}.{size}" for stream, size in self.sizes.items())
        return f"realtime/{SHARED_FOLDER}{self.stem}{self.mark}{sections}.json"


def shared_key(at: datetime, writer: str, number: int, sizes: Mapping[str, int]) -> str:
    """Build the key of a shared object with sections of these streams, each of so many bytes. See `realtime_key`."""
    stem = realtime_key(SHARED_FOLDER, at, writer, number).removeprefix(f"realtime/{SHARED_FOLDER}")
    return _Name(stem.removesuffix(".json"), "~", sizes).key()


def fits_name(key: str) -> bool:
    """Return whether the object's name is not too long, because it lists too many sections."""
    return len(key.rsplit("/", 1)[-1]) <= MAX_NAME_BYTES


def sections(key: str) -> list[LandingObject]:
    """List the sections of the shared object of this key; none if it is no such key."""
    name = _parse(key)
    return [] if name is None else [*_sections(key, name)]


def section_of(key: str, stream: str) -> LandingObject | None:
    """Return a stream's section of the shared object of this key, if there is one."""
    if f"~{stream}." not in key or (name := _parse(key)) is None or stream not in name.sizes:
        return None
    before = takewhile(lambda other: other != stream, name.sizes)
    return _section(key, name, stream, sum(name.sizes[other] for other in before))


def shared_day(day: date) -> str:
    """Return the folder of a day's shared objects."""
    return next(iter(day_prefixes(SHARED_FOLDER, day)))


def shared_hour(hour: datetime) -> str:
    """Return the folder of an hour's shared objects."""
    return next(iter(hour_prefixes(SHARED_FOLDER, hour)))


def open_landing(objects: Objects, obj: LandingObject, fetched: FetchedObjects | None = None) -> InputStream:
    """Open a landing object, whether it is a section or not. Raises ObjectNotFoundError.

    With `fetched`, a shared object is fetched once for all of its sections.
    """
    if obj.shared_key is None:
        return objects.open(obj.key)
    try:
        if fetched is not None:
            return BytesIO(fetched.read_range(objects, obj.shared_key, obj.offset, obj.size))
        return BytesIO(objects.read_range(obj.shared_key, obj.offset, obj.size))
    except ObjectNotFoundError:
        moved = find_section(objects, obj.key)  # its neighbours may have been deleted since it was listed
        if moved is None or moved.shared_key is None:
            raise
        return BytesIO(objects.read_range(moved.shared_key, moved.offset, moved.size))


def find_section(objects: Objects, key: str) -> LandingObject | None:
    """Find a section by its key."""
    stem = _stem(key)
    if stem is None:
        return None
    start = f"realtime/{SHARED_FOLDER}{stem}"
    for info in objects.list(start.rpartition("/")[0], start_after=start):
        if not info.key.startswith(f"{start}~"):
            break
        for section in sections(info.key):
            if section.key == key:
                return section
    return None


def has_landed(objects: Objects, key: str) -> bool:
    """Return whether there is a landing object of this key."""
    return objects.head(key) is not None or find_section(objects, key) is not None


def delete_landing(objects: Objects, keys: Iterable[str]) -> None:
    """Delete landing objects, among them sections, whose neighbours stay. A key that does not exist is no error.

    It can be interrupted anywhere and run again. Deletions on one machine take turns, because one that moved sections
    which another deletes would bring them back.
    """
    keys = {*keys}
    folders = {shared_hour(hour) for key in keys if _stem(key) and (hour := hour_of(key))}
    with _turn(objects.connection):
        for folder in sorted(folders):
            _delete_sections(objects, folder, keys)
    objects.delete(keys)


def _turn(connection: Connection) -> FileLock:
    folder = connection.data_directory.parent if connection.data_directory else Path(gettempdir())
    return FileLock(folder / f"lakehouse-{connection.bucket}-landing.lock")


def _delete_sections(objects: Objects, folder: str, keys: Set[str]) -> None:
    while touched := [info.key for info in objects.list(folder) if keys & {s.key for s in sections(info.key)}]:
        for key in touched:
            _move_sections(objects, key, [section for section in sections(key) if section.key not in keys])
        sync(objects.connection)  # a power cut must not undo this and keep what follows
        objects.delete(touched)


def _move_sections(objects: Objects, key: str, kept: Sequence[LandingObject]) -> None:
    """Write an object with some of the sections of another."""
    name = _parse(key)
    if name is None or not kept:
        return
    try:
        content = objects.get(key)
    except ObjectNotFoundError:
        return  # another deletion has moved them
    parts = [content[section.offset : section.offset + section.size] for section in kept]
    moved = _Name(name.stem, f"{name.mark}~", {section.stream: section.size for section in kept})
    objects.put(moved.key(), b"".join(parts))


def _parse(key: str) -> _Name | None:
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    pairs = (part.split(".") for part in match[3].split("~"))
    return _Name(match[1], match[2], {stream: int(size) for stream, size in pairs})


def _sections(key: str, name: _Name) -> Iterator[LandingObject]:
    offset = 0
    for stream, size in name.sizes.items():
        yield _section(key, name, stream, offset)
        offset += size


def _section(key: str, name: _Name, stream: str, offset: int) -> LandingObject:
    section_key = f"realtime/{stream}{name.stem}.json"
    return LandingObject(section_key, stream, arrival_time(section_key, _EPOCH), name.sizes[stream], key, offset)


def _stem(key: str) -> str | None:
    """Return what the key of a section shares with that of its shared object. None if the key can't be a section's."""
    if hour_of(key) is None or not LANDED_NAME.fullmatch(key.rsplit("/", 1)[-1]) or not key.endswith(".json"):
        return None
    return "/" + key.split("/", 2)[2].removesuffix(".json")
