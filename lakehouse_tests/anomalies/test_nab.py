"""The score of the Numenta Anomaly Benchmark, against values that were worked out by hand."""

from math import exp

import numpy as np
import pytest

from lakehouse.anomalies.extremes import Floats
from lakehouse.anomalies.nab import Labelled, judge, nab_score

ROWS = 1000
SERIES = Labelled("a", np.arange(ROWS) * 3600.0, np.zeros(ROWS), [(400, 499)])


def _alert_at(*rows: int) -> Floats:
    scores = np.zeros(ROWS)
    scores[list(rows)] = 1.0
    return scores


def _sigmoid(position: float) -> float:
    return 2 / (1 + exp(5 * position)) - 1


@pytest.mark.parametrize(
    ("rows", "score"),
    [
        ((), 0.0),
        ((400,), 100.0),
        ((400, 401, 450), 100.0),
        ((450,), 50 * (1 + _sigmoid(-0.5) / _sigmoid(-1))),
        ((10,), 0.0),
        ((200,), -50 * 0.11),
        ((400, 990), 100 - 50 * 0.11),
        ((505,), 50 * 0.11 * _sigmoid(6 / 99)),
    ],
    ids=["none", "at once", "again", "late", "in probation", "before", "far behind", "just behind"],
)
def test_score_at_a_threshold(rows: tuple[int, ...], score: float) -> None:
    assert nab_score([(SERIES, _alert_at(*rows))], 0.5)[0] == pytest.approx(score)


def test_best_threshold_leaves_out_false_alerts() -> None:
    scores = _alert_at(200) * 0.7 + _alert_at(400)
    assert nab_score([(SERIES, scores)]) == pytest.approx((100.0, 1.0))


def test_series_without_windows_scores_nothing() -> None:
    assert nab_score([(Labelled("b", SERIES.times, SERIES.values, []), np.zeros(ROWS))], 1.0) == (0.0, 1.0)


def test_outcome_counts_hits_and_false_alerts() -> None:
    outcome = judge([(SERIES, _alert_at(10, 200, 425, 430))], 1.0)
    assert (outcome.hits, outcome.windows, outcome.false_alerts) == (1, 1, 1)
    assert (outcome.precision, outcome.recall, outcome.delay) == (0.5, 1.0, 0.25)
    assert outcome.weeks == pytest.approx(849 / 168)
