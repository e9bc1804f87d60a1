"""`kinesis`: reads the Kinesis streams that the settings name."""

import logging
import signal
import sys
from threading import Event

from filelock import FileLock, Timeout

from lakehouse.cli.printing import print_json, print_table
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import get_settings
from lakehouse.sources.kinesis.reading import build, check_stream_names


def read_streams(*, once: bool, as_json: bool) -> None:
    """Read until SIGTERM or SIGINT, or with `once` until all there is has landed."""
    settings = get_settings()
    if not settings.kinesis:
        raise LakehouseError(
            'No Kinesis stream is named; set LAKEHOUSE_KINESIS, such as \'{"financial": "name or ARN"}\'.'
        )
    lake = Lake(settings)
    check_stream_names(settings.kinesis, list(lake.streams))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("botocore").setLevel(logging.WARNING)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    reading = build(settings, lake.objects)
    folder = settings.root / "kinesis"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=1):
            found = reading.run(stop, once=once)
    except Timeout:
        raise LakehouseError("Kinesis is being read already for this home; `lakehouse status` shows it.") from None
    columns = ["stream", "source", "shards", "records", "objects", "bytes", "behind_ms"]
    rows = [{column: getattr(status, column) for column in columns} for status in found]
    if as_json:
        print_json(rows)
    else:
        print_table("", columns, [list(row.values()) for row in rows], right=columns[2:])
