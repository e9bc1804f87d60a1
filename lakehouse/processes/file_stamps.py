"""Stamps of the files that definitions are read from, by which a process finds out that one has changed."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

SUFFIXES = (".py", ".sql", ".yaml")

Stamps = Mapping[str, tuple[int, int, int]]
"""The time of change in nanoseconds, size and inode of each file, by its path."""


def file_stamps(folders: Iterable[Path], *, depth: int | None = None, suffixes: tuple[str, ...] = SUFFIXES) -> Stamps:
    """Stamp the files of these suffixes under `folders`, by default code, SQL and contracts.

    With `depth`, stamp only those so many folders down.
    """
    stamps: dict[str, tuple[int, int, int]] = {}
    for folder in folders:
        for parent, folders_within, names in os.walk(folder):
            level = len(Path(parent).relative_to(folder).parts)
            folders_within[:] = [
                name for name in folders_within if not name.startswith((".", "__")) and (depth is None or level < depth)
            ]
            for path in (os.path.join(parent, name) for name in names if name.endswith(suffixes)):
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(path)
                    stamps[path] = status.st_mtime_ns, status.st_size, status.st_ino
    return stamps
