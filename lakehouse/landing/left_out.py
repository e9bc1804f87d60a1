"""The report of what is left out under `incoming/`, stored as an object: the sensor writes it, other processes show it.

See `incoming` for what is left out and why.
"""

from collections.abc import Iterable, Mapping

import msgspec

from lakehouse.errors import ObjectNotFoundError
from lakehouse.storage.objects.store import Objects

REPORT_KEY = "health/left_out.json"

MAX_NAMED_OBJECTS = 20
"""Objects and folders that the report names of one stream and reason."""


class LeftOut(msgspec.Struct, frozen=True):
    """Objects under `incoming/` that are left out for one reason."""

    stream: str | None
    """Null for a folder that is of no stream."""
    reason: str
    count: int
    """How many objects, and folders that are left out whole."""
    objects: list[str]
    """Keys, of folders with a slash at the end; at most twenty."""

    @property
    def summary(self) -> str:
        """Say how many are left out and why, without their names."""
        place = f"incoming/{self.stream}/" if self.stream else self.objects[0]
        number = f"{self.count:,} {'is' if self.count == 1 else 'are'} left out" if self.stream else "it is left out"
        return f"{place}: {number}: {self.reason}"


def group_by_reason(stream: str, left_out: Mapping[str, str]) -> list[LeftOut]:
    """Make the entries of a stream's objects and folders, given each with its reason."""
    by_reason: dict[str, list[str]] = {}
    for key, reason in left_out.items():
        by_reason.setdefault(reason, []).append(key)
    return [LeftOut(stream, reason, len(keys), keys[:MAX_NAMED_OBJECTS]) for reason, keys in by_reason.items()]


def unknown_folder(folder: str, streams: Iterable[str]) -> LeftOut:
    """Make the entry of a folder that is of no stream."""
    reason = f"it is not the folder of a stream; the streams are {', '.join(streams)}"
    return LeftOut(None, reason, 1, [f"{folder}/"])


def read_report(objects: Objects) -> list[LeftOut]:
    """Read the newest report. Empty if there is none."""
    try:
        return decode_report(objects.get(REPORT_KEY))
    except ObjectNotFoundError:
        return []


def decode_report(content: bytes) -> list[LeftOut]:
    """Decode a stored report. Empty if another version has written what this one can't read."""
    try:
        return msgspec.json.decode(content, type=list[LeftOut])
    except msgspec.DecodeError:
        return []


def write_report(objects: Objects, report: list[LeftOut]) -> None:
    """Store the report unless it is the one that is stored."""
    if report != read_report(objects):
        objects.put(REPORT_KEY, msgspec.json.encode(report))
