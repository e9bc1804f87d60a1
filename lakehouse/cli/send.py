"""`send`: files replayed through the HTTP server."""

from pathlib import Path
from typing import Annotated

import typer

from lakehouse.cli.load import expand
from lakehouse.cli.options import Files, Json
from lakehouse.cli.printing import print_json, print_table, progress
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import get_settings
from lakehouse.sources.http import replay
from lakehouse.sources.http.client import DeliveryCounts, find_target

StreamName = Annotated[str, typer.Argument(help="The stream that the events belong to.")]
Rate = Annotated[float | None, typer.Option(min=0.1, help="Events a second; as fast as possible when not given.")]


def send(stream: StreamName, paths: Files, rate: Rate = None, as_json: Json = False) -> None:
    """Post the rows of files; rows that an earlier `send` posted are skipped."""
    settings = get_settings()
    target_stream = Lake(settings).stream(stream)
    files = expand(paths)
    target = find_target(settings)
    with progress() as bars:
        tasks = {file: bars.add_task(file.name, total=None) for file in files}

        def advance(path: Path, delivered: DeliveryCounts) -> None:
            bars.update(tasks[path], completed=delivered.accepted + delivered.quarantined)

        sent = replay.send(settings, target_stream, files, target, rate=rate, on_progress=advance)
    rows = [
        {
            "file": str(file.path),
            "accepted": file.delivered.accepted,
            "quarantined": file.delivered.quarantined,
            "sent_before": file.was_already_sent,
        }
        for file in sent
    ]
    if as_json:
        print_json(rows)
    else:
        print_table("", list(rows[0]), [list(row.values()) for row in rows], right=["accepted", "quarantined"])
