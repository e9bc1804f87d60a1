"""One request's events as they go into a landing object: their lines, how many, and which are still to be judged."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from lakehouse.contracts.validator import Validator
from lakehouse.sources.http.framing import landing_order, rows, starts_as_text


@dataclass(frozen=True, slots=True)
class UnprovenLine:
    """A line that is not surely valid: its number among the request's events, from 1, and its text."""

    row: int
    line: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines, each ending in a newline, `count` of them."""

    lines: bytes
    count: int
    doubts: Sequence[UnprovenLine] = field(default=())
    starts_as_text: bool = True
    """Whether a landing object may begin with it."""


def build_batch(validator: Validator, lines: bytes, arrived_at: datetime) -> Batch:
    """The events of a body whose events `as_lines` has put on lines. It holds none when `count` is 0."""
    if count := validator.proven(lines, arrived_at):
        return Batch(lines, count)
    found = rows(lines)
    if not found:
        return Batch(b"", 0)
    doubts = [UnprovenLine(place + 1, found[place]) for place in validator.unproven(found, arrived_at)]
    landed = [found[place] for place in landing_order(found)]
    well = starts_as_text(landed[0])
    # A blank line is no row, and keeps marks of other formats from the object's first bytes.
    return Batch((b"" if well else b"\n") + b"\n".join(landed) + b"\n", len(found), doubts, well)
