"""Folders of temporary files, each named by the process that owns it, so that those of dead processes are removed."""

import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from lakehouse.processes.child import creation_time, find_process

_NAME = re.compile(r"(\d+)-(\d+)", re.ASCII)
"""A process id and its creation time in milliseconds since 1970."""

_UNOWNED = ("spill-*", "write-*", "answer-*")
"""Names that earlier versions gave, which do not say whose they are."""

UNOWNED_SECONDS = 24 * 3600.0
"""Age at which files without an owner are removed."""


def own_folder(scratch: Path) -> Path:
    """Make this process's folder below `scratch`, and remove those of processes that have ended."""
    pid = os.getpid()
    folder = scratch / f"{pid}-{creation_time(pid) * 1000:.0f}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_abandoned(scratch)
    return folder


def remove_abandoned(scratch: Path) -> None:
    """Remove the folders of processes that have ended."""
    for path in scratch.glob("*-*"):
        if (name := _NAME.fullmatch(path.name)) and find_process(int(name[1]), int(name[2]) / 1000) is None:
            shutil.rmtree(path, ignore_errors=True)
    for path in (path for pattern in _UNOWNED for path in scratch.glob(pattern)):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > UNOWNED_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
