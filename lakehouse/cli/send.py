"""`send`: files replayed through the HTTP server."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from lakehouse.cli.dialect_options import apply_dialect, with_dialect_options
from lakehouse.cli.load import MAX_FILES, REFUSED_EXIT_CODE
from lakehouse.cli.options import Files, Json
from lakehouse.cli.printing import print_json, print_table, print_text, progress, stderr
from lakehouse.contracts.streams import Stream
from lakehouse.errors import SourceChangedError, UnreadableSourceError
from lakehouse.landing.selection import Selection, select_files
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import Settings, get_settings
from lakehouse.sources.http import replay
from lakehouse.sources.http.client import local_client
from lakehouse.sources.http.replay import DeliveryCounts, SentFile

StreamName = Annotated[str, typer.Argument(help="The stream that the events belong to.")]
COLUMNS = ("file", "accepted", "quarantined", "sent_before")

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
            "reasons": list(file.delivered.reasons),
        }
        for file in sent
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table("", COLUMNS, [[row[name] for name in COLUMNS] for row in rows], right=["accepted", "quarantined"])
        _print_reasons(rows)
    for verb, skipped in (("Refused", selection.refused), ("Left out", selection.left_out)):
        for file in selection.as_json(skipped):
            print_text(f"{verb}: {file['file']}: {file['reason']}.", to=stderr)
    if selection.refused or any(row["quarantined"] and not row["accepted"] for row in rows):
        raise SystemExit(REFUSED_EXIT_CODE)


def _print_reasons(rows: Sequence[Mapping[str, Any]]) -> None:
    rejecting = [row for row in rows if row["quarantined"]]
    for row in rejecting[:MAX_FILES]:
        total = row["accepted"] + row["quarantined"]
        print_text(f"{row['file']}: {row['quarantined']:,} of {total:,} rows rejected: {'; '.join(row['reasons'])}.")
    if len(rejecting) > MAX_FILES:
        print_text(f"{len(rejecting) - MAX_FILES:,} more files have rejected rows; --json prints all.")


def _send(
    settings: Settings, stream: Stream, selection: Selection, dialect: Mapping[str, Any], rate: float | None
) -> list[SentFile]:
    with local_client(settings) as client, progress() as bars:
        tasks = {file: bars.add_task(selection.display(file), total=None) for file in selection.files}

        def advance(path: Path, delivered: DeliveryCounts) -> None:
            bars.update(tasks[path], completed=delivered.accepted + delivered.quarantined)

        sent = []
        for file in [*selection.files]:
            try:
                sent += replay.send(settings, stream, [file], client, dialect=dialect, rate=rate, on_progress=advance)
            except (SourceChangedError, UnreadableSourceError) as error:
                selection.refuse(file, error)
        return sent
