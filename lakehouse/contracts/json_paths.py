"""Paths into JSON: `user.id` from an event, `$.Records[*]` from the whole object."""

import re
from dataclasses import dataclass

_STEPS = re.compile(r"\.?[^.\[\]'\"$*=]+|\['[^']+'\]")
_ALL = "[*]"


@dataclass(frozen=True, slots=True)
class Path:
    """The names that lead to a value. `has_elements` says that what is meant are the elements of an array."""

    text: str
    names: tuple[str, ...]
    has_elements: bool


def read_path(text: str) -> Path:
    """Read a path. Raises ValueError."""
    steps = text.removeprefix("$").removesuffix(_ALL)
    names = tuple(step.strip(".[]'") for step in _STEPS.findall(steps))
    if not names or _STEPS.sub("", steps):
        raise ValueError(f"{text!r} is no path such as user.id or $.Records[*]")
    return Path(text, names, text.endswith(_ALL))
