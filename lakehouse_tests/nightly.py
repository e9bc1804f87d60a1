"""How much the slow tests try: little in every run, much with NIGHTLY=1."""

import os
from typing import TypeVar

NIGHTLY = bool(os.environ.get("NIGHTLY"))

Size = TypeVar("Size")


def more_at_night(little: Size, much: Size) -> Size:
    """Return the first, or the second with NIGHTLY=1."""
    return much if NIGHTLY else little
