"""File formats of landing objects, as far as their names tell. See `readers` for objects whose names don't."""

import os
from typing import Literal

from lakehouse.landing.keys import LANDED_NAME

Format = Literal["csv", "json", "parquet"]

FORMAT_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".json": "json",
    ".ndjson": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
}

COMPRESSION_SUFFIXES = (".gz", ".zst", ".bz2", ".xz")


def known_suffixes(name: str) -> str:
    """Keep the suffixes of a file name that say how to read it, in lower case: `.csv.gz` of `2010-12-01.CSV.GZ`."""
    stem, last = os.path.splitext(name.lower())
    if last in COMPRESSION_SUFFIXES:
        inner = os.path.splitext(stem)[1]
        return (inner if inner in FORMAT_SUFFIXES else "") + last
    return last if last in FORMAT_SUFFIXES else ""


def format_of_name(name: str) -> Format | None:
    """Return the format from an object's name. None if the name has no known suffix."""
    uncompressed = _without_compression(name)
    return next((file_format for suffix, file_format in FORMAT_SUFFIXES.items() if uncompressed.endswith(suffix)), None)


def is_ndjson(key: str) -> bool:
    """Return whether a JSON object of that key holds one event a line: what `land` wrote, and NDJSON names in `realtime/`.

    Other JSON objects may hold an array, or objects that span lines.
    """
    if LANDED_NAME.fullmatch(key.rsplit("/", 1)[-1]):
        return True
    return key.startswith("realtime/") and _without_compression(key).endswith((".json", ".ndjson", ".jsonl"))


def _without_compression(name: str) -> str:
    name = name.lower()
    for suffix in COMPRESSION_SUFFIXES:
        name = name.removesuffix(suffix)
    return name
