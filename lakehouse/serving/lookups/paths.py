"""The names of look-ups, and the paths of their cached copies on this machine.

A copy is `{look-up}-{version}.blocks.arrow`. The serving process writes one of each newest version and deletes older ones.
The HTTP server's processes read them. See `blocks` for what a copy holds.
"""

from collections.abc import Iterator
from pathlib import Path

from lakehouse.settings import Settings

CUSTOMERS = "customers"
"""The package's look-up that has a path of its own."""

SUFFIX = ".blocks.arrow"
"""Names a copy's format: compressed blocks of the JSON that answers requests. Another format must have another suffix, so
that older copies are replaced and never read as the new format.
"""


def lookups_folder(settings: Settings) -> Path:
    """Return the folder of the copies."""
    return settings.root / "serving" / "lookups"


def cached_copy(folder: Path, name: str, version: str) -> Path:
    """Return the path of the copy of a look-up's version, whether it exists or not."""
    return folder / f"{name}-{version}{SUFFIX}"


def cached_copies(folder: Path, name: str) -> Iterator[Path]:
    """Yield the copies of a look-up that exist, in any format."""
    return folder.glob(f"{name}-*.arrow")


def version_of(copy: Path) -> str:
    """Return the version that a copy is of."""
    return copy.name.partition("-")[2].partition(".")[0]
