"""Functions run on Spark as they do on this machine."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pyiceberg.table import Table

from lakehouse.engine import shipping
from lakehouse.engine.connection import DuckDB, scan_sql
from lakehouse.engine.shipping import Machine, pack
from lakehouse.engine.spark import ITEM_BYTES, SparkWorkers
from lakehouse.engine.workers import LocalWorkers, Workers
from lakehouse.errors import EngineError, UnreadableTableError
from lakehouse.pipeline.lake import Lake
from lakehouse.storage.objects.connection import Connection
from lakehouse_tests.pipeline.own import Own


@pytest.fixture(params=["this machine", "Spark"])
def workers(request: pytest.FixtureRequest, connection: Connection, sail: str, shared_lake: Lake) -> Workers:
    if request.param == "this machine":
        return LocalWorkers(shared_lake.engine)
    return SparkWorkers(sail, _machine(connection))


def _machine(connection: Connection) -> Machine:
    return Machine(connection, memory_limit_mb=256, spill_mb=256)


def _doubled(engine: DuckDB, number: int) -> int:
    with engine.cursor() as cursor:
        ((doubled,),) = cursor.execute("select 2 * ?", [number]).fetchall()
    return int(doubled)


@pytest.mark.parametrize("count", [0, 1, 2, 8])
def test_results_come_in_the_order_of_their_items(workers: Workers, count: int) -> None:
    assert [*workers.spread(_doubled, range(count))] == [2 * number for number in range(count)]


def _fails(_: DuckDB, item: object) -> None:
    raise UnreadableTableError(f"silver.{item} can't be read.")


def test_error_of_a_function_is_raised(workers: Workers) -> None:
    with pytest.raises(UnreadableTableError, match=r"silver\.iot can't be read"):
        [*workers.spread(_fails, ["iot"])]


def _breaks(_: DuckDB, item: object) -> None:
    raise OSError(f"no disk for {item}")


def test_task_that_keeps_failing_is_an_error_with_its_reason(connection: Connection, sail: str) -> None:
    with pytest.raises(EngineError, match=r"Spark at sc://\S+ gave up: .*no disk for iot"):
        [*SparkWorkers(sail, _machine(connection)).spread(_breaks, ["iot"])]


def test_worker_with_another_release_is_refused(
    connection: Connection, sail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "version", lambda _: "0.0.1")
    with pytest.raises(
        EngineError, match=r"gave up: .*this worker has lakehouse 0\.0\.1, and its driver .*install the same"
    ):
        [*SparkWorkers(sail, _machine(connection)).spread(_doubled, [1])]


def test_folder_of_another_user_is_no_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert shipping._scratch().stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: 4321)
    (tmp_path / "lakehouse-worker-4321").symlink_to(tmp_path)
    with pytest.raises(EngineError, match="belongs to another user"):
        shipping._scratch()


def test_server_that_does_not_answer_is_named_within_seconds(connection: Connection) -> None:
    started = time.monotonic()
    with pytest.raises(EngineError, match=r"Spark at sc://127\.0\.0\.1:1 does not answer .*; see LAKEHOUSE_SPARK"):
        [*SparkWorkers("sc://127.0.0.1:1", _machine(connection)).spread(_doubled, [1])]
    assert time.monotonic() - started < 30


def test_missing_package_is_named_with_how_to_install_it(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.errors", None)
    with pytest.raises(EngineError, match=r"Run: pip install 'lakehouse\[spark\]'"):
        [*SparkWorkers("local[*]", _machine(connection)).spread(_doubled, [1])]


def test_large_parts_are_items_of_their_own(connection: Connection) -> None:
    workers = SparkWorkers("local[*]", _machine(connection))
    sizes = [1, ITEM_BYTES, 2, 3, ITEM_BYTES + 1]
    assert workers.split(sizes, lambda size: size) == [[1], [ITEM_BYTES], [2, 3], [ITEM_BYTES + 1]]
    assert workers.split(sizes) == [[size] for size in sizes]
    assert workers.split([]) == []


def test_small_runs_stay_on_this_machine(make_stream: Callable[..., Own]) -> None:
    own = make_stream(tables=False)
    own.lake.settings = own.lake.settings.model_copy(update={"engine": "spark", "spark_from_mb": 1})
    assert isinstance(own.lake.workers(own.stream, lambda: (1 << 20) - 1), LocalWorkers)
    assert isinstance(own.lake.workers(own.stream, lambda: 1 << 20), SparkWorkers)


def test_table_travels_as_the_address_of_its_metadata(make_stream: Callable[..., Own], sail: str) -> None:
    own = make_stream()
    table = own.lake.tables.load(f"silver.{own.name}")
    machine = _machine(own.lake.connection)
    assert len(pack(machine, _scan, table)) < 1000
    assert [*SparkWorkers(sail, machine).spread(_scan, [table])] == [scan_sql(table)]


def _scan(_: DuckDB, table: Table) -> str:
    return scan_sql(table)
