"""`load`: files into landing, each content once, and every partition they touch brought up to date."""

import time
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from lakehouse.cli.options import Files, Json
from lakehouse.cli.printing import console, print_json, progress
from lakehouse.errors import LakehouseError
from lakehouse.landing.formats import FORMAT_SUFFIXES
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.upload import upload
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days, parse_days
from lakehouse.pipeline.refresh import pending_files
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as server

StreamName = Annotated[str, typer.Argument(help="The stream that the files belong to.")]
NoMaterialize = Annotated[
    bool, typer.Option("--no-materialize", help="Only upload; the sensors of a running lakehouse do the rest.")
]


def load(stream: StreamName, paths: Files, no_materialize: NoMaterialize = False, as_json: Json = False) -> None:
    """Upload files and materialize every partition they touch. Raises LakehouseError if a run fails."""
    settings = get_settings()
    lake = Lake(settings)
    lake.stream(stream)
    files = expand(paths)
    started = time.monotonic()
    with server.running(settings) as connection:
        lake = Lake(settings, connection)
        lake.bootstrap()
        landed = _upload(lake, stream, files)
        summary: dict[str, Any] = {
            "stream": stream,
            "files": len(files),
            "new_files": sum(new for _, new in landed),
            "objects": [landing_object.key for landing_object, _ in landed],
            "partitions": "",
        }
        if not no_materialize:
            summary["partitions"] = _materialize(lake, stream)
        summary["seconds"] = round(time.monotonic() - started, 3)
    if as_json:
        print_json(summary)
        return
    console.print(
        f"Loaded {summary['new_files']} new of {summary['files']} files into {stream} in {summary['seconds']:.1f} s."
    )
    if not no_materialize:
        console.print(f"Brought up to date: {_describe(parse_days(summary['partitions']))}.")


def _describe(days: Sequence[date]) -> str:
    if not days:
        return "nothing had changed"
    return str(days[0]) if len(days) == 1 else f"{len(days)} days from {days[0]} to {days[-1]}"


def expand(paths: Iterable[Path]) -> list[Path]:
    """List the files that these files and folders stand for. Raises LakehouseError if a folder has none to load."""
    return [file for path in paths for file in (_files_of(path) if path.is_dir() else [path])]


def _files_of(folder: Path) -> list[Path]:
    files = sorted(
        f for f in folder.rglob("*") if f.is_file() and FORMAT_SUFFIXES.keys() & {s.lower() for s in f.suffixes}
    )
    if not files:
        raise LakehouseError(
            f"{folder} holds no files to load ({', '.join(sorted(FORMAT_SUFFIXES))}, also .gz and .zst)."
        )
    return files


def _upload(lake: Lake, stream: str, files: Sequence[Path]) -> list[tuple[LandingObject, bool]]:
    landed = []
    with progress() as bars:
        task = bars.add_task("uploading", total=len(files))
        for file in files:
            landed.append(upload(lake.objects, stream, file))
            bars.advance(task)
    return landed


def _materialize(lake: Lake, stream_name: str) -> str:
    from lakehouse.automation.runs import Runner, raise_on_failure  # Dagster takes seconds to import

    stream = lake.stream(stream_name)
    runner = Runner(lake)
    with progress() as bars:
        task = bars.add_task("bronze", total=2)
        # Include files that an earlier command or another process uploaded and did not land.
        if waiting := pending_files(lake, stream):
            raise_on_failure(runner.land(stream, sorted({file.day for file in waiting})))
        bars.update(task, advance=1, description="silver to serving")
        days, outcome = runner.refresh(stream)
        raise_on_failure(outcome)
        bars.advance(task)
    return format_days(days)
