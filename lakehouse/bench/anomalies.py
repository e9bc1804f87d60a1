"""`bench anomalies`: how many planted or labelled anomalies the detector finds, beside a z-score and range limits."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from lakehouse.anomalies.detector import Detector
from lakehouse.anomalies.extremes import Floats
from lakehouse.anomalies.nab import Labelled, judge, nab_score
from lakehouse.bench.figures import Figure, figure, timed
from lakehouse.bench.planted import PLANTED_KINDS, planted_series
from lakehouse.errors import ParameterError

REACH_NAB = 60.0
REACH_FALSE_ALERTS = 1.0
REACH_ROWS = 100_000.0

WINDOWS_FILE = Path("labels") / "combined_windows.json"

Z_LIMIT = 4.0
"""How many standard deviations from the mean a value is an alert of the z-score."""

NOT_ALERT = 0.999
"""The most that a row scores that begins no alert, where 1 is the threshold."""


def measure(labelled: Path | None = None, *, series: int = 60, seed: int = 1) -> Iterator[Figure]:
    """Yield the scores of series with planted anomalies, or of labelled ones in `labelled`, by three detectors.

    `labelled` has the layout of the Numenta Anomaly Benchmark: `data/**/*.csv` and `labels/combined_windows.json`.
    """
    all_series = list(read_labelled(labelled)) if labelled else list(planted_series(series, seed))
    for name, detect in (("lakehouse", detector_scores), ("z-score", z_scores), ("range limits", range_scores)):
        yield from _figures(name, detect, all_series)


def _figures(name: str, detect: Callable[[Labelled], Floats], all_series: Sequence[Labelled]) -> Iterator[Figure]:
    scores, spent = timed(lambda: [detect(one) for one in all_series])
    scored = list(zip(all_series, scores, strict=True))
    is_ours = name == "lakehouse"
    outcome = judge(scored, 1.0)
    at_default, _ = nab_score(scored, 1.0)
    best, threshold = nab_score(scored)
    yield figure(
        "anomalies", f"{name}: NAB score at the default threshold", at_default, "of 100", REACH_NAB if is_ours else None,
        hits=outcome.hits, windows=outcome.windows, false_alerts=outcome.false_alerts,
        precision=round(outcome.precision, 3), recall=round(outcome.recall, 3), delay=round(outcome.delay, 3),
    )  # fmt: skip
    yield figure("anomalies", f"{name}: NAB score at the best threshold", best, "of 100", threshold=round(threshold, 4))
    yield figure(
        "anomalies", f"{name}: false alerts", outcome.false_alerts / max(outcome.weeks, 1e-9), "per entity and week",
        REACH_FALSE_ALERTS if is_ours else None, weeks=round(outcome.weeks, 1),
    )  # fmt: skip
    rows = sum(len(one.values) for one in all_series)
    speed = rows / max(spent.cpu, 1e-9)
    yield figure("anomalies", f"{name}: speed", speed, "events/s a core", REACH_ROWS if is_ours else None, rows=rows)
    if is_ours and any(one.kinds for one in all_series):
        yield figure("anomalies", f"{name}: recall", outcome.recall, "of 1", kinds=_by_kind(scored))


def _by_kind(scored: Sequence[tuple[Labelled, Floats]]) -> dict[str, str]:
    """Return how many anomalies of each kind are found, of how many."""
    hits, totals = Counter[str](), Counter[str]()
    for labelled, scores in scored:
        for (first, last), kind in zip(labelled.windows, labelled.kinds, strict=True):
            totals[kind] += 1
            hits[kind] += bool((scores[first : last + 1] >= 1).any())
    return {kind: f"{hits[kind]} of {totals[kind]}" for kind in PLANTED_KINDS if totals[kind]}


def detector_scores(labelled: Labelled) -> Floats:
    """Score rows by the detector as it is set by default: 1 and more where an alert begins."""
    is_finite = np.isfinite(labelled.values)
    scores = np.zeros(len(labelled.values))
    found = Detector().update(labelled.times[is_finite], labelled.values[is_finite])
    scores[is_finite] = np.where(found.is_alert, np.maximum(found.relative, 1.0), np.minimum(found.relative, NOT_ALERT))
    return scores


def z_scores(labelled: Labelled) -> Floats:
    """Score rows by their distance from the mean of all rows before, in standard deviations; 1 is four of them."""
    values = np.nan_to_num(labelled.values, nan=0.0, posinf=0.0, neginf=0.0)
    count = np.maximum(np.arange(len(values)), 1)
    mean = np.append(0.0, np.cumsum(values)[:-1]) / count
    square = np.append(0.0, np.cumsum(values**2)[:-1]) / count
    return np.abs(values - mean) / np.sqrt(np.maximum(square - mean**2, 1e-12)) / Z_LIMIT


def range_scores(labelled: Labelled) -> Floats:
    """Score rows by how far they are outside of the range of the probation, whose width is 1 more; 1 is its edge."""
    values = np.nan_to_num(labelled.values, nan=0.0, posinf=0.0, neginf=0.0)
    learned = values[: max(labelled.probation, 1)]
    low, high = float(learned.min()), float(learned.max())
    beyond = np.maximum(values - high, low - values)
    return np.where(beyond > 0, 1 + beyond / max(high - low, 1e-9), 0.0)


def read_labelled(folder: Path) -> Iterator[Labelled]:
    """Yield the series of a folder in NAB's layout. Raises ParameterError where it has another."""
    try:
        windows = json.loads((folder / WINDOWS_FILE).read_text(encoding="utf-8"))
        paths = {path.relative_to(folder / "data").as_posix(): path for path in (folder / "data").rglob("*.csv")}
        for name in sorted(windows):
            if name not in paths:
                raise ParameterError(f"{folder / 'data' / name}: is missing; {WINDOWS_FILE} names it.")
            yield _read_series(name, paths[name], windows[name])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ParameterError(
            f"{folder}: is not in NAB's layout: data/**/*.csv with timestamp,value and {WINDOWS_FILE} ({error})."
        ) from error


def _read_series(name: str, path: Path, windows: Sequence[tuple[str, str]]) -> Labelled:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(_seconds(row["timestamp"]), float(row["value"] or "nan")) for row in csv.DictReader(file)]
    times, values = (np.array(column) for column in zip(*rows, strict=True))
    edges = [
        (int(np.searchsorted(times, _seconds(first))), int(np.searchsorted(times, _seconds(last), "right")) - 1)
        for first, last in windows
    ]
    return Labelled(name, times, values, edges)


def _seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
