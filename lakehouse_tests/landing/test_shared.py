"""Sections of shared landing objects are found, read and deleted like objects of their own."""

import asyncio
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.errors import ObjectNotFoundError, StorageUnavailableError
from lakehouse.landing.fetched_objects import FetchedObjects
from lakehouse.landing.keys import LandingObject, realtime_key
from lakehouse.landing.listing import days_landed, hours_landed, list_day, list_hour
from lakehouse.landing.shared import (
    MAX_NAME_BYTES,
    SHARED_FOLDER,
    delete_landing,
    find_section,
    has_landed,
    open_landing,
    section_of,
    sections,
    shared_key,
)
from lakehouse.landing.writer import AsyncLandingWriter, Lines
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects

AT = datetime(2003, 3, 4, 5, 6, 7, 250_000, UTC)
HOUR = "2003-03-04-05:00"
FOLDER = f"realtime/{SHARED_FOLDER}/year=2003/month=03/day=04/hour=05"

names = st.from_regex(r"[a-z][a-z0-9_]{0,62}", fullmatch=True)
times = st.datetimes(datetime(2010, 1, 1), datetime(2099, 12, 31), timezones=st.timezones())


@given(at=times, number=st.integers(0, 10**9), sizes=st.dictionaries(names, st.integers(0, 10**6), min_size=1))
def test_key_lists_sections_under_keys_of_their_own(at: datetime, number: int, sizes: dict[str, int]) -> None:
    key = shared_key(at, "0a1b2c", number, sizes)
    listed = sections(key)
    assert [(section.stream, section.size) for section in listed] == [*sizes.items()]
    assert [section.offset for section in listed] == [sum([*sizes.values()][:n]) for n in range(len(sizes))]
    assert [section.key for section in listed] == [realtime_key(name, at, "0a1b2c", number) for name in sizes]
    assert {section.arrived_at for section in listed} == {at.astimezone(UTC)}
    assert [section_of(key, name) for name in sizes] == listed


@pytest.mark.parametrize(
    "name",
    [
        "data_050607250000_0a-1.json", "data_050607250000_0a-1~iot.5.json.zst", "data_050607250000_0a-1~.5.json",
        "data_050607250000_0a-1~iot.json", "iot.5.json", "data_050607250000_0a-1~IOT.5.json",
    ],
)  # fmt: skip
def test_other_names_have_no_sections(name: str) -> None:
    assert sections(f"{FOLDER}/{name}") == []
    assert sections(f"realtime/iot/year=2025/month=03/day=04/hour=05/{name}") == []


def _land(connection: Connection, contents: dict[str, bytes]) -> dict[str, LandingObject]:
    writer = AsyncLandingWriter(connection)
    parts = [Lines(stream, [content]) for stream, content in contents.items()]
    return {landed.stream: landed for landed in asyncio.run(writer.land_shared(parts, AT))}


def _streams(count: int) -> list[str]:
    """Name streams that no other test lands in."""
    return [f"s{uuid4().hex[:12]}" for _ in range(count)]


def _contents(objects: Objects, streams: Collection[str]) -> dict[str, bytes]:
    listed = [landed for stream in streams for landed in list_hour(objects, stream, HOUR)]
    assert len({landed.stream for landed in listed}) == len(listed)
    return {landed.stream: bytes(open_landing(objects, landed).read(1 << 20)) for landed in listed}  # type: ignore[call-overload]


