"""Translate a contract's formats of times into the patterns by which SQL matches and parses texts.

A format is written as ODCS says, in letters of Java's DateTimeFormatter (`dd/MM/yyyy HH:mm`), or as strptime's codes
(`%d/%m/%Y %H:%M`), or is the unit of a number of the epoch: `epoch s`, `epoch ms`, `epoch us` or `epoch ns`.
"""

import re
from dataclasses import dataclass
from zoneinfo import ZoneInfo

EPOCH_UNITS = {"epoch s": "1000000", "epoch ms": "1000", "epoch us": "1", "epoch ns": "0.001"}
"""Microseconds in each unit."""

_NUMBER = r"-?([0-9]{1,19}(\.[0-9]{0,12}0*)?|[0-9](\.[0-9]{1,18})?[eE]\+?[0-9]{1,2})"
_NAME = r"\p{L}+\.?"

_CODES = {
    "%Y": "[0-9]{4}", "%y": "[0-9]{2}", "%m": "[0-9]{2}", "%-m": "[0-9]{1,2}", "%b": _NAME, "%B": _NAME,
    "%d": "[0-9]{2}", "%-d": "[0-9]{1,2}", "%a": _NAME, "%A": _NAME, "%H": "[0-9]{2}", "%-H": "[0-9]{1,2}",
    "%I": "[0-9]{2}", "%-I": "[0-9]{1,2}", "%p": "[AaPp][Mm]", "%M": "[0-9]{2}", "%S": "[0-9]{2}", "%f": "[0-9]{1,6}",
    "%g": "[0-9]{3}", "%z": r"[+-][0-9]{2}(:?[0-9]{2})?", "%%": "%",
}  # fmt: skip
"""strptime's codes that DuckDB parses, and what each matches."""

_LETTERS = {
    "yyyy": "%Y", "uuuu": "%Y", "yy": "%y", "MM": "%m", "M": "%-m", "MMM": "%b", "MMMM": "%B", "dd": "%d", "d": "%-d",
    "EEE": "%a", "EEEE": "%A", "HH": "%H", "H": "%-H", "hh": "%I", "h": "%-I", "a": "%p", "mm": "%M", "ss": "%S",
    "SSS": "%g", "SSSSSS": "%f", "X": "%z", "XX": "%z", "XXX": "%z", "x": "%z", "xx": "%z", "xxx": "%z", "Z": "%z",
}  # fmt: skip

_NEEDED = {"year": {"%Y", "%y"}, "month": {"%m", "%-m", "%b", "%B"}, "day": {"%d", "%-d"}}

_JAVA_TOKEN = re.compile(r"'((?:[^']|'')*)'|(([A-Za-z])\3*)|(.)", re.DOTALL)
_STRPTIME_TOKEN = re.compile(r"(%-?.)|(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """A format: what its texts match, and the codes that parse them or the microseconds in its unit of the epoch."""

    text: str
    pattern: str
    codes: str = ""
    microseconds: str = ""


def read_time_format(text: str) -> TimeFormat:
    """Read one format. Raises ValueError, which says what is not known, or missing to tell a time."""
    if text in EPOCH_UNITS:
        return TimeFormat(text, _NUMBER, microseconds=EPOCH_UNITS[text])
    tokens = _strptime_tokens(text) if "%" in text else _java_tokens(text)
    if unknown := [token for token, is_code in tokens if is_code and token not in _CODES]:
        raise ValueError(f"{text!r}: {', '.join(unknown)} not known")
    codes = [token for token, is_code in tokens if is_code]
    for part, choices in _NEEDED.items():
        if not choices & set(codes):
            raise ValueError(f"{text!r}: has no {part}")
    pattern = "".join(_CODES[token] if is_code else re.escape(token) for token, is_code in tokens)
    return TimeFormat(
        text, pattern, "".join(token if is_code else token.replace("%", "%%") for token, is_code in tokens)
    )


def _java_tokens(text: str) -> list[tuple[str, bool]]:
    tokens: list[tuple[str, bool]] = []
    for match in _JAVA_TOKEN.finditer(text):
        quoted, letters, _, other = match.groups()
        if quoted is not None:
            tokens.append((quoted.replace("''", "'") or "'", False))
        else:
            tokens.append((_LETTERS.get(letters, letters), True) if letters else (other, False))
    return tokens


def _strptime_tokens(text: str) -> list[tuple[str, bool]]:
    return [(match[0], match[1] is not None) for match in _STRPTIME_TOKEN.finditer(text)]


def is_zone(name: str) -> bool:
    """Return whether a name is one of the IANA time zones."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
