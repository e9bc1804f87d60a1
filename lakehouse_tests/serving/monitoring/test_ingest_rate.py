"""The rate of now is what the server counted, over restarts too."""

from pathlib import Path

import pytest

from lakehouse.http.metrics import EventCounts, read_event_counts
from lakehouse.serving.monitoring import ingest_rate as flow
from lakehouse.serving.monitoring.ingest_rate import Flow


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> dict[str, EventCounts]:
    found: dict[str, EventCounts] = {}
    monkeypatch.setattr(flow, "read_event_counts", lambda _: dict(found))
    return found


def test_a_rate_is_events_by_seconds_and_a_restart_no_gap(counters: dict[str, EventCounts]) -> None:
    watched = Flow(Path())
    counters["iot"] = EventCounts(1_000_000, 10)
    watched.look(100.0)
    assert watched.rate("iot").now == 0.0  # what was counted before says nothing about now
    assert watched.broken_share("iot") is None
    assert watched.last_arrival("iot") is None
    for second in range(1, 11):
        counters["iot"] = EventCounts(1_000_000 + 200 * second, 10 + 2 * second)
        watched.look(100.0 + second)
    assert watched.rate("iot").now == 200.0
    assert watched.rate("iot").recent[-2:] == (200.0, 200.0)
    assert watched.rate("iot").recent[-3] == 0.0
    assert watched.broken_share("iot") == 0.01
    counters["iot"] = EventCounts(50, 0)  # it began to count anew
    watched.look(111.0)
    assert watched.rate("iot").now == (4 * 200 + 50) / 5
    assert watched.last_arrival("iot") == 111.0
    for second in range(112, 120):
        watched.look(float(second))
    assert watched.rate("iot").now == 0.0
    assert watched.last_arrival("iot") == 111.0


def test_what_is_older_than_five_minutes_is_forgotten(counters: dict[str, EventCounts]) -> None:
    watched = Flow(Path())
    for second in range(0, 4000, 10):
        counters["iot"] = EventCounts(second, second // 10)
        watched.look(float(second))
    assert len(watched._looks) < 40
    assert sum(watched.rate("iot").recent) * 5 == 300


def test_a_stream_or_server_that_never_was_flows_not(tmp_path: Path) -> None:
    watched = Flow(tmp_path / "nothing")
    assert watched.rate("iot") == flow.Rate()
    watched.look()
    assert set(watched.rate("iot").recent) == {0.0}
    assert read_event_counts(tmp_path / "nothing") == {}
