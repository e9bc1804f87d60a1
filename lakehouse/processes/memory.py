"""Return memory that a process has freed to the system. glibc keeps it in pieces between what is still used."""

import ctypes
import sys
from contextlib import suppress


def return_free_memory() -> None:
    """Return freed memory to the system; takes some milliseconds. Does nothing where the C library is not glibc."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
