"""Processes of one server store the events of a slot together, and each stores its own when the leader is gone."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from lakehouse.errors import StorageUnavailableError
from lakehouse.landing.shared import open_landing
from lakehouse.landing.writer import AsyncLandingWriter
from lakehouse.sources.http.joint_writer import (
    JointWriter,
    MeetingPoint,
    Part,
    StoredPart,
    open_meeting_point,
)
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects

AT = datetime(2003, 3, 4, 5, 6, 7, 250_000, UTC)


@pytest.fixture
def meeting(tmp_path: Path) -> Iterator[MeetingPoint]:
    with open_meeting_point(tmp_path / "a long path" / ("x" * 200)) as meeting:
        yield meeting


@pytest.fixture
def writers(connection: Connection, meeting: MeetingPoint) -> Callable[..., list[JointWriter]]:
    """Make writers as different processes have them, all streams of one class."""

    def make(count: int, classes: dict[str, object], landing: AsyncLandingWriter | None = None) -> list[JointWriter]:
        return [JointWriter(landing or AsyncLandingWriter(connection), classes, meeting) for _ in range(count)]

    return make


def _run(writers: list[JointWriter], work: Callable[[], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with AsyncExitStack() as stack:
            for writer in writers:
                await writer.start()
                stack.push_async_callback(writer.close)
            return await work()

    return asyncio.run(run())


def _streams(count: int) -> list[str]:
    return [f"s{uuid4().hex[:12]}" for _ in range(count)]


def _rows(objects: Objects, stored: StoredPart, count: int) -> bytes:
    content = bytes(open_landing(objects, stored.landing).read(1 << 20))  # type: ignore[call-overload]
    return b"".join(content.splitlines(keepends=True)[stored.first_row - 1 : stored.first_row - 1 + count])


def test_processes_share_one_object_for_a_slot(objects: Objects, writers: Callable[..., list[JointWriter]]) -> None:
    streams = _streams(3)
    members = writers(3, dict.fromkeys(streams))
    parts = {(n, stream): Part(stream, [b'{"n": %d}\n' % n, b"{}\n"], 2) for n in range(3) for stream in streams[n:]}

    async def work() -> list[list[StoredPart]]:
        await members[1].land([Part(streams[0], [b"{}\n"], 1)], AT - timedelta(seconds=1))  # connects to the leader
        each = ([part for (number, _), part in parts.items() if number == n] for n in range(3))
        return list(await asyncio.gather(*(member.land(own, AT) for member, own in zip(members, each, strict=True))))

    stored = [part for of_member in _run(members, work) for part in of_member]
    assert len({part.landing.shared_key for part in stored}) == 1
    for part, answer in zip(parts.values(), stored, strict=True):
        assert answer.landing.stream == part.stream
        assert answer.landing.arrived_at == AT
        assert _rows(objects, answer, part.rows) == b"".join(part.pieces)


def test_text_comes_first_in_a_section(objects: Objects, writers: Callable[..., list[JointWriter]]) -> None:
    (stream,) = _streams(1)
    members = writers(1, {stream: None})
    zip_like, text = Part(stream, [b"\n\x1f\x8b\n"], 1, False), Part(stream, [b"{}\n"], 1)
    both = _run(members, lambda: asyncio.gather(members[0].land([zip_like], AT), members[0].land([text], AT)))
    assert [stored.first_row for (stored,) in both] == [2, 1]


def test_classes_share_no_object(writers: Callable[..., list[JointWriter]]) -> None:
    streams = _streams(4)
    members = writers(1, dict(zip(streams, (7, 7, None, None), strict=True)))
    stored = _run(members, lambda: members[0].land([Part(stream, [b"{}\n"], 1) for stream in streams], AT))
    keys = [part.landing.shared_key for part in stored]
    assert keys[0] == keys[1] != keys[2] == keys[3]


def test_members_write_alone_when_the_leader_is_gone(
    objects: Objects, meeting: MeetingPoint, writers: Callable[..., list[JointWriter]]
) -> None:
    (stream,) = _streams(1)
    leader, *members = writers(3, {stream: None})

    async def work() -> list[StoredPart]:
        stored = [*await members[0].land([Part(stream, [b"1\n"], 1)], AT)]
        await leader.close()  # its connections end with it
        stored += await members[0].land([Part(stream, [b"2\n"], 1)], AT)
        return stored + await members[1].land([Part(stream, [b"3\n"], 1)], AT)

    stored = _run([leader, *members], work)
    assert [_rows(objects, part, 1) for part in stored] == [b"1\n", b"2\n", b"3\n"]


def test_silent_leader_is_not_waited_for(
    objects: Objects, monkeypatch: pytest.MonkeyPatch, meeting: MeetingPoint, writers: Callable[..., list[JointWriter]]
) -> None:
    monkeypatch.setattr("lakehouse.sources.http.joint_writer.ANSWER_SECONDS", 0.05)
    (stream,) = _streams(1)
    leader, member = writers(2, {stream: None})

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(leader, "_join", never)
    (stored,) = _run([leader, member], lambda: member.land([Part(stream, [b"1\n"], 1)], AT))
    assert _rows(objects, stored, 1) == b"1\n"


class _FullWriter(AsyncLandingWriter):
    async def land_shared(self, parts: object, at: object) -> list[Any]:
        raise StorageUnavailableError("the disk is full")


def test_error_of_storage_reaches_every_member(
    connection: Connection, writers: Callable[..., list[JointWriter]]
) -> None:
    (stream,) = _streams(1)
    members = writers(2, {stream: None}, _FullWriter(connection))
    lands = lambda: asyncio.gather(*(m.land([Part(stream, [b"1\n"], 1)], AT) for m in members), return_exceptions=True)  # noqa: E731
    assert [(type(error), str(error)) for error in _run(members, lands)] == [
        (StorageUnavailableError, "the disk is full")
    ] * 2
