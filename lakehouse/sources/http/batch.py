"""The events of one request as they go into a landing object. See `validation` for lines that are not proven valid."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from lakehouse.contracts.validator import Validator
from lakehouse.sources.http.framing import landing_order, split_rows, starts_as_text


@dataclass(frozen=True, slots=True)
class UnprovenLine:
    """A line that the fast validator could not prove valid."""

    row: int
    """The number of its event in the request, from 1."""
    line: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """The lines of `count` events, each ending in a newline."""

    lines: bytes
    count: int
    unproven: Sequence[UnprovenLine] = field(default=())
    starts_as_text: bool = True
    """Whether readers take a landing object that starts with these lines for plain UTF-8."""


def build_batch(validator: Validator, lines: bytes, arrived_at: datetime) -> Batch:
    """Build the batch of a request's lines, as `framing.as_lines` returns them. Its `count` may be 0."""
    if count := validator.proven(lines, arrived_at):
        return Batch(lines, count)
    rows = split_rows(lines)
    if not rows:
        return Batch(b"", 0)
    unproven = [UnprovenLine(index + 1, rows[index]) for index in validator.unproven(rows, arrived_at)]
    landed = [rows[index] for index in landing_order(rows)]
    is_text = starts_as_text(landed[0])
    # A blank line is no row, and keeps the magic bytes of other formats from the object's start.
    return Batch((b"" if is_text else b"\n") + b"\n".join(landed) + b"\n", len(rows), unproven, is_text)
