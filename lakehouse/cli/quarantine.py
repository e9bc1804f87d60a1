"""`quarantine`: what was refused and why, out to be mended, and back in."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from lakehouse.cli.printing import console, day_option, print_json, print_table
from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.pipeline import quarantine
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.pipeline.quarantine import RejectedRow, ReplayPreview, RowPlace
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as server

OBJECT, ROW, REASONS, RAW = "_object", "_row", "_reasons", "_raw"
"""What an exported row says beside its fields; `_raw` is the text of one that could not be read at all."""


def selected(first: str | None, last: str | None, reason: str | None = None) -> str:
    """The filter of the rows that a command is about. Raises LakehouseError for what is no day."""
    return quarantine.filter_sql(day_option(first, "--from"), day_option(last, "--to"), reason)


def list_reasons(names: Sequence[str], where: str, *, as_json: bool) -> None:
    """Print how many rows each stream, day and reason has."""
    with _lake() as lake:
        streams = [lake.stream(name) for name in names] or list(lake.streams.values())
        found = [
            {"stream": stream.name, "day": str(day), "reason": reason, "rows": rows}
            for stream in streams
            for day, reason, rows in quarantine.count_by_reason(lake, stream, where)
        ]
    if as_json:
        print_json(found)
        return
    print_table("", ["stream", "day", "reason", "rows"], [list(one.values()) for one in found], right=["rows"])
    console.print(
        "`lakehouse quarantine show STREAM` prints rows, `export` writes them to a file." if found else "It is empty."
    )


def show_rows(name: str, where: str, limit: int, *, as_json: bool) -> None:
    """Print refused rows with every reason."""
    with _lake() as lake:
        rows = list(quarantine.rejected_rows(lake, lake.stream(name), where, limit))
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    for row in rows:
        console.print(
            f"{row.dt} {row.object} row {row.row}", style="bold", highlight=False, soft_wrap=True, markup=False
        )
        for reason in row.reasons:
            console.print(f"  {reason}", highlight=False, soft_wrap=True, markup=False)
        console.print(f"  {row.raw}", style="dim", highlight=False, soft_wrap=True, markup=False)
    if len(rows) == limit:
        console.print(f"The first {limit}; --limit shows more.")


def export_rows(name: str, where: str, output: Path | None, form: str) -> None:
    """Write refused rows as NDJSON or CSV: their fields to mend, and where each came from."""
    if form not in ("ndjson", "csv"):
        raise LakehouseError(f"--format {form!r} is none of ndjson, csv.")
    with _lake() as lake, _opened(output) as file:
        stream = lake.stream(name)
        rows = (_exported(row) for row in quarantine.rejected_rows(lake, stream, where))
        written = _write_csv(stream, rows, file) if form == "csv" else _write_lines(rows, file)
    if output is not None:
        console.print(
            f"{written:,} rows in {output}. Mend their fields and leave {OBJECT} and {ROW} as they are; then"
            f" `lakehouse quarantine replay {name} --rows {output}`.",
            soft_wrap=True,
        )


def replay_days(name: str, where: str, *, dry_run: bool, as_json: bool) -> None:
    """Compute the days again that today's contract would make something else of. Raises LakehouseError for a failed run."""
    with _lake() as lake:
        stream = lake.stream(name)
        outcome = quarantine.preview_replay(lake, stream, where)
        if not dry_run:
            days = sorted({*outcome.days, *quarantine.move_redated_rows(lake, stream, run_id="replay")})
            if days:
                from lakehouse.automation.repair import recompute  # Dagster takes seconds to import

                recompute(lake, stream, [day for day in days if day not in outcome.held_back])
    _print_outcome(outcome, "would be" if dry_run else "are", as_json=as_json)


