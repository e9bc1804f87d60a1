"""Accepted streams: checked copies of the streams' folders, which the processes of `lakehouse up` read.

A contract or SQL file that is saved meanwhile is checked first: whether it is right, and whether the stream's tables can
follow it. If not, the stream's last accepted copy stays. Each change makes a new revision, a folder under the home, which
the link `current` names from then on; processes follow the link. See `contracts.streams.revision`.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Protocol
from uuid import uuid4

from lakehouse.contracts.odcs import CONTRACT_FILE, load_contract
from lakehouse.contracts.streams import SHIPPED, Stream
from lakehouse.errors import ContractError, LakehouseError, SchemaChangeError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.table_specs import check_names
from lakehouse.processes.file_stamps import SUFFIXES, Stamps, file_stamps
from lakehouse.processes.home import private_home
from lakehouse.processes.problems import report_problems
from lakehouse.settings import Settings
from lakehouse.storage.objects.connection import Connection

log = logging.getLogger(__name__)

WATCH_INTERVAL_SECONDS = 0.2
"""Time between two checks of the files. A change is taken up once two checks find the same, because it is written then."""

RETRY_SECONDS = 5.0
"""Pause after an error of the storage."""

KEPT_SECONDS = 24 * 3600.0
"""How long earlier revisions stay for runs that have begun with them."""

Content = Mapping[str, bytes]
"""The files of a stream's folder, by name."""


class AcceptedStreams:
    """The accepted streams of a home. Only its supervisor changes them."""

    def __init__(self, settings: Settings, connection: Connection | None = None) -> None:
        """Check the streams that the settings name, against the tables of this storage or that of the settings."""
        self._settings = settings
        self._connection = connection
        self._root = private_home(settings) / "streams"

    @property
    def folder(self) -> Path:
        """The folder that has the accepted streams at any time."""
        return self._root / "current"

    def stamps(self) -> Stamps:
        """Stamp the files of the streams' own folders."""
        return file_stamps(self._settings.streams, depth=1)

    def update(self) -> list[str]:
        """Accept each stream that has changed and is right. Returns a line for each that was accepted, removed or refused.

        Raises ContractError if a folder of streams does not exist, and StorageUnavailableError.
        """
        before = {folder.name: _content(folder) for folder in self.folder.glob("*")}
        after: dict[str, Content] = {}
        lines, problems = list[str](), list[str]()
        for source in self._sources():
            name = source.name
            try:
                content = _content(source)
                if name in after or content != before.get(name):
                    self._check(source, content, after)
                    lines.append(f"Stream {name}: {'changed' if name in before else 'added'}.")
                after[name] = content
            except (ContractError, SchemaChangeError, OSError) as error:
                if name in before:
                    after.setdefault(name, before[name])
                runs_on = "Its last accepted contract and SQL stay" if name in after else "The stream is left out"
                problems.append(f"{error} {runs_on} until this is right.")
        lines += [f"Stream {name}: removed. Its tables stay." for name in before if name not in after]
        if after != before or not self.folder.exists():
            self._publish(after)
        report_problems(self._settings, "streams", problems)
        return [*lines, *problems]

    def _sources(self) -> list[Path]:
        for parent in self._settings.streams:
            if not parent.is_dir():
                raise ContractError(f"{parent}: is not a folder. LAKEHOUSE_STREAMS lists folders that hold streams.")
        return [
            path.parent
            for parent in self._settings.streams
            for path in sorted(parent.absolute().glob(f"*/{CONTRACT_FILE}"))
        ]

    def _check(self, source: Path, content: Content, others: Iterable[str]) -> None:
        """Check a stream, and create or change its tables. Raises ContractError or SchemaChangeError, naming its own files."""
        name, taken = source.name, {other: self.folder / other for other in others}
        if self._settings.examples:
            taken |= {path.parent.name: path.parent for path in SHIPPED.glob(f"*/{CONTRACT_FILE}")}
        if name in taken:
            raise ContractError(f"{source}: there is a stream {name} already.")
        with TemporaryDirectory(prefix="lakehouse-stream-") as scratch:
            draft = _write(Path(scratch, name), content)
            try:
                stream = Stream(name, draft, load_contract(draft))
                check_names({**taken, name: draft})
                Lake(self._settings, self._connection).bootstrap([stream])
            except (ContractError, SchemaChangeError) as error:
                raise type(error)(str(error).replace(str(draft), str(source))) from error

    def _publish(self, streams: Mapping[str, Content]) -> None:
        files = {Path(name, file): text for name, content in streams.items() for file, text in content.items()}
        publish_revision(self._root, files)


class Accepted(Protocol):
    """Accepted copies of definitions."""

    def stamps(self) -> object:
        """Stamp what the copies depend on."""

    def update(self) -> list[str]:
        """Accept what has changed and is right. Returns a line for each change. Raises LakehouseError."""


def publish_revision(root: Path, files: Mapping[Path, bytes]) -> None:
    """Write a new revision of accepted files under `root`, and let the link `current` name it."""
    revision, current = root / f"{time.time_ns()}", root / "current"
    revision.mkdir(parents=True)
    for path, content in files.items():
        (revision / path).parent.mkdir(exist_ok=True)
        (revision / path).write_bytes(content)
    link = root / uuid4().hex
    link.symlink_to(revision.name)
    link.replace(current)
    oldest = time.time() - KEPT_SECONDS
    for folder in root.iterdir():
        if folder not in (current, revision) and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)


def watch(accepted: Accepted, report: Callable[[str], None], stop: Event) -> None:
    """Update accepted copies whenever their own files have changed, until `stop` is set. Runs in a thread."""
    handled, failure = accepted.stamps(), ""
    while not stop.wait(WATCH_INTERVAL_SECONDS):
        if (stamps := accepted.stamps()) == handled:
            continue
        while not stop.wait(WATCH_INTERVAL_SECONDS) and (later := accepted.stamps()) != stamps:
            stamps = later
        try:
            for line in accepted.update():
                report(line)
            handled, failure = stamps, ""
        except LakehouseError as error:
            if str(error) != failure:
                report(failure := str(error))
            stop.wait(RETRY_SECONDS)
        except Exception:  # if the thread ended, no later change would be taken up
            log.exception("Saved files can't be checked; trying again")
            stop.wait(RETRY_SECONDS)


def _content(folder: Path) -> Content:
    """Read a stream's files. Raises OSError if one can't be read."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES}


def _write(folder: Path, content: Content) -> Path:
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_bytes(text)
    return folder
