"""Log commands that change or read data, by the words that the user typed."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

CHANGING = {
    *("up", "down", "load", "send", "generate", "erase", "withdraw", "bootstrap", "maintain", "backup", "publish"),
    *("keys create", "keys revoke", "tag create", "tag delete", "quarantine replay", "models run", "streams new"),
}
READING = {"query", "export", "quarantine export", "restore"}
"""Logged at their end only. A restore finds no home before."""

_KEY_VALUE = re.compile(r"^([^=]+)=.*$", re.DOTALL)
_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@\s]*@")


def is_logged(words: Sequence[str]) -> str | None:
    """Return the command's name if it is logged."""
    names = [" ".join(words[:2]), words[0] if words else ""]
    if "--help" in words or "--dry-run" in words:
        return None
    if words[:1] == ["audit"] and "--repair" in words:
        return "audit"
    return next((name for name in names if name in CHANGING | READING), None)


@contextmanager
def logged(words: Sequence[str]) -> Iterator[None]:
    """Log the command before it runs, if it changes something, and how it ended.

    A log that can't be written is reported, and the command goes on.
    """
    name = is_logged(words)
    if name is None:
        yield
        return
    if name not in READING:
        _write(name, words, "begun")
    outcome = "failed"
    try:
        yield
        outcome = "done"
    except SystemExit as end:
        outcome = "done" if end.code in (None, 0) else f"failed with {end.code}"
        raise
    finally:
        _write(name, words, outcome)


def _write(name: str, words: Sequence[str], outcome: str) -> None:
    from lakehouse.audit_log.entries import Event
    from lakehouse.audit_log.log import AuditLog, command_line_user
    from lakehouse.settings import get_settings

    try:
        detail = {"words": masked(words), "outcome": outcome}
        first = [*words[len(name.split()) :], ""][0]
        subject = "" if first.startswith("-") or name == "query" else first
        AuditLog(get_settings()).write(Event(command_line_user(), name, masked([subject])[0], detail))
    except Exception as error:  # a home that may be read only, a full disk, settings that are wrong
        print(f"lakehouse: the audit log can't be written: {error}", file=sys.stderr)


def masked(words: Sequence[str]) -> list[str]:
    """Mask passwords in URLs, and the values of keys: an erased subject must not stay in the log."""
    result: list[str] = []
    for word in words:
        value = _PASSWORD.sub(r"\1:***@", word)
        if result and result[-1] == "--key":
            value = _KEY_VALUE.sub(r"\1=***", value)
        elif value.startswith("--key="):
            value = _KEY_VALUE.sub(r"--key=\1=***", value.removeprefix("--key="))
        result.append(value)
    return result
