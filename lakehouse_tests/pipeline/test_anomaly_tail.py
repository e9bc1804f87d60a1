"""The tail finds what a run over the whole day finds, however its rows arrive."""

from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.contracts.model import AnomalyRule
from lakehouse.errors import UnreadableTableError
from lakehouse.pipeline.anomaly_detection import AnomalyTail, detect_day, open_detector
from lakehouse.pipeline.anomaly_series import SeriesRows

RULE = AnomalyRule("value", ("device",))
DAY = date(2025, 3, 2)
START = 1_740_873_600.0
ROWS = 1000


def _rows(device: str, *, until: int = ROWS, spike: int | None = None) -> SeriesRows:
    random = np.random.default_rng(ord(device[-1]))
    values = random.normal(10, 1, ROWS)
    if spike is not None:
        values[spike] = 100
    keys = pa.array([f"{device} {number}" for number in range(until)])
    return SeriesRows((device,), START + 60.0 * np.arange(until), values[:until], keys)


def _part(rows: SeriesRows, chosen: "list[int] | np.ndarray[tuple[int], np.dtype[np.int64]]") -> SeriesRows:
    order = np.sort(np.array(chosen))
    return SeriesRows(rows.series, rows.times[order], rows.values[order], rows.keys.take(pa.array(order)))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), parts=st.integers(1, 12), late=st.floats(0, 0.3), again=st.booleans())
def test_tail_finds_what_a_run_over_the_day_finds(seed: int, parts: int, late: float, again: bool) -> None:
    whole = [_rows("d1", spike=700), _rows("d2", until=600)]
    expected = detect_day(RULE, DAY, {}, whole)
    assert {(row["device"], row["kind"]) for row in expected.rows} >= {("d1", "spike"), ("d2", "silence")}
    random = np.random.default_rng(seed)
    tail = AnomalyTail(RULE, {})
    arrival = [np.arange(len(one.times)) + (random.random(len(one.times)) < late) * 300 for one in whole]
    edges = np.sort(random.integers(0, ROWS + 300, parts))
    for first, last in zip([-1, *edges], [*edges, 10_000], strict=True):
        for one, arrived in zip(whole, arrival, strict=True):
            chosen = np.flatnonzero((arrived > first) & (arrived <= last))
            if len(chosen):
                tail.add(_part(one, chosen))
                if again:
                    tail.add(_part(one, chosen[:3]))
    found = tail.anomalies(START)
    assert sorted(map(repr, found)) == sorted(map(repr, expected.rows))
    assert tail.states(0) == expected.states


def test_row_that_is_sent_again_with_another_value_replaces_the_earlier_one() -> None:
    tail = AnomalyTail(RULE, {})
    tail.add(_rows("d1", spike=700))
    assert "spike" in {row["kind"] for row in tail.anomalies()}
    tail.add(_rows("d1"))
    assert tail.anomalies() == detect_day(RULE, DAY, {}, [_rows("d1")]).rows


def test_one_fast_clock_silences_no_other_series() -> None:
    several = [_rows(f"d{number}") for number in range(1, 10)] + [_rows("f")]
    ahead = SeriesRows(("f",), several[-1].times + 36_000, several[-1].values, several[-1].keys)
    rows = detect_day(RULE, DAY, {}, [*several[:-1], ahead]).rows
    assert [row for row in rows if row["kind"] == "silence"] == []


def test_silence_is_reported_once_over_days() -> None:
    first = detect_day(RULE, DAY, {}, [_rows("d1"), _rows("d2", until=600)])
    silences = [row for row in first.rows if row["kind"] == "silence"]
    assert [row["device"] for row in silences] == ["d2"]
    assert silences[0]["event_time"] < datetime(2025, 3, 2, 12)
    one = _rows("d1")
    next_day = SeriesRows(one.series, one.times + 86_400, one.values, one.keys)
    later = detect_day(RULE, date(2025, 3, 3), first.states, [next_day])
    assert [row for row in later.rows if row["device"] == "d2"] == []


def test_series_without_rows_for_a_month_is_forgotten() -> None:
    first = detect_day(RULE, DAY, {}, [_rows("d1")])
    assert detect_day(RULE, date(2025, 3, 31), first.states, []).states == first.states
    assert detect_day(RULE, date(2025, 4, 3), first.states, []).states == {}


@pytest.mark.parametrize("stored", ["", "not a state", "Vr8TU"])
def test_damaged_state_is_refused(stored: str) -> None:
    with pytest.raises(UnreadableTableError, match="compute its day again"):
        open_detector(RULE, stored)
