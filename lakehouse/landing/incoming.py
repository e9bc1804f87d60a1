"""Choose the data among the objects under `incoming/`, by the rules by which `selection` chooses files of a folder."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lakehouse.landing.data_names import (
    EXPORT,
    TABLE_MARKS,
    TableKind,
    file_reason,
    hidden_reason,
    table_of_key,
    table_reason,
)
from lakehouse.landing.keys import LandingObject, arrival_time
from lakehouse.storage.objects.store import Objects

FOLDER = "incoming"

_LOADED_NAME = re.compile(r"[0-9a-f]{64}(\.[a-z0-9]+){0,2}")
"""The name that `upload` gives an object. Its user has chosen the file, whatever its folders are called."""

_TABLE_REMEDY = f"load its whole folder with `lakehouse load`, or {EXPORT}"


@dataclass(slots=True)
class Incoming:
    """The objects under `incoming/` of one stream: those that are data, and what is left out."""

    files: list[LandingObject] = field(default_factory=list)
    """Sorted by key."""
    left_out: dict[str, str] = field(default_factory=dict)
    """The reason, by the key of an object or of a folder that is left out whole."""


def select_incoming(objects: Objects, stream: str) -> Incoming:
    """Choose the data among a stream's objects. Empty ones, such as folder markers, hold no events."""
    infos = [*objects.list(f"{FOLDER}/{stream}")]
    marked = {table for info in infos if (table := table_of_key(info.key))}
    tables = {folder: kind for _, first in reversed(TABLE_MARKS) for folder, kind in marked if kind == first}
    selected = Incoming()
    for info in infos:
        if info.key.endswith("/"):
            continue
        if skipped := _skipped(info.key, tables):
            selected.left_out |= [skipped]
        elif info.size > 0:
            selected.files.append(LandingObject(info.key, stream, arrival_time(info.key, info.modified), info.size))
    selected.files.sort()
    return selected


def is_left_out(objects: Objects, key: str) -> bool:
    """Return whether an object under `incoming/` is no data. It is looked up by its name, and its folders in storage."""
    if _skipped(key, {}) is not None:
        return True
    tables = {folder: kind for folder in _folders(key) if (kind := _table_in(objects, folder))}
    return _skipped(key, tables) is not None


def _skipped(key: str, tables: Mapping[str, TableKind]) -> tuple[str, str] | None:
    """Return what is left out, the object or a folder above it, and why; None if the object may be data."""
    name = key.rpartition("/")[2]
    if _LOADED_NAME.fullmatch(name):
        return None
    for folder in _folders(key) if tables or "/." in key or "/_" in key else ():
        if folder.count("/") > 1 and (reason := hidden_reason(folder.rpartition("/")[2])):
            return f"{folder}/", reason
        if kind := tables.get(folder):
            return f"{folder}/", table_reason("it", kind, EXPORT if kind == "a Hudi table" else _TABLE_REMEDY)
    reason = file_reason(name)
    return (key, reason) if reason else None


def _folders(key: str) -> Iterator[str]:
    """Yield the folders above an object, from that of its stream inwards."""
    end = key.find("/", len(FOLDER) + 1)
    while end >= 0:
        yield key[:end]
        end = key.find("/", end + 1)


def _table_in(objects: Objects, folder: str) -> TableKind | None:
    """Return the kind of table that a folder in storage is; None if it is none."""
    for mark in ("_delta_log", ".hoodie", "metadata"):
        for info in objects.list(f"{folder}/{mark}"):
            if table := table_of_key(info.key):
                return table[1]
    return None
