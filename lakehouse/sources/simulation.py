"""Simulate a source: NDJSON lines, of which known shares are late, repeated, invalid or malformed.

The faults come from the contract alone, so that a new stream gets all of them without further code.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.model import Contract, Field
from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.times import naive_utc
from lakehouse.errors import LakehouseError

Simulate: TypeAlias = Callable[[np.random.Generator, int, datetime, datetime], pa.Table]
"""Makes events of a stream: `(rng, count, start, end)` to a table with the contract's fields."""

Lines: TypeAlias = "pa.Array[Any]"

ON_TIME, LATE, REPEATED, INVALID, MALFORMED = range(5)
"""The kinds of line."""

MAX_DAYS_LATE = 3
"""How many days before the window a late event may have happened."""

MAX_REPEATABLE_LINES = 10_000
"""How many lines of the previous batch may be repeated."""

NOT_JSON = (
    "<html><body>502 Bad Gateway</body></html>",
    "upstream connect error or disconnect/reset before headers",
    "{'quotes': 'of the wrong kind'}",
    '{"a value": }',
    "}{",
)
"""Lines that never were JSON."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares, from 0 to 1, of lines that are late, repeated, invalid by the contract, or no JSON object.

    Raises LakehouseError if a share is out of range or they add up to more than 1.
    """

    late: float = 0.0
    repeated: float = 0.0
    invalid: float = 0.0
    malformed: float = 0.0

    def __post_init__(self) -> None:
        for share in fields(self):
            if not 0 <= getattr(self, share.name) <= 1:
                raise LakehouseError(f"The share of {share.name} events is {getattr(self, share.name)}; give 0 to 1.")
        if self.total > 1 + 1e-9:
            raise LakehouseError(f"The shares of faulty events add up to {self.total:g}; give at most 1 together.")

    @property
    def total(self) -> float:
        """The share of lines with any fault."""
        return self.late + self.repeated + self.invalid + self.malformed


@dataclass(frozen=True, slots=True)
class Truth:
    """Ground truth about emitted lines: landed = valid + repeated + invalid + malformed.

    `valid` counts distinct valid events. `late` counts those of them whose date is before the first of the window.
    """

    landed: int = 0
    valid: int = 0
    repeated: int = 0
    invalid: int = 0
    malformed: int = 0
    late: int = 0

    def __add__(self, other: "Truth") -> "Truth":
        return Truth(*(getattr(self, count.name) + getattr(other, count.name) for count in fields(self)))


@dataclass(frozen=True, slots=True)
class Batch:
    """NDJSON with one event per line, each line ending in a newline, and the ground truth about it."""

    lines: bytes
    truth: Truth


