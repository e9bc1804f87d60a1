"""The record of what was erased: objects that are only ever added, without the personal data itself."""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from lakehouse.storage.objects.store import Objects

FOLDER = "erasures"


def subject_hash(salt: str, stream: str, subject: Mapping[str, str]) -> str:
    """What tells whether a record is about a subject, to those who know it; the salt makes guessing cost each record anew."""
    told = json.dumps([stream, sorted(subject.items())]).encode()
    return hashlib.scrypt(told, salt=bytes.fromhex(salt), n=1 << 14, r=8, p=1).hex()


def add_record(objects: Objects, stream: str, subject: Mapping[str, str], **said: Any) -> str:
    """Write down an erasure; the key of its object."""
    now, salt = datetime.now(UTC), secrets.token_hex(16)
    key = f"{FOLDER}/{stream}/{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.json"
    record = {
        "stream": stream,
        "columns": sorted(subject),
        "salt": salt,
        "subject": subject_hash(salt, stream, subject),
        "at": now.isoformat(),
        **said,
    }
    objects.put(key, json.dumps(record, indent=1).encode(), if_absent=True)
    return key


def records(objects: Objects, stream: str) -> Iterator[dict[str, Any]]:
    """Every record of a stream, the oldest first."""
    for info in objects.list(f"{FOLDER}/{stream}"):
        yield json.loads(objects.get(info.key))


def erased_rows(objects: Objects, stream: str) -> dict[str, int]:
    """The landing objects of a stream that rows were erased of, with how many."""
    found: dict[str, int] = {}
    for record in records(objects, stream):
        for key, rows in record.get("landing_objects", {}).items():
            found[key] = found.get(key, 0) + rows
    return found
