"""Choose the files to load from what a user names: what is data, what is left out and why, and what is refused.

Rows are not read here. See `data_names` for what names tell, `readers.signatures` for how content is recognised, and
`opening` for what is opened first.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lakehouse.errors import LakehouseError, UnreadableSourceError
from lakehouse.landing.data_names import EXPORT, TableKind, file_reason, hidden_reason, table_reason
from lakehouse.landing.formats import COMPRESSION_SUFFIXES, FORMAT_SUFFIXES, format_of_name
from lakehouse.landing.opening import (
    Opener,
    open_avro,
    open_delta,
    open_iceberg,
    open_into,
    open_orc,
    open_workbook,
    unpack_tar,
    unpack_zip,
)
from lakehouse.landing.partition_folders import partition_folders
from lakehouse.landing.readers.content import local_object
from lakehouse.landing.readers.signatures import (
    AVRO,
    OLD_WORKBOOK,
    ORC,
    TAR,
    WORKBOOK,
    ZIP,
    foreign_content,
    looks_like_data,
)
from lakehouse.landing.table_folders import table_in

_OPENERS: Mapping[str, Opener] = {
    ZIP: unpack_zip,
    TAR: unpack_tar,
    WORKBOOK: open_workbook,
    OLD_WORKBOOK: open_workbook,
    AVRO: open_avro,
    ORC: open_orc,
}
"""By kind of content, what makes files of it that are read."""

_TABLE_OPENERS: Mapping[TableKind, Opener] = {"a Delta table": open_delta, "an Iceberg table": open_iceberg}

MAX_NESTED_ARCHIVES = 3
"""How deep an archive may be in others: some hold themselves."""


def display(path: Path) -> str:
    """Format a path for people, also one that is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file or folder that is not loaded, and why."""

    path: Path
    reason: str


@dataclass(slots=True)
class Selection:
    """The files that paths stand for, and what else was there."""

    files: list[Path] = field(default_factory=list)
    left_out: list[SkippedFile] = field(default_factory=list)
    """Not data: hidden and temporary files, other files, links to nothing."""
    refused: list[SkippedFile] = field(default_factory=list)
    """Data that no reader reads."""
    opened: dict[Path, Path] = field(default_factory=dict)
    """By folder that something was opened into, its path."""

    def display(self, path: Path) -> str:
        """Format a path for people, also one that is not UTF-8. A file of an archive is shown in its archive."""
        for folder, origin in reversed(self.opened.items()):
            if path.is_relative_to(folder):
                path = origin / path.relative_to(folder)
        return display(path)

    def refuse(self, path: Path, error: LakehouseError) -> None:
        """Refuse a selected file that can't be read after all, so that the others are loaded. Raises `error` if it is alone."""
        if self.files == [path] and not self.refused:
            raise error
        self.files.remove(path)
        reason = str(error).removeprefix(f"Can't read {path}: ").removeprefix(f"{path} ")
        self.refused.append(SkippedFile(path, reason.rstrip(".")))

    def as_json(self, skipped: Iterable[SkippedFile]) -> Iterator[dict[str, str]]:
        """Describe skipped files for JSON."""
        return ({"file": self.display(file.path), "reason": file.reason} for file in skipped)


def select_files(paths: Iterable[Path], scratch: Path) -> Selection:
    """Choose the files that these files and folders stand for. Links are followed, each file and folder once.

    Archives, workbooks, Avro and ORC files, and the folders of Delta and Iceberg tables, are opened into folders under
    `scratch`, which must last as long as the selection. A file or folder in a table is refused by itself, because it also
    holds rows that the table has deleted. Raises UnreadableSourceError if a folder has no files to load.
    """
    selector = _Selector(scratch)
    for path in paths:
        selector.add(path)
    return selector.selection


