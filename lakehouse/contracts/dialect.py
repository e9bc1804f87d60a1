"""How files are written where it can't be told from them: the dialect of a stream, or of one file."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from lakehouse.contracts.json_paths import read_path
from lakehouse.contracts.time_formats import is_zone, read_time_format

_CAMEL_CASE = re.compile(r"_([a-z])")


@dataclass(frozen=True, slots=True)
class Dialect:
    """A dialect. Without any option it is the default one, which is strict: UTF-8, RFC 4180, a header, plain numbers."""

    encoding: str | None = None
    """The encoding of files that have no byte order mark, by Python's name."""
    delimiter: str | None = None
    """One or more characters. By default the one of `,`, `;`, tab and `|` that fits the header best."""
    quote: str = '"'
    """The character around quoted fields; empty if there is none."""
    escape: str = ""
    """The character that makes the next one text."""
    decimal: str | None = None
    """The decimal mark. If given, no number with another mark is read."""
    thousands: str | None = None
    """The character between groups of three digits."""
    header: bool = True
    """Whether the first line has the names of the columns."""
    columns: tuple[str, ...] = ()
    """The names of the columns if there is no header; by default the contract's fields in their order."""
    skip: int = 0
    """Lines before the header."""
    comment: str = ""
    """The start of lines to skip."""
    nulls: tuple[str, ...] = ()
    """Texts that are no value."""
    true: tuple[str, ...] = ()
    false: tuple[str, ...] = ()
    """Spellings of the booleans, in any case."""
    trailing_delimiter: bool = False
    """Whether each row ends in a delimiter."""
    time_format: tuple[str, ...] = ()
    """The formats in which times may come, besides ISO 8601."""
    time_zone: str | None = None
    """The zone of times that have none."""
    time_columns: tuple[str, ...] = ()
    """The columns that make the event time where its own is empty: their texts, with a blank between them."""
    truncate_times: bool = False
    """Whether digits beyond microseconds are cut off. By default such a time is rejected."""
    round_decimals: bool = False
    """Whether decimals are rounded to their scale, halves away from zero. By default one with more digits is rejected."""

    envelope: tuple[str, ...] = ()
    """The paths to the events in a JSON object that holds them. The first that leads to a value counts."""
    field_paths: tuple[str, ...] = ()
    """Fields and where they are in JSON: `id=user.id` in an event, `op=$.op` in an envelope."""

    def __post_init__(self) -> None:
        for name, reason in _wrong_options(self):
            raise ValueError(f"{camel_case(name)}: {reason}")

    def options(self) -> dict[str, Any]:
        """List the options that differ from the default, by the names that contracts use."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            camel_case(name): list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
            if value != getattr(DEFAULT_DIALECT, name)
        }


def camel_case(name: str) -> str:
    """Name an option as contracts do: `trailingDelimiter`."""
    return _CAMEL_CASE.sub(lambda match: match[1].upper(), name)


def read_dialect(options: Mapping[str, Any], base: Dialect | None = None) -> Dialect:
    """Make the dialect of these options, on top of those of `base`. Raises ValueError, which names the option."""
    known = {camel_case(field.name): field.name for field in fields(Dialect)}
    if unknown := sorted(set(options) - known.keys()):
        raise ValueError(f"{', '.join(unknown)} not known; allowed are {', '.join(sorted(known))}")
    given = {} if base is None else {name: getattr(base, name) for name in known.values()}
    for option, value in options.items():
        given[known[option]] = _typed(option, known[option], value)
    return Dialect(**given)


def encode_options(options: Mapping[str, Any]) -> str:
    """Write options as a part of a key: `eyJkZWxpbWl0ZXIiOiI7In0`."""
    text = json.dumps(options, separators=(",", ":"), sort_keys=True)
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_options(text: str) -> Mapping[str, Any]:
    """Read what `encode_options` wrote. Raises ValueError."""
    options = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    if not isinstance(options, dict):
        raise ValueError(f"{options!r} are no options")
    return options


def _typed(option: str, name: str, value: Any) -> Any:
    """Check the type of an option's value. A single text stands for a list of it, and a mapping for a list of `name=value`."""
    default = {field.name: field.default for field in fields(Dialect)}[name]
    if isinstance(default, tuple):
        if isinstance(value, dict):
            value = [f"{key}={text}" for key, text in value.items()]
        items = value if isinstance(value, list) else [value]
        return tuple(str(item).lower() if isinstance(item, bool) else str(item) for item in items)
    expected = type(default) if isinstance(default, bool | int) else str
    if type(value) is not expected:
        words = {bool: "true or false", int: "a number", str: "a text"}[expected]
        raise ValueError(f"{option}: {value!r} is not {words}")
    return value


def _wrong_options(dialect: Dialect) -> list[tuple[str, str]]:
    """List the options whose values can't be right, each with the reason."""
    delimiter, decimal, thousands = dialect.delimiter, dialect.decimal, dialect.thousands
    wrong = [
        ("encoding", f"{dialect.encoding!r} is no encoding", not _is_encoding(dialect.encoding)),
        ("delimiter", f"{delimiter!r} is none", delimiter is not None and not re.fullmatch(r'[^\r\n"\0]+', delimiter)),
        ("quote", "must be one ASCII character, or empty", not re.fullmatch(r"[!-~]?", dialect.quote)),
        ("escape", "must be one ASCII character, or empty", not re.fullmatch(r"[!-~]?", dialect.escape)),
        ("decimal", f"{decimal!r} is no decimal mark", not _is_mark(decimal)),
        ("thousands", f"{thousands!r} is no mark of thousands", not _is_mark(thousands)),
        ("thousands", "is the decimal mark too", thousands is not None and thousands == (decimal or ".")),
        ("skip", "must not be negative", dialect.skip < 0),
        ("time_zone", f"{dialect.time_zone!r} is no time zone such as Europe/Berlin", not _is_zone(dialect.time_zone)),
        *(("time_format", reason, True) for reason in _reasons(read_time_format, dialect.time_format)),
        *(("envelope", reason, True) for reason in _reasons(read_path, dialect.envelope)),
        *(("field_paths", reason, True) for reason in _reasons(_read_field_path, dialect.field_paths)),
        (
            "columns",
            "are the header's; leave them out, or say `header: false`",
            bool(dialect.columns and dialect.header),
        ),
        ("quote", "is also the escape", bool(dialect.quote) and dialect.quote == dialect.escape),
    ]
    return [(name, reason) for name, reason, is_wrong in wrong if is_wrong]


def _is_encoding(name: str | None) -> bool:
    try:
        return name is None or isinstance("".encode(name), bytes)
    except (LookupError, ValueError):
        return False


def _is_zone(name: str | None) -> bool:
    return name is None or is_zone(name)


def _reasons(read: Callable[[str], object], texts: Iterable[str]) -> list[str]:
    """List why texts can't be read."""
    reasons = []
    for text in texts:
        try:
            read(text)
        except ValueError as error:
            reasons.append(str(error))
    return reasons


def _read_field_path(text: str) -> object:
    name, separator, path = text.partition("=")
    if not (name and separator) or read_path(path).has_elements:
        raise ValueError(f"{text!r} is no field and its path, such as id=user.id")
    return path


def _is_mark(mark: str | None) -> bool:
    return mark is None or (len(mark) == 1 and not mark.isalnum() and mark not in "+-\r\n\0")


DEFAULT_DIALECT = Dialect()
