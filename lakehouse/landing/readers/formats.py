"""Which format an object is in: by its name, else by its first bytes."""

from collections.abc import Iterator
from typing import Literal

from lakehouse.landing.keys import OUR_NAME
from lakehouse.landing.readers.content import Damage, plain
from lakehouse.landing.readers.source import Source

Format = Literal["csv", "json", "parquet"]

PARQUET_MAGIC = b"PAR1"

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".json": "json",
    ".ndjson": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
}


def format_of(source: Source) -> Format:
    """The object's format; opens it only when its name does not tell."""
    name = _unpacked(source.name)
    for suffix, form in _SUFFIXES.items():
        if name.endswith(suffix):
            return form
    start = _start(plain(source))
    if start.startswith(PARQUET_MAGIC):
        return "parquet"
    return "json" if start.lstrip()[:1] in (b"{", b"[") else "csv"


def is_by_line(name: str) -> bool:
    """Whether a JSON object of that name is surely NDJSON: our own, and whatever is named so under `realtime/`.

    Others may hold an array or objects over several lines.
    """
    if OUR_NAME.fullmatch(name.rsplit("/", 1)[-1]):
        return True
    return name.startswith("realtime/") and _unpacked(name).endswith((".json", ".ndjson", ".jsonl"))


def _unpacked(name: str) -> str:
    name = name.lower()
    for packed in (".gz", ".zst"):
        name = name.removesuffix(packed)
    return name


def _start(chunks: Iterator[bytes]) -> bytes:
    start = b""
    try:
        for chunk in chunks:
            start += chunk
            if len(start.lstrip()) >= len(PARQUET_MAGIC):
                break
    except Damage:
        pass
    return start
