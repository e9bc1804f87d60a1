"""Wait for what another process or thread does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], seconds: float = 120.0, pause: float = 0.05) -> T:
    """Call `condition` until its result is true, and return that. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"still {result!r} after {seconds:g} s"
        time.sleep(pause)
    return result
