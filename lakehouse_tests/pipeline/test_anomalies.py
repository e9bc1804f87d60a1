"""Anomalies of a stream: found by day, the same however the days are computed, and stale when an earlier day changes."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.auditing.anomalies import check_anomalies
from lakehouse.auditing.context import Context
from lakehouse.auditing.file_reads import FileReads
from lakehouse.auditing.findings import Finding
from lakehouse.contracts.odcs import load_contract
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import columns_of, scan_sql
from lakehouse.pipeline.anomalies import stale_anomaly_days, write_anomalies
from lakehouse.pipeline.commits import replace_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.properties import sources_of
from lakehouse.pipeline.table_specs import anomaly_tables, table_specs
from lakehouse.settings import Settings
from lakehouse.storage.objects.connection import Connection
from lakehouse_tests.pipeline.own import copy_stream

FIRST = date(2025, 3, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(6)]
STEP = timedelta(minutes=5)
ROWS = 288


@pytest.fixture
def lake(connection: Connection, tmp_path: Path) -> Iterator[tuple[Lake, Stream]]:
    name = f"sensors_{tmp_path.name[-6:].lower().replace('-', '_')}"
    stream = Stream(name, folder := copy_stream(tmp_path, name, "iot"), load_contract(folder))
    lake = Lake(Settings(home=tmp_path / "home"), connection)
    lake.streams = {name: stream}
    lake.tables.ensure(table_specs([stream]))
    yield lake, stream
    lake.engine.close()


def _values(device: str) -> "np.ndarray[Any, Any]":
    random = np.random.default_rng(ord(device[-1]))
    row = np.arange(len(DAYS) * ROWS)
    return 20 + 3 * np.sin(2 * np.pi * row / ROWS) + random.normal(0, 0.5, len(row))


def _fill(lake: Lake, stream: Stream, days: list[date], spikes: dict[tuple[str, date], float]) -> None:
    """Write silver of two devices; one falls silent at noon of the last day. A spike is at 06:00."""
    rows = []
    for device in ("d1", "d2"):
        values = _values(device).tolist()
        for day in days:
            start = DAYS.index(day) * ROWS
            of_day = ROWS // 2 if device == "d2" and day == DAYS[-1] else ROWS
            midnight = datetime(day.year, day.month, day.day)
            made = [
                {"dt": day, "device_id": device, "event_time": midnight + at * STEP, "value_normalised": value}
                for at, value in enumerate(values[start : start + of_day])
            ]
            made[72]["value_normalised"] = spikes.get((device, day), made[72]["value_normalised"])
            rows += made
    table = lake.tables.load(f"silver.{stream.name}")
    given = {"event_id": "device_id || event_time", "metric": "'temperature'"}
    columns = ", ".join(
        f"{given.get(name, name if name in rows[0] else 'null')}::{kind} as {name}" for name, kind in columns_of(table)
    )
    with lake.engine.cursor() as cursor:
        cursor.register("made", pa.Table.from_pylist(rows))
        replace_days(lake, f"silver.{stream.name}", f"select {columns} from made", days, cursor=cursor)


def _rows(lake: Lake, stream: Stream, what: str) -> list[tuple[Any, ...]]:
    scan = scan_sql(lake.tables.load(f"serving.{stream.name}_{what}"))
    with lake.engine.cursor() as cursor:
        return cursor.execute(f"select * from {scan} order by all").fetchall()


def _kinds(lake: Lake, stream: Stream) -> list[tuple[date, str, str]]:
    with lake.engine.cursor() as cursor:
        scan = scan_sql(lake.tables.load(f"serving.{stream.name}_anomalies"))
        return cursor.execute(f"select dt, device_id, kind from {scan} order by event_time").fetchall()


def test_spike_and_silence_are_found_and_days_do_not_depend_on_the_runs(lake: tuple[Lake, Stream]) -> None:
    _fill(*lake, DAYS, {("d1", DAYS[4]): 90.0})
    result = write_anomalies(*lake, DAYS)
    assert sorted(result.anomalies.partitions) == sorted(result.states.partitions) == [str(day) for day in DAYS]
    kinds = _kinds(*lake)
    assert (DAYS[4], "d1", "spike") in kinds
    assert (DAYS[5], "d2", "silence") in kinds
    assert len(kinds) <= 4
    assert stale_anomaly_days(*lake) == set()
    whole = _rows(*lake, "anomalies"), _rows(*lake, "anomaly_state")
    for day in reversed(DAYS):
        again = write_anomalies(*lake, [day])
        assert again.states.partitions == {}
    assert (_rows(*lake, "anomalies"), _rows(*lake, "anomaly_state")) == whole
    assert stale_anomaly_days(*lake) == set()
    spike = next(row for row in whole[0] if row[4] == "spike")
    value, expected, low, high, score = spike[5:10]
    assert low < expected < high < value == 90.0
    assert score > 1
    silence = next(row for row in whole[0] if row[4] == "silence")
    assert silence[3] < datetime(2025, 3, 6, 18, tzinfo=UTC).replace(tzinfo=None)


def test_late_rows_make_the_later_days_stale(lake: tuple[Lake, Stream]) -> None:
    _fill(*lake, DAYS, {})
    write_anomalies(*lake, DAYS)
    _fill(*lake, [DAYS[2]], {("d1", DAYS[2]): 60.0})
    assert stale_anomaly_days(*lake) == {DAYS[2]}
    # A run of that day alone, as Dagster's page starts one, leaves the next days stale.
    write_anomalies(*lake, [DAYS[2]])
    assert stale_anomaly_days(*lake) == {DAYS[3]}
    written = write_anomalies(*lake, [DAYS[3]], cascade=True)
    assert sorted(written.anomalies.partitions) == [str(day) for day in DAYS[3:]]
    assert stale_anomaly_days(*lake) == set()
    later = _rows(*lake, "anomalies"), _rows(*lake, "anomaly_state")
    write_anomalies(*lake, DAYS)
    assert (_rows(*lake, "anomalies"), _rows(*lake, "anomaly_state")) == later


def test_history_that_is_loaded_later_changes_the_days_after_it(lake: tuple[Lake, Stream]) -> None:
    _fill(*lake, DAYS[2:], {})
    write_anomalies(*lake, DAYS[2:])
    _fill(*lake, DAYS[:2], {})
    assert stale_anomaly_days(*lake) == set(DAYS[:2])
    write_anomalies(*lake, DAYS[:2], cascade=True)
    assert stale_anomaly_days(*lake) == set()
    rows = _rows(*lake, "anomaly_state")
    assert write_anomalies(*lake, DAYS).states.partitions == {}
    assert _rows(*lake, "anomaly_state") == rows


def test_declaring_a_rule_computes_no_history_until_it_changes(lake: tuple[Lake, Stream]) -> None:
    opened, stream = lake
    anomalies, states = anomaly_tables(stream)
    _fill(*lake, DAYS[:3], {})
    opened.tables.catalog.drop_table(anomalies)
    opened.tables.catalog.drop_table(states)
    assert opened.bootstrap() == [f"{anomalies}: created", f"{states}: created"]
    assert stale_anomaly_days(*lake) == set()
    _fill(*lake, DAYS[2:4], {})
    assert stale_anomaly_days(*lake) == set(DAYS[2:4])
    write_anomalies(*lake, DAYS[2:4])
    assert stale_anomaly_days(*lake) == set()
    write_anomalies(*lake, [DAYS[0]])
    assert stale_anomaly_days(*lake) == {DAYS[2]}


def test_audit_reports_anomalies_that_silver_does_not_give(lake: tuple[Lake, Stream]) -> None:
    opened, stream = lake
    _fill(*lake, DAYS, {("d1", DAYS[4]): 90.0})
    write_anomalies(*lake, DAYS)
    assert _audited(opened, stream) == []
    anomalies = opened.tables.load(anomaly_tables(stream)[0])
    (snapshot,) = anomalies.metadata.snapshots
    sources = sources_of(snapshot)
    select = f"select * replace (value + 1 as value) from {scan_sql(anomalies)} where dt = date '{DAYS[4]}'"
    replace_days(opened, anomaly_tables(stream)[0], select, [DAYS[4]], sources=sources)
    (finding,) = _audited(opened, stream)
    assert (finding.layer, finding.partition, finding.state) == ("serving", str(DAYS[4]), "wrong")
    assert "has other numbers in: 1" in finding.detail
    _fill(*lake, [DAYS[1]], {("d1", DAYS[1]): 60.0})
    assert [(finding.partition, finding.state) for finding in _audited(opened, stream)] == [
        (str(DAYS[1]), "stale"),
        (str(DAYS[4]), "wrong"),
    ]


def _audited(lake: Lake, stream: Stream) -> list[Finding]:
    context = Context(lake, stream, DAYS[0], DAYS[-1], FileReads(lake.connection))
    check_anomalies(context)
    return context.report.findings
