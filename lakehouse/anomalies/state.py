"""Keep what a detector remembers of a series, and store it as bytes of a few kilobytes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lakehouse.anomalies.extremes import Floats
from lakehouse.errors import UnreadableTableError

Season = Literal["none", "day", "week"]

FORM = 1
"""The version of the stored form. A state of another form is refused, and its days are computed again."""

BLOCK_ROWS = 64
"""Rows between two changes of the model."""

CONTEXT_ROWS = 64
"""Rows before the open block that the statistics of its rows need."""

MAX_BLOCKS = 128
"""How many blocks the maxima are kept of."""

STATISTICS = 13
HALF_HOUR_SECONDS = 1800.0

BINS: Mapping[Season, int] = {"none": 1, "day": 48, "week": 336}

_THURSDAY_TO_MONDAY_SECONDS = 4 * 86400.0
"""1970 began on a Thursday."""


def _bins_of(season: Season) -> Callable[[Floats], NDArray[np.intp]]:
    count = BINS[season]
    shift = _THURSDAY_TO_MONDAY_SECONDS if season == "week" else 0.0
    return lambda times: (np.floor((times - shift) / HALF_HOUR_SECONDS) % count).astype(np.intp)


BINS_OF_SEASON: Mapping[Season, Callable[[Floats], NDArray[np.intp]]] = {
    season: _bins_of(season) for season in ("none", "day", "week")
}
"""For each season, the bin of each time."""


@dataclass(slots=True)
class State:
    """The memory of a detector. Numbers are of the series' unit, times are seconds since 1970."""

    rows: int
    blocks: int
    open_rows: int
    first_time: float
    step: float
    """The usual time between two rows."""
    level: float
    level_spread: float
    offset: float
    spread: float
    """The usual size of an error of the prediction."""
    from_level: float
    from_season: float
    uses_season: bool
    alert_row: int
    alert_surprise: float
    errors: Floats
    """The mean error of each prediction."""
    bin_values: Floats
    bin_rows: Floats
    times: Floats
    values: Floats
    maxima: NDArray[np.float32]
    """The largest value of each statistic in earlier blocks, a row a statistic."""

    @classmethod
    def empty(cls, season: Season = "day") -> "State":
        """Return the state of a series that has had no row."""
        bins = BINS[season]
        return cls(
            0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, False, -(10**9), 0.0, np.zeros(4), np.zeros(bins),
            np.zeros(bins), np.zeros(0), np.zeros(0), np.zeros((STATISTICS, 0), np.float32),
        )  # fmt: skip

    def append(self, times: Floats, values: Floats) -> None:
        """Add rows to the open block."""
        if not self.rows:
            self.first_time = float(times[0])
        last = self.times[-1] if len(self.times) else -np.inf
        self.times = np.concatenate([self.times, np.maximum.accumulate(np.maximum(times, last))])
        self.values = np.concatenate([self.values, values])
        self.open_rows += len(values)
        self.rows += len(values)

    def close_block(self) -> None:
        """Begin a new block, and forget rows that no statistic needs any more."""
        self.open_rows = 0
        self.times, self.values = self.times[-CONTEXT_ROWS:], self.values[-CONTEXT_ROWS:]

    def to_bytes(self) -> bytes:
        """Return the stored form: numbers, then the lengths of the arrays, then the arrays."""
        numbers = [float(getattr(self, field.name)) for field in fields(self)[:14]]
        header = [float(FORM), *numbers, len(self.bin_values), len(self.values), self.maxima.shape[1]]
        parts = [np.array(header), self.errors, self.bin_values, self.bin_rows, self.times, self.values]
        return b"".join(part.astype("<f8").tobytes() for part in parts) + self.maxima.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, stored: bytes) -> "State":
        """Read a stored state. Raises UnreadableTableError if it is damaged, or of another version."""
        header = np.frombuffer(stored[: 18 * 8], "<f8") if len(stored) >= 18 * 8 else np.zeros(0)
        if not len(header) or header[0] != FORM:
            raise UnreadableTableError(
                "The state of a detector is damaged or of another version; compute its day again."
            )
        lengths = [int(length) for length in header[15:]]
        bins, rows, blocks = lengths
        counts = [4, bins, bins, rows, rows]
        if min(lengths) < 0 or len(stored) != 8 * (18 + sum(counts)) + 4 * STATISTICS * blocks:
            raise UnreadableTableError("The state of a detector is not as long as it says; compute its day again.")
        stored_arrays = np.frombuffer(stored[18 * 8 : 8 * (18 + sum(counts))], "<f8")
        arrays = [part.copy() for part in np.split(stored_arrays, np.cumsum(counts)[:-1])]
        maxima = np.frombuffer(stored[8 * (18 + sum(counts)) :], "<f4").reshape(STATISTICS, blocks).copy()
        state = cls.empty()
        for field, number in zip(fields(cls)[:14], header[1:15], strict=True):
            kind = type(getattr(state, field.name))
            setattr(state, field.name, kind(number))
        state.errors, state.bin_values, state.bin_rows, state.times, state.values = arrays
        state.maxima = maxima
        return state
