"""Options that several commands share, and how their values are parsed."""

from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer

from lakehouse.errors import LakehouseError

DURATION_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_duration(text: str) -> float | None:
    """Parse a duration such as `30s` or `5m` into seconds, and `infinite` into None. Raises typer.BadParameter."""
    if text == "infinite":
        return None
    number = text.rstrip("msdh")
    unit = DURATION_UNITS.get(text[len(number) :])
    try:
        if unit is not None and float(number) > 0:
            return timedelta(**{unit: float(number)}).total_seconds()
    except (ValueError, OverflowError):
        pass
    raise typer.BadParameter(f"{text!r} is not a duration; write one such as 30s, 5m, 2h or infinite")


def parse_day(text: str | None, option: str) -> date | None:
    """Parse the value of `option` as a day; None when it was not given. Raises LakehouseError."""
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise LakehouseError(f"{option} {text!r} is not a day; write one such as 2025-11-20.") from None


def parse_path(text: str) -> Path:
    """Parse a path. An empty one is an error, because an unset shell variable would stand for this folder."""
    if not text:
        raise LakehouseError("A path is empty; write . for this folder.")
    return Path(text)


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")]
_FILES = typer.Argument(
    help="Files (CSV, NDJSON, Parquet; .gz, .zst, .bz2, .xz, .zip) or folders of them.",
    parser=parse_path,
    metavar="PATH",
)
Files = Annotated[list[Path], _FILES]
MoreFiles = Annotated[list[Path] | None, _FILES]
Stream = Annotated[str, typer.Argument(help="The stream.")]
Streams = Annotated[list[str] | None, typer.Argument(help="Streams; all when you name none.")]
FirstDay = Annotated[str | None, typer.Option("--from", help="The first day, such as 2025-11-20.")]
LastDay = Annotated[str | None, typer.Option("--to", help="The last day.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same events.")]
