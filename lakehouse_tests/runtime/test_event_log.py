"""The event history behaves as Dagster's own storage does, also while writers run and after they die."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetCheckResult,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetObservation,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
    DailyPartitionsDefinition,
    Definitions,
    EventLogEntry,
    Output,
    RunStatusSensorContext,
    asset,
    build_sensor_context,
    materialize,
    mem_io_manager,
    run_status_sensor,
)
from dagster import DagsterRunStatus as Status
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage, SqlEventLogStorage, SqliteEventLogStorage

from lakehouse.runtime.event_log import PooledSqliteEventLogStorage
from lakehouse.runtime.instance import open_instance
from lakehouse.settings import Settings

SILVER = AssetKey(["silver", "iot"])
QUARANTINE = AssetKey(["quarantine", "iot"])
DAYS = DailyPartitionsDefinition("2025-01-01", end_date="2025-03-01")


@asset(key=SILVER, partitions_def=DAYS, check_specs=[AssetCheckSpec("conservation", asset=SILVER)])
def silver(context: AssetExecutionContext) -> Iterator[Any]:
    for day in context.partition_keys:
        context.log_event(AssetObservation(SILVER, partition=day, tags={"seen": "yes"}))
        context.log_event(AssetMaterialization(QUARANTINE, partition=day, metadata={"rows": 3, "score": 0.5}))
    yield Output(None)
    yield AssetCheckResult(passed=len(context.partition_keys) > 1, metadata={"days": len(context.partition_keys)})


@asset
def gold() -> None:
    pass


@asset
def broken() -> None:
    raise ValueError("on purpose")


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[EventLogEntry]:
    with open_instance(Settings(home=tmp_path_factory.mktemp("events"))) as opened:
        return events_of_some_runs(opened)


def events_of_some_runs(opened: DagsterInstance) -> list[EventLogEntry]:
    """Run jobs that leave every kind of event. Return the events in the order in which they were stored."""
    resources = {"io_manager": mem_io_manager}
    days = {"dagster/asset_partition_range_start": "2025-01-03", "dagster/asset_partition_range_end": "2025-01-12"}
    materialize([silver], instance=opened, resources=resources, tags=days)
    materialize([gold, broken], instance=opened, resources=resources, raise_on_error=False)
    materialize([silver], instance=opened, resources=resources, partition_key="2025-01-05")
    records = [
        record
        for run in opened.get_runs()
        for record in opened.event_log_storage.get_records_for_run(run.run_id).records
    ]
    return [record.event_log_entry for record in sorted(records, key=lambda record: record.storage_id)]


def tables(base_dir: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Read all tables of a database, without the times at which rows were made and the ids that no row refers to."""
    connection = sqlite3.connect(base_dir / "event_log.db")
    try:
        names = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        content = {}
        for name in sorted(names):
            ignored = {"create_timestamp", "migration_completed"} | ({"id"} if name == "asset_keys" else set())
            columns = [row[1] for row in connection.execute(f"pragma table_info({name})") if row[1] not in ignored]
            listed = ", ".join(f'"{column}"' for column in columns)
            content[name] = sorted(connection.execute(f"select {listed} from {name}").fetchall(), key=repr)
        return content
    finally:
        connection.close()


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[DagsterInstance]:
    with open_instance(Settings(home=tmp_path / "lake")) as opened:
        yield opened


def test_instance_uses_this_storage(lake: DagsterInstance) -> None:
    assert type(lake.event_log_storage) is PooledSqliteEventLogStorage
    assert not lake.event_log_storage.is_run_sharded
    assert lake.event_log_storage.supports_global_concurrency_limits


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_storage_writes_the_same_rows_as_dagsters(events: list[EventLogEntry], tmp_path: Path, size: int) -> None:
    assert {event.dagster_event_type for event in events} >= {
        DagsterEventType.ASSET_MATERIALIZATION,
        DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
        DagsterEventType.ASSET_OBSERVATION,
        DagsterEventType.ASSET_CHECK_EVALUATION,
        DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
        DagsterEventType.STEP_FAILURE,
        DagsterEventType.RUN_FAILURE,
    }
    theirs = ConsolidatedSqliteEventLogStorage(str(tmp_path / "theirs"))
    for event in events:
        theirs.store_event(event)
    ours = PooledSqliteEventLogStorage(str(tmp_path / "ours"))
    for start in range(0, len(events), size):
        ours.store_event_batch(events[start : start + size])
    ours.dispose()

    expected = tables(tmp_path / "theirs")
    assert all(expected[name] for name in ("asset_event_tags", "asset_keys", "asset_check_executions"))
    written = tables(tmp_path / "ours")
    # Dagster's consolidated storage forgets to commit its own revision.
    assert len(written.pop("alembic_version")) == 1
    expected.pop("alembic_version", None)
    assert written == expected


KEYS = [SILVER, QUARANTINE, AssetKey("gold"), AssetKey("broken"), AssetKey("never")]


