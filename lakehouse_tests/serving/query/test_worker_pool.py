"""A query whose worker dies gets the reason, and what it spilled is removed."""

import asyncio
import signal
import sys
from pathlib import Path

import psutil
import pytest

from lakehouse.errors import QueryError
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.worker_messages import QueryRequest
from lakehouse.serving.query.worker_pool import WorkerPool, describe_exit

SPILLING = "select count(distinct text) from (select hash(range)::varchar as text from range(50_000_000))"


async def _describe(code: str, number: signal.Signals | None) -> str:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    await process.stdout.readline()
    if number is not None:
        process.send_signal(number)
    return await describe_exit(process)


@pytest.mark.parametrize(
    ("code", "number", "cause"),
    [
        ("print(flush=True); input()", signal.SIGSEGV, "crashed (SIGSEGV)"),
        ("print(flush=True); input()", signal.SIGABRT, "crashed (SIGABRT)"),
        ("raise SystemExit(7)", None, "crashed (status 7)"),
        ("print(flush=True); input()", signal.SIGKILL, "memory"),
    ],
)
def test_message_names_a_crash_or_a_lack_of_memory(code: str, number: signal.Signals | None, cause: str) -> None:
    text = asyncio.run(_describe(code, number))
    assert cause in text
    assert ("memory" in text) == (number is signal.SIGKILL)


def test_spill_of_killed_worker_is_removed(shared_lake: Lake, tmp_path: Path) -> None:
    settings = shared_lake.settings.model_copy(update={"home": tmp_path, "query_workers": 1, "query_memory_mb": 64})

    async def spill_and_kill() -> None:
        pool = WorkerPool(settings, shared_lake.connection, tmp_path)
        pool.start()
        while not pool.started:
            await asyncio.sleep(0.02)
        query = asyncio.ensure_future(pool.run(_request(SPILLING), 60))
        while not spilled():
            assert not query.done()
            await asyncio.sleep(0.02)
        living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
        for child in living:
            if any("serving.query.worker" in argument for argument in child.cmdline()):
                child.kill()
        with pytest.raises(QueryError, match="memory"):
            await query
        await pool.close()

    def spilled() -> list[Path]:
        return [*tmp_path.glob("scratch/*/spill-*/*")]

    asyncio.run(spill_and_kill())
    assert spilled() == []


def _request(sql: str) -> QueryRequest:
    return QueryRequest(
        sql, [], "json", max_rows=10, max_bytes=1 << 20, snapshot=0, views={}, snapshots={}, table_names=[]
    )