class Simulator:
    """Makes batches of one stream. The same seed and calls make the same bytes. Not thread-safe."""

    def __init__(self, contract: Contract, simulate: Simulate, seed: int, faults: Faults = Faults()) -> None:
        self.contract = contract
        self.faults = faults
        self._simulate = simulate
        self._rng = np.random.default_rng(seed)
        self._breaches = tuple(_breaches(contract))
        self._tokens = {field.source: _token_sql(field) for field in _required_first(contract)}
        self._engine = open_in_memory(arrow_large_buffer_size=True)
        self._emitted = _text([])

    def batch(self, events: int, start: datetime, end: datetime) -> Batch:
        """Make `events` lines, with the faulty ones anywhere among them. Event times are in [start, end) unless late.

        A time without a zone is taken as UTC. Nothing is late if the stream's history starts with the window.
        """
        start, end = naive_utc(start), naive_utc(end)
        counts = self._counts(events, start)
        on_time = self._encoded(counts[ON_TIME], start, end)
        late = self._encoded(counts[LATE], *self._late_window(start))
        faulty = self._faulty(counts[INVALID], counts[MALFORMED], start, end)
        lines = self._mixed(counts, pa.concat_arrays([on_time, late]), faulty)
        truth = Truth(
            landed=events,
            valid=counts[ON_TIME] + counts[LATE],
            repeated=counts[REPEATED],
            invalid=counts[INVALID],
            malformed=counts[MALFORMED],
            late=counts[LATE],
        )
        return Batch(_joined(lines), truth)

    def _counts(self, events: int, start: datetime) -> list[int]:
        """Draw how many lines there are of each kind, by their shares."""
        faults = self.faults
        shares = (max(1 - faults.total, 0.0), faults.late, faults.repeated, faults.invalid, faults.malformed)
        counts: list[int] = self._rng.multinomial(events, shares).tolist()
        earliest, midnight = self._late_window(start)
        if earliest >= midnight:
            counts[ON_TIME], counts[LATE] = counts[ON_TIME] + counts[LATE], 0
        if counts[REPEATED] and not counts[ON_TIME] + counts[LATE] + len(self._emitted):
            counts[ON_TIME], counts[REPEATED] = 1, counts[REPEATED] - 1  # the very first line can't be a repetition
        return counts

    def _late_window(self, start: datetime) -> tuple[datetime, datetime]:
        midnight = datetime.combine(start.date(), time())
        history_start = datetime.combine(self.contract.history_start, time())
        return max(midnight - timedelta(days=MAX_DAYS_LATE), history_start), midnight

    def _mixed(self, counts: list[int], valid: Lines, faulty: Lines) -> Lines:
        """Put all lines in the order in which they are emitted.

        Only a line that was emitted before, in this batch or the previous one, is repeated.
        """
        before = self._emitted
        if self.faults.repeated:
            self._emitted = valid.take(np.arange(max(len(valid) - MAX_REPEATABLE_LINES, 0), len(valid)))
        if counts[ON_TIME] == sum(counts):
            return valid
        kinds = self._rng.permutation(np.repeat(np.arange(len(counts)), counts))
        if not len(before):
            _move_valid_before_repeated(kinds)
        places = np.empty(len(kinds), dtype=np.int64)
        first = len(before)
        for kind in (ON_TIME, LATE, INVALID, MALFORMED):  # the order in which the arrays are joined below
            places[kinds == kind] = first + np.arange(counts[kind])
            first += counts[kind]
        is_valid, is_repeated = kinds <= LATE, kinds == REPEATED
        repeatable = np.concatenate((np.arange(len(before)), places[is_valid]))
        emitted = len(before) + np.cumsum(is_valid)[is_repeated]
        places[is_repeated] = repeatable[(self._rng.random(counts[REPEATED]) * emitted).astype(np.int64)]
        return pa.concat_arrays([before, valid, faulty]).take(places)

    def _encoded(self, events: int, start: datetime, end: datetime) -> Lines:
        """Make new valid events as JSON lines. Nulls are left out; decimals are numbers with all their digits."""
        if not events:
            return _text([])
        first, *others = (f"{literal(json.dumps(source) + ':')} || {sql}" for source, sql in self._tokens.items())
        line = " || ".join(
            [f"'{{' || {first}", *(f"coalesce(',' || {token}, '')" for token in others), "'}' || chr(10)"]
        )
        lines = self._run(f"select {line} as line", self._simulate(self._rng, events, start, end))["line"]
        encoded: Lines = lines.combine_chunks()
        return encoded

    def _faulty(self, invalid: int, malformed: int, start: datetime, end: datetime) -> Lines:
        """Make lines with an event that breaks the contract, then lines that are no JSON object."""
        if not invalid + malformed:
            return _text([])
        tokens = ", ".join(f"{sql} as {quote(source)}" for source, sql in self._tokens.items())
        rows = self._run(f"select {tokens}", self._simulate(self._rng, invalid + malformed, start, end)).to_pylist()
        for row, choice in zip(rows, self._rng.integers(len(self._breaches), size=invalid), strict=False):
            source, token = self._breaches[choice]
            row[source] = token
        lines = [_line(row) for row in rows[:invalid]] + [self._malformed(_line(row)) for row in rows[invalid:]]
        return _text([line + "\n" for line in lines])

    def _malformed(self, line: str) -> str:
        """Make the beginning of a line, as a crashing writer leaves it, or a line that never was JSON."""
        choice = self._rng.integers(2 * len(NOT_JSON))
        return NOT_JSON[choice] if choice < len(NOT_JSON) else line[: self._rng.integers(1, len(line))]

    def _run(self, select: str, events: pa.Table) -> pa.Table:
        self._engine.register("events", events)
        result: pa.Table = self._engine.sql(f"{select} from events").to_arrow_table()
        self._engine.unregister("events")
        return result


def _required_first(contract: Contract) -> list[Field]:
    return sorted(contract.fields, key=lambda field: not field.required)


