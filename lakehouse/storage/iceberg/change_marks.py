"""Marks that the programs of one home leave for each other when they have changed something, so that who wants to know
need not ask storage all the time.

A mark says where to look and no more: what changed elsewhere has none, and one may be lost with its program.
"""

import os
import time
from contextlib import suppress
from pathlib import Path


class Changes:
    """Marks in one folder, a file a name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, int] = {}

    def mark(self, name: str) -> None:
        """Say that what this names has changed. Never fails: who is not told looks for itself, a little later."""
        now = time.time_ns()  # the file system's own clock may stand still for some milliseconds
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / name
            path.touch()
            os.utime(path, ns=(now, now))

    def look(self) -> set[str]:
        """What has been marked since the last look; at the first, what ever was."""
        found: dict[str, int] = {}
        with suppress(OSError), os.scandir(self._folder) as entries:
            found = {entry.name: entry.stat().st_mtime_ns for entry in entries}
        changed = {name for name, at in found.items() if self._seen.get(name) != at}
        self._seen = found
        return changed
