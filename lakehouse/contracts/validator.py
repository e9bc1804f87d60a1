"""Prove quickly that JSON lines are valid events, for the HTTP server.

The SQL of `sql` alone decides what is valid. A Validator says "surely valid" or "not sure"; the caller checks lines that are
not sure with that SQL, so reasons are the same everywhere.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import chain, filterfalse
from operator import attrgetter
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.model import MAX_TEXT_BYTES, Contract, Field
from lakehouse.contracts.sql import literal
from lakehouse.contracts.times import time_range, time_rank

QUOTE, BLANK, NEWLINE, OPENING, CLOSING, BRACKET = b'" \n{}['
SAFE_TEXT_CHARACTERS = MAX_TEXT_BYTES // 4
"""A text of this many characters fits `MAX_TEXT_BYTES`, whatever the characters."""

SAFE_BRACKETS = 100
"""A line with this many brackets is surely not nested too deeply."""

LINES_PER_TRY = 32
"""Lines that are tried at once when not all can be proven. One bad line sends this many to the SQL."""

MAX_KNOWN_TEXTS = 10_000
"""Texts of a column that are remembered as valid."""

Check: TypeAlias = "Callable[[list[Any], datetime], int | None]"
"""Count the quotes around and in decoded values, given the arrival time; None if a value is not surely valid."""


class Validator:
    """Proves lines of one contract. Not thread-safe."""

    def __init__(self, contract: Contract) -> None:
        self._forms = [_Form(contract, "source")]
        if any(field.source != field.name for field in contract.fields):
            self._forms.append(_Form(contract, "name"))

    def proven(self, lines: bytes, arrived_at: datetime) -> int:
        """Count the lines if every one is surely a valid event, else 0.

        Each line ends in a newline. `arrived_at` is their arrival time, with a time zone.
        """
        count = _objects_a_line(np.frombuffer(lines, np.uint8))
        if not count or (b"\\" in lines and b"\\u00" in lines):
            return 0  # such an escape is a NUL that no field may hold, or a quote that is not counted below
        proved = any(form.proves(lines, count, arrived_at) for form in self._forms) or any(
            form.proves_with_others(lines, count, arrived_at) for form in self._forms
        )
        return count if proved else 0

    def unproven(self, lines: Sequence[bytes], arrived_at: datetime) -> list[int]:
        """List the indexes of lines, given without line ends, that are not surely valid. Some may be valid."""
        indexes: list[int] = []
        for start in range(0, len(lines), LINES_PER_TRY):
            part = lines[start : start + LINES_PER_TRY]
            if not self.proven(b"\n".join(part) + b"\n", arrived_at):
                indexes += range(start, start + len(part))
        return indexes


def _objects_a_line(characters: NDArray[np.uint8]) -> int:
    """Count the lines if each begins and ends with a brace, else 0.

    A closing brace followed by an opening one, outside texts, only occurs between two objects, and no text holds a line end.
    So if as many objects are decoded as there are lines, each line is one object.
    """
    ends = np.flatnonzero(characters == NEWLINE)
    if not len(ends) or ends[-1] != len(characters) - 1 or ends[0] == 0:
        return 0
    opened = characters[0] == OPENING and (characters[ends[:-1] + 1] == OPENING).all()
    return len(ends) if opened and (characters[ends - 1] == CLOSING).all() else 0


def _count_quotes(text: bytes) -> int:
    # Much faster than bytes.count for a frequent character.
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == QUOTE))


class _Form:
    """Decodes events whose fields have either the contract's names or their names at the source."""

    def __init__(self, contract: Contract, naming: Literal["source", "name"]) -> None:
        self._columns = [_Column(contract, field) for field in contract.fields]
        # Required fields come first because msgspec allows no default before a field without one.
        ordered = sorted(self._columns, key=lambda column: column.optional)
        fields = [column.definition for column in ordered]
        names = {f"f_{field.name}": str(getattr(field, naming)) for field in contract.fields}
        exact = msgspec.defstruct("Event", fields, rename=names, forbid_unknown_fields=True, gc=False)
        open_to_others = msgspec.defstruct("Event", fields, rename=names, gc=False)
        self._decoder = msgspec.json.Decoder(exact)
        self._of_known = msgspec.json.Decoder(open_to_others)
        self._of_all = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._names = {*names.values()}
        self._alike = {name.lower() for field in contract.fields for name in (field.name, field.source)}

    def proves(self, lines: bytes, count: int, arrived_at: datetime) -> bool:
        """Return whether the lines are `count` valid events that have no other fields than the contract's."""
        try:
            events = self._decoder.decode_lines(lines)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        # Only its quotes show a repeated field, because decoding keeps the last one.
        return len(events) == count and self._quotes(events, b"\\" in lines, arrived_at) == _count_quotes(lines)

    def proves_with_others(self, lines: bytes, count: int, arrived_at: datetime) -> bool:
        """Return whether the lines are `count` valid events, whatever other fields they have."""
        if not _is_plain(lines, count):
            return False
        try:
            events = self._of_known.decode_lines(lines)
            members = self._of_all.decode_lines(lines)
        except (msgspec.DecodeError, RecursionError):
            return False
        if len(events) != count or self._quotes(events, True, arrived_at) is None:
            return False
        others = {*chain.from_iterable(members)} - self._names
        if not self._alike.isdisjoint(map(str.lower, others)):
            return False  # a field appears under its other name, or in another case
        quotes = 2 * sum(map(len, members)) + _count_quotes(b"".join(chain.from_iterable(map(dict.values, members))))
        return quotes == _count_quotes(lines)

    def _quotes(self, events: list[Any], escapes: bool, arrived_at: datetime) -> int | None:
        """Count the quotes that these events have if no field is repeated; None if a value is not surely valid.

        `escapes` says whether texts may hold escapes.
        """
        quotes = 0
        for column in self._columns:
            column_quotes = column.quotes(events, escapes, arrived_at)
            if column_quotes is None:
                return None
            quotes += column_quotes
        return quotes


