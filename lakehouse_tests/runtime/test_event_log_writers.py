"""An event history with several writers holds every event that was acknowledged, however the writers end."""

import multiprocessing
import signal
import threading
from pathlib import Path

import pytest
from dagster import (
    AssetKey,
    EventLogEntry,
)

from lakehouse.runtime.event_log import PooledSqliteEventLogStorage
from lakehouse_tests.runtime.event_writer import materialization, partition, writer


def test_failed_batch_stores_nothing(history: PooledSqliteEventLogStorage) -> None:
    history.store_event(materialization("run", 0))
    wrong = materialization("run", 2)._replace(timestamp="yesterday")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        history.store_event_batch([materialization("run", 1), wrong])
    assert history.get_materialized_partitions(AssetKey(["silver", "run"])) == {"0"}
    history.store_event(materialization("run", 3))
    assert history.get_materialized_partitions(AssetKey(["silver", "run"])) == {"0", "3"}


def test_four_processes_create_and_write_at_once(tmp_path: Path) -> None:
    process = writer(tmp_path, *((f"run{number}", 1 + 9 * (number % 2), 100) for number in range(4)))
    assert process.communicate(timeout=120)
    assert process.returncode == 0, "each of the four ended well"

    history = PooledSqliteEventLogStorage(str(tmp_path))
    ids = []
    for number in range(4):
        run = f"run{number}"
        expected = [str(n) for n in range(100 * (1 + 9 * (number % 2)))]
        records = history.get_records_for_run(run).records
        key = AssetKey(["silver", run])
        latest = history.get_latest_materialization_events([key])[key]
        assert [partition(record.event_log_entry) for record in records] == expected
        assert history.get_materialized_partitions(key) == set(expected)
        assert latest is not None
        assert partition(latest) == expected[-1]
        ids += [record.storage_id for record in records]
    assert sorted(ids) == list(range(1, 2201))
    history.dispose()


def test_killed_writer_loses_no_acknowledged_event(tmp_path: Path) -> None:
    process = writer(tmp_path, ("run", 10, 100_000))
    assert process.stdout is not None
    acknowledged = 0
    for line in process.stdout:
        acknowledged = int(line)
        if acknowledged >= 300:
            process.send_signal(signal.SIGKILL)
            break
    acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith("\n"))])
    process.stdout.close()
    assert process.wait(timeout=30) == -signal.SIGKILL

    history = PooledSqliteEventLogStorage(str(tmp_path))
    kept = len(history.get_records_for_run("run").records)
    assert kept % 10 == 0
    assert acknowledged <= kept <= acknowledged + 10
    assert len(history.get_materialized_partitions(AssetKey(["silver", "run"]))) == kept
    history.store_event(materialization("after", 0))
    assert len(history.get_records_for_run("after").records) == 1
    with history.index_connection() as connection:  # type: ignore[no-untyped-call]
        assert connection.exec_driver_sql("pragma integrity_check").scalar() == "ok"
    history.dispose()


def test_killed_creator_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "event_log.draft").write_bytes(b"half of a database")
    (tmp_path / "event_log.draft-wal").write_bytes(b"half of a log")
    history = PooledSqliteEventLogStorage(str(tmp_path))
    history.store_event(materialization("run", 0))
    assert len(history.get_records_for_run("run").records) == 1
    history.dispose()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["event_log.db", "event_log.db.lock"]


def test_watcher_sees_each_event_of_other_processes_once(history: PooledSqliteEventLogStorage, tmp_path: Path) -> None:
    history.store_event(materialization("run", -1))
    cursor = history.get_records_for_run("run").cursor
    history.store_event(materialization("run", -2))
    seen: list[str | None] = []
    complete = threading.Event()

    def see(event: EventLogEntry, _cursor: str) -> None:
        seen.append(partition(event))
        if len(seen) == 31:
            complete.set()

    history.watch("run", cursor, see)
    assert writer(tmp_path / "history", ("run", 1, 30)).communicate(timeout=60)
    assert complete.wait(10)
    history.end_watch("run", see)
    history.store_event(materialization("run", -3))
    assert seen == ["-2", *(str(number) for number in range(30))]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the danger is what is tested
def test_forked_process_writes_beside_its_parent(history: PooledSqliteEventLogStorage) -> None:
    history.store_event(materialization("parent", 0))
    child = multiprocessing.get_context("fork").Process(
        target=lambda: history.store_event_batch([materialization("child", number) for number in range(20)])
    )
    child.start()
    history.store_event(materialization("parent", 1))
    child.join(30)
    history.store_event(materialization("parent", 2))
    assert child.exitcode == 0
    assert [len(history.get_records_for_run(run).records) for run in ("parent", "child")] == [3, 20]
