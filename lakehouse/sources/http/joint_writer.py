"""Store what the processes of the HTTP server gather in one slot as one shared object, so that few events take few PUTs.

The process that holds a lock is the leader: it writes, and the others send it their events over a socket. They are
acknowledged once the leader's object is stored. A process that gets no answer, because the leader died, writes its events by
itself; they may then be stored twice, which counts them once. See `group_commit` for slots.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import msgspec
from filelock import FileLock, Timeout

from lakehouse.errors import LakehouseError, StorageUnavailableError
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.writer import STORE_TIMEOUT_SECONDS, AsyncLandingWriter, Lines

log = logging.getLogger(__name__)

GRACE_SECONDS = 0.02
"""How long the leader waits after a slot for the events of other processes."""

ANSWER_SECONDS = STORE_TIMEOUT_SECONDS + 2
"""How long a process waits for the leader, which fails by itself when storage does not answer."""

LENGTH_BYTES = 4


class Part(msgspec.Struct, frozen=True, array_like=True):
    """NDJSON of one stream, in pieces. Readers take it for plain UTF-8 only where it `starts_as_text`."""

    stream: str
    pieces: Sequence[bytes]
    rows: int
    starts_as_text: bool = True


class StoredPart(msgspec.Struct, frozen=True, array_like=True):
    """The landing object that holds a part, and the number of the part's first row in it."""

    landing: LandingObject
    first_row: int


class _Request(msgspec.Struct, array_like=True):
    at: datetime
    parts: list[Part]


class _Answer(msgspec.Struct, array_like=True):
    stored: list[StoredPart] = []
    error: str | None = None


_Waiting: TypeAlias = "tuple[Part, asyncio.Future[StoredPart]]"


@dataclass(frozen=True, slots=True)
class MeetingPoint:
    """The socket and the lock by which the processes of one server find the leader."""

    listener: socket.socket
    address: str
    """The path of the socket, which is short: the operating system allows about 100 bytes."""
    lock: Path


_opened: list[MeetingPoint] = []


def meeting_point() -> MeetingPoint | None:
    """Return the meeting point that this process or the one that it was forked from has opened."""
    return _opened[-1] if _opened else None