def _stored(objects: Objects, streams: Collection[str]) -> list[str]:
    return [info.key for info in objects.list(FOLDER) if any(f"~{stream}." in info.key for stream in streams)]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.binary(min_size=1, max_size=50), min_size=2, max_size=6),
    dropped=st.sets(st.integers(0, 5)),
    interrupted=st.booleans(),
)
def test_deleted_sections_are_gone_and_others_stay(
    connection: Connection, objects: Objects, lines: list[bytes], dropped: set[int], interrupted: bool
) -> None:
    contents = dict(zip(_streams(len(lines)), lines, strict=True))
    landed = _land(connection, contents)
    assert len(_stored(objects, contents)) == 1
    assert _contents(objects, contents) == contents
    assert list_day(objects, next(iter(contents)), AT.date()) == [landed[next(iter(contents))]]

    gone = {stream for number, stream in enumerate(contents) if number in dropped}
    keys = [landed[stream].key for stream in gone]
    if interrupted and keys:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Objects, "delete", _fail)
            with pytest.raises(StorageUnavailableError):
                delete_landing(objects, keys)
        assert _contents(objects, contents) == contents
    for _ in range(2):
        delete_landing(objects, keys)
        kept = {stream: content for stream, content in contents.items() if stream not in gone}
        assert _contents(objects, contents) == kept
        assert len(_stored(objects, contents)) == bool(kept)
    assert {stream for stream in contents if has_landed(objects, landed[stream].key)} == kept.keys()
    for stream in kept:  # as it was listed before the deletion
        assert open_landing(objects, landed[stream]).read(100) == contents[stream]
        assert find_section(objects, landed[stream].key) == landed[stream]


def _fail(*_: Any) -> None:
    raise StorageUnavailableError("killed")


def test_simultaneous_deletions_bring_nothing_back(connection: Connection, objects: Objects) -> None:
    contents = {stream: stream.encode() for stream in _streams(6)}
    landed = _land(connection, contents)
    *deleted, kept = contents
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda stream: delete_landing(objects, [landed[stream].key]), deleted))
    assert _contents(objects, contents) == {kept: contents[kept]}


def test_many_streams_take_several_objects(connection: Connection, objects: Objects) -> None:
    contents = {stream: stream.encode() for stream in _streams(30)}
    _land(connection, contents)
    stored = _stored(objects, contents)
    assert 1 < len(stored) < 8
    assert max(len(key.rsplit("/", 1)[-1]) for key in stored) <= MAX_NAME_BYTES
    assert _contents(objects, contents) == contents


def test_lines_of_one_stream_get_an_object_of_their_own(connection: Connection, objects: Objects) -> None:
    (stream,) = _streams(1)
    landed = _land(connection, {stream: b"{}\n"})[stream]
    assert landed.shared_key is None
    assert objects.get(landed.key) == b"{}\n"


def test_hours_and_days_of_shared_objects_are_found(connection: Connection, objects: Objects) -> None:
    streams: Sequence[str] = _streams(2)
    _land(connection, dict.fromkeys(streams, b"{}\n"))
    for stream in streams:
        assert HOUR in hours_landed(objects, stream, AT.date(), AT.date())
        assert hours_landed(objects, stream, AT.date(), AT.date(), shared=False) == []
        assert AT.date() in days_landed(objects, stream, AT.date().replace(year=2001), AT.date())


def test_shared_object_is_fetched_once_for_all_streams(connection: Connection, tmp_path: Path) -> None:
    objects, writer = Objects.from_connection(connection), AsyncLandingWriter(connection)
    streams = [f"s{uuid4().hex}" for _ in range(3)]
    landed = asyncio.run(writer.land_shared([Lines(name, [name.encode()]) for name in streams], AT))
    fetched = FetchedObjects(tmp_path, max_file_bytes=2 * landed[0].size * len(streams))
    opened = [open_landing(objects, landed[0], fetched)]
    objects.delete([key for obj in landed if (key := obj.shared_key)])
    opened += [open_landing(objects, obj, fetched) for obj in landed[1:]]
    assert [bytes(memoryview(file.read(99))).decode() for file in opened] == streams  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []  # the file has no name


def test_objects_fetched_long_ago_are_fetched_again(objects: Objects, tmp_path: Path) -> None:
    keys = [f"fetched/{uuid4().hex}" for _ in range(3)]
    for number, key in enumerate(keys):
        objects.put(key, b"%d" % number * 10)
    fetched = FetchedObjects(tmp_path, max_file_bytes=10)
    assert [fetched.read_range(objects, key, 2, 3) for key in keys] == [b"000", b"111", b"222"]
    objects.delete(keys)
    assert fetched.read_range(objects, keys[2], 9, 3) == b"2"
    assert fetched.read_range(objects, keys[1], 0, 1) == b"1"
    with pytest.raises(ObjectNotFoundError):
        fetched.read_range(objects, keys[0], 0, 1)
