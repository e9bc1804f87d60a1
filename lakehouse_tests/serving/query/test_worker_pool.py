"""The message for a query whose worker died names what ended it."""

import asyncio
import signal
import sys

import pytest

from lakehouse.serving.query.worker_pool import describe_exit


async def _describe(code: str, number: signal.Signals | None) -> str:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
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