class _Selector:
    """One selection in the making."""

    def __init__(self, scratch: Path) -> None:
        self.selection = Selection()
        self._scratch, self._openings = scratch, 0
        self._seen = set[tuple[int, int]]()

    def add(self, path: Path) -> None:
        """Select what a path that the user named stands for."""
        absolute = path.absolute()
        table = next((folder for folder in (absolute, *absolute.parents) if table_in(folder)), None)
        if table is not None:
            self._take_table(path, table)
        elif not path.is_dir():
            self._take(path)
        else:
            self._reason_by_place(path)  # a link back to this folder is not followed
            before, left_out = self._count(), len(self.selection.left_out)
            self._walk(path)
            if self._count() == before:
                raise UnreadableSourceError(f"{display(path)} {self._nothing_to_load(left_out)}.")

    def _count(self) -> int:
        return len(self.selection.files) + len(self.selection.refused)

    def _nothing_to_load(self, left_out_before: int) -> str:
        known = f"({', '.join(sorted(FORMAT_SUFFIXES))}, also {', '.join(COMPRESSION_SUFFIXES)})"
        last = self.selection.left_out[left_out_before:][-1:]
        examples = (f"{self.selection.display(file.path)}: {file.reason}" for file in last)
        return ". Left out: ".join([f"holds no files to load {known}", *examples])

    def _walk(self, folder: Path) -> None:
        if table_in(folder):
            self._take_table(folder, folder)
            return
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            self._refuse(folder, f"it can't be read: {error.strerror or error}")
            return
        for path in entries:
            reason = (hidden_reason if path.is_dir() else file_reason)(path.name) or self._reason_by_place(path)
            if reason:
                self._leave_out(path, reason)
            elif path.is_dir():
                self._walk(path)
            elif not os.access(path, os.R_OK):
                self._refuse(path, "it can't be read: permission denied")
            elif (reason := _reason_without_suffix(path)) is not None:
                self._leave_out(path, reason)
            else:
                self._take(path)

    def _take(self, path: Path) -> None:
        """Select a file unless it is recognised as something else. One that can't be opened is reported by who opens it."""
        try:
            foreign = foreign_content(local_object(path)) if path.is_file() else None
        except OSError:
            foreign = None
        if foreign is None:
            self.selection.files.append(path)
        elif opener := _OPENERS.get(foreign.kind):
            self._open(opener, path, str(foreign))
        else:
            self._refuse(path, str(foreign))

    def _open(self, opener: Opener, path: Path, foreign: str) -> None:
        """Select what is in an archive, a file of another format, or a table; refuse it if it can't be opened."""
        if self._depth(path) >= MAX_NESTED_ARCHIVES:
            self._refuse(path, foreign)
            return
        # Folders directly above give its rows columns, so they are above the opened files, too.
        folder = self._scratch.joinpath(str(self._openings), *partition_folders(path))
        self._openings += 1
        try:
            open_into(opener, path, folder)
        except UnreadableSourceError as error:
            kind, _, remedy = foreign.partition("; ")
            self._refuse(path, f"{kind}, and {error}; {remedy}")
            return
        self.selection.opened[folder] = path
        before, left_out = self._count(), len(self.selection.left_out)
        self._walk(folder)
        if self._count() == before:
            self._refuse(path, f"{foreign.partition('; ')[0]}, which {self._nothing_to_load(left_out)}")

    def _depth(self, path: Path) -> int:
        """Count the archives that a path is in."""
        for folder, origin in self.selection.opened.items():
            if path.is_relative_to(folder):
                return 1 + self._depth(origin)
        return 0

    def _leave_out(self, path: Path, reason: str) -> None:
        self.selection.left_out.append(SkippedFile(path, reason))

    def _take_table(self, path: Path, folder: Path) -> None:
        kind, is_whole = table_in(folder), path.absolute() == folder.absolute()
        if kind is None:
            return
        opener = _TABLE_OPENERS.get(kind)
        remedy = EXPORT if opener is None or is_whole else f"load the whole folder, or {EXPORT}"
        reason = table_reason("it" if is_whole else display(folder), kind, remedy)
        if opener and is_whole:
            self._open(opener, path, reason)
        else:
            self._refuse(path, reason)

    def _refuse(self, path: Path, reason: str) -> None:
        self.selection.refused.append(SkippedFile(path, reason))

    def _reason_by_place(self, path: Path) -> str | None:
        """Return why what a path leads to is not selected; None if it may be, and is remembered."""
        try:
            status = path.stat()
        except OSError as error:
            return "it is a link to nothing" if path.is_symlink() else error.strerror or str(error)
        if not (path.is_file() or path.is_dir()):
            return "it is no regular file"
        place = (status.st_dev, status.st_ino)
        if place in self._seen:
            return "it is the same as another that is loaded"
        self._seen.add(place)
        return None


def _reason_without_suffix(path: Path) -> str | None:
    """Return why a file whose name has no format is no data; None if it may be."""
    if format_of_name(path.name):
        return None
    try:
        if foreign_content(local_object(path)) or looks_like_data(local_object(path)):
            return None
    except OSError as error:
        return error.strerror or str(error)
    return "neither its name nor its content is CSV, JSON or Parquet; name the file to load it"
