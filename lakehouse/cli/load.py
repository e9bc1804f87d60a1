"""`load`: files into landing, each content once, and every partition they touch brought up to date."""

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from lakehouse.cli.dialect_options import apply_dialect, with_dialect_options
from lakehouse.cli.options import Json, MoreFiles, parse_path
from lakehouse.cli.printing import counted, join_first, print_json, print_table, print_text, progress
from lakehouse.contracts.model import Contract
from lakehouse.errors import (
    ContractError,
    LakehouseError,
    SchemaChangeError,
    SourceChangedError,
    UnreadableSourceError,
)
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.partition_folders import partition_folders
from lakehouse.landing.readers import local_object
from lakehouse.landing.readers.columns import read_columns
from lakehouse.landing.selection import Selection, select_files
from lakehouse.landing.upload import upload
from lakehouse.pipeline.bronze import ingested_objects
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days, parse_days
from lakehouse.pipeline.lineage.retention import retention_days
from lakehouse.pipeline.object_outcomes import ObjectOutcome, object_outcomes
from lakehouse.pipeline.quality_gate import REMEDY, blocked_objects
from lakehouse.pipeline.refresh import pending_files
from lakehouse.settings import Settings, get_settings
from lakehouse.storage.embedded import lifecycle as storage

REFUSED_EXIT_CODE = 2
"""The exit code when all went well, except that a file was refused or none of its rows is valid."""

MAX_FILES = 20
"""Files of one kind that are printed for people; JSON has all."""

ROW_COUNTS = ("landed", "valid", "duplicates", "rejected", "expired")
"""How many rows of a file landed, and what became of them. Duplicates are valid rows whose key a later row has."""

StreamName = Annotated[str, typer.Argument(help="The stream that the files belong to, unless --stream names it.")]
OfStream = Annotated[str | None, typer.Option("--stream", help="The stream; all arguments are files then.")]
NoMaterialize = Annotated[
    bool, typer.Option("--no-materialize", help="Only upload; the sensors of a running lakehouse do the rest.")
]


@with_dialect_options
def load(
    stream: StreamName,
    dialect: Mapping[str, Any],
    paths: MoreFiles = None,
    of_stream: OfStream = None,
    no_materialize: NoMaterialize = False,
    as_json: Json = False,
) -> None:
    """Upload files and materialize every partition they touch; exit with 2 when a file was refused or has no valid row.

    Raises LakehouseError if a run fails.
    """
    if of_stream is not None:
        stream, paths = of_stream, [parse_path(stream), *(paths or [])]
    if not paths:
        raise typer.BadParameter("Missing argument 'PATH...'.")
    settings = get_settings()
    contract = apply_dialect(Lake(settings).stream(stream).contract, dialect)
    with TemporaryDirectory(prefix="lakehouse-") as scratch:
        selection = select_files(paths, Path(scratch))
        summary, failure = _load(settings, stream, selection, dialect, is_materialized=not no_materialize)
        _add_column_warnings(summary, contract, selection)
    if as_json:
        print_json(summary)
    else:
        _print(summary, contract, is_materialized=not (no_materialize or failure))
    if failure:
        raise failure
    is_rejected = any(file.get("landed") and not file["valid"] for file in summary["by_file"])
    if selection.refused or summary["unreadable_objects"] or is_rejected:
        raise SystemExit(REFUSED_EXIT_CODE)


