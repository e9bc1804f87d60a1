"""Change marks: how the processes of one home tell each other what they changed, so that readers poll storage less.

A mark is a hint. Changes made from other machines leave none, and a mark may be lost with its process.
"""

import os
import time
from contextlib import suppress
from pathlib import Path


class ChangeMarks:
    """Marks in one folder, a file for each name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, int] = {}

    def mark(self, name: str) -> None:
        """Mark a name as changed. Best effort: readers find missed changes by polling storage."""
        now = time.time_ns()  # because the file system's own clock may stand still for some milliseconds
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / name
            path.touch()
            os.utime(path, ns=(now, now))

    def poll(self) -> set[str]:
        """Return the names marked since the last poll; the first poll returns all marks."""
        marks: dict[str, int] = {}
        with suppress(OSError), os.scandir(self._folder) as entries:
            marks = {entry.name: entry.stat().st_mtime_ns for entry in entries}
        changed = {name for name, modified_ns in marks.items() if self._seen.get(name) != modified_ns}
        self._seen = marks
        return changed
