"""Rows that can't be read, with the reason and text they go to quarantine with. See `rows` for readable rows.

The reasons are a contract with users of the quarantine: changing one changes what their queries match.
"""

from dataclasses import dataclass

MAX_ROW_BYTES = 16 << 20
"""The longest row that is read. A longer one is a defect."""

KEPT_BYTES_OF_LONG_ROW = 1 << 20

NUL = "contains a NUL byte"
NUL_IN_HEADER = "the header contains a NUL byte"
NO_ROWS = "there is no row in this object, though it is not empty"


@dataclass(frozen=True, slots=True)
class Defect:
    """A row that could not be read: the reason, and its exact text if there is one."""

    reason: str
    raw: str | None


def too_long_row(start: bytes) -> Defect:
    """Make the defect of a row longer than MAX_ROW_BYTES from its first bytes, of which a part is kept."""
    reason = f"longer than {MAX_ROW_BYTES >> 20} MiB; the first {KEPT_BYTES_OF_LONG_ROW >> 20} MiB are kept"
    return Defect(reason, escape(start[:KEPT_BYTES_OF_LONG_ROW]))


def unreadable_text(raw: bytes) -> Defect | None:
    """Make the defect of bytes that are no text because of invalid UTF-8 or a NUL. None if they are text."""
    reasons = []
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        reasons.append(f"invalid UTF-8 at byte {error.start + 1} of the row")
    if b"\0" in raw:
        reasons.append(NUL)
    return Defect("; ".join(reasons), escape(raw)) if reasons else None


def escape(raw: bytes) -> str:
    """Decode bytes for people to read, with NUL and invalid UTF-8 as backslash escapes."""
    return escape_nul(raw.decode("utf-8", "backslashreplace"))


def escape_nul(text: str) -> str:
    r"""Replace NUL characters with a visible `\x00`."""
    return text.replace("\0", "\\x00")
