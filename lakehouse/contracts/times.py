"""Many texts of times checked at once. Only the plainest forms are known here; what else is a time, SQL says."""

from collections.abc import Sequence
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

SHAPE = "dddd-dd-ddTdd:dd:dd"
PLACES = ((0, 4), (5, 2), (8, 2), (11, 2), (14, 2), (17, 2))
"""Of year, month, day, hour, minute and second in the text: the first digit, and how many."""
LOWEST = np.array([1, 1, 1, 0, 0, 0])
HIGHEST = np.array([9999, 12, 31, 23, 59, 59])
YEAR, MONTH, DAY = range(3)
IN_EVERY_MONTH = 28
NINE = 9

ORDER = np.array([12 * 31 * 86_400, 31 * 86_400, 86_400, 3600, 60, 1], float)
"""What makes one number of a time, the larger the later it is."""


def range_of_times(texts: Sequence[str]) -> tuple[float, float] | None:
    """When the first and the last of these times are, as `place_of` says it; None where not all are surely times.

    They are times `2025-11-20T14:15:00[.123456]Z`, all written in one of its forms: a fraction has up to six digits, `Z`
    may be missing, a blank may stand for the `T`. None may mean yet another form.
    """
    shape = _shape(texts[0])
    joined = ("\n".join(texts) + "\n").encode()
    if shape is None or len(joined) != len(texts) * len(shape):
        return None
    characters = np.frombuffer(joined, np.uint8).reshape(len(texts), len(shape))
    digits = characters - np.frombuffer(shape.replace("d", "0").encode(), np.uint8)
    if (digits > np.array([NINE if sign == "d" else 0 for sign in shape], np.uint8)).any():
        return None
    numbers = digits[:, : len(SHAPE)].astype(float) @ _WEIGHTS
    if (numbers < LOWEST).any() or (numbers > HIGHEST).any() or not _are_days(numbers[:, : DAY + 1]):
        return None
    places = numbers @ ORDER
    return float(places.min()), float(places.max())


def place_of(time: datetime) -> float:
    """Where a time lies among others, whatever its fraction of a second."""
    return float(np.array([time.year, time.month, time.day, time.hour, time.minute, time.second]) @ ORDER)


def _weights() -> NDArray[np.float64]:
    """What a time's digits are multiplied by to give its six numbers."""
    found = np.zeros((len(SHAPE), len(PLACES)))
    for column, (first, count) in enumerate(PLACES):
        found[first : first + count, column] = 10.0 ** np.arange(count - 1, -1, -1)
    return found


_WEIGHTS = _weights()


def _shape(text: str) -> str | None:
    """The form that a text seems to have, with a line end: `d` is a digit."""
    rest = text[len(SHAPE) :]
    zone = "Z" if rest.endswith("Z") else ""
    fraction = rest.removesuffix("Z")
    if fraction and not (fraction[0] == "." and 2 <= len(fraction) <= 7):
        return None
    between = " " if text[10:11] == " " else "T"
    return SHAPE.replace("T", between) + ("." + "d" * (len(fraction) - 1) if fraction else "") + zone + "\n"


def _are_days(numbers: NDArray[np.float64]) -> bool:
    late = numbers[numbers[:, DAY] > IN_EVERY_MONTH]
    return not len(late) or all(_exists(*map(int, day)) for day in set(map(tuple, late.tolist())))


def _exists(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True
