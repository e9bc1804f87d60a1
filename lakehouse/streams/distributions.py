"""Random distributions for simulators: times of day, skewed choice, groups, ids, money. Rules of a stream are in its folder.

Functions take a generator and a count and return arrays. None loops over rows, because simulators make millions.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Column: TypeAlias = "pa.Array[Any]"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = 3_600_000_000

OFFICE_HOURS = (1, 1, 1, 1, 1, 2, 4, 8, 14, 18, 20, 20, 18, 19, 20, 18, 15, 11, 7, 5, 4, 3, 2, 1)
"""Weights of the hours (UTC) of people at work."""

EVENINGS = (6, 4, 3, 2, 2, 2, 4, 7, 9, 10, 11, 12, 13, 13, 12, 12, 13, 15, 18, 21, 22, 20, 15, 10)
"""Weights of the hours (UTC) of people in their free time."""

STEADY = (9, 9, 9, 9, 9, 9, 10, 10, 11, 11, 12, 12, 12, 12, 12, 12, 11, 11, 11, 10, 10, 10, 9, 9)
"""Weights of the hours (UTC) of machines."""


def microseconds(moment: datetime) -> int:
    """Convert a time to microseconds since 1970. Without a zone it is UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1)


def times(
    rng: np.random.Generator,
    count: int,
    start: datetime,
    end: datetime,
    hours: Sequence[float],
    weekend: float = 1.0,
) -> Integers:
    """Draw `count` sorted times in [start, end), in microseconds since 1970.

    `hours` weighs the 24 hours of the day, `weekend` Saturdays and Sundays against the other days.
    """
    first, last = microseconds(start), microseconds(end)
    if last <= first:
        raise ValueError(f"the window is empty: {start} to {end}")
    edges = np.arange(first // HOUR, -(-last // HOUR) + 1, dtype=np.int64)
    weekday = (edges[:-1] // 24 + 3) % 7  # 1970-01-01 was a Thursday, and 0 is Monday
    weights = np.asarray(hours, dtype=np.float64)[edges[:-1] % 24] * np.where(weekday >= 5, weekend, 1.0)
    bounds = np.clip(edges * HOUR, first, last) - first
    share = np.concatenate(([0.0], np.cumsum(weights * np.diff(bounds))))
    draws = np.sort(rng.random(count)) * share[-1]
    moments: Integers = np.interp(draws, share, bounds).astype(np.int64) + first
    return np.minimum(moments, last - 1, out=moments)


def skewed(rng: np.random.Generator, count: int, size: int) -> Integers:
    """Draw `count` numbers in [0, size), n with a probability close to 1/(n+1): few are frequent, most are rare."""
    draws = np.exp(rng.random(count) * np.log(size + 1.0)).astype(np.int64) - 1
    numbers: Integers = np.minimum(draws, size - 1)
    return numbers


def mixed(rng: np.random.Generator, count: int, weights: Sequence[float]) -> Integers:
    """Draw `count` numbers in [0, len(weights)), each as likely as its weight."""
    share = np.cumsum(np.asarray(weights, dtype=np.float64))
    places = np.searchsorted(share, rng.random(count) * share[-1], side="right")
    numbers: Integers = np.minimum(places, len(weights) - 1)
    return numbers


def chance(rng: np.random.Generator, count: int, share: float) -> Flags:
    """Draw `count` flags, of which about `share` are set."""
    return rng.random(count) < share


def groups(rng: np.random.Generator, count: int, mean: float, longest: int) -> Integers:
    """Draw sizes of groups, from 1 to `longest` and about `mean` on average. Their sum is at least `count`."""
    drawn = [np.zeros(0, dtype=np.int64)]
    missing = count
    while missing > 0:
        sizes = rng.geometric(1.0 / mean, int(missing / mean) + 64).clip(max=longest)
        drawn.append(sizes)
        missing -= int(sizes.sum())
    return np.concatenate(drawn)


def cut(sizes: Integers, count: int) -> Integers:
    """Keep the first groups and shorten the last, so that the sizes sum to `count`. They must sum to at least that."""
    ends = np.cumsum(sizes)
    last = int(np.searchsorted(ends, count))
    kept = sizes[: last + 1].copy()
    if count == 0:
        return kept[:0]
    kept[last] -= ends[last] - count
    return kept


def positions(sizes: Integers) -> Integers:
    """Number the members of each group from 0."""
    return np.arange(sizes.sum(), dtype=np.int64) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def paced(rng: np.random.Generator, begins: Integers, sizes: Integers, gaps: Floats, end: datetime) -> Integers:
    """Draw the times of members of groups that begin at `begins`, each about its gap (microseconds) after the last.

    `gaps` holds one mean a member; the first of a group has none. A group that would run beyond `end` is compressed.
    """
    drawn = rng.standard_exponential(len(gaps)) * gaps
    drawn[positions(sizes) == 0] = 0.0
    offsets = np.cumsum(drawn)
    firsts = np.cumsum(sizes) - sizes
    offsets -= np.repeat(offsets[firsts], sizes)
    lasts = np.maximum(offsets[firsts + sizes - 1], 1.0)
    room = np.minimum((microseconds(end) - 1 - begins) / lasts, 1.0)
    moments: Integers = np.repeat(begins, sizes) + (offsets * np.repeat(room, sizes)).astype(np.int64)
    return moments


def members(columns: Mapping[str, Column], sizes: Integers) -> dict[str, Column]:
    """Repeat columns of groups for each of their members."""
    places = np.repeat(np.arange(len(sizes)), sizes)
    return {name: column.take(places) for name, column in columns.items()}


def timestamps(moments: Integers) -> Column:
    """Convert microseconds since 1970 to timestamps without a zone, which are UTC."""
    return pa.array(moments).view(pa.timestamp("us"))


def ids(rng: np.random.Generator, count: int) -> Column:
    """Draw `count` ids of 128 random bits, as 32 hexadecimal digits."""
    digits = rng.bytes(16 * count).hex().encode()
    offsets = np.arange(0, 32 * count + 1, 32, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets.data), pa.py_buffer(digits)])


