"""Forecast a daily number by exponential smoothing with a weekly season and a damped trend.

The equations are those of R. J. Hyndman, A. B. Koehler, J. K. Ord and R. D. Snyder, "Forecasting with Exponential Smoothing"
(Springer 2008), additive errors. Errors are limited before they are learned from, after S. Gelper, R. Fried and C. Croux,
"Robust forecasting with exponential and Holt-Winters smoothing", Journal of Forecasting 29 (2010).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from lakehouse.anomalies.extremes import Floats

WEEK = 7
MIN_DAYS = 21
"""Days with a number that a forecast needs."""

LEVELS, TRENDS, SEASONS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.8), (0.0, 0.03, 0.1), (0.05, 0.15, 0.3)
DAMPING = 0.95
"""By which share of a trend the next day goes on."""

PARAMETERS = np.array([*product(LEVELS, TRENDS, SEASONS)]).T
"""The rates at which level, trend and season follow, a column for each choice. The one that errs least is used."""

LARGEST_ERROR = 2.5
"""Errors beyond this many spreads are learned from as if they were this large."""

SPREAD_DAYS = 56
"""From how many days before it the spread of a day's error is estimated."""

MIN_ERRORS = 14
NORMAL_SPREAD = 1.4826
"""The standard deviation of normal errors as a multiple of their median size."""

FEW_ERRORS = 14
"""A spread that is estimated from n errors is widened by this divided by n, because so few say little of what is normal."""

BAND_SPREADS = 3.5
"""Half of the band's width. Of series with normal errors, about one day in a thousand is outside."""

MIN_RELATIVE_SPREAD = 1e-3


@dataclass(frozen=True, slots=True)
class Forecast:
    """The value expected of each day from those before it, then of the days ahead, and its band. NaN where too little is known."""

    expected: Floats
    low: Floats
    high: Floats

    def is_outside(self, values: Floats) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
        """Tell which days of the history are outside of their band."""
        count = len(values)
        with np.errstate(invalid="ignore"):
            return (values < self.low[:count]) | (values > self.high[:count])


def forecast(values: Sequence[float | None], ahead: int = 14) -> Forecast:
    """Forecast the days after these values, one for each day in order; None, or a number that is not finite, is unknown.

    Of numbers that are never negative, neither is the band. Needs three weeks of numbers; before, nothing is expected.
    """
    given = np.array([np.nan if value is None else value for value in values], dtype=float)
    given[~np.isfinite(given)] = np.nan
    known = np.flatnonzero(~np.isnan(given))
    if len(known) < MIN_DAYS:
        nothing = np.full(len(given) + ahead, np.nan)
        return Forecast(nothing, nothing, nothing)
    start = int(known[0])
    with np.errstate(over="ignore", invalid="ignore"):
        smoothed = _smooth(given[start:], ahead)
    lead = np.full(start, np.nan)
    expected, low, high = (np.concatenate([lead, part]) for part in smoothed)
    if np.nanmin(given) >= 0:
        expected, low, high = (np.maximum(part, 0) for part in (expected, low, high))
    return Forecast(expected, low, high)


def _smooth(given: Floats, ahead: int) -> tuple[Floats, Floats, Floats]:
    """Return what is expected of each day, and its band."""
    predictions, end = _run(given)
    errors = np.abs(given[:, None] - predictions)
    best = int(np.argmin(np.nanmedian(errors[WEEK:], axis=0) + 0.25 * np.nanmean(errors[WEEK:], axis=0)))
    expected = predictions[:, best]
    spreads = _spreads(given - expected, float(np.nanmedian(np.abs(given))))
    level, trend, season = end[0][best], end[1][best], end[2][:, best]
    steps = np.arange(1, ahead + 1)
    damped = np.cumsum(DAMPING**steps)
    future = level + damped * trend + season[(len(given) + steps - 1) % WEEK]
    alpha, beta, gamma = map(float, PARAMETERS[:, best])
    widths = spreads[-1] * _growth(alpha, beta, gamma, ahead)
    width = BAND_SPREADS * np.concatenate([spreads[:-1], widths])
    whole = np.concatenate([expected, future])
    return np.where(np.isnan(width), np.nan, whole), whole - width, whole + width


def _run(given: Floats) -> tuple[Floats, tuple[Floats, Floats, Floats]]:
    """Run every choice of parameters over the days. Returns their predictions, a row a day, and their states after the last."""
    alpha, beta, gamma = PARAMETERS
    choices = PARAMETERS.shape[1]
    first = given[: 4 * WEEK]
    level = np.full(choices, float(np.nanmedian(first)))
    by_day = [first[day::WEEK] - level[0] for day in range(WEEK)]
    season = np.array([[float(np.nanmedian(part)) if np.isfinite(part).any() else 0.0] * choices for part in by_day])
    spread = np.full(choices, max(float(np.nanmedian(np.abs(first - level[0]))), 1e-9 * abs(level[0]), 1e-12))
    trend = np.zeros(choices)
    predictions = np.empty((len(given), choices))
    for day, value in enumerate(given):
        of_week = day % WEEK
        base = level + DAMPING * trend
        predictions[day] = base + season[of_week]
        if np.isnan(value):
            level, trend = base, DAMPING * trend
            continue
        error = value - predictions[day]
        limited = np.clip(error, -LARGEST_ERROR * spread, LARGEST_ERROR * spread)
        level = base + alpha * limited
        trend = DAMPING * trend + alpha * beta * limited
        season[of_week] = season[of_week] + gamma * (1 - alpha) * limited
        size = np.minimum(np.abs(error), 3 * LARGEST_ERROR * spread)
        spread = np.maximum(spread + 0.1 * (size * 1.25 - spread), 1e-12)
    return predictions, (level, trend, season)


def _spreads(errors: Floats, size: float) -> Floats:
    """Estimate the spread of the error of each day, and of the next one, from the errors of the days before."""
    spreads = np.full(len(errors) + 1, np.nan)
    for day in range(len(errors) + 1):
        before = errors[max(0, day - SPREAD_DAYS) : day]
        before = np.abs(before[~np.isnan(before)])
        if len(before) >= MIN_ERRORS:
            widened = NORMAL_SPREAD * (1 + FEW_ERRORS / len(before))
            spreads[day] = max(widened * float(np.median(before)), MIN_RELATIVE_SPREAD * size, 1e-12)
    return spreads


def _growth(alpha: float, beta: float, gamma: float, ahead: int) -> Floats:
    """Return how much wider the band of each day ahead is than that of the first: table 6.1 of Hyndman and others."""
    steps = np.arange(1, ahead)
    weights = alpha * (1 + beta * np.cumsum(DAMPING**steps)) + gamma * (1 - alpha) * (steps % WEEK == 0)
    growth: Floats = np.sqrt(1 + np.concatenate([[0.0], np.cumsum(weights**2)]))
    return growth[:ahead]
