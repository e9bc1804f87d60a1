"""Which look-ups there are, and where copies of them lie on this machine. What is in them is not known here.

A copy is `{look-up}-{version}.json.arrow`. The serving process makes one of each newest version and removes those before
it; the HTTP server's processes read them.
"""

from collections.abc import Iterator
from pathlib import Path

from lakehouse.settings import Settings

CUSTOMERS = "customers"
CUSTOMER_STREAMS = ("retail", "orders")
"""What the look-up of customers is made of; the others are each of one stream, and have its name."""

SUFFIX = ".json.arrow"
"""Tells the form of what is in a copy: ids, and the JSON that answers. What answers otherwise has another suffix, so that
copies of before are made again and nobody reads them.
"""


def lookups_folder(settings: Settings) -> Path:
    """Their folder."""
    return settings.root / "serving" / "lookups"


def cached_copy(folder: Path, name: str, version: str) -> Path:
    """The copy of a look-up's version, whether it is there or not."""
    return folder / f"{name}-{version}{SUFFIX}"


def cached_copies(folder: Path, name: str) -> Iterator[Path]:
    """The copies of a look-up that there are, those of another form too."""
    return folder.glob(f"{name}-*.arrow")


def version_of(copy: Path) -> str:
    """The version that a copy is of."""
    return copy.name.partition("-")[2].partition(".")[0]
