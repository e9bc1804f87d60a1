"""Score a detector as the Numenta Anomaly Benchmark does: early alerts in a window count more, false alerts cost.

Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark", ICMLA 2015.
0 is a detector without alerts, 100 one that alerts at the beginning of every window and nowhere else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lakehouse.anomalies.extremes import Floats

HIT_WEIGHT, FALSE_WEIGHT, MISS_WEIGHT = 1.0, 0.11, 1.0
"""The profile "standard"."""

PROBATION_RATIO, MAX_PROBATION_ROWS = 0.15, 750
"""The rows at the beginning of a series that a detector learns from, and that are not scored."""

FARTHEST = 3.0
"""How many lengths of a window behind it an alert costs its full weight."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A series with the windows of its anomalies, as pairs of first and last row."""

    name: str
    times: Floats
    """Seconds since 1970."""
    values: Floats
    windows: Sequence[tuple[int, int]]
    kinds: Sequence[str] = ()
    """The kind of each window's anomaly, where it is known."""

    @property
    def probation(self) -> int:
        """The number of rows that are not scored."""
        return min(int(PROBATION_RATIO * len(self.values)), MAX_PROBATION_ROWS)

    @property
    def scored_windows(self) -> list[tuple[int, int]]:
        """The windows that begin after the probation."""
        return [window for window in self.windows if window[0] >= self.probation]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a detector does at one threshold."""

    hits: int
    windows: int
    false_alerts: int
    delay: float
    """The mean position of the first alert in its window, from 0 to 1."""
    weeks: float
    """The length of the scored parts of all series together."""

    @property
    def precision(self) -> float:
        """The share of windows that were hit among those and the false alerts."""
        return self.hits / max(self.hits + self.false_alerts, 1)

    @property
    def recall(self) -> float:
        """The share of windows with an alert."""
        return self.hits / max(self.windows, 1)


def nab_score(series: Iterable[tuple[Labelled, Floats]], threshold: float | None = None) -> tuple[float, float]:
    """Return the score at a threshold, and the threshold; by default the one that gives the highest score of all series.

    With each series come the scores of its rows. A row is an alert if its score is at least the threshold.
    """
    steps, count = [], 0
    for labelled, scores in series:
        count += len(labelled.scored_windows)
        steps.append(_steps(labelled, scores))
    if not count:
        return 0.0, threshold or 0.0
    ordered = np.concatenate([step[0] for step in steps])
    gains = np.concatenate([step[1] for step in steps])
    full = count * (HIT_WEIGHT + MISS_WEIGHT)
    if threshold is not None:
        return float(100 * gains[ordered >= threshold].sum() / full), threshold
    order = np.argsort(-ordered, kind="stable")
    ordered, total = ordered[order], np.cumsum(gains[order])
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    best = last[np.argmax(total[last])]
    return float(100 * max(total[best], 0) / full), float(ordered[best])


def judge(series: Iterable[tuple[Labelled, Floats]], threshold: float) -> Outcome:
    """Count hits and false alerts at a threshold."""
    hits = windows = false = 0
    delays: list[float] = []
    seconds = 0.0
    for labelled, scores in series:
        alerts = np.flatnonzero(scores >= threshold)
        alerts = alerts[alerts >= labelled.probation]
        seconds += float(labelled.times[-1] - labelled.times[min(labelled.probation, len(labelled.times) - 1)])
        inside = np.zeros(len(scores), np.bool_)
        for first, last in labelled.windows:
            inside[first : last + 1] = True
        for first, last in labelled.scored_windows:
            windows += 1
            found = alerts[(alerts >= first) & (alerts <= last)]
            if len(found):
                hits += 1
                delays.append((found[0] - first) / (last - first + 1))
        false += int(np.count_nonzero(~inside[alerts]))
    return Outcome(hits, windows, false, float(np.mean(delays)) if delays else 1.0, seconds / (7 * 86400))


def _steps(labelled: Labelled, scores: Floats) -> tuple[Floats, Floats]:
    """Return the thresholds at which the total changes as it falls, and by how much."""
    costs, inside = _costs(labelled)
    is_scored = ~inside
    is_scored[: labelled.probation] = False
    thresholds, gains = [scores[is_scored]], [costs[is_scored]]
    for first, last in labelled.scored_windows:
        found = scores[first : last + 1]
        value = _sigmoid(-(last - np.arange(first, last + 1) + 1) / (last - first + 1)) / _sigmoid(np.array(-1.0))
        # The earliest alert counts: it moves forward as the threshold falls, from record to record.
        records = np.flatnonzero(found > np.append(-np.inf, np.maximum.accumulate(found)[:-1]))[::-1]
        worth = np.append(-MISS_WEIGHT, HIT_WEIGHT * value[records])
        thresholds.append(found[records])
        gains.append(np.diff(worth))
    return np.concatenate(thresholds), np.concatenate(gains)


def _costs(labelled: Labelled) -> tuple[Floats, NDArray[np.bool_]]:
    """Return what an alert at each row outside of windows gives, and which rows are in windows."""
    rows = len(labelled.values)
    costs, inside = np.full(rows, -1.0), np.zeros(rows, np.bool_)
    windows = sorted(labelled.windows)
    for number, (first, last) in enumerate(windows):
        inside[first : last + 1] = True
        end = windows[number + 1][0] if number + 1 < len(windows) else rows
        distance = (np.arange(last + 1, end) - last) / max(last - first, 1)
        costs[last + 1 : end] = np.where(distance > FARTHEST, -1.0, _sigmoid(distance))
    return costs * FALSE_WEIGHT, inside


def _sigmoid(position: Floats) -> Floats:
    """Weigh a position relative to the end of a window, whose beginning is at -1."""
    weight: Floats = 2 / (1 + np.exp(5 * np.minimum(position, 50.0))) - 1
    return weight
