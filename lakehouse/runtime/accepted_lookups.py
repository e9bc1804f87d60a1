"""Accepted look-ups: checked copies of the declared look-ups, which the processes of `lakehouse up` read.

One that is saved meanwhile is checked against the tables that it reads. If it is wrong, its last accepted copy stays. See
`accepted_streams` for how the copies are kept.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from lakehouse.contracts.streams import revision
from lakehouse.errors import LookupFileError
from lakehouse.pipeline.lake import Lake
from lakehouse.processes.file_stamps import file_stamps
from lakehouse.processes.home import private_home
from lakehouse.processes.problems import report_problems
from lakehouse.runtime.accepted_streams import publish_revision
from lakehouse.serving.lookups.checking import published_sql
from lakehouse.serving.lookups.declaration import check_name, discover_lookups, read_lookup
from lakehouse.settings import Settings
from lakehouse.storage.objects.connection import Connection

RECHECK_SECONDS = 5.0
"""Time between two checks while a look-up is wrong: a table that it lacks may have been made."""


class AcceptedLookups:
    """The accepted look-ups of a home. Only its supervisor changes them."""

    def __init__(self, settings: Settings, connection: Connection | None = None) -> None:
        """Check the look-ups that the settings name, over their streams and the tables of this storage, or of theirs."""
        self._settings = settings
        self._connection = connection
        self._root = private_home(settings) / "lookups"
        self._problems: list[str] = []

    @property
    def folder(self) -> Path:
        """The folder that has the accepted look-ups at any time."""
        return self._root / "current"

    def stamps(self) -> object:
        """Stamp the files of the look-ups, and the streams; what is wrong is checked again from time to time."""
        files = file_stamps(self._settings.lookups, depth=0)
        return revision(self._settings.streams), files, self._problems and time.monotonic() // RECHECK_SECONDS

    def update(self) -> list[str]:
        """Accept each look-up that has changed and is right. Returns a line for each that changed, and each new problem.

        Raises StorageUnavailableError.
        """
        lake = Lake(self._settings, self._connection, metadata_only=True)
        before = {path.stem: path.read_bytes() for path in self.folder.glob("*.sql")}
        known = {**discover_lookups((), lake.streams).by_name}
        after, lines, problems = dict[str, bytes](), list[str](), list[str]()
        for path in self._files(problems):
            name = path.stem
            try:
                lookup = read_lookup(path)
                check_name(lookup, lake.streams, known, lake.models.models.by_name)
                published_sql(lake, lookup)
                after[name], known[name] = path.read_bytes(), lookup
                if after[name] != before.get(name):
                    lines.append(f"Look-up {name}: {'changed' if name in before else 'added'}.")
            except (LookupFileError, OSError) as error:
                if name in before:
                    after.setdefault(name, before[name])
                runs_on = "Its last accepted file stays" if name in after else "The look-up is left out"
                problems.append(f"{error} {runs_on} until this is right.")
        lines += [f"Look-up {name}: removed." for name in before if name not in after]
        if after != before or not self.folder.exists():
            publish_revision(self._root, {Path(f"{name}.sql"): text for name, text in after.items()})
        report_problems(self._settings, "lookups", problems)
        new = [problem for problem in problems if problem not in self._problems]
        self._problems = problems
        return [*lines, *new]

    def _files(self, problems: list[str]) -> Iterator[Path]:
        for folder in self._settings.lookups:
            if not folder.is_dir():
                problems.append(f"{folder}: is not a folder. LAKEHOUSE_LOOKUPS lists folders of .sql files.")
            yield from sorted(folder.absolute().glob("*.sql"))
