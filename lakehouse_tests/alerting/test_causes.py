"""A cause gives one message, another after a while, and one at its end. What is missing from the metrics says nothing."""

import itertools
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from lakehouse.alerting.config import AlertsConfig, load_alerts
from lakehouse.alerting.evaluate import advance
from lakehouse.alerting.message import Cause, Message, failed_run
from lakehouse.alerting.observations import observe, read_numbers
from lakehouse.alerting.process import evaluate
from lakehouse.alerting.schema import CAUSE_KINDS
from lakehouse.alerting.store import AlertStore, Report, report
from lakehouse.alerting.stream_alerts import AlertJson, NewAlerts, quiet, take_new_alerts
from lakehouse.http.published_metrics import publish, render
from lakehouse.settings import Settings
from lakehouse_tests.alerting.conftest import Alerts

TEAM = '[receivers.team]\nkind = "webhook"\nurl = "http://127.0.0.1:9/x"\n'
TWO = TEAM + TEAM.replace("team", "other")
NOW = 1_800_000_000.0
MINUTE = 60.0
BLOCKED = "The quality gate blocks rows of iot: 2 days, 0 landing objects."


def gauge(name: str, value: float, **labels: str) -> GaugeMetricFamily:
    metric = GaugeMetricFamily(name, "x", labels=list(labels))
    metric.add_metric(list(labels.values()), value)
    return metric


def blocked(days: float, stream: str = "iot") -> GaugeMetricFamily:
    return gauge("lakehouse_partitions", days, stream=stream, layer="silver", state="held_back")


class Home:
    """A home whose causes are evaluated at times of the test's own."""

    def __init__(self, settings: Settings, config: AlertsConfig) -> None:
        self.settings, self.config = settings, config
        self.store = AlertStore(settings)

    def evaluate(self, minutes: float, *metrics: Metric) -> list[Message]:
        """Publish metrics and evaluate causes, so many minutes after the start."""
        publish(self.settings, "serving", metrics)
        return evaluate(self.settings, self.store, self.config, NOW + minutes * MINUTE)

    def titles(self, minutes: float, *metrics: Metric) -> list[str]:
        return [message.title for message in self.evaluate(minutes, *metrics)]

    def waiting(self) -> list[tuple[str, str]]:
        return [(each.receiver, each.message.title) for each in self.store.waiting()]


MakeHome = Callable[[str], Home]


@pytest.fixture
def home(alerts: Alerts) -> MakeHome:
    return lambda text: Home(*alerts(text))


def test_cause_is_told_once_again_after_a_while_and_at_its_end(home: MakeHome) -> None:
    lake = home("repeat_minutes = 60\n" + TEAM)
    first = lake.evaluate(0, blocked(2))
    assert [message.title for message in first] == [f"[CRITICAL] {BLOCKED}"]
    assert (first[0].cause.stream, first[0].cause.owner, first[0].state) == ("iot", "device-platform", "open")
    for minute in (1, 30, 59):
        assert lake.titles(minute, blocked(2)) == []
    assert lake.titles(60, blocked(2)) == [], "the first message is not even sent"
    for waiting in lake.store.waiting():
        lake.store.mark_sent(waiting)
    assert lake.titles(60, blocked(3)) == [f"[STILL CRITICAL] {BLOCKED.replace('2 days', '3 days')}"]
    assert lake.titles(61, blocked(0)) == []
    assert lake.titles(62, blocked(1)) == [], "it comes and goes"
    assert lake.titles(63, blocked(0)) == []
    assert [title.split("]")[0] for title in lake.titles(65, blocked(0))] == ["[RESOLVED"]
    assert lake.titles(66, blocked(0)) == []
    assert lake.titles(67, blocked(1))[0].startswith("[CRITICAL]"), "a new cause"


def test_missing_numbers_neither_open_nor_resolve(home: MakeHome) -> None:
    lake = home(TEAM)
    assert lake.titles(0) == []
    assert len(lake.titles(1, blocked(2))) == 1
    assert [lake.titles(minute) for minute in (2, 30, 100)] == [[], [], []]
    assert [row.cause.summary for row in lake.store.open_causes()] == [BLOCKED]


