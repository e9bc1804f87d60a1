"""Convert times to UTC, and check many texts of times at once.

The check recognises only plain forms. See `sql` for all that counts as a time.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import numpy as np
from numpy.typing import NDArray

SHAPE = "dddd-dd-ddTdd:dd:dd"
PARTS = ((0, 4), (5, 2), (8, 2), (11, 2), (14, 2), (17, 2))
"""Year, month, day, hour, minute and second in the text, as (position of the first digit, number of digits)."""

LOWEST = np.array([1, 1, 1, 0, 0, 0])
HIGHEST = np.array([9999, 12, 31, 23, 59, 59])
YEAR, MONTH, DAY = range(3)
SHORTEST_MONTH_DAYS = 28

SECONDS = np.array([12 * 31 * 86_400, 31 * 86_400, 86_400, 3600, 60, 1], float)
"""Weights that turn a time's six numbers into one that grows with time. All months count 31 days."""


def naive_utc(at: datetime) -> datetime:
    """Convert a time to UTC and drop its zone. A time without a zone is taken as UTC."""
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at


def time_range(texts: Sequence[str]) -> tuple[float, float] | None:
    """Find the earliest and the latest of these times, as `time_rank` gives them. None if that can't be told.

    All texts must have the same form, one of `2025-11-20T14:15:00[.123456]Z`: with up to six decimals, with or without `Z`,
    and with `T` or a blank. None may also mean another valid form.
    """
    shape = _shape(texts[0])
    joined = ("\n".join(texts) + "\n").encode()
    if shape is None or len(joined) != len(texts) * len(shape):
        return None
    characters = np.frombuffer(joined, np.uint8).reshape(len(texts), len(shape))
    digits = characters - np.frombuffer(shape.replace("d", "0").encode(), np.uint8)
    if (digits > np.array([9 if sign == "d" else 0 for sign in shape], np.uint8)).any():
        return None
    numbers = digits[:, : len(SHAPE)].astype(float) @ _WEIGHTS
    if (numbers < LOWEST).any() or (numbers > HIGHEST).any() or not _are_days(numbers[:, : DAY + 1]):
        return None
    ranks = numbers @ SECONDS
    return float(ranks.min()), float(ranks.max())


def time_rank(time: datetime) -> float:
    """Rank a time among others, ignoring its fraction of a second."""
    return float(np.array([time.year, time.month, time.day, time.hour, time.minute, time.second]) @ SECONDS)


def _weights() -> NDArray[np.float64]:
    """Build the matrix that turns the digits of a time into its six numbers."""
    weights = np.zeros((len(SHAPE), len(PARTS)))
    for column, (first, count) in enumerate(PARTS):
        weights[first : first + count, column] = 10.0 ** np.arange(count - 1, -1, -1)
    return weights


_WEIGHTS = _weights()


def _shape(text: str) -> str | None:
    """Guess the form of a text, with a line end; `d` stands for a digit. None if it is not a plain form."""
    rest = text[len(SHAPE) :]
    zone = "Z" if rest.endswith("Z") else ""
    fraction = rest.removesuffix("Z")
    if fraction and not (fraction[0] == "." and 2 <= len(fraction) <= 7):
        return None
    between = " " if text[10:11] == " " else "T"
    return SHAPE.replace("T", between) + ("." + "d" * (len(fraction) - 1) if fraction else "") + zone + "\n"


def _are_days(numbers: NDArray[np.float64]) -> bool:
    late = numbers[numbers[:, DAY] > SHORTEST_MONTH_DAYS]
    return not len(late) or all(_exists(*map(int, day)) for day in set(map(tuple, late.tolist())))


def _exists(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True
