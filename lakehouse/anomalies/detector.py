"""Detect anomalies in one series online: spikes, dips, shifts, unusual spread, sensors that are stuck, and silence.

Values are compared with a prediction, and statistics of the differences with the largest of earlier blocks of the series.
Within a block the model is fixed, so the scores of a row depend on the rows before it alone, however they arrive: one at a
time on the tail, or a day at once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lakehouse.anomalies.extremes import Extremes, Floats, fit_extremes
from lakehouse.anomalies.state import BINS_OF_SEASON, BLOCK_ROWS, HALF_HOUR_SECONDS, MAX_BLOCKS, Season, State

KINDS = ("spike", "dip", "shift_up", "shift_down", "spread", "pattern", "quiet", "stuck", "silence")
"""The kinds of anomaly. A drift is seen as a shift."""

STATISTIC_KINDS = np.array([0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 6, 7, 8])
"""The kind of each statistic of `_statistics`."""

UP, DOWN, STUCK, GAP = 0, 1, 11, 12
PLAIN = [STUCK, UP, DOWN]
"""The statistics that name an anomaly before others do, if they are rare enough alone: a spike widens the spread, too."""

DIFFERENCES = [4, 5, 6, 7, 9]
"""The statistics that are measured from the season, or else from the level."""

MIN_SCALES = np.zeros(len(STATISTIC_KINDS))
"""The least scale of each statistic's extremes."""

MIN_SCALES[STUCK] = 0.03  # Two equal values in a row are no anomaly, even if there were none before.

MIN_SILENCE_STEPS = 5
"""How many usual steps a silence lasts at least."""

WEEK_SECONDS = 7 * 86400.0
LARGEST_VALUE = 1e100
"""Values beyond it are taken as it, so that sums of squares stay finite."""

LARGEST_STATISTIC = 1e12

QUIET_ROWS = 128
"""How many rows an alert holds back others, unless one is far stronger."""

STRONGER = 2.0
"""An alert is far stronger than an earlier one if its surprise is greater by this: a hundred times as rare."""

MIN_THRESHOLD, MAX_THRESHOLD = 2.0, 8.0

STATISTICS_AT_ONCE = 3.0
"""How many independent statistics the correlated ones of `_statistics` are worth."""

LEVEL_ROWS, SPREAD_ROWS, ERROR_ROWS = 1000, 2000, 500
"""How many rows the level, the spread and the choice of the prediction remember."""

KNOWN_BIN = 0.9
"""How many times a bin of the season must have been passed through before its value is used."""

SEASON_DAYS = 6
"""How many seasons a bin's value remembers."""

MIN_SEASON_GAIN = 0.9
"""A season is used if differences from it are smaller than those from the level by this factor."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of rows. An alert begins where `is_alert` is true."""

    surprise: Floats
    """-log10 of the probability that a block of normal rows has a row like it."""
    threshold: Floats
    expected: Floats
    low: Floats
    high: Floats
    kind: NDArray[np.int8]
    """The position in KINDS of what a row is, if it is an anomaly."""
    shares: Floats
    """The contribution of each of KINDS to the surprise, a row a kind; the shares of a row sum up to 1, or are 0."""
    is_alert: NDArray[np.bool_]
    silent_from: Floats
    """Where a row ends a silence: the time from which the series counted as silent before it. Else NaN."""

    @property
    def relative(self) -> Floats:
        """The surprise as a multiple of the threshold."""
        ratio: Floats = self.surprise / self.threshold
        return ratio


