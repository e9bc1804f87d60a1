"""What would arrive from a simulated source: NDJSON lines, a known share of them late, repeated, invalid or malformed.

Everything wrong with a line comes from the contract alone, so that a new stream is simulated with all of it.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakehouse.contracts import Contract, Field
from lakehouse.contracts.sql import literal, quote
from lakehouse.errors import LakehouseError

Simulate: TypeAlias = Callable[[np.random.Generator, int, datetime, datetime], pa.Table]
Lines: TypeAlias = "pa.Array[Any]"

ON_TIME, LATE, REPEATED, INVALID, MALFORMED = range(5)

LATE_DAYS = 3
"""How many days before the window late events may have happened."""

REMEMBERED = 10_000
"""How many lines of the batch before may be repeated."""

GARBAGE = (
    "<html><body>502 Bad Gateway</body></html>",
    "upstream connect error or disconnect/reset before headers",
    "{'quotes': 'of the wrong kind'}",
    '{"a value": }',
    "}{",
)
"""Lines that are no JSON at all."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares, from 0 to 1, of the lines that are late, repeated, invalid by the contract, or no JSON object."""

    late: float = 0.0
    repeated: float = 0.0
    invalid: float = 0.0
    malformed: float = 0.0

    def __post_init__(self) -> None:
        for share in fields(self):
            if not 0 <= getattr(self, share.name) <= 1:
                raise LakehouseError(f"the share of {share.name} events is {getattr(self, share.name)}; give 0 to 1")
        if self.total > 1 + 1e-9:
            raise LakehouseError(f"the shares of faulty events add up to {self.total:g}; give at most 1 together")

    @property
    def total(self) -> float:
        """The share of lines that are not simply valid, new and on time."""
        return self.late + self.repeated + self.invalid + self.malformed


@dataclass(frozen=True, slots=True)
class Truth:
    """Exact counts of emitted lines: landed = valid + repeated + invalid + malformed.

    `valid` counts distinct valid events; `late` counts those of them whose date is before the window's first.
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
    """NDJSON, one event a line, each ending in a newline; and what is true of it."""

    lines: bytes
    truth: Truth


class Simulator:
    """Makes batches of one stream: the same seed and the same calls make the same bytes. For one thread at a time."""

    def __init__(self, contract: Contract, simulate: Simulate, seed: int, faults: Faults = Faults()) -> None:
        self.contract = contract
        self.faults = faults
        self._simulate = simulate
        self._rng = np.random.default_rng(seed)
        self._breaches = tuple(_breaches(contract))
        self._tokens = {field.source: _token_sql(field) for field in sorted(contract.fields, key=_optional)}
        self._engine = duckdb.connect(config={"threads": 1, "arrow_large_buffer_size": True})
        self._emitted = _text([])

    def batch(self, events: int, start: datetime, end: datetime) -> Batch:
        """`events` lines, their events within [start, end) unless they are late, the faulty ones anywhere among them.

        A moment without a zone is taken as UTC. Nothing is late where the stream's history starts with the window.
        """
        start, end = _utc(start), _utc(end)
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
        """How many lines of each kind, at random by their shares."""
        faults = self.faults
        shares = (max(1 - faults.total, 0.0), faults.late, faults.repeated, faults.invalid, faults.malformed)
        counts: list[int] = self._rng.multinomial(events, shares).tolist()
        earliest, midnight = self._late_window(start)
        if earliest >= midnight:
            counts[ON_TIME], counts[LATE] = counts[ON_TIME] + counts[LATE], 0
        if counts[REPEATED] and not counts[ON_TIME] + counts[LATE] + len(self._emitted):
            counts[ON_TIME], counts[REPEATED] = 1, counts[REPEATED] - 1  # the first can't be a repetition
        return counts

    def _late_window(self, start: datetime) -> tuple[datetime, datetime]:
        midnight = datetime.combine(start.date(), time())
        history_start = datetime.combine(self.contract.history_start, time())
        return max(midnight - timedelta(days=LATE_DAYS), history_start), midnight

    def _mixed(self, counts: list[int], valid: Lines, faulty: Lines) -> Lines:
        """All lines in the order they are emitted in. A line is repeated when it is out, in this or the last batch."""
        before = self._emitted
        if self.faults.repeated:
            self._emitted = valid.take(np.arange(max(len(valid) - REMEMBERED, 0), len(valid)))
        if counts[ON_TIME] == sum(counts):
            return valid
        kinds = self._rng.permutation(np.repeat(np.arange(len(counts)), counts))
        if not len(before):
            _begin_with_valid(kinds)
        places = np.empty(len(kinds), dtype=np.int64)
        first = len(before)
        for kind in (ON_TIME, LATE, INVALID, MALFORMED):  # as the lines stand below
            places[kinds == kind] = first + np.arange(counts[kind])
            first += counts[kind]
        is_valid, is_repeated = kinds <= LATE, kinds == REPEATED
        repeatable = np.concatenate((np.arange(len(before)), places[is_valid]))
        emitted = len(before) + np.cumsum(is_valid)[is_repeated]
        places[is_repeated] = repeatable[(self._rng.random(counts[REPEATED]) * emitted).astype(np.int64)]
        return pa.concat_arrays([before, valid, faulty]).take(places)

    def _encoded(self, events: int, start: datetime, end: datetime) -> Lines:
        """New valid events as lines of JSON. Nulls are left out; decimals are numbers with all their digits."""
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
        """Lines with an event that breaks the contract, then lines that are no JSON object."""
        if not invalid + malformed:
            return _text([])
        tokens = ", ".join(f"{sql} as {quote(source)}" for source, sql in self._tokens.items())
        rows = self._run(f"select {tokens}", self._simulate(self._rng, invalid + malformed, start, end)).to_pylist()
        for row, which in zip(rows, self._rng.integers(len(self._breaches), size=invalid), strict=False):
            source, token = self._breaches[which]
            row[source] = token
        lines = [_line(row) for row in rows[:invalid]] + [self._malformed(_line(row)) for row in rows[invalid:]]
        return _text([line + "\n" for line in lines])

    def _malformed(self, line: str) -> str:
        """The beginning of a line, as a writer leaves it that dies; or something that never was JSON."""
        kind = self._rng.integers(2 * len(GARBAGE))
        return GARBAGE[kind] if kind < len(GARBAGE) else line[: self._rng.integers(1, len(line))]

    def _run(self, select: str, events: pa.Table) -> pa.Table:
        self._engine.register("events", events)
        result: pa.Table = self._engine.sql(f"{select} from events").to_arrow_table()
        self._engine.unregister("events")
        return result


def _utc(moment: datetime) -> datetime:
    """The moment in UTC, without its zone."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _optional(field: Field) -> bool:
    return not field.required


