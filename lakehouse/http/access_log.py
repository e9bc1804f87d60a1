"""The access log: a line of JSON for each request."""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from lakehouse.http.metrics import Metrics

WRITE_INTERVAL_SECONDS = 0.5
"""Lines are written in batches, because a write for each request would cost too much."""

MAX_LOG_BYTES = 64 << 20
"""Size at which the log moves aside, to one file of the past."""


class AccessLog:
    """A log file that several processes append to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[bytes] = []
        self._encoder = msgspec.json.Encoder()

    def add(self, line: dict[str, object]) -> None:
        """Add a line to the next batch."""
        self._lines.append(self._encoder.encode(line))

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            await asyncio.sleep(WRITE_INTERVAL_SECONDS)
            with suppress(OSError):  # a full disk must not end the log for good
                self.write()

    def write(self) -> None:
        """Write the lines added since the last batch. Raises OSError."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        lines.append(b"")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.write(file, b"\n".join(lines))
            # Compare inodes, because another process may have moved this file since it was opened.
            if os.fstat(file).st_size > MAX_LOG_BYTES and os.path.samestat(os.fstat(file), os.stat(self._path)):
                self._path.replace(self._path.with_suffix(".1" + self._path.suffix))
        finally:
            os.close(file)


def access_log_middleware(log: AccessLog, metrics: Metrics) -> Callable[[ASGIApp], ASGIApp]:
    """Build the middleware that logs and counts each request."""

    def wrap(app: ASGIApp) -> ASGIApp:
        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP:
                await app(scope, receive, send)
                return
            started = time.perf_counter()
            status = 500

            async def send_recording_status(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, send_recording_status)
            finally:
                seconds = time.perf_counter() - started
                metrics.count_request(scope["method"], scope["path"], status, seconds)
                log.add(_line(scope, status, seconds))

        return handle

    return wrap


def _line(scope: HTTPScope, status: int, seconds: float) -> dict[str, object]:
    client = scope.get("client")
    length = next((value for name, value in scope["headers"] if name == b"content-length"), None)
    return {
        "at": datetime.now(UTC),
        "client": client[0] if client else None,
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "bytes": int(length) if length and length.isdigit() else None,
        "seconds": round(seconds, 6),
        "process": os.getpid(),
    }
