"""Follow files that the serving process reads: read them again once they have changed and are written."""

import asyncio
from collections.abc import Callable

from lakehouse.errors import LakehouseError
from lakehouse.processes.file_stamps import Stamps
from lakehouse.processes.problems import report_problems
from lakehouse.settings import Settings

FOLLOW_INTERVAL_SECONDS = 0.2
"""Time between two checks of whether files have changed."""


async def follow_files(
    settings: Settings, source: str, stamps_of: Callable[[], Stamps], update: Callable[[], None]
) -> None:
    """Call `update` in a thread whenever the stamps have changed, until cancelled. Its errors are problems of `source`."""
    handled = stamps_of()
    while True:
        await asyncio.sleep(FOLLOW_INTERVAL_SECONDS)
        if (stamps := stamps_of()) == handled:
            continue
        await asyncio.sleep(FOLLOW_INTERVAL_SECONDS)  # a file may still be written
        if stamps_of() != stamps:
            continue
        handled = stamps
        try:
            await asyncio.to_thread(update)
        except LakehouseError as error:
            report_problems(settings, source, [str(error)])
