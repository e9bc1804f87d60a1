"""An object to read: its name, its arrival and how to open it. Finding and listing objects belongs to `storage`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol


class Readable(Protocol):
    """An open object. Files, `io.BytesIO` and obstore's readers are; `seek` is used for Parquet if there."""

    def read(self, size: int, /) -> object:
        """At most `size` bytes, as anything with the buffer protocol; nothing at the end."""

    def close(self) -> object:
        """Let go of the object."""


@dataclass(frozen=True, slots=True)
class Source:
    """One landing object: `name` is its key (bronze `_object`), `size` its bytes as stored."""

    name: str
    arrived_at: datetime
    size: int
    open: Callable[[], Readable]


def local_source(path: Path, name: str | None = None, arrived_at: datetime | None = None) -> Source:
    """A local file as a source; without an arrival time, the file's modification time is taken."""
    stat = path.stat()
    arrived = arrived_at or datetime.fromtimestamp(stat.st_mtime, UTC)
    return Source(name or path.name, arrived, stat.st_size, lambda: path.open("rb", buffering=0))
