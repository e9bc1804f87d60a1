"""Columns that folders name, as Hive and Spark write them: `Country=France/part-0.parquet`. See `readers` for all others."""

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, unquote, unquote_to_bytes

NULL_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""Hive's value for null."""


def partition_folders(path: Path) -> list[str]:
    """List the `name=value` folders directly above a file, outermost first, with one percent-encoding each."""
    return [_encode(folder) for folder in _directly_above(path.absolute().parts[:-1])]


def partition_columns(key: str) -> tuple[tuple[str, str], ...]:
    """Parse the columns that the folders directly above an object name, outermost first, without nulls.

    Folders under `realtime/` say when an object arrived and are no columns. Percent signs that encode no UTF-8 stay as
    they are.
    """
    if "=" not in key or key.startswith("realtime/"):
        return ()
    pairs = (folder.split("=", 1) for folder in _directly_above(key.split("/")[:-1]))
    return tuple((_decode(name), _decode(value)) for name, value in pairs if value not in ("", NULL_VALUE))


def _directly_above(folders: Iterable[str]) -> list[str]:
    above: list[str] = []
    for folder in folders:
        above = [*above, folder] if "=" in folder.lstrip("=") else []
    return above


def _encode(folder: str) -> str:
    return "=".join(quote(unquote_to_bytes(part), safe="") for part in os.fsencode(folder).split(b"=", 1))


def _decode(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text
