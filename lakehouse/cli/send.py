"""`send`: files replayed through the HTTP server."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from lakehouse.cli.dialect_options import apply_dialect, with_dialect_options
from lakehouse.cli.load import REFUSED_EXIT_CODE
from lakehouse.cli.options import Files, Json
from lakehouse.cli.printing import print_json, print_table, print_text, progress, stderr
from lakehouse.contracts.streams import Stream
from lakehouse.landing.selection import Selection, select_files
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import Settings, get_settings
from lakehouse.sources.http import replay
from lakehouse.sources.http.client import local_client
from lakehouse.sources.http.replay import DeliveryCounts, SentFile

StreamName = Annotated[str, typer.Argument(help="The stream that the events belong to.")]
Rate = Annotated[float | None, typer.Option(min=0.1, help="Events a second; as fast as possible when not given.")]


@with_dialect_options
def send(
    stream: StreamName, paths: Files, dialect: Mapping[str, Any], rate: Rate = None, as_json: Json = False
) -> None:
    """Post the rows of files; exit with 2 when a file was refused or has no valid row. What was sent before is skipped."""
    settings = get_settings()
    target_stream = Lake(settings).stream(stream)
    apply_dialect(target_stream.contract, dialect)
    with TemporaryDirectory(prefix="lakehouse-") as scratch:
        selection = select_files(paths, Path(scratch))
        sent = _send(settings, target_stream, selection, dialect, rate)
    rows = [
        {
            "file": selection.display(file.path),
            "accepted": file.delivered.accepted,
            "quarantined": file.delivered.quarantined,
            "sent_before": file.was_already_sent,
        }
        for file in sent
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table("", list(rows[0]), [list(row.values()) for row in rows], right=["accepted", "quarantined"])
    for verb, skipped in (("Refused", selection.refused), ("Left out", selection.left_out)):
        for file in selection.as_json(skipped):
            print_text(f"{verb}: {file['file']}: {file['reason']}.", to=stderr)
    if selection.refused or any(row["quarantined"] and not row["accepted"] for row in rows):
        raise SystemExit(REFUSED_EXIT_CODE)


def _send(
    settings: Settings, stream: Stream, selection: Selection, dialect: Mapping[str, Any], rate: float | None
) -> list[SentFile]:
    with local_client(settings) as client, progress() as bars:
        tasks = {file: bars.add_task(selection.display(file), total=None) for file in selection.files}

        def advance(path: Path, delivered: DeliveryCounts) -> None:
            bars.update(tasks[path], completed=delivered.accepted + delivered.quarantined)

        return replay.send(settings, stream, selection.files, client, dialect=dialect, rate=rate, on_progress=advance)
