"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from lakehouse.errors import LakehouseError


def _path(text: str) -> Path:
    """A path; what a variable leaves that was not set would be taken for this folder."""
    if not text:
        raise LakehouseError("A path is empty; write . for this folder.")
    return Path(text)


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Files = Annotated[
    list[Path],
    typer.Argument(help="Files (CSV, NDJSON, Parquet; .gz, .zst) or folders of such.", parser=_path, metavar="PATH"),
]
