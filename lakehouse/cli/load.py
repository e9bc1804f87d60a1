"""`load`: files into landing, each content once, and the partitions they touch up to date."""

import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from lakehouse.cli.printing import console, print_json, progress
from lakehouse.errors import LakehouseError
from lakehouse.landing.formats import FORMAT_SUFFIXES
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.upload import upload
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days, parse_days
from lakehouse.pipeline.lineage.refresh import pending_files
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as server


def load_files(stream: str, paths: Sequence[Path], *, materialize: bool, as_json: bool) -> None:
    """Upload the files and, unless told otherwise, run what they touch. Raises LakehouseError for a failed run."""
    settings = get_settings()
    lake = Lake(settings)
    lake.stream(stream)
    files = [file for path in paths for file in all_files(path)]
    started = time.monotonic()
    with server.running(settings) as connection:
        lake = Lake(settings, connection)
        lake.bootstrap()
        landed = _upload(lake, stream, files)
        done: dict[str, Any] = {
            "stream": stream,
            "files": len(files),
            "new_files": sum(new for _, new in landed),
            "objects": [one.key for one, _ in landed],
            "partitions": "",
        }
        if materialize:
            done["partitions"] = _materialize(lake, stream)
        done["seconds"] = round(time.monotonic() - started, 3)
    if as_json:
        print_json(done)
    else:
        console.print(f"{done['new_files']} new of {done['files']} files into {stream} in {done['seconds']:.1f} s.")
        if materialize:
            console.print(f"Brought up to date: {_in_words(parse_days(done['partitions']))}.")


def _in_words(days: Sequence[date]) -> str:
    if not days:
        return "nothing had changed"
    return str(days[0]) if len(days) == 1 else f"{len(days)} days from {days[0]} to {days[-1]}"


def all_files(path: Path) -> list[Path]:
    """A file, or the files of a folder that can be loaded. Raises LakehouseError for a folder without any."""
    if not path.is_dir():
        return [path]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and FORMAT_SUFFIXES.keys() & {s.lower() for s in file.suffixes}
    )
    if not found:
        raise LakehouseError(
            f"{path} holds no files to load ({', '.join(sorted(FORMAT_SUFFIXES))}, also .gz and .zst)."
        )
    return found


def _upload(lake: Lake, stream: str, files: Sequence[Path]) -> list[tuple[LandingObject, bool]]:
    landed = []
    with progress() as bars:
        task = bars.add_task("uploading", total=len(files))
        for file in files:
            landed.append(upload(lake.objects, stream, file))
            bars.advance(task)
    return landed


def _materialize(lake: Lake, stream_name: str) -> str:
    from lakehouse.automation.runs import Runner, raise_on_failure

    stream = lake.stream(stream_name)
    runner = Runner(lake)
    with progress() as bars:
        task = bars.add_task("bronze", total=2)
        # What an earlier command or another process left is brought in as well.
        if waiting := pending_files(lake, stream):
            raise_on_failure(runner.land(stream, sorted({one.day for one in waiting})))
        bars.update(task, advance=1, description="silver to serving")
        days, outcome = runner.refresh(stream)
        raise_on_failure(outcome)
        bars.advance(task)
    return format_days(days)
