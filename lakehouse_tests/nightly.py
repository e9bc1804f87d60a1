"""How much the slow tests try: little in every run, much with NIGHTLY=1."""

import os

NIGHTLY = bool(os.environ.get("NIGHTLY"))


def more_at_night(number: int, nightly: int) -> int:
    """Return the first number, or the second with NIGHTLY=1."""
    return nightly if NIGHTLY else number
