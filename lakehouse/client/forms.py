"""The forms in which a program may give events to `Client.send`. See `events`, `columns` and `files` for each."""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import msgspec

from lakehouse.client.columns import is_table, table_events
from lakehouse.client.events import Event
from lakehouse.client.files import file_events


class Columns(Protocol):
    """A table or frame, which gives its columns by the Arrow PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return an Arrow stream."""


Events = Iterable[Event] | Columns | PathLike[str] | bytes
"""Anything that `Client.send` takes."""


def as_events(events: Events) -> Iterable[Any]:
    """Return the events that `Client.send` is given, one after another. Raises TypeError for anything else."""
    if isinstance(events, str):
        raise TypeError("Pass a pathlib.Path for a file, or a list of lines.")
    if isinstance(events, PathLike):
        return file_events(Path(events))
    if isinstance(events, bytes | bytearray | memoryview):
        return bytes(events).split(b"\n")
    if isinstance(events, Mapping) or _is_record(events):
        return [events]
    if is_table(events):
        return table_events(events)
    if not isinstance(events, Iterable):
        raise TypeError(f"Events are an iterable, a table, a pathlib.Path or bytes, not {type(events).__name__}.")
    return events


def _is_record(events: Any) -> bool:
    return isinstance(events, msgspec.Struct) or (
        hasattr(events, "__dataclass_fields__") and not isinstance(events, type)
    )