def _load(
    settings: Settings, stream: str, selection: Selection, dialect: Mapping[str, Any], *, is_materialized: bool
) -> tuple[dict[str, Any], LakehouseError | None]:
    """Upload and materialize. Returns the summary, and the error of a run that failed, such as at the quality gate."""
    started, failure, partitions = time.monotonic(), None, ""
    with storage.running(settings) as connection:
        lake = Lake(settings, connection)
        _bootstrap(lake, stream)
        landed = _upload(lake, stream, selection, dialect)
        try:
            partitions = _materialize(lake, stream) if is_materialized else ""
        except LakehouseError as error:
            failure = error
        objects = [obj for _, obj, _ in landed]
        outcomes = object_outcomes(lake, lake.stream(stream), objects) if is_materialized else {}
        blocked = _blocked_objects(lake, stream, {obj.key for obj in objects}) if is_materialized else []
        unread = _unread_objects(lake, stream, objects) if is_materialized and failure is None else []
    summary = {
        "stream": stream,
        "files": len(selection.files),
        "new_files": sum(is_new for *_, is_new in landed),
        "objects": [landing_object.key for _, landing_object, _ in landed],
        "partitions": partitions,
        "by_file": [
            {"file": selection.display(path), "object": obj.key, "new": is_new}
            | (_describe(outcomes.get(obj.key, ObjectOutcome())) if is_materialized else {})
            for path, obj, is_new in landed
        ],
        "blocked_objects": blocked,
        "unreadable_objects": unread,
        "refused": list(selection.as_json(selection.refused)),
        "left_out": list(selection.as_json(selection.left_out)),
        "seconds": round(time.monotonic() - started, 3),
    }
    return summary, failure


def _bootstrap(lake: Lake, stream: str) -> None:
    """Create and evolve tables. Another stream whose tables can't follow its contract holds up nothing."""
    try:
        lake.bootstrap()
    except (SchemaChangeError, ContractError):
        lake.bootstrap([lake.stream(stream)])


def _add_column_warnings(summary: dict[str, Any], contract: Contract, selection: Selection) -> None:
    """Report for each file which columns the contract does not know, and which fields are in no column."""
    for file, path in zip(summary["by_file"], selection.files, strict=True):
        name = "/".join([*partition_folders(path), path.name])
        file["warnings"] = read_columns(contract, local_object(path, name)).warnings


def _describe(outcome: ObjectOutcome) -> dict[str, Any]:
    return {name: getattr(outcome, name) for name in ROW_COUNTS} | {"reasons": list(outcome.reasons)}


def _blocked_objects(lake: Lake, stream: str, keys: Collection[str]) -> list[dict[str, Any]]:
    """List which of these objects the quality gate blocks."""
    by_day = blocked_objects(lake.tables.load(f"quarantine.{stream}"))
    return [
        {"object": key, "day": str(day), "valid": rows.valid, "rows": rows.rows}
        for day, objects in sorted(by_day.items())
        for key, rows in objects.items()
        if key in keys
    ]


def _unread_objects(lake: Lake, stream: str, objects: Sequence[LandingObject]) -> list[str]:
    """List which of these objects bronze has left out, because storage can't return them. It has no use for empty ones."""
    ingested = ingested_objects(lake, lake.tables.load(f"bronze.{stream}"), sorted({obj.day for obj in objects}))
    return sorted({obj.key for obj in objects if obj.size}.difference(ingested))


def _print_blocked(summary: Mapping[str, Any]) -> None:
    files = {file["object"]: file["file"] for file in summary["by_file"]}
    for each in summary["blocked_objects"][:MAX_FILES]:
        print_text(
            f"Blocked by the quality gate: {files[each['object']]}, {each['valid']:,} of {each['rows']:,} rows valid on"
            f" {each['day']}. All of its rows are in quarantine. Its object is {each['object']}."
        )
    if summary["blocked_objects"]:
        print_text(f"{REMEDY}.")


def _print_unread(keys: Sequence[str]) -> None:
    for key in keys[:MAX_FILES]:
        print_text(f"Not ingested: storage can't return {key}. `lakehouse audit` says why.")
    if len(keys) > MAX_FILES:
        print_text(f"Not ingested: {len(keys) - MAX_FILES:,} more; --json prints all.")


