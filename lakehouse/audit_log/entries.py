"""Entries of the log, as lines of JSON that are linked by hashes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

GENESIS = "0" * 64
"""The hash before the first entry."""

FIELDS = ("number", "time", "actor", "action", "subject", "detail", "previous")

MAX_TEXT_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done."""

    number: int
    time: str
    """When, in UTC."""
    actor: str
    """Who: `key ID (NAME)` over HTTP, `user NAME` on the command line, `local` for programs of this machine without a key."""
    action: str
    """Such as query, load, erase, keys, settings."""
    subject: str
    """A stream, a table, or another thing that it was done to; empty if there is none."""
    detail: str
    """Further details, as JSON."""
    previous: str
    """The hash of the entry before."""
    hash: str
    """SHA-256 of all other fields."""

    @classmethod
    def make(cls, number: int, previous: str, time: str, event: "Event") -> Self:
        """Make the entry that follows the one with the hash `previous`."""
        detail = json.dumps(_shortened(event.detail), sort_keys=True, ensure_ascii=False, default=str)
        values = (number, time, event.actor, event.action, event.subject[:MAX_TEXT_CHARACTERS], detail, previous)
        return cls(*values, hash=_hash(dict(zip(FIELDS, values, strict=True))))

    @property
    def line(self) -> bytes:
        """The entry as it is written, without the end of the line."""
        return _canonical({**{name: getattr(self, name) for name in FIELDS}, "hash": self.hash})

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Parse a line. Raises ValueError if it is not one that `line` gives, down to its last byte."""
        try:
            entry = cls(**json.loads(line))
            values = {name: getattr(entry, name) for name in FIELDS}
        except (TypeError, ValueError) as error:
            raise ValueError("it is no entry") from error
        if entry.line != line or _hash(values) != entry.hash:
            raise ValueError("its hash is not that of its text")
        return entry


@dataclass(frozen=True, slots=True)
class Event:
    """A thing that was done, before it is an entry."""

    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]


def _canonical(values: Mapping[str, Any]) -> bytes:
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def _hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(values)).hexdigest()


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return (
            value if len(value) <= MAX_TEXT_CHARACTERS else f"{value[:MAX_TEXT_CHARACTERS]} … ({len(value)} characters)"
        )
    if isinstance(value, Mapping):
        return {str(key): _shortened(each) for key, each in value.items()}
    return [_shortened(each) for each in value] if isinstance(value, list | tuple) else value
