"""`quarantine`: rejected rows and why, out to a file to be fixed, and back in."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from lakehouse.cli.options import DryRun, FirstDay, Json, LastDay, Stream, Streams, parse_day
from lakehouse.cli.printing import console, counted, print_json, print_table, print_text
from lakehouse.cli.rejected_rows import OBJECT, ROW, opened, read_rows, write_rows
from lakehouse.errors import LakehouseError
from lakehouse.pipeline import quarantine as rejected
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.pipeline.quarantine import ReplayPreview
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as storage

quarantine = typer.Typer(no_args_is_help=True, add_completion=False)

Reason = Annotated[str | None, typer.Option(help="Only rows with a reason that contains this text.")]
Limit = Annotated[int, typer.Option(min=1, help="How many rows to print at most.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="The file to write; standard output when not given.")
]
Format = Annotated[str, typer.Option("--format", help="ndjson or csv.")]
FixedRows = Annotated[Path | None, typer.Option("--rows", help="A file of fixed rows, in the format of `export`.")]


@quarantine.command("list")
def list_reasons(streams: Streams = None, first: FirstDay = None, last: LastDay = None, as_json: Json = False) -> None:
    """Count the rows in quarantine by stream, day and reason."""
    where = _filter(first, last)
    with _lake() as lake:
        counts = [
            {"stream": name, "day": str(day), "reason": reason, "rows": rows}
            for name in streams or lake.streams
            for day, reason, rows in rejected.count_by_reason(lake, lake.stream(name), where)
        ]
    if as_json:
        print_json(counts)
        return
    print_table("", ["stream", "day", "reason", "rows"], [list(count.values()) for count in counts], right=["rows"])
    console.print(
        "`lakehouse quarantine show STREAM` prints rows, `export` writes them to a file."
        if counts
        else "The quarantine is empty."
    )


@quarantine.command("show")
def show(
    stream: Stream,
    first: FirstDay = None,
    last: LastDay = None,
    reason: Reason = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """Print rejected rows with their raw text, every reason and where they came from."""
    where = _filter(first, last, reason)
    with _lake() as lake:
        rows = list(rejected.rejected_rows(lake, lake.stream(stream), where, limit))
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    for row in rows:
        file = f" ({row.file})" if row.file else ""
        print_text(f"{row.dt} {row.object}{file} row {row.row}", style="bold")
        for text in row.reasons:
            print_text(f"  {text}")
        print_text(f"  {row.raw}", style="dim")
    if len(rows) == limit:
        console.print(f"These are the first {limit}; --limit prints more.")


@quarantine.command("export")
def export(
    stream: Stream,
    first: FirstDay = None,
    last: LastDay = None,
    reason: Reason = None,
    output: Output = None,
    form: Format = "ndjson",
) -> None:
    """Write rejected rows to a file, to be fixed by hand."""
    if form not in ("ndjson", "csv"):
        raise LakehouseError(f"--format {form!r} is not one of ndjson, csv.")
    where = _filter(first, last, reason)
    with _lake() as lake, opened(output) as file:
        source = lake.stream(stream)
        written = write_rows(source, rejected.rejected_rows(lake, source, where), file, form)
    if output is not None:
        print_text(
            f"Wrote {counted(written, 'row')} to {output}. Fix their fields, keep {OBJECT} and {ROW}, then run"
            f" `lakehouse quarantine replay {stream} --rows {output}`."
        )


@quarantine.command("replay")
def replay(
    stream: Stream,
    first: FirstDay = None,
    last: LastDay = None,
    rows: FixedRows = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Bring rejected rows in: those that today's contract accepts, or the fixed rows of a file."""
    if rows is None:
        preview = _replay_days(stream, _filter(first, last), dry_run=dry_run)
    else:
        preview = _replay_rows(stream, rows, dry_run=dry_run)
    if as_json:
        _print_json(preview)
    else:
        _print(preview, "would be" if dry_run else "are")
    if rows is not None:
        raise SystemExit(1 if preview.refused else 0)


def _replay_days(name: str, where: str, *, dry_run: bool) -> ReplayPreview:
    """Recompute the days that today's contract changes. Raises LakehouseError if a run fails."""
    with _lake() as lake:
        stream = lake.stream(name)
        preview = rejected.preview_replay(lake, stream, where)
        if not dry_run:
            days = sorted({*preview.days, *rejected.move_redated_rows(lake, stream, run_id="replay")})
            if days:
                from lakehouse.automation.repair import recompute  # Dagster takes seconds to import

                preview = replace(preview, held_back=recompute(lake, stream, days))
    return preview


def _replay_rows(name: str, file: Path, *, dry_run: bool) -> ReplayPreview:
    """Land the fixed rows that keep the contract, and compute every layer from them."""
    with _lake() as lake:
        stream = lake.stream(name)
        rows = list(read_rows(stream, file))
        lines = [rejected.event_line(values) for _, values in rows]
        invalid = rejected.validate_rows(lake, stream, lines) if rows else {}
        valid = [row for number, row in enumerate(rows) if number not in invalid]
        if valid and not dry_run:
            rejected.land_corrections(lake, stream, valid)
            from lakehouse.automation.repair import ingest_incoming  # Dagster takes seconds to import

            ingest_incoming(lake, stream)
    return ReplayPreview(
        len(valid), len(invalid), Counter(reason for reasons in invalid.values() for reason in reasons)
    )


def _print_json(preview: ReplayPreview) -> None:
    days, blocked = format_days(preview.days), format_days(preview.held_back)
    counts = {"valid": preview.valid, "refused": preview.refused, "reasons": dict(preview.reasons)}
    print_json({**counts, "days": days, "held_back": blocked})


def _print(preview: ReplayPreview, verb: str) -> None:
    console.print(f"Rows that {verb} valid: {preview.valid:,}; still rejected: {preview.refused:,}.")
    for reason, rows in preview.reasons.items():
        print_text(f"  {counted(rows, 'row')}: {reason}")
    if preview.days:
        print_text(f"Days that {'change' if verb == 'are' else 'would change'}: {format_days(preview.days)}.")
    if preview.held_back:
        print_text(f"Days still blocked by the quality gate: {format_days(preview.held_back)}.")


def _filter(first: str | None, last: str | None, reason: str | None = None) -> str:
    return rejected.filter_sql(parse_day(first, "--from"), parse_day(last, "--to"), reason)


@contextmanager
def _lake() -> Iterator[Lake]:
    settings = get_settings()
    with storage.running(settings) as connection:
        yield Lake(settings, connection)
