"""How the reading of Kinesis stands, kept in a file that other processes look at."""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lakehouse.processes.atomic_file import write_private
from lakehouse.settings import Settings

CURRENT = 30.0
"""Seconds after which a status is of a reader that has ended."""


class Status(msgspec.Struct, frozen=True):
    """How far one Kinesis stream has been read."""

    stream: str
    source: str
    shards: int
    """Those that are not read to their end."""
    behind_ms: int | None
    """How far the slowest shard is behind its newest record; None when that is not known yet."""
    records: int
    """Landed since the reader was started, as are objects and bytes."""
    objects: int
    bytes: int
    problem: str | None
    at: float
    """Seconds since 1970."""

    @property
    def is_current(self) -> bool:
        """Whether a reader has said this just now."""
        return time.time() - self.at < CURRENT


def write(settings: Settings, statuses: Sequence[Status]) -> None:
    """Keep the statuses for others to read."""
    path = _path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, msgspec.json.encode(statuses).decode())


def read(settings: Settings) -> list[Status]:
    """What the last reader of this home said; nothing when none ever ran."""
    try:
        return msgspec.json.decode(_path(settings).read_bytes(), type=list[Status])
    except (OSError, msgspec.DecodeError):
        return []


def metrics(settings: Settings) -> bytes:
    """The statuses in Prometheus' text format."""
    lines: list[str] = []
    statuses = [status for status in read(settings) if status.is_current]
    for name, kind in _METRICS.items():
        told = [(status.stream, number) for status in statuses if (number := _number(status, name)) is not None]
        if told:
            lines.append(f"# TYPE lakehouse_kinesis_{name} {kind}")
            lines += [f'lakehouse_kinesis_{name}{{stream="{stream}"}} {number}' for stream, number in told]
    return "".join(line + "\n" for line in lines).encode()


_METRICS = {
    "behind_seconds": "gauge",
    "shards": "gauge",
    "failing": "gauge",
    "records_total": "counter",
    "bytes_total": "counter",
}


def _number(status: Status, metric: str) -> float | None:
    if metric == "behind_seconds":
        return None if status.behind_ms is None else status.behind_ms / 1000
    if metric == "failing":
        return int(status.problem is not None)
    return int(getattr(status, metric.removesuffix("_total")))


def _path(settings: Settings) -> Path:
    return settings.root / "kinesis" / "status.json"