def answers(storage: SqlEventLogStorage, runs: list[str]) -> dict[str, Any]:
    """Collect a storage's answers to Dagster, without ids, because a sharded storage numbers events differently."""
    page = storage.fetch_materializations(SILVER, limit=4)
    rest = storage.fetch_materializations(SILVER, limit=100, cursor=page.cursor)
    check = next(iter(silver.check_keys))
    latest = storage.get_latest_asset_check_execution_by_key([check])
    return {
        "keys": set(storage.all_asset_keys()),  # type: ignore[no-untyped-call]
        "known": [storage.has_asset_key(key) for key in KEYS],
        "records": {
            record.asset_entry.asset_key: (
                record.asset_entry.last_materialization,
                record.asset_entry.last_run_id,
                record.asset_entry.last_observation,
            )
            for record in storage.get_asset_records(KEYS)
        },
        "latest": storage.get_latest_materialization_events(KEYS),
        "partitions": [storage.get_materialized_partitions(key) for key in KEYS],
        "partitions with an event": [
            set(storage.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION)) for key in KEYS
        ],
        "first page": [record.event_log_entry for record in page.records],
        "second page": [record.event_log_entry for record in rest.records],
        "more": (page.has_more, rest.has_more),
        "of some partitions": [
            record.event_log_entry
            for record in storage.fetch_materializations(
                AssetRecordsFilter(SILVER, asset_partitions=["2025-01-05", "2025-01-09"]), limit=9
            ).records
        ],
        "observations": [
            record.event_log_entry for record in storage.fetch_observations(SILVER, limit=99, ascending=True).records
        ],
        "tags": sorted(map(repr, storage.get_event_tags_for_asset(SILVER))),
        "versions": storage.get_latest_tags_by_partition(
            SILVER, DagsterEventType.ASSET_MATERIALIZATION, tag_keys=["dagster/data_version"]
        ),
        "check": {key: (record.status, record.run_id, record.event) for key, record in latest.items()},
        "checks": [
            (record.status, record.run_id, record.partition)
            for record in storage.get_asset_check_execution_history(check, limit=99)
        ],
        "status changes": [
            [record.event_log_entry for record in storage.fetch_run_status_changes(kind, limit=99).records]
            for kind in (DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_START)
        ],
        "logs": {run: storage.get_logs_for_run(run) for run in runs},
        "stats": {run: storage.get_stats_for_run(run) for run in runs},
        "steps": {run: storage.get_step_stats_for_run(run) for run in runs},
        "partitions of runs": {run: storage.get_asset_partitions_for_run(run) for run in runs},
        "dynamic": storage.get_dynamic_partitions("files"),
        "pools": sorted(storage.get_concurrency_keys()),
    }


def test_storage_answers_as_the_default_before_and_after_wipe(
    events: list[EventLogEntry], history: PooledSqliteEventLogStorage, tmp_path: Path
) -> None:
    runs = sorted({event.run_id for event in events})
    default = SqliteEventLogStorage(str(tmp_path / "default"))
    both: list[SqlEventLogStorage] = [default, history]
    changes: list[tuple[str, Callable[[SqlEventLogStorage], object]]] = [
        ("stored", lambda storage: storage.store_event_batch(events)),
        ("dynamic partitions", lambda storage: storage.add_dynamic_partitions("files", ["a", "b"])),
        ("one partition less", lambda storage: storage.delete_dynamic_partition("files", "a")),
        ("pool", lambda storage: storage.set_concurrency_slots("lake", 1)),
        ("asset wiped", lambda storage: storage.wipe_asset(SILVER)),
        ("run deleted", lambda storage: storage.delete_events(runs[0])),
        ("wiped", lambda storage: storage.wipe()),
    ]
    seen = []
    for name, change in changes:
        for storage in both:
            change(storage)
        theirs, ours = (answers(storage, runs if name != "run deleted" else []) for storage in both)
        assert ours == theirs, name
        seen.append(ours)
    assert len(seen[0]["partitions"][0]) == 10
    assert seen[-1]["keys"] == set()
    default.dispose()


def test_pool_slot_is_held_by_one_step_at_a_time(history: PooledSqliteEventLogStorage) -> None:
    history.set_concurrency_slots("lake", 1)
    assert history.claim_concurrency_slot("lake", "run one", "step").is_claimed
    assert not history.claim_concurrency_slot("lake", "run two", "step").is_claimed
    history.free_concurrency_slots_for_run("run one")
    assert history.claim_concurrency_slot("lake", "run two", "step").is_claimed


def test_run_status_sensor_sees_each_run_once(lake: DagsterInstance) -> None:
    seen: list[str] = []

    @run_status_sensor(run_status=Status.SUCCESS)
    def after_success(context: RunStatusSensorContext) -> None:
        seen.append(context.dagster_run.run_id)

    repository = Definitions(assets=[gold], sensors=[after_success]).get_repository_def()

    def tick(cursor: str | None) -> str | None:
        with build_sensor_context(instance=lake, cursor=cursor, repository_def=repository) as context:
            return after_success.evaluate_tick(context).cursor

    cursor = tick(None)
    expected = []
    for _ in range(3):
        expected.append(materialize([gold], instance=lake, resources={"io_manager": mem_io_manager}).run_id)
        cursor = tick(cursor)
        cursor = tick(cursor)
    assert seen == expected


def test_schema_is_at_the_revision_of_this_dagster(history: PooledSqliteEventLogStorage, tmp_path: Path) -> None:
    revision, newest = history.alembic_version()
    assert revision == newest is not None
    history.upgrade()  # type: ignore[no-untyped-call]
    default = SqliteEventLogStorage(str(tmp_path / "default"))
    assert default.alembic_version() == (revision, newest)
    default.dispose()
