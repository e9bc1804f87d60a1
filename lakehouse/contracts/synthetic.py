"""Draw valid events of a contract, for streams that have no simulator of their own.

Values follow the rules alone. A `simulate.py` in the stream's folder gives events that look like real ones.
"""

from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from functools import cache
from itertools import cycle, islice
from random import Random
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.model import Contract, Field
from lakehouse.contracts.sql import literal
from lakehouse.errors import ContractError
from lakehouse.streams import distributions
from lakehouse.streams.distributions import Column, Integers

VOCABULARY_WORDS = 200
"""Distinct texts of a field that is not the key."""

MISSING_SHARE = 0.05
"""Share of nulls in fields that are not required."""

NUMBER_SPAN = 1_000
UNIQUE_SPAN = 1 << 53
"""How far numbers spread where the contract sets no limit; those of a key as far as JSON readers keep them exactly."""

MAX_OFFSET = (1 << 63) - 1

MAX_DOUBLE = 10**300
DOUBLE_SCALE = 6
"""Decimals of doubles."""

_EXACT = Context(prec=100)


def synthesize(contract: Contract, rng: np.random.Generator, events: int, start: datetime, end: datetime) -> pa.Table:
    """Draw `events` valid events within [start, end), in order of time, each with a key of its own where rules allow it.

    Raises ContractError if no value can be found that obeys a field's rules.
    """
    unique = _unique_field(contract)
    moments = distributions.times(rng, events, start, end, distributions.STEADY)
    if unique is None:
        moments = _distinct(moments, distributions.microseconds(end))
    columns: dict[str, Column] = {}
    for field in contract.fields:
        if field.name == contract.event_time:
            columns[field.name] = distributions.timestamps(moments)
            continue
        column = _values(contract, field, rng, moments, is_unique=field.name == unique)
        if not (field.required or field.key):
            column = distributions.blank(column, distributions.chance(rng, events, MISSING_SHARE))
        columns[field.name] = column
    return pa.table(columns)


def _unique_field(contract: Contract) -> str | None:
    """Choose the field of the key that gets a value of its own in each event; None to draw distinct times instead."""
    free = [field for field in contract.fields if field.key and _is_free(field)]
    return min(free, key=lambda field: field.pattern is not None).name if free else None


def _is_free(field: Field) -> bool:
    if field.type.kind == "string":
        return not field.enum and (field.max_length is None or field.max_length >= len("0123456789abcdef"))
    lowest, highest = field.minimum or field.exclusive_minimum, field.maximum or field.exclusive_maximum
    return field.type.kind == "integer" and (lowest is None or highest is None)


def _distinct(moments: Integers, end: int) -> Integers:
    """Move sorted times by as many microseconds as makes each of them occur once."""
    steps = np.arange(len(moments))
    moved = np.maximum.accumulate(moments - steps) + steps
    distinct: Integers = np.minimum(moved, end - len(moments) + steps)
    return distinct


def _values(
    contract: Contract, field: Field, rng: np.random.Generator, moments: Integers, *, is_unique: bool
) -> Column:
    count = len(moments)
    match field.type.kind:
        case "string" if is_unique:
            return _unique_texts(contract, field, rng, count)
        case "string":
            words = _words(contract, field)
            return distributions.named(words, distributions.skewed(rng, count, len(words)))
        case "timestamp":
            return distributions.timestamps(moments + rng.integers(distributions.HOUR, size=count))
        case "boolean":
            return pa.array(distributions.chance(rng, count, 0.5))
        case "list":
            words = distributions.numbered(f"{field.name}-", VOCABULARY_WORDS)
            offsets = np.concatenate(([0], np.cumsum(rng.integers(4, size=count)))).astype(np.int32)
            items = distributions.named(words, distributions.skewed(rng, int(offsets[-1]), len(words)))
            lists: Column = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items)
            return lists
        case _:
            return _numbers(contract, field, rng, count, is_unique=is_unique)


def _unique_texts(contract: Contract, field: Field, rng: np.random.Generator, count: int) -> Column:
    if field.pattern is not None:
        texts = _matching(field, int(rng.integers(MAX_OFFSET)), count) or _refuse(contract, field)
        return pa.array(islice(cycle(texts), count), pa.string())
    ids = distributions.ids(rng, count)
    if field.max_length is not None:
        ids = pc.utf8_slice_codeunits(ids, 0, field.max_length)
    return pc.utf8_rpad(ids, field.min_length or 0, "0")


