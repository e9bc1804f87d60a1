"""The reader pool: queries read one lake snapshot, stop at their time limit, and fail at once when the pool is full."""

import asyncio
from collections.abc import Iterator

import pytest

from lakehouse.errors import BusyError, QueryError, QueryTimeoutError
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.reader_pool import ReaderPool
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker

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


@pytest.fixture
def readers(tracker: SnapshotTracker) -> Iterator[ReaderPool]:
    readers = ReaderPool(tracker, threads=2, max_waiting=1)
    yield readers
    readers.close()


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