def _is_plain(lines: bytes, count: int) -> bool:
    """Check what msgspec skips: UTF-8 without control characters or lone surrogates, and not deeply nested."""
    characters = np.frombuffer(lines, np.uint8)
    if b"\\u" in lines or np.count_nonzero(characters < BLANK) != count:
        return False
    opening = np.flatnonzero((characters == BRACKET) | (characters == OPENING))
    up_to_line_end = np.searchsorted(opening, np.flatnonzero(characters == NEWLINE))
    if np.diff(up_to_line_end, prepend=0).max() > SAFE_BRACKETS:
        return False
    try:
        return lines.isascii() or bool(lines.decode())
    except UnicodeDecodeError:
        return False


class _Column:
    """Checks one field of many events at once."""

    def __init__(self, contract: Contract, field: Field) -> None:
        self.attribute = f"f_{field.name}"  # so that no field has the name of a keyword or method
        self.optional = not field.required
        self._get = attrgetter(self.attribute)
        self._type, self._check = _typed(contract, field)
        self._is_raw = self._type is msgspec.Raw

    @property
    def definition(self) -> tuple[Any, ...]:
        """The field as `msgspec.defstruct` takes it."""
        if not self.optional:
            return (self.attribute, self._type)
        if self._is_raw:
            return (self.attribute, msgspec.Raw, msgspec.Raw())
        return (self.attribute, self._type | None | msgspec.UnsetType, msgspec.UNSET)

    def quotes(self, events: list[Any], escapes: bool, arrived_at: datetime) -> int | None:
        """Count the quotes that the field has in all events; None if a value is not surely valid."""
        if self._check is _texts and not self.optional and not escapes:
            return 4 * len(events)
        values = list(map(self._get, events))
        members = len(values)
        if self.optional:
            values, members = self._present(values)
        if not values:
            return 2 * members
        quotes = 2 * len(values) if self._check is _texts and not escapes else self._check(values, arrived_at)
        return None if quotes is None else 2 * members + quotes

    def _present(self, values: list[Any]) -> tuple[list[Any], int]:
        """Select the values that are neither absent nor null, and count those that are not absent."""
        if self._is_raw:
            values = list(map(bytes, values))
            present = [value for value in values if value not in (b"", b"null")]
            return present, len(values) - values.count(b"")
        # Checking all falsy values is fast, because few values are empty texts.
        falsy = list(filterfalse(None, values))
        if not falsy:
            return values, len(values)
        absent = falsy.count(msgspec.UNSET)
        if absent == len(falsy):
            return list(filter(None, values)), len(values) - absent
        return [value for value in values if value is not None and value is not msgspec.UNSET], len(values) - absent


def _typed(contract: Contract, field: Field) -> tuple[Any, Check]:
    """Choose the type that msgspec decodes the field as, and the check of its values beyond that."""
    match field.type.kind:
        case "string" if field.enum and not field.pattern and field.min_length is None and field.max_length is None:
            return Literal[field.enum], _enumerated
        case "string":
            return _text_type(field), partial(_matching, _Pattern(field.pattern)) if field.pattern else _texts
        case "timestamp":
            window = contract.history_start if field.name == contract.event_time else None
            check = partial(_zoned_times if field.default_timezone else _times, window)
            return Annotated[str, msgspec.Meta(min_length=10, max_length=32)], check
        case "boolean":
            return bool, _plain
        case "list":
            return list[str], _lists
        case _:
            return msgspec.Raw, _Numbers(field)


def _text_type(field: Field) -> Any:
    # SQL takes an empty text as absent, whatever the rules. Where there are rules, leave it to SQL.
    shortest = max(field.min_length or 0, 1 if field.required or field.pattern or field.enum else 0)
    longest = min(field.max_length if field.max_length is not None else SAFE_TEXT_CHARACTERS, SAFE_TEXT_CHARACTERS)
    if field.enum:
        allowed = tuple(text for text in field.enum if shortest <= len(text) <= longest)
        return Literal[allowed]
    return Annotated[str, msgspec.Meta(min_length=shortest, max_length=longest)]


