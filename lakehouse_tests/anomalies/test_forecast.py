"""Forecasts follow week and trend, are not misled by single days, and give a band that normal days are in."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.anomalies.extremes import Floats
from lakehouse.anomalies.forecast import MIN_DAYS, WEEK, forecast

DAYS, AHEAD, SERIES = 280, 20, 20
LEARNED = 5 * WEEK


def _series(seed: int, *, trend: float) -> Floats:
    days = np.arange(DAYS + AHEAD)
    week = 200 * np.sin(2 * np.pi * days / WEEK) + 150 * (days % WEEK >= 5)
    values: Floats = 1000 + trend * days + week + np.random.default_rng(seed).normal(0, 30, len(days))
    return values


@pytest.mark.parametrize("trend", [0.0, 2.0])
def test_forecast_errs_less_than_the_week_before_and_normal_days_are_in_its_band(trend: float) -> None:
    errors, naive, outside, ahead_outside = 0.0, 0.0, 0, 0
    for seed in range(SERIES):
        values = _series(seed, trend=trend)
        history, future = values[:DAYS], values[DAYS:]
        found = forecast(history.tolist(), AHEAD)
        errors += float(np.abs(found.expected[DAYS:] - future).mean())
        naive += float(np.abs(np.resize(history[-WEEK:], AHEAD) - future).mean())
        outside += int(found.is_outside(history)[LEARNED:].sum())
        ahead_outside += int(((future < found.low[DAYS:]) | (future > found.high[DAYS:])).sum())
    assert errors < 0.85 * naive
    assert outside <= SERIES * (DAYS - LEARNED) / 400
    assert ahead_outside <= 1


def test_unusual_day_is_outside_and_changes_little_of_what_follows() -> None:
    values = _series(3, trend=1.0)[:DAYS]
    planted = values.copy()
    planted[250] += 2000
    before, after = forecast(values.tolist(), AHEAD), forecast(planted.tolist(), AHEAD)
    assert [*np.flatnonzero(after.is_outside(planted))[-1:]] == [250]
    assert np.abs(after.expected[251:] - before.expected[251:]).max() < 60


def test_shift_is_learned_within_two_weeks() -> None:
    values = _series(4, trend=0.0)[:DAYS]
    values[200:] += 500
    found = forecast(values.tolist(), 1)
    assert found.is_outside(values)[200]
    assert not found.is_outside(values)[214:].any()


NUMBERS = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.integers(-3, 3).map(float)


@settings(max_examples=60, deadline=None)
@given(st.lists(NUMBERS, max_size=90), st.integers(0, 30))
def test_any_values_give_a_band_around_what_is_expected(values: list[float | None], ahead: int) -> None:
    found = forecast(values, ahead)
    assert len(found.expected) == len(found.low) == len(found.high) == len(values) + ahead
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < MIN_DAYS:
        assert np.isnan(found.expected).all()
    for low, expected, high in zip(found.low, found.expected, found.high, strict=True):
        if not math.isnan(expected) and math.isfinite(high - low):
            assert low <= expected <= high
            assert low >= 0 or min(known) < 0


def test_prediction_of_a_day_depends_on_the_days_before_it_alone() -> None:
    values = _series(5, trend=1.0)[:DAYS].tolist()
    changed = [*values[:-1], values[-1] * 50]
    one, other = forecast(values, 0), forecast(changed, 0)
    assert one.expected[-1] == pytest.approx(other.expected[-1], rel=0.02)
