"""The fast half of the edge's validation: proves of JSON lines that they are valid by the contract.

What is valid is decided by the SQL of `sql` alone. A Validator only ever says "surely valid" or "not sure"; whoever
asks judges the lines that are not sure with that SQL, whose reasons are then the very same words.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, Literal, TypeAlias

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakehouse.contracts.model import MAX_TEXT_BYTES, Contract, Field
from lakehouse.contracts.sql import literal
from lakehouse.contracts.times import are_times

QUOTE, BACKSLASH, NEWLINE, OPENING, CLOSING = b'"\\\n{}'
SURE_CHARACTERS = MAX_TEXT_BYTES // 4
"""A text of so many characters is not too long, whatever they are."""
TOGETHER = 32
"""How many lines are tried at once when not all can be proved: a bad one takes so many to the slow judge."""
REMEMBERED = 10_000
"""How many texts are remembered to match a pattern."""

Check: TypeAlias = "Callable[[list[Any], datetime], int | None]"
"""Of a column of decoded values and the arrival: how many quotes stand around and in the values; None when not sure."""


class Validator:
    """Judges the lines of one contract. For one thread at a time."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._columns = [_Column(contract, field) for field in contract.fields]
        # A required field has a column that is always there, so those come first: msgspec wants no default before.
        ordered = sorted(self._columns, key=lambda column: column.optional)
        struct = msgspec.defstruct(
            "Event",
            [column.definition for column in ordered],
            rename={column.attribute: column.source for column in ordered},
            forbid_unknown_fields=True,
            gc=False,
        )
        self._decoder = msgspec.json.Decoder(struct)

    def proven(self, lines: bytes, arrived_at: datetime) -> int:
        """The number of lines, each ending in a newline, if every one is surely a valid event; else 0.

        `arrived_at` is when they arrive, aware.
        """
        characters = np.frombuffer(lines, np.uint8)
        count = _objects_a_line(characters)
        if not count or (BACKSLASH in characters and b"\\u00" in lines):
            return 0  # such an escape is a NUL that no field may hold, or a quote that is not counted below
        try:
            events = self._decoder.decode_lines(lines)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return 0
        if len(events) != count or self._quotes(events, arrived_at) != np.count_nonzero(characters == QUOTE):
            return 0
        return count

    def unproven(self, lines: Sequence[bytes], arrived_at: datetime) -> list[int]:
        """The places of the lines, without their line ends, that are not surely valid; some of them may well be."""
        found: list[int] = []
        for start in range(0, len(lines), TOGETHER):
            part = lines[start : start + TOGETHER]
            if not self.proven(b"\n".join(part) + b"\n", arrived_at):
                found += range(start, start + len(part))
        return found

    def _quotes(self, events: list[Any], arrived_at: datetime) -> int | None:
        """How many quotes these events are written with when no field is repeated; None when a value is not sure.

        A repeated field shows by its quotes alone, for the last of them wins in decoding.
        """
        quotes = 0
        for column in self._columns:
            found = column.quotes(events, arrived_at)
            if found is None:
                return None
            quotes += found
        return quotes


def _objects_a_line(characters: NDArray[np.uint8]) -> int:
    """How many lines there are if each begins and ends with a brace; else 0.

    Outside of texts one brace closes before the next opens only between two objects, and no text holds a line end: so
    if as many objects are decoded from the lines, each line is one.
    """
    ends = np.flatnonzero(characters == NEWLINE)
    if not len(ends) or ends[-1] != len(characters) - 1 or ends[0] == 0:
        return 0
    opened = characters[0] == OPENING and (characters[ends[:-1] + 1] == OPENING).all()
    return len(ends) if opened and (characters[ends - 1] == CLOSING).all() else 0


class _Column:
    """One field of many events at once."""

    def __init__(self, contract: Contract, field: Field) -> None:
        self.source = field.source
        self.attribute = f"f_{field.name}"  # no field's name is a keyword or a method then
        self.optional = not field.required
        self._get = attrgetter(self.attribute)
        self._type, self._check = _typed(contract, field)
        self._is_raw = self._type is msgspec.Raw

    @property
    def definition(self) -> tuple[Any, ...]:
        """The field for `msgspec.defstruct`."""
        if not self.optional:
            return (self.attribute, self._type)
        if self._is_raw:
            return (self.attribute, msgspec.Raw, msgspec.Raw())
        return (self.attribute, self._type | None | msgspec.UnsetType, msgspec.UNSET)

    def quotes(self, events: list[Any], arrived_at: datetime) -> int | None:
        """How many quotes the field is written with in all of the events; None when a value is not surely valid."""
        values = list(map(self._get, events))
        members = len(values)
        if self.optional:
            absent, null = (b"", b"null") if self._is_raw else (msgspec.UNSET, None)
            if self._is_raw:
                values = list(map(bytes, values))
            unset = values.count(absent)
            members -= unset
            if unset or null in values:
                values = [value for value in values if value != absent and value != null]
        quotes = self._check(values, arrived_at) if values else 0
        return None if quotes is None else 2 * members + quotes