def _plain(values: list[Any], arrived_at: datetime) -> int:
    return 0


def _enumerated(values: list[str], arrived_at: datetime) -> int:
    # An allowed text with a quote or a backslash fails the count, and so is not sure.
    return 2 * len(values)


def _texts(values: list[str], arrived_at: datetime) -> int:
    return 2 * len(values) + "".join(values).count('"')


def _lists(values: list[list[str]], arrived_at: datetime) -> int:
    return sum(2 * len(texts) + "".join(texts).count('"') for texts in values)


def _times(history_start: date | None, values: list[str], arrived_at: datetime) -> int | None:
    limits = time_range(values)
    if limits is None:
        return None
    if history_start is not None:
        first, last = limits
        # SQL decides within the last second.
        if first < time_rank(datetime.combine(history_start, time())) or last >= time_rank(
            arrived_at.astimezone(UTC) + timedelta(days=1)
        ):
            return None
    return 2 * len(values)


def _zoned_times(history_start: date | None, values: list[str], arrived_at: datetime) -> int | None:
    # Clocks may skip a time without a zone, or show it twice. SQL decides.
    return _times(history_start, values, arrived_at) if all(value.endswith("Z") for value in values) else None


def _matching(pattern: "_Pattern", values: list[str], arrived_at: datetime) -> int | None:
    return _texts(values, arrived_at) if pattern.matches(set(values)) else None


class _Pattern:
    """A pattern matched by DuckDB. Other regular expressions differ, for example in what `$` matches."""

    def __init__(self, pattern: str) -> None:
        self._sql = f"select bool_and(regexp_matches(text, {literal(pattern)})) from texts"
        self._known: set[str] = set()
        self._database = open_in_memory()

    def matches(self, texts: set[str]) -> bool:
        """Return whether all texts match."""
        unknown = texts - self._known
        if not unknown:
            return True
        # Pass Arrow, because a list as a parameter makes duckdb import pandas, which takes seconds.
        self._database.register("texts", pa.table({"text": pa.array(unknown, pa.string())}))
        row = self._database.execute(self._sql).fetchone()
        self._database.unregister("texts")
        if row is None or not row[0]:
            return False
        if len(self._known) + len(unknown) > MAX_KNOWN_TEXTS:
            self._known.clear()
        self._known |= unknown
        return True


class _Numbers:
    """Checks numbers by their text, because a float loses digits beyond the scale and long exponents."""

    def __init__(self, field: Field) -> None:
        # Most bounds are zero, and the text shows the sign.
        positive = field.minimum == 0 or field.exclusive_minimum == 0
        self._is_valid = re.compile(rb'"?%b%b"?' % (rb"" if positive else rb"-?", _digits(field))).fullmatch
        self._may_be_zero = field.exclusive_minimum != 0
        self._known: set[bytes] = {b""}
        self._bounds = [
            (float(bound), above)
            for bound, above in (
                (field.minimum, True),
                (field.exclusive_minimum, True),
                (field.maximum, False),
                (field.exclusive_maximum, False),
            )
            if bound is not None and not (above and bound == 0)
        ]

    def __call__(self, values: list[bytes], arrived_at: datetime) -> int | None:
        joined = b"\n".join(values) + b"\n"
        # Numbers differ, but their shapes repeat.
        if not self._are_valid(set(joined.translate(_SHAPES).split(b"\n"))):
            return None
        if not self._may_be_zero and b"\n\n" in b"\n" + joined.translate(None, b'0."'):
            return None
        if self._bounds and not self._are_within(joined.replace(b'"', b"")):
            return None
        return joined.count(b'"')

    def _are_valid(self, shapes: set[bytes]) -> bool:
        unknown = shapes - self._known
        if not all(map(self._is_valid, unknown)):
            return False
        if len(self._known) + len(unknown) <= MAX_KNOWN_TEXTS:
            self._known |= unknown
        return True

    def _are_within(self, joined: bytes) -> bool:
        # If a text's nearest float is beyond the bound's, so is the number. SQL decides if they are equal.
        numbers = np.fromstring(joined.decode(), np.float64, sep="\n")
        lowest, highest = float(numbers.min()), float(numbers.max())
        return all(lowest > bound if above else highest < bound for bound, above in self._bounds)


_SHAPES = bytes(ord("0") if chr(character) in "123456789" else character for character in range(256))
"""Maps every digit to 0."""


def _digits(field: Field) -> bytes:
    """Build the pattern of texts that surely fit the type, with all digits mapped to 0."""
    if field.type.kind == "double":
        return rb"0{1,30}+(?:\.0{1,30}+)?+"
    if field.type.kind == "integer":
        return rb"0{1,18}+"
    before, after = field.type.precision - field.type.scale, field.type.scale
    return (rb"0{1,%d}+" % before if before else rb"0") + (rb"(?:\.0{1,%d}+)?+" % after if after else b"")
