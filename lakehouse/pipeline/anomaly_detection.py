"""Detect the anomalies of one day from the states of the detectors before it. Reads and writes no table."""

import base64
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np

from lakehouse.anomalies.detector import KINDS, Detector, Scores
from lakehouse.anomalies.state import State
from lakehouse.contracts.model import AnomalyRule
from lakehouse.errors import UnreadableTableError
from lakehouse.pipeline.anomaly_series import Series, SeriesRows, name_of

FORGOTTEN_AFTER = timedelta(days=30)
"""A series without a row for that long has no state any more: it is new when it comes back."""

SILENCE = KINDS[-1]
MIN_SHARE = 0.05
"""Kinds that contribute less to an anomaly are not told."""

Row = dict[str, Any]
"""An anomaly by the columns of its table."""


@dataclass(frozen=True, slots=True)
class Detected:
    """The anomalies of a day, and the stored states after it."""

    rows: list[Row]
    states: dict[Series, str]


def detect_day(
    rule: AnomalyRule,
    day: date,
    before: Mapping[Series, str],
    all_series: Iterable[SeriesRows],
    *,
    now: float | None = None,
) -> Detected:
    """Run the detector of each series over a day, from the stored states after the day before.

    A silence is known once an event of any series is later than its begin, or that time has passed by the clock `now`.
    So without a clock, the result depends on the events alone.
    """
    start = datetime.combine(day, time(), UTC)
    detectors = {series: open_detector(rule, state) for series, state in before.items()}
    told_until = max((last for one in detectors.values() if (last := _last_time(one)) is not None), default=-np.inf)
    known_until = told_until if now is None else max(told_until, now)
    rows: list[Row] = []
    silences: list[tuple[Series, float]] = []
    for one in all_series:
        detector = detectors.setdefault(one.series, open_detector(rule))
        scores = detector.update(one.times, one.values)
        rows += _rows(rule, one, scores)
        silences += [(one.series, float(begin)) for begin in scores.silent_from[np.isfinite(scores.silent_from)]]
        known_until = max(known_until, float(one.times[-1]))
    silences += [(series, begin) for series, one in detectors.items() if (begin := one.silent_from) is not None]
    rows += [
        _silence(rule, series, max(begin, start.timestamp()))
        for series, begin in silences
        if told_until < begin <= known_until
    ]
    oldest = (start - FORGOTTEN_AFTER).timestamp()
    states = {series: store(one.state) for series, one in detectors.items() if (_last_time(one) or 0) >= oldest}
    return Detected(rows, states)


def open_detector(rule: AnomalyRule, stored: str | None = None) -> Detector:
    """Return the detector of a series. Raises UnreadableTableError if its stored state can't be read."""
    if stored is None:
        return Detector(season=rule.season, sensitivity=rule.sensitivity)
    try:
        state = State.from_bytes(zlib.decompress(base64.b85decode(stored)))
    except (ValueError, zlib.error) as error:
        raise UnreadableTableError("The state of a detector is damaged; compute its day again.") from error
    return Detector(state, season=rule.season, sensitivity=rule.sensitivity)


def store(state: State) -> str:
    """Return a state as text that `open_detector` reads."""
    return base64.b85encode(zlib.compress(state.to_bytes(), 1)).decode()


def _last_time(detector: Detector) -> float | None:
    times = detector.state.times
    return float(times[-1]) if len(times) else None


def _rows(rule: AnomalyRule, one: SeriesRows, scores: Scores) -> Iterator[Row]:
    """Yield the anomalies that begin with a row; silences end with one."""
    for at in np.flatnonzero(scores.is_alert & np.isnan(scores.silent_from)).tolist():
        shares = sorted(zip(scores.shares[:, at].tolist(), KINDS, strict=True), reverse=True)
        yield {
            **dict(zip(rule.by, one.series, strict=True)),
            "event_time": _moment(float(one.times[at])),
            "kind": KINDS[scores.kind[at]],
            "value": float(one.values[at]),
            "expected": float(scores.expected[at]),
            "low": float(scores.low[at]),
            "high": float(scores.high[at]),
            "score": float(scores.relative[at]),
            "contribution": json.dumps({kind: round(share, 3) for share, kind in shares if share >= MIN_SHARE}),
            "event_key": one.keys[at].as_py(),
        }


def _silence(rule: AnomalyRule, series: Series, begin: float) -> Row:
    moment = _moment(begin)
    return {
        **dict(zip(rule.by, series, strict=True)),
        "event_time": moment,
        "kind": SILENCE,
        "score": 1.0,
        "contribution": json.dumps({SILENCE: 1.0}),
        "event_key": f"{SILENCE} of {name_of(series)} {moment.isoformat()}",
    }


def _moment(seconds: float) -> datetime:
    """Return a time in UTC without a zone, as tables store it."""
    return datetime(1970, 1, 1) + timedelta(microseconds=round(seconds * 1e6))