def _typed(contract: Contract, field: Field) -> tuple[Any, Check]:
    """What msgspec decodes the field as, and how its values are checked beyond that."""
    match field.type.kind:
        case "string" if field.enum and not field.pattern and field.min_length is None and field.max_length is None:
            return Literal[field.enum], _enumerated
        case "string":
            return _text_type(field), partial(_matching, _Pattern(field.pattern)) if field.pattern else _texts
        case "timestamp":
            window = contract.history_start if field.name == contract.event_time else None
            return Annotated[str, msgspec.Meta(min_length=10, max_length=32)], partial(_times, window)
        case "boolean":
            return bool, _plain
        case "list":
            return list[str], _lists
        case _:
            return msgspec.Raw, _Numbers(field)


def _text_type(field: Field) -> Any:
    # SQL lets an empty text be nothing at all, whatever its rules; that is for SQL to judge where there are rules.
    shortest = max(field.min_length or 0, 1 if field.required or field.pattern or field.enum else 0)
    longest = min(field.max_length if field.max_length is not None else SURE_CHARACTERS, SURE_CHARACTERS)
    if field.enum:
        allowed = tuple(text for text in field.enum if shortest <= len(text) <= longest)
        return Literal[allowed]
    return Annotated[str, msgspec.Meta(min_length=shortest, max_length=longest)]


def _plain(values: list[Any], arrived_at: datetime) -> int:
    return 0


def _enumerated(values: list[str], arrived_at: datetime) -> int:
    # Of a few known texts; one with a quote or a backslash in it would fail the count, and so be not sure.
    return 2 * len(values)


def _texts(values: list[str], arrived_at: datetime) -> int:
    return 2 * len(values) + "".join(values).count('"')


def _lists(values: list[list[str]], arrived_at: datetime) -> int:
    return sum(2 * len(texts) + "".join(texts).count('"') for texts in values)


def _times(history_start: date | None, values: list[str], arrived_at: datetime) -> int | None:
    if not are_times(values):
        return None
    if history_start is not None:
        # All of one form, so that texts compare as times; within the last second SQL decides.
        latest = (arrived_at.astimezone(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
        if min(values)[:10] < history_start.isoformat() or max(values).replace(" ", "T")[:19] >= latest:
            return None
    return 2 * len(values)


def _matching(pattern: "_Pattern", values: list[str], arrived_at: datetime) -> int | None:
    return _texts(values, arrived_at) if pattern.matches(set(values)) else None


class _Pattern:
    """A pattern as DuckDB understands it; other engines of regular expressions differ, in what `$` is for one."""

    def __init__(self, pattern: str) -> None:
        self._sql = f"select bool_and(regexp_matches(text, {literal(pattern)})) from texts"
        self._known: set[str] = set()
        self._database = duckdb.connect(config={"threads": 1})

    def matches(self, texts: set[str]) -> bool:
        """Whether all of them do."""
        unknown = texts - self._known
        if not unknown:
            return True
        # As Arrow, for a list as a parameter makes duckdb import pandas, which takes seconds.
        self._database.register("texts", pa.table({"text": pa.array(unknown, pa.string())}))
        row = self._database.execute(self._sql).fetchone()
        self._database.unregister("texts")
        if row is None or not row[0]:
            return False
        if len(self._known) + len(unknown) > REMEMBERED:
            self._known.clear()
        self._known |= unknown
        return True


class _Numbers:
    """Numbers by their text, for what is exact in it is lost in a float: digits beyond the scale, long exponents."""

    def __init__(self, field: Field) -> None:
        # Above zero is what most bounds say, and the text shows it at once.
        positive = field.minimum == 0 or field.exclusive_minimum == 0
        sign = rb"(?!0++(?:\.0++)?+\"?+\n)" if field.exclusive_minimum == 0 else rb"" if positive else rb"-?+"
        self._texts = re.compile(rb'(?:"?+%b%b"?+\n)*+' % (sign, _digits(field)))
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
        if not self._texts.fullmatch(joined):
            return None
        quotes = joined.count(b'"')
        if self._bounds and not self._are_within(joined.replace(b'"', b"")):
            return None
        return quotes

    def _are_within(self, joined: bytes) -> bool:
        # A text's nearest float beyond that of the bound is beyond the bound; where they are equal SQL decides.
        numbers = np.fromstring(joined.decode(), np.float64, sep="\n")
        lowest, highest = float(numbers.min()), float(numbers.max())
        return all(lowest > bound if above else highest < bound for bound, above in self._bounds)


def _digits(field: Field) -> bytes:
    """Of the texts that are surely such numbers: few enough for any rule."""
    if field.type.kind == "double":
        return rb"[0-9]{1,30}+(?:\.[0-9]{1,30}+)?+"
    if field.type.kind == "integer":
        return rb"[0-9]{1,18}+"
    before, after = field.type.precision - field.type.scale, field.type.scale
    return (rb"[0-9]{1,%d}+" % before if before else rb"0") + (rb"(?:\.[0-9]{1,%d}+)?+" % after if after else b"")