class Detector:
    """The detector of one series. `state` is all that it remembers."""

    def __init__(self, state: State | None = None, *, season: Season = "day", sensitivity: float = 1.0) -> None:
        self.state = state or State.empty(season)
        self.season = season
        self.sensitivity = sensitivity
        """How many false alerts a week are tolerated."""
        self._extremes: Extremes | None = None
        self._refit()

    def update(self, times: Floats, values: Floats) -> Scores:
        """Score rows that follow those before, and learn from them.

        Args:
            times: Seconds since 1970, in order. A time before the one of the row before counts as equal to it.
            values: A finite number for each time.

        """
        values = np.clip(values, -LARGEST_VALUE, LARGEST_VALUE)
        parts, start = [], 0
        with np.errstate(over="ignore"):
            while start < len(values):
                end = min(len(values), start + BLOCK_ROWS - self.state.open_rows)
                parts.append(self._update_block(times[start:end], values[start:end]))
                start = end
        return _joined(parts)

    @property
    def threshold(self) -> float:
        """The surprise from which a row is an alert: the rarer, the more rows the series has in a week."""
        step = max(self.state.step, 1e-6)
        blocks = WEEK_SECONDS / (BLOCK_ROWS * step)
        wanted = np.log10(max(blocks * STATISTICS_AT_ONCE / self.sensitivity, 1e-9))
        return float(np.clip(wanted, MIN_THRESHOLD, MAX_THRESHOLD))

    @property
    def silent_from(self) -> float | None:
        """The time from which the series counts as silent if no row comes before; None while too little is known."""
        limit = self._longest_gap
        return None if limit is None or not len(self.state.times) else float(self.state.times[-1]) + limit

    @property
    def _longest_gap(self) -> float | None:
        """The seconds between two rows from which they are a silence."""
        if self._extremes is None:
            return None
        limit = float(np.expm1(min(self._extremes.value_at(GAP, self.threshold), 50.0)))
        return max(limit, MIN_SILENCE_STEPS * self.state.step)

    def _update_block(self, times: Floats, values: Floats) -> Scores:
        state = self.state
        before = state.open_rows
        state.append(times, values)
        rows = _Rows(state, self.season)
        statistics = rows.statistics()
        new = slice(before, None)
        scores = self._score(statistics[:, new], rows, new)
        if state.open_rows == BLOCK_ROWS:
            self._close(statistics, rows)
        return scores

    def _score(self, statistics: Floats, rows: "_Rows", new: slice) -> Scores:
        count = statistics.shape[1]
        threshold = self.threshold
        expected = rows.expected[new]
        limit = self._longest_gap
        if self._extremes is None or limit is None:
            nothing = np.zeros(count)
            wide = np.full(count, np.inf)
            return Scores(
                nothing, np.full(count, threshold), expected, -wide, wide, np.zeros(count, np.int8),
                np.zeros((len(KINDS), count)), np.zeros(count, np.bool_), np.full(count, np.nan),
            )  # fmt: skip
        rare = self._extremes.surprise(statistics)
        strongest = rare.max(axis=0)
        by_kind = np.zeros((len(KINDS), count))
        np.maximum.at(by_kind, STATISTIC_KINDS, rare)
        before = rows.times_before[new]
        is_silence = rows.times[-len(rows.times_before) :][new] - before >= limit
        is_alert = self._alerts(np.delete(rare, GAP, axis=0).max(axis=0), threshold) | is_silence
        spread = self.state.spread
        return Scores(
            strongest,
            np.full(count, threshold),
            expected,
            expected - spread * self._extremes.value_at(DOWN, threshold),
            expected + spread * self._extremes.value_at(UP, threshold),
            np.where(is_silence, len(KINDS) - 1, STATISTIC_KINDS[_strongest(rare, threshold)]).astype(np.int8),
            by_kind / np.maximum(by_kind.sum(axis=0), 1e-12),
            is_alert,
            np.where(is_silence, before + limit, np.nan),
        )

    def _alerts(self, surprise: Floats, threshold: float) -> NDArray[np.bool_]:
        """Tell which rows begin an alert: the first, and any within its quiet time that is far stronger."""
        state = self.state
        first = state.rows - len(surprise)
        is_alert = np.zeros(len(surprise), np.bool_)
        for at in np.flatnonzero(surprise >= threshold):
            row, value = first + int(at), float(surprise[at])
            is_quiet = row - state.alert_row <= QUIET_ROWS
            if not is_quiet or value > state.alert_surprise + STRONGER:
                is_alert[at] = True
                state.alert_row, state.alert_surprise = row, value
        return is_alert

    def _close(self, statistics: Floats, rows: "_Rows") -> None:
        """Learn from a whole block, and begin the next."""
        state = self.state
        if state.blocks:  # The first block has no earlier rows to compare with.
            maxima = statistics.max(axis=1).astype(np.float32)
            state.maxima = np.column_stack([state.maxima[:, -(MAX_BLOCKS - 1) :], maxima])
        rows.learn()
        state.blocks += 1
        state.close_block()
        self._refit()

    def _refit(self) -> None:
        self._extremes = fit_extremes(self.state.maxima, MIN_SCALES)


