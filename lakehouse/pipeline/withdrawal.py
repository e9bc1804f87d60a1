"""Withdraw landing objects that were loaded by mistake, with all of their rows. The same content can be loaded again later.

Objects are deleted before their rows, so nothing ingests them again meanwhile, and an interrupted withdrawal can be run
again. What is derived from bronze is stale then: the caller recomputes it, or leaves that to the sensor `late_data`.
See `maintenance.erase` for the rows of a subject.
"""

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import objects_filter
from lakehouse.errors import ObjectNotFoundError
from lakehouse.landing.shared import delete_landing, has_landed
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.pipeline.row_changes import delete_rows
from lakehouse.pipeline.withdrawal_log import FOLDER
from lakehouse.storage.durability import sync

RUN_ID = "withdraw"

LANDING_FOLDERS = ("incoming/", "realtime/")


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Landing objects of a stream, to withdraw or withdrawn."""

    stream: str
    rows: dict[str, int]
    """Rows that bronze holds, by landing object."""
    days: Sequence[date]
    """Event dates of the rows."""
    record: str | None = None
    """Key of the record; None if nothing was withdrawn."""

    def as_json(self) -> dict[str, Any]:
        """Return it as `lakehouse withdraw --json` prints it and HTTP answers it."""
        return {
            "stream": self.stream,
            "objects": self.rows,
            "days": format_days(self.days),
            "record": self.record,
        }


def landing_key(lake: Lake, name: str) -> str | None:
    """Return the key of a landing object that is named by its key or URL; None if the name is neither."""
    key = name.removeprefix(f"s3://{lake.objects.bucket}/")
    return key if key.startswith(LANDING_FOLDERS) else None


def keys_by_stream(lake: Lake, keys: Iterable[str]) -> dict[str, list[str]]:
    """Group the keys of landing objects, each once, by stream. Raises UnknownStreamError, which lists the streams."""
    by_stream: dict[str, dict[str, None]] = {}
    for key in keys:
        by_stream.setdefault(lake.stream(key.split("/", 2)[1]).name, {})[key] = None
    return {stream: [*keys] for stream, keys in by_stream.items()}


def find_objects(lake: Lake, stream: Stream, keys: Sequence[str]) -> Withdrawal:
    """Count the rows of landing objects. Raises ObjectNotFoundError if one is neither in landing nor in bronze."""
    rows, days = dict.fromkeys(keys, 0), set[date]()
    ingested = set[str]()
    with lake.engine.cursor() as cursor:
        for key, day, count in cursor.execute(
            f"""select _object, dt, count(*)
            from {scan_sql(lake.tables.load(f"bronze.{stream.name}"))}
            where {objects_filter(keys)}
            group by all"""
        ).fetchall():
            ingested.add(key)
            rows[key] += count
            days.add(day)
    for key in rows:
        if key not in ingested and not has_landed(lake.objects, key):
            raise ObjectNotFoundError(
                f"There is no landing object {key}, and bronze.{stream.name} has no rows of it."
                f' `lakehouse query "select distinct _object from bronze.{stream.name}"` lists those there are.'
            )
    return Withdrawal(stream.name, rows, sorted(days))


def withdraw_objects(lake: Lake, stream: Stream, keys: Sequence[str]) -> Withdrawal:
    """Delete landing objects and their rows in bronze and realtime. What is computed from bronze must then be recomputed.

    Raises ObjectNotFoundError as `find_objects` does, and CommitConflictError if other writers keep committing first.
    """
    found = find_objects(lake, stream, keys)
    now = datetime.now(UTC)
    record = f"{FOLDER}/{stream.name}/{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.json"
    details = {"stream": stream.name, "at": now.isoformat(), "objects": found.rows, "days": [*map(str, found.days)]}
    lake.objects.put(record, json.dumps(details, indent=1).encode(), if_absent=True)
    delete_landing(lake.objects, found.rows)
    for layer in ("realtime", "bronze"):  # bronze last, because an interrupted withdrawal finds the rows there
        delete_rows(lake, f"{layer}.{stream.name}", objects_filter(found.rows), run_id=RUN_ID)
    sync(lake.connection)
    return Withdrawal(found.stream, found.rows, found.days, record)
