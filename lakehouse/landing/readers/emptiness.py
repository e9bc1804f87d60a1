"""Tell text that soundly holds no row from text that was read as nothing, by simpler rules than the readers'."""

import re
from collections.abc import Iterator

from lakehouse.landing.readers.content import DamagedContentError, InputObject, text_chunks

MAX_HEADER_BYTES = 1 << 20
"""The longest header that is read."""

_TWO_LINES = re.compile(rb"[^\r\n]*[\r\n]\s*\S")


def is_header_alone(obj: InputObject) -> bool:
    """Whether a CSV object has at most one line that is not blank."""
    start = b""
    for chunk in _sound_chunks(obj):
        start = (start + chunk).lstrip()
        if len(start) > MAX_HEADER_BYTES or _TWO_LINES.match(start):
            return False
    return True


def is_empty_array(obj: InputObject) -> bool:
    """Whether a JSON object holds blanks alone, or an array without elements."""
    text = b""
    for chunk in _sound_chunks(obj):
        text += b"".join(chunk.split())
        if len(text) > len(b"[]"):
            return False
    return text in (b"", b"[]")


def _sound_chunks(obj: InputObject) -> Iterator[bytes]:
    try:
        yield from text_chunks(obj)
    except DamagedContentError:
        return  # the damage is a row of its own