def _token_sql(field: Field) -> str:
    """The SQL of a field's value as JSON text, null for null."""
    name = quote(field.name)
    match field.type.kind:
        case "timestamp":
            return f"strftime({name}, '\"%Y-%m-%dT%H:%M:%S.%fZ\"')"
        case "string" | "list":
            return f"cast(to_json({name}) as varchar)"
        case "decimal" if field.type.precision == field.type.scale:
            # DuckDB (1.5.5) writes such a decimal without the zero before the point, which JSON does not allow
            return rf"regexp_replace(cast({name} as varchar), '^(-?)[.]', '\10.')"
        case _:
            return f"cast({name} as varchar)"


def _begin_with_valid(kinds: NDArray[np.int64]) -> None:
    """Let the first valid line, in place, change places with the first repetition when that stands before it."""
    repeated, valid = np.flatnonzero(kinds == REPEATED), np.flatnonzero(kinds <= LATE)
    if len(repeated) and repeated[0] < valid[0]:
        kinds[[repeated[0], valid[0]]] = kinds[[valid[0], repeated[0]]]


def _text(lines: list[str]) -> Lines:
    return pa.array(lines, pa.large_string())


def _line(tokens: dict[str, str | None]) -> str:
    members = (f"{json.dumps(source)}:{token}" for source, token in tokens.items() if token is not None)
    return "{" + ",".join(members) + "}"


def _joined(lines: Lines) -> bytes:
    """The lines one after another: what an Arrow array of text holds, byte for byte."""
    if not len(lines):
        return b""
    _, offsets, data = lines.buffers()
    if offsets is None or data is None:
        return b""
    ends = np.frombuffer(memoryview(offsets), dtype=np.int64)[lines.offset : lines.offset + len(lines) + 1]
    return data.slice(int(ends[0]), int(ends[-1] - ends[0])).to_pybytes()


def _breaches(contract: Contract) -> Iterator[tuple[str, str | None]]:
    """Every way in which one field alone can break the contract: its name and the JSON in its place, None for nothing.

    Only what is a breach whenever the line arrives: an event time in the future is one at the end of time.
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
    """The JSON of values that the field's type and rules forbid."""
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
