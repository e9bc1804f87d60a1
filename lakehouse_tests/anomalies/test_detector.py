"""The detector: what it finds, that it doesn't depend on how rows arrive, and what bad input does to it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.anomalies.detector import KINDS, Detector, Scores
from lakehouse.anomalies.extremes import Floats, fit_extremes
from lakehouse.anomalies.state import State
from lakehouse.errors import UnreadableTableError

MINUTES = 5
ROWS = 288 * 10


def _series(seed: int = 0) -> tuple[Floats, Floats]:
    """Ten days of a value every five minutes, with a daily season."""
    random = np.random.default_rng(seed)
    row = np.arange(ROWS)
    return 1.7e9 + row * 60.0 * MINUTES, 20 + 5 * np.sin(2 * np.pi * row / 288) + random.normal(0, 1, ROWS)


def _alerts(scores: Scores) -> list[tuple[int, str]]:
    return [(int(row), KINDS[scores.kind[row]]) for row in np.flatnonzero(scores.is_alert)]


def test_normal_series_has_at_most_one_alert_a_week() -> None:
    counts = [len(_alerts(Detector().update(*_series(seed)))) for seed in range(10)]
    assert sum(counts) <= 10 * ROWS * MINUTES / (7 * 24 * 60)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("spike", lambda values, at: np.where(np.arange(ROWS) == at, 80, values)),
        ("dip", lambda values, at: np.where(np.arange(ROWS) == at, -40, values)),
        ("shift_up", lambda values, at: values + 9 * (np.arange(ROWS) >= at)),
        ("shift_up", lambda values, at: values + np.clip((np.arange(ROWS) - at) / 20, 0, 20)),
        ("spread", lambda values, at: np.where(np.arange(ROWS) < at, values, 20 + (values - 20) * (-3) ** (np.arange(ROWS) % 2))),
        ("stuck", lambda values, at: np.where(np.arange(ROWS) < at, values, values[at])),
    ],
    ids=["spike", "dip", "level shift", "drift", "spread", "stuck sensor"],
)  # fmt: skip
def test_planted_anomaly_is_found_soon(kind: str, change: object) -> None:
    at = 2000
    times, values = _series()
    scores = Detector().update(times, change(values, at))  # type: ignore[operator]
    found = [(row, name) for row, name in _alerts(scores) if row >= at]
    assert found
    assert found[0][0] - at < 200
    assert kind in {name for _, name in found} or kind in ("shift_up", "spread")
    row = found[0][0]
    assert scores.shares[:, row].sum() == pytest.approx(1)
    assert scores.low[row] < scores.expected[row] < scores.high[row]


def test_silence_is_known_before_a_row_ends_it() -> None:
    times, values = _series()
    detector = Detector()
    detector.update(times[:2000], values[:2000])
    silent_from = detector.silent_from
    assert silent_from is not None
    assert times[1999] + 60 * MINUTES < silent_from < times[1999] + 3600 * 6
    after = detector.update(np.array([silent_from + 1]), values[2000:2001])
    assert _alerts(after) == [(0, "silence")]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 700), max_size=12))
def test_alerts_do_not_depend_on_how_rows_arrive(seed: int, cuts: list[int]) -> None:
    random = np.random.default_rng(seed)
    times = 1.7e9 + np.cumsum(random.exponential(300, 700))
    values = random.normal(0, 1, 700).cumsum() + (random.random(700) < 0.01) * 50
    whole = Detector()
    expected = whole.update(times, values)
    detector, parts = Detector(), []
    edges = [0, *sorted(cuts), 700]
    for start, end in pairwise(edges):
        parts.append(detector.update(times[start:end], values[start:end]))
        detector = Detector(State.from_bytes(detector.state.to_bytes()))
    assert np.concatenate([part.surprise for part in parts]).tolist() == expected.surprise.tolist()
    assert np.concatenate([part.is_alert for part in parts]).tolist() == expected.is_alert.tolist()
    assert detector.state.to_bytes() == whole.state.to_bytes()


@pytest.mark.parametrize(
    "values",
    [
        np.full(1000, 7.0),
        np.zeros(1000),
        np.array([]),
        np.array([3.0]),
        np.tile([0.0, 1.0], 500),
        np.exp(np.linspace(0, 700, 1000)),
        np.full(1000, 1.7e308) * np.tile([1.0, -1.0], 500),
        np.append(np.zeros(999), 1e300),
    ],
    ids=["constant", "zero", "empty", "one point", "two values", "exploding", "largest", "one explosion"],
)
def test_extreme_series_give_finite_scores(values: Floats) -> None:
    scores = Detector().update(1.7e9 + 60.0 * np.arange(len(values)), values)
    assert len(scores.surprise) == len(values)
    assert np.isfinite(scores.surprise).all()
    assert np.isfinite(scores.expected).all()


def test_constant_series_has_no_alert() -> None:
    assert _alerts(Detector().update(1.7e9 + 60.0 * np.arange(5000), np.full(5000, 7.0))) == []


def test_clock_that_goes_back_counts_as_standing_still() -> None:
    times, values = _series()
    times[2500:] -= 86400
    detector = Detector()
    scores = detector.update(times, values)
    assert np.isfinite(scores.surprise).all()
    assert detector.state.times[-1] >= times[2499]


def test_higher_sensitivity_gives_no_fewer_alerts() -> None:
    times, values = _series()
    values[::400] += np.linspace(3, 12, len(values[::400]))
    counts = [len(_alerts(Detector(sensitivity=rate).update(times, values))) for rate in (0.01, 1, 100)]
    assert counts == sorted(counts)


@pytest.mark.parametrize(
    "damage", [lambda stored: b"", lambda stored: stored[:-4], lambda stored: b"\x01" + stored[1:]]
)
def test_damaged_state_is_refused(damage: object) -> None:
    detector = Detector()
    detector.update(*_series())
    with pytest.raises(UnreadableTableError, match="compute its day again"):
        State.from_bytes(damage(detector.state.to_bytes()))  # type: ignore[operator]


def test_value_of_a_surprise_has_that_surprise() -> None:
    maxima = np.random.default_rng(1).gumbel(3, 2, (2, 100))
    extremes = fit_extremes(maxima)
    assert extremes is not None
    values = np.array([[extremes.value_at(number, 3.0)] for number in range(2)])
    assert extremes.surprise(values).ravel() == pytest.approx([3.0, 3.0])