@contextmanager
def open_meeting_point(folder: Path) -> Iterator[MeetingPoint]:
    """Open a meeting point of the processes that are forked during the block, in a private folder. Linux only."""
    folder.mkdir(parents=True, exist_ok=True)
    name, lock = "flush.sock", folder / "flush.lock"
    for path in (folder / name, lock):  # workers of an earlier server may still hold them
        path.unlink(missing_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        meeting = MeetingPoint(listener, f"/proc/self/fd/{descriptor}/{name}", lock)
        listener.bind(meeting.address)
        listener.listen()
        _opened.append(meeting)
        try:
            yield meeting
        finally:
            _opened.remove(meeting)
            os.close(descriptor)


class JointWriter:
    """Lands parts, together with those that other processes have of the same slot."""

    def __init__(
        self, writer: AsyncLandingWriter, classes: Mapping[str, object], meeting: MeetingPoint | None = None
    ) -> None:
        """Let only streams of one class share an object, and none that has no class: it is new, or was removed.

        Without `meeting`, there is no other process.
        """
        self._writer = writer
        self._classes = classes
        self._meeting = meeting
        self._lock = FileLock(meeting.lock) if meeting else None
        self._server: asyncio.Server | None = None
        self._guests = 0
        self._idle: list[_Connection] = []
        self._slots: dict[datetime, list[_Waiting]] = {}
        self._writes: set[asyncio.Task[None]] = set()
        self._answers: set[asyncio.Task[None]] = set()
        self._is_closing = False

    async def start(self) -> None:
        """Become the leader unless there is one."""
        if self._meeting and self._lock and self._server is None:
            with suppress(Timeout):
                self._lock.acquire(timeout=0)
                listener = self._meeting.listener.dup()
                self._server = await asyncio.start_unix_server(self._serve, sock=listener)

    async def close(self) -> None:
        """Answer what other processes have sent, so that they do not store it again, and let one become the leader."""
        self._is_closing = True
        self._close_connections()
        if self._server and self._lock:
            self._server.close()
            if self._answers:
                await asyncio.wait(self._answers, timeout=ANSWER_SECONDS)
            self._lock.release()

    async def land(self, parts: Sequence[Part], at: datetime) -> list[StoredPart]:
        """Store the parts, which arrived `at`, the start of their slot. Raises what landing raises."""
        if self._server is None and not self._idle:
            await self.start()
        if self._meeting is None or self._server is not None:
            return await self._join(parts, at)
        try:
            return await self._ask_leader(parts, at)
        except (OSError, EOFError, TimeoutError, msgspec.DecodeError) as error:
            log.info("The leader does not answer, so this process writes by itself: %r", error)
            self._close_connections()
            return await self._join(parts, at)

    def _close_connections(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _join(self, parts: Sequence[Part], at: datetime) -> list[StoredPart]:
        """Add the parts to what is written of the slot."""
        loop = asyncio.get_running_loop()
        if at not in self._slots:
            self._slots[at] = []
            task = loop.create_task(self._write_slot(at))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)
        waiting = [(part, loop.create_future()) for part in parts]
        self._slots[at] += waiting
        return list(await asyncio.gather(*(stored for _, stored in waiting)))

    async def _write_slot(self, at: datetime) -> None:
        if self._guests:
            await asyncio.sleep(GRACE_SECONDS)
        by_class: dict[object, list[_Waiting]] = {}
        for part, stored in self._slots.pop(at):
            by_class.setdefault(self._classes.get(part.stream, part.stream), []).append((part, stored))
        await asyncio.gather(*(self._write(waiting, at) for waiting in by_class.values()))

    async def _write(self, waiting: Sequence[_Waiting], at: datetime) -> None:
        by_stream: dict[str, list[_Waiting]] = {}
        for part, stored in sorted(waiting, key=lambda each: not each[0].starts_as_text):
            by_stream.setdefault(part.stream, []).append((part, stored))
        lines = [
            Lines(stream, [piece for part, _ in members for piece in part.pieces])
            for stream, members in by_stream.items()
        ]
        try:
            landed = await self._writer.land_shared(lines, at)
        except Exception as error:
            for _, stored in waiting:
                if not stored.done():
                    stored.set_exception(error)
            return
        for landing, members in zip(landed, by_stream.values(), strict=True):
            first_row = 1
            for part, stored in members:
                if not stored.done():
                    stored.set_result(StoredPart(landing, first_row))
                first_row += part.rows

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Land what another process sends, until it closes the connection."""
        connection = _Connection(reader, writer)
        self._guests += 1
        try:
            while not self._is_closing:
                request = msgspec.msgpack.decode(await connection.receive(), type=_Request)
                if self._is_closing:
                    break
                answer = asyncio.ensure_future(self._answer(connection, request))
                self._answers.add(answer)
                answer.add_done_callback(self._answers.discard)
                await answer
        except (OSError, EOFError):
            pass  # the process has ended
        finally:
            self._guests -= 1
            connection.close()

    async def _answer(self, connection: "_Connection", request: _Request) -> None:
        try:
            answer = _Answer(await self._join(request.parts, request.at))
        except LakehouseError as error:
            answer = _Answer(error=str(error))
        await connection.send(answer)

    async def _ask_leader(self, parts: Sequence[Part], at: datetime) -> list[StoredPart]:
        async with asyncio.timeout(ANSWER_SECONDS):
            connection = self._idle.pop() if self._idle else await _connect(self._meeting)
            try:
                await connection.send(_Request(at, [*parts]))
                answer = msgspec.msgpack.decode(await connection.receive(), type=_Answer)
            except BaseException:
                connection.close()
                raise
        self._idle.append(connection)
        if answer.error is not None:
            raise StorageUnavailableError(answer.error)
        return answer.stored


async def _connect(meeting: MeetingPoint | None) -> "_Connection":
    if meeting is None:
        raise ConnectionError("there is no other process")
    return _Connection(*await asyncio.open_unix_connection(meeting.address))


class _Connection:
    """Messages over a stream: four bytes of length, then MessagePack."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, message: msgspec.Struct) -> None:
        content = msgspec.msgpack.encode(message)
        self._writer.write(len(content).to_bytes(LENGTH_BYTES) + content)
        await self._writer.drain()

    async def receive(self) -> bytes:
        length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES))
        return await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()
