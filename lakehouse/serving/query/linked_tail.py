"""The hot tail for programs beside the serving process, so that their unified views are as fresh as its own.

The serving process of the home says which files the tail has. They are linked into a folder of this process, where they stay
for as long as they are needed, whatever becomes of the originals.
"""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from uuid import uuid4

from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.http.api_keys import local_key
from lakehouse.models.model import Model
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.live_gold import LiveRows
from lakehouse.pipeline.readable_lake import TableCatalog
from lakehouse.processes.home import private_home
from lakehouse.processes.scratch import own_folder
from lakehouse.processes.service import RunningService, get_json
from lakehouse.serving.api import server
from lakehouse.settings import Settings

log = logging.getLogger(__name__)

PATH = "/v1/tail/files"
"""The path at which the serving process names the files of its hot tail. No other machine can use them."""

MAX_ATTEMPTS = 3
"""A file may be gone when it is linked, because the serving process has just restarted."""


@dataclass(frozen=True, slots=True)
class LinkedTail:
    """Files of the hot tail by stream, in a folder of this process."""

    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    folder: Path | None = None
    """None without files."""

    def remove(self) -> None:
        """Remove the folder."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


class _LoadedOnce:
    """The tables of a lake, each as it was when it was first loaded, so that all views agree."""

    def __init__(self, tables: TableCatalog) -> None:
        self.load = cache(tables.load)
        self.exists = tables.exists
        self.names = tables.names


@dataclass(frozen=True)
class LakeWithTail:
    """A lake whose unified views hold the rows of a hot tail.

    Its tables must be loaded after the tail was linked: a row leaves the tail only once a table holds it.
    """

    lake: Lake
    tail: Mapping[str, Sequence[str]]

    @property
    def streams(self) -> Mapping[str, Stream]:
        """All streams by name."""
        return self.lake.streams

    @cached_property
    def tables(self) -> TableCatalog:
        """All tables."""
        return _LoadedOnce(self.lake.tables)

    @property
    def live_rows(self) -> Mapping[str, LiveRows]:
        """Rows of live gold that are computed already: none."""
        return {}

    @property
    def live_models(self) -> Mapping[str, Model]:
        """The models of gold that have a live view, by its name."""
        return self.lake.live_models

    def uncovered(self, stream: Stream, silver: Table, realtime: Table) -> Sequence[str] | None:
        """Return the hours of realtime that may have a key that silver lacks; None for all hours."""
        return self.lake.uncovered(stream, silver, realtime)


def link_tail(settings: Settings) -> LinkedTail:
    """Link the hot tail of the home's serving process; it is empty where none runs.

    Logs a warning if the process runs and does not answer, because the newest rows are missing then.
    """
    for _ in range(MAX_ATTEMPTS):
        service = server.running(settings)
        if service is None:
            return LinkedTail()
        if (tail := _link(settings, service)) is not None:
            return tail
    log.warning("The serving process does not answer, so events of the last minutes may be missing from unified views.")
    return LinkedTail()


def _link(settings: Settings, service: RunningService) -> LinkedTail | None:
    """Link what the serving process has; None if it does not answer, or has replaced its files meanwhile."""
    listed: Mapping[str, Sequence[str]] | None = get_json(service, PATH, local_key(settings))
    if listed is None:
        return None
    if not any(listed.values()):
        return LinkedTail()
    folder = own_folder(private_home(settings) / "scratch") / f"tail-{uuid4().hex}"
    folder.mkdir()
    try:
        files = {stream: [_link_file(Path(path), folder) for path in paths] for stream, paths in listed.items()}
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return LinkedTail(files, folder)


def _link_file(path: Path, folder: Path) -> str:
    link = folder / path.name
    try:
        os.link(path, link)
    except PermissionError:  # Linux lets no user link files of another
        shutil.copyfile(path, link)
    return str(link)
