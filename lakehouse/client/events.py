"""Events as lines of JSON, one each, with every value exactly as it was given. See `columns` for tables and frames."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from lakehouse.errors import UnreadableSourceError

Event = Any
"""A mapping, dataclass or msgspec.Struct, or one line of JSON as text or bytes."""

_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def event_lines(events: Iterable[Event]) -> Iterator[bytes]:
    """Yield each event as a line, without its line end; blank text is no event.

    Raises UnreadableSourceError with the number of an event that JSON can't hold.
    """
    encode = msgspec.json.Encoder(enc_hook=_plain).encode
    number = 0
    for event in events:
        number += 1
        if isinstance(event, str | bytes | bytearray | memoryview):
            if line := _text_line(event):
                yield line
            else:
                number -= 1
            continue
        try:
            line = encode(event)
            # msgspec writes NaN as null, which would be a missing value; as text, the event is rejected with the reason.
            yield encode(_with_text(event)) if b"null" in line else line
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold as an escape only
            yield json.dumps(msgspec.to_builtins(_with_text(event), enc_hook=_plain)).encode()
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise UnreadableSourceError(f"Event {number} can't be written as JSON: {error}.") from error


def _text_line(text: str | bytes | bytearray | memoryview) -> bytes:
    """Return the text of one event on one line. Line breaks of JSON stand between tokens, so blanks can replace them."""
    line = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)
    line = line.strip(b" \t\r\n")
    return line.translate(_LINE_BREAKS) if b"\n" in line or b"\r" in line else line


def _plain(value: Any) -> Any:
    """Return a value of another library's type as one that JSON has: NumPy's scalars, pandas' times and missing values."""
    if value is None or type(value).__name__ in ("NaTType", "NAType"):
        return None
    if isinstance(value, datetime):  # pandas.Timestamp, with its nanoseconds
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    for convert in ("tolist", "model_dump"):  # of NumPy and pydantic
        method: Callable[[], Any] | None = getattr(value, convert, None)
        if method is not None:
            return method()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"objects of type {type(value).__name__} are unsupported")


def _with_text(value: Any) -> Any:
    """Return a value with text in place of NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(float(value))
    if isinstance(value, Mapping):
        return {key: _with_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_text(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return _with_text(msgspec.structs.asdict(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _with_text(getattr(value, field.name)) for field in dataclasses.fields(value)}
    plain = _plain(value) if hasattr(value, "tolist") or hasattr(value, "model_dump") else value
    return plain if plain is value else _with_text(plain)
