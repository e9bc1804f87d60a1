"""Text of rows that cannot be kept as it is: bytes that are not UTF-8, NUL bytes, rows beyond all measure."""

from lakehouse.landing.readers.rows import Defect

MAX_ROW = 16 << 20
"""The longest row in bytes that is read; a longer one is a defect."""

KEPT_OF_LONG_ROW = 1 << 20

NUL = "contains a NUL byte"


def too_long(start: bytes) -> Defect:
    """A row longer than MAX_ROW, of which only the start is kept."""
    kept = start[:KEPT_OF_LONG_ROW].decode("utf-8", "backslashreplace").replace("\0", "\\x00")
    return Defect(f"longer than {MAX_ROW >> 20} MiB; the first {KEPT_OF_LONG_ROW >> 20} MiB are kept", kept)


def escaped(raw: bytes) -> str:
    """Text for a reader's eyes: what is not UTF-8 in backslash escapes, NUL too."""
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def unreadable(raw: bytes) -> Defect | None:
    """What makes a row's bytes no text at all, if anything does."""
    reasons = []
    try:
        raw.decode()
    except UnicodeDecodeError as problem:
        reasons.append(f"invalid UTF-8 at byte {problem.start + 1} of the row")
    if b"\0" in raw:
        reasons.append(NUL)
    return Defect("; ".join(reasons), escaped(raw)) if reasons else None