def named(vocabulary: Column, index: Integers) -> Column:
    """Select words of a vocabulary by their index."""
    return vocabulary.take(index)


def numbered(prefix: str, size: int, width: int = 6) -> Column:
    """Build a vocabulary of `size` names: the prefix and a number of `width` digits."""
    return pa.array([f"{prefix}{number:0{width}d}" for number in range(size)], pa.string())


def blank(column: Column, missing: Flags) -> Column:
    """Set a column to null where `missing` is set."""
    blanked: Column = pc.if_else(pa.array(missing), None, column)
    return blanked


def decimals(units: Integers, precision: int, scale: int) -> Column:
    """Convert counts of the last digit to decimals: 1250 with scale 2 is 12.50."""
    words = np.stack((units, units >> 63), axis=1)  # 128 bits in two's complement, the low word first
    return pa.Array.from_buffers(pa.decimal128(precision, scale), len(units), [None, pa.py_buffer(words.data)])


def money(rng: np.random.Generator, medians: Floats, spread: float) -> Integers:
    """Draw amounts in cents, at least one, log-normal around their medians (in whole units) as prices are."""
    cents: Integers = (medians * 100 * np.exp(rng.standard_normal(len(medians)) * spread)).astype(np.int64)
    return np.maximum(cents, 1, out=cents)


def months(moments: Integers) -> Integers:
    """Get the month of each time, from 0 for January."""
    return moments.view("datetime64[us]").astype("datetime64[M]").astype(np.int64) % 12


def time_of_day(moments: Integers) -> Floats:
    """Get the time of day of each time, in hours from midnight UTC."""
    return (moments % (24 * HOUR)) / HOUR