class _Rows:
    """The rows of the open block, with those before it that their statistics need."""

    def __init__(self, state: State, season: Season) -> None:
        self.state = state
        self.values, self.times = state.values, state.times
        self.count = state.open_rows
        self.times_before = np.concatenate([self.times[:1], self.times[:-1]])[-self.count :]
        self.bins = BINS_OF_SEASON[season](self.times)
        values = self.values
        if not state.blocks:
            state.level = _median(values[-self.count :][:1])
            state.spread = state.level_spread = max(abs(state.level) * 1e-3, 1e-9)
        seasonal = np.where(state.bin_rows[self.bins] >= KNOWN_BIN, state.bin_values[self.bins], state.level)
        self.from_season = values - seasonal
        predictions = np.stack(
            [
                _previous_mean(values, 1),
                _previous_mean(values, 4),
                seasonal + state.offset,
                seasonal + _previous_mean(self.from_season, 12, first=0.0),
            ]
        )
        self.errors = values - predictions
        best = int(np.argmin(state.errors)) if state.blocks else 0
        self.best = best
        self.error = self.errors[best]
        self.expected = predictions[best][-self.count :]
        is_seasonal = state.uses_season
        self.difference = self.from_season - state.offset if is_seasonal else values - state.level

    def statistics(self) -> Floats:
        """Compute the statistics of the open block's rows, a row a statistic, in the order of STATISTIC_KINDS."""
        state, count = self.state, self.count
        spread = max(state.spread, 1e-9)
        error = self.error / spread
        difference = self.difference / spread
        from_level = (self.values[-count:] - state.level) / max(state.level_spread, 1e-9)
        size = np.abs(np.clip(error, -50, 50))
        mean12, mean48 = _mean(difference, 12), _mean(difference, 48)
        is_same = np.zeros(len(self.values))
        is_same[1:] = self.values[1:] == self.values[:-1]
        gaps = np.zeros(len(self.times))
        gaps[1:] = np.maximum(np.diff(self.times), 0)
        statistics = np.stack(
            [
                error[-count:],
                -error[-count:],
                from_level,
                -from_level,
                mean12[-count:],
                -mean12[-count:],
                mean48[-count:],
                -mean48[-count:],
                _mean(size, 12)[-count:],
                _mean(np.abs(np.clip(difference, -50, 50)), 48)[-count:],
                -np.log(np.maximum(_mean(size, 24, short=1.0)[-count:], 0) + 1e-2),
                _mean(is_same, 12)[-count:],
                np.log1p(gaps[-count:]),
            ]
        )
        limited: Floats = np.clip(statistics, -LARGEST_STATISTIC, LARGEST_STATISTIC)
        return limited

    def learn(self) -> None:
        """Move the level, the season, the spread and the choice of the prediction towards the block's rows."""
        state, count = self.state, self.count
        rows = max(state.rows, 1)
        step = _median(np.maximum(np.diff(self.times[-count - 1 :]), 0))
        state.step += (step - state.step) * (0.2 if state.blocks else 1.0)
        most = 20 * max(state.spread, 1e-9) if state.blocks else LARGEST_VALUE
        sizes = np.abs(self.errors[:, -count:])
        means = np.minimum(sizes, most).mean(axis=1)
        state.errors += (means - state.errors) * (min(1.0, count / ERROR_ROWS) if state.blocks else 1.0)
        median = _median(self.values[-count:])
        state.level += (median - state.level) * min(1.0, max(count / LEVEL_ROWS, count / rows))
        from_level = np.minimum(np.abs(self.values[-count:] - state.level), most)
        self._choose_season(from_level, most)
        self._learn_season()
        share = max(count / SPREAD_ROWS, count / rows)
        state.level_spread = max(state.level_spread + (float(from_level.mean()) - state.level_spread) * share, 1e-9)
        error = sizes[self.best]
        typical = _median(error) * 1.5 + 0.1 * float(np.minimum(error, LARGEST_VALUE).mean())
        state.spread = max(state.spread + (typical - state.spread) * share, 1e-9, 1e-6 * state.level_spread)

    def _choose_season(self, from_level: Floats, most: float) -> None:
        """Decide whether differences are measured from the season, by how large those from it are."""
        state, count = self.state, self.count
        state.offset += (_median(self.from_season[-count:]) - state.offset) * min(1.0, count / LEVEL_ROWS)
        is_known = state.bin_rows[self.bins[-count:]] >= KNOWN_BIN
        if not is_known.any():
            return
        from_season = float(np.minimum(np.abs(self.from_season[-count:]), most)[is_known].mean())
        share = np.count_nonzero(is_known) / LEVEL_ROWS if state.from_level else 1.0
        state.from_level += (float(from_level[is_known].mean()) - state.from_level) * share
        state.from_season += (from_season - state.from_season) * share
        is_seasonal = bool(state.from_season < MIN_SEASON_GAIN * state.from_level)
        if is_seasonal != state.uses_season:
            # Differences are measured from elsewhere from now on: earlier ones would hide what is rare now.
            ratio = max(state.from_season, 1e-9) / max(state.from_level, 1e-9)
            state.maxima[DIFFERENCES] *= np.float32(ratio if is_seasonal else 1 / ratio)
            state.uses_season = is_seasonal

    def _learn_season(self) -> None:
        state, count = self.state, self.count
        values, bins = self.values[-count:], self.bins[-count:]
        for one in np.unique(bins):
            in_bin = values[bins == one]
            days = min(1.0, len(in_bin) * state.step / HALF_HOUR_SECONDS)
            state.bin_rows[one] += days
            rate = min(1.0, days / min(max(state.bin_rows[one], 1e-9), SEASON_DAYS))
            state.bin_values[one] += (_median(in_bin) - state.bin_values[one]) * rate