def _print_counts(files: Sequence[Mapping[str, Any]], kept_days: int | None) -> None:
    """Print what became of the rows, by file and in all. `kept_days` is how long silver keeps them."""
    if len(files) > 1:
        columns = ("file", *ROW_COUNTS)
        rows = [[file.get(name, 0) for name in columns] for file in files[:MAX_FILES]]
        print_table("", columns, rows, right=ROW_COUNTS)
    if len(files) > MAX_FILES:
        print_text(f"{len(files) - MAX_FILES:,} more files; --json prints all.")
    # The same content under two names is one object.
    by_object = {file["object"]: file for file in files}.values()
    totals = {name: sum(file.get(name, 0) for file in by_object) for name in ROW_COUNTS}
    print_text("Rows: " + ", ".join(f"{count:,} {name}" for name, count in totals.items()) + ".")
    if expired := totals["expired"]:
        print_text(f"{counted(expired, 'row')} older than silver keeps ({kept_days} days). Only bronze has them.")


def _print(summary: dict[str, Any], contract: Contract, *, is_materialized: bool) -> None:
    for verb, skipped in (("Refused", summary["refused"]), ("Left out", summary["left_out"])):
        for file in skipped[:MAX_FILES]:
            print_text(f"{verb}: {file['file']}: {file['reason']}.")
        if len(skipped) > MAX_FILES:
            print_text(f"{verb}: {len(skipped) - MAX_FILES:,} more; --json prints all.")
    warned = [file for file in summary["by_file"] if file["warnings"]]
    for file in warned[:MAX_FILES]:
        print_text(f"Warning: {file['file']}: {join_first(file['warnings'])}.")
    if len(warned) > MAX_FILES:
        print_text(f"{len(warned) - MAX_FILES:,} more files have other columns than the contract; --json prints all.")
    rejecting = [file for file in summary["by_file"] if file.get("rejected")]
    for file in rejecting[:MAX_FILES]:
        reasons = "; ".join(file["reasons"])
        print_text(f"{file['file']}: {file['rejected']:,} of {file['landed']:,} rows rejected: {reasons}.")
    if len(rejecting) > MAX_FILES:
        print_text(f"{len(rejecting) - MAX_FILES:,} more files have rejected rows; --json prints all.")
    _print_blocked(summary)
    _print_unread(summary["unreadable_objects"])
    if is_materialized:
        _print_counts(summary["by_file"], retention_days(contract, "silver"))
    files = f"{summary['new_files']:,} new of {counted(summary['files'], 'file')} into {summary['stream']}"
    print_text(f"Loaded {files} in {summary['seconds']:.1f} s.")
    if is_materialized:
        print_text(f"Brought up to date: {_describe_days(parse_days(summary['partitions']))}.")


def _describe_days(days: Sequence[date]) -> str:
    if not days:
        return "nothing had changed"
    return str(days[0]) if len(days) == 1 else f"{len(days)} days from {days[0]} to {days[-1]}"


def _upload(
    lake: Lake, stream: str, selection: Selection, dialect: Mapping[str, Any]
) -> list[tuple[Path, LandingObject, bool]]:
    landed = []
    with progress() as bars:
        task = bars.add_task("uploading", total=len(selection.files))
        for file in [*selection.files]:
            try:
                landed.append((file, *upload(lake.objects, stream, file, dialect)))
            except (SourceChangedError, UnreadableSourceError) as error:
                selection.refuse(file, error)
            bars.advance(task)
    return landed


def _materialize(lake: Lake, stream_name: str) -> str:
    from lakehouse.automation.runs import Runner, raise_on_failure  # Dagster takes seconds to import

    stream = lake.stream(stream_name)
    runner = Runner(lake)
    with progress() as bars:
        task = bars.add_task("bronze", total=3)
        # Include files that an earlier command or another process uploaded and did not land.
        if waiting := pending_files(lake, stream):
            raise_on_failure(runner.land(stream, sorted({file.day for file in waiting})))
        bars.update(task, advance=1, description="silver to serving")
        days, outcome = runner.refresh(stream)
        raise_on_failure(outcome)
        bars.update(task, advance=1, description="models")
        raise_on_failure(runner.refresh_models()[1])
        raise_on_failure(runner.refresh_lookups())
        bars.advance(task)
    return format_days(days)
