"""The reader pool: queries read one lake snapshot, stop at their time limit, and fail at once when the pool is full."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import psutil
import pytest

from lakehouse.errors import BusyError, QueryError, QueryTimeoutError, UnreadableTableError
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.reader_pool import QueryResult, ReaderPool
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker
from lakehouse.storage.iceberg.manifests import current_manifests
from lakehouse.storage.iceberg.readable import check_readable
from lakehouse.storage.objects.store import Objects, object_key
from lakehouse_tests.pipeline.own import Own, noon, payment
from lakehouse_tests.serving.query.trackers import reading

SLOW = "select count(*) from range(9000) a, range(9000) b where a.range + b.range < 0"
FOREVER = "select count(*) from range(100000) a, range(100000) b, range(100000) c where a.range + b.range + c.range < 0"


@pytest.fixture(scope="module")
def lake(shared_lake: Lake) -> Lake:
    Lake(shared_lake.settings, shared_lake.connection).bootstrap()
    return Lake(shared_lake.settings, shared_lake.connection, metadata_only=True)


@pytest.fixture(scope="module")
def tracker(lake: Lake) -> Iterator[SnapshotTracker]:
    tracker = SnapshotTracker(lake)
    tracker.start()
    yield tracker
    tracker.close()


@pytest.fixture(scope="module")
def readers(tracker: SnapshotTracker) -> Iterator[ReaderPool]:
    readers = ReaderPool(tracker, threads=2, max_waiting=1)
    yield readers
    readers.close()


def _reader_pid() -> int:
    """Return the process id of the newest reader process."""
    running = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    readers = [child for child in running if any("reader_process" in argument for argument in child.cmdline())]
    return max(readers, key=psutil.Process.create_time).pid


def test_query_reads_tables_and_views_with_parameters(readers: ReaderPool) -> None:
    by_place = asyncio.run(readers.run("select count(*) + ? as n from silver.iot where dt < date '2000-01-01'", [1]))
    by_name = asyncio.run(
        readers.run("select count(*) + $more as n from serving.unified_iot where dt < date '2000-01-01'", {"more": 2})
    )
    assert (by_place.table.to_pylist(), by_name.table.to_pylist()) == ([{"n": 1}], [{"n": 2}])
    assert by_place.snapshots == {"silver.iot": None}
    assert not by_place.truncated


@pytest.mark.parametrize(("rows", "given", "truncated"), [(3, 3, True), (20_000, 20_000, False), (9_000, 9_000, True)])
def test_result_is_truncated_to_the_row_limit(readers: ReaderPool, rows: int, given: int, truncated: bool) -> None:
    answer = asyncio.run(readers.run("select * from range(20000)", rows=rows))
    assert (answer.table.num_rows, answer.truncated) == (given, truncated)


def test_invalid_query_error_lists_the_tables(readers: ReaderPool) -> None:
    with pytest.raises(QueryError, match=r"(?s)does not exist.*There are: .*silver\.iot"):
        asyncio.run(readers.run("select * from silver.nothing"))


def test_query_is_stopped_at_its_time_limit_and_frees_its_place(readers: ReaderPool) -> None:
    async def slow() -> None:
        with pytest.raises(QueryTimeoutError, match=r"stopped after 0\.3 s"):
            await readers.run(FOREVER, seconds=0.3)

    async def all_of_it() -> None:
        await asyncio.gather(slow(), slow())
        assert (await readers.run("select 1 as x")).table.num_rows == 1

    asyncio.run(all_of_it())


def test_full_pool_raises_busy_error_at_once(readers: ReaderPool) -> None:
    async def flood() -> list[str]:
        outcomes = await asyncio.gather(*(readers.run(FOREVER, seconds=0.5) for _ in range(5)), return_exceptions=True)
        return sorted(type(outcome).__name__ for outcome in outcomes)

    assert asyncio.run(flood()) == ["BusyError"] * 2 + ["QueryTimeoutError"] * 3
    assert issubclass(BusyError, Exception)


def test_ended_reader_is_replaced_and_runs_its_queries_again(readers: ReaderPool) -> None:
    async def kill_meanwhile() -> list[QueryResult]:
        await readers.run("select 1")
        queries = [asyncio.ensure_future(readers.run(SLOW, seconds=60)) for _ in range(2)]
        await asyncio.sleep(0.1)
        psutil.Process(_reader_pid()).kill()
        return await asyncio.gather(*queries)

    assert [result.table.num_rows for result in asyncio.run(kill_meanwhile())] == [1, 1]


def test_reader_ends_with_the_pool(tracker: SnapshotTracker) -> None:
    readers = ReaderPool(tracker, threads=1)
    assert asyncio.run(readers.run("select 1")).table.num_rows == 1
    process = psutil.Process(_reader_pid())
    readers.close()
    process.wait(10)


def test_table_without_manifest_fails_alone(make_stream: Callable[..., Own], tmp_path: Path) -> None:
    own = make_stream()
    day = noon(date(2025, 11, 20))
    own.land([payment("a", day)], day)
    own.bronze(day.date())
    own.clean(day.date())
    with reading(own, tmp_path, "silver", "bronze") as (_, readers):

        async def count(layer: str) -> int:
            result = await readers.run(f"select count(*) as n from {layer}.{own.name}", seconds=30)
            return int(result.table.to_pylist()[0]["n"])

        assert asyncio.run(count("silver")) == 1
        for layer in ("silver", "bronze"):
            assert asyncio.run(count(layer)) == 1
        psutil.Process(_reader_pid()).kill()  # it has read the manifest, and would not ask for it again
        assert asyncio.run(count("bronze")) == 1
        table = own.lake.tables.load(f"silver.{own.name}")
        check_readable(table)
        manifest = current_manifests(table)[0].manifest_path
        Objects.from_url(own.lake.connection, manifest).delete([object_key(manifest)])

        async def both() -> tuple[int | BaseException, int | BaseException]:
            return await asyncio.gather(count("silver"), count("bronze"), return_exceptions=True)

        broken, sound = asyncio.run(both())
        assert isinstance(broken, UnreadableTableError)
        assert sound == 1
