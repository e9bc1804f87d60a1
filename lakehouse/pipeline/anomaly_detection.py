"""Detect the anomalies of one day from the states of the detectors before it. Reads and writes no table."""

import base64
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.anomalies.detector import KINDS, Detector, Scores
from lakehouse.anomalies.state import State
from lakehouse.contracts.model import AnomalyRule
from lakehouse.errors import UnreadableTableError
from lakehouse.pipeline.anomaly_series import Series, SeriesRows, name_of

FORGOTTEN_AFTER = timedelta(days=30)
"""A series without a row for that long has no state any more: it is new when it comes back."""

SILENCE = KINDS[-1]
FAST_CLOCKS = 10
"""One in so many series may have a clock that is fast, without making others look silent."""

CRITICAL_SCORE = 2.0

MIN_SHARE = 0.05
"""Kinds that contribute less to an anomaly are not told."""

Reading = tuple[float, str, float]
"""Time, key and value of a row."""

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
) -> Detected:
    """Run the detector of each series over a day, from the stored states after the day before.

    A silence is known once rows of other series are later than its begin, so the result depends on the rows alone.
    """
    tail = AnomalyTail(rule, before)
    for one in all_series:
        tail.add(one)
    start = datetime.combine(day, time(), UTC)
    oldest = (start - FORGOTTEN_AFTER).timestamp()
    return Detected(tail.anomalies(start.timestamp()), tail.states(oldest))


@dataclass(slots=True)
class _SeriesTail:
    """The rows of a series since a state was stored, and what was found in them."""

    stored: str | None
    detector: Detector
    rows: list[Reading] = field(default_factory=list)
    """In order."""
    by_key: dict[str, Reading] = field(default_factory=dict)
    found: list[Row] = field(default_factory=list)
    silences: list[float] = field(default_factory=list)

    @property
    def last(self) -> float | None:
        """The time of the last row."""
        times = self.detector.state.times
        return float(times[-1]) if len(times) else None


class AnomalyTail:
    """The anomalies in the rows since states were stored. Rows may come late, and again: the result is that of all in order."""

    def __init__(self, rule: AnomalyRule, before: Mapping[Series, str]) -> None:
        self._rule = rule
        self._series = {series: _SeriesTail(text, open_detector(rule, text)) for series, text in before.items()}
        self._reported_until = self._known_until()

    def add(self, rows: SeriesRows) -> None:
        """Add rows of one series. A row whose key is there replaces the earlier one."""
        series = self._series.get(rows.series)
        if series is None:
            series = self._series[rows.series] = _SeriesTail(None, open_detector(self._rule))
        keys: list[str] = list(map(str, rows.keys.to_pylist()))
        new: list[Reading] = sorted(
            row
            for row in zip(rows.times.tolist(), keys, rows.values.tolist(), strict=True)
            if series.by_key.get(row[1]) != row
        )
        if not new:
            return
        is_later = not series.rows or new[0] > series.rows[-1]
        is_new = series.by_key.keys().isdisjoint(row[1] for row in new)
        series.by_key |= {row[1]: row for row in new}
        if is_later and is_new:
            series.rows += new
        else:
            new = series.rows = sorted(series.by_key.values())
            series.detector = open_detector(self._rule, series.stored)
            series.found, series.silences = [], []
        times, names, values = zip(*new, strict=True)
        scores = series.detector.update(np.array(times), np.array(values))
        ordered = SeriesRows(rows.series, np.array(times), np.array(values), pa.array(names))
        series.found += _rows(self._rule, ordered, scores)
        series.silences += scores.silent_from[np.isfinite(scores.silent_from)].tolist()

    def anomalies(self, start: float = -np.inf) -> list[Row]:
        """List the anomalies. Silences that began before `start` and were not known then begin with it."""
        until = max(self._known_until(), self._reported_until)
        found = [row for series in self._series.values() for row in series.found]
        for name, series in self._series.items():
            current = series.detector.silent_from
            begins = [*series.silences, *([current] if current is not None else [])]
            found += [
                _silence(self._rule, name, begin, start) for begin in begins if self._reported_until < begin <= until
            ]
        return found

    def states(self, oldest: float) -> dict[Series, str]:
        """Return the stored states of the series with a row since `oldest`."""
        return {
            name: store(series.detector.state)
            for name, series in self._series.items()
            if series.last is not None and series.last >= oldest
        }

    def _known_until(self) -> float:
        """Return the time up to which silences are known: that of the last row, but for series whose clocks may be fast."""
        last = sorted(one.last for one in self._series.values() if one.last is not None)
        return last[-1 - len(last) // FAST_CLOCKS] if last else -np.inf


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


def _rows(rule: AnomalyRule, one: SeriesRows, scores: Scores) -> Iterator[Row]:
    """Yield the anomalies that begin with a row; silences end with one."""
    entity = name_of(one.series)
    for at in np.flatnonzero(scores.is_alert & np.isnan(scores.silent_from)).tolist():
        kind, value, score = KINDS[scores.kind[at]], float(one.values[at]), float(scores.relative[at])
        expected, low, high = (float(part[at]) for part in (scores.expected, scores.low, scores.high))
        shares = sorted(zip(scores.shares[:, at].tolist(), KINDS, strict=True), reverse=True)
        yield {
            **dict(zip(rule.by, one.series, strict=True)),
            "event_time": _moment(float(one.times[at])),
            "kind": kind,
            "value": value,
            "expected": expected,
            "low": low,
            "high": high,
            "score": score,
            "contribution": json.dumps({kind: round(share, 3) for share, kind in shares if share >= MIN_SHARE}),
            "entity": entity,
            "severity": "critical" if score >= CRITICAL_SCORE else "warning",
            "threshold": high if value >= expected else low,
            "message": f"{kind} of {rule.measure} of {entity}: {value:.6g}, expected {expected:.6g} ({low:.6g} to {high:.6g})",
            "event_key": str(one.keys[at].as_py()),
        }


def _silence(rule: AnomalyRule, series: Series, begin: float, start: float) -> Row:
    moment, entity = _moment(max(begin, start)), name_of(series)
    return {
        **dict(zip(rule.by, series, strict=True)),
        "event_time": moment,
        "kind": SILENCE,
        "score": 1.0,
        "contribution": json.dumps({SILENCE: 1.0}),
        "entity": entity,
        "severity": "warning",
        "message": f"{SILENCE} of {rule.measure} of {entity} since {moment.isoformat(' ', 'seconds')}",
        "event_key": f"{SILENCE} of {entity} since {_moment(begin).isoformat()}",
    }


def _moment(seconds: float) -> datetime:
    """Return a time in UTC without a zone, as tables store it."""
    return datetime(1970, 1, 1) + timedelta(microseconds=round(seconds * 1e6))