def replay_rows(name: str, file: Path, *, dry_run: bool, as_json: bool) -> int:
    """Land the corrected rows of a file that keep the contract, and bring all below up to date; 0 when all do, else 1."""
    with _lake() as lake:
        stream = lake.stream(name)
        rows = list(_read(stream, file))
        lines = [json.dumps(values, ensure_ascii=False).encode() for _, values in rows]
        broken = quarantine.validate_rows(lake, stream, lines) if rows else {}
        good = [row for number, row in enumerate(rows) if number not in broken]
        if good and not dry_run:
            quarantine.land_corrections(lake, stream, good)
            from lakehouse.automation.repair import ingest_incoming  # Dagster takes seconds to import

            ingest_incoming(lake, stream)
    reasons: dict[str, int] = {}
    for given in broken.values():
        for reason in given:
            reasons[reason] = reasons.get(reason, 0) + 1
    _print_outcome(ReplayPreview(len(good), len(broken), reasons), "would be" if dry_run else "are", as_json=as_json)
    return 1 if broken else 0


def _print_outcome(outcome: ReplayPreview, verb: str, *, as_json: bool) -> None:
    if as_json:
        said = {**asdict(outcome), "days": format_days(outcome.days), "held_back": format_days(outcome.held_back)}
        print_json(said)
        return
    console.print(f"{outcome.valid:,} rows {verb} valid, {outcome.refused:,} {verb} still refused.")
    for reason, rows in outcome.reasons.items():
        console.print(f"  {rows:,} rows: {reason}", highlight=False, soft_wrap=True)
    if outcome.days:
        console.print(f"Days that {'change' if verb == 'are' else 'would change'}: {format_days(outcome.days)}.")
    if outcome.held_back:
        console.print(f"Kept back by the quality gate even so: {format_days(outcome.held_back)}.")


@contextmanager
def _lake() -> Iterator[Lake]:
    settings = get_settings()
    with server.running(settings) as connection:
        yield Lake(settings, connection)


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        return
    try:
        with output.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as problem:
        raise LakehouseError(f"Can't write {output}: {problem.strerror or problem}.") from problem


def _exported(row: RejectedRow) -> dict[str, Any]:
    place = {OBJECT: row.object, ROW: row.row, REASONS: row.reasons}
    try:
        fields = json.loads(row.raw)
    except ValueError:
        fields = None
    return place | (fields if isinstance(fields, dict) else {RAW: row.raw})


def _write_lines(rows: Iterable[Mapping[str, Any]], file: IO[str]) -> int:
    written = 0
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        written += 1
    return written


def _write_csv(stream: Stream, rows: Iterable[Mapping[str, Any]], file: IO[str]) -> int:
    """One column for each field; what the contract does not know stays in landing and is not mended."""
    columns = [OBJECT, ROW, REASONS, *(field.source for field in stream.contract.fields), RAW]
    writer = csv.DictWriter(file, columns, extrasaction="ignore")
    writer.writeheader()
    written = 0
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()} | {REASONS: "; ".join(row[REASONS])})
        written += 1
    return written


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value


def _read(stream: Stream, file: Path) -> Iterator[tuple[RowPlace, dict[str, Any]]]:
    """The corrected rows of a file as `export` writes it. Raises LakehouseError that names the line."""
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            lines = _csv_rows(stream, opened) if file.suffix.lower() == ".csv" else _json_rows(opened)
            for number, row in enumerate(lines, start=1):
                try:
                    place = (str(row.pop(OBJECT)), int(row.pop(ROW)))
                except (KeyError, TypeError, ValueError):
                    raise LakehouseError(
                        f"{file}: row {number} has no {OBJECT} and {ROW} that say which row it mends."
                    ) from None
                row.pop(REASONS, None)
                row.pop(RAW, None)
                yield place, row
    except (OSError, UnicodeDecodeError) as problem:
        raise LakehouseError(f"Can't read {file}: {problem}.") from problem
    except ValueError as problem:
        raise LakehouseError(f"{file} is no NDJSON with an object a line: {problem}.") from problem


def _json_rows(file: IO[str]) -> Iterator[dict[str, Any]]:
    for line in file:
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"{line.strip()[:40]} is no object")
            yield row


def _csv_rows(stream: Stream, file: IO[str]) -> Iterator[dict[str, Any]]:
    lists = {field.source for field in stream.contract.fields if field.type.kind == "list"}
    for row in csv.DictReader(file):
        # An empty cell is no value.
        yield {name: json.loads(text) if name in lists else text for name, text in row.items() if name and text}