def test_cause_of_a_removed_stream_is_over(home: MakeHome) -> None:
    lake = home(TEAM)
    with lake.store.transaction() as transaction:
        advance(transaction, observe(read_numbers(render([blocked(2, "gone")])), NOW), lake.config, NOW)
    assert [row.cause.stream for row in lake.store.open_causes()] == ["gone"]
    assert [lake.evaluate(minute, blocked(2, "gone")) for minute in (1, 2)] == [[], []]
    assert [message.state for message in lake.evaluate(4, blocked(2, "gone"))] == ["resolved"]
    assert lake.evaluate(5, blocked(2, "gone")) == []


CAUSES: list[tuple[str, list[Metric], list[Metric]]] = [
    (
        "data_late",
        [gauge("lakehouse_data_age_seconds", 90, stream="iot"), gauge("lakehouse_data_age_limit_seconds", 60, stream="iot")],
        [gauge("lakehouse_data_age_seconds", 50, stream="iot"), gauge("lakehouse_data_age_limit_seconds", 60, stream="iot")],
    ),
    (
        "partition_blocked",
        [gauge("lakehouse_blocked_objects", 1, stream="iot")],
        [gauge("lakehouse_blocked_objects", 0, stream="iot")],
    ),
    (
        "audit_finding",
        [gauge("lakehouse_audit_wrong_partitions", 1, stream="iot")],
        [gauge("lakehouse_audit_wrong_partitions", 0, stream="iot")],
    ),
    (
        "run_failure",
        [gauge("lakehouse_last_run_failed", 1, job_name="refresh", stream="iot")],
        [gauge("lakehouse_last_run_failed", 0, job_name="refresh", stream="iot")],
    ),
    (
        "daemon_down",
        [gauge("dagster_daemon_last_heartbeat_timestamp_seconds", NOW - 300, daemon_type="SENSOR")],
        [gauge("dagster_daemon_last_heartbeat_timestamp_seconds", NOW + 9e9, daemon_type="SENSOR")],
    ),
    ("process_down", [gauge("lakehouse_process_up", 0, process="http")], [gauge("lakehouse_process_up", 1, process="http")]),
    ("ingest_down", [gauge("lakehouse_ingest_ready", 0)], [gauge("lakehouse_ingest_ready", 1)]),
    (
        "table_unreadable",
        [gauge("lakehouse_table_unreadable", 1, table="gold.iot_daily", stream="iot")],
        [gauge("lakehouse_table_unreadable", 0, table="gold.iot_daily", stream="iot")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "bad", "good"), CAUSES, ids=[kind for kind, _, _ in CAUSES])
def test_every_cause_opens_and_is_resolved(home: MakeHome, kind: str, bad: list[Metric], good: list[Metric]) -> None:
    lake = home(TEAM)
    assert lake.evaluate(0, *good) == []
    opened = [message for minute in (1, 2, 7) for message in lake.evaluate(minute, *bad)]
    assert [(message.cause.kind, message.state) for message in opened] == [(kind, "open")]
    ended = [message for minute in (8, 11, 12) for message in lake.evaluate(minute, *good)]
    assert [(message.cause.kind, message.state) for message in ended] == [(kind, "resolved")]


def test_process_that_restarts_in_seconds_is_no_cause(home: MakeHome) -> None:
    lake = home(TEAM)
    for minute in range(4):
        assert lake.titles(minute, gauge("lakehouse_process_up", 0, process="http")) == []
        assert lake.titles(minute + 0.2, gauge("lakehouse_process_up", 1, process="http")) == []


def test_process_that_publishes_nothing_is_reported_by_another(home: MakeHome) -> None:
    lake = home(TEAM)
    publish(lake.settings, "processes", [gauge("lakehouse_process_up", 1, process="daemon")])
    publish(lake.settings, "dagster", [])
    old = time.time() - 100
    for name in ("processes", "dagster"):
        os.utime(lake.settings.root / "metrics" / f"{name}.prom", (old, old))
    lake.evaluate(0)
    titles = lake.titles(1)
    assert [title.split(":")[0] for title in titles] == [
        "[WARNING] The metrics of dagster are 0",
        "[CRITICAL] The supervisor hangs or does not run",
    ]


def test_failed_run_is_told_at_once_with_its_error_and_resolved_by_a_later_run(home: MakeHome) -> None:
    lake = home(TEAM)

    def runs(failed: int) -> Metric:
        return gauge("lakehouse_last_run_failed", failed, job_name="refresh", stream="iot")

    for _ in range(2):  # Dagster evaluates the sensor again when it was killed
        report(lake.settings, "run 1", failed_run("refresh", "iot", run_id="1", error="no disk"))
    (message,) = lake.evaluate(0, runs(0))
    assert (message.title, message.lines[-2:]) == (
        "[WARNING] The last run of refresh of iot failed.",
        ["Error: no disk", "Do: Open it in Dagster; its log has the error."],
    )
    report(lake.settings, "run 1", failed_run("refresh", "iot", run_id="1", error="no disk"))
    report(lake.settings, "run 2", failed_run("refresh", "iot", run_id="2", error="still no disk"))
    assert lake.evaluate(1, runs(1)) == []
    assert [row.count for row in lake.store.open_causes()] == [2]
    assert lake.evaluate(2, runs(0)) == []
    assert [message.state for message in lake.evaluate(3, runs(0))] == ["resolved"]


def test_report_without_a_receiver_is_not_kept(tmp_path: Any) -> None:
    report(Settings(home=tmp_path), "run 1", failed_run("refresh", "iot"))
    assert not (tmp_path / "alerts").exists()


def test_rules_choose_receivers_and_their_hours(home: MakeHome) -> None:
    lake = home(
        TWO + '[[rules]]\nreceivers = ["team"]\nseverity = "critical"\n'
        '[[rules]]\nreceivers = ["other"]\ncauses = ["partition_blocked", "data_late"]\nhours = "10:00-12:00"\n'
    )  # NOW is 08:00 UTC
    lake.evaluate(0, blocked(2))
    assert [each.receiver for each in lake.store.waiting()] == ["team", "other"]
    assert [each.receiver for each in lake.store.due(NOW + MINUTE)] == ["team"]
    assert [each.receiver for each in lake.store.due(NOW + 120 * MINUTE)] == ["team", "other"]
    lake.evaluate(10, blocked(0))
    lake.evaluate(13, blocked(0))
    assert [(each.receiver, each.message.state) for each in lake.store.waiting()] == [
        ("team", "open"),
        ("other", "open"),
        ("team", "resolved"),
        ("other", "resolved"),
    ], "causes resolved before the hours began are reported too"


def test_receiver_that_is_down_is_told_to_the_others(home: MakeHome) -> None:
    lake = home(TWO)
    lake.evaluate(0, blocked(2))
    for waiting in lake.store.waiting():
        if waiting.receiver == "team":
            lake.store.mark_failed(waiting, NOW, "connection refused")
        else:
            lake.store.mark_sent(waiting)
    assert lake.titles(9, blocked(2)) == []
    assert lake.titles(11, blocked(2)) == ["[WARNING] The receiver team accepts no messages: connection refused"]
    assert [receiver for receiver, _ in lake.waiting()] == ["team", "other"]


def test_messages_to_a_removed_receiver_are_dropped_by_name(home: MakeHome) -> None:
    lake = home(TWO)
    lake.evaluate(0, blocked(2))
    with lake.store.transaction() as transaction:
        assert transaction.drop_removed_receivers(["team"]) == ["other"]
    assert [receiver for receiver, _ in lake.waiting()] == ["team"]


def alert(number: int, kind: str = "hot", severity: str = "warning") -> AlertJson:
    return {
        "stream": "iot", "alert": kind, "severity": severity, "entity": f"d{number}", "event_time": "2026-01-01T00:00:00Z",
        "value": float(number), "threshold": None, "message": "too hot", "dt": "2026-01-01", "event_key": str(number),
    }  # fmt: skip


def test_alerts_of_a_stream_are_one_cause_by_kind_and_none_is_lost(home: MakeHome) -> None:
    lake = home("repeat_minutes = 10\nquiet_minutes = 30\n" + TEAM)

    def feed(minutes: float, alerts: list[AlertJson]) -> list[Message]:
        from lakehouse.alerting.evaluate import advance

        now = NOW + minutes * MINUTE
        with lake.store.transaction() as transaction:
            fired = take_new_alerts(transaction, NewAlerts("c", alerts), now)
            known = [row.cause for row in transaction.causes().values()]
            made = advance(transaction, [*fired, *quiet(known, fired)], lake.config, now)
        for waiting in lake.store.waiting():
            lake.store.mark_sent(waiting)
        return made

    first = feed(0, [*map(alert, range(1000)), alert(7, "broken", "critical")])
    assert [(message.title, message.count) for message in first] == [
        ("[WARNING] iot: hot: too hot", 1000),
        ("[CRITICAL] iot: broken: too hot", 1),
    ]
    assert feed(1, [alert(n) for n in range(900, 1100)]) == [], "900 to 999 were told before"
    assert [(message.state, message.count) for message in feed(11, [alert(1100)])] == [("again", 101)]
    assert feed(12, [alert(1101)]) == []
    assert feed(13, []) == []
    assert [(message.state, message.count) for message in feed(22, [])] == [("again", 1)]
    assert feed(23, [alert(1102)]) == []
    assert [(message.cause.key, message.count) for message in feed(31, [])] == [("iot/broken/critical", 0)]
    assert [(message.state, message.count) for message in feed(32, [alert(1103)])] == [("again", 2)]


numbers = st.sampled_from([None, 0.0, 2.0])


@hypothesis_settings(max_examples=25)
@given(st.lists(numbers, min_size=2, max_size=10), st.sets(st.integers(0, 9), max_size=3))
def test_each_receiver_sees_open_and_resolved_in_turns(series: list[float | None], kills: set[int]) -> None:
    with TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), webhook_url="http://127.0.0.1:9/x")
        loaded = load_alerts(settings, ())
        assert loaded is not None
        config = replace(loaded, rules=[replace(loaded.rules[0], causes=CAUSE_KINDS, repeat_seconds=5 * MINUTE)])
        store, states = AlertStore(settings), []
        for step, value in enumerate(series):
            observed = [] if value is None else observe(read_numbers(render([blocked(value)])), NOW)
            with suppress(KeyboardInterrupt), store.transaction() as transaction:
                advance(transaction, observed, config, NOW + 3 * step * MINUTE)
                if step in kills:
                    raise KeyboardInterrupt
            for waiting in store.waiting():
                states.append(waiting.message.state)
                store.mark_sent(waiting)
        for before, after in itertools.pairwise(["resolved", *states]):
            assert (before == "resolved") == (after == "open")
        assert bool(store.open_causes()) == (bool(states) and states[-1] != "resolved")


def test_only_the_lines_that_causes_are_found_by_are_parsed() -> None:
    lines = [
        b'lakehouse_partitions{stream="iot",layer="silver",state="stale"} 5',
        b'lakehouse_table_rows{table="x"} 1',
        b"rubbish",
    ]
    assert dict(read_numbers(b"\n".join(lines))) == {}


def test_report_is_kept_until_it_is_taken(home: MakeHome) -> None:
    lake = home(TEAM)
    cause = Cause(kind="run_failure", key="a/", severity="warning", summary="x", action="y")
    lake.store.report("1", NOW, Report(cause))
    with suppress(KeyboardInterrupt), lake.store.transaction() as transaction:
        assert [each.cause for each in transaction.take_reports(NOW)] == [cause]
        raise KeyboardInterrupt
    with lake.store.transaction() as transaction:
        assert [each.cause for each in transaction.take_reports(NOW)] == [cause]
    with lake.store.transaction() as transaction:
        assert transaction.take_reports(NOW) == []