def _strongest(rare: Floats, threshold: float) -> NDArray[np.intp]:
    """Return the statistic that names each row's anomaly."""
    is_plain = rare[PLAIN] >= threshold
    strongest: NDArray[np.intp] = np.where(
        is_plain.any(axis=0), np.array(PLAIN)[is_plain.argmax(axis=0)], rare.argmax(axis=0)
    )
    return strongest


def _median(values: Floats) -> float:
    """Return the median. NumPy's own takes ten times as long for a few values."""
    ordered = np.sort(values)
    middle = len(ordered) // 2
    return float(ordered[middle]) if len(ordered) % 2 else float((ordered[middle - 1] + ordered[middle]) / 2)


def _mean(values: Floats, rows: int, *, short: float = 0.0) -> Floats:
    """Return the mean of each row and those before it, `rows` in all; `short` where there are fewer."""
    means = np.full(len(values), short)
    if len(values) >= rows:
        sums = np.cumsum(values)
        means[rows - 1] = sums[rows - 1] / rows
        means[rows:] = (sums[rows:] - sums[:-rows]) / rows
    return means


def _previous_mean(values: Floats, rows: int, *, first: float | None = None) -> Floats:
    """Return the mean of the `rows` rows before each row; `first`, or the first value, where there are fewer."""
    means = np.full(len(values), values[0] if first is None else first)
    if rows == 1:
        means[1:] = values[:-1]
    elif len(values) > rows:
        means[rows:] = _mean(values, rows)[rows - 1 : -1]
    return means


def _joined(parts: list[Scores]) -> Scores:
    if not parts:
        none = np.zeros(0)
        shares, kind, is_alert = np.zeros((len(KINDS), 0)), np.zeros(0, np.int8), np.zeros(0, np.bool_)
        return Scores(none, none, none, none, none, kind, shares, is_alert, none)
    if len(parts) == 1:
        return parts[0]
    return Scores(
        np.concatenate([part.surprise for part in parts]),
        np.concatenate([part.threshold for part in parts]),
        np.concatenate([part.expected for part in parts]),
        np.concatenate([part.low for part in parts]),
        np.concatenate([part.high for part in parts]),
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.shares for part in parts], axis=1),
        np.concatenate([part.is_alert for part in parts]),
        np.concatenate([part.silent_from for part in parts]),
    )
