"""Many texts of times checked at once. Only the plainest forms are known here; what else is a time, SQL says."""

from collections.abc import Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray

SHAPE = "dddd-dd-ddTdd:dd:dd"
MONTH, DAY, HOUR, MINUTE, SECOND = 5, 8, 11, 14, 17
YEAR_DIGITS = 4
NINE = 9

Digits = NDArray[np.uint8]


def are_times(texts: Sequence[str]) -> bool:
    """Whether all of these are times `2025-11-20T14:15:00[.123456]Z`, all written in one of its forms.

    A fraction has up to six digits, `Z` may be missing, a blank may stand for the `T`. False may mean yet another form.
    """
    shape = _shape(texts[0])
    joined = "\n".join(texts) + "\n"
    if shape is None or not joined.isascii() or len(joined) != len(texts) * len(shape):
        return False
    characters = np.frombuffer(joined.encode(), np.uint8).reshape(len(texts), len(shape))
    lowest = np.frombuffer(shape.replace("d", "0").encode(), np.uint8)
    above: Digits = characters - lowest
    span = np.array([NINE if sign == "d" else 0 for sign in shape], np.uint8)
    return bool((above <= span).all()) and _on_the_calendar(above, texts) and _on_the_clock(above)


def _shape(text: str) -> str | None:
    """The form that a text seems to have, with a line end: `d` is a digit."""
    rest = text[len(SHAPE) :]
    zone = "Z" if rest.endswith("Z") else ""
    fraction = rest.removesuffix("Z")
    if fraction and not (fraction[0] == "." and 2 <= len(fraction) <= 7):
        return None
    between = " " if text[10:11] == " " else "T"
    return SHAPE.replace("T", between) + ("." + "d" * (len(fraction) - 1) if fraction else "") + zone + "\n"


def _two(digits: Digits, first: int) -> Digits:
    number: Digits = digits[:, first] * np.uint8(10) + digits[:, first + 1]
    return number


def _on_the_calendar(digits: Digits, texts: Sequence[str]) -> bool:
    month, day = _two(digits, MONTH), _two(digits, DAY)
    if not digits[:, :YEAR_DIGITS].any(axis=1).all():
        return False
    if not ((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all():
        return False
    return all(_exists(text) for text in {texts[place][:10] for place in np.flatnonzero(day > 28).tolist()})


def _exists(day: str) -> bool:
    try:
        date.fromisoformat(day)
    except ValueError:
        return False
    return True


def _on_the_clock(digits: Digits) -> bool:
    return bool(((_two(digits, HOUR) < 24) & (_two(digits, MINUTE) < 60) & (_two(digits, SECOND) < 60)).all())
