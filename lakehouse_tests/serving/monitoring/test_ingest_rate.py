"""The ingest rate follows the gateway's counters, across its restarts too."""

from pathlib import Path

import pytest

from lakehouse.http.metrics import EventCounts, read_event_counts
from lakehouse.serving.monitoring import ingest_rate
from lakehouse.serving.monitoring.ingest_rate import IngestRate, Rate


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> dict[str, EventCounts]:
    counts: dict[str, EventCounts] = {}
    monkeypatch.setattr(ingest_rate, "read_event_counts", lambda _: dict(counts))
    return counts


def test_rate_is_events_per_second_across_a_restart(counters: dict[str, EventCounts]) -> None:
    rates = IngestRate(Path())
    counters["iot"] = EventCounts(1_000_000, 10)
    rates.sample(100.0)
    assert rates.rate("iot").now == 0.0  # when earlier events arrived is unknown
    assert rates.broken_share("iot") is None
    assert rates.last_arrival("iot") is None
    for second in range(1, 11):
        counters["iot"] = EventCounts(1_000_000 + 200 * second, 10 + 2 * second)
        rates.sample(100.0 + second)
    assert rates.rate("iot").now == 200.0
    assert rates.rate("iot").recent[-2:] == (200.0, 200.0)
    assert rates.rate("iot").recent[-3] == 0.0
    assert rates.broken_share("iot") == 0.01
    counters["iot"] = EventCounts(50, 0)  # the gateway restarted
    rates.sample(111.0)
    assert rates.rate("iot").now == (4 * 200 + 50) / 5
    assert rates.last_arrival("iot") == 111.0
    for second in range(112, 120):
        rates.sample(float(second))
    assert rates.rate("iot").now == 0.0
    assert rates.last_arrival("iot") == 111.0


def test_counts_older_than_the_window_are_dropped(counters: dict[str, EventCounts]) -> None:
    rates = IngestRate(Path())
    for second in range(0, 4000, 10):
        counters["iot"] = EventCounts(second, second // 10)
        rates.sample(float(second))
    assert len(rates._samples) < 40
    assert sum(rates.rate("iot").recent) * 5 == 300


def test_unknown_stream_or_missing_counters_have_rate_zero(tmp_path: Path) -> None:
    rates = IngestRate(tmp_path / "nothing")
    assert rates.rate("iot") == Rate()
    rates.sample()
    assert set(rates.rate("iot").recent) == {0.0}
    assert read_event_counts(tmp_path / "nothing") == {}
