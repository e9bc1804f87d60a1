"""Read the records of withdrawals: objects that are only ever added. See `withdrawal` for making them."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from lakehouse.storage.objects.store import Objects

FOLDER = "withdrawals"
"""The folder of records, each an object that is never changed: what was withdrawn, and when."""

MAX_DESCRIBED_RECORDS = 20


@dataclass(frozen=True, slots=True)
class WithdrawalRecord:
    """One withdrawal of landing objects of a stream."""

    at: datetime
    objects: Mapping[str, int]
    """Rows that bronze held, by landing object."""
    days: Collection[date]
    """Event dates of the rows."""


def withdrawn_objects(objects: Objects, stream: str) -> set[str]:
    """List the landing objects of a stream that were withdrawn."""
    infos = objects.list(f"{FOLDER}/{stream}")
    return {key for info in infos for key in json.loads(objects.get(info.key))["objects"]}


def newest_records(objects: Objects, stream: str) -> list[WithdrawalRecord]:
    """Read the newest records of a stream, the oldest first, at most MAX_DESCRIBED_RECORDS."""
    keys = [
        info.key for info in objects.list(f"{FOLDER}/{stream}")
    ]  # in the order of time, which their names begin with
    return [_parse(objects.get(key)) for key in keys[-MAX_DESCRIBED_RECORDS:]]


def describe_withdrawn(records: Collection[WithdrawalRecord], days: Collection[date] | None = None) -> str:
    """Name the withdrawn objects, of all records or of those with rows of these days; `none` without any."""
    lines = [
        f"{key} ({rows:,} rows, withdrawn at {record.at:%Y-%m-%d %H:%M} UTC)"
        for record in records
        if days is None or {*days} & {*record.days}
        for key, rows in record.objects.items()
    ]
    more = [f"and {len(lines) - MAX_DESCRIBED_RECORDS:,} more"] if len(lines) > MAX_DESCRIBED_RECORDS else []
    return "\n".join([*lines[:MAX_DESCRIBED_RECORDS], *more]) or "none"


def _parse(content: bytes) -> WithdrawalRecord:
    record = json.loads(content)
    days = [date.fromisoformat(day) for day in record["days"]]
    return WithdrawalRecord(datetime.fromisoformat(record["at"]), record["objects"], days)
