"""Status of reading Kinesis, kept in a file that other processes read, and as Prometheus metrics."""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lakehouse.processes.atomic_file import write_private
from lakehouse.settings import Settings

MAX_AGE_SECONDS = 30.0
"""An older status belongs to a reader that has ended."""


class StreamStatus(msgspec.Struct, frozen=True):
    """How far one Kinesis stream has been read."""

    stream: str
    source: str
    shards: int
    """Shards that are not read to their end."""
    behind_ms: int | None
    """How far the slowest shard is behind its newest record; None if that is not known yet."""
    records: int
    """Records landed since the reader started. The next two count from there too."""
    objects: int
    bytes: int
    error: str | None = msgspec.field(name="problem")
    at: float
    """When the status was written, in seconds since 1970."""

    @property
    def is_current(self) -> bool:
        """Whether a running reader has written this."""
        return time.time() - self.at < MAX_AGE_SECONDS


def write_statuses(settings: Settings, statuses: Sequence[StreamStatus]) -> None:
    """Write the statuses for other processes."""
    path = _path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, msgspec.json.encode(statuses).decode())


def read_statuses(settings: Settings) -> list[StreamStatus]:
    """Read what the last reader of this home wrote; empty if none ever ran."""
    try:
        return msgspec.json.decode(_path(settings).read_bytes(), type=list[StreamStatus])
    except (OSError, msgspec.DecodeError):
        return []


_METRICS = {
    "behind_seconds": "gauge",
    "shards": "gauge",
    "failing": "gauge",
    "records_total": "counter",
    "bytes_total": "counter",
}


def metrics(settings: Settings) -> bytes:
    """Write the current statuses in Prometheus' text format."""
    lines: list[str] = []
    statuses = [status for status in read_statuses(settings) if status.is_current]
    for name, kind in _METRICS.items():
        samples = [(status.stream, value) for status in statuses if (value := _value(status, name)) is not None]
        if samples:
            lines.append(f"# TYPE lakehouse_kinesis_{name} {kind}")
            lines += [f'lakehouse_kinesis_{name}{{stream="{stream}"}} {value}' for stream, value in samples]
    return "".join(line + "\n" for line in lines).encode()


def _value(status: StreamStatus, metric: str) -> float | None:
    if metric == "behind_seconds":
        return None if status.behind_ms is None else status.behind_ms / 1000
    if metric == "failing":
        return int(status.error is not None)
    return int(getattr(status, metric.removesuffix("_total")))


def _path(settings: Settings) -> Path:
    return settings.root / "kinesis" / "status.json"
