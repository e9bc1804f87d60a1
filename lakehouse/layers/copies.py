"""Which look-ups there are, and where copies of them lie on this machine. What is in them is not known here.

A copy is `{look-up}-{version}.arrow`. The serving process makes one of each newest version and removes those before it;
the HTTP server's processes read them.
"""

from collections.abc import Iterator
from pathlib import Path

from lakehouse.settings import Settings

CUSTOMERS = "customers"
CUSTOMER_STREAMS = ("retail", "orders")
"""What the look-up of customers is made of; the others are each of one stream, and have its name."""

SUFFIX = ".arrow"


def copies(settings: Settings) -> Path:
    """Their folder."""
    return settings.root / "serving" / "lookups"


def copy_of(folder: Path, name: str, version: str) -> Path:
    """The copy of a look-up's version, whether it is there or not."""
    return folder / f"{name}-{version}{SUFFIX}"


def copies_of(folder: Path, name: str) -> Iterator[Path]:
    """The copies of a look-up that there are."""
    return folder.glob(f"{name}-*{SUFFIX}")
