"""Find out whether Dagster's history on disk is damaged, before its processes fail one after the other.

It holds past runs and ticks. What is computed, and from what, is in the tables.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from lakehouse.errors import LakehouseError

_FOLDERS = ("history", "schedules")

MAX_REASON_CHARACTERS = 200


def check_history(home: Path) -> None:
    """Raise LakehouseError, which says what to do, if a SQLite file of DAGSTER_HOME is damaged. Reads the files once."""
    for file in sorted(path for folder in _FOLDERS for path in (home / folder).rglob("*.db")):
        if reason := _damage(file):
            raise LakehouseError(
                f"Dagster's history is damaged: {file} ({reason}). It holds past runs alone, no events. Run `lakehouse down`,"
                f" move {file.name} away with {file.name}-wal and {file.name}-shm if there are any, and run `lakehouse up`."
            )


def _damage(file: Path) -> str | None:
    try:
        with closing(sqlite3.connect(file)) as database:
            (result,) = database.execute("pragma quick_check(1)").fetchone()
    except sqlite3.OperationalError:
        return None  # another process holds it
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if result == "ok" else " ".join(str(result).split())[:MAX_REASON_CHARACTERS]
