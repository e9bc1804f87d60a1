"""Record erasures as objects that are only ever added, and that hold no personal data themselves."""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from lakehouse.storage.durability import sync
from lakehouse.storage.objects.store import Objects

FOLDER = "erasures"


def subject_hash(salt: str, stream: str, subject: Mapping[str, str]) -> str:
    """Hash a subject, so that you can check whether a record is about a subject you know.

    `salt` is hexadecimal and differs in each record, so a guess has to be hashed for each of them anew.
    """
    identity = json.dumps([stream, sorted(subject.items())]).encode()
    return hashlib.scrypt(identity, salt=bytes.fromhex(salt), n=1 << 14, r=8, p=1).hex()


def add_record(objects: Objects, stream: str, subject: Mapping[str, str], **details: Any) -> str:
    """Add the record of an erasure, with its details as JSON. Returns the key of the record's object."""
    now, salt = datetime.now(UTC), secrets.token_hex(16)
    key = f"{FOLDER}/{stream}/{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.json"
    record = {
        "stream": stream,
        "columns": sorted(subject),
        "salt": salt,
        "subject": subject_hash(salt, stream, subject),
        "at": now.isoformat(),
        **details,
    }
    objects.put(key, json.dumps(record, indent=1).encode(), if_absent=True)
    sync(objects.connection)
    return key


def records(objects: Objects, stream: str) -> Iterator[dict[str, Any]]:
    """Read every record of a stream, the oldest first."""
    for info in objects.list(f"{FOLDER}/{stream}"):
        yield json.loads(objects.get(info.key))


def erased_rows(objects: Objects, stream: str) -> dict[str, int]:
    """Count the rows that were erased, by landing object."""
    rows: dict[str, int] = {}
    for record in records(objects, stream):
        for key, count in record.get("landing_objects", {}).items():
            rows[key] = rows.get(key, 0) + count
    return rows
