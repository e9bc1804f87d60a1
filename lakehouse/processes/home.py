"""Keep a home private to its owner, and keep the state files of one home apart from those of its copies."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lakehouse.errors import LakehouseError
from lakehouse.processes.atomic_file import write_private
from lakehouse.settings import Settings

HOME_MODE = 0o700
"""As PostgreSQL demands of its data folder. Files inside are then unreachable for others, whatever their own mode."""


HOME_VERSION = 2
"""The version of homes that this release makes. Raise it with a change by which an earlier release would lose data.

2: events in shared landing objects.
"""

VERSION_FILE = "version"


def private_home(settings: Settings) -> Path:
    """Return the home, created if missing, which only its owner may enter: whatever the umask is, and also if it exists.

    Raises LakehouseError if a newer release made it.
    """
    home = settings.root
    version = check_version(home)
    home.mkdir(mode=HOME_MODE, parents=True, exist_ok=True)
    if home.stat().st_mode & 0o077:
        with suppress(PermissionError):  # the home of another user, who let this one in
            home.chmod(HOME_MODE)
    if version < HOME_VERSION:
        with suppress(OSError):  # the disk is full, or it is the home of another user: it can be read all the same
            write_private(home / VERSION_FILE, f"{HOME_VERSION}\n")
    return home


def check_version(home: Path) -> int:
    """Return the version of a home, 0 for one without. Raises LakehouseError if this release can't read it."""
    try:
        version = int((home / VERSION_FILE).read_text())
    except (OSError, ValueError):  # the home is new, or older than versions
        return 0
    if version > HOME_VERSION:
        raise LakehouseError(
            f"{home} was made by a newer release of lakehouse: its version is {version}, and this release reads up to"
            f" {HOME_VERSION}. Install the newer release, or set LAKEHOUSE_HOME to another folder."
        )
    return version


def write_state(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON state file that is valid in its own folder only, not in a copy of it."""
    write_private(path, json.dumps({**content, "folder": _identity(path.parent)}, indent=1))


def read_state(path: Path) -> dict[str, Any] | None:
    """Read a state file; None if it is missing, damaged, or the copy of another home's.

    A copy names the processes of the original, which commands in the copy must neither stop nor use. A moved home keeps
    its state. A file of an earlier version, which does not name its folder, is valid.
    """
    try:
        content = json.loads(path.read_bytes())
        folder = content.pop("folder", None)
        is_own = folder is None or all(folder[key] == value for key, value in _inode(path.parent).items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return content if is_own else None


def _identity(folder: Path) -> dict[str, Any]:
    return {"path": str(folder.resolve()), **_inode(folder)}


def _inode(folder: Path) -> dict[str, int]:
    status = folder.stat()
    return {"device": status.st_dev, "inode": status.st_ino}