def _words(contract: Contract, field: Field) -> Column:
    """Build the vocabulary of a field: its enumeration, texts that match its pattern, or its name with a number."""
    if field.enum:
        return pa.array([text for text in field.enum if _fits(field, text)] or _refuse(contract, field), pa.string())
    if field.pattern is not None:
        return pa.array(_vocabulary(field) or _refuse(contract, field), pa.string())
    named = [f"{field.name}-{number:06d}".ljust(field.min_length or 0, "-") for number in range(VOCABULARY_WORDS)]
    if not _fits(field, named[0]):
        width = min(field.max_length or 0, 3) or _refuse(contract, field)
        named = [
            f"{number:0{max(width, field.min_length or 0)}d}" for number in range(min(VOCABULARY_WORDS, 10**width))
        ]
    return pa.array(named, pa.string())


def _fits(field: Field, text: str) -> bool:
    longest = len(text) if field.max_length is None else field.max_length
    return text != "" and (field.min_length or 0) <= len(text) <= longest


@cache
def _vocabulary(field: Field) -> list[str]:
    return sorted({*_matching(field, 0, VOCABULARY_WORDS)})


def _matching(field: Field, seed: int, count: int) -> list[str]:
    """Draw `count` printable texts that match the field's pattern and lengths; none if hardly any that is drawn does."""
    import rstr  # because Spark's workers lack it

    source = rstr.Rstr(Random(seed))  # noqa: S311 (no secrets)
    texts: list[str] = []
    with open_in_memory() as database:
        for _ in range(10):
            drawn = [source.xeger(field.pattern or "") for _ in range(count)]
            drawn = [text for text in drawn if text.isprintable() and _fits(field, text)]
            # DuckDB decides, because it checks the events too.
            database.register("drawn", pa.table({"text": pa.array(drawn, pa.string())}))
            rows = database.execute(f"from drawn where regexp_matches(text, {literal(field.pattern or '')})").fetchall()
            texts += [text for (text,) in rows]
            if len(texts) >= count:
                break
    return texts[:count]


def _numbers(contract: Contract, field: Field, rng: np.random.Generator, count: int, *, is_unique: bool) -> Column:
    kind = field.type.kind
    scale = DOUBLE_SCALE if kind == "double" else field.type.scale
    low, high = _range(field, scale, UNIQUE_SPAN if is_unique else NUMBER_SPAN * 10**scale)
    if low > high:
        _refuse(contract, field)
    offsets = rng.integers(0, min(high - low, MAX_OFFSET), size=count, endpoint=True)
    if not -MAX_OFFSET <= low <= high <= MAX_OFFSET:
        exact = [_EXACT.scaleb(Decimal(low + offset), -scale) for offset in offsets.tolist()]
        if kind == "double":
            return _within(field, np.array([float(number) for number in exact]))
        return pa.array(exact, pa.decimal128(field.type.precision, scale))
    units: Integers = low + offsets
    if kind == "decimal":
        return distributions.decimals(units, field.type.precision, scale)
    return _within(field, units / 10**scale) if kind == "double" else pa.array(units)


def _within(field: Field, numbers: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Column:
    """Move doubles off a bound that they may not have. A large one has no room for the decimals that kept them apart."""
    if field.exclusive_minimum is not None:
        numbers = np.maximum(numbers, np.nextafter(float(field.exclusive_minimum), np.inf))
    if field.exclusive_maximum is not None:
        numbers = np.minimum(numbers, np.nextafter(float(field.exclusive_maximum), -np.inf))
    return pa.array(numbers)


def _range(field: Field, scale: int, span: int) -> tuple[int, int]:
    """Find the lowest and highest value that the rules allow, in units of the last decimal, at most about `span` apart."""
    lows = [_units(field.minimum, scale, ROUND_CEILING)] if field.minimum is not None else []
    if field.exclusive_minimum is not None:
        lows.append(_units(field.exclusive_minimum, scale, ROUND_FLOOR) + 1)
    highs = [_units(field.maximum, scale, ROUND_FLOOR)] if field.maximum is not None else []
    if field.exclusive_maximum is not None:
        highs.append(_units(field.exclusive_maximum, scale, ROUND_CEILING) - 1)
    limits = {"decimal": 10**field.type.precision - 1, "integer": MAX_OFFSET}
    limit = limits.get(field.type.kind, MAX_DOUBLE * 10**scale)
    high = min([*highs, limit])
    low = max([*lows, -limit]) if lows else max(min(0, high - span), -limit)
    return low, min(high, low + span)


def _units(bound: Decimal, scale: int, rounding: str) -> int:
    return int(_EXACT.scaleb(bound, scale).to_integral_value(rounding, _EXACT))


def _refuse(contract: Contract, field: Field) -> NoReturn:
    raise ContractError(
        f"No value of {field.name} was found that its rules allow. Write a simulate.py for {contract.stream}."
    )
