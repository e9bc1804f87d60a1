"""`kinesis`: the Kinesis streams of the settings, read into landing."""

import logging
import signal
import sys
from threading import Event
from typing import Annotated

import typer
from filelock import FileLock, Timeout

from lakehouse.cli.options import Json
from lakehouse.cli.printing import print_json, print_table
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import get_settings
from lakehouse.sources.kinesis.reader import check_stream_names, kinesis_reader

COLUMNS = ("stream", "source", "shards", "records", "objects", "bytes", "behind_ms")

Once = Annotated[bool, typer.Option("--once", help="Stop when every record that is there has been read.")]


def kinesis(once: Once = False, as_json: Json = False) -> None:
    """Read until SIGTERM or SIGINT, or with `--once` until every record has landed."""
    settings = get_settings()
    if not settings.kinesis:
        raise LakehouseError(
            'No Kinesis stream is configured; set LAKEHOUSE_KINESIS, such as \'{"financial": "name or ARN"}\'.'
        )
    lake = Lake(settings)
    check_stream_names(settings.kinesis, list(lake.streams))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("botocore").setLevel(logging.WARNING)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    reading = kinesis_reader(settings, lake.objects)
    folder = settings.root / "kinesis"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=1):
            statuses = reading.run(stop, once=once)
    except Timeout:
        raise LakehouseError(
            "Another process reads Kinesis for this home already; `lakehouse status` shows it."
        ) from None
    rows = [{column: getattr(status, column) for column in COLUMNS} for status in statuses]
    if as_json:
        print_json(rows)
    else:
        print_table("", COLUMNS, [list(row.values()) for row in rows], right=COLUMNS[2:])