def _token_sql(field: Field) -> str:
    """Build the SQL of a field's value as JSON text. Null stays null."""
    name = quote(field.name)
    match field.type.kind:
        case "timestamp":
            return f"strftime({name}, '\"%Y-%m-%dT%H:%M:%S.%fZ\"')"
        case "string" | "list":
            return f"cast(to_json({name}) as varchar)"
        case "decimal" if field.type.precision == field.type.scale:
            # DuckDB (1.5.5) writes such a decimal without a zero before the point, which JSON does not allow.
            return rf"regexp_replace(cast({name} as varchar), '^(-?)[.]', '\10.')"
        case _:
            return f"cast({name} as varchar)"


def _move_valid_before_repeated(kinds: NDArray[np.int64]) -> None:
    """Swap, in place, the first valid line with the first repetition if that comes before it."""
    repeated, valid = np.flatnonzero(kinds == REPEATED), np.flatnonzero(kinds <= LATE)
    if len(repeated) and repeated[0] < valid[0]:
        kinds[[repeated[0], valid[0]]] = kinds[[valid[0], repeated[0]]]


def _text(lines: list[str]) -> Lines:
    return pa.array(lines, pa.large_string())


def _line(tokens: dict[str, str | None]) -> str:
    members = (f"{json.dumps(source)}:{token}" for source, token in tokens.items() if token is not None)
    return "{" + ",".join(members) + "}"


def _joined(lines: Lines) -> bytes:
    """Join the lines: their bytes follow one another in an Arrow array of text already."""
    if not len(lines):
        return b""
    _, offsets, data = lines.buffers()
    if offsets is None or data is None:
        return b""
    ends = np.frombuffer(memoryview(offsets), dtype=np.int64)[lines.offset : lines.offset + len(lines) + 1]
    return data.slice(int(ends[0]), int(ends[-1] - ends[0])).to_pybytes()


def _breaches(contract: Contract) -> Iterator[tuple[str, str | None]]:
    """Yield every way in which one field alone breaks the contract: its source name and JSON, None to leave it out.

    Each is a breach whenever the line arrives, so an event time in the future is one near the end of time.
    """
    for field in contract.fields:
        if field.required:
            yield field.source, None
            yield field.source, "null"
        for token in _wrong_values(field):
            yield field.source, token
        if field.name == contract.event_time:
            before = datetime.combine(contract.history_start, time()) - timedelta(days=1)
            yield field.source, f'"{before.isoformat()}Z"'
            yield field.source, '"9999-12-30T23:59:59Z"'


def _wrong_values(field: Field) -> Iterator[str]:
    """Yield the JSON of values that the field's type and rules forbid."""
    match field.type.kind:
        case "string":
            yield from (json.dumps(text) for text in _wrong_texts(field))
            return
        case "integer":
            yield from ('"many"', "17.5", "9223372036854775808")
        case "double":
            yield '"many"'
        case "decimal":
            precision, scale = field.type.precision, field.type.scale
            yield from ('"many"', f"1.{'0' * scale}1", f"1{'0' * (precision - scale)}")
        case "boolean":
            yield '"perhaps"'
        case "timestamp":
            yield from ('"yesterday"', '"2025-02-30T00:00:00Z"')
        case "list":
            yield '"no list"'
    yield from (f"{number:f}" for number in _numbers_out_of_bounds(field))


def _wrong_texts(field: Field) -> Iterator[str]:
    if field.enum:
        yield next(text for text in ("unheard of", "unheard of, too") if text not in field.enum)
    if field.pattern is not None:
        wrong = (
            text for text in ("?", "-1", "not like this", "\N{SNOWMAN}" * 40) if not re.search(field.pattern, text)
        )
        yield from list(wrong)[:1]
    if field.min_length is not None and field.min_length > 1:
        yield "x" * (field.min_length - 1)
    if field.max_length is not None:
        yield "x" * (field.max_length + 1)


def _numbers_out_of_bounds(field: Field) -> Iterator[Decimal]:
    step = Decimal(1).scaleb(-field.type.scale)
    if field.minimum is not None:
        yield field.minimum - step
    if field.maximum is not None:
        yield field.maximum + step
    if field.exclusive_minimum is not None:
        yield field.exclusive_minimum
    if field.exclusive_maximum is not None:
        yield field.exclusive_maximum
