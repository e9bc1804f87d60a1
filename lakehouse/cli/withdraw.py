"""`withdraw`: files that were loaded by mistake taken out again, and every layer computed without them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from lakehouse.cli.options import DryRun, Json, Yes
from lakehouse.cli.printing import counted, print_json, print_table, print_text, stderr
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import READ_AS
from lakehouse.landing.selection import display, select_files
from lakehouse.landing.upload import content_digest, incoming_key
from lakehouse.pipeline.exports import export_dashboard, export_features
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.pipeline.withdrawal import Withdrawal, find_objects, keys_by_stream, landing_key, withdraw_objects
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as storage

Names = Annotated[
    list[str],
    typer.Argument(
        help="Landing objects, as `_object` names them, or the files that were loaded.", metavar="OBJECT|FILE"
    ),
]


def withdraw(names: Names, dry_run: DryRun = False, yes: Yes = False, as_json: Json = False) -> None:
    """Find the objects and, once confirmed, withdraw them. Raises LakehouseError if one is not there or a run fails."""
    settings = get_settings()
    with storage.running(settings) as connection:
        lake = Lake(settings, connection)
        by_stream = keys_by_stream(lake, _keys(lake, names))
        withdrawals = [find_objects(lake, lake.stream(name), keys) for name, keys in by_stream.items()]
        if not dry_run:
            if not yes:
                _print(withdrawals)
                typer.confirm("Withdraw these objects with all of their rows?", abort=True)
            withdrawals = [_withdraw(lake, withdrawal) for withdrawal in withdrawals]
    if as_json:
        print_json([withdrawal.as_json() for withdrawal in withdrawals])
        return
    _print(withdrawals)
    for withdrawal in withdrawals:
        if withdrawal.record:
            print_text(f"Withdrawn from {withdrawal.stream}. The record is {withdrawal.record}.")


def _withdraw(lake: Lake, found: Withdrawal) -> Withdrawal:
    from lakehouse.automation.repair import recompute  # Dagster takes seconds to import

    stream = lake.stream(found.stream)
    withdrawn = withdraw_objects(lake, stream, [*found.rows])
    stderr.print("Recomputing the layers below bronze")
    if blocked := recompute(lake, stream, withdrawn.days):
        print_text(f"The quality gate still blocks {format_days(blocked)}.", to=stderr)
    export_dashboard(lake, stream)
    export_features(lake, stream)
    return withdrawn


def _keys(lake: Lake, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        key = landing_key(lake, name)
        yield from keys_of_file(lake, Path(name)) if key is None else [key]


def keys_of_file(lake: Lake, path: Path) -> Sequence[str]:
    """Find the landing objects that a file was loaded as. Raises LakehouseError if there are none."""
    with TemporaryDirectory(prefix="lakehouse-") as scratch:
        # An earlier version may have landed a file that is refused or opened now.
        files = dict.fromkeys([*([path] if path.is_file() else []), *select_files([path], Path(scratch)).files])
        digests = [(file, content_digest(file)) for file in files]
        keys = [
            key
            for stream in lake.streams
            for file, digest in digests
            for key in _keys_of_content(lake, stream, file, digest)
        ]
    landed = [key for key in keys if lake.objects.head(key) is not None]
    if not landed:
        raise LakehouseError(
            f"{display(path)} is in no stream's landing. If its content has changed since it was loaded,"
            " name its object: `lakehouse quarantine list` and the column _object show it."
        )
    return landed


def _keys_of_content(lake: Lake, stream: str, file: Path, digest: str) -> list[str]:
    """List the keys that a file may have landed under: by itself, or with the options that were given for it."""
    folder, key = f"incoming/{stream}", incoming_key(stream, file, digest)
    read_as = [name for name in lake.objects.folders(folder) if name.startswith(f"{folder}/{READ_AS}")]
    return [key, *(f"{name}{key.removeprefix(folder)}" for name in read_as)]


def _print(withdrawals: Iterable[Withdrawal]) -> None:
    rows = [[each.stream, key, count] for each in withdrawals for key, count in each.rows.items()]
    print_table("", ["stream", "object", "rows"], rows, right=["rows"])
    for each in withdrawals:
        print_text(
            f"{each.stream}: {counted(len(each.rows), 'landing object')}; days: {format_days(each.days) or 'none'}"
        )
