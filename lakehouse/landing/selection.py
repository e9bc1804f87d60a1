"""Choose the files to load from what a user names: what is data, what is left out and why, and what is refused.

Rows are not read here. See `signatures` for how content is recognised.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lakehouse.errors import UnreadableSourceError
from lakehouse.landing.formats import COMPRESSION_SUFFIXES, FORMAT_SUFFIXES, format_of_name
from lakehouse.landing.signatures import foreign_content, looks_like_data

_TABLE_MARKS = (
    ("_delta_log", "a Delta table"),
    (".hoodie", "a Hudi table"),
    ("metadata/*.metadata.json", "an Iceberg table"),
)


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file or folder that is not loaded, and why."""

    path: Path
    reason: str


@dataclass(slots=True)
class Selection:
    """What paths stand for."""

    files: list[Path] = field(default_factory=list)
    left_out: list[SkippedFile] = field(default_factory=list)
    """What is no data: hidden and temporary files, other files, links to nothing."""
    refused: list[SkippedFile] = field(default_factory=list)
    """Data that no reader reads."""


def display(path: Path) -> str:
    """Format a path for people, also one that is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def select_files(paths: Iterable[Path]) -> Selection:
    """Choose the files that these files and folders stand for. Links are followed, each file and folder once.

    Raises UnreadableSourceError if a path is in an Iceberg, Delta or Hudi table, because its folder also holds rows that
    the table has deleted, or if a folder has no files to load.
    """
    selection, seen = Selection(), set[tuple[int, int]]()
    for path in paths:
        _refuse_table(path)
        if not path.is_dir():
            _take(selection, path)
            continue
        _reason_by_place(path, seen)  # a link back to this folder is not followed
        before = len(selection.files) + len(selection.refused)
        _walk(selection, path, seen)
        if len(selection.files) + len(selection.refused) == before:
            raise UnreadableSourceError(_empty_folder(path, selection.left_out))
    return selection


def _empty_folder(folder: Path, left_out: list[SkippedFile]) -> str:
    known = f"({', '.join(sorted(FORMAT_SUFFIXES))}, also .gz and .zst)"
    example = f" Left out: {display(left_out[-1].path)}: {left_out[-1].reason}." if left_out else ""
    return f"{display(folder)} holds no files to load {known}.{example}"


def _refuse_table(path: Path) -> None:
    absolute = path.absolute()
    for folder in (absolute, *absolute.parents):
        for mark, table in _TABLE_MARKS:
            if next(folder.glob(mark), None) is not None:
                raise UnreadableSourceError(
                    f"{display(folder)} is {table}; its files also hold deleted rows."
                    " Export the table as Parquet, CSV or NDJSON and load that."
                )


def _walk(selection: Selection, folder: Path, seen: set[tuple[int, int]]) -> None:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        selection.left_out.append(SkippedFile(folder, error.strerror or str(error)))
        return
    for path in entries:
        reason = _reason_by_name(path) or _reason_by_place(path, seen)
        if reason:
            selection.left_out.append(SkippedFile(path, reason))
        elif path.is_dir():
            _refuse_table(path)
            _walk(selection, path, seen)
        elif (reason := _reason_without_suffix(path)) is not None:
            selection.left_out.append(SkippedFile(path, reason))
        else:
            _take(selection, path)


def _take(selection: Selection, path: Path) -> None:
    """Select a file unless it is recognised as something else. One that can't be opened is reported by who opens it."""
    try:
        reason = foreign_content(path) if path.is_file() else None
    except OSError:
        reason = None
    if reason:
        selection.refused.append(SkippedFile(path, reason))
    else:
        selection.files.append(path)


def _reason_by_name(path: Path) -> str | None:
    """Say why a name in a folder is not that of data; None if it may be."""
    if path.name.startswith((".", "_")):
        return "names that begin with . or _ are hidden or temporary"
    if path.is_dir() or format_of_name(path.name) or not path.suffix or path.name.lower().endswith(_OPAQUE_SUFFIXES):
        return None
    if FORMAT_SUFFIXES.keys() & {suffix.lower() for suffix in path.suffixes}:
        return f"{path.suffix} after the format marks a copy or temporary file; name the file to load it"
    return f"{path.suffix} is no format that is read; name the file to load it"


_OPAQUE_SUFFIXES = (
    *COMPRESSION_SUFFIXES,
    ".bz2",
    ".xz",
    ".zip",
    ".7z",
    ".lz4",
    ".tar",
    ".tgz",
    ".xlsx",
    ".avro",
    ".orc",
)
"""Suffixes of files that are looked into: they may hold data."""


def _reason_by_place(path: Path, seen: set[tuple[int, int]]) -> str | None:
    """Say why what a path leads to is not selected; None if it may be, and is remembered in `seen`."""
    try:
        status = path.stat()
    except OSError as error:
        return "it is a link to nothing" if path.is_symlink() else error.strerror or str(error)
    if not (path.is_file() or path.is_dir()):
        return "it is no regular file"
    place = (status.st_dev, status.st_ino)
    if place in seen:
        return "it is the same as another that is loaded"
    seen.add(place)
    return None


def _reason_without_suffix(path: Path) -> str | None:
    """Say why a file whose name has no format is no data; None if it may be."""
    if format_of_name(path.name):
        return None
    try:
        if foreign_content(path) or looks_like_data(path):
            return None
    except OSError as error:
        return error.strerror or str(error)
    return "neither its name nor its content is CSV, JSON or Parquet; name the file to load it"


def skipped_as_json(skipped: Iterable[SkippedFile]) -> Iterator[dict[str, str]]:
    """Describe skipped files for JSON."""
    return ({"file": display(file.path), "reason": file.reason} for file in skipped)
